//! Floor 1: the frames on the streams between members. Bytes in, frames out; no sockets here.
//!
//! ```text
//! frame = length: u32 big endian, of all that follows │ kind: u8 │ body
//!
//! kind  name      stream        body                                                      at most
//!  0    hello     both, first   Hello in CBOR; its first element is the protocol version  HELLO_FRAME_BYTES
//!  1    refusal   both          Refusal in CBOR; the last frame                           HELLO_FRAME_BYTES
//!  2    ready     urgent        nothing: the link may be used                             0
//!  3    message   urgent        one Envelope in CBOR                                      URGENT_FRAME_BYTES
//!  4    consumed  urgent        bytes of pieces taken from the bulk stream: u64           8
//!  5    piece     bulk          part of an Envelope; more follows                         BULK_FRAME_BYTES
//!  6    last      bulk          its last part                                             BULK_FRAME_BYTES
//! ```
//!
//! The first frame of each stream, both ways, is the hello; a refusal may come instead. A length that the kind does not
//! allow is refused when the first five bytes are there, so no peer makes us wait for, or keep, what we will not take.
//!
//! At the door (`door.rs`), and between candidates (`candidacy.rs`), a stream carries one frame each way, and no hello: the
//! frame itself names version and group.

mod candidacy;
mod door;
mod frame;
mod piece;

pub use candidacy::{CANDIDACY_HEADER_BYTES, admit_candidacy, candidacy_frame, candidacy_length};
pub use door::{DOOR_HEADER_BYTES, admit_door, door_frame, door_length};
pub use frame::{
    BadFrame, Frame, FrameReader, StreamClass, consumed_frame, hello_frame, message_header, refusal_frame,
};
pub use frame::{HEADER_BYTES, ready_frame};
pub use piece::{Assembler, Piece, pieces};
