//! Reading frames from one stream, and why a connection ended.

use futures::io::{AsyncRead, AsyncReadExt, ReadHalf, WriteHalf};
use libp2p::Stream;

use crate::codec::{BadFrame, Frame, FrameReader, StreamClass};
use crate::types::peer::Refusal;

/// The two streams of a connection, each in its halves.
pub(super) struct Pair {
    pub urgent: (FrameSource, WriteHalf<Stream>),
    pub bulk: (FrameSource, WriteHalf<Stream>),
}

/// Why a connection is of no more use.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum End {
    /// It broke, or came to nothing.
    Lost(String),
    /// The peer closed a stream between two frames.
    Closed,
    /// It broke inside a frame.
    Truncated,
    /// The peer sent what is no frame, or no message.
    Malformed(String),
    /// One side, or both, will not talk to the other.
    Refused {
        /// What we said.
        by_us: Option<Box<Refusal>>,
        /// What they said.
        by_them: Option<Box<Refusal>>,
    },
    /// The pair uses another connection.
    Left,
    /// We stop.
    Finished,
}

impl End {
    pub fn refused_by_them(refusal: Refusal) -> End {
        End::Refused { by_us: None, by_them: Some(Box::new(refusal)) }
    }

    /// A frame that does not belong here. Only its kind is told: its body may be long, and somebody's payload.
    pub fn unexpected(frame: &Frame) -> End {
        End::Malformed(format!("unexpected {}", frame.name()))
    }

    pub fn refused_by_us(refusal: Refusal) -> End {
        End::Refused { by_us: Some(Box::new(refusal)), by_them: None }
    }
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> End {
        End::Lost(error.to_string())
    }
}

const READ_BYTES: usize = 64 << 10;

/// Frames as they come from one stream.
pub(super) struct FrameSource {
    stream: ReadHalf<Stream>,
    frames: FrameReader,
    piece: Vec<u8>,
}

impl Pair {
    pub fn new(urgent: Stream, bulk: Stream) -> Pair {
        let source = |class, stream: Stream| {
            let (read, write) = stream.split();
            (FrameSource { stream: read, frames: FrameReader::new(class), piece: vec![0; READ_BYTES] }, write)
        };
        Pair { urgent: source(StreamClass::Urgent, urgent), bulk: source(StreamClass::Bulk, bulk) }
    }
}

impl FrameSource {
    /// The next frame.
    pub async fn next(&mut self) -> Result<Frame, FrameError> {
        loop {
            if let Some(frame) = self.frames.next_frame()? {
                return Ok(frame);
            }
            match read(&mut self.stream, &mut self.piece).await? {
                0 if self.frames.is_between_frames() => return Err(End::Closed.into()),
                0 => return Err(End::Truncated.into()),
                length => self.frames.feed(&self.piece[..length]),
            }
        }
    }
}

impl FrameSource {
    /// Reads to the end of the stream, whatever comes; gives the refusal, if one is said.
    pub async fn last_refusal(&mut self) -> Option<Refusal> {
        let mut readable = true;
        loop {
            match self.frames.next_frame() {
                Ok(Some(Frame::Refusal(refusal))) => return Some(refusal),
                Ok(Some(_)) => continue,
                Ok(None) => {}
                Err(_) => readable = false,
            }
            match read(&mut self.stream, &mut self.piece).await {
                Ok(0) | Err(_) => return None,
                Ok(length) if readable => self.frames.feed(&self.piece[..length]),
                Ok(_) => {}
            }
        }
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin), piece: &mut [u8]) -> Result<usize, End> {
    Ok(stream.read(piece).await?)
}

/// No frame: another version's hello is told apart, because it is answered by name.
pub(super) enum FrameError {
    OtherVersion(u32),
    End(End),
}

impl From<End> for FrameError {
    fn from(end: End) -> FrameError {
        FrameError::End(end)
    }
}

impl From<BadFrame> for FrameError {
    fn from(bad: BadFrame) -> FrameError {
        match bad {
            BadFrame::OtherVersion(version) => FrameError::OtherVersion(version),
            BadFrame::Malformed(text) => FrameError::End(End::Malformed(text)),
        }
    }
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> End {
        match error {
            FrameError::OtherVersion(version) => End::Malformed(format!("a second hello, of version {version}")),
            FrameError::End(end) => end,
        }
    }
}
