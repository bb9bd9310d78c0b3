//! What was delivered, with its place in the order: batches and epochs' ends, and the events they are for hosts.

use std::sync::Arc;

use bytes::Bytes;

use crate::types::batch::{self, NotABatch};
use crate::types::command::NotACommand;
use crate::types::entry::NotAnEntry;
use crate::types::{
    Command, Configuration, Entry, EntryBody, Epoch, Hlc, Incarnation, Location, MemberId, Message, MessageId,
    MessageKind, MessageNumber, Position, Slot,
};

/// Where a batch, or an epoch's end, stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) first: Position,
    pub(super) hlc: Hlc,
    pub(super) epoch: Epoch,
    pub(super) slot: Slot,
    pub(super) location: Location,
    /// Where a batch stands in its lane; none for an epoch's end, which no lane sealed.
    pub(super) lane: Option<Lane>,
}

/// Where a batch stands in its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) origin: MemberId,
    pub(super) incarnation: Incarnation,
    /// Of its first message.
    pub(super) number: MessageNumber,
    /// Its messages, each with a position.
    pub(super) count: u32,
}

impl Placement {
    /// Position of its last event.
    pub(super) fn last(&self) -> Position {
        Position(self.first.0 + self.count() - 1)
    }

    /// Positions it takes: an epoch's end takes one.
    fn count(&self) -> u64 {
        self.lane.map_or(1, |lane| u64::from(lane.count))
    }
}

/// A delivered batch, or the end of an epoch, with its bytes. Positions `first() ..= last()` are its events, in order.
#[derive(Clone, Debug)]
pub struct Placed {
    placement: Placement,
    bytes: Bytes,
    /// What an epoch's end is compared with.
    before: Option<Before>,
}

/// What says who voted until an epoch's end.
#[derive(Clone, Debug)]
pub(super) enum Before {
    /// The genesis: it was epoch 0.
    Genesis(Arc<Configuration>),
    /// The entry that ended the epoch before.
    End(Bytes),
}

/// What hosts see at one position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedEvent {
    /// Its place in the order.
    pub position: Position,
    /// The epoch it was decided in; an epoch's end belongs to the epoch it ends.
    pub epoch: Epoch,
    /// Its clock reading.
    pub hlc: Hlc,
    /// What happened.
    pub content: Content,
}

/// What happened at one position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A host published something.
    Message {
        /// Through which member, and as the how-manieth of its lane.
        id: MessageId,
        /// What was published.
        message: Message,
    },
    /// A membership command took effect.
    Command {
        /// Which member ordered it, and as the how-manieth of its lane.
        id: MessageId,
        /// Which.
        command: Command,
    },
    /// An epoch ended, and the next one began.
    EpochEnd {
        /// The epoch that ended.
        ended: Arc<Configuration>,
        /// The one that began.
        next: Box<Configuration>,
    },
}

/// Why bytes are not what was delivered at their place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAsDelivered {
    /// Not a batch.
    #[error(transparent)]
    Batch(#[from] NotABatch),
    /// Not an entry.
    #[error(transparent)]
    Entry(#[from] NotAnEntry),
    /// Not a membership command.
    #[error(transparent)]
    Command(#[from] NotACommand),
    /// Something else of its kind.
    #[error("{0}")]
    Other(&'static str),
}

impl Placed {
    pub(super) fn new(placement: Placement, bytes: Bytes, before: Option<Before>) -> Placed {
        Placed { placement, bytes, before }
    }

    pub(super) fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Position of its first event.
    pub fn first(&self) -> Position {
        self.placement.first
    }

    /// Position of its last event.
    pub fn last(&self) -> Position {
        self.placement.last()
    }

    /// The slot that decided it.
    pub fn slot(&self) -> Slot {
        self.placement.slot
    }

    /// The epoch it was decided in; an epoch's end belongs to the epoch it ends.
    pub fn epoch(&self) -> Epoch {
        self.placement.epoch
    }

    /// The member that sealed it; none for an epoch's end.
    pub fn origin(&self) -> Option<MemberId> {
        self.placement.lane.map(|lane| lane.origin)
    }

    /// Where it stands in the log.
    pub fn location(&self) -> Location {
        self.placement.location
    }

    /// The batch as its lane sealed it; of an epoch's end the entry as it was decided.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its events, in order.
    pub fn events(&self) -> Result<Vec<PlacedEvent>, NotAsDelivered> {
        match self.placement.lane {
            Some(lane) => self.sealed(lane),
            None => Ok(vec![self.event(0, self.epoch_end()?)]),
        }
    }

    fn sealed(&self, lane: Lane) -> Result<Vec<PlacedEvent>, NotAsDelivered> {
        let messages = batch::messages(&self.bytes)?;
        if messages.len() as u64 != u64::from(lane.count) {
            return Err(NotAsDelivered::Other("its messages are not as many as the positions it was given"));
        }
        let numbered = messages.into_iter().zip(0..);
        numbered.map(|(message, index)| Ok(self.event(index, content(&lane, index, message)?))).collect()
    }

    fn event(&self, index: u64, content: Content) -> PlacedEvent {
        let Placement { first, hlc, epoch, .. } = self.placement;
        PlacedEvent { position: first.plus(index), epoch, hlc: hlc.plus(index), content }
    }

    fn epoch_end(&self) -> Result<Content, NotAsDelivered> {
        let ended = match &self.before {
            Some(Before::Genesis(first)) => first.clone(),
            Some(Before::End(bytes)) => Arc::new(next(bytes, self.placement.epoch)?),
            None => return Err(NotAsDelivered::Other("nothing says which epoch it ends")),
        };
        let next = Box::new(next(&self.bytes, self.placement.epoch.next())?);
        Ok(Content::EpochEnd { ended, next })
    }
}

/// Message `index` of a batch, as what it is.
fn content(lane: &Lane, index: u64, message: Message) -> Result<Content, NotACommand> {
    let number = MessageNumber(lane.number.0 + index);
    let id = MessageId { member: lane.origin, incarnation: lane.incarnation, number };
    Ok(match message.kind {
        MessageKind::Application => Content::Message { id, message },
        MessageKind::Command => Content::Command { id, command: Command::of(&message)? },
    })
}

/// The configuration of `epoch`, out of the entry that began it.
pub(super) fn next(entry: &[u8], epoch: Epoch) -> Result<Configuration, NotAsDelivered> {
    match Entry::admit(entry)?.body {
        EntryBody::EpochEnd(end) if end.next.epoch == epoch => Ok(end.next),
        EntryBody::EpochEnd(_) => Err(NotAsDelivered::Other("the end of another epoch stands there")),
        EntryBody::Batches(_) => Err(NotAsDelivered::Other("an entry that ends no epoch stands there")),
    }
}
