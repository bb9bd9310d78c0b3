//! What a damaged log excuses: an end of its member, or the loss of what it accepted, only where the damage took the
//! records that could have told. Everything else is to be repaired.

use std::ops::Range;

use super::check::{Placed, Storage};
use super::stage::Stage;
use crate::types::{Batch, BatchRef, Incarnation, Location, MessageId, Record, Slot};

/// The damage to one member's log.
#[derive(Default)]
pub struct Damage {
    /// Records that cannot be read any more, by their number in the log's order.
    holes: Vec<Range<usize>>,
    /// The member may find that it no longer knows what it promised, until it has come up once.
    may_end: bool,
    /// Its lanes may end before these messages, as far as these incarnations sealed them.
    ends: Vec<(MessageId, Incarnation)>,
}

impl Damage {
    /// A bit of the record at this place is about to turn: everything from there to the end of its turn is lost.
    pub fn strike(&mut self, stage: &Stage, member: usize, at: &Location) {
        let storage = stage.storage(member);
        let Some(hit) = storage.placed().iter().rposition(|placed| placed.location == *at) else { return };
        let hole = hit..storage.turn_end(hit);
        self.holes.push(hole.clone());
        let read = |placed: &Placed| {
            let bytes = stage.nodes[member].read(&placed.location)?;
            Record::read(placed.kind, &bytes).ok()
        };
        let mark = self.readable(storage).filter_map(|(_, placed)| read(placed)).filter_map(decided).max();
        let knows_promise = self.readable(storage).any(|(index, placed)| index >= hole.end && is_promise(placed));
        let is_covered = |record: &Record| mark.is_some_and(|mark| covers(stage, mark, record));
        let uncovered: Vec<Record> =
            storage.placed()[hole].iter().filter_map(read).filter(|record| !is_covered(record)).collect();
        self.may_end |= mark.is_none() || !knows_promise || !uncovered.is_empty();
        let batches = uncovered.into_iter().filter_map(batch).map(|batch| batch.header);
        let own = batches.filter(|header| header.origin == stage.nodes[member].id);
        if let Some(first) = own.map(|header| header.message_id(0)).min() {
            self.ends.push((first, stage.agreement.incarnation(member)));
        }
    }

    /// The member came up: what it knows now it will know at every later start.
    pub fn survived(&mut self) {
        self.may_end = false;
    }

    /// Whether the member may find that it no longer knows what it promised.
    pub fn may_end(&self) -> bool {
        self.may_end
    }

    /// Whether this message, though accepted, may be gone.
    pub fn excuses(&self, id: &MessageId) -> bool {
        self.ends.iter().any(|(first, last)| id >= first && id.incarnation <= *last)
    }

    fn readable<'a>(&'a self, storage: &'a Storage) -> impl Iterator<Item = (usize, &'a Placed)> {
        let lost = |index: &usize| self.holes.iter().any(|hole| hole.contains(index));
        storage.placed().iter().enumerate().filter(move |(index, _)| !lost(index))
    }
}

fn decided(record: Record) -> Option<Slot> {
    if let Record::Decided(tip) = record { Some(tip.slot) } else { None }
}

fn batch(record: Record) -> Option<Batch> {
    if let Record::Batch(bytes) = record { Batch::recall(bytes).ok() } else { None }
}

/// Voter and vote: the newest of them says what its voter promised.
fn is_promise(placed: &Placed) -> bool {
    matches!(placed.kind, 4 | 5)
}

/// Whether peers have this, if it is decided up to that mark.
fn covers(stage: &Stage, mark: Slot, record: &Record) -> bool {
    let orders = |batch: &BatchRef| {
        (1..=mark.0).any(|slot| stage.agreement.batches(Slot(slot)).is_some_and(|batches| batches.contains(batch)))
    };
    match record {
        Record::Entry(entry) => entry.slot <= mark,
        Record::Batch(_) => batch(record.clone()).is_some_and(|batch| orders(&batch.reference())),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::clock::{Clock, Moment};
    use crate::sim::group::Group;
    use crate::sim::node::{Ending, Settings};
    use crate::sim::shell::Temper;
    use crate::types::{Ack, ClusterLimits, MessageNumber, Sabotage, Timing};
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(10);
    const BATCH: u8 = 2;
    const VOTE: u8 = 5;

    /// A group of one that ordered a few messages, one after the other.
    fn stage() -> Stage {
        let group = Group::new(1, 1, ClusterLimits::default());
        let settings = Settings {
            genesis: group.genesis.clone(),
            timing: Timing::default(),
            sabotage: Sabotage::NONE,
            segment_bytes: 16 << 20,
        };
        let sync = Duration::from_millis(1);
        let temper = Temper { sync, exact: true, stall_every: 0, stall: Duration::ZERO, failing: false };
        let mut stage = Stage::new(group, settings, vec![(Clock::new(0, 0), temper)], 0);
        let mut now = Moment(0);
        stage.start(0, now).unwrap();
        for turn in 0..200 {
            now = stage.nodes[0].busy.max(now) + sync;
            if turn % 20 == 10 {
                let body = stage.promises.body(8);
                stage.publish(0, now, Ack::Ordered, body, PATIENCE);
            }
            assert!(matches!(stage.turn(0, now).unwrap().ending, Ending::Goes { .. }));
        }
        stage
    }

    fn newest(stage: &Stage, kind: u8) -> Location {
        stage.storage(0).placed().iter().rfind(|placed| placed.kind == kind).unwrap().location
    }

    fn message(stage: &Stage, number: u64) -> MessageId {
        MessageId { member: stage.group.id(0), incarnation: Incarnation(1), number: MessageNumber(number) }
    }

    #[test]
    fn damage_below_the_decided_mark_excuses_nothing() {
        let stage = stage();
        let mut damage = Damage::default();
        let first = stage.storage(0).placed().iter().find(|placed| placed.kind == BATCH).unwrap().location;
        damage.strike(&stage, 0, &first);
        assert!(!damage.may_end());
        assert!(!damage.excuses(&message(&stage, 1)) && !damage.excuses(&message(&stage, 9)));
    }

    #[test]
    fn damage_to_the_newest_vote_excuses_one_end() {
        let stage = stage();
        let mut damage = Damage::default();
        damage.strike(&stage, 0, &newest(&stage, VOTE));
        assert!(damage.may_end());
        damage.survived();
        assert!(!damage.may_end());
    }

    #[test]
    fn damage_to_an_unordered_batch_excuses_it_and_what_follows_in_its_lanes() {
        let stage = stage();
        let mut damage = Damage::default();
        damage.strike(&stage, 0, &newest(&stage, BATCH));
        let last = stage.promises.count() as u64;
        assert!(damage.excuses(&message(&stage, last)) && damage.excuses(&message(&stage, last + 1)));
        assert!(!damage.excuses(&message(&stage, last - 1)));
        let later = MessageId { incarnation: Incarnation(2), ..message(&stage, 1) };
        assert!(!damage.excuses(&later));
    }
}
