//! Votes on disks: what a quorum of durable votes decided, and whether each vote was allowed.

use std::collections::btree_map::Entry::Vacant;
use std::collections::{BTreeMap, BTreeSet};

use super::{Epochs, Order, Violation};
use crate::sim::group::Group;
use crate::types::record::{EntryRecord, Voter};
use crate::types::{
    Batch, BatchId, BatchRef, Digest, Entry, Epoch, EpochLink, Incarnation, MemberId, Record, Round, Slot, Tip,
    chain_digest,
};

/// The durable votes of everybody.
pub struct Agreement {
    group: Group,
    /// Every entry that was ever durable anywhere, by the chain's digest there.
    entries: BTreeMap<Digest, Link>,
    /// Members that hold an equal vote durably, one bit each.
    tallies: BTreeMap<Tip, u32>,
    /// What a quorum's disks decided, from slot 1 on, without a hole.
    decided: Vec<Digest>,
    /// What that means.
    pub order: Order,
    /// The epochs of it.
    pub epochs: Epochs,
    /// Resumptions of batches that open a lane, and the links of all others.
    batches: BTreeMap<Digest, Batch>,
    /// Rule L2: the one digest of every batch number.
    numbered: BTreeMap<(MemberId, BatchId), Digest>,
    voters: Vec<VoterState>,
    /// Batches that a scenario made by hand.
    forged: BTreeSet<Digest>,
}

/// An entry in its chain.
struct Link {
    slot: Slot,
    parent: Digest,
    entry: Entry,
}

/// What one member's disk says about its votes.
#[derive(Default)]
struct VoterState {
    incarnation: Incarnation,
    voter: Option<Voter>,
    highest: Option<Tip>,
    /// That, before its last start.
    voted_before: Option<Tip>,
    votes: BTreeMap<(Round, Slot), Digest>,
    batches: BTreeSet<Digest>,
    entries: BTreeSet<Digest>,
    /// Chains that are durable here to their beginning, entries and payload.
    whole: BTreeSet<Digest>,
    /// Epochs of which the proof of the next is durable here.
    proven: BTreeSet<Epoch>,
}

impl Agreement {
    /// Nothing is durable anywhere.
    pub fn new(group: &Group) -> Agreement {
        Agreement {
            group: group.clone(),
            entries: BTreeMap::new(),
            tallies: BTreeMap::new(),
            decided: Vec::new(),
            order: Order::new(group),
            epochs: Epochs::new(group),
            batches: BTreeMap::new(),
            numbered: BTreeMap::new(),
            voters: (0..group.size()).map(|_| VoterState::default()).collect(),
            forged: BTreeSet::new(),
        }
    }

    /// A record is durable at a member now.
    pub fn durable(&mut self, member: usize, record: &Record) -> Result<(), Violation> {
        match record {
            Record::Incarnation(started) => self.started(member, started.incarnation),
            Record::Batch(bytes) => {
                let batch = Batch::recall(bytes.clone()).map_err(|error| Violation::new("log", error.to_string()))?;
                self.voters[member].batches.insert(batch.digest);
                self.sealed(&batch)
            }
            Record::Entry(entry) => self.entered(member, entry),
            Record::Voter(voter) => self.recorded(member, voter),
            Record::Vote(voted) => self.voted(member, voted.tip),
            Record::Decided(tip) => self.marked(member, tip),
            Record::Epoch(link) => self.proved(member, link),
            Record::Genesis(_) => Ok(()),
        }
    }

    /// A scenario makes this batch by hand: rule L2 does not speak of it.
    pub fn forged(&mut self, digest: Digest) {
        self.forged.insert(digest);
    }

    /// A scenario gave a member another disk: what the one before held is not there any more.
    pub fn forget(&mut self, member: usize) {
        self.voters[member] = VoterState::default();
    }

    /// A batch exists, on a disk or on its way.
    pub fn sealed(&mut self, batch: &Batch) -> Result<(), Violation> {
        if self.forged.contains(&batch.digest) {
            return Ok(());
        }
        let number = (batch.header.origin, batch.header.id());
        let known = *self.numbered.entry(number).or_insert(batch.digest);
        if known != batch.digest {
            let text = format!("{} sealed two batches {:?}", self.name(&number.0), number.1);
            return Err(Violation::new("L2", text));
        }
        self.batches.entry(batch.digest).or_insert_with(|| batch.clone());
        Ok(())
    }

    /// The last slot that a quorum's disks decided.
    pub fn decided(&self) -> Slot {
        Slot(self.decided.len() as u64)
    }

    /// The chain's digest at a decided slot.
    pub fn digest(&self, slot: Slot) -> Option<Digest> {
        if slot.0 == 0 { Some(self.group.cluster) } else { self.decided.get(slot.0 as usize - 1).copied() }
    }

    /// The batches that a decided slot orders.
    pub fn batches(&self, slot: Slot) -> Option<&[BatchRef]> {
        let digest = self.decided.get((slot.0 as usize).checked_sub(1)?)?;
        self.entries.get(digest).map(|link| link.entry.batches())
    }

    /// Whether a vote is on its voter's disk.
    pub fn has_voted(&self, member: usize, tip: &Tip) -> bool {
        self.voters[member].votes.get(&(tip.round, tip.slot)) == Some(&tip.digest)
    }

    /// A member's durable voter record.
    pub fn voter(&self, member: usize) -> Option<&Voter> {
        self.voters[member].voter.as_ref()
    }

    /// A member's highest durable vote.
    pub fn highest(&self, member: usize) -> Option<Tip> {
        self.voters[member].highest
    }

    /// A member's highest vote that was durable before its last start.
    pub fn voted_before(&self, member: usize) -> Option<Tip> {
        self.voters[member].voted_before
    }

    /// An entry that was durable somewhere, by the chain's digest there.
    pub fn entry(&self, digest: &Digest) -> Option<&Entry> {
        self.entries.get(digest).map(|link| &link.entry)
    }

    /// Rule E3: links of the chain of epochs, from the one that ends epoch `from` on, are what disks decided.
    pub fn check_chain(&mut self, from: Epoch, links: &[EpochLink]) -> Result<(), String> {
        let (group, tallies) = (&self.group, &self.tallies);
        let voted = |voter: &MemberId, tip: &Tip| {
            group.index(voter).is_some_and(|index| tallies.get(tip).is_some_and(|tally| tally >> index & 1 == 1))
        };
        self.epochs.check_chain(from, links, voted)
    }

    /// A member's durable incarnation.
    pub fn incarnation(&self, member: usize) -> Incarnation {
        self.voters[member].incarnation
    }

    /// Whether any disk says that its member entered this round or a later one.
    pub fn anybody_entered(&self, round: Round, but: usize) -> bool {
        let others = self.voters.iter().enumerate().filter(|(index, _)| *index != but);
        others.filter_map(|(_, state)| state.voter).any(|voter| voter.round >= round)
    }

    fn started(&mut self, member: usize, incarnation: Incarnation) -> Result<(), Violation> {
        let state = &mut self.voters[member];
        if incarnation < state.incarnation {
            return Err(Violation::new("L2", format!("member {} lowered its incarnation", member + 1)));
        }
        state.incarnation = incarnation;
        state.voted_before = state.highest;
        Ok(())
    }

    fn entered(&mut self, member: usize, record: &EntryRecord) -> Result<(), Violation> {
        let digest = chain_digest(&self.group.cluster, &record.parent, record.slot, &record.entry);
        self.voters[member].entries.insert(digest);
        if let Vacant(place) = self.entries.entry(digest) {
            let entry = Entry::admit(&record.entry).map_err(|error| Violation::new("log", error.to_string()))?;
            place.insert(Link { slot: record.slot, parent: record.parent, entry });
        }
        Ok(())
    }

    fn recorded(&mut self, member: usize, voter: &Voter) -> Result<(), Violation> {
        let state = &mut self.voters[member];
        if state.voter.is_some_and(|earlier| earlier.round > voter.round) {
            return Err(Violation::new("L1", format!("member {} went back to round {}", member + 1, voter.round)));
        }
        let epoch = voter.round.epoch;
        if voter.claim.is_some_and(|claim| claim.round.epoch != epoch) {
            let text = format!("member {} took a claim of another epoch into {}", member + 1, voter.round);
            return Err(Violation::new("E1", text));
        }
        if state.highest.filter(|highest| highest.round.epoch == epoch) > voter.claim {
            let text = format!("member {} recorded a claim below its highest vote", member + 1);
            return Err(Violation::new("V6", text));
        }
        state.voter = Some(*voter);
        if self.epochs.at(epoch).is_none_or(|known| known.digest != voter.configuration) {
            let text =
                format!("member {} entered {}, an epoch that no quorum's disks decided", member + 1, voter.round);
            return Err(Violation::new("E1", text));
        }
        let unproven = (0..epoch.0).map(Epoch).find(|ended| !state.proven.contains(ended));
        unproven.map_or(Ok(()), |ended| {
            let text =
                format!("member {} entered {} without a proof that epoch {ended} ended", member + 1, voter.round);
            Err(Violation::new("E3", text))
        })
    }

    /// A proof of an epoch is durable at a member.
    fn proved(&mut self, member: usize, link: &EpochLink) -> Result<(), Violation> {
        let ends = link.certificate.tip.round.epoch;
        let checked = self.check_chain(ends, std::slice::from_ref(link));
        checked.map_err(|text| {
            Violation::new("E3", format!("member {} keeps a false end of epoch {ends}: {text}", member + 1))
        })?;
        self.voters[member].proven.insert(ends);
        Ok(())
    }

    fn voted(&mut self, member: usize, tip: Tip) -> Result<(), Violation> {
        self.allowed(member, tip)?;
        self.hold_whole(member, tip)?;
        self.in_epoch(member, tip)?;
        let state = &mut self.voters[member];
        state.votes.insert((tip.round, tip.slot), tip.digest);
        state.highest = state.highest.max(Some(tip));
        let tally = self.tallies.entry(tip).or_default();
        *tally |= 1 << member;
        let Some(epoch) = self.epochs.at(tip.round.epoch) else { return Ok(()) };
        let equal = (*tally & epoch.voters).count_ones() as usize;
        if equal >= epoch.configuration.quorum() { self.decide(tip) } else { Ok(()) }
    }

    /// Rules R1, R2, R4, R6 and V6 for one vote on its way to the disk.
    fn allowed(&self, member: usize, tip: Tip) -> Result<(), Violation> {
        let state = &self.voters[member];
        let fails = |rule, text: &str| Err(Violation::new(rule, format!("member {} {text}: {tip}", member + 1)));
        let Some(voter) = state.voter else { return fails("L1", "voted before it entered any round") };
        if tip.round < voter.round {
            return fails("R6", "voted below the round it entered");
        }
        if tip.round > voter.round {
            return fails("R1", "voted above the round it entered");
        }
        if let Some(other) = state.votes.get(&(tip.round, tip.slot)) {
            return if *other == tip.digest { Ok(()) } else { fails("R4", "voted twice for one slot of a round") };
        }
        if state.highest > Some(tip) {
            return fails("V6", "voted below its claim");
        }
        let last = state.votes.range((tip.round, Slot(0))..(tip.round, tip.slot)).next_back();
        match last {
            Some(((_, slot), digest)) if self.ancestor(tip.digest, *slot) != Some(*digest) => {
                fails("R2", "voted for two chains in one round")
            }
            _ => Ok(()),
        }
    }

    /// Rules E1 and R8: a vote is a voter's of its epoch, and its chain stands on the end of the epoch before and has no end of
    /// this one but as its last entry.
    fn in_epoch(&self, member: usize, tip: Tip) -> Result<(), Violation> {
        let fails =
            |rule, text: &str| Err(Violation::new(rule, format!("member {} voted for {tip}, {text}", member + 1)));
        let Some(epoch) = self.epochs.at(tip.round.epoch) else {
            return fails("E1", "and no quorum's disks decided that epoch");
        };
        if !self.epochs.votes(member, tip.round.epoch) {
            return fails("E1", "and is no voter of that epoch");
        }
        let behind_an_end = || fails("R8", "which is behind an end of its epoch");
        let (mut slot, mut digest) = (tip.slot, tip.digest);
        while self.digest(slot) != Some(digest) {
            let Some(link) = self.entries.get(&digest) else { return Ok(()) };
            if slot < tip.slot && link.entry.epoch_end().is_some() {
                return behind_an_end();
            }
            (slot, digest) = (Slot(slot.0 - 1), link.parent);
        }
        // From here down the chain is the decided one.
        if slot < epoch.base {
            return fails("E1", "which is not behind the end of the epoch before");
        }
        let end = self.epochs.at(tip.round.epoch.next()).map(|next| next.base);
        if end.is_some_and(|end| end <= slot && end < tip.slot) { behind_an_end() } else { Ok(()) }
    }

    /// Rule R3: the whole chain of a vote stands before the vote in the voter's log.
    fn hold_whole(&mut self, member: usize, tip: Tip) -> Result<(), Violation> {
        let (entries, state) = (&self.entries, &mut self.voters[member]);
        let fails =
            |text: String| Err(Violation::new("R3", format!("member {} voted for {tip}, but {text}", member + 1)));
        let mut digest = tip.digest;
        let mut walked = Vec::new();
        while digest != self.group.cluster && !state.whole.contains(&digest) {
            let Some(link) = entries.get(&digest).filter(|_| state.entries.contains(&digest)) else {
                return fails(format!("its disk lacks the entry {}", digest.short()));
            };
            if let Some(lacked) = link.entry.batches().iter().find(|batch| !state.batches.contains(&batch.digest)) {
                return fails(format!("its disk lacks the batch {}", lacked.digest.short()));
            }
            walked.push(digest);
            digest = link.parent;
        }
        state.whole.extend(walked);
        Ok(())
    }

    /// The digest at `slot` of the chain that ends in `digest`.
    fn ancestor(&self, digest: Digest, slot: Slot) -> Option<Digest> {
        let mut here = digest;
        loop {
            let link = self.entries.get(&here)?;
            if link.slot <= slot {
                return (link.slot == slot).then_some(here);
            }
            here = link.parent;
        }
    }

    fn decide(&mut self, tip: Tip) -> Result<(), Violation> {
        let mut chain = Vec::new();
        let mut digest = tip.digest;
        let mut slot = tip.slot;
        while slot > self.decided() {
            let link = self.entries.get(&digest).ok_or_else(|| {
                Violation::new("R3", format!("a quorum voted for {tip}, and slot {slot} of that chain is on no disk"))
            })?;
            chain.push(digest);
            digest = link.parent;
            slot = Slot(slot.0 - 1);
        }
        if self.digest(slot) != Some(digest) {
            let text = format!("a quorum's disks decided {tip}, against slot {slot} decided before");
            return Err(Violation::new("agreement", text));
        }
        for digest in chain.into_iter().rev() {
            self.extend(digest, tip)?;
        }
        self.epochs.establish(tip.round.epoch);
        Ok(())
    }

    /// One more slot is decided.
    fn extend(&mut self, digest: Digest, by: Tip) -> Result<(), Violation> {
        let slot = self.decided().next();
        let epoch = self.epochs.newest().configuration.epoch;
        if epoch != by.round.epoch {
            let text = format!("slot {slot} belongs to epoch {epoch}, and votes for {by} decided it");
            return Err(Violation::new("R8", text));
        }
        self.decided.push(digest);
        let (decided, cluster) = (&self.decided, self.group.cluster);
        let digest_at = |at: Slot| {
            if at.0 == 0 { Some(cluster) } else { decided.get(at.0 as usize - 1).copied().filter(|_| at < slot) }
        };
        let entry = &self.entries[&digest].entry;
        self.order.extend(slot, digest, entry, &self.batches, digest_at, &mut self.epochs)
    }

    /// A decided mark on a disk: a quorum's votes stand behind it.
    fn marked(&self, member: usize, tip: &Tip) -> Result<(), Violation> {
        if self.digest(tip.slot) == Some(tip.digest) {
            return Ok(());
        }
        let text = format!("member {} holds {tip} for decided, and no quorum's disks say so", member + 1);
        Err(Violation::new("agreement", text))
    }

    fn name(&self, id: &MemberId) -> String {
        self.group.index(id).map_or_else(|| id.short(), |index| format!("member {}", index + 1))
    }
}
