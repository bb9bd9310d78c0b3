//! One sequence: every host gets the same messages at the same positions, without a gap, again after every restart.

use super::{Agreement, Promises, Storage, Violation};
use crate::sim::group::Group;
use crate::types::batch;
use crate::types::{Delivered, Digest, Hlc, MessageId, Outcome, Position, Slot};

/// A batch at its place in the order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    first: Position,
    count: u64,
    slot: Slot,
    hlc: Hlc,
    digest: Digest,
    origin: usize,
    first_id: MessageId,
}

/// Where one host stands.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    rows: usize,
    position: Position,
}

/// The order, as the first host to get each batch got it, and how far each host is.
pub struct Sequence {
    group: Group,
    rows: Vec<Row>,
    cursors: Vec<Cursor>,
}

/// What one delivery needs to be checked.
pub struct Witness<'a> {
    /// What a quorum's disks decided.
    pub agreement: &'a Agreement,
    /// The delivering member's disk.
    pub storage: &'a Storage,
}

impl Sequence {
    /// Nothing is delivered.
    pub fn new(group: &Group) -> Sequence {
        Sequence { group: group.clone(), rows: Vec::new(), cursors: vec![Cursor::default(); group.size()] }
    }

    /// A host begins anew: it gets everything again, from position 1 on.
    pub fn restarted(&mut self, member: usize) {
        self.cursors[member] = Cursor::default();
    }

    /// Last position a host got.
    pub fn position(&self, member: usize) -> Position {
        self.cursors[member].position
    }

    /// Last position any host ever got.
    pub fn head(&self) -> Position {
        self.rows.last().map_or(Position(0), |row| Position(row.first.0 + row.count - 1))
    }

    /// Messages in the slot that has most.
    pub fn largest_slot(&self) -> u64 {
        let mut counts = std::collections::BTreeMap::new();
        self.rows.iter().for_each(|row| *counts.entry(row.slot).or_insert(0) += row.count);
        counts.into_values().max().unwrap_or(0)
    }

    /// The batch digest at each place a host got: equal for two hosts that stand at the same position.
    pub fn digest(&self, member: usize) -> Digest {
        let mut bytes = Vec::new();
        for row in &self.rows[..self.cursors[member].rows] {
            bytes.extend_from_slice(&row.first.0.to_be_bytes());
            bytes.extend_from_slice(&row.digest.0);
        }
        Digest::of("simulated order", &bytes)
    }

    /// A host gets a batch. `bytes` are those in memory or in the log.
    pub fn delivered(
        &mut self,
        member: usize,
        delivered: &Delivered,
        bytes: &[u8],
        witness: &Witness<'_>,
        promises: &mut Promises,
    ) -> Result<(), Violation> {
        let fails = |rule, text: String| {
            Err(Violation::new(rule, format!("member {} delivers position {}: {text}", member + 1, delivered.first)))
        };
        let cursor = self.cursors[member];
        if delivered.first != cursor.position.next() {
            return fails("one sequence", format!("its host stands at {}", cursor.position));
        }
        if let Err(text) = self.backed(delivered, bytes, witness) {
            return fails("durable before delivered", text);
        }
        if delivered.count == 0 {
            return fails("integrity", "a batch without messages".to_owned());
        }
        let row = self.row(delivered, bytes)?;
        match self.rows.get(cursor.rows) {
            Some(known) if *known != row => {
                return fails("one sequence", format!("another host got {known:?}, it gets {row:?}"));
            }
            Some(_) => {}
            None => self.append(row, delivered, bytes, promises)?,
        }
        let position = Position(cursor.position.0 + delivered.count);
        self.cursors[member] = Cursor { rows: cursor.rows + 1, position };
        Ok(())
    }

    /// A publisher was told its position: it is that of the order.
    pub fn told(&self, member: usize, outcome: &Outcome) -> Result<(), Violation> {
        let Outcome::Ordered { id, position, hlc, .. } = outcome else { return Ok(()) };
        let index = self.rows.partition_point(|row| row.first <= *position);
        let row = index.checked_sub(1).map(|index| &self.rows[index]);
        let right = row.is_some_and(|row| {
            let offset = position.0 - row.first.0;
            let told =
                MessageId { number: crate::types::MessageNumber(row.first_id.number.0 + offset), ..row.first_id };
            offset < row.count && *hlc == row.hlc.plus(offset) && *id == told
        });
        if !right || self.cursors[member].position < *position {
            return Err(Violation::new(
                "answers",
                format!("member {} answered {outcome:?}; there is {row:?}", member + 1),
            ));
        }
        Ok(())
    }

    /// What is delivered is durable here and decided by a quorum's disks.
    fn backed(&self, delivered: &Delivered, bytes: &[u8], witness: &Witness<'_>) -> Result<(), String> {
        let Some(stored) = witness.storage.batch_at(&delivered.location) else {
            return Err("its own disk does not hold the batch durably".to_owned());
        };
        if stored.digest != Digest::of("batch", bytes) {
            return Err("its bytes are not those of the batch".to_owned());
        }
        let decided = witness.agreement.batches(delivered.slot).unwrap_or_default();
        if !decided.contains(stored) {
            return Err(format!("no quorum's disks decided it in slot {}", delivered.slot));
        }
        Ok(())
    }

    fn row(&self, delivered: &Delivered, bytes: &[u8]) -> Result<Row, Violation> {
        let Some(header) = delivered.header() else {
            return Err(Violation::new("integrity", "the end of an epoch is not followed yet"));
        };
        let Some(origin) = self.group.index(&header.origin) else {
            return Err(Violation::new("integrity", "a stranger's batch was delivered"));
        };
        Ok(Row {
            first: delivered.first,
            count: delivered.count,
            slot: delivered.slot,
            hlc: delivered.hlc,
            digest: Digest::of("batch", bytes),
            origin,
            first_id: header.message_id(0),
        })
    }

    /// The first host gets it: clocks rise, and each message is one that was published.
    fn append(
        &mut self,
        row: Row,
        delivered: &Delivered,
        bytes: &[u8],
        promises: &mut Promises,
    ) -> Result<(), Violation> {
        if let Some(last) = self.rows.last().filter(|last| row.hlc < last.hlc.plus(last.count)) {
            let text = format!("position {} reads {:?} after {:?}", row.first, row.hlc, last.hlc);
            return Err(Violation::new("clock", text));
        }
        let messages = batch::messages(bytes).map_err(|error| Violation::new("integrity", error.to_string()))?;
        if messages.len() as u64 != delivered.count {
            return Err(Violation::new("integrity", "a message of a host took no position"));
        }
        for (index, message) in messages.iter().enumerate() {
            let id = crate::types::MessageId {
                number: crate::types::MessageNumber(row.first_id.number.0 + index as u64),
                ..row.first_id
            };
            promises.ordered(row.origin, &id, message, Position(row.first.0 + index as u64))?;
        }
        self.rows.push(row);
        Ok(())
    }
}
