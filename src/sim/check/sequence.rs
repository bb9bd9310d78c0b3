//! One sequence: every host gets the same things at the same positions, without a gap, again after every restart; and they
//! are what the decided slots make them.

use super::{Agreement, Promises, Row, Storage, Violation, What};
use crate::sim::group::Group;
use crate::types::batch;
use crate::types::{Delivered, DeliveredKind, Digest, MessageId, MessageNumber, Outcome, Position};

/// How far each host is.
pub struct Sequence {
    cursors: Vec<Cursor>,
    /// Rows that some host got.
    delivered: usize,
    head: Position,
}

/// Where one host stands.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    rows: usize,
    position: Position,
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
        Sequence { cursors: vec![Cursor::default(); group.size()], delivered: 0, head: Position(0) }
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
        self.head
    }

    /// How many rows of the order a host got.
    pub fn rows(&self, member: usize) -> usize {
        self.cursors[member].rows
    }

    /// A host gets something. `bytes` are those in memory or in the log.
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
        let Some(row) = witness.agreement.order.rows.get(cursor.rows) else {
            return fails("durable before delivered", format!("no quorum's disks decided slot {}", delivered.slot));
        };
        if let Err(text) = durable(delivered, bytes, witness) {
            return fails("durable before delivered", text);
        }
        if let Some(text) = difference(row, delivered, bytes) {
            return fails("one sequence", format!("{text}: {delivered:?}; the order has {row:?}"));
        }
        if cursor.rows == self.delivered {
            self.delivered += 1;
            self.head = Position(row.first.0 + row.count - 1);
            published(row, bytes, promises)?;
        }
        let position = cursor.position.plus(delivered.count);
        self.cursors[member] = Cursor { rows: cursor.rows + 1, position };
        Ok(())
    }

    /// A publisher was told its position: it is that of the order.
    pub fn told(&self, member: usize, outcome: &Outcome, rows: &[Row]) -> Result<(), Violation> {
        let Outcome::Ordered { id, position, hlc, epoch } = outcome else { return Ok(()) };
        let index = rows.partition_point(|row| row.first <= *position);
        let row = index.checked_sub(1).map(|index| &rows[index]);
        let right = row.is_some_and(|row| {
            let offset = position.0 - row.first.0;
            let first = match &row.what {
                What::Messages { first, .. } | What::Command { id: first, .. } => *first,
                What::EpochEnd(_) => return false,
            };
            let told = MessageId { number: MessageNumber(first.number.0 + offset), ..first };
            offset < row.count && (*hlc, *epoch, *id) == (row.hlc.plus(offset), row.epoch, told)
        });
        if !right || self.cursors[member].position < *position {
            return Err(Violation::new(
                "answers",
                format!("member {} answered {outcome:?}; there is {row:?}", member + 1),
            ));
        }
        Ok(())
    }
}

/// What is delivered is durable on the member's own disk.
fn durable(delivered: &Delivered, bytes: &[u8], witness: &Witness<'_>) -> Result<(), String> {
    let stored = match delivered.kind {
        DeliveredKind::Batch(_) => witness.storage.batch_at(&delivered.location).map(|batch| batch.digest),
        DeliveredKind::EpochEnd => witness.storage.entry_at(&delivered.location),
    };
    let digest = match delivered.kind {
        DeliveredKind::Batch(_) => Digest::of("batch", bytes),
        DeliveredKind::EpochEnd => Digest::of("entry", bytes),
    };
    match stored {
        None => Err("its own disk does not hold it durably".to_owned()),
        Some(stored) if stored != digest => Err("its bytes are not those on its disk".to_owned()),
        Some(_) => Ok(()),
    }
}

/// What is delivered, against what stands there.
fn difference(row: &Row, delivered: &Delivered, bytes: &[u8]) -> Option<&'static str> {
    let digest = match (&row.what, &delivered.kind) {
        (What::Messages { first, .. } | What::Command { id: first, .. }, DeliveredKind::Batch(header))
            if header.message_id(0) == *first =>
        {
            Digest::of("batch", bytes)
        }
        (What::EpochEnd(_), DeliveredKind::EpochEnd) => Digest::of("entry", bytes),
        _ => return Some("another thing"),
    };
    let differs = |is: bool, text| is.then_some(text);
    differs(digest != row.digest, "other contents")
        .or(differs(delivered.first != row.first || delivered.count != row.count, "another place"))
        .or(differs(delivered.slot != row.slot || delivered.epoch != row.epoch, "another slot"))
        .or(differs(delivered.hlc != row.hlc, "another reading of the clock"))
}

/// The first host gets it: each message is one that was published.
fn published(row: &Row, bytes: &[u8], promises: &mut Promises) -> Result<(), Violation> {
    let What::Messages { origin, first } = &row.what else { return Ok(()) };
    let messages = batch::messages(bytes).map_err(|error| Violation::new("integrity", error.to_string()))?;
    for (index, message) in (0..).zip(&messages) {
        let id = MessageId { number: MessageNumber(first.number.0 + index), ..*first };
        promises.ordered(*origin, &id, message, row.first.plus(index))?;
    }
    Ok(())
}
