//! Those who pull.

use std::sync::{Arc, RwLock};

use bytes::Bytes;

use crate::types::batch::NotABatch;
use crate::types::{Batch, Location, Position};

use super::placed::{PlacedBatch, PlacedMessage, Placement};
use super::{Shared, UNPOISONED};

/// Reads records of the log on behalf of subscribers. The log supplies it.
pub trait RecordReader: Send + Sync {
    /// The payload at a location, unchanged. Blocks on the disk. The error says what went wrong, for people.
    fn read(&self, location: Location) -> Result<Bytes, String>;
}

/// A subscriber's sight of the stream. Cheap to clone; it holds no position, its owner does.
#[derive(Clone)]
pub struct DeliveryReader {
    shared: Arc<RwLock<Shared>>,
    log: Arc<dyn RecordReader>,
}

/// What memory has after a position.
#[derive(Debug)]
pub enum Recent {
    /// The next batches. The first may begin at or before the position asked for.
    Batches(Vec<PlacedBatch>),
    /// Nothing yet: the position is the last one, or beyond it.
    AtHead,
    /// It has left memory: [`DeliveryReader::read_after`] reads it from the log.
    Behind,
}

/// How much one read may give back. It always gives back one batch if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes of batches, as sealed.
    pub bytes: usize,
    /// No further batch once there are this many messages.
    pub messages: u64,
}

/// The log does not give back what was delivered. The reader's position stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error("the log cannot be read at segment {}, offset {}: {reason}", .location.segment, .location.offset)]
    Log {
        /// Where.
        location: Location,
        /// Why.
        reason: String,
    },
    /// It was read, but is not what was delivered.
    #[error("the log does not hold at segment {}, offset {} what was delivered: {reason}", .location.segment, .location.offset)]
    Changed {
        /// Where.
        location: Location,
        /// In which way.
        reason: NotABatch,
    },
}

impl DeliveryReader {
    pub(super) fn new(shared: Arc<RwLock<Shared>>, log: Arc<dyn RecordReader>) -> DeliveryReader {
        DeliveryReader { shared, log }
    }

    /// The last position: everything up to it can be read.
    pub fn delivered(&self) -> Position {
        self.shared.read().expect(UNPOISONED).index.last()
    }

    /// The batches after `position` that are in memory. Never blocks on a disk.
    pub fn recent_after(&self, position: Position, limits: ReadLimits) -> Recent {
        let shared = self.shared.read().expect(UNPOISONED);
        let first = shared.index.row_after(position);
        if first == shared.index.rows() {
            return Recent::AtHead;
        }
        let mut batches = Vec::new();
        let mut room = Room::new(position, limits);
        for row in first..shared.index.rows() {
            let placement = shared.index.placement(row);
            let Some(bytes) = shared.ring.find(row).filter(|bytes| room.takes(&placement, bytes.len())) else { break };
            batches.push(PlacedBatch::new(placement, bytes));
        }
        if batches.is_empty() { Recent::Behind } else { Recent::Batches(batches) }
    }

    /// The batches after `position`, wherever they are. Blocks on the disk for what has left memory.
    pub fn read_after(&self, position: Position, limits: ReadLimits) -> Result<Vec<PlacedBatch>, ReadError> {
        self.plan(position, limits).into_iter().map(|(placement, bytes)| self.fetch(placement, bytes)).collect()
    }

    /// The messages after `position`, at most `messages_max`. Blocks on the disk for what has left memory.
    pub fn messages_after(&self, position: Position, messages_max: usize) -> Result<Vec<PlacedMessage>, ReadError> {
        let mut messages = Vec::new();
        let mut scanned = position;
        while messages.len() < messages_max {
            let Some(batch) = self.read_after(scanned, ReadLimits { bytes: 0, messages: 1 })?.pop() else { break };
            scanned = batch.last();
            let location = batch.location();
            let decoded = batch.messages().map_err(|reason| ReadError::Changed { location, reason })?;
            let wanted = decoded.into_iter().filter(|message| message.position > position);
            messages.extend(wanted.take(messages_max - messages.len()));
        }
        Ok(messages)
    }

    /// What to read next, with the bytes that memory has.
    fn plan(&self, position: Position, limits: ReadLimits) -> Vec<(Placement, Option<Bytes>)> {
        let shared = self.shared.read().expect(UNPOISONED);
        let mut room = Room::new(position, limits);
        (shared.index.row_after(position)..shared.index.rows())
            .map(|row| (shared.index.placement(row), shared.ring.find(row)))
            .take_while(|(placement, bytes)| {
                let length = bytes.as_ref().map_or(placement.location.length as usize, Bytes::len);
                room.takes(placement, length)
            })
            .collect()
    }

    fn fetch(&self, placement: Placement, bytes: Option<Bytes>) -> Result<PlacedBatch, ReadError> {
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => self.read_log(&placement)?,
        };
        Ok(PlacedBatch::new(placement, bytes))
    }

    /// Reads a batch from the log, and makes sure that it is the one.
    fn read_log(&self, placement: &Placement) -> Result<Bytes, ReadError> {
        let location = placement.location;
        let bytes = self.log.read(location).map_err(|reason| ReadError::Log { location, reason })?;
        let header = Batch::recall(bytes.clone()).map_err(|reason| ReadError::Changed { location, reason })?.header;
        let same = header.origin == placement.origin
            && header.incarnation == placement.incarnation
            && header.first == placement.number
            && header.count >= placement.count;
        if !same {
            let reason = NotABatch::Contradiction("another batch stands there");
            return Err(ReadError::Changed { location, reason });
        }
        Ok(bytes)
    }
}

/// What is left of the limits of one read.
struct Room {
    after: Position,
    bytes: usize,
    messages: u64,
    first: bool,
}

impl Room {
    fn new(after: Position, limits: ReadLimits) -> Room {
        Room { after, bytes: limits.bytes, messages: limits.messages, first: true }
    }

    /// Whether there is room for the next batch, of `length` bytes; the first always has it.
    fn takes(&mut self, placement: &Placement, length: usize) -> bool {
        if !std::mem::take(&mut self.first) && (length > self.bytes || self.messages == 0) {
            return false;
        }
        let fresh = placement.last().0 - placement.first.0.max(self.after.0 + 1) + 1;
        self.bytes = self.bytes.saturating_sub(length);
        self.messages = self.messages.saturating_sub(fresh);
        true
    }
}
