//! Those who pull.

use std::sync::{Arc, RwLock};

use bytes::Bytes;

use crate::types::record::EntryRecord;
use crate::types::{Batch, Configuration, Location, Position};

use super::placed::{Before, NotAsDelivered, Placed, PlacedEvent, Placement, next};
use super::{Shared, UNPOISONED};

/// Reads records of the log on behalf of subscribers. The log supplies it.
pub trait RecordReader: Send + Sync {
    /// The payload at a location, unchanged. Blocks on the disk. The error says what went wrong, for people.
    fn read(&self, location: Location) -> Result<Bytes, String>;
}

/// A subscriber's sight of the stream. Cheap to clone; it holds no position, its owner does.
#[derive(Clone)]
pub struct DeliveryReader {
    /// The configuration of epoch 0.
    genesis: Arc<Configuration>,
    shared: Arc<RwLock<Shared>>,
    log: Arc<dyn RecordReader>,
}

/// What memory has after a position.
#[derive(Debug)]
pub enum Recent {
    /// What comes next. The first may begin at or before the position asked for.
    Next(Vec<Placed>),
    /// Nothing yet: the position is the last one, or beyond it.
    AtHead,
    /// It has left memory: [`DeliveryReader::read_after`] reads it from the log.
    Behind,
}

/// How much one read may give back. It always gives back one batch, or epoch's end, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes, as sealed.
    pub bytes: usize,
    /// No further batch once there are this many events.
    pub events: u64,
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
        reason: NotAsDelivered,
    },
}

impl DeliveryReader {
    pub(super) fn new(
        genesis: Arc<Configuration>,
        shared: Arc<RwLock<Shared>>,
        log: Arc<dyn RecordReader>,
    ) -> DeliveryReader {
        DeliveryReader { genesis, shared, log }
    }

    /// The last position: everything up to it can be read.
    pub fn delivered(&self) -> Position {
        self.shared.read().expect(UNPOISONED).index.last()
    }

    /// What is in memory after `position`. Never blocks on a disk.
    pub fn recent_after(&self, position: Position, limits: ReadLimits) -> Recent {
        let shared = self.shared.read().expect(UNPOISONED);
        let first = shared.index.row_after(position);
        if first == shared.index.rows() {
            return Recent::AtHead;
        }
        let mut found = Vec::new();
        let mut room = Room::new(position, limits);
        for row in first..shared.index.rows() {
            let remembered = shared.find(row).placed(&self.genesis, |row| row.bytes.ok_or(()));
            let Ok(placed) = remembered else { break };
            if !room.takes(placed.placement(), placed.bytes().len()) {
                break;
            }
            found.push(placed);
        }
        if found.is_empty() { Recent::Behind } else { Recent::Next(found) }
    }

    /// What comes after `position`, wherever it is. Blocks on the disk for what has left memory.
    pub fn read_after(&self, position: Position, limits: ReadLimits) -> Result<Vec<Placed>, ReadError> {
        let fetch = |found: Found| found.placed(&self.genesis, |row| self.bytes(row));
        self.plan(position, limits).into_iter().map(fetch).collect()
    }

    /// The events after `position`, at most `events_max`. Blocks on the disk for what has left memory.
    pub fn events_after(&self, position: Position, events_max: usize) -> Result<Vec<PlacedEvent>, ReadError> {
        let mut events = Vec::new();
        let mut scanned = position;
        while events.len() < events_max {
            let Some(placed) = self.read_after(scanned, ReadLimits { bytes: 0, events: 1 })?.pop() else { break };
            scanned = placed.last();
            let location = placed.location();
            let decoded = placed.events().map_err(|reason| ReadError::Changed { location, reason })?;
            let wanted = decoded.into_iter().filter(|event| event.position > position);
            events.extend(wanted.take(events_max - events.len()));
        }
        Ok(events)
    }

    /// What to read next, with what memory has of it.
    fn plan(&self, position: Position, limits: ReadLimits) -> Vec<Found> {
        let shared = self.shared.read().expect(UNPOISONED);
        let mut room = Room::new(position, limits);
        (shared.index.row_after(position)..shared.index.rows())
            .map(|row| shared.find(row))
            .take_while(|found| room.takes(&found.here.placement, found.here.length()))
            .collect()
    }

    /// The bytes of a row, from memory or from the log.
    fn bytes(&self, row: Remembered) -> Result<Bytes, ReadError> {
        match row.bytes {
            Some(bytes) => Ok(bytes),
            None => self.read_log(&row.placement),
        }
    }

    /// Reads a batch, or an entry, from the log, and makes sure that it is the one.
    fn read_log(&self, placement: &Placement) -> Result<Bytes, ReadError> {
        let location = placement.location;
        let payload = self.log.read(location).map_err(|reason| ReadError::Log { location, reason })?;
        delivered(payload, placement).map_err(|reason| ReadError::Changed { location, reason })
    }
}

/// The bytes in a record's payload, if they are what was delivered at this place.
fn delivered(payload: Bytes, placement: &Placement) -> Result<Bytes, NotAsDelivered> {
    let Some(lane) = placement.lane else {
        let record = EntryRecord::read(&payload).map_err(|_| NotAsDelivered::Other("no entry stands there"))?;
        next(&record.entry, placement.epoch.next())?;
        return Ok(record.entry);
    };
    let header = Batch::recall(payload.clone())?.header;
    let same = header.origin == lane.origin
        && header.incarnation == lane.incarnation
        && header.first == lane.number
        && header.count == u64::from(lane.count);
    if same { Ok(payload) } else { Err(NotAsDelivered::Other("another batch stands there")) }
}

/// A row, with what memory has of it.
struct Found {
    here: Remembered,
    /// The row that ended the epoch before, if this one ends an epoch other than the first.
    before: Option<Remembered>,
}

struct Remembered {
    placement: Placement,
    bytes: Option<Bytes>,
}

impl Shared {
    fn find(&self, row: usize) -> Found {
        let here = self.remembered(row);
        let epoch = here.placement.epoch;
        let ends = here.placement.lane.is_none();
        let before = if ends { self.index.end_before(epoch).map(|row| self.remembered(row)) } else { None };
        Found { here, before }
    }

    fn remembered(&self, row: usize) -> Remembered {
        Remembered { placement: self.index.placement(row), bytes: self.ring.find(row) }
    }
}

impl Found {
    /// The whole, with the bytes that `bytes` gives for rows.
    fn placed<E>(
        self,
        genesis: &Arc<Configuration>,
        bytes: impl Fn(Remembered) -> Result<Bytes, E>,
    ) -> Result<Placed, E> {
        let before = match (self.here.placement.lane, self.before) {
            (Some(_), _) => None,
            (None, None) => Some(Before::Genesis(genesis.clone())),
            (None, Some(end)) => Some(Before::End(bytes(end)?)),
        };
        let placement = self.here.placement;
        Ok(Placed::new(placement, bytes(self.here)?, before))
    }
}

impl Remembered {
    /// Bytes it takes to read it.
    fn length(&self) -> usize {
        self.bytes.as_ref().map_or(self.placement.location.length as usize, Bytes::len)
    }
}

/// What is left of the limits of one read.
struct Room {
    after: Position,
    bytes: usize,
    events: u64,
    first: bool,
}

impl Room {
    fn new(after: Position, limits: ReadLimits) -> Room {
        Room { after, bytes: limits.bytes, events: limits.events, first: true }
    }

    /// Whether there is room for the next batch, or epoch's end, of `length` bytes; the first always has it.
    fn takes(&mut self, placement: &Placement, length: usize) -> bool {
        if !std::mem::take(&mut self.first) && (length > self.bytes || self.events == 0) {
            return false;
        }
        let fresh = placement.last().0 - placement.first.0.max(self.after.0 + 1) + 1;
        self.bytes = self.bytes.saturating_sub(length);
        self.events = self.events.saturating_sub(fresh);
        true
    }
}
