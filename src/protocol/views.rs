//! Views: entering them, complaining about them, leading them (rules L1, V1–V6).

use std::collections::BTreeMap;
use std::time::Duration;

use super::chain::{Derived, Lack};
use super::halt::Halt;
use super::model::FaultModel;
use super::ready::Handed;
use super::replica::Replica;
use crate::types::entry::EntryBody;
use crate::types::epoch::EpochEnd;
use crate::types::peer::ChainEntry;
use crate::types::record::Voter;
use crate::types::statement::{Claim, Round, Tip};
use crate::types::{
    BatchRef, Digest, Entry, Epoch, Hlc, Incarnation, Instant, MemberId, PeerMessage, Record, Rule, Slot, View, limits,
};

/// A leader waits this long for the payload of the highest base before it takes a lower one that q claims allow as well
/// (rule V6: it may change its choice until it sends NewView).
const BASE_PATIENCE: Duration = Duration::from_millis(200);
/// A wake-up this much later than asked for means that this process stood still (rule V4).
const PAUSE: Duration = Duration::from_millis(100);
/// `T_silence` is at least this many times the slowest recent sync of the leader (rule V4).
const SYNCS_PER_SILENCE: u32 = 4;
/// Rounds beyond this are no honest member's: it would have had to change its view every nanosecond.
const VIEW_MAX: u64 = 1 << 60;

/// The end of the chain that the leader of a round extends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lead {
    pub slot: Slot,
    pub digest: Digest,
}

#[derive(Debug)]
pub(crate) struct Views {
    /// The round of the durable voter record.
    pub round: Round,
    /// The record of a later epoch than the decided chain has reached here, while damage is repaired.
    pub remembered: Option<(Round, Incarnation)>,
    /// A record for a higher round is on its way to the disk.
    pub entering: Option<Round>,
    /// The incarnation in the durable record; none before the first.
    pub recorded: Option<Incarnation>,
    /// The highest vote handed to the log, and the highest one durable.
    pub claim: Claim,
    pub durable_claim: Claim,
    /// Own votes for slots that are not decided.
    pub votes: BTreeMap<Slot, Tip>,
    /// What was proposed in the present round or one being entered, and by whose word.
    pub proposed: BTreeMap<(Round, Slot), (Digest, MemberId)>,
    /// Bases of rounds, by their leaders.
    pub bases: BTreeMap<Round, Claim>,
    /// Claims for rounds that this member leads.
    pub claims: BTreeMap<(Round, MemberId), Claim>,
    pub lead: Option<Lead>,
    /// Since when the highest base is looked for.
    base_since: Option<Instant>,
    pub complaint: Option<View>,
    /// Views in a row that decided nothing.
    failures: u32,
    decided_something: bool,
    pub leader_heard: Instant,
    pub leader_sync: Duration,
    /// Since when an orderable batch waits while nothing is decided.
    pub waiting_since: Option<Instant>,
    /// Since when the end of the epoch is due, whatever else is decided.
    pub end_due_since: Option<Instant>,
}

impl Views {
    pub fn new(epoch: Epoch) -> Views {
        Views {
            round: Round { epoch, view: View(0) },
            remembered: None,
            entering: None,
            recorded: None,
            claim: None,
            durable_claim: None,
            votes: BTreeMap::new(),
            proposed: BTreeMap::new(),
            bases: BTreeMap::new(),
            claims: BTreeMap::new(),
            lead: None,
            base_since: None,
            complaint: None,
            failures: 0,
            decided_something: false,
            leader_heard: Instant(0),
            leader_sync: Duration::ZERO,
            waiting_since: None,
            end_due_since: None,
        }
    }

    /// E1: an epoch begins with no claim. What this voter said before is remembered (rule I1), and its votes of this epoch, if
    /// a start found them ahead of the decided chain.
    pub fn begin(&mut self, epoch: Epoch, now: Instant) {
        let before = std::mem::replace(self, Views::new(epoch));
        self.claim = before.claim;
        self.durable_claim = before.durable_claim;
        self.votes = before.votes.into_iter().filter(|(_, tip)| tip.round.epoch >= epoch).collect();
        self.leader_heard = now;
        match before.remembered {
            Some((round, incarnation)) if round.epoch == epoch => {
                (self.round, self.recorded) = (round, Some(incarnation));
            }
            later => self.remembered = later.filter(|(round, _)| round.epoch > epoch),
        }
    }

    /// The claim that may be stated in a round.
    pub fn claim_in(&self, epoch: Epoch) -> Claim {
        self.claim.filter(|tip| tip.round.epoch == epoch)
    }

    /// The record of the present round is durable, and none of a higher one is on its way.
    pub fn is_settled(&self) -> bool {
        self.entering.is_none() && self.recorded.is_some()
    }

    /// The round this member is in or on its way to.
    pub fn target(&self) -> Round {
        self.entering.unwrap_or(self.round)
    }

    /// Something was decided: the view is of use.
    pub fn note_decision(&mut self, slot: Slot) {
        self.failures = 0;
        self.decided_something = true;
        self.waiting_since = None;
        self.votes = self.votes.split_off(&slot.next());
        self.proposed.retain(|(_, at), _| *at > slot);
    }

    /// `base`, doubled for every view in a row that decided nothing.
    fn stretched(&self, base: Duration, most: Duration) -> Duration {
        base.saturating_mul(1 << self.failures.min(16)).min(most).max(base)
    }
}

impl<M: FaultModel> Replica<M> {
    /// Whether a voter can have come to this round.
    pub(crate) fn admits_round(&mut self, from: MemberId, round: Round) -> bool {
        let of_epoch = round.epoch == self.configuration.epoch || !self.sabotage.upholds(Rule::E1);
        let admitted = round.view.0 <= VIEW_MAX && of_epoch;
        if !admitted {
            self.misbehaved(from, "a view that nobody can have reached");
        }
        admitted
    }

    /// V1: one statement of a higher view by a voter opens it here; only q complaints, or the leader itself, opened it
    /// there. Returns whether the round is this member's now, or will be once its record is durable.
    pub(crate) fn observe(&mut self, from: MemberId, round: Round) -> bool {
        if !self.admits_round(from, round) {
            return false;
        }
        if !self.votes() {
            self.views.round = self.views.round.max(round); // for people, and to choose whom to ask
            return false;
        }
        if round > self.views.target() {
            self.enter(round);
        }
        round == self.views.target()
    }

    /// A round beyond any that honest members can have reached.
    pub(crate) fn is_beyond(&self, round: Round) -> bool {
        round.view.0 > VIEW_MAX
    }

    /// L1: entering a view is one durable record; nothing of that view leaves before it.
    pub(crate) fn enter(&mut self, round: Round) {
        let known = round <= self.views.target() && self.views.recorded.is_some();
        // A voter that was in a later epoch than the decided chain has reached says nothing until it is there again.
        let behind = self.views.remembered.is_some();
        if known || behind || self.repairing.is_some() || !self.votes() {
            return;
        }
        let claim = self.stated_claim(round);
        let voter = Voter { round, configuration: self.configuration_digest, claim, incarnation: self.incarnation };
        self.views.entering = Some(round);
        self.out.record(Record::Voter(voter), Handed::Voter(voter));
        if !self.sabotage.upholds(Rule::L1) {
            self.handle_entered(voter);
        }
    }

    /// E1: a claim of another epoch is none.
    fn stated_claim(&self, round: Round) -> Claim {
        if !self.sabotage.upholds(Rule::V6Claim) {
            return None;
        }
        if self.sabotage.upholds(Rule::E1) { self.views.claim_in(round.epoch) } else { self.views.claim }
    }

    /// The record of a round is durable.
    pub(crate) fn handle_entered(&mut self, voter: Voter) {
        if voter.round.epoch != self.configuration.epoch || !self.votes() {
            return; // the epoch has ended meanwhile
        }
        if self.views.recorded.is_some() && voter.round <= self.views.round {
            return;
        }
        let first = self.views.recorded.is_none();
        self.views.round = voter.round;
        self.views.recorded = Some(voter.incarnation);
        if self.views.entering == Some(voter.round) {
            self.views.entering = None;
        }
        if !first {
            self.counters.views_entered += 1;
            self.views.failures = if self.views.decided_something { 0 } else { self.views.failures + 1 };
        }
        let views = &mut self.views;
        views.decided_something = false;
        views.lead = None;
        views.base_since = None;
        views.complaint = None;
        views.leader_heard = self.now.instant;
        views.leader_sync = Duration::ZERO;
        views.waiting_since = None;
        views.end_due_since = None;
        let oldest = if self.sabotage.upholds(Rule::R6) { voter.round } else { Round::default() };
        views.proposed.retain(|(round, _), _| *round >= oldest);
        views.bases.retain(|round, _| *round >= voter.round);
        views.claims.retain(|(round, _), _| *round >= voter.round);
        self.schedule.changed = true;
        tracing::info!(round = %voter.round, leader = %self.leader().short(), "entered a view");
        if voter.round.view > View(0) {
            self.claim_to_leader();
        }
    }

    /// V2: the claim goes to the view's leader, now and until the view has its base.
    pub(crate) fn claim_to_leader(&mut self) {
        let (round, leader) = (self.views.round, self.leader());
        let claim = self.stated_claim(round);
        if leader == self.me {
            self.views.claims.insert((round, self.me), claim);
        } else {
            self.send_late(leader, PeerMessage::Claim { round, claim });
        }
    }

    pub(crate) fn handle_claim(&mut self, from: MemberId, round: Round, claim: Claim) {
        if !M::admissible(&claim, &M::Auth::default()) || self.configuration.leader(round.view) != self.me {
            self.misbehaved(from, "a claim for a view that somebody else leads");
        } else if !self.is_of_its_epoch(round, claim) {
            self.misbehaved(from, "a claim of another epoch");
        } else if self.observe(from, round) {
            self.views.claims.insert((round, from), claim);
        }
    }

    pub(crate) fn handle_new_view(&mut self, from: MemberId, round: Round, base: Claim) {
        if self.configuration.leader(round.view) != from {
            self.misbehaved(from, "a base of a view that somebody else leads");
        } else if !self.is_of_its_epoch(round, base) {
            self.misbehaved(from, "a base of another epoch");
        } else if self.observe(from, round) {
            self.views.bases.entry(round).or_insert(base);
            self.heard_leader(from, round);
        }
    }

    /// E1: what was voted in one epoch is neither claim nor base in another.
    fn is_of_its_epoch(&self, round: Round, claim: Claim) -> bool {
        claim.is_none_or(|tip| tip.round.epoch == round.epoch) || !self.sabotage.upholds(Rule::E1)
    }

    pub(crate) fn handle_heartbeat(&mut self, from: MemberId, round: Round, decided: Tip, sync: Duration) {
        self.observe(from, round);
        if self.configuration.leader(round.view) == from && round == self.views.round {
            self.heard_leader(from, round);
            self.views.leader_sync = sync;
        }
        self.learn_mark(decided, from);
    }

    pub(crate) fn heard_leader(&mut self, from: MemberId, round: Round) {
        if round == self.views.round && from == self.leader() {
            self.views.leader_heard = self.now.instant;
        }
    }

    /// V4: a member that stood still takes its queued inputs first and counts that time for nothing. It does not begin
    /// to count at 0: where every sync takes that long, nobody would ever complain.
    pub(crate) fn notice_pause(&mut self) {
        let Some(promised) = self.schedule.promised else { return };
        let now = self.now.instant;
        let stood_still = now.since(promised);
        if stood_still < PAUSE {
            return;
        }
        self.counters.pauses_noticed += 1;
        self.views.leader_heard = now.min(self.views.leader_heard + stood_still);
        self.views.waiting_since = self.views.waiting_since.map(|since| now.min(since + stood_still));
        self.views.end_due_since = self.views.end_due_since.map(|since| now.min(since + stood_still));
    }

    /// V1, V3, V4: complain or resign where there is reason; enter the next view on q complaints.
    pub(crate) fn judge(&mut self) {
        if !self.views.is_settled() || self.repairing.is_some() {
            return;
        }
        self.note_waiting();
        if self.leader() == self.me {
            self.judge_own_lead();
            return;
        }
        let complaint = self.reason_to_complain().map(|_| self.views.round.view);
        if complaint != self.views.complaint {
            match complaint {
                Some(_) => self.counters.complaints += 1,
                None => self.counters.complaints_withdrawn += 1,
            }
            self.views.complaint = complaint;
            self.schedule.changed = true;
        }
        let round = self.views.round;
        let others = self.peers.values().filter(|peer| peer.complains_about(round)).count();
        let all = others + usize::from(self.views.complaint.is_some());
        if all >= self.quorum || (all > 0 && !self.sabotage.upholds(Rule::V1)) {
            self.enter(round.next_view());
        }
    }

    /// The leader judges itself by the same rules, and follows a quorum that judges it.
    fn judge_own_lead(&mut self) {
        let round = self.views.round;
        let against = self.peers.values().filter(|peer| peer.complains_about(round)).count();
        if against >= self.quorum {
            self.enter(round.next_view());
        } else if self.may_resign()
            && let Some(reason) = self.reason_to_resign()
        {
            self.resign(reason);
        }
    }

    /// Where nobody can lead, views must not turn as fast as disks sync: after as many fruitless views as there are
    /// voters, a leader waits as long as its followers would.
    fn may_resign(&self) -> bool {
        let everybody_tried = self.views.failures as usize >= self.configuration.voters.len();
        !everybody_tried || self.now.instant.since(self.views.leader_heard) >= self.silence_allowed()
    }

    /// V4: since when a batch waits that could be ordered now, is durable here, and whose existence the leader was told; or
    /// the end of the epoch is due, and everybody is heard whom E6 wants heard.
    fn note_waiting(&mut self) {
        let waits = self.chain.state.heads.iter().any(|(member, head)| {
            let next = self.lanes.next_after(member, head);
            next.is_some_and(|held| held.logged.is_durable())
        });
        if !waits {
            self.views.waiting_since = None;
        } else if self.views.waiting_since.is_none() {
            self.views.waiting_since = Some(self.now.instant);
        }
        if !self.end_is_due() {
            self.views.end_due_since = None;
        } else if self.views.end_due_since.is_none() {
            self.views.end_due_since = Some(self.now.instant);
        }
    }

    fn stands_still(&self) -> bool {
        let patience = self.views.stretched(self.timing.order_timeout, self.timing.timeout_max);
        let offered =
            |since: Instant| self.leader() == self.me || self.schedule.told_leader.is_some_and(|told| told >= since);
        let since = [self.views.waiting_since, self.views.end_due_since];
        since.into_iter().flatten().any(|since| self.now.instant.since(since) >= patience && offered(since))
    }

    fn silence_allowed(&self) -> Duration {
        let silence = self.views.stretched(self.timing.leader_timeout, self.timing.timeout_max);
        silence.max(self.views.leader_sync.saturating_mul(SYNCS_PER_SILENCE))
    }

    /// V4, for a voter.
    fn reason_to_complain(&self) -> Option<&'static str> {
        let peer = &self.peers[&self.leader()];
        let fresh = self.now.instant < self.started + self.timing.start_grace;
        if !peer.linked && (peer.ever_linked || !fresh) {
            return Some("there is no link to the leader");
        }
        if !fresh && self.now.instant.since(self.views.leader_heard) >= self.silence_allowed() {
            return Some("the leader is silent");
        }
        self.stands_still().then_some("nothing is decided although a batch waits")
    }

    /// V3, and V4 for the leader itself.
    fn reason_to_resign(&mut self) -> Option<&'static str> {
        if self.views.recorded != Some(self.incarnation) && self.sabotage.upholds(Rule::L1) {
            self.counters.barred += 1;
            return Some("the view was entered before this start");
        }
        if self.alone() {
            return None;
        }
        if self.draining && self.lane.is_drained() {
            return Some("it is draining");
        }
        if self.disk_full.is_some() {
            return Some("its disk is full");
        }
        if self.clock_ahead_nanoseconds() > self.timing.clock_drift_max.as_nanos() as i64 {
            return Some("its clock is ahead of the voters' median");
        }
        self.stands_still().then_some("nothing is decided although a batch waits")
    }

    /// V3: the leader opens the next view itself; its statement of that view is the resignation.
    fn resign(&mut self, reason: &'static str) {
        self.counters.resignations += 1;
        tracing::info!(round = %self.views.round, reason, "resigned");
        self.enter(self.views.round.next_view());
    }

    /// The leader's part: fix the base, then propose.
    pub(crate) fn lead(&mut self) -> Result<(), Halt> {
        let may = self.views.is_settled()
            && self.leader() == self.me
            && (self.views.recorded == Some(self.incarnation) || !self.sabotage.upholds(Rule::L1))
            && self.repairing.is_none()
            && self.disk_full.is_none();
        if !may {
            return Ok(());
        }
        if self.views.lead.is_none() {
            self.fix_base()?;
        }
        while let Some(lead) = self.views.lead
            && self.propose(lead)
        {}
        Ok(())
    }

    /// V6: q claims, the highest of them held whole, then NewView.
    fn fix_base(&mut self) -> Result<(), Halt> {
        let round = self.views.round;
        if round.view == View(0) {
            // The epoch's own base: genesis, or the end of the epoch before. Nothing can be decided in this epoch yet.
            let (slot, digest) = (self.chain.decided.slot, self.chain.decided.digest);
            self.views.lead = Some(Lead { slot, digest });
            return Ok(());
        }
        let mut claims: Vec<(Claim, MemberId)> = self
            .views
            .claims
            .range((round, MemberId([0; 32]))..=(round, MemberId([255; 32])))
            .map(|(key, claim)| (*claim, key.1))
            .collect();
        if claims.len() < self.quorum {
            return Ok(());
        }
        claims.sort_unstable();
        check_claims(&claims)?;
        if !self.sabotage.upholds(Rule::V6Base) {
            claims.reverse();
        }
        // Any claim with q − 1 others at or below it is the maximum of some q claims.
        let usable: Vec<(Claim, MemberId)> = claims.split_off(self.quorum - 1).into_iter().rev().collect();
        let since = *self.views.base_since.get_or_insert(self.now.instant);
        let patient = self.now.instant.since(since) < BASE_PATIENCE;
        for (base, claimant) in usable {
            match self.base_held(base)? {
                None => return self.send_new_view(base),
                Some(lack) => {
                    let reachable = claimant == self.me || self.linked(&claimant);
                    self.lacks.push((lack, Some(claimant)));
                    if patient && reachable {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// What is missing of a base; none if it is held whole.
    fn base_held(&mut self, base: Claim) -> Result<Option<Lack>, Halt> {
        let Some(tip) = base else { return Ok(None) };
        if tip.slot <= self.chain.decided.slot {
            return Ok(None);
        }
        match self.chain.whole(tip.slot, &tip.digest, &self.lanes) {
            Ok(_) => Ok(None),
            Err(Lack::Invalid(_)) if self.sabotage.upholds(Rule::V6Base) => {
                Err(Halt::Diverged { said: tip, here: self.chain.decided })
            }
            Err(lack) => Ok(Some(lack)),
        }
    }

    fn send_new_view(&mut self, base: Claim) -> Result<(), Halt> {
        let round = self.views.round;
        let (slot, digest) = match base {
            Some(tip) if tip.slot >= self.chain.decided.slot => (tip.slot, tip.digest),
            _ => (self.chain.decided.slot, self.chain.decided.digest),
        };
        if self.chain.digest_at(slot).is_some_and(|decided| decided != digest) {
            return Err(Halt::Diverged { said: Tip { round, slot, digest }, here: self.chain.decided });
        }
        self.counters.new_views += 1;
        self.views.bases.insert(round, base);
        self.views.lead = Some(Lead { slot, digest });
        self.broadcast(PeerMessage::NewView { round, base }, false);
        Ok(())
    }

    /// Proposes the next slot, if the window is open and something can be ordered.
    fn propose(&mut self, lead: Lead) -> bool {
        if lead.slot < self.chain.decided.slot || lead.slot.0 >= self.chain.decided.slot.0 + limits::WINDOW_SLOTS {
            return false;
        }
        let Ok(path) = self.chain.path(lead.slot, &lead.digest) else { return false };
        let Ok(derived) = self.chain.derived(&path, &self.lanes) else { return false };
        let hlc = Hlc::after(derived.last_hlc, self.now.wall);
        let Some(body) = self.next_body(derived) else { return false };
        let entry = Entry { hlc, body };
        let bytes = entry.encode();
        let entry = ChainEntry { slot: lead.slot.next(), parent: lead.digest, entry: (entry, bytes) };
        let round = self.views.round;
        let Some(digest) = self.keep_entry(&entry) else { return false };
        self.views.proposed.insert((round, entry.slot), (digest, self.me));
        self.views.lead = Some(Lead { slot: entry.slot, digest });
        self.counters.proposals += 1;
        self.schedule.proposed.insert(entry.slot, self.now.instant);
        self.broadcast(PeerMessage::Proposal { round, entry }, true); // L1 lets it leave early
        true
    }

    /// What may be ordered next: the end of the epoch where it is due, batches otherwise.
    fn next_body(&self, derived: Derived) -> Option<EntryBody> {
        if derived.has_ended() && self.sabotage.upholds(Rule::R8) {
            return None; // R8: nothing follows the end of an epoch in it
        }
        if let Some(next) = self.due_end(&derived) {
            return Some(EntryBody::EpochEnd(EpochEnd { next }));
        }
        let batches = self.orderable(derived);
        (!batches.is_empty()).then_some(EntryBody::Batches(batches))
    }

    /// Batches that may follow here: one of each member in turn, so that no lane waits behind another.
    fn orderable(&self, mut derived: Derived) -> Vec<BatchRef> {
        let mut batches = Vec::new();
        let mut bytes = 0;
        let mut open: Vec<MemberId> = derived.heads.keys().copied().collect();
        while !open.is_empty() {
            let mut going = Vec::with_capacity(open.len());
            for member in open {
                let Some(head) = derived.heads.get(&member) else { continue };
                let next = self.lanes.next_after(&member, head).filter(|held| !held.is_withheld());
                let Some(next) = next else { continue };
                let full =
                    batches.len() == limits::ENTRY_BATCHES_MAX || bytes + next.size > limits::ENTRY_PAYLOAD_BYTES;
                if full && !batches.is_empty() {
                    return batches;
                }
                if derived.order(next, &self.sabotage).is_err() {
                    continue;
                }
                bytes += next.size;
                batches.push(next.reference());
                going.push(member);
            }
            open = going;
        }
        batches
    }
}

/// L1: two claims equal in round and slot name one chain.
fn check_claims(claims: &[(Claim, MemberId)]) -> Result<(), Halt> {
    for pair in claims.windows(2) {
        if let (Some(first), Some(second)) = (pair[0].0, pair[1].0)
            && (first.round, first.slot) == (second.round, second.slot)
            && first.digest != second.digest
        {
            return Err(Halt::TwoDigests { first, second });
        }
    }
    Ok(())
}
