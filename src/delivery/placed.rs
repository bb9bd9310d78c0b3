//! Batches and messages with their places in the order.

use bytes::Bytes;

use crate::types::batch::{self, NotABatch};
use crate::types::{
    Epoch, Hlc, Incarnation, Location, MemberId, Message, MessageId, MessageKind, MessageNumber, Position, Slot,
};

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) first: Position,
    pub(super) count: u64,
    pub(super) hlc: Hlc,
    pub(super) epoch: Epoch,
    pub(super) slot: Slot,
    pub(super) location: Location,
    pub(super) origin: MemberId,
    pub(super) incarnation: Incarnation,
    pub(super) number: MessageNumber,
}

impl Placement {
    /// Position of its last message.
    pub(super) fn last(&self) -> Position {
        Position(self.first.0 + self.count - 1)
    }
}

/// A delivered batch with its bytes. Positions `first() ..= last()` are its messages, in order.
#[derive(Clone, Debug)]
pub struct PlacedBatch {
    placement: Placement,
    bytes: Bytes,
}

/// A delivered message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedMessage {
    /// Its place in the order.
    pub position: Position,
    /// The epoch it was decided in.
    pub epoch: Epoch,
    /// Its clock reading.
    pub hlc: Hlc,
    /// Who published it, and as the how-manieth of its lane.
    pub id: MessageId,
    /// What was published.
    pub message: Message,
}

impl PlacedBatch {
    pub(super) fn new(placement: Placement, bytes: Bytes) -> PlacedBatch {
        PlacedBatch { placement, bytes }
    }

    /// Position of its first message.
    pub fn first(&self) -> Position {
        self.placement.first
    }

    /// Position of its last message.
    pub fn last(&self) -> Position {
        self.placement.last()
    }

    /// The slot that decided it.
    pub fn slot(&self) -> Slot {
        self.placement.slot
    }

    /// The epoch it was decided in.
    pub fn epoch(&self) -> Epoch {
        self.placement.epoch
    }

    /// The member that sealed it.
    pub fn origin(&self) -> MemberId {
        self.placement.origin
    }

    /// Where its bytes stand in the log.
    pub fn location(&self) -> Location {
        self.placement.location
    }

    /// The batch as its lane sealed it.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its messages that take a position, in order.
    pub fn messages(&self) -> Result<Vec<PlacedMessage>, NotABatch> {
        let placement = &self.placement;
        let messages: Vec<PlacedMessage> = batch::messages(&self.bytes)?
            .into_iter()
            .zip(placement.number.0..)
            .filter(|(message, _)| message.kind == MessageKind::Application)
            .zip(0..)
            .map(|((message, number), index)| PlacedMessage {
                position: placement.first.plus(index),
                epoch: placement.epoch,
                hlc: placement.hlc.plus(index),
                id: MessageId {
                    member: placement.origin,
                    incarnation: placement.incarnation,
                    number: MessageNumber(number),
                },
                message,
            })
            .collect();
        if messages.len() as u64 != placement.count {
            return Err(NotABatch::Contradiction("its messages are not as many as the positions it was given"));
        }
        Ok(messages)
    }
}
