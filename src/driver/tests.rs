//! The driver with the real log over memory, and a loss-free outside that hands messages on at once.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::types::peer::{DecidedSlot, Envelope, Hello, Refusal};
use crate::types::{
    Ack, Batch, ClusterLimits, Command, Delivered, DoorMessage, Entry, Epoch, FaultModelKind, GenesisMember, MemberId,
    Message, MessageKind, Now, Outcome, PeerMessage, Position, Publish, Roster, Snapshot, Standing, Ticket, Told,
    WallTime, join_code::secret_digest,
};
use crate::wal::MemoryFiles;

#[derive(Default)]
struct Wires {
    queues: BTreeMap<MemberId, VecDeque<Input>>,
    hellos: BTreeMap<MemberId, Hello>,
    readers: BTreeMap<MemberId, wal::Reader<MemoryFiles>>,
    /// Words at the doors of keys without a process.
    told: BTreeMap<MemberId, Vec<DoorMessage>>,
    rosters: BTreeMap<MemberId, Roster>,
    now: u64,
}

struct Shell {
    me: MemberId,
    wires: Rc<RefCell<Wires>>,
    delivered: Vec<Delivered>,
    outcomes: Vec<(Ticket, Outcome)>,
    refused: Vec<(MemberId, StartNonce)>,
    snapshot: Option<Snapshot>,
}

impl Outside for Shell {
    fn now(&mut self) -> Now {
        let now = self.wires.borrow().now;
        Now { instant: Instant(now), wall: WallTime(now) }
    }

    fn inputs(&mut self, most: usize, _: Option<Instant>) -> Vec<Input> {
        let mut wires = self.wires.borrow_mut();
        let queue = wires.queues.entry(self.me).or_default();
        queue.drain(..most.min(queue.len())).collect()
    }

    fn send(&mut self, to: MemberId, envelope: Arc<Envelope>) {
        let envelope = Envelope::admit(&envelope.encode()).expect("what we send can be read");
        if let Some(queue) = self.wires.borrow_mut().queues.get_mut(&to) {
            queue.push_back(Input::Received { peer: self.me, envelope });
        }
    }

    fn refuse(&mut self, peer: MemberId, nonce: StartNonce, _: Refusal) {
        self.refused.push((peer, nonce));
    }

    fn roster(&mut self, roster: Roster) {
        self.wires.borrow_mut().rosters.insert(self.me, roster);
    }

    fn door(&mut self, to: MemberId, message: DoorMessage) {
        let mut wires = self.wires.borrow_mut();
        match wires.queues.get_mut(&to) {
            Some(queue) => queue.push_back(Input::Door { from: self.me, message }),
            None => wires.told.entry(to).or_default().push(message),
        }
    }

    fn hello(&mut self, hello: Hello) {
        self.wires.borrow_mut().hellos.insert(self.me, hello);
    }

    fn serve(&mut self, request: Serve) {
        let reader = self.wires.borrow().readers[&self.me].clone();
        let read = |at| Bytes::from(reader.read(at).expect("delivered slots are in the log"));
        let slots = request.slots.iter().map(|slot| {
            let record = crate::types::record::EntryRecord::read(&read(slot.entry)).unwrap();
            let entry = (Entry::admit(&record.entry).unwrap(), record.entry);
            DecidedSlot {
                entry: crate::types::peer::ChainEntry { slot: record.slot, parent: record.parent, entry },
                batches: slot.batches.iter().map(|at| Batch::recall(read(*at)).unwrap()).collect(),
                certificate: slot.certificate.clone(),
            }
        });
        let message = PeerMessage::Decided { mark: request.mark, slots: slots.collect() };
        let hello = self.wires.borrow().hellos[&self.me].clone();
        self.send(request.to, Arc::new(Envelope { epoch: hello.epoch, configuration: hello.configuration, message }));
    }

    fn deliver(&mut self, delivered: Vec<Delivered>) {
        self.delivered.extend(delivered);
    }

    fn answer(&mut self, outcomes: Vec<(Ticket, Outcome)>) {
        self.outcomes.extend(outcomes);
    }

    fn observe(&mut self, snapshot: Snapshot, _: LogFigures) {
        self.snapshot = Some(snapshot);
    }
}

struct Group {
    genesis: Genesis,
    timing: Timing,
    links: std::collections::BTreeSet<(usize, usize)>,
    wires: Rc<RefCell<Wires>>,
    disks: Vec<MemoryFiles>,
    members: Vec<Option<Driver<Shell, MemoryFiles>>>,
    starts: u64,
    /// Who left, and after how many deliveries.
    left: Vec<(usize, usize)>,
}

fn key(index: usize) -> SigningKey {
    SigningKey::from_bytes(&[index as u8 + 1; 32])
}

fn id(index: usize) -> MemberId {
    MemberId(key(index).verifying_key().to_bytes())
}

impl Group {
    fn new(size: usize) -> Group {
        let members = (0..size).map(|index| GenesisMember {
            name: format!("n{}", index + 1),
            id: id(index),
            addresses: Vec::new(),
        });
        let genesis = Genesis {
            name: "test".to_owned(),
            nonce: [0; 16],
            model: FaultModelKind::Crash,
            rules_version: 0,
            members: members.collect(),
            limits: ClusterLimits::default(),
            voters_target: size as u32,
        };
        let wires = Rc::new(RefCell::new(Wires { now: 1_000_000_000, ..Wires::default() }));
        let mut group = Group {
            genesis,
            timing: Timing { replace_after: Duration::from_secs(20), ..Timing::default() },
            links: Default::default(),
            wires,
            disks: (0..size).map(|_| MemoryFiles::new()).collect(),
            members: (0..size).map(|_| None).collect(),
            starts: 0,
            left: Vec::new(),
        };
        (0..size).for_each(|index| group.start(index));
        group
    }

    fn start(&mut self, index: usize) {
        self.starts += 1;
        let me = id(index);
        let shell = Shell {
            me,
            wires: self.wires.clone(),
            delivered: Vec::new(),
            outcomes: Vec::new(),
            refused: Vec::new(),
            snapshot: None,
        };
        let start = Start {
            genesis: self.genesis.clone(),
            key: key(index),
            addresses: Vec::new(),
            contacts: self.contacts(index),
            nonce: StartNonce(self.starts),
            timing: self.timing,
            sabotage: Sabotage::NONE,
            log: wal::Settings { segment_bytes: 1 << 18, spares: 1, sabotage: Sabotage::NONE },
        };
        let driver = Driver::open(start, self.disks[index].clone(), shell).expect("it starts");
        {
            let mut wires = self.wires.borrow_mut();
            wires.queues.insert(me, VecDeque::new());
            wires.readers.insert(me, driver.reader());
        }
        self.members[index] = Some(driver);
    }

    fn link(&self, at: usize, peer: usize) {
        let (at, peer) = (id(at), id(peer));
        let mut wires = self.wires.borrow_mut();
        let hello = wires.hellos[&peer].clone();
        wires.queues.get_mut(&at).unwrap().push_back(Input::LinkUp { peer, hello });
    }

    fn crash(&mut self, index: usize) {
        self.members[index] = None;
        self.disks[index].crash(|_| crate::wal::Survival::Nothing);
        let gone = id(index);
        let linked: Vec<(usize, usize)> =
            self.links.iter().filter(|(a, b)| *a == index || *b == index).copied().collect();
        let mut wires = self.wires.borrow_mut();
        wires.queues.remove(&gone);
        wires.rosters.remove(&gone);
        for link in linked {
            self.links.remove(&link);
            let other = if link.0 == index { link.1 } else { link.0 };
            wires.queues.get_mut(&id(other)).unwrap().push_back(Input::LinkDown { peer: gone });
        }
    }

    /// Lets this much time pass, in steps of a millisecond, everybody taking turns.
    fn pass(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.wires.borrow_mut().now += 1_000_000;
            self.relink();
            for index in 0..self.members.len() {
                let Some(member) = &mut self.members[index] else { continue };
                let mut left = false;
                loop {
                    let turn = member.turn(false).expect("it goes on");
                    left |= turn.left;
                    if !turn.again {
                        break;
                    }
                }
                if left {
                    self.left.push((index, self.members[index].as_ref().unwrap().outside().delivered.len()));
                    self.crash(index);
                }
            }
        }
    }

    /// Links are as the rosters want them.
    fn relink(&mut self) {
        for one in 0..self.members.len() {
            for other in one + 1..self.members.len() {
                let wanted = self.members[one].is_some() && self.members[other].is_some() && self.both_want(one, other);
                if wanted && self.links.insert((one, other)) {
                    self.link(one, other);
                    self.link(other, one);
                } else if !wanted && self.links.remove(&(one, other)) {
                    let mut wires = self.wires.borrow_mut();
                    wires.queues.get_mut(&id(one)).unwrap().push_back(Input::LinkDown { peer: id(other) });
                    wires.queues.get_mut(&id(other)).unwrap().push_back(Input::LinkDown { peer: id(one) });
                }
            }
        }
    }

    fn both_want(&self, one: usize, other: usize) -> bool {
        let wires = self.wires.borrow();
        let entry = |at: usize, of: usize| match wires.rosters.get(&id(at)) {
            Some(roster) => roster.members.iter().find(|member| member.id == id(of)).map(|member| member.dial),
            None => Some(true), // before its first turn a member knows those of the genesis
        };
        let dials = [entry(one, other), entry(other, one)];
        dials.iter().all(Option::is_some) && dials.iter().flatten().any(|dial| *dial)
    }

    /// What the door told a member that has joined.
    fn contacts(&self, index: usize) -> Vec<crate::types::Contact> {
        let wires = self.wires.borrow();
        let told = wires.told.get(&id(index)).into_iter().flatten();
        let tells = told.filter_map(|message| if let DoorMessage::Tell(told) = message { Some(told) } else { None });
        tells.last().map_or(Vec::new(), |told: &Told| told.contacts.clone())
    }

    fn input(&mut self, index: usize, input: Input) {
        self.wires.borrow_mut().queues.get_mut(&id(index)).unwrap().push_back(input);
    }

    fn command(&mut self, index: usize, ticket: u64, command: Command) {
        let deadline = Instant(self.wires.borrow().now) + Duration::from_secs(10);
        self.input(index, Input::Command { ticket: Ticket(ticket), command, deadline });
    }

    /// A further machine joins through a member: an invite, a knock, and its start.
    fn join(&mut self, through: usize, ticket: u64) -> usize {
        let index = self.members.len();
        let secret = [index as u8; 16];
        let expires = WallTime(u64::MAX);
        self.command(through, ticket, Command::Invite { secret: secret_digest(&secret), expires });
        self.pass(20);
        let message = DoorMessage::Join { secret, name: format!("n{}", index + 1), addresses: Vec::new() };
        self.input(through, Input::Door { from: id(index), message });
        self.pass(20);
        let told = self.wires.borrow().told[&id(index)].clone();
        assert!(matches!(&told[..], [DoorMessage::Tell(Told { standing: Standing::Learner, .. })]), "{told:?}");
        self.members.push(None);
        self.disks.push(MemoryFiles::new());
        self.start(index);
        index
    }

    fn snapshot(&self, index: usize) -> Snapshot {
        self.members[index].as_ref().unwrap().outside().snapshot.clone().unwrap()
    }

    fn voters(&self, at: usize) -> Vec<usize> {
        let membership = self.snapshot(at).membership;
        let index = |voter: &MemberId| (0..self.members.len()).find(|index| id(*index) == *voter).unwrap();
        let mut voters: Vec<usize> = membership.configuration.voters.iter().map(index).collect();
        voters.sort_unstable();
        voters
    }

    fn publish(&mut self, index: usize, ticket: u64) {
        let me = id(index);
        let deadline = Instant(self.wires.borrow().now) + Duration::from_secs(10);
        let body = Bytes::from(format!("message {ticket}"));
        let message = Message { kind: MessageKind::Application, topic: "t".to_owned(), content_type: None, body };
        let publish = Publish { ticket: Ticket(ticket), ack: Ack::Ordered, message, deadline };
        self.wires.borrow_mut().queues.get_mut(&me).unwrap().push_back(Input::Publish(publish));
    }

    fn sequence(&self, index: usize) -> Vec<(Position, String)> {
        let member = self.members[index].as_ref().unwrap();
        assert!(member.outside().refused.is_empty(), "nobody refuses a member of its group");
        let batches = &member.outside().delivered;
        let name =
            |batch: &Delivered| batch.header().map_or("epoch".to_owned(), |header| header.message_id(0).to_string());
        batches.iter().map(|batch| (batch.first, name(batch))).collect()
    }
}

#[test]
fn a_group_of_one_orders_across_a_restart() {
    let mut group = Group::new(1);
    group.publish(0, 1);
    group.pass(5);
    group.crash(0);
    group.start(0);
    group.publish(0, 2);
    group.pass(5);
    assert_eq!(group.sequence(0).len(), 2);
}

#[test]
fn three_members_agree_through_the_death_and_return_of_the_leader() {
    let mut group = Group::new(3);
    group.pass(50);
    (0..30).for_each(|ticket| group.publish(ticket as usize % 3, ticket));
    group.pass(200);
    assert_eq!(group.sequence(1).len() as u64, group.sequence(0).len() as u64);
    assert!(group.sequence(0).len() >= 3, "{:?}", group.sequence(0));
    group.crash(0);
    (30..60).for_each(|ticket| group.publish(1 + ticket as usize % 2, ticket));
    group.pass(500);
    let answered = |group: &Group, index: usize| group.members[index].as_ref().unwrap().outside().outcomes.len();
    assert_eq!(answered(&group, 1) + answered(&group, 2), 20 + 30);
    group.start(0);
    group.publish(0, 60);
    group.pass(2000);
    assert_eq!(group.sequence(0), group.sequence(1));
    assert_eq!(group.sequence(2), group.sequence(1));
    assert_eq!(answered(&group, 0), 1);
    let snapshot = group.members[0].as_ref().unwrap().outside().snapshot.clone().unwrap();
    assert_eq!(snapshot.readiness, crate::types::Readiness::Ready);
}

/// commonware #4275: after a full restart nobody recounted its own vote, and all waited for each other.
#[test]
fn all_restart_at_once_and_go_on() {
    let mut group = Group::new(3);
    group.pass(50);
    (0..9).for_each(|ticket| group.publish(ticket as usize % 3, ticket));
    group.pass(3);
    (0..3).for_each(|index| group.crash(index));
    (0..3).for_each(|index| group.start(index));
    (10..13).for_each(|ticket| group.publish(ticket as usize % 3, ticket));
    group.pass(3000);
    assert_eq!(group.sequence(0), group.sequence(1));
    assert_eq!(group.sequence(0), group.sequence(2));
    assert!(group.sequence(0).len() >= 3);
}

/// A peer may refuse one connection late, while another one is the link.
#[test]
fn a_refusal_that_is_not_final_takes_no_link_down() {
    let mut group = Group::new(3);
    group.pass(50);
    let [me, peer] = [0, 1].map(|index| group.genesis.members[index].id);
    let reason = Refusal::Configuration { epoch: crate::types::Epoch(0) };
    group.wires.borrow_mut().queues.get_mut(&me).unwrap().push_back(Input::Refused { peer, reason });
    group.pass(50);
    let snapshot = group.members[0].as_ref().unwrap().outside().snapshot.clone().unwrap();
    assert!(snapshot.peers.iter().all(|peer| peer.linked), "{:?}", snapshot.peers);
}

/// An old process and the right one are judged in one turn: the refusal names the old one.
#[test]
fn a_refusal_names_the_process_that_was_judged() {
    let mut group = Group::new(3);
    group.pass(50);
    let [me, peer] = [0, 1].map(|index| group.genesis.members[index].id);
    let known = group.wires.borrow().hellos[&peer].clone();
    let process = |incarnation: u64, nonce: u64| Hello {
        incarnation: crate::types::Incarnation(incarnation),
        nonce: StartNonce(nonce),
        ..known.clone()
    };
    let links = [process(7, 70), process(6, 60), process(8, 80)];
    for hello in links {
        let mut wires = group.wires.borrow_mut();
        let queue = wires.queues.get_mut(&me).unwrap();
        queue.extend([Input::LinkDown { peer }, Input::LinkUp { peer, hello }]);
    }
    group.pass(50);
    let outside = group.members[0].as_ref().unwrap().outside();
    assert_eq!(outside.refused, [(peer, StartNonce(60))]);
    let snapshot = outside.snapshot.clone().unwrap();
    assert!(snapshot.peers.iter().all(|peer| peer.linked), "{:?}", snapshot.peers);
}

#[test]
fn a_learner_joins_is_fed_and_takes_the_vote_of_one_that_leaves() {
    let mut group = Group::new(3);
    group.pass(50);
    (0..30).for_each(|ticket| group.publish(ticket as usize % 3, ticket));
    group.pass(100);
    let fourth = group.join(1, 1000);
    (30..60).for_each(|ticket| group.publish(ticket as usize % 4, ticket));
    group.pass(3000);
    assert_eq!(group.sequence(fourth), group.sequence(0));
    assert_eq!(group.snapshot(fourth).role, crate::types::Role::Learner);
    assert_eq!(group.snapshot(fourth).readiness, crate::types::Readiness::Ready);
    group.input(0, Input::Leave { ticket: Ticket(2000) });
    (60..90).for_each(|ticket| group.publish(1 + ticket as usize % 3, ticket));
    group.pass(3000);
    assert_eq!(group.left.len(), 1, "{:?}", group.members[0].as_ref().map(|_| group.snapshot(0).waits_for));
    assert_eq!(group.voters(1), [1, 2, 3]);
    assert_eq!(group.snapshot(1).membership.established, Epoch(1));
    (90..120).for_each(|ticket| group.publish(1 + ticket as usize % 3, ticket));
    group.pass(1000);
    assert_eq!(group.sequence(1), group.sequence(2));
    assert_eq!(group.sequence(1), group.sequence(3));
    let ordered = |index: usize| {
        let outcomes = &group.members[index].as_ref().unwrap().outside().outcomes;
        outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Ordered { .. })).count()
    };
    assert!(ordered(1) + ordered(2) + ordered(3) >= 60 + 20 + 7, "{} {} {}", ordered(1), ordered(2), ordered(3));
    // Everybody restarts: the log tells it all again.
    let before = group.sequence(1);
    (1..4).for_each(|index| group.crash(index));
    (1..4).for_each(|index| group.start(index));
    group.publish(2, 500);
    group.pass(3000);
    assert_eq!(group.voters(3), [1, 2, 3]);
    assert_eq!(group.sequence(3)[..before.len()], before);
    assert!(group.sequence(3).len() > before.len());
}

#[test]
fn a_silent_voter_is_replaced_and_its_accepted_message_comes_when_it_returns() {
    let mut group = Group::new(3);
    group.pass(50);
    let fourth = group.join(0, 1000);
    group.pass(2000);
    group.crash(2);
    group.pass(25_000);
    assert_eq!(group.voters(0), [0, 1, 3]);
    assert_eq!(group.snapshot(0).membership.members.len(), 4, "it stays a member");
    group.start(2);
    group.publish(2, 7);
    group.pass(5000);
    assert_eq!(group.snapshot(2).role, crate::types::Role::Learner);
    assert_eq!(group.members[2].as_ref().unwrap().outside().outcomes.len(), 1);
    assert_eq!(group.sequence(2), group.sequence(fourth));
}

#[test]
fn three_become_five_and_three_again() {
    let mut group = Group::new(3);
    group.pass(50);
    group.command(0, 100, Command::Configure { voters_target: Some(5), limits: None });
    let fourth = group.join(0, 1000);
    group.pass(3000);
    assert_eq!(group.voters(0), [0, 1, 2], "a fourth ready member waits for a fifth");
    assert!(!group.snapshot(0).waits_for.is_empty());
    let fifth = group.join(1, 1001);
    group.pass(3000);
    assert_eq!(group.voters(0), [0, 1, 2, fourth, fifth]);
    assert_eq!(group.snapshot(0).waits_for, Vec::<String>::new());
    (0..25).for_each(|ticket| group.publish(ticket as usize % 5, ticket));
    group.pass(500);
    group.command(4, 101, Command::Configure { voters_target: Some(3), limits: None });
    group.pass(3000);
    assert_eq!(group.voters(0).len(), 3);
    (0..5).for_each(|index| assert_eq!(group.sequence(index), group.sequence(0), "{index}"));
}

#[test]
fn a_removed_learner_stops_and_a_removed_voter_waits_for_another() {
    let mut group = Group::new(3);
    group.pass(50);
    group.command(0, 100, Command::RemoveIntent { member: id(2) });
    group.pass(500);
    assert_eq!(group.voters(0), [0, 1, 2], "three never become two");
    group.publish(2, 7);
    group.pass(100);
    let outcomes = &group.members[2].as_ref().unwrap().outside().outcomes;
    assert!(matches!(outcomes[..], [(_, Outcome::Rejected(crate::types::Rejection::Gone(_)))]), "{outcomes:?}");
    let fourth = group.join(1, 1000);
    group.members[2] = None; // its process would stop with that reason
    group.links.retain(|(one, other)| *one != 2 && *other != 2);
    group.wires.borrow_mut().queues.remove(&id(2));
    [0, 1].iter().for_each(|index| group.input(*index, Input::LinkDown { peer: id(2) }));
    group.pass(3000);
    assert_eq!(group.voters(0), [0, 1, fourth]);
}

/// Two quorums' signatures under two ends of one epoch: nobody can go on as if nothing were.
#[test]
fn a_forked_chain_of_epochs_stops_the_member() {
    let mut group = Group::new(3);
    group.pass(50);
    let before = group.genesis.configuration();
    let link = |voters: [usize; 3]| {
        let next = crate::types::Configuration { epoch: Epoch(1), voters: voters.map(id).to_vec(), ..before.clone() };
        let digest = next.digest();
        let body = crate::types::EntryBody::EpochEnd(crate::types::EpochEnd { next });
        let entry = Entry { hlc: crate::types::Hlc(5), body }.encode();
        let (parent, slot) = (crate::types::Digest([9; 32]), crate::types::Slot(4));
        let digest_here = crate::types::chain_digest(&before.cluster, &parent, slot, &entry);
        let tip = crate::types::Tip { round: Default::default(), slot, digest: digest_here };
        let signed = [0, 1].map(|at| (id(at), crate::types::Seal::sign(&key(at), &before, &tip, digest).signature));
        let mut votes = signed.to_vec();
        votes.sort_unstable();
        crate::types::EpochLink { parent, entry, certificate: crate::types::Certificate { tip, votes } }
    };
    let tell = |from, link| {
        DoorMessage::Tell(Told {
            genesis: None,
            from,
            links: vec![link],
            established: Epoch(0),
            standing: Standing::Stranger,
            contacts: Vec::new(),
        })
    };
    let stranger = id(9);
    // What no quorum signed is refused by name.
    let mut forged = link([0, 1, 7]);
    forged.certificate.votes.pop();
    group.input(0, Input::Door { from: stranger, message: tell(Epoch(0), forged) });
    group.pass(5);
    let told = group.wires.borrow_mut().told.remove(&stranger).unwrap();
    let [DoorMessage::Refused(refusal)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(
        refusal.to_string(),
        "forged_chain: the end of epoch 0 has 1 signatures, a quorum is 2; nothing of it is believed, and only voters' \
         signatures are"
    );
    // Whatever a stranger says of epochs that nobody has reached is nothing.
    group.input(0, Input::Door { from: stranger, message: tell(Epoch(u64::MAX), link([0, 1, 5])) });
    group.input(0, Input::Door { from: stranger, message: tell(Epoch(0), link([0, 1, 5])) });
    group.pass(5);
    group.input(0, Input::Door { from: stranger, message: tell(Epoch(0), link([0, 1, 6])) });
    let member = group.members[0].as_mut().unwrap();
    let stop = member.turn(false).unwrap_err();
    assert!(matches!(stop, Stop::Halt(Halt::EpochFork { epoch: Epoch(0) })), "{stop}");
}

#[test]
fn the_only_member_cannot_leave_and_a_target_that_stands_is_said_to() {
    let mut group = Group::new(1);
    group.pass(50);
    group.input(0, Input::Leave { ticket: Ticket(1) });
    group.command(0, 2, Command::RemoveIntent { member: id(0) });
    group.command(0, 3, Command::RemoveIntent { member: id(5) });
    group.command(0, 4, Command::Configure { voters_target: Some(3), limits: None });
    group.pass(20);
    group.command(0, 5, Command::Configure { voters_target: Some(3), limits: None });
    group.pass(20);
    let outcomes = &group.members[0].as_ref().unwrap().outside().outcomes;
    let code = |ticket: u64| match &outcomes.iter().find(|(of, _)| *of == Ticket(ticket)).unwrap().1 {
        Outcome::Rejected(crate::types::Rejection::Membership { code, .. }) => *code,
        Outcome::Ordered { .. } => "ordered",
        other => panic!("{other:?}"),
    };
    assert_eq!([1, 2, 3, 4, 5].map(code), ["last_voter", "last_voter", "unknown_member", "ordered", "already_so"]);
    // One becomes three with two that are ready.
    let second = group.join(0, 1000);
    group.pass(2000);
    assert_eq!(group.voters(0), [0], "a second waits for a third");
    let third = group.join(0, 1001);
    group.pass(3000);
    assert_eq!(group.voters(0), [0, second, third]);
    group.publish(second, 7);
    group.pass(200);
    assert_eq!(group.sequence(third), group.sequence(0));
}
