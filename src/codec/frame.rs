//! One frame: its header, its kinds, and the reader that admits them.

use std::ops::RangeInclusive;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use minicbor::Decoder;

use crate::types::limits;
use crate::types::peer::{Hello, Refusal};

/// Length and kind.
pub const HEADER_BYTES: usize = 5;

const HELLO: u8 = 0;
const REFUSAL: u8 = 1;
const READY: u8 = 2;
const MESSAGE: u8 = 3;
const CONSUMED: u8 = 4;
const PIECE: u8 = 5;
const LAST: u8 = 6;

/// Which of the two streams of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamClass {
    /// Votes, proposals, status: small, never behind payload.
    Urgent,
    /// Payload, in pieces, within a window.
    Bulk,
}

/// What a peer sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Who it is and where it stands.
    Hello(Hello),
    /// It will not talk to us.
    Refusal(Refusal),
    /// The link may be used.
    Ready,
    /// An envelope's bytes, not admitted yet.
    Message(Bytes),
    /// It has taken this many more bytes of our pieces.
    Consumed(u64),
    /// Part of an envelope; never empty.
    Piece {
        /// The part.
        bytes: Bytes,
        /// Whether the envelope ends here.
        last: bool,
    },
}

impl Frame {
    /// A word for logs and refusals.
    pub fn name(&self) -> &'static str {
        match self {
            Frame::Hello(_) => "hello",
            Frame::Refusal(_) => "refusal",
            Frame::Ready => "ready",
            Frame::Message(_) => "message",
            Frame::Consumed(_) => "consumed",
            Frame::Piece { .. } => "piece",
        }
    }
}

/// The peer sent what is no frame. Nothing more can be read from the stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// A hello of another version of the protocol.
    #[error("protocol version {0}")]
    OtherVersion(u32),
    /// No frame of this protocol, or not here.
    #[error("{0}")]
    Malformed(String),
}

/// Cuts one stream's bytes into frames. Holds at most one frame and what was fed beyond it.
#[derive(Debug)]
pub struct FrameReader {
    class: StreamClass,
    greeted: bool,
    buffer: BytesMut,
}

impl FrameReader {
    /// At the beginning of a stream: the first frame is a hello or a refusal.
    pub fn new(class: StreamClass) -> FrameReader {
        FrameReader { class, greeted: false, buffer: BytesMut::new() }
    }

    /// Takes bytes as they come.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, if all of it is there.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, BadFrame> {
        if self.buffer.len() < HEADER_BYTES {
            return Ok(None);
        }
        let length = u32::from_be_bytes(self.buffer[..4].try_into().expect("four bytes")) as usize;
        let kind = self.buffer[4];
        let allowed = self.allowed(kind)?;
        if !length.checked_sub(1).is_some_and(|body| allowed.contains(&body)) {
            return Err(malformed(format!("frame of kind {kind} with length {length}")));
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        let body = self.buffer.split_to(length - 1).freeze();
        self.frame(kind, body).map(Some)
    }

    /// Whether the stream may end here: no frame has begun.
    pub fn is_between_frames(&self) -> bool {
        self.buffer.is_empty()
    }

    /// How long a body of this kind may be here.
    fn allowed(&self, kind: u8) -> Result<RangeInclusive<usize>, BadFrame> {
        match (kind, self.class, self.greeted) {
            (HELLO, _, false) | (REFUSAL, _, _) => Ok(1..=limits::HELLO_FRAME_BYTES),
            (READY, StreamClass::Urgent, true) => Ok(0..=0),
            (MESSAGE, StreamClass::Urgent, true) => Ok(1..=limits::URGENT_FRAME_BYTES),
            (CONSUMED, StreamClass::Urgent, true) => Ok(8..=8),
            (PIECE | LAST, StreamClass::Bulk, true) => Ok(1..=limits::BULK_FRAME_BYTES),
            (_, class, greeted) => {
                let place = if greeted { "after the hello" } else { "before the hello" };
                Err(malformed(format!("frame of kind {kind} {place} on the {class:?} stream")))
            }
        }
    }

    fn frame(&mut self, kind: u8, mut body: Bytes) -> Result<Frame, BadFrame> {
        Ok(match kind {
            HELLO => {
                self.greeted = true;
                Frame::Hello(admit_hello(&body)?)
            }
            REFUSAL => Frame::Refusal(admit_refusal(&body)?),
            READY => Frame::Ready,
            MESSAGE => Frame::Message(body),
            CONSUMED => Frame::Consumed(body.get_u64()),
            PIECE | LAST => Frame::Piece { bytes: body, last: kind == LAST },
            _ => unreachable!("a kind that is allowed"),
        })
    }
}

/// The header of a message of `length` bytes. 0 < `length` ≤ [`limits::URGENT_FRAME_BYTES`].
pub fn message_header(length: usize) -> [u8; HEADER_BYTES] {
    assert!((1..=limits::URGENT_FRAME_BYTES).contains(&length), "larger messages travel in pieces");
    header(MESSAGE, length)
}

/// The header of a piece of `length` bytes. 0 < `length` ≤ [`limits::BULK_FRAME_BYTES`].
pub(super) fn piece_header(length: usize, last: bool) -> [u8; HEADER_BYTES] {
    assert!((1..=limits::BULK_FRAME_BYTES).contains(&length), "messages are cut to fit");
    header(if last { LAST } else { PIECE }, length)
}

/// A whole hello frame.
pub fn hello_frame(hello: &Hello) -> Bytes {
    whole(HELLO, &minicbor::to_vec(hello).expect("memory is writable"))
}

/// A whole refusal frame. Its text is shortened to fit.
pub fn refusal_frame(refusal: &Refusal) -> Bytes {
    whole(REFUSAL, &minicbor::to_vec(shortened(refusal)).expect("memory is writable"))
}

/// A whole frame that says: the link may be used.
pub fn ready_frame() -> Bytes {
    whole(READY, &[])
}

/// A whole frame that says how many more bytes of pieces were taken.
pub fn consumed_frame(bytes: u64) -> Bytes {
    whole(CONSUMED, &bytes.to_be_bytes())
}

fn whole(kind: u8, body: &[u8]) -> Bytes {
    assert!(body.len() <= limits::HELLO_FRAME_BYTES, "hellos and refusals are short");
    let mut frame = BytesMut::with_capacity(HEADER_BYTES + body.len());
    frame.put_slice(&header(kind, body.len()));
    frame.put_slice(body);
    frame.freeze()
}

fn header(kind: u8, body: usize) -> [u8; HEADER_BYTES] {
    let [a, b, c, d] = (body as u32 + 1).to_be_bytes();
    [a, b, c, d, kind]
}

fn shortened(refusal: &Refusal) -> Refusal {
    match refusal {
        Refusal::StaleDisk { says, said } => {
            Refusal::StaleDisk { says: beginning(says).to_owned(), said: beginning(said).to_owned() }
        }
        Refusal::Malformed(text) => Refusal::Malformed(beginning(text).to_owned()),
        other => other.clone(),
    }
}

fn beginning(text: &str) -> &str {
    let end = (0..=text.len().min(limits::REFUSAL_TEXT_BYTES)).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.expect("0 is a boundary")]
}

/// The version comes first, so that a hello of any other version is told from garbage.
fn admit_hello(body: &[u8]) -> Result<Hello, BadFrame> {
    let mut decoder = Decoder::new(body);
    match decoder.array().and_then(|_| decoder.u32()) {
        Ok(version) if version != limits::PROTOCOL_VERSION => return Err(BadFrame::OtherVersion(version)),
        Ok(_) => {}
        Err(error) => return Err(malformed(format!("not a hello: {error}"))),
    }
    let hello: Hello = minicbor::decode(body).map_err(|error| malformed(format!("not a hello: {error}")))?;
    canonical(&hello, body).map(|()| hello)
}

fn admit_refusal(body: &[u8]) -> Result<Refusal, BadFrame> {
    let refusal: Refusal = minicbor::decode(body).map_err(|error| malformed(format!("not a refusal: {error}")))?;
    canonical(&refusal, body).map(|()| refusal)
}

fn canonical<T: minicbor::Encode<()>>(value: &T, body: &[u8]) -> Result<(), BadFrame> {
    if minicbor::to_vec(value).expect("memory is writable") == body {
        Ok(())
    } else {
        Err(malformed("not the canonical encoding".to_owned()))
    }
}

fn malformed(text: String) -> BadFrame {
    BadFrame::Malformed(text)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::{Digest, Epoch, Incarnation, LaneHead, MemberId, Round, Slot, StartNonce, Tip};

    pub fn hello() -> Hello {
        Hello {
            version: limits::PROTOCOL_VERSION,
            cluster: Digest([1; 32]),
            epoch: Epoch(0),
            configuration: Digest([2; 32]),
            incarnation: Incarnation(3),
            nonce: StartNonce(4),
            highest_vote: None,
            sealed: LaneHead::START,
            decided: Tip { round: Round::default(), slot: Slot(0), digest: Digest([5; 32]) },
        }
    }

    fn greeted(class: StreamClass) -> FrameReader {
        let mut reader = FrameReader::new(class);
        reader.feed(&hello_frame(&hello()));
        assert_eq!(reader.next_frame(), Ok(Some(Frame::Hello(hello()))));
        assert!(reader.is_between_frames());
        reader
    }

    fn refused(reader: &mut FrameReader, bytes: &[u8]) -> String {
        reader.feed(bytes);
        match reader.next_frame() {
            Err(BadFrame::Malformed(text)) => text,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn frames_have_these_bytes() {
        assert_eq!(ready_frame(), [0, 0, 0, 1, 2][..]);
        assert_eq!(consumed_frame(258), [0, 0, 0, 9, 4, 0, 0, 0, 0, 0, 0, 1, 2][..]);
        assert_eq!(message_header(0x0102), [0, 0, 1, 3, 3]);
        assert_eq!(piece_header(1, false), [0, 0, 0, 2, 5]);
        assert_eq!(piece_header(1, true), [0, 0, 0, 2, 6]);
        assert_eq!(hello_frame(&hello())[..7], [0, 0, 0, 152, 0, 0x89, 1]);
    }

    #[test]
    fn every_refusal_reads_back() {
        for refusal in [
            Refusal::Version { theirs: 2, ours: 1 },
            Refusal::Cluster { theirs: Digest([1; 32]), ours: Digest([2; 32]) },
            Refusal::Configuration { epoch: Epoch(7) },
            Refusal::NotAMember(MemberId([9; 32])),
            Refusal::StaleDisk { says: "a".into(), said: "b".into() },
            Refusal::TwoProcesses(MemberId([9; 32])),
            Refusal::Malformed("x".into()),
        ] {
            let mut reader = FrameReader::new(StreamClass::Urgent);
            reader.feed(&refusal_frame(&refusal));
            assert_eq!(reader.next_frame(), Ok(Some(Frame::Refusal(refusal))));
        }
    }

    #[test]
    fn long_refusals_are_shortened_between_characters() {
        let mut reader = FrameReader::new(StreamClass::Bulk);
        reader.feed(&refusal_frame(&Refusal::Malformed("é".repeat(10_000))));
        let Ok(Some(Frame::Refusal(Refusal::Malformed(text)))) = reader.next_frame() else { panic!() };
        assert_eq!(text, "é".repeat(limits::REFUSAL_TEXT_BYTES / 2));
    }

    #[test]
    fn another_version_is_told_from_garbage() {
        let mut reader = FrameReader::new(StreamClass::Urgent);
        // A later version may say anything after its number.
        reader.feed(&whole(HELLO, &[0x82, 7, 0x80]));
        assert_eq!(reader.next_frame(), Err(BadFrame::OtherVersion(7)));
        assert!(refused(&mut FrameReader::new(StreamClass::Urgent), &whole(HELLO, b"rubbish")).contains("not a hello"));
    }

    #[test]
    fn hostile_lengths_are_refused_by_the_header_alone() {
        for (class, kind, body) in [
            (StreamClass::Urgent, MESSAGE, limits::URGENT_FRAME_BYTES + 1),
            (StreamClass::Urgent, MESSAGE, 0),
            (StreamClass::Urgent, CONSUMED, 7),
            (StreamClass::Urgent, READY, 1),
            (StreamClass::Bulk, PIECE, limits::BULK_FRAME_BYTES + 1),
            (StreamClass::Bulk, LAST, 0),
            (StreamClass::Bulk, REFUSAL, limits::HELLO_FRAME_BYTES + 1),
        ] {
            assert!(refused(&mut greeted(class), &header(kind, body)).contains("length"), "kind {kind}");
        }
        assert!(refused(&mut greeted(StreamClass::Urgent), &[0, 0, 0, 0, MESSAGE]).contains("length 0"));
        assert!(refused(&mut greeted(StreamClass::Urgent), &[255, 255, 255, 255, MESSAGE]).contains("length"));
        let long = header(HELLO, limits::HELLO_FRAME_BYTES + 1);
        assert!(refused(&mut FrameReader::new(StreamClass::Urgent), &long).contains("length"));
    }

    #[test]
    fn frames_stay_in_their_place() {
        for kind in [READY, MESSAGE, CONSUMED, PIECE, LAST, 7, 255] {
            let text = refused(&mut FrameReader::new(StreamClass::Urgent), &header(kind, 1));
            assert!(text.contains("before the hello"), "{text}");
        }
        for kind in [HELLO, PIECE, LAST, 7] {
            assert!(refused(&mut greeted(StreamClass::Urgent), &header(kind, 1)).contains("after the hello"));
        }
        for kind in [HELLO, READY, MESSAGE, CONSUMED, 7] {
            assert!(refused(&mut greeted(StreamClass::Bulk), &header(kind, 1)).contains("after the hello"));
        }
    }

    #[test]
    fn hellos_are_canonical() {
        let mut body = minicbor::to_vec(hello()).unwrap();
        body.push(0);
        assert!(refused(&mut FrameReader::new(StreamClass::Urgent), &whole(HELLO, &body)).contains("canonical"));
    }

    proptest! {
        #[test]
        fn frames_read_back_however_they_are_cut(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..2000), 0..20),
            consumed in any::<u64>(),
            cut in 1usize..500,
        ) {
            let mut sent = vec![Frame::Hello(hello()), Frame::Ready, Frame::Consumed(consumed)];
            let mut bytes = [hello_frame(&hello()), ready_frame(), consumed_frame(consumed)].concat();
            for message in messages {
                bytes.extend_from_slice(&message_header(message.len()));
                bytes.extend_from_slice(&message);
                sent.push(Frame::Message(message.into()));
            }
            let mut reader = FrameReader::new(StreamClass::Urgent);
            let mut read = Vec::new();
            for part in bytes.chunks(cut) {
                reader.feed(part);
                while let Some(frame) = reader.next_frame().unwrap() {
                    read.push(frame);
                }
            }
            prop_assert!(reader.is_between_frames());
            prop_assert_eq!(read, sent);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), start in any::<bool>()) {
            for class in [StreamClass::Urgent, StreamClass::Bulk] {
                let mut reader = if start { greeted(class) } else { FrameReader::new(class) };
                reader.feed(&bytes);
                while let Ok(Some(_)) = reader.next_frame() {}
            }
        }

        #[test]
        fn garbage_behind_a_good_header_never_panics(body in prop::collection::vec(any::<u8>(), 1..300), kind in 0u8..2) {
            let mut reader = FrameReader::new(StreamClass::Urgent);
            reader.feed(&whole(kind, &body));
            while let Ok(Some(_)) = reader.next_frame() {}
        }
    }
}
