//! Frames and marks, to the byte (drawn in the documentation of [`super`]).

use crate::types::{Digest, Rule, Sabotage};

use super::segment::salt_of;

/// Length and kind, before the payload.
pub(super) const HEAD_BYTES: usize = 5;
/// The checksum, after the payload.
pub(super) const CHECKSUM_BYTES: usize = 4;
/// What a frame adds to its payload.
pub(super) const FRAME_BYTES: usize = HEAD_BYTES + CHECKSUM_BYTES;
/// Kind of no frame: zero-filled space.
pub(super) const KIND_NONE: u8 = 0;
/// Kind of a mark.
pub(super) const KIND_MARK: u8 = 255;
/// A mark, whole.
pub(super) const MARK_BYTES: usize = FRAME_BYTES + MARK_PAYLOAD_BYTES;

const MARK_PAYLOAD_BYTES: usize = 20;
const MARK_HEAD: [u8; HEAD_BYTES] = [MARK_PAYLOAD_BYTES as u8, 0, 0, 0, KIND_MARK];

/// The end of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Number of the turn.
    pub turn: u64,
    /// Bytes of its records' frames.
    pub bytes: u64,
    /// Checksum of the frame before the mark.
    pub previous: u32,
}

/// Makes and checks the checksums of one segment.
#[derive(Clone, Copy)]
pub(super) struct Seal {
    salt: u64,
    chained: bool,
}

impl Seal {
    pub fn of(owner: &Digest, segment: u64, sabotage: &Sabotage) -> Seal {
        Seal { salt: salt_of(owner, segment), chained: sabotage.upholds(Rule::Chain) }
    }

    /// Appends a record's frame to `buffer`; returns its checksum.
    pub fn put_record(self, buffer: &mut Vec<u8>, previous: u32, kind: u8, payload: &[u8]) -> u32 {
        self.put(buffer, self.link(previous), kind, payload)
    }

    /// Appends the mark that stands at `offset` of the segment; returns its checksum.
    pub fn put_mark(self, buffer: &mut Vec<u8>, offset: u64, mark: Mark) -> u32 {
        let mut payload = [0; MARK_PAYLOAD_BYTES];
        payload[..8].copy_from_slice(&mark.turn.to_le_bytes());
        payload[8..16].copy_from_slice(&mark.bytes.to_le_bytes());
        payload[16..].copy_from_slice(&mark.previous.to_le_bytes());
        self.put(buffer, offset as u32, KIND_MARK, &payload)
    }

    /// The payload's checksum if `frame` (head, payload, checksum) verifies behind a frame with checksum `previous`.
    pub fn verify_record(self, frame: &[u8], previous: u32) -> Option<u32> {
        self.verify(frame, self.link(previous))
    }

    /// The mark in `bytes`, and its checksum, if one stands there, at `offset` of the segment.
    pub fn verify_mark(self, bytes: &[u8], offset: u64) -> Option<(Mark, u32)> {
        let frame = bytes.get(..MARK_BYTES)?;
        if frame[..HEAD_BYTES] != MARK_HEAD {
            return None;
        }
        let checksum = self.verify(frame, offset as u32)?;
        let payload = &frame[HEAD_BYTES..];
        let mark = Mark { turn: u64_at(payload, 0), bytes: u64_at(payload, 8), previous: u32_at(payload, 16) };
        Some((mark, checksum))
    }

    /// Whether the mark says what came before it; it cannot when checksums are not chained.
    pub fn follows(self, mark: &Mark, previous: u32) -> bool {
        !self.chained || mark.previous == previous
    }

    fn link(self, previous: u32) -> u32 {
        if self.chained { previous } else { 0 }
    }

    fn put(self, buffer: &mut Vec<u8>, first: u32, kind: u8, payload: &[u8]) -> u32 {
        let checksum = self.checksum(first, kind, payload);
        buffer.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        buffer.push(kind);
        buffer.extend_from_slice(payload);
        buffer.extend_from_slice(&checksum.to_le_bytes());
        checksum
    }

    fn verify(self, frame: &[u8], first: u32) -> Option<u32> {
        let (frame, stored) = frame.split_at_checked(frame.len().checked_sub(CHECKSUM_BYTES)?)?;
        let (head, payload) = frame.split_at_checked(HEAD_BYTES)?;
        let checksum = self.checksum(first, head[4], payload);
        (u32_at(stored, 0) == checksum && length_of(head) == payload.len()).then_some(checksum)
    }

    fn checksum(self, first: u32, kind: u8, payload: &[u8]) -> u32 {
        let mut before = [0; 17];
        before[..4].copy_from_slice(&first.to_le_bytes());
        before[4..12].copy_from_slice(&self.salt.to_le_bytes());
        before[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        before[16] = kind;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&before);
        hasher.update(payload);
        hasher.finalize()
    }
}

/// Whether a mark might begin here; cheap.
pub(super) fn may_be_mark(bytes: &[u8]) -> bool {
    bytes.starts_with(&MARK_HEAD)
}

/// The payload's length that a frame's head names.
pub(super) fn length_of(head: &[u8]) -> usize {
    u32_at(head, 0) as usize
}

/// Little-endian integer at `offset`, which must be inside.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes were sliced"))
}

/// Little-endian integer at `offset`, which must be inside.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes were sliced"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Digest = Digest([7; 32]);

    #[test]
    fn a_record_verifies_only_unchanged_and_in_its_place() {
        let seal = Seal::of(&OWNER, 1, &Sabotage::NONE);
        let mut frame = Vec::new();
        let checksum = seal.put_record(&mut frame, 5, 9, b"payload");
        assert_eq!(seal.verify_record(&frame, 5), Some(checksum));
        assert_eq!(seal.verify_record(&frame, 6), None);
        assert_eq!(Seal::of(&OWNER, 2, &Sabotage::NONE).verify_record(&frame, 5), None);
        for bit in 0..frame.len() * 8 {
            frame[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(seal.verify_record(&frame, 5), None, "bit {bit}");
            frame[bit / 8] ^= 1 << (bit % 8);
        }
        assert!((0..FRAME_BYTES).all(|length| seal.verify_record(&frame[..length], 5).is_none()));
    }

    #[test]
    fn a_mark_verifies_alone_but_not_elsewhere() {
        let seal = Seal::of(&OWNER, 1, &Sabotage::NONE);
        let mark = Mark { turn: 3, bytes: 99, previous: 5 };
        let mut bytes = Vec::new();
        let checksum = seal.put_mark(&mut bytes, 4000, mark);
        assert_eq!(bytes.len(), MARK_BYTES);
        assert!(may_be_mark(&bytes));
        assert_eq!(seal.verify_mark(&bytes, 4000), Some((mark, checksum)));
        assert_eq!(seal.verify_mark(&bytes, 4001), None);
        assert_eq!(seal.verify_mark(&bytes[..MARK_BYTES - 1], 4000), None);
    }
}
