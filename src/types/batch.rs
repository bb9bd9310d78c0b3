//! Batches: what one lane seals together; unit of transport and digest.
//!
//! ```text
//! batch = CBOR [ header, messages ]
//!   header   = [ origin: id, incarnation, number, first, count, parent: digest, ( resumes: batch id ) ]
//!   messages = [ * [ kind, topic: text, content type: text / null, body: bytes ] ]
//!   kind     = 0: application, 1: command
//!
//! batch id        = [ incarnation, number ]
//! batch reference = [ origin: id, batch id, digest ]
//! lane head       = [ batch id, digest ]
//! ```
//!
//! The digest is over these bytes as received, under the domain `batch`; batches are stored and relayed unchanged.

use std::sync::Arc;

use bytes::Bytes;
use minicbor::{Decode, Decoder, Encode};

use super::command::Command;
use super::ids::{BatchNumber, Digest, Incarnation, MemberId, MessageId, MessageNumber};
use super::limits;
use super::message::{Message, MessageKind};

/// Which batch of which lane: (incarnation, number), compared as a pair within one member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(array)]
pub struct BatchId {
    /// The origin's incarnation.
    #[n(0)]
    pub incarnation: Incarnation,
    /// The batch's number in that lane.
    #[n(1)]
    pub number: BatchNumber,
}

/// How far one member's lanes are ordered (or held): its last batch, and that batch's digest. (0, 0, zero) at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct LaneHead {
    /// The last batch.
    #[n(0)]
    pub batch: BatchId,
    /// Its digest; [`Digest::ZERO`] before the first.
    #[n(1)]
    pub digest: Digest,
}

impl LaneHead {
    /// Before the first batch.
    pub const START: LaneHead =
        LaneHead { batch: BatchId { incarnation: Incarnation(0), number: BatchNumber(0) }, digest: Digest::ZERO };
}

/// A batch named by an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(array)]
pub struct BatchRef {
    /// The member whose lane it is.
    #[n(0)]
    pub origin: MemberId,
    /// Its number.
    #[n(1)]
    pub batch: BatchId,
    /// Digest of its bytes.
    #[n(2)]
    pub digest: Digest,
}

/// Everything about a batch but its messages.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct BatchHeader {
    /// The member that sealed it.
    #[n(0)]
    pub origin: MemberId,
    /// In which of its lanes.
    #[n(1)]
    pub incarnation: Incarnation,
    /// 1, 2, 3 … within the lane.
    #[n(2)]
    pub number: BatchNumber,
    /// Number of its first message within the lane.
    #[n(3)]
    pub first: MessageNumber,
    /// Number of messages; 0 is allowed.
    #[n(4)]
    pub count: u64,
    /// Digest of the lane's batch before it; [`Digest::ZERO`] in batch 1.
    #[n(5)]
    pub parent: Digest,
    /// In batch 1: the last batch of any lower incarnation that the origin found readable at its start (rule H1).
    #[n(6)]
    pub resumes: Option<BatchId>,
}

impl BatchHeader {
    /// Its (incarnation, number).
    pub fn id(&self) -> BatchId {
        BatchId { incarnation: self.incarnation, number: self.number }
    }

    /// Rule H1: whether this batch may follow `head` in its member's lanes.
    pub fn follows(&self, head: &LaneHead) -> bool {
        if self.incarnation == head.batch.incarnation {
            self.number == head.batch.number.next() && self.parent == head.digest
        } else {
            self.incarnation > head.batch.incarnation
                && self.number == BatchNumber(1)
                && self.resumes.is_some_and(|resumed| resumed <= head.batch)
        }
    }

    /// Identity of its message number `index` (from 0).
    pub fn message_id(&self, index: u64) -> MessageId {
        MessageId { member: self.origin, incarnation: self.incarnation, number: MessageNumber(self.first.0 + index) }
    }
}

/// A batch with its bytes, admitted: decoded, nothing left over, and canonical.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Everything but the messages.
    pub header: BatchHeader,
    /// Digest of the bytes.
    pub digest: Digest,
    /// The bytes as received.
    pub bytes: Bytes,
    /// The membership command it carries, if that is what it is for.
    pub command: Option<Arc<Command>>,
}

/// Why bytes are not a batch. Nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotABatch {
    /// Not the CBOR of a batch.
    #[error("not a batch: {0}")]
    Malformed(String),
    /// Decodes, but another encoding of the same batch is the one everybody uses.
    #[error("not the canonical encoding of a batch")]
    NotCanonical,
    /// Header and messages contradict each other.
    #[error("the batch contradicts itself: {0}")]
    Contradiction(&'static str),
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Whole {
    #[n(0)]
    header: BatchHeader,
    #[n(1)]
    messages: Vec<Message>,
}

impl Batch {
    /// Seals messages into a batch. `header.count` must be their number.
    pub fn seal(header: BatchHeader, messages: Vec<Message>) -> Batch {
        assert_eq!(header.count, messages.len() as u64, "a header counts its messages");
        let command = command(&messages).expect("we seal one command, or messages of hosts");
        let bytes =
            Bytes::from(minicbor::to_vec(Whole { header: header.clone(), messages }).expect("memory is writable"));
        Batch { header, digest: Digest::of("batch", &bytes), bytes, command }
    }

    /// Admits bytes from a peer: everything is decoded and compared with its canonical encoding.
    pub fn admit(bytes: Bytes) -> Result<Batch, NotABatch> {
        let mut decoder = Decoder::new(&bytes);
        let whole: Whole = decoder.decode().map_err(|error| NotABatch::Malformed(error.to_string()))?;
        if decoder.position() != bytes.len() || minicbor::to_vec(&whole).expect("memory is writable") != bytes {
            return Err(NotABatch::NotCanonical);
        }
        let header = whole.header;
        if header.count != whole.messages.len() as u64 {
            return Err(NotABatch::Contradiction("its count is not the number of its messages"));
        }
        let command = command(&whole.messages)?;
        Batch::checked(header, bytes, command)
    }

    /// Reads a batch of one's own log: the header, and a command; the frame's checksum vouches for the rest.
    pub fn recall(bytes: Bytes) -> Result<Batch, NotABatch> {
        let mut decoder = Decoder::new(&bytes);
        decoder.array().map_err(|error| NotABatch::Malformed(error.to_string()))?;
        let header: BatchHeader = decoder.decode().map_err(|error| NotABatch::Malformed(error.to_string()))?;
        let carries_command = header.count == 1 && first_kind(&mut decoder)? == MessageKind::Command;
        let command = if carries_command { command(&messages(&bytes)?)? } else { None };
        Batch::checked(header, bytes, command)
    }

    /// Its messages, in order.
    pub fn messages(&self) -> Result<Vec<Message>, NotABatch> {
        messages(&self.bytes)
    }

    /// How an entry names it.
    pub fn reference(&self) -> BatchRef {
        BatchRef { origin: self.header.origin, batch: self.header.id(), digest: self.digest }
    }

    fn checked(header: BatchHeader, bytes: Bytes, command: Option<Arc<Command>>) -> Result<Batch, NotABatch> {
        if bytes.len() as u64 > limits::BATCH_BYTES_CEILING {
            return Err(NotABatch::Contradiction("it is larger than any group allows"));
        }
        if header.number == BatchNumber(0) || header.incarnation == Incarnation(0) || header.first == MessageNumber(0) {
            return Err(NotABatch::Contradiction("numbers begin at 1"));
        }
        if (header.number == BatchNumber(1)) != header.resumes.is_some() {
            return Err(NotABatch::Contradiction("batch 1, and no other, says what it resumes"));
        }
        if header.resumes.is_some_and(|resumed| resumed.incarnation >= header.incarnation) {
            return Err(NotABatch::Contradiction("it resumes a lane that is not lower"));
        }
        if header.first.0.checked_add(header.count).is_none() {
            return Err(NotABatch::Contradiction("its message numbers overflow"));
        }
        Ok(Batch { header, digest: Digest::of("batch", &bytes), bytes, command })
    }
}

/// A batch carries one command, or messages of hosts.
fn command(messages: &[Message]) -> Result<Option<Arc<Command>>, NotABatch> {
    match messages {
        [only] if only.kind == MessageKind::Command => {
            let command = Command::of(only).map_err(|error| NotABatch::Malformed(error.to_string()))?;
            Ok(Some(Arc::new(command)))
        }
        _ if messages.iter().all(|message| message.kind == MessageKind::Application) => Ok(None),
        _ => Err(NotABatch::Contradiction("a membership command travels alone")),
    }
}

/// The kind of the first message, where the decoder stands before the messages.
fn first_kind(decoder: &mut Decoder<'_>) -> Result<MessageKind, NotABatch> {
    let kind = |decoder: &mut Decoder<'_>| {
        decoder.array()?;
        decoder.array()?;
        decoder.decode()
    };
    kind(decoder).map_err(|error: minicbor::decode::Error| NotABatch::Malformed(error.to_string()))
}

/// The messages of a batch's bytes, in order.
pub fn messages(bytes: &[u8]) -> Result<Vec<Message>, NotABatch> {
    let whole: Whole = minicbor::decode(bytes).map_err(|error| NotABatch::Malformed(error.to_string()))?;
    Ok(whole.messages)
}
