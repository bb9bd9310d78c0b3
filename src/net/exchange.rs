//! One frame in, one frame out, on a stream of its own: what the door and the candidates have in common.

use std::time::Duration;

use bytes::Bytes;
use futures::AsyncRead;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use tokio::time::timeout;
use tracing::error;

use crate::codec::{
    BadFrame, CANDIDACY_HEADER_BYTES, DOOR_HEADER_BYTES, admit_candidacy, admit_door, candidacy_frame,
    candidacy_length, door_frame, door_length,
};
use crate::types::{CandidacyFrame, DoorFrame, limits};

/// The length before a frame, of either kind.
pub(super) const HEADER_BYTES: usize = 4;
const _: () = assert!(HEADER_BYTES == DOOR_HEADER_BYTES && HEADER_BYTES == CANDIDACY_HEADER_BYTES);

/// A kind of frame that travels alone.
pub(super) trait LoneFrame: Sized {
    /// Where such frames are said, for people.
    const WHERE: &'static str;
    /// The longest one.
    const BYTES_MAX: usize;

    /// How many bytes follow the header.
    fn length(header: [u8; HEADER_BYTES]) -> Result<usize, BadFrame>;

    /// Admits what follows it.
    fn admit(body: &[u8]) -> Result<Self, BadFrame>;

    /// Header and frame; none if it is too long.
    fn whole(&self) -> Option<Bytes>;

    /// The same, or why not.
    fn framed(&self) -> Result<Bytes, String> {
        self.whole().ok_or_else(|| format!("longer than the {} bytes that {} takes", Self::BYTES_MAX, Self::WHERE))
    }
}

impl LoneFrame for DoorFrame {
    const WHERE: &'static str = "the door";
    const BYTES_MAX: usize = limits::DOOR_FRAME_BYTES;

    fn length(header: [u8; HEADER_BYTES]) -> Result<usize, BadFrame> {
        door_length(header)
    }

    fn admit(body: &[u8]) -> Result<DoorFrame, BadFrame> {
        admit_door(body)
    }

    fn whole(&self) -> Option<Bytes> {
        door_frame(self)
    }
}

impl LoneFrame for CandidacyFrame {
    const WHERE: &'static str = "a candidate";
    const BYTES_MAX: usize = limits::CANDIDACY_FRAME_BYTES;

    fn length(header: [u8; HEADER_BYTES]) -> Result<usize, BadFrame> {
        candidacy_length(header)
    }

    fn admit(body: &[u8]) -> Result<CandidacyFrame, BadFrame> {
        admit_candidacy(body)
    }

    fn whole(&self) -> Option<Bytes> {
        candidacy_frame(self)
    }
}

/// Says one frame and reads the answer, with its length; none if the other side closes without one.
pub(super) async fn ask<F: LoneFrame>(
    stream: &mut Stream,
    question: &F,
    patience: Duration,
) -> Result<Option<(F, usize)>, String> {
    let said = async {
        stream.write_all(&question.framed()?).await.map_err(|error| error.to_string())?;
        // Flushes, and says that nothing follows.
        stream.close().await.map_err(|error| error.to_string())?;
        read(stream).await.map_err(|unread| match unread {
            Unread::Lost(reason) => reason,
            Unread::Bad(BadFrame::OtherVersion(theirs)) => format!(
                "it speaks protocol version {theirs}, this one speaks {}; run the same release on all members",
                limits::PROTOCOL_VERSION
            ),
            Unread::Bad(bad) => format!("it answers what is no frame of {}: {bad}", F::WHERE),
        })
    };
    timeout(patience, said).await.unwrap_or_else(|_| Err(format!("no answer within {} s", patience.as_secs())))
}

/// Says the last word, and waits until the peer has read it.
pub(super) async fn say_last<F: LoneFrame>(stream: &mut Stream, answer: &F) {
    let frame = match answer.framed() {
        Ok(frame) => frame,
        Err(reason) => return error!(reason, "an answer at {} is not given", F::WHERE),
    };
    let said = async {
        stream.write_all(&frame).await?;
        stream.close().await?;
        // What else it sends is dropped; it closes its side when it has read.
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // A peer that went away needs no answer.
    let _ = timeout(limits::FAREWELL_TIMEOUT, said).await;
}

/// Why there is no frame.
pub(super) enum Unread {
    Lost(String),
    Bad(BadFrame),
}

impl From<std::io::Error> for Unread {
    fn from(error: std::io::Error) -> Unread {
        Unread::Lost(error.to_string())
    }
}

/// The one frame of a stream, and its length; none if the stream ends before it. Room is made as bytes come, not for
/// what a length claims.
pub(super) async fn read<F: LoneFrame>(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<(F, usize)>, Unread> {
    let mut header = [0; HEADER_BYTES];
    match stream.read_exact(&mut header).await {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let length = F::length(header).map_err(Unread::Bad)?;
    let mut body = Vec::new();
    stream.take(length as u64).read_to_end(&mut body).await?;
    if body.len() < length {
        return Err(Unread::Lost("it ended inside a frame".to_owned()));
    }
    Ok(Some((F::admit(&body).map_err(Unread::Bad)?, length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Digest, DoorMessage};

    #[test]
    fn a_frame_is_read_as_far_as_it_came() {
        let read = |mut bytes: &[u8]| futures::executor::block_on(read::<DoorFrame>(&mut bytes));
        assert!(matches!(read(&[]), Ok(None)));
        assert!(matches!(read(&[0, 0]), Ok(None)), "not even a length");
        assert!(matches!(read(&[0, 7, 0, 0, 1, 2, 3]), Err(Unread::Lost(_))), "no room is made for what does not come");
        assert!(matches!(read(&[255, 255, 255, 255]), Err(Unread::Bad(_))));
        let cluster = Digest([1; 32]);
        let message = DoorMessage::Ask { have: None };
        let framed = DoorFrame { version: limits::PROTOCOL_VERSION, cluster, message }.framed().unwrap();
        let Ok(Some((frame, length))) = read(&framed) else { panic!("it is whole") };
        assert_eq!((frame.cluster, length), (cluster, framed.len() - HEADER_BYTES));
    }
}
