//! The driver with the real log over memory, and a loss-free outside that hands messages on at once.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::types::peer::{DecidedSlot, Envelope, Hello, Refusal};
use crate::types::{
    Ack, Batch, ClusterLimits, Delivered, Entry, FaultModelKind, GenesisMember, Message, MessageKind, Now, Outcome,
    PeerMessage, Position, Publish, Snapshot, Ticket, WallTime,
};
use crate::wal::MemoryFiles;

#[derive(Default)]
struct Wires {
    queues: BTreeMap<MemberId, VecDeque<Input>>,
    hellos: BTreeMap<MemberId, Hello>,
    readers: BTreeMap<MemberId, wal::Reader<MemoryFiles>>,
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
    wires: Rc<RefCell<Wires>>,
    disks: Vec<MemoryFiles>,
    members: Vec<Option<Driver<Shell, MemoryFiles>>>,
    starts: u64,
}

impl Group {
    fn new(size: usize) -> Group {
        let members = (0..size).map(|index| GenesisMember {
            name: format!("n{}", index + 1),
            id: MemberId([index as u8 + 1; 32]),
            addresses: Vec::new(),
        });
        let genesis = Genesis {
            name: "test".to_owned(),
            nonce: [0; 16],
            model: FaultModelKind::Crash,
            rules_version: 0,
            members: members.collect(),
            limits: ClusterLimits::default(),
        };
        let wires = Rc::new(RefCell::new(Wires { now: 1_000_000_000, ..Wires::default() }));
        let mut group = Group {
            genesis,
            wires,
            disks: (0..size).map(|_| MemoryFiles::new()).collect(),
            members: (0..size).map(|_| None).collect(),
            starts: 0,
        };
        (0..size).for_each(|index| group.start(index));
        group
    }

    fn start(&mut self, index: usize) {
        self.starts += 1;
        let me = self.genesis.members[index].id;
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
            member: me,
            nonce: StartNonce(self.starts),
            timing: Timing::default(),
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
        for other in 0..self.members.len() {
            if other != index && self.members[other].is_some() {
                self.link(index, other);
                self.link(other, index);
            }
        }
    }

    fn link(&self, at: usize, peer: usize) {
        let (at, peer) = (self.genesis.members[at].id, self.genesis.members[peer].id);
        let mut wires = self.wires.borrow_mut();
        let hello = wires.hellos[&peer].clone();
        wires.queues.get_mut(&at).unwrap().push_back(Input::LinkUp { peer, hello });
    }

    fn crash(&mut self, index: usize) {
        self.members[index] = None;
        self.disks[index].crash(|_| crate::wal::Survival::Nothing);
        let gone = self.genesis.members[index].id;
        let mut wires = self.wires.borrow_mut();
        wires.queues.remove(&gone);
        wires.queues.values_mut().for_each(|queue| queue.push_back(Input::LinkDown { peer: gone }));
    }

    /// Lets this much time pass, in steps of a millisecond, everybody taking turns.
    fn pass(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.wires.borrow_mut().now += 1_000_000;
            for member in self.members.iter_mut().flatten() {
                while member.turn(false).expect("it goes on").again {}
            }
        }
    }

    fn publish(&mut self, index: usize, ticket: u64) {
        let me = self.genesis.members[index].id;
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
        batches.iter().map(|batch| (batch.first, batch.header.message_id(0).to_string())).collect()
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
