//! Bulk messages in pieces, so that nothing waits long behind one of them.

use bytes::Bytes;

use super::frame::{BadFrame, HEADER_BYTES, piece_header};
use crate::types::limits;

/// One frame of a bulk message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What goes before it.
    pub header: [u8; HEADER_BYTES],
    /// The part; shares the message's memory.
    pub bytes: Bytes,
}

/// Cuts a message, which is not empty, into frames.
pub fn pieces(message: &Bytes) -> impl Iterator<Item = Piece> + use<> {
    assert!(!message.is_empty(), "there is no empty message");
    let mut rest = message.clone();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let bytes = rest.split_to(rest.len().min(limits::BULK_FRAME_BYTES));
        Some(Piece { header: piece_header(bytes.len(), rest.is_empty()), bytes })
    })
}

/// Puts pieces together again. Holds at most [`limits::PEER_MESSAGE_BYTES`].
#[derive(Debug, Default)]
pub struct Assembler {
    parts: Vec<u8>,
}

impl Assembler {
    /// Takes the next piece; gives the message when it is whole.
    pub fn add(&mut self, bytes: Bytes, last: bool) -> Result<Option<Bytes>, BadFrame> {
        if last && self.parts.is_empty() {
            return Ok(Some(bytes));
        }
        if (self.parts.len() + bytes.len()) as u64 > limits::PEER_MESSAGE_BYTES {
            return Err(BadFrame::Malformed(format!("a message of more than {} bytes", limits::PEER_MESSAGE_BYTES)));
        }
        self.parts.extend_from_slice(&bytes);
        Ok(last.then(|| Bytes::from(std::mem::take(&mut self.parts))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Frame, FrameReader, StreamClass, hello_frame};
    use super::*;

    #[test]
    fn a_message_grows_only_so_far() {
        let mut assembler = Assembler::default();
        let piece = Bytes::from(vec![0; limits::BULK_FRAME_BYTES]);
        for _ in 0..limits::PEER_MESSAGE_BYTES as usize / limits::BULK_FRAME_BYTES {
            assert_eq!(assembler.add(piece.clone(), false), Ok(None));
        }
        assert!(matches!(assembler.add(Bytes::from_static(b"x"), true), Err(BadFrame::Malformed(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn messages_are_whole_again(lengths in prop::collection::vec(1usize..300_000, 1..6), cut in 1usize..100_000) {
            let messages: Vec<Bytes> =
                lengths.iter().enumerate().map(|(index, &length)| vec![index as u8; length].into()).collect();
            let mut bytes = hello_frame(&super::super::frame::tests::hello()).to_vec();
            for piece in messages.iter().flat_map(pieces) {
                prop_assert!(piece.bytes.len() <= limits::BULK_FRAME_BYTES);
                bytes.extend_from_slice(&piece.header);
                bytes.extend_from_slice(&piece.bytes);
            }
            let (mut reader, mut assembler) = (FrameReader::new(StreamClass::Bulk), Assembler::default());
            let mut read = Vec::new();
            for part in bytes.chunks(cut) {
                reader.feed(part);
                while let Some(frame) = reader.next_frame().unwrap() {
                    if let Frame::Piece { bytes, last } = frame {
                        read.extend(assembler.add(bytes, last).unwrap());
                    }
                }
            }
            prop_assert_eq!(read, messages);
        }
    }
}
