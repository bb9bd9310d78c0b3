//! The replica: state, inputs (`step`, `handle_*`), and what it hands out (`ready`, `next_timeout`). Sans-IO: no clock,
//! disk, socket, thread, randomness or map-iteration order inside.

use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::ballots::Ballots;
use super::chain::{Chain, Lack};
use super::counters::Counters;
use super::door::Doorway;
use super::duties::Duties;
use super::epochs::Epochs;
use super::feeds::Feeds;
use super::fetching::Fetches;
use super::halt::Halt;
use super::lanes::{Admission, Lanes, Logged};
use super::membership::Membership;
use super::model::{Crash, FaultModel};
use super::peers::Peer;
use super::ready::{Handed, Haste, Output, Ready};
use super::sealing::OwnLane;
use super::status::Schedule;
use super::views::Views;
use bytes::Bytes;
use ed25519_dalek::SigningKey;

use crate::types::peer::{Envelope, Hello, Refusal};
use crate::types::settings::Timing;
use crate::types::statement::{Round, Tip};
use crate::types::{
    Batch, BatchId, BatchRef, Configuration, Contact, Delivered, Digest, Genesis, Incarnation, Input, Instant,
    LaneHead, Location, MemberId, MembershipSnapshot, Now, PeerMessage, Position, Record, Roster, Rule, Sabotage, Slot,
    Standing, StartNonce, limits,
};

/// Who this replica is and by which rules it runs.
#[derive(Clone, Debug)]
pub struct Identity {
    /// This member's key; its public half is the member's id.
    pub key: SigningKey,
    /// Drawn at this start.
    pub nonce: StartNonce,
    /// The group's first word.
    pub genesis: Genesis,
    /// Where this member's mesh can be reached now; none leaves what the order says of it.
    pub addresses: Vec<String>,
    /// Where members may be found, as a member told at the door; for one that has joined and does not know them yet.
    pub contacts: Vec<Contact>,
    /// Node-local timing.
    pub timing: Timing,
    /// Rules switched off; none but in test builds.
    pub sabotage: Sabotage,
}

/// One member's part in the ordering.
pub struct Replica<M: FaultModel = Crash> {
    pub(crate) me: MemberId,
    key: SigningKey,
    pub(crate) nonce: StartNonce,
    pub(crate) genesis: Genesis,
    /// Of the epoch this member acts in: the last one whose beginning is decided here.
    pub(crate) configuration: Configuration,
    pub(crate) configuration_digest: Digest,
    pub(crate) quorum: usize,
    pub(crate) timing: Timing,
    pub(crate) sabotage: Sabotage,
    pub(crate) incarnation: Incarnation,
    pub(crate) started: Instant,
    pub(crate) now: Now,
    pub(crate) chain: Chain,
    pub(crate) lanes: Lanes,
    pub(crate) ballots: Ballots,
    pub(crate) views: Views,
    pub(crate) epochs: Epochs,
    pub(crate) duties: Duties,
    pub(crate) feeds: Feeds,
    pub(crate) doorway: Doorway,
    /// Messages of the next epoch, kept until it begins here.
    early_birds: VecDeque<(MemberId, Envelope)>,
    pub(crate) peers: BTreeMap<MemberId, Peer>,
    pub(crate) lane: OwnLane,
    /// What this incarnation's first batch resumes (rule H1).
    pub(crate) resumed: LaneHead,
    /// Decided marks above the decided slot, believed.
    pub(crate) marks: BTreeMap<Slot, Tip>,
    /// A believed mark that is not of the chain decided here.
    pub(crate) contradiction: Option<Tip>,
    pub(crate) fetches: Fetches,
    pub(crate) lacks: Vec<(Lack, Option<MemberId>)>,
    pub(crate) schedule: Schedule,
    /// Rule Rot: damage below this mark is repaired before this member takes part.
    pub(crate) repairing: Option<Tip>,
    pub(crate) draining: bool,
    pub(crate) disk_full: Option<String>,
    pub(crate) marked: Tip,
    /// Lane heads as the log had them at the start: words that others have said before it (rule I1).
    pub(crate) heads_at_start: BTreeMap<MemberId, LaneHead>,
    /// The last slot that the log had whole at the start.
    pub(crate) delivered_at_start: Slot,
    /// The last slot that was known when a quorum had told how far the order is.
    pub(crate) catch_up_goal: Option<Slot>,
    /// Once true, small delays are no reason to be unready.
    pub(crate) caught_up: bool,
    told_hello: Option<Hello>,
    pub(crate) told_roster: Option<Roster>,
    /// The position at which each epoch began.
    pub(crate) began: Vec<Position>,
    /// For people; made anew when it changed.
    pub(crate) described: Arc<MembershipSnapshot>,
    pub(crate) sync_slowest: Duration,
    pub(crate) counters: Counters,
    pub(crate) out: Output,
    model: PhantomData<M>,
}

impl<M: FaultModel> Replica<M> {
    /// A replica with nothing in its log yet; [`Replica::restore`] replays what there is.
    pub fn new(identity: Identity) -> Replica<M> {
        let Identity { key, nonce, genesis, addresses, contacts, timing, sabotage } = identity;
        let member = MemberId(key.verifying_key().to_bytes());
        let configuration = genesis.configuration();
        let mut lanes = Lanes::new(&configuration.voters, sabotage.clone());
        lanes.open(member);
        let chain = Chain::new(Membership::new(&genesis), sabotage.clone());
        let mut replica = Replica {
            me: member,
            key,
            nonce,
            epochs: Epochs::new(&genesis),
            duties: Duties::new(addresses),
            feeds: Feeds::default(),
            doorway: Doorway::new(contacts),
            early_birds: VecDeque::new(),
            genesis,
            configuration_digest: configuration.digest(),
            quorum: 0,
            timing,
            incarnation: Incarnation(0),
            started: Instant(0),
            now: Now::default(),
            lanes,
            ballots: Ballots::new(sabotage.clone()),
            views: Views::new(configuration.epoch),
            peers: BTreeMap::new(),
            lane: OwnLane::default(),
            resumed: LaneHead::START,
            marks: BTreeMap::new(),
            contradiction: None,
            fetches: Fetches::default(),
            lacks: Vec::new(),
            schedule: Schedule::default(),
            repairing: None,
            draining: false,
            disk_full: None,
            marked: chain.decided,
            heads_at_start: BTreeMap::new(),
            delivered_at_start: Slot(0),
            catch_up_goal: None,
            caught_up: false,
            told_hello: None,
            told_roster: None,
            began: vec![Position(0)],
            described: Arc::new(MembershipSnapshot::of_genesis(configuration.clone())),
            sync_slowest: Duration::ZERO,
            counters: Counters::default(),
            out: Output::default(),
            model: PhantomData,
            chain,
            configuration,
            sabotage,
        };
        replica.quorum = replica.quorum_of(&replica.configuration);
        replica.meet();
        replica
    }

    /// Equal votes that decide in an epoch.
    pub(crate) fn quorum_of(&self, configuration: &Configuration) -> usize {
        let quorum = M::quorums(configuration.voters.len()).quorum;
        if self.sabotage.upholds(Rule::Quorum) { quorum } else { (quorum - 1).max(1) }
    }

    pub(crate) fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Whether this member votes in its epoch.
    pub(crate) fn votes(&self) -> bool {
        self.configuration.voters.contains(&self.me)
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The last decided slot, and the round it is known to be decided in.
    pub fn decided(&self) -> Tip {
        self.chain.decided
    }

    /// The round of the durable voter record.
    pub fn round(&self) -> Round {
        self.views.round
    }

    /// This start's number.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Whether this member leads its round: the base is fixed and it may propose.
    pub fn is_leading(&self) -> bool {
        self.views.lead.is_some() && self.views.is_settled()
    }

    /// Draining, and everything accepted is ordered and durable. Of one that has left all is ordered, also what it has not
    /// heard of.
    pub fn is_drained(&self) -> bool {
        let ordered = self.lane.is_drained() && self.chain.waiting.is_empty();
        let resigned = self.leader() != self.me || self.alone();
        self.draining && !self.out.is_pending() && (self.duties.left || (ordered && resigned))
    }

    /// Takes one input. Nothing leaves before [`Replica::ready`].
    pub fn step(&mut self, input: Input, now: Now) -> Result<(), Halt> {
        self.now = now;
        match input {
            Input::Publish(publish) => self.handle_publish(publish),
            Input::LinkUp { peer, hello } => self.handle_link_up(peer, hello),
            Input::LinkDown { peer } => self.handle_link_down(peer),
            Input::Refused { peer, reason } => return self.handle_refused(peer, reason),
            Input::Announced { from, epoch, link } => return self.handle_announced(from, epoch, link),
            Input::Received { peer, envelope } => return self.handle_received(peer, envelope),
            Input::Command { ticket, command, deadline } => self.handle_command(ticket, command, deadline),
            Input::Leave { ticket } => self.handle_leave(ticket),
            Input::Moved { addresses } => self.handle_moved(addresses),
            Input::Door { from, message } => return self.handle_door(from, message),
            Input::Drain => self.draining = true,
        }
        Ok(())
    }

    /// The log cannot grow: nothing new is sealed or voted for until it can.
    pub fn handle_disk_full(&mut self, reason: Option<String>) {
        self.disk_full = reason;
    }

    /// The oldest `locations.len()` records handed out are durable, at these places; the sync took so long.
    pub fn handle_durable(&mut self, locations: &[Location], sync: Duration, now: Now) -> Result<(), Halt> {
        self.now = now;
        // The slowest of the recent ones: it fades by an eighth with every sync.
        self.sync_slowest = sync.max(self.sync_slowest - self.sync_slowest / 8);
        for location in locations {
            match self.out.durable().expect("only what was handed out becomes durable") {
                Handed::Batch(reference) => self.batch_durable(&reference, *location),
                Handed::Entry(slot, digest) => self.chain.entry_durable(slot, &digest, *location),
                Handed::Voter(voter) => self.handle_entered(voter),
                Handed::Vote(tip) => self.handle_own_vote(tip),
                Handed::Mark | Handed::Other => {}
            }
        }
        Ok(())
    }

    /// The bytes of a batch that was to be read back from the log.
    pub fn handle_recalled(&mut self, batch: &BatchRef, bytes: Bytes) {
        self.lanes.remember(batch, bytes);
    }

    /// Everything to be done now, in the order of [`Ready`]'s fields.
    pub fn ready(&mut self, now: Now) -> Result<Ready, Halt> {
        self.now = now;
        self.lacks.clear();
        self.notice_pause();
        self.look_at_hole();
        self.advance()?;
        self.hear_early_birds()?;
        self.follow_decided_view();
        self.judge();
        self.attend_duties()?;
        self.seal();
        self.lead()?;
        self.vote()?;
        self.advance()?;
        self.deliver();
        self.note_caught_up();
        self.attend_door();
        self.meet();
        self.push_own();
        self.expire();
        self.exchange();
        self.fetch();
        self.feed_followers();
        self.hand_mark();
        self.judge_haste();
        self.out.release_patient(now.instant);
        self.renew_hello();
        self.schedule.promised = Some(self.next_timeout());
        Ok(std::mem::take(&mut self.out.ready))
    }

    /// V6: a decided slot of a higher view opens that view; while rot was being repaired it could not.
    fn follow_decided_view(&mut self) {
        let round = self.chain.decided.round;
        if self.repairing.is_none() && round.epoch == self.configuration.epoch && round > self.views.target() {
            self.enter(round);
        }
    }

    /// Hellos of new links say the newest: what is sealed and voted for is in them before it is sent.
    fn renew_hello(&mut self) {
        let hello = self.hello();
        if self.told_hello.as_ref() != Some(&hello) {
            self.told_hello = Some(hello.clone());
            self.out.ready.hello = Some(hello);
        }
    }

    /// Durable decided marks need no sync of their own: they ride on the next one.
    fn hand_mark(&mut self) {
        if !self.out.ready.records.is_empty() && self.chain.decided != self.marked {
            self.marked = self.chain.decided;
            self.out.record(Record::Decided(self.marked), Handed::Mark);
        }
    }

    /// Entries and votes wait for more of their kind only where that costs nobody a sync's time.
    fn judge_haste(&mut self) {
        if self.out.ready.haste == Haste::Gather && !self.may_gather() {
            self.out.hasten(Haste::Now);
        }
    }

    /// A follower that holds batches which no entry orders yet has their entries in a moment. The leader's vote is the one
    /// that all wait for.
    fn may_gather(&mut self) -> bool {
        if self.is_leading() || !self.votes() {
            return false;
        }
        let decided = self.chain.decided;
        let tip = self.views.claim.filter(|tip| tip.slot > decided.slot).unwrap_or(decided);
        let Ok(path) = self.chain.path(tip.slot, &tip.digest) else { return false };
        let Ok(derived) = self.chain.derived(&path, &self.lanes) else { return false };
        derived.heads.iter().any(|(member, head)| self.lanes.next_after(member, head).is_some())
    }

    /// The decided mark, if the log does not hold it yet: written at an orderly end, to save work at the next start.
    pub fn last_mark(&mut self) -> Option<Record> {
        let changed = self.chain.decided != self.marked;
        self.marked = self.chain.decided;
        changed.then_some(Record::Decided(self.marked))
    }

    /// What a replayed log holds as decided, to be delivered; the bytes stay in the log.
    pub fn replayed(&mut self) -> Vec<Delivered> {
        let mut delivered = std::mem::take(&mut self.out.ready.deliver);
        delivered.iter_mut().for_each(|batch| batch.bytes = None);
        delivered
    }

    /// Whom the mesh is to know from the start on.
    pub fn first_roster(&mut self) -> Option<Roster> {
        self.out.ready.roster.take()
    }

    /// The records of a start, which must be durable before the first turn (rules L1, L2).
    pub fn first_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.out.ready.records)
    }

    fn batch_durable(&mut self, reference: &BatchRef, location: Location) {
        self.lanes.mark(reference, Logged::Durable(location));
        self.chain.batch_durable(reference, location);
        if reference.origin == self.me && reference.batch.incarnation == self.incarnation {
            self.answer_accepted(reference.batch);
            if self.duties.leaving.is_some() {
                self.push_own(); // the LeaveIntent may leave now
            }
        }
    }

    fn handle_link_up(&mut self, id: MemberId, hello: Hello) {
        let lane_head = self.heads_at_start.get(&id).copied().unwrap_or(LaneHead::START);
        let Some(peer) = self.peers.get_mut(&id) else {
            let refusal = match self.chain.state.membership.standing(&id) {
                standing @ (Standing::Left | Standing::Removed) => Refusal::Departed { id, standing },
                _ => Refusal::NotAMember(id),
            };
            self.out.ready.refuse.push((id, hello.nonce, refusal));
            return;
        };
        if let Some(refusal) = judge_hello(&id, &hello, peer, lane_head) {
            if matches!(refusal, Refusal::TwoProcesses(_)) {
                peer.disputed = Some(hello.incarnation); // refused on both
                peer.linked = false;
                peer.status = None;
            }
            self.counters.refusals += 1;
            self.out.ready.refuse.push((id, hello.nonce, refusal));
            return;
        }
        peer.linked = true;
        peer.ever_linked = true;
        peer.incarnation = Some(hello.incarnation);
        peer.nonce = Some(hello.nonce);
        peer.highest_vote = peer.highest_vote.max(hello.highest_vote);
        peer.status = None;
        peer.heard = Some(self.now.instant);
        peer.forget_clock();
        peer.told = None;
        (peer.pushed, peer.acknowledged) = (self.lane.ordered_total, self.lane.ordered_total);
        if id == self.leader() {
            self.views.leader_heard = self.now.instant;
        }
        self.schedule.changed = true;
        self.fetches.handle_link_up(&id);
        self.tell_epochs(id, hello.epoch);
        self.out.forget(&id); // V2: it is told the present state
        self.repeat_state(id, true);
        self.learn_mark(hello.decided, id);
    }

    fn handle_link_down(&mut self, id: MemberId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.linked = false;
            peer.status = None; // Complaints of one who is not heard count no more.
            self.schedule.changed = true;
            self.doorway.changed = true;
        }
        self.feeds.handle_link_down(&id);
    }

    fn handle_refused(&mut self, peer: MemberId, reason: Refusal) -> Result<(), Halt> {
        // Whether a link is down is told by itself: what was refused may be another connection than the link.
        match reason {
            Refusal::StaleDisk { .. } | Refusal::TwoProcesses(_) => Err(Halt::RefusedAsStale { peer, refusal: reason }),
            Refusal::Departed { standing, .. } => self.handle_told_departed(peer, standing),
            Refusal::NotAMember(_) => {
                self.knock(peer); // one of the two does not know the newest epochs
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn handle_received(&mut self, from: MemberId, envelope: Envelope) -> Result<(), Halt> {
        let Some(peer) = self.peers.get_mut(&from).filter(|peer| peer.linked) else { return Ok(()) };
        peer.heard = Some(self.now.instant);
        let epoch = self.configuration.epoch;
        if envelope.epoch == epoch && envelope.configuration != self.configuration_digest {
            self.misbehaved(from, "a statement of another configuration of this epoch");
            return Ok(());
        }
        let present = envelope.epoch == epoch || !self.sabotage.upholds(Rule::E1);
        if envelope.message.is_of_epoch() && !(present && self.is_voter(&from)) {
            if envelope.epoch == epoch.next() {
                self.keep_early_bird(from, envelope);
            } else if present {
                self.misbehaved(from, "a statement of a voter, which it is not");
            }
            return Ok(()); // E1: inadmissible in any other epoch
        }
        match envelope.message {
            PeerMessage::Batch(batch) => self.handle_batch(from, batch),
            PeerMessage::Proposal { round, entry } => self.handle_proposal(from, round, &entry),
            PeerMessage::Vote(vote) => self.handle_vote(from, vote),
            PeerMessage::Claim { round, claim } => self.handle_claim(from, round, claim),
            PeerMessage::NewView { round, base } => self.handle_new_view(from, round, base),
            PeerMessage::Status(status) => self.handle_status(from, status),
            PeerMessage::Heartbeat { round, decided, sync_micros } => {
                self.handle_heartbeat(from, round, decided, Duration::from_micros(sync_micros));
            }
            PeerMessage::FetchBatches { decided, batches } => self.serve_batches(from, decided, &batches),
            PeerMessage::FetchLane { origin, after } => self.serve_lane(from, origin, after),
            PeerMessage::FetchChain { slot, digest, above } => self.serve_chain(from, slot, digest, above),
            PeerMessage::Chain(entries) => self.handle_chain(&entries),
            PeerMessage::FetchDecided { after, digest, through, waits } => {
                self.handle_fetch_decided(from, after, digest, through, waits);
            }
            PeerMessage::Decided { mark, slots } => return self.handle_decided(from, mark, slots),
            PeerMessage::Epochs { from: ends, links } => return self.learn_epochs(from, ends, links).map(drop),
        }
        Ok(())
    }

    /// What voters of the next epoch say before it begins here would have to be said again.
    fn keep_early_bird(&mut self, from: MemberId, envelope: Envelope) {
        if self.early_birds.len() == limits::NEXT_EPOCH_MESSAGES {
            self.early_birds.pop_front();
        }
        self.early_birds.push_back((from, envelope));
    }

    /// An epoch has begun here: whoever was ahead is heard now.
    fn hear_early_birds(&mut self) -> Result<(), Halt> {
        let heard = |(_, envelope): &(MemberId, Envelope)| envelope.epoch <= self.configuration.epoch;
        if !self.early_birds.front().is_some_and(heard) {
            return Ok(());
        }
        for (from, envelope) in std::mem::take(&mut self.early_birds) {
            self.handle_received(from, envelope)?;
        }
        Ok(())
    }

    /// A batch, from its origin or any holder.
    pub(crate) fn handle_batch(&mut self, from: MemberId, batch: Batch) {
        let reference = batch.reference();
        let wanted = self.fetches.wants(&reference);
        let own = reference.origin == self.me;
        let membership = &self.chain.state.membership;
        let arriving = membership.standing(&reference.origin) == Standing::Stranger;
        if arriving && (wanted || own || self.peers.contains_key(&reference.origin)) {
            self.lanes.open(reference.origin); // it has joined on a chain that is not decided here yet
        }
        match self.lanes.admit(batch, Logged::No, wanted) {
            Admission::Kept => {
                if own {
                    self.counters.own_batches_from_others += 1;
                }
                if self.disk_full.is_none() {
                    self.log_batch(&reference);
                }
                self.relay(from, &reference);
            }
            Admission::OverCredit => self.counters.batches_over_credit += 1,
            Admission::Stranger => self.misbehaved(from, "a batch whose origin is no member"),
            Admission::Known | Admission::Past => {}
        }
    }

    /// The leader of the round of the durable record.
    pub(crate) fn leader(&self) -> MemberId {
        self.configuration.leader(self.views.round.view)
    }

    /// A group of one.
    pub(crate) fn alone(&self) -> bool {
        self.configuration.voters.len() == 1
    }

    pub(crate) fn linked(&self, member: &MemberId) -> bool {
        self.peers.get(member).is_some_and(|peer| peer.linked)
    }

    /// The peer broke a rule; what it said is dropped and counted.
    pub(crate) fn misbehaved(&mut self, peer: MemberId, what: &'static str) {
        self.counters.misbehaviour += 1;
        tracing::debug!(peer = %peer.short(), what, "a peer broke a rule; dropped");
    }

    pub(crate) fn envelope(&self, message: PeerMessage) -> Arc<Envelope> {
        Arc::new(Envelope { epoch: self.configuration.epoch, configuration: self.configuration_digest, message })
    }

    pub(crate) fn send_early(&mut self, to: MemberId, message: PeerMessage) {
        if self.linked(&to) {
            let envelope = self.envelope(message);
            self.out.early(to, envelope);
        }
    }

    pub(crate) fn send_late(&mut self, to: MemberId, message: PeerMessage) {
        if self.linked(&to) {
            let envelope = self.envelope(message);
            self.out.late(to, envelope);
        }
    }

    /// Whether this member votes in the present epoch.
    pub(crate) fn is_voter(&self, member: &MemberId) -> bool {
        self.peers.get(member).is_some_and(|peer| peer.votes)
    }

    pub(crate) fn linked_voters(&self) -> Vec<MemberId> {
        self.peers.iter().filter(|(_, peer)| peer.linked && peer.votes).map(|(id, _)| *id).collect()
    }

    /// To every linked voter, one encoding for all.
    pub(crate) fn broadcast(&mut self, message: PeerMessage, early: bool) {
        let envelope = self.envelope(message);
        for to in self.linked_voters() {
            if early {
                self.out.early(to, envelope.clone());
            } else {
                self.out.late(to, envelope.clone());
            }
        }
    }

    /// What the hello of new links says.
    pub fn hello(&self) -> Hello {
        Hello {
            version: limits::PROTOCOL_VERSION,
            cluster: self.configuration.cluster,
            epoch: self.configuration.epoch,
            configuration: self.configuration_digest,
            incarnation: self.incarnation,
            nonce: self.nonce,
            highest_vote: self.views.durable_claim,
            decided: self.chain.decided,
            sealed: LaneHead {
                batch: BatchId { incarnation: self.incarnation, number: self.lane.sealed_number() },
                digest: self.lane.parent,
            },
        }
    }
}

/// Whether what a member says to have sealed is below, or beside, what others have of the same lane.
fn below(sealed: &LaneHead, known: &LaneHead) -> bool {
    sealed.batch < known.batch || (sealed.batch == known.batch && sealed.digest != known.digest)
}

/// Rule I1: whether a hello is below what this identity has said before. Two processes that come at the same time meet
/// earlier, in `net/choice.rs` (`between`), which knows nothing but the two hellos.
fn judge_hello(id: &MemberId, hello: &Hello, peer: &Peer, lane_head: LaneHead) -> Option<Refusal> {
    if peer.disputed == Some(hello.incarnation) {
        return Some(Refusal::TwoProcesses(*id));
    }
    if peer.incarnation == Some(hello.incarnation) && peer.nonce == Some(hello.nonce) {
        return None; // the process we know; votes may have overtaken this hello on another link
    }
    let known = peer.incarnation.unwrap_or_default().max(lane_head.batch.incarnation);
    if hello.incarnation < known {
        return Some(Refusal::StaleDisk {
            says: format!("incarnation {}", hello.incarnation),
            said: format!("incarnation {known}"),
        });
    }
    if peer.nonce.is_none() && below(&hello.sealed, &lane_head) {
        return Some(Refusal::StaleDisk {
            says: format!("that it sealed batch {} of incarnation {known}", hello.sealed.batch.number),
            said: format!("batch {} with digest {}", lane_head.batch.number, lane_head.digest.short()),
        });
    }
    let again = peer.incarnation == Some(hello.incarnation);
    // An old copy that is started as often as the original was has its incarnation too. Only while the other process is
    // heard are there two of them.
    if hello.highest_vote < peer.highest_vote && !(again && peer.linked) {
        let text = |vote: Option<Tip>| vote.map_or("that it never voted".to_owned(), |tip| format!("vote {tip}"));
        return Some(Refusal::StaleDisk { says: text(hello.highest_vote), said: text(peer.highest_vote) });
    }
    if again {
        return Some(Refusal::TwoProcesses(*id));
    }
    None
}
