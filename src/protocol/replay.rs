//! Start: what the log holds becomes state again, and this member takes part as far as it may (rules L1, L2, H1, Rot).

use std::time::Duration;

use super::chain::Lack;
use super::epochs::Learned;
use super::halt::Halt;
use super::lanes::Logged;
use super::model::FaultModel;
use super::ready::Handed;
use super::replica::Replica;
use crate::types::peer::ChainEntry;
use crate::types::record::{EntryRecord, Started, Voted, Voter};
use crate::types::statement::{Claim, Round, Tip};
use crate::types::{
    Batch, BatchNumber, BatchRef, Command, Configuration, Digest, Entry, Epoch, EpochLink, Incarnation, LaneHead,
    Location, Now, Record, Rule, Slot, View,
};

/// How long peers are asked for a hole that rot left in this member's own lanes, before its lane ends there. It begins
/// when a quorum is heard and everything that is decided by its word is here.
const HOLE_PATIENCE: Duration = Duration::from_secs(3);

/// What replaying gathers beside the replica's state.
#[derive(Debug, Default)]
pub struct Restored {
    incarnation: Incarnation,
    round: Option<(Round, Incarnation)>,
    /// The highest decided mark.
    mark: Option<Tip>,
    rot: bool,
    /// A voter record or vote was read after the last rot: nothing newer of that kind is lost.
    voter_after_rot: bool,
    /// A start was read after the last rot: no later one is lost (rule L2).
    started_after_rot: bool,
    /// Rot, and no opening of a lane of this member behind it: the end of its last lane may be lost.
    own_lane_rot: bool,
    /// What rot took out of the decided chain: the next slots wait for it, from further back in the log or from peers.
    lost: Option<Lack>,
    /// Batches since the last decided mark.
    unmarked: Vec<BatchRef>,
    records: u64,
}

impl<M: FaultModel> Replica<M> {
    /// Takes the next record of the log.
    pub fn restore(&mut self, restored: &mut Restored, location: Location, record: Record) -> Result<(), Halt> {
        restored.records += 1;
        match record {
            Record::Genesis(_) => {}
            Record::Epoch(link) => self.restore_epoch(link)?,
            Record::Incarnation(started) => {
                restored.incarnation = restored.incarnation.max(started.incarnation);
                restored.started_after_rot = true;
            }
            Record::Batch(bytes) => {
                let batch = Batch::recall(bytes).map_err(|error| Halt::Unreadable(error.to_string()))?;
                if batch.header.origin == self.me && batch.header.number == BatchNumber(1) {
                    restored.own_lane_rot = false;
                }
                restored.unmarked.push(batch.reference());
                // The decision that lets its origin in may stand behind it in the log.
                if !self.chain.state.membership.former.contains_key(&batch.header.origin) {
                    self.lanes.open(batch.header.origin);
                }
                self.lanes.admit(batch, Logged::Durable(location), true);
            }
            Record::Entry(EntryRecord { slot, parent, entry: bytes }) => {
                let entry = Entry::admit(&bytes).map_err(|error| Halt::Unreadable(error.to_string()))?;
                if slot > self.chain.decided.slot {
                    let entry = ChainEntry { slot, parent, entry: (entry, bytes) };
                    self.chain.keep_any(&entry, Logged::Durable(location), |_, _| true);
                }
            }
            Record::Voter(voter) => self.restore_voter(restored, voter),
            Record::Vote(voted) => self.restore_vote(restored, voted),
            Record::Decided(tip) => self.restore_mark(restored, tip)?,
        }
        Ok(())
    }

    /// The proof of an epoch; the log vouches for its own.
    fn restore_epoch(&mut self, link: EpochLink) -> Result<(), Halt> {
        let epoch = link.certificate.tip.round.epoch;
        match self.epochs.learn(epoch, link, true, &self.sabotage) {
            Learned::New | Learned::Known => Ok(()),
            Learned::Fork => Err(Halt::EpochFork { epoch }),
            // What rot took is told again by others.
            Learned::Gap => Ok(()),
            Learned::Bad(bad) => Err(Halt::Unreadable(bad.to_string())),
        }
    }

    fn restore_mark(&mut self, restored: &mut Restored, tip: Tip) -> Result<(), Halt> {
        // While damage is repaired, marks below the highest one are written.
        restored.mark = restored.mark.filter(|highest| highest.slot > tip.slot).or(Some(tip));
        // What was promised in earlier epochs is over, and in this one there was nothing to promise.
        let voters = self.epochs.configuration(tip.round.epoch).map(|configuration| &configuration.voters);
        if restored.started_after_rot && voters.is_some_and(|voters| !voters.contains(&self.me)) {
            restored.voter_after_rot = true;
        }
        self.marks.clear();
        self.believe(tip);
        let unmarked = std::mem::take(&mut restored.unmarked);
        if restored.lost.as_ref().is_some_and(|lack| self.is_lacking(lack)) {
            // The rest of the log is not to fill the memory: its batches stay on the disk.
            unmarked.iter().for_each(|batch| self.lanes.forget_bytes(batch));
            return Ok(());
        }
        self.lacks.clear();
        self.advance()?;
        self.deliver();
        let stuck = restored.rot && self.chain.decided.slot < tip.slot;
        restored.lost = self.lacks.pop().filter(|_| stuck).map(|(lack, _)| lack);
        Ok(())
    }

    fn is_lacking(&self, lack: &Lack) -> bool {
        match lack {
            Lack::Entry(slot, digest) => self.chain.candidate(*slot, digest).is_none(),
            Lack::Batches(batches) => batches.iter().any(|batch| self.lanes.held(batch).is_none()),
            Lack::Certificate(slot) => self.epochs.certificate_at(*slot).is_none(),
            Lack::Invalid(_) => false,
        }
    }

    fn restore_voter(&mut self, restored: &mut Restored, voter: Voter) {
        restored.incarnation = restored.incarnation.max(voter.incarnation);
        if restored.round.is_none_or(|(round, _)| round <= voter.round) {
            restored.round = Some((voter.round, voter.incarnation));
        }
        restored.voter_after_rot = true;
        self.views.claim = self.views.claim.max(voter.claim);
        // E1: what was voted in an epoch is no vote of a later one.
        self.views.votes.retain(|_, tip| tip.round.epoch == voter.round.epoch);
    }

    fn restore_vote(&mut self, restored: &mut Restored, voted: Voted) {
        restored.incarnation = restored.incarnation.max(voted.incarnation);
        restored.voter_after_rot = true;
        // A vote tells the round it was given in, also where rot took the record of entering it.
        if restored.round.is_none_or(|(round, _)| round < voted.tip.round) {
            restored.round = Some((voted.tip.round, voted.incarnation));
        }
        self.views.claim = Some(voted.tip);
        self.views.votes.insert(voted.tip.slot, voted.tip);
    }

    /// Records of at least one synced turn are lost here.
    pub fn restore_rot(&mut self, restored: &mut Restored) {
        restored.rot = true;
        restored.own_lane_rot = true;
        restored.voter_after_rot = false;
        restored.started_after_rot = false;
    }

    /// The log is read: raises the incarnation and takes part. The records that this hands out are to be durable before
    /// anything is sent (L2, L1).
    pub fn start(&mut self, mut restored: Restored, genesis: bytes::Bytes, now: Now) -> Result<(), Halt> {
        self.now = now;
        self.started = now.instant;
        self.views.leader_heard = now.instant;
        self.marked = self.chain.decided;
        self.believe_proofs(&mut restored);
        self.advance()?; // an earlier repair may stand behind the last mark
        self.deliver();
        self.lane.suspect = restored.own_lane_rot && self.sabotage.upholds(Rule::H1);
        self.views.durable_claim = self.views.claim.max(self.void_below(&restored));
        let decided = self.chain.decided;
        self.views
            .votes
            .retain(|slot, vote| *slot > decided.slot || (*slot == decided.slot && vote.round > decided.round));
        self.heads_at_start = self.chain.state.heads.clone();
        self.delivered_at_start = self.chain.delivered();
        if restored.rot {
            self.judge_rot(&restored)?;
        }
        if restored.records == 0 {
            self.out.record(Record::Genesis(genesis), Handed::Other);
        }
        self.incarnation = match self.sabotage.upholds(Rule::L2) {
            true => restored.incarnation.next(),
            false => restored.incarnation.max(Incarnation(1)),
        };
        let started = Started { incarnation: self.incarnation, nonce: self.nonce };
        self.out.record(Record::Incarnation(started), Handed::Other);
        if restored.rot {
            self.record_promise_again(&restored);
        }
        self.views.remembered = restored.round;
        let configuration = self.configuration.clone();
        self.act_in(configuration);
        if self.votes() {
            self.enter_epoch();
        }
        if self.repairing.is_none() {
            self.take_part();
        }
        Ok(())
    }

    /// While damage is repaired, marks of earlier epochs are logged behind what this voter promised last. Damage that took that
    /// record then would look as if it had promised nothing since. What it promised in epochs that have ended is void.
    fn record_promise_again(&mut self, restored: &Restored) {
        let newest = self.newest_told(restored);
        let Some((round, incarnation)) = restored.round.filter(|(round, _)| round.epoch == newest) else { return };
        let Some(configuration) = self.epochs.configuration(round.epoch).map(Configuration::digest) else { return };
        let voter = Voter { round, configuration, claim: self.views.claim_in(round.epoch), incarnation };
        self.out.record(Record::Voter(voter), Handed::Other);
    }

    /// E1: what this member voted in epochs that have ended promises nothing any more. Where damage took such votes, its hello
    /// says that it knows of everything below the newest epoch that its log tells of (rule I1): what it voted there, or later,
    /// is higher.
    fn void_below(&self, restored: &Restored) -> Claim {
        let epoch = self.newest_told(restored);
        let first = Tip { round: Round { epoch, view: View(0) }, slot: Slot(0), digest: Digest::ZERO };
        (restored.rot && epoch > Epoch(0)).then_some(first)
    }

    /// The newest epoch that the log tells of: by a proof, a mark, or what this voter promised.
    fn newest_told(&self, restored: &Restored) -> Epoch {
        let marked = restored.mark.map(|mark| mark.round.epoch);
        let promised = restored.round.map(|(round, _)| round.epoch);
        self.epochs.newest().epoch.max(marked.max(promised).unwrap_or_default())
    }

    /// E3: what proves the end of an epoch is a decided mark, too. The voter's record of the next epoch makes it forget its votes
    /// on that end: where the mark itself is lost, nothing else may tell of it.
    fn believe_proofs(&mut self, restored: &mut Restored) {
        let Some(proven) = self.epochs.base(self.epochs.newest().epoch) else { return };
        self.believe(proven);
        if restored.mark.is_none_or(|mark| mark.slot < proven.slot) {
            restored.mark = Some(proven);
        }
    }

    /// Rule Rot: what is lost must be at or below the durable decided mark, and the newest word of this voter must not
    /// be among it.
    fn judge_rot(&mut self, restored: &Restored) -> Result<(), Halt> {
        if !self.sabotage.upholds(Rule::Rot) {
            return Ok(());
        }
        let lost = |reason: String| Err(Halt::RotAboveDecided { reason });
        if !restored.voter_after_rot {
            return lost("the newest voter record may be among what is lost".to_owned());
        }
        let Some(mark) = restored.mark else { return lost("no decided mark is left".to_owned()) };
        // A claim of a lower round than the mark's is overtaken: of any q claims one is at or above the mark, so it is no
        // base any more, and its chain need not be here.
        if let Some(claim) = self.views.claim
            && claim.slot > mark.slot
            && claim.round >= mark.round
        {
            self.check_claimed_chain(claim, mark).or_else(lost)?;
        }
        if self.chain.decided.slot < mark.slot {
            self.repairing = Some(mark);
            self.believe(mark);
        }
        Ok(())
    }

    /// Every entry and batch of the claimed chain above the mark is here.
    fn check_claimed_chain(&self, claim: Tip, mark: Tip) -> Result<(), String> {
        let (mut slot, mut digest) = (claim.slot, claim.digest);
        while slot > mark.slot {
            let candidate = self.chain.candidate(slot, &digest).ok_or(format!("the entry of slot {slot} is lost"))?;
            if let Some(batch) = candidate.entry.batches().iter().find(|batch| self.lanes.held(batch).is_none()) {
                return Err(format!(
                    "payload of slot {slot} is lost: batch {} of {}",
                    batch.batch.number,
                    batch.origin.short()
                ));
            }
            (slot, digest) = (Slot(slot.0 - 1), candidate.parent);
        }
        if digest != mark.digest {
            return Err("the claimed chain does not extend the decided mark".to_owned());
        }
        Ok(())
    }

    /// The log is whole up to its decided mark: find what this member's lane resumes (H1), and offer what it had sealed.
    pub(crate) fn take_part(&mut self) {
        let (resumed, hole) = self.find_resumed();
        self.resumed = resumed;
        if hole || (self.lane.suspect && !self.everybody_told_our_end()) {
            self.lane.looks_for_hole = true;
            if !self.has_looked_for_hole() {
                return;
            }
            tracing::error!(
                after = %resumed.batch.number,
                incarnation = %resumed.batch.incarnation,
                "the log was damaged and not everybody told how far this member's lane went: what was accepted behind this \
                 batch, and nobody reachable has, is lost"
            );
        }
        self.lane.suspect = false;
        self.lane.looks_for_hole = false;
        self.out.ready.recall = self.lanes.forgotten();
        let head = self.lanes.head(&self.me);
        let me = self.me;
        let mut tail: Vec<_> = self.lanes.following(&me, head).map(|held| (held.reference(), held.size)).collect();
        tail.truncate(if self.sabotage.upholds(Rule::H1) { tail.len() } else { 0 });
        for (reference, size) in tail {
            let held = self.lanes.held(&reference);
            if held.and_then(|held| held.command.as_deref()) == Some(&Command::LeaveIntent) {
                self.resume_leaving();
            }
            self.lane.push(reference, size);
        }
    }

    /// Whether those who could have it were asked long enough for what is missing in this member's lanes.
    fn has_looked_for_hole(&mut self) -> bool {
        if !self.caught_up {
            return false;
        }
        self.now.instant >= *self.lane.hole_until.get_or_insert(self.now.instant + HOLE_PATIENCE)
    }

    /// Every other voter's status says that it holds nothing of this member's lanes beyond what is here.
    fn everybody_told_our_end(&self) -> bool {
        let told = |head: LaneHead| head.batch <= self.resumed.batch;
        self.peers.values().filter(|peer| peer.votes).all(|peer| peer.lane_head(&self.me).is_some_and(told))
    }

    /// Looks again whether peers filled the hole.
    pub(crate) fn look_at_hole(&mut self) {
        if self.lane.looks_for_hole {
            self.take_part();
        }
    }
}
