//! The frames at the door.
//!
//! ```text
//! frame = length: u32 big endian, of all that follows │ DoorFrame in CBOR, at most DOOR_FRAME_BYTES
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use minicbor::Decoder;

use super::frame::BadFrame;
use crate::types::{DoorFrame, limits};

/// The length before a frame.
pub const DOOR_HEADER_BYTES: usize = 4;

/// A whole frame; none if it is longer than the door allows.
pub fn door_frame(frame: &DoorFrame) -> Option<Bytes> {
    let body = frame.encode();
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= limits::DOOR_FRAME_BYTES)?;
    let mut whole = BytesMut::with_capacity(DOOR_HEADER_BYTES + body.len());
    whole.put_u32(length);
    whole.put_slice(&body);
    Some(whole.freeze())
}

/// How many bytes follow.
pub fn door_length(header: [u8; DOOR_HEADER_BYTES]) -> Result<usize, BadFrame> {
    let length = u32::from_be_bytes(header) as usize;
    if (1..=limits::DOOR_FRAME_BYTES).contains(&length) {
        return Ok(length);
    }
    Err(BadFrame::Malformed(format!("frame of the door with length {length}")))
}

/// Admits what followed. Another version's frame is told apart: it is answered by name.
pub fn admit_door(body: &[u8]) -> Result<DoorFrame, BadFrame> {
    match version_of(body) {
        Some(version) if version != limits::PROTOCOL_VERSION => Err(BadFrame::OtherVersion(version)),
        _ => DoorFrame::admit(body).map_err(|error| BadFrame::Malformed(error.to_string())),
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
    use crate::types::{Digest, DoorMessage, DoorRefusal};

    fn frame(message: DoorMessage) -> DoorFrame {
        DoorFrame { version: limits::PROTOCOL_VERSION, cluster: Digest([1; 32]), message }
    }

    #[test]
    fn frames_read_back_behind_their_length() {
        let ask = frame(DoorMessage::Ask { have: None });
        let bytes = door_frame(&ask).unwrap();
        let (header, body) = bytes.split_at(DOOR_HEADER_BYTES);
        assert_eq!(door_length(header.try_into().unwrap()), Ok(body.len()));
        assert_eq!(admit_door(body), Ok(ask));
    }

    #[test]
    fn lengths_are_bounded() {
        let long = "x".repeat(limits::DOOR_FRAME_BYTES);
        assert_eq!(door_frame(&frame(DoorMessage::Refused(DoorRefusal::BadRequest(long)))), None);
        assert!(door_length([0; 4]).is_err() && door_length([255; 4]).is_err());
        assert!(door_length((limits::DOOR_FRAME_BYTES as u32 + 1).to_be_bytes()).is_err());
    }

    #[test]
    fn another_version_is_told_apart_whatever_follows() {
        let mut body = minicbor::to_vec((9u32, "something else")).unwrap();
        body.push(0);
        assert_eq!(admit_door(&body), Err(BadFrame::OtherVersion(9)));
        assert!(matches!(admit_door(b"rubbish"), Err(BadFrame::Malformed(_))));
        assert!(matches!(admit_door(&[0x83, 0x01]), Err(BadFrame::Malformed(_))));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = admit_door(&body);
            let _ = admit_door(&[&[0x83, 0x01, 0x58, 0x20][..], &body].concat());
        }
    }
}
