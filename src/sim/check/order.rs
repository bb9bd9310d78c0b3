//! What the decided slots mean: lanes, membership, positions and clock readings, computed once from what quorums' disks
//! decided. Whatever members hand out is compared with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::membership::Membership;
use super::{Epochs, Violation};
use crate::sim::group::Group;
use crate::types::{
    Batch, Command, Configuration, Digest, Entry, EntryBody, Epoch, EpochEnd, Hlc, Incarnation, LaneHead, MemberId,
    MessageId, Position, Slot,
};

/// What stands at some positions: a batch of messages, a command that took effect, or the end of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its first position.
    pub first: Position,
    /// How many it has.
    pub count: u64,
    /// The slot that decided it.
    pub slot: Slot,
    /// The epoch of that slot.
    pub epoch: Epoch,
    /// Clock reading at its first position.
    pub hlc: Hlc,
    /// Digest of the batch, or of the entry.
    pub digest: Digest,
    /// What it is.
    pub what: What,
}

/// What a row is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Messages of hosts.
    Messages {
        /// The machine they were published at.
        origin: usize,
        /// Identity of the first.
        first: MessageId,
    },
    /// A membership command with an effect.
    Command {
        /// The machine that sealed it.
        origin: usize,
        /// Its identity.
        id: MessageId,
        /// Which.
        command: Arc<Command>,
    },
    /// The end of an epoch.
    EpochEnd(Configuration),
}

/// A command that was decided.
pub struct Decided {
    /// The machine that sealed it.
    pub origin: usize,
    /// In which of its lanes.
    pub incarnation: Incarnation,
    /// Which.
    pub command: Arc<Command>,
    /// Whether it changed anything.
    pub has_effect: bool,
}

/// The decided order.
pub struct Order {
    group: Group,
    /// Everything with a position.
    pub rows: Vec<Row>,
    /// Every command, in the order of the decisions.
    pub commands: Vec<Decided>,
    /// Who is a member, and who votes.
    pub membership: Membership,
    heads: BTreeMap<MemberId, LaneHead>,
    position: Position,
    /// The last reading of the clock.
    last: Hlc,
    /// Lanes that held ordered batches when a higher incarnation closed them.
    pub lanes_closed: u64,
    /// Messages ordered of members that lost their vote and did not leave.
    pub ordered_of_replaced: u64,
}

impl Order {
    /// Nothing is decided.
    pub fn new(group: &Group) -> Order {
        Order {
            group: group.clone(),
            rows: Vec::new(),
            commands: Vec::new(),
            membership: Membership::new(&group.genesis),
            heads: BTreeMap::new(),
            position: Position(0),
            last: Hlc(0),
            lanes_closed: 0,
            ordered_of_replaced: 0,
        }
    }

    /// Where a member's lanes are.
    pub fn head(&self, member: &MemberId) -> LaneHead {
        self.heads.get(member).copied().unwrap_or(LaneHead::START)
    }

    /// Whether this message has a position.
    pub fn holds(&self, id: &MessageId) -> bool {
        self.rows.iter().any(|row| match &row.what {
            What::Messages { first, .. } => {
                let lane = (first.member, first.incarnation) == (id.member, id.incarnation);
                lane && (first.number.0..first.number.0 + row.count).contains(&id.number.0)
            }
            What::Command { .. } | What::EpochEnd(_) => false,
        })
    }

    /// Messages in the slot that has most.
    pub fn largest_slot(&self) -> u64 {
        let mut counts = BTreeMap::new();
        self.rows.iter().for_each(|row| *counts.entry(row.slot).or_insert(0) += row.count);
        counts.into_values().max().unwrap_or(0)
    }

    /// One more slot is decided. `batches` holds every batch that exists; `digest_at` is the chain below.
    pub fn extend(
        &mut self,
        slot: Slot,
        digest: Digest,
        entry: &Entry,
        batches: &BTreeMap<Digest, Batch>,
        digest_at: impl Fn(Slot) -> Option<Digest>,
        epochs: &mut Epochs,
    ) -> Result<(), Violation> {
        let epoch = epochs.of_slot(slot);
        if entry.hlc <= self.last {
            let text = format!("slot {slot} reads {:?} after {:?}", entry.hlc, self.last);
            return Err(Violation::new("clock", text));
        }
        self.last = entry.hlc;
        match &entry.body {
            EntryBody::EpochEnd(EpochEnd { next }) => {
                let ended = self.membership.end(next);
                ended.map_err(|text| Violation::new("E5", format!("slot {slot} ends epoch {epoch}: {text}")))?;
                let row = (1, Digest::of("entry", &entry.encode()), What::EpochEnd(next.clone()));
                self.place(slot, epoch, entry.hlc, row);
                epochs.begin(next.clone(), slot, digest);
            }
            EntryBody::Batches(references) => {
                let mut reading = entry.hlc;
                for reference in references {
                    let Some(batch) = batches.get(&reference.digest) else {
                        let text = format!("a decided batch {} is on no disk", reference.digest.short());
                        return Err(Violation::new("R3", text));
                    };
                    self.batch(slot, epoch, reading, batch, &digest_at)?;
                    reading = reading.plus(batch.header.count);
                }
                self.last = self.last.max(Hlc(reading.0 - 1));
            }
        }
        Ok(())
    }

    fn batch(
        &mut self,
        slot: Slot,
        epoch: Epoch,
        hlc: Hlc,
        batch: &Batch,
        digest_at: impl Fn(Slot) -> Option<Digest>,
    ) -> Result<(), Violation> {
        let header = &batch.header;
        let origin = self.group.index(&header.origin).filter(|_| self.membership.lane_is_open(&header.origin));
        let Some(origin) = origin else {
            let text =
                format!("slot {slot} orders {:?} of {}, whose lane is not open", header.id(), header.origin.short());
            return Err(Violation::new("H1", text));
        };
        let head = self.head(&header.origin);
        if !header.follows(&head) {
            let text = format!("slot {slot} orders {:?} after {:?}", header.id(), head.batch);
            return Err(Violation::new("H1", text));
        }
        let opened = header.incarnation > head.batch.incarnation;
        self.lanes_closed += u64::from(opened && head.batch.incarnation > Incarnation(0));
        self.heads.insert(header.origin, LaneHead { batch: header.id(), digest: batch.digest });
        let voted = self.group.genesis.members.iter().any(|founder| founder.id == header.origin);
        self.ordered_of_replaced += header.count * u64::from(voted && !self.membership.votes(&header.origin));
        let has_effect = self.membership.order(header, batch.command.as_deref(), digest_at);
        let what = match &batch.command {
            Some(command) => {
                let (incarnation, command) = (header.incarnation, command.clone());
                self.commands.push(Decided { origin, incarnation, command: command.clone(), has_effect });
                has_effect.then(|| What::Command { origin, id: header.message_id(0), command })
            }
            None => (header.count > 0).then(|| What::Messages { origin, first: header.message_id(0) }),
        };
        if let Some(what) = what {
            self.place(slot, epoch, hlc, (header.count, batch.digest, what));
        }
        Ok(())
    }

    fn place(&mut self, slot: Slot, epoch: Epoch, hlc: Hlc, (count, digest, what): (u64, Digest, What)) {
        let first = self.position.next();
        self.position = self.position.plus(count);
        self.rows.push(Row { first, count, slot, epoch, hlc, digest, what });
    }
}
