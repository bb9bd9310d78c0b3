//! One replica whose disk is as fast as its test wants, and peers whose words are made by hand.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::types::host::{Publish, Rejection};
use crate::types::peer::{ChainEntry, DecidedSlot, Envelope, Status};
use crate::types::record::{EntryRecord, Started, Voted};
use crate::types::{
    Ack, Batch, BatchHeader, BatchId, BatchNumber, ClusterLimits, Command, Contact, Digest, Entry, EntryBody, Epoch,
    FaultModelKind, Genesis, GenesisMember, Hello, Hlc, Incarnation, Input, Instant, LaneHead, Location, MemberId,
    Message, MessageKind, MessageNumber, Now, Outcome, PeerMessage, Record, Round, Sabotage, Slot, StartNonce, Ticket,
    Timing, Tip, View, WallTime, chain_digest,
};

const LEADER: MemberId = MemberId([1; 32]);
const OTHER: MemberId = MemberId([2; 32]);
/// The public half of [`key`].
const ME: MemberId = MemberId([
    0xed, 0x49, 0x28, 0xc6, 0x28, 0xd1, 0xc2, 0xc6, 0xea, 0xe9, 0x03, 0x38, 0x90, 0x59, 0x95, 0x61, 0x29, 0x59, 0x27,
    0x3a, 0x5c, 0x63, 0xf9, 0x36, 0x36, 0xc1, 0x46, 0x14, 0xac, 0x87, 0x37, 0xd1,
]);
const SYNC: Duration = Duration::from_millis(1);

fn genesis() -> Genesis {
    let members = [LEADER, OTHER, ME].into_iter().enumerate();
    Genesis {
        name: "test".to_owned(),
        nonce: [0; 16],
        model: FaultModelKind::Crash,
        rules_version: 0,
        members: members
            .map(|(index, id)| GenesisMember { name: format!("n{}", index + 1), id, addresses: Vec::new() })
            .collect(),
        limits: ClusterLimits::default(),
        voters_target: 3,
    }
}

fn key() -> ed25519_dalek::SigningKey {
    ed25519_dalek::SigningKey::from_bytes(&[3; 32])
}

fn message() -> Message {
    Message { kind: MessageKind::Application, topic: "t".to_owned(), content_type: None, body: Bytes::from("x") }
}

/// A lane and a chain that orders it, one batch in a slot.
struct Order {
    origin: MemberId,
    parent: Digest,
    chain: Digest,
    slots: u64,
}

impl Order {
    fn of(origin: MemberId) -> Order {
        Order { origin, parent: Digest::ZERO, chain: genesis().configuration().cluster, slots: 0 }
    }

    fn batch(&mut self, message: Message) -> Batch {
        let number = self.slots + 1;
        let header = BatchHeader {
            origin: self.origin,
            incarnation: Incarnation(1),
            number: BatchNumber(number),
            first: MessageNumber(number),
            count: 1,
            parent: self.parent,
            resumes: (number == 1).then(BatchId::default),
        };
        let batch = Batch::seal(header, vec![message]);
        self.parent = batch.digest;
        batch
    }

    /// The next batch and the slot that orders it.
    fn next(&mut self) -> DecidedSlot {
        self.next_of(message())
    }

    fn next_of(&mut self, message: Message) -> DecidedSlot {
        let batch = self.batch(message);
        self.slots += 1;
        let slot = Slot(self.slots);
        let entry = Entry { hlc: Hlc(self.slots * 1000), body: EntryBody::Batches(vec![batch.reference()]) };
        let bytes = entry.encode();
        let parent = self.chain;
        self.chain = chain_digest(&genesis().configuration().cluster, &parent, slot, &bytes);
        DecidedSlot {
            entry: ChainEntry { slot, parent, entry: (entry, bytes) },
            batches: vec![batch],
            certificate: None,
        }
    }

    fn tip(&self, view: u64) -> Tip {
        let round = Round { epoch: Epoch(0), view: View(view) };
        Tip { round, slot: Slot(self.slots), digest: self.chain }
    }
}

fn replica() -> Replica<Crash> {
    replica_that_knows(Vec::new())
}

fn replica_that_knows(contacts: Vec<Contact>) -> Replica<Crash> {
    Replica::new(Identity {
        key: key(),
        nonce: StartNonce(7),
        genesis: genesis(),
        addresses: Vec::new(),
        contacts,
        timing: Timing::default(),
        sabotage: Sabotage::NONE,
    })
}

/// A replica that runs.
struct Bench {
    replica: Replica<Crash>,
    now: u64,
    offset: u32,
}

impl Bench {
    /// A first start, with links to both others.
    fn new() -> Bench {
        Bench::of(replica())
    }

    fn of(replica: Replica<Crash>) -> Bench {
        let mut bench = Bench { replica, now: 1_000_000_000, offset: 0 };
        let now = bench.now();
        bench.replica.start(Restored::default(), genesis().encode(), now).unwrap();
        let records = bench.replica.first_records();
        bench.sync(records.len());
        [LEADER, OTHER].into_iter().for_each(|peer| bench.link(peer));
        bench
    }

    fn now(&self) -> Now {
        Now { instant: Instant(self.now), wall: WallTime(self.now) }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time.as_nanos() as u64;
    }

    fn sync(&mut self, records: usize) {
        let locations: Vec<Location> = (0..records).map(|_| self.place()).collect();
        let now = self.now();
        self.replica.handle_durable(&locations, SYNC, now).unwrap();
    }

    fn place(&mut self) -> Location {
        self.offset += 100;
        Location { segment: 1, offset: self.offset, length: 100 }
    }

    fn link(&mut self, peer: MemberId) {
        let hello = Hello {
            incarnation: Incarnation(1),
            nonce: StartNonce(u64::from(peer.0[0])),
            highest_vote: None,
            sealed: LaneHead::START,
            ..self.replica.hello()
        };
        self.step(Input::LinkUp { peer, hello });
    }

    fn step(&mut self, input: Input) {
        let now = self.now();
        self.replica.step(input, now).unwrap();
    }

    fn hear(&mut self, peer: MemberId, message: PeerMessage) {
        let configuration = genesis().configuration().digest();
        self.step(Input::Received { peer, envelope: Envelope { epoch: Epoch(0), configuration, message } });
    }

    fn hear_mark(&mut self, mark: Tip) {
        let round = Round { epoch: Epoch(0), view: View(0) };
        self.hear(LEADER, PeerMessage::Heartbeat { round, decided: mark, sync_micros: 0 });
    }

    /// A turn of a fast disk.
    fn turn(&mut self) -> Ready {
        let now = self.now();
        let ready = self.replica.ready(now).unwrap();
        self.sync(ready.records.len());
        ready
    }

    /// Lets the leader tell of decided slots.
    fn decide(&mut self, order: &mut Order, slots: usize) {
        let slots = (0..slots).map(|_| order.next()).collect();
        self.hear_decided(order, slots);
    }

    /// Lets the leader tell that this command is ordered.
    fn decide_command(&mut self, order: &mut Order, command: &Command) {
        let slot = order.next_of(command.message());
        self.hear_decided(order, vec![slot]);
    }

    fn hear_decided(&mut self, order: &Order, slots: Vec<DecidedSlot>) {
        self.hear(LEADER, PeerMessage::Decided { mark: order.tip(0), slots });
        self.turn();
    }

    /// Lets both others say how far they are.
    fn hear_statuses(&mut self, decided: Tip) {
        for peer in [LEADER, OTHER] {
            let status = Status {
                incarnation: Incarnation(1),
                counter: 1,
                round: Round::default(),
                complaint: None,
                decided,
                lanes: Vec::new(),
                links: vec![ME],
                clock: WallTime(0),
                established: Epoch(0),
            };
            self.hear(peer, PeerMessage::Status(status));
        }
    }

    /// Whether this replica knows of a link to that member; none if it does not know the member.
    fn link_to(&self, member: MemberId) -> Option<bool> {
        let peers = self.replica.snapshot().peers;
        peers.iter().find(|peer| peer.member == member).map(|peer| peer.linked)
    }
}

#[test]
fn a_mark_of_a_view_that_nobody_can_have_reached_is_not_believed() {
    let mut bench = Bench::new();
    let mut order = Order::of(OTHER);
    bench.decide(&mut order, 1);
    assert_eq!(bench.replica.decided().slot, Slot(1));
    bench.hear_mark(order.tip(u64::MAX));
    let slot = order.next();
    bench.hear(OTHER, PeerMessage::Decided { mark: order.tip(u64::MAX), slots: vec![slot] });
    bench.hear(OTHER, PeerMessage::Vote(crate::types::Vote { phase: 0, tip: order.tip(u64::MAX), seal: None }));
    bench.turn();
    assert_eq!(bench.replica.round().view, View(0));
    assert_eq!((bench.replica.decided().slot, bench.replica.decided().round.view), (Slot(1), View(0)));
    assert_eq!(bench.replica.peers[&OTHER].highest_vote, None);
    assert!(bench.replica.counters().misbehaviour >= 3);
}

#[test]
fn a_mark_that_is_not_of_the_decided_chain_stops_the_process() {
    let mut bench = Bench::new();
    let mut order = Order::of(OTHER);
    bench.decide(&mut order, 1);
    let first = order.tip(0);
    bench.decide(&mut order, 1);
    bench.hear_mark(first);
    bench.turn();
    bench.hear_mark(Tip { digest: Digest::of("test", b"elsewhere"), ..first });
    let now = bench.now();
    assert!(matches!(bench.replica.ready(now), Err(Halt::Diverged { .. })));
}

/// Rule V4: syncs that each outlast a promised wake-up are no reason to wait for a silent leader for ever.
#[test]
fn a_voter_with_a_slow_disk_complains_about_a_silent_leader() {
    let mut bench = Bench::new();
    for _ in 0..50 {
        bench.turn();
        bench.pass(Duration::from_millis(200));
    }
    assert_eq!(bench.replica.views.complaint, Some(View(0)));
}

#[test]
fn standing_still_for_long_is_no_silence_of_the_leader() {
    let mut bench = Bench::new();
    for _ in 0..50 {
        bench.turn();
        bench.pass(Duration::from_millis(40));
        bench.hear_mark(Order::of(OTHER).tip(0));
    }
    bench.turn();
    bench.pass(Duration::from_secs(60));
    bench.turn();
    assert_eq!(bench.replica.views.complaint, None);
}

#[test]
fn who_hears_of_decisions_it_cannot_take_does_not_complain_that_nothing_is_decided() {
    let mut bench = Bench::new();
    let mut order = Order::of(OTHER);
    let batch = order.next().batches.remove(0);
    bench.hear(OTHER, PeerMessage::Batch(batch));
    bench.turn();
    bench.replica.handle_disk_full(Some("full".to_owned()));
    for _ in 0..100 {
        order.next();
        bench.hear_mark(order.tip(0));
        bench.turn();
        bench.pass(Duration::from_millis(50));
    }
    assert_eq!(bench.replica.views.complaint, None);
    for _ in 0..100 {
        bench.hear_mark(order.tip(0));
        bench.turn();
        bench.pass(Duration::from_millis(50));
    }
    assert_eq!(bench.replica.views.complaint, Some(View(0)));
}

/// Statuses are state: while the disk stands still one of them waits for it, not one for every interval.
#[test]
fn one_status_waits_for_a_disk_that_stands_still() {
    let mut bench = Bench::new();
    bench.hear_statuses(Order::of(OTHER).tip(0));
    let mut records = 0;
    for _ in 0..1000 {
        let now = bench.now();
        records += bench.replica.ready(now).unwrap().records.len();
        assert!(bench.replica.next_timeout() > now.instant, "it does not go round without a pause");
        bench.pass(Duration::from_millis(100));
    }
    bench.sync(records);
    let late = bench.turn().late.len();
    assert!((1..20).contains(&late), "{late} messages waited");
}

#[test]
fn a_publish_whose_time_was_up_before_it_was_sealed_is_rejected() {
    let mut bench = Bench::new();
    let publish = Publish { ticket: Ticket(1), ack: Ack::Ordered, message: message(), deadline: Instant(bench.now) };
    bench.pass(Duration::from_secs(1));
    bench.step(Input::Publish(publish));
    let outcomes = bench.turn().outcomes;
    assert!(
        matches!(outcomes[..], [(Ticket(1), Outcome::Rejected(Rejection::TimedOut { .. }))]),
        "the only answer is that nothing became of it: {outcomes:?}"
    );
    assert_eq!(bench.replica.snapshot().intake, (0, 0));
}

/// The mesh takes only the newest roster: where a member went and came back meanwhile, it keeps the link and says nothing.
#[test]
fn a_link_outlives_rosters_that_do_not_name_its_member() {
    const NEW: MemberId = MemberId([4; 32]);
    let contact = Contact { id: NEW, name: "n4".to_owned(), addresses: Vec::new() };
    let mut bench = Bench::of(replica_that_knows(vec![contact]));
    let named = |ready: Ready| ready.roster.map(|roster| roster.members.iter().any(|member| member.id == NEW));
    bench.link(NEW);
    assert_eq!(bench.link_to(NEW), Some(true), "it is known by what a door told");
    bench.hear_statuses(Order::of(OTHER).tip(0));
    assert_eq!(named(bench.turn()), Some(false), "the order, which is known now, does not name it");
    let secret = Digest::ZERO;
    let mut order = Order::of(OTHER);
    bench.decide_command(&mut order, &Command::Invite { secret, expires: WallTime(9) });
    assert_eq!(bench.link_to(NEW), Some(true), "its link is not known to be down");
    let name = "n4".to_owned();
    let joins = Command::JoinIntent { member: NEW, name, addresses: Vec::new(), invite: secret };
    bench.decide_command(&mut order, &joins);
    assert_eq!(bench.link_to(NEW), Some(true), "and it is a member now");
    let goes = Command::RemoveIntent { member: NEW };
    bench.decide_command(&mut order, &goes);
    bench.step(Input::LinkDown { peer: NEW });
    bench.turn();
    assert_eq!(bench.link_to(NEW), None, "it is gone with its link");
}

/// What stands in a log, as it is read back.
struct Reading {
    replica: Replica<Crash>,
    restored: Restored,
    offset: u32,
}

impl Reading {
    fn new() -> Reading {
        Reading { replica: replica(), restored: Restored::default(), offset: 0 }
    }

    fn record(&mut self, record: Record) {
        self.offset += 100;
        let location = Location { segment: 1, offset: self.offset, length: 100 };
        self.replica.restore(&mut self.restored, location, record).unwrap();
    }

    fn slot(&mut self, slot: &DecidedSlot) {
        slot.batches.iter().for_each(|batch| self.record(Record::Batch(batch.bytes.clone())));
        let ChainEntry { slot, parent, entry: (_, entry) } = slot.entry.clone();
        self.record(Record::Entry(EntryRecord { slot, parent, entry }));
    }

    fn vote(&mut self, tip: Tip) {
        self.record(Record::Vote(Voted { tip, incarnation: Incarnation(1) }));
    }

    fn mark(&mut self, tip: Tip) {
        self.vote(tip);
        self.record(Record::Decided(tip));
    }
}

/// A hole that was filled further back in the log holds nothing up from there on, and what stands between is not kept in
/// memory: not its payload, not even this member's own.
#[test]
fn behind_its_repair_a_damaged_log_is_read_as_any_other() {
    let mut reading = Reading::new();
    let mut order = Order::of(ME);
    reading.record(Record::Incarnation(Started { incarnation: Incarnation(1), nonce: StartNonce(1) }));
    let slots: Vec<(DecidedSlot, Tip)> = (0..5).map(|_| (order.next(), order.tip(0))).collect();
    let decided = |reading: &Reading| reading.replica.decided().slot;
    for (index, (slot, tip)) in slots.iter().enumerate() {
        match index {
            1 => reading.replica.restore_rot(&mut reading.restored),
            _ => reading.slot(slot),
        }
        reading.mark(*tip);
    }
    assert_eq!(decided(&reading), Slot(1));
    let third = slots[3].0.batches[0].reference();
    assert!(reading.replica.lanes.held(&third).is_some_and(|held| held.bytes.is_none()));
    reading.slot(&slots[1].0);
    reading.mark(slots[4].1);
    assert_eq!(decided(&reading), Slot(5));
    let sixth = order.next();
    reading.slot(&sixth);
    reading.mark(order.tip(0));
    assert_eq!(decided(&reading), Slot(6));
}

/// What was written while damage was being repaired ends in a lower mark than the one that the damage is below.
#[test]
fn a_start_in_the_middle_of_a_repair_goes_on_with_it() {
    let mut reading = Reading::new();
    let mut order = Order::of(OTHER);
    let slots: Vec<(DecidedSlot, Tip)> = (0..5).map(|_| (order.next(), order.tip(0))).collect();
    reading.record(Record::Incarnation(Started { incarnation: Incarnation(1), nonce: StartNonce(1) }));
    reading.slot(&slots[0].0);
    reading.mark(slots[0].1);
    reading.replica.restore_rot(&mut reading.restored); // slots 2 and 3
    reading.slot(&slots[3].0);
    reading.mark(slots[3].1);
    reading.slot(&slots[4].0);
    reading.vote(slots[4].1);
    reading.slot(&slots[1].0);
    reading.record(Record::Decided(slots[1].1));
    let Reading { mut replica, restored, .. } = reading;
    let now = Now { instant: Instant(1), wall: WallTime(1) };
    replica.start(restored, genesis().encode(), now).expect("what it promised is here or decided");
    assert_eq!(replica.decided().slot, Slot(2));
    assert_eq!(replica.repairing, Some(slots[3].1));
}

/// The records of what a voter promised last may be damaged later; marks that a repair writes behind them say nothing of it.
#[test]
fn what_a_voter_promised_is_logged_again_on_a_damaged_log() {
    let mut reading = Reading::new();
    let mut order = Order::of(OTHER);
    reading.record(Record::Incarnation(Started { incarnation: Incarnation(1), nonce: StartNonce(1) }));
    let slots: Vec<(DecidedSlot, Tip)> = (0..3).map(|_| (order.next(), order.tip(0))).collect();
    reading.replica.restore_rot(&mut reading.restored); // slot 1
    reading.slot(&slots[1].0);
    reading.mark(slots[1].1);
    reading.slot(&slots[2].0);
    reading.vote(slots[2].1);
    let Reading { mut replica, restored, .. } = reading;
    let now = Now { instant: Instant(1), wall: WallTime(1) };
    replica.start(restored, genesis().encode(), now).expect("what it promised is here or decided");
    let promise = |record: &Record| if let Record::Voter(voter) = record { Some(*voter) } else { None };
    let promises: Vec<_> = replica.first_records().iter().filter_map(promise).collect();
    let round = Round { epoch: Epoch(0), view: View(0) };
    let again = promises.iter().map(|voter| (voter.round, voter.claim, voter.incarnation)).collect::<Vec<_>>();
    assert_eq!(again, [(round, Some(slots[2].1), Incarnation(1))]);
}
