//! The state that members repeat until it is overtaken (rule V2), timers, readiness, and the snapshot for operators.

use std::collections::BTreeMap;
use std::time::Duration;

use super::membership::Member;
use super::model::FaultModel;
use super::peers::Peer;
use super::replica::Replica;
use crate::types::host::PeerSnapshot;
use crate::types::peer::Status;
use crate::types::statement::Vote;
use crate::types::{
    BatchRef, EpochSnapshot, Instant, MemberId, MemberSnapshot, MembershipSnapshot, PeerMessage, Readiness, Role, Slot,
    Snapshot, View,
};

/// Status interval while a gap is known or anything of V2 is outstanding.
const STATUS_BUSY: Duration = Duration::from_millis(100);
/// Status interval otherwise.
const STATUS_IDLE: Duration = Duration::from_secs(1);
/// A member this many slots behind what it knows to be decided is catching up, not ready.
const BEHIND_SLOTS: u64 = 64;

/// When to say what.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// Something that others wait for changed: a status goes out at once.
    pub changed: bool,
    /// When the driver was asked to come back.
    pub promised: Option<Instant>,
    /// When the leader was last told how far lanes are held here.
    pub told_leader: Option<Instant>,
    /// When undecided slots were proposed and voted for, to repeat them when they got old.
    pub proposed: BTreeMap<Slot, Instant>,
    pub voted: BTreeMap<Slot, Instant>,
    last_status: Instant,
    /// Records made when it was said: it leaves behind them.
    status_behind: u64,
    last_heartbeat: Option<Instant>,
    counter: u64,
}

impl<M: FaultModel> Replica<M> {
    /// Statuses and heartbeats that are due.
    pub(crate) fn exchange(&mut self) {
        if self.leads_round() {
            let due = self.schedule.last_heartbeat.is_none_or(|last| self.now.instant >= last + self.timing.heartbeat);
            if due {
                self.schedule.last_heartbeat = Some(self.now.instant);
                let (round, decided) = (self.views.round, self.chain.decided);
                let sync_micros = self.sync_slowest.as_micros() as u64;
                self.broadcast(PeerMessage::Heartbeat { round, decided, sync_micros }, true);
            }
        }
        if self.next_status().is_some_and(|due| due <= self.now.instant) {
            self.schedule.changed = false;
            self.schedule.status_behind = self.out.made();
            self.schedule.last_status = self.now.instant;
            self.schedule.told_leader = Some(self.now.instant);
            self.schedule.voted = self.schedule.voted.split_off(&self.chain.decided.slot.next());
            self.schedule.counter += 1;
            let status = self.envelope(PeerMessage::Status(self.status()));
            for to in self.due_to_be_told() {
                self.out.late(to, status.clone());
                self.repeat_state(to, false);
            }
        }
    }

    /// When the next status is due; none while the last one waits for the disk. Statuses are state (V2): where the disk
    /// stands still, or is full, one is enough, and the next says the newest.
    fn next_status(&self) -> Option<Instant> {
        if !self.out.has_left(self.schedule.status_behind) {
            return None;
        }
        let changed = self.schedule.changed.then_some(self.now.instant);
        Some(changed.unwrap_or(self.schedule.last_status + self.status_interval()))
    }

    /// Voters tell each other whenever there is something to tell; to and from others, who count nowhere, it is told often
    /// only while somebody waits for it.
    fn due_to_be_told(&mut self) -> Vec<MemberId> {
        let now = self.now.instant;
        let votes = self.votes();
        let aspires = !votes && (self.is_aspiring() || !self.lane.unordered.is_empty());
        let mut due = Vec::new();
        for (id, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.linked) {
            let waits = aspires || (votes && self.lanes.highest(id).is_some());
            let interval = if waits { STATUS_BUSY } else { STATUS_IDLE };
            if (votes && peer.votes) || peer.told.is_none_or(|told| now >= told + interval) {
                peer.told = Some(now);
                due.push(*id);
            }
        }
        due
    }

    /// A learner that may take a vote: the leader has to know how far it is (rule E6).
    fn is_aspiring(&self) -> bool {
        let state = &self.chain.state;
        state.membership.is_ready(&self.me, &state.heads) && state.membership.is_unsettled()
    }

    fn leads_round(&self) -> bool {
        self.leader() == self.me && self.views.is_settled() && self.repairing.is_none()
    }

    /// V2: a gap is known, or something is undecided.
    fn is_outstanding(&self) -> bool {
        let behind = self.marks.last_key_value().is_some_and(|(slot, _)| *slot > self.chain.decided.slot);
        let unsettled = self.views.round.view > View(0) && !self.views.bases.contains_key(&self.views.round);
        let decided = self.chain.decided.slot;
        let trails = |peer: &Peer| {
            peer.linked && peer.votes && peer.status.as_ref().is_some_and(|said| said.decided.slot < decided)
        };
        behind
            || (self.votes() && (self.peers.values().any(trails) || unsettled))
            || self.is_aspiring()
            || self.duties.leaving.is_some()
            || self.repairing.is_some()
            || self.views.entering.is_some()
            || self.views.complaint.is_some()
            || self.views.waiting_since.is_some()
            || self.views.end_due_since.is_some()
            || !self.views.votes.is_empty()
            || !self.lane.unordered.is_empty()
    }

    fn status_interval(&self) -> Duration {
        if self.is_outstanding() { STATUS_BUSY } else { STATUS_IDLE }
    }

    fn status(&self) -> Status {
        let durable = |member: &MemberId| self.lanes.contiguous(member, |held| held.logged.is_durable());
        let heads = &self.chain.state.heads;
        // A learner's word about other lanes is of no use to anybody.
        let told = heads.keys().filter(|member| self.votes() || **member == self.me);
        Status {
            incarnation: self.incarnation,
            counter: self.schedule.counter,
            round: self.views.round,
            complaint: self.views.complaint,
            decided: self.chain.decided,
            lanes: told.map(|member| (*member, durable(member))).collect(),
            links: self.peers.iter().filter(|(_, peer)| peer.linked).map(|(id, _)| *id).collect(),
            clock: self.now.wall,
            established: self.epochs.established,
        }
    }

    /// Claim, NewView, undecided proposals and votes, to one member. Unless `all`, only what is older than a status
    /// interval: the younger ones are probably on their way.
    pub(crate) fn repeat_state(&mut self, to: MemberId, all: bool) {
        if all {
            self.schedule.counter += 1;
            let status = self.status();
            self.send_late(to, PeerMessage::Status(status));
        }
        if !self.views.is_settled() || self.repairing.is_some() || !self.is_voter(&to) {
            return;
        }
        let round = self.views.round;
        let based = self.views.bases.get(&round).copied();
        if round.view > View(0) && based.is_none() && to == self.leader() {
            self.claim_to_leader();
        }
        if self.leader() == self.me && self.views.lead.is_some() {
            if let Some(base) = based {
                self.send_late(to, PeerMessage::NewView { round, base });
            }
            self.repeat_proposals(to, all);
        }
        let now = self.now.instant;
        let votes: Vec<_> = self.views.votes.values().copied().collect();
        for tip in votes {
            let old = self.schedule.voted.get(&tip.slot).is_none_or(|since| now >= *since + STATUS_BUSY);
            if all || old {
                let seal = self.seal_of(&tip);
                self.send_late(to, PeerMessage::Vote(Vote { phase: 0, tip, seal }));
            }
        }
    }

    fn repeat_proposals(&mut self, to: MemberId, all: bool) {
        let round = self.views.round;
        let from = (round, self.chain.decided.slot.next());
        let mine: Vec<_> = self
            .views
            .proposed
            .range(from..=(round, Slot(u64::MAX)))
            .map(|((_, slot), (digest, _))| (*slot, *digest))
            .collect();
        for (slot, digest) in mine {
            let old = self.schedule.proposed.get(&slot).is_none_or(|since| self.now.instant >= *since + STATUS_BUSY);
            if (all || old)
                && let Some(entry) = self.chain.chain_entry(slot, &digest)
            {
                self.send_late(to, PeerMessage::Proposal { round, entry });
            }
        }
    }

    pub(crate) fn handle_status(&mut self, from: MemberId, status: Status) {
        let (round, decided, clock) = (status.round, status.decided, status.clock);
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let newest = peer.status.as_ref().map(|known| (known.incarnation, known.counter));
        if newest.is_some_and(|newest| newest >= (status.incarnation, status.counter)) {
            return; // V2: the newest counts
        }
        let first = newest.is_none();
        let links_changed = peer.status.as_ref().is_none_or(|known| known.links != status.links);
        peer.sample_clock(clock, self.now.wall);
        let (votes, established) = (peer.votes, status.established);
        peer.status = Some(status);
        if votes && round.epoch == self.configuration.epoch {
            self.observe(from, round);
            self.heard_leader(from, round);
        }
        self.note_departed(&from, established);
        self.learn_mark(decided, from);
        self.note_acknowledged(&from);
        if first || links_changed {
            self.note_links(from);
        }
    }

    /// V5: the leader and another voter have no link: its batches go to the leader through us.
    fn note_links(&mut self, changed: MemberId) {
        let leader = self.leader();
        if leader == self.me || !self.votes() {
            return;
        }
        let cut: Vec<MemberId> = match changed == leader {
            true => self.voting_peers().filter(|other| *other != leader).collect(),
            false => vec![changed],
        };
        for origin in cut {
            if self.is_cut_off(&origin) {
                self.pass_lane_to_leader(origin);
            }
        }
    }

    fn voting_peers(&self) -> impl Iterator<Item = MemberId> {
        self.peers.iter().filter(|(_, peer)| peer.votes).map(|(id, _)| *id)
    }

    /// Whether by the statuses `member` has no link to the leader while both have one to us.
    pub(crate) fn is_cut_off(&self, member: &MemberId) -> bool {
        let leader = self.leader();
        let (Some(one), Some(other)) = (self.peers.get(member), self.peers.get(&leader)) else { return false };
        *member != leader
            && one.votes
            && one.linked
            && other.linked
            && (!one.links_to(&leader) || !other.links_to(member))
    }

    /// Whether it falls to us to feed a member that has no link to the leader: the first in leader order that can.
    pub(crate) fn feeds(&self, member: &MemberId) -> bool {
        let leader = self.leader();
        let able = |voter: &MemberId| {
            *voter != leader
                && voter != member
                && (*voter == self.me || self.peers.get(member).is_some_and(|peer| peer.links_to(voter)))
        };
        self.configuration.voters.iter().find(|voter| able(voter)) == Some(&self.me)
    }

    fn pass_lane_to_leader(&mut self, origin: MemberId) {
        let leader = self.leader();
        let after = self.peers[&leader].lane_head(&origin).unwrap_or_else(|| self.lanes.head(&origin));
        let batches: Vec<_> = self.lanes.following(&origin, after).filter_map(|held| held.batch()).collect();
        for batch in batches {
            self.counters.relayed += 1;
            self.send_early(leader, PeerMessage::Batch(batch));
        }
    }

    /// V5: a batch of a member that has no link to the leader goes on to the leader at once.
    pub(crate) fn relay(&mut self, from: MemberId, reference: &BatchRef) {
        let leader = self.leader();
        if leader == self.me || from != reference.origin || !self.is_cut_off(&reference.origin) {
            return;
        }
        if let Some(batch) = self.lanes.held(reference).and_then(|held| held.batch()) {
            self.counters.relayed += 1;
            self.send_early(leader, PeerMessage::Batch(batch));
        }
    }

    /// When [`Replica::ready`] wants to be called at the latest.
    pub fn next_timeout(&self) -> Instant {
        // A follower looks at its timers at least as often as heartbeats come: silence is noticed in time.
        let mut next = self.now.instant + self.timing.heartbeat;
        if self.leads_round() {
            next = next.min(self.schedule.last_heartbeat.map_or(self.now.instant, |last| last + self.timing.heartbeat));
        }
        let publishes = self.lane.next_deadline();
        let asks = self.fetches.next_due();
        let patient = self.out.next_due();
        let feeds = self.feeds.next_due(self.chain.delivered());
        let timers = self.next_status().into_iter().chain(publishes).chain(asks).chain(patient).chain(feeds);
        timers.fold(next, Instant::min)
    }

    /// How far this member's clock is ahead of the voters' median, in nanoseconds.
    pub(crate) fn clock_ahead_nanoseconds(&self) -> i64 {
        let mut ahead: Vec<i64> = self
            .peers
            .values()
            .filter(|peer| peer.linked && peer.votes)
            .filter_map(|peer| peer.clock_ahead())
            .collect();
        if ahead.len() + usize::from(self.votes()) < self.quorum {
            return 0;
        }
        if self.votes() {
            ahead.push(0);
        }
        ahead.sort_unstable();
        let middle = ahead.len() / 2;
        let median = if ahead.len() % 2 == 1 { ahead[middle] } else { (ahead[middle - 1] + ahead[middle]) / 2 };
        -median
    }

    /// This member's state for people.
    pub fn snapshot(&self) -> Snapshot {
        let slot_known = self.known_slot();
        let clock_offset_ms = self.clock_ahead_nanoseconds() / 1_000_000;
        Snapshot {
            cluster: self.configuration.cluster,
            member: self.me,
            incarnation: self.incarnation,
            nonce: self.nonce,
            role: match self.votes() {
                true if self.leader() == self.me => Role::Leader,
                true => Role::Follower,
                false => Role::Learner,
            },
            round: self.views.round,
            leader: self.leader(),
            decided: crate::types::Position(self.chain.state.next_position.0 - 1),
            delivered: self.chain.delivered_position(),
            slot_decided: self.chain.decided.slot,
            slot_known,
            lane_unordered: (self.lane.unordered.len() as u64, self.lane.unordered_bytes),
            intake: self.lane.intake(),
            sync_slowest: self.sync_slowest,
            clock_offset_ms,
            views_entered: self.counters.views_entered,
            misbehaviour: self.counters.misbehaviour,
            draining: self.draining,
            membership: self.described.clone(),
            waits_for: self.waits_for(),
            leaving: self.duties.leaving.is_some(),
            catching_up: self.catching_up(slot_known),
            readiness: self.readiness(slot_known, clock_offset_ms),
            peers: self
                .peers
                .iter()
                .map(|(id, peer)| PeerSnapshot {
                    member: *id,
                    linked: peer.linked,
                    incarnation: peer.incarnation,
                    silent: peer.heard.map(|heard| self.now.instant.since(heard)),
                    round: peer.status.as_ref().map(|status| status.round),
                    slot_decided: peer.decided.slot,
                    links: peer.status.as_ref().map(|status| status.links.clone()).unwrap_or_default(),
                })
                .collect(),
        }
    }

    /// The last slot anybody is known to have decided.
    pub(crate) fn known_slot(&self) -> Slot {
        let marked = self.marks.last_key_value().map_or(Slot(0), |(slot, _)| *slot);
        self.peers.values().map(|peer| peer.decided.slot).fold(marked.max(self.chain.decided.slot), Slot::max)
    }

    fn readiness(&self, slot_known: Slot, clock_offset_ms: i64) -> Readiness {
        let mut reasons = Vec::new();
        if let Some(mark) = self.repairing {
            reasons.push(format!("the log is damaged and is being repaired from peers up to slot {}", mark.slot));
        }
        let lacks_quorum = self.lacks_links();
        let behind = slot_known.0 - self.chain.delivered().0.min(slot_known.0);
        match lacks_quorum {
            Some(missing) => reasons.push(format!("no quorum: {missing}")),
            None if !self.caught_up && behind == 0 => {
                reasons.push("waiting to hear from a quorum how far the order is".to_owned());
            }
            None if behind > BEHIND_SLOTS || (!self.caught_up && behind > 0) => {
                let who = if self.votes() { "catching up" } else { "learner, catching up" };
                reasons.push(format!("{who}: {behind} slots behind, at {} of {}", self.chain.delivered(), slot_known));
            }
            None => {}
        }
        if let Some(gone) = self.gone() {
            reasons.push(gone.to_string());
        }
        if clock_offset_ms.unsigned_abs() > self.timing.clock_drift_max.as_millis() as u64 {
            reasons.push(format!("the clock is {clock_offset_ms} ms off the voters' median; set it right"));
        }
        if let Some(reason) = &self.disk_full {
            reasons.push(format!("disk_full: {reason}"));
        }
        if self.draining {
            reasons.push("draining".to_owned());
        }
        let led = self.views.is_settled() && self.views.complaint.is_none() && self.knows_leader();
        if self.votes() && !led {
            reasons.push("no leader: a view change is under way".to_owned());
        }
        if reasons.is_empty() { Readiness::Ready } else { Readiness::NotReady(reasons) }
    }

    /// Which voters are not linked, if those that are make no quorum.
    fn lacks_links(&self) -> Option<String> {
        // Whoever reads of old epochs still has those of the newest one to hear; the old ones may be gone.
        let newest = self.epochs.newest();
        let (voters, quorum) = match newest.epoch > self.configuration.epoch {
            true => (&newest.voters, self.quorum_of(newest)),
            false => (&self.configuration.voters, self.quorum),
        };
        let present = |voter: &&MemberId| **voter == self.me || self.linked(voter);
        let count = voters.iter().filter(present).count();
        if count >= quorum {
            return None;
        }
        let missing: Vec<String> =
            voters.iter().filter(|voter| !present(voter)).map(|voter| self.name(voter)).collect();
        let all = voters.len();
        Some(format!("{count} of {all} voters are reachable, {quorum} are needed; missing: {}", missing.join(", ")))
    }

    /// The agreed membership, for people.
    pub(crate) fn describe_membership(&self) -> MembershipSnapshot {
        let state = &self.chain.state;
        let membership = &state.membership;
        let member = |(id, known): (&MemberId, &Member)| MemberSnapshot {
            id: *id,
            name: known.name.clone(),
            addresses: known.addresses.clone(),
            votes: membership.votes(id),
            incarnation: self.lanes.head(id).batch.incarnation,
            since: known.since,
            joined: known.joined,
            ready: membership.is_ready(id, &state.heads),
            leaving: known.closed.map(|closed| closed.standing),
            suspected_by: membership.suspected_by(id).copied().collect(),
        };
        let epochs =
            self.epochs.iter().take_while(|(configuration, _)| configuration.epoch <= self.configuration.epoch);
        MembershipSnapshot {
            configuration: self.configuration.clone(),
            established: self.epochs.established,
            voters_target: membership.voters_target,
            members: membership.members.iter().map(member).collect(),
            former: membership.former.iter().map(|(id, standing)| (*id, *standing)).collect(),
            epochs: epochs
                .zip(&self.began)
                .map(|((configuration, proof), began)| EpochSnapshot {
                    configuration: configuration.clone(),
                    began: *began,
                    slot: proof.map_or(Slot(0), |link| link.certificate.tip.slot),
                    proof: proof.cloned(),
                })
                .collect(),
            invites: membership.invites.len() as u64,
        }
    }

    /// From where to where a member catches up, while it does: what it had at its start, and what it knows of.
    fn catching_up(&self, slot_known: Slot) -> Option<(Slot, Slot)> {
        (!self.caught_up).then_some((self.delivered_at_start, slot_known))
    }

    /// Latches once a quorum told how far the order is and this member has all of it.
    pub(crate) fn note_caught_up(&mut self) {
        let told = self.peers.values().filter(|peer| peer.votes && peer.status.is_some()).count();
        let told = told + usize::from(self.votes());
        if self.caught_up || told < self.quorum {
            return;
        }
        // What was known when a quorum had told: under load there is always something newer.
        let known = self.known_slot();
        if self.chain.delivered() >= *self.catch_up_goal.get_or_insert(known) {
            self.caught_up = true;
            self.doorway.changed = true; // from now on the order says where members are
        }
    }

    /// Whether the present round's base is known: it has a leader at work.
    fn knows_leader(&self) -> bool {
        self.views.round.view == View(0) || self.views.bases.contains_key(&self.views.round) || self.voted_in_round()
    }

    fn voted_in_round(&self) -> bool {
        self.views.claim.is_some_and(|tip| tip.round == self.views.round)
    }
}
