//! A segment's header and the names of the files.

use crate::types::Digest;

use super::RULES_VERSION;
use super::frame::{u32_at, u64_at};

/// Bytes of a header; the first frame begins behind it.
pub(super) const HEADER_BYTES: usize = 128;
/// The format that this code writes and reads.
pub(super) const FORMAT_VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"SYNODWAL";
const CHECKSUM_AT: usize = HEADER_BYTES - 4;

/// What the first 128 bytes of a segment say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub format: u32,
    pub rules: u32,
    pub owner: Digest,
    pub number: u64,
    pub previous: Previous,
    /// Number of the turn that the first frame belongs to.
    pub turn: u64,
    /// Bytes that this turn has in earlier segments.
    pub turn_bytes: u64,
}

/// Where the log ended before a segment (W1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Previous {
    /// 0: there was none.
    pub number: u64,
    pub length: u64,
    pub checksum: u32,
}

impl Header {
    pub fn new(owner: Digest, previous: Previous, turn: u64, turn_bytes: u64) -> Header {
        let number = previous.number + 1;
        Header { format: FORMAT_VERSION, rules: RULES_VERSION, owner, number, previous, turn, turn_bytes }
    }

    /// The bytes, and the checksum that the first frame is chained over.
    pub fn encode(&self) -> ([u8; HEADER_BYTES], u32) {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&self.format.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.rules.to_le_bytes());
        bytes[16..48].copy_from_slice(&self.owner.0);
        bytes[48..56].copy_from_slice(&self.number.to_le_bytes());
        bytes[56..64].copy_from_slice(&salt_of(&self.owner, self.number).to_le_bytes());
        bytes[64..72].copy_from_slice(&self.previous.number.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.previous.length.to_le_bytes());
        bytes[80..84].copy_from_slice(&self.previous.checksum.to_le_bytes());
        bytes[88..96].copy_from_slice(&self.turn.to_le_bytes());
        bytes[96..104].copy_from_slice(&self.turn_bytes.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        (bytes, checksum)
    }

    /// Reads the header of the segment that is named `number`; the text says what is wrong with it. Owner and versions
    /// are the caller's to judge: they are whole, but perhaps another's.
    pub fn decode(bytes: &[u8; HEADER_BYTES], number: u64) -> Result<Header, &'static str> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Err("its header is blank");
        }
        if &bytes[..8] != MAGIC || crc32fast::hash(&bytes[..CHECKSUM_AT]) != u32_at(bytes, CHECKSUM_AT) {
            return Err("its header does not verify");
        }
        let header = Header {
            format: u32_at(bytes, 8),
            rules: u32_at(bytes, 12),
            owner: Digest(bytes[16..48].try_into().expect("32 bytes were sliced")),
            number: u64_at(bytes, 48),
            previous: Previous { number: u64_at(bytes, 64), length: u64_at(bytes, 72), checksum: u32_at(bytes, 80) },
            turn: u64_at(bytes, 88),
            turn_bytes: u64_at(bytes, 96),
        };
        if header.format == FORMAT_VERSION && header.number != number {
            return Err("its header names another segment than its file's name");
        }
        if header.format == FORMAT_VERSION && (header.turn == 0 || header.previous.number != number - 1) {
            return Err("its header contradicts itself");
        }
        Ok(header)
    }
}

/// What keeps the checksums of one segment apart from those of any other.
pub(super) fn salt_of(owner: &Digest, number: u64) -> u64 {
    let mut bytes = [0; 40];
    bytes[..32].copy_from_slice(&owner.0);
    bytes[32..].copy_from_slice(&number.to_le_bytes());
    u64_at(&Digest::of("wal-salt", &bytes).0, 0)
}

/// File name of a segment.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:020}.wal")
}

/// The segment's number, if that is a segment's name.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    let number = digits.parse().ok().filter(|number| *number > 0)?;
    (segment_name(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_any_flipped_bit_is_seen() {
        let previous = Previous { number: 4, length: 777, checksum: 9 };
        let header = Header::new(Digest([3; 32]), previous, 12, 34);
        let (mut bytes, _) = header.encode();
        assert_eq!(Header::decode(&bytes, 5), Ok(header));
        assert!(Header::decode(&bytes, 6).is_err());
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bytes, 5).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn names_are_numbers_of_twenty_digits() {
        assert_eq!(segment_name(12), "00000000000000000012.wal");
        assert_eq!(segment_number("00000000000000000012.wal"), Some(12));
        for other in ["12.wal", "00000000000000000000.wal", "99999999999999999999.wal", "+0000000000000000012.wal"] {
            assert_eq!(segment_number(other), None);
        }
    }
}
