//! The frames between candidates.
//!
//! ```text
//! frame = length: u32 big endian, of all that follows │ CandidacyFrame in CBOR, at most CANDIDACY_FRAME_BYTES
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use minicbor::Decoder;

use super::frame::BadFrame;
use crate::types::{CandidacyFrame, limits};

/// The length before a frame.
pub const CANDIDACY_HEADER_BYTES: usize = 4;

/// A whole frame; none if it is longer than candidates take.
pub fn candidacy_frame(frame: &CandidacyFrame) -> Option<Bytes> {
    let body = frame.encode();
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= limits::CANDIDACY_FRAME_BYTES)?;
    let mut whole = BytesMut::with_capacity(CANDIDACY_HEADER_BYTES + body.len());
    whole.put_u32(length);
    whole.put_slice(&body);
    Some(whole.freeze())
}

/// How many bytes follow.
pub fn candidacy_length(header: [u8; CANDIDACY_HEADER_BYTES]) -> Result<usize, BadFrame> {
    let length = u32::from_be_bytes(header) as usize;
    if (1..=limits::CANDIDACY_FRAME_BYTES).contains(&length) {
        return Ok(length);
    }
    Err(BadFrame::Malformed(format!("frame between candidates with length {length}")))
}

/// Admits what followed. Another version's frame is told apart: it is answered by name.
pub fn admit_candidacy(body: &[u8]) -> Result<CandidacyFrame, BadFrame> {
    match version_of(body) {
        Some(version) if version != limits::PROTOCOL_VERSION => Err(BadFrame::OtherVersion(version)),
        _ => CandidacyFrame::admit(body).map_err(|error| BadFrame::Malformed(error.to_string())),
    }
}

fn version_of(body: &[u8]) -> Option<u32> {
    let mut decoder = Decoder::new(body);
    decoder.array().ok()?;
    decoder.u32().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::{CandidacyMessage, ClusterLimits, Digest, FaultModelKind, Genesis, GenesisMember, MemberId};

    fn frame(message: CandidacyMessage) -> CandidacyFrame {
        CandidacyFrame::new("shop", 3, message)
    }

    /// The largest genesis that candidates make.
    fn largest() -> Genesis {
        let member = |number: usize| GenesisMember {
            name: "n".repeat(limits::NAME_BYTES_MAX),
            id: MemberId([number as u8; 32]),
            addresses: vec!["a".repeat(limits::ADDRESS_BYTES_MAX); limits::ADDRESSES_MAX],
        };
        Genesis {
            name: "s".repeat(limits::NAME_BYTES_MAX),
            nonce: [7; 16],
            model: FaultModelKind::Crash,
            rules_version: u32::MAX,
            members: (0..limits::CANDIDATES_EXPECTED_MAX).map(member).collect(),
            limits: ClusterLimits { message_bytes_max: u64::MAX, batch_bytes_max: u64::MAX },
            voters_target: u32::MAX,
        }
    }

    #[test]
    fn frames_read_back_behind_their_length() {
        for message in [CandidacyMessage::Founded(Digest([1; 32])), CandidacyMessage::Propose(largest())] {
            let frame = frame(message);
            let bytes = candidacy_frame(&frame).unwrap();
            let (header, body) = bytes.split_at(CANDIDACY_HEADER_BYTES);
            assert_eq!(candidacy_length(header.try_into().unwrap()), Ok(body.len()));
            assert_eq!(admit_candidacy(body), Ok(frame));
        }
    }

    #[test]
    fn lengths_are_bounded() {
        let long = CandidacyFrame {
            cluster: "x".repeat(limits::CANDIDACY_FRAME_BYTES),
            ..frame(CandidacyMessage::Founded(Digest([1; 32])))
        };
        assert_eq!(candidacy_frame(&long), None);
        assert!(candidacy_length([0; 4]).is_err() && candidacy_length([255; 4]).is_err());
        assert!(candidacy_length((limits::CANDIDACY_FRAME_BYTES as u32 + 1).to_be_bytes()).is_err());
    }

    #[test]
    fn another_version_is_told_apart_whatever_follows() {
        let mut body = minicbor::to_vec((9u32, "something else")).unwrap();
        body.push(0);
        assert_eq!(admit_candidacy(&body), Err(BadFrame::OtherVersion(9)));
        assert!(matches!(admit_candidacy(b"rubbish"), Err(BadFrame::Malformed(_))));
        assert!(matches!(admit_candidacy(&[0x84, 0x01]), Err(BadFrame::Malformed(_))));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = admit_candidacy(&body);
            let _ = admit_candidacy(&[&[0x84, 0x01, 0x61, 0x73, 0x03][..], &body].concat());
        }
    }
}
