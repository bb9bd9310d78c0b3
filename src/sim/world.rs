//! The random world: virtual time, links, hosts that publish, and faults. One seed, one course of events.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use super::check::Violation;
use super::clock::Moment;
use super::damage::Damage;
use super::door::Words;
use super::group::Group;
use super::machines::{Machine, Phase};
use super::network::{Network, Packet};
use super::node::Settings;
use super::operators::Errand;
use super::plan::{Fault, Plan};
use super::random::Random;
use super::shell::Death;
use super::stage::Stage;
use crate::driver::Serve;
use crate::types::join_code::SECRET_BYTES;
use crate::types::{Ack, Digest, Round, Sabotage, Ticket};

/// Something that is going to happen.
#[derive(Debug)]
pub enum Event {
    /// A member's driver is to run.
    Wake {
        /// Who.
        member: usize,
        /// Which of its wakes; only the newest counts.
        wake: u64,
    },
    /// A message arrives.
    Arrive(Packet),
    /// A member learns that a session is there.
    LinkUp(usize, usize, u64),
    /// A member learns that a session is over.
    LinkDown(usize, usize, u64),
    /// A pair tries to link.
    Dial(usize, usize),
    /// Slots have been read from a log.
    Served {
        /// Whose log.
        member: usize,
        /// In which of its starts.
        start: u64,
        /// Which slots, and for whom.
        request: Serve,
    },
    /// Words arrive at a door, or an answer of it.
    Words(Box<Words>),
    /// A machine with a join code knocks.
    Knock(usize),
    /// Operators do something.
    Deed,
    /// Somebody publishes.
    Publish,
    /// A fault begins.
    Fault,
    /// A member that is down starts.
    Start(usize),
    /// Something ends that a fault began.
    Relief(Relief),
    /// Faults are over.
    Heal,
    /// The last publishes.
    Farewell,
    /// Is everything done?
    Check,
}

/// The end of a fault.
#[derive(Clone, Debug)]
pub enum Relief {
    /// A direction speaks again.
    Speak(usize, usize),
    /// A pair may link again.
    Mend(usize, usize),
    /// Nothing keeps parts of the group apart.
    Join(u64),
    /// A paused member goes on.
    Resume(usize),
    /// A disk is as fast as before.
    Quicken(usize),
    /// A disk has room again.
    Room(usize),
    /// Links behave as before.
    Smooth,
    /// A silent link is noticed and breaks.
    Notice(usize, usize, u64),
    /// A bit turns in the newest records.
    Rot(usize),
    /// A member's links break once more.
    Churn(usize, u64),
}

/// How a simulation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was violated, and everything went on after the faults.
    Passed,
    /// After the faults the group did not finish: what is missing.
    Stalled(Vec<String>),
    /// A promise was broken.
    Diverged(Violation),
    /// A member panicked or stopped for a reason that it should not have had.
    Crashed(String),
}

/// One simulated group in its world.
pub struct World {
    /// The members and who watches them.
    pub stage: Stage,
    pub(super) plan: Plan,
    pub(super) now: Moment,
    pub(super) random: Random,
    pub(super) network: Network,
    pub(super) healed: bool,
    /// Pairs that cannot link now, by how many faults.
    pub(super) barred: Vec<u32>,
    /// Members whose log was damaged, and what that excuses.
    pub(super) rotten: Vec<Option<Damage>>,
    pub(super) disk_full: Vec<bool>,
    pub(super) draining: Vec<bool>,
    pub(super) starting: Vec<bool>,
    pub(super) machines: Vec<Machine>,
    /// Who knocked at whose door and waits for the answer, in which of its starts.
    pub(super) knocks: BTreeMap<(usize, usize), u64>,
    /// When a member last learnt that its link to another was down.
    pub(super) parted: BTreeMap<(usize, usize), Moment>,
    /// When a pair last met and one refused the other.
    pub(super) met: BTreeMap<usize, Moment>,
    pub(super) errands: BTreeMap<Ticket, Errand>,
    /// Next configurations that somebody proposed.
    pub(super) ends_seen: BTreeSet<Digest>,
    /// When operators last wanted another number of voters.
    pub(super) retargeted: Moment,
    /// Secrets that let somebody in.
    pub(super) used: Vec<[u8; SECRET_BYTES]>,
    queue: BinaryHeap<Reverse<(Moment, u64, EventBox)>>,
    order: u64,
    pub(super) dialling: Vec<bool>,
    pub(super) farewells: Vec<Ticket>,
    /// When everything was done, and in which rounds members were then: they are to stay there.
    calm: Option<(Moment, Vec<Round>)>,
}

/// An event beside its place in the queue; it has no order of its own.
struct EventBox(Event);

impl PartialEq for EventBox {
    fn eq(&self, _: &EventBox) -> bool {
        true
    }
}

impl Eq for EventBox {}

impl PartialOrd for EventBox {
    fn partial_cmp(&self, other: &EventBox) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for EventBox {
    fn cmp(&self, _: &EventBox) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

/// A simulation goes on at least this long.
const LEAST: Duration = Duration::from_secs(30);
/// After the faults the group has this long to finish.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);
/// Last publishes come this long after the faults.
const FAREWELL_AFTER: Duration = Duration::from_secs(3);
/// When everything is done, no view changes for so long.
const CALM: Duration = Duration::from_secs(2);
/// No simulation needs more events than this.
const EVENTS_MAX: u64 = 4_000_000;

/// Ends the simulation.
pub(super) type Course = Result<(), Verdict>;

impl From<Violation> for Verdict {
    fn from(violation: Violation) -> Verdict {
        Verdict::Diverged(violation)
    }
}

impl World {
    /// The world that a seed draws, before anything happens.
    pub fn new(seed: u64, sabotage: Sabotage) -> World {
        let mut random = Random::new(seed, 1);
        let plan = Plan::draw(&mut random);
        let group = Group::new(plan.founders, plan.machines, plan.limits);
        let members = (0..plan.machines).map(|_| (plan.clock(&mut random), plan.temper(&mut random))).collect();
        let settings = Settings {
            genesis: group.genesis.clone(),
            timing: plan.timing,
            sabotage,
            segment_bytes: plan.segment_bytes,
        };
        let size = plan.machines;
        let phase = |machine| if machine < plan.founders { Phase::Member } else { Phase::Spare };
        World {
            stage: Stage::new(group, settings, members, seed),
            now: Moment(0),
            random,
            network: Network::new(size, plan.manner),
            healed: false,
            barred: vec![0; size * size],
            rotten: (0..size).map(|_| None).collect(),
            disk_full: vec![false; size],
            draining: vec![false; size],
            starting: vec![false; size],
            machines: (0..size).map(|machine| Machine { phase: phase(machine), ..Machine::default() }).collect(),
            knocks: BTreeMap::new(),
            parted: BTreeMap::new(),
            met: BTreeMap::new(),
            errands: BTreeMap::new(),
            ends_seen: BTreeSet::new(),
            retargeted: Moment(0),
            used: Vec::new(),
            queue: BinaryHeap::new(),
            order: 0,
            dialling: vec![false; size * size],
            farewells: Vec::new(),
            calm: None,
            plan,
        }
    }

    /// Lets everything happen.
    pub fn run(&mut self) -> Verdict {
        self.begin();
        let mut events = 0;
        while let Some(Reverse((at, order, EventBox(event)))) = self.queue.pop() {
            self.now = at;
            self.stage.follow(at, 255, order);
            events += 1;
            if events > EVENTS_MAX {
                return Verdict::Stalled(vec![format!("{EVENTS_MAX} events and no end at {at}")]);
            }
            let finished = matches!(event, Event::Check);
            if let Err(verdict) = self.happens(event) {
                return verdict;
            }
            if finished && self.is_finished() {
                return Verdict::Passed;
            }
        }
        unreachable!("a check is always queued")
    }

    /// Closes the books: what is only known at the end goes into the coverage table.
    pub fn finish(&mut self) {
        for member in 0..self.size() {
            self.stage.collect_counters(member);
        }
        let passages = self.network.passages;
        let (lost, ordered) = self.stage.promises.orphans();
        self.stage.count_epochs();
        let coverage = &mut self.stage.coverage;
        coverage.messages_lost += passages.lost;
        coverage.messages_doubled += passages.doubled;
        coverage.messages_overtaken += passages.overtaken;
        coverage.messages_held += passages.held;
        coverage.orphans_lost += lost;
        coverage.orphans_ordered += ordered;
        match self.plan.founders {
            1 => coverage.groups_of_one += 1,
            3 => coverage.groups_of_three += 1,
            _ => coverage.groups_of_five += 1,
        }
    }

    /// Number of machines.
    pub(super) fn size(&self) -> usize {
        self.plan.machines
    }

    /// Lets something happen after a while.
    pub(super) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Lets something happen then.
    pub(super) fn at(&mut self, at: Moment, event: Event) {
        self.order += 1;
        self.queue.push(Reverse((at.max(self.now), self.order, EventBox(event))));
    }

    fn begin(&mut self) {
        for member in 0..self.plan.founders {
            let delay = self.random.duration(Duration::ZERO, Duration::from_millis(300));
            self.starting[member] = true;
            self.after(delay, Event::Start(member));
        }
        self.after(Duration::from_millis(200), Event::Publish);
        self.after(Duration::from_millis(500), Event::Fault);
        self.after(Duration::from_millis(400), Event::Deed);
        self.at(self.plan.heals(), Event::Heal);
        self.at(self.plan.heals() + FAREWELL_AFTER, Event::Farewell);
        self.at((self.plan.heals() + FAREWELL_AFTER).max(Moment::at(LEAST)), Event::Check);
    }

    fn happens(&mut self, event: Event) -> Course {
        match event {
            Event::Wake { member, wake } => self.wake(member, wake),
            Event::Arrive(packet) => {
                self.arrive(packet);
                Ok(())
            }
            Event::LinkUp(member, peer, session) => {
                self.link_up(member, peer, session);
                Ok(())
            }
            Event::LinkDown(member, peer, session) => {
                self.link_down(member, peer, session);
                Ok(())
            }
            Event::Dial(one, other) => {
                self.dial(one, other);
                Ok(())
            }
            Event::Served { member, start, request } => {
                self.served(member, start, &request);
                Ok(())
            }
            Event::Words(words) => self.hear_at_door(*words),
            Event::Knock(machine) => {
                self.knock(machine);
                Ok(())
            }
            Event::Deed => {
                self.operate();
                Ok(())
            }
            Event::Publish => {
                self.publish();
                Ok(())
            }
            Event::Fault => self.begin_fault(),
            Event::Start(member) => self.start(member),
            Event::Relief(relief) => {
                self.relieve(relief);
                Ok(())
            }
            Event::Heal => {
                self.heal();
                Ok(())
            }
            Event::Farewell => {
                self.bid_farewell();
                Ok(())
            }
            Event::Check => self.check(),
        }
    }

    fn publish(&mut self) {
        if self.healed {
            return;
        }
        let burst = self.random.weighted(&[(70, 1), (20, 3), (9, 8), (1, 60)]);
        let members = self.members();
        let member = members[self.random.index(members.len())];
        for _ in 0..burst {
            if !self.stage.nodes[member].runs() {
                break;
            }
            let ack = if self.random.chance(500) { Ack::Accepted } else { Ack::Ordered };
            let bytes = self.random.between(8, self.plan.body_bytes);
            let patience = Duration::from_millis(self.random.weighted(&[(1, 100), (2, 1_000), (4, 10_000)]));
            let body = self.stage.promises.body(bytes as usize);
            self.stage.publish(member, self.now, ack, body, patience);
        }
        self.wake_at(member, self.now);
        let gap = self.random.around(self.plan.publish_gap);
        self.after(gap, Event::Publish);
    }

    /// After the faults every member that runs and is not about to go publishes twice; these must be ordered.
    fn bid_farewell(&mut self) {
        for member in 0..self.size() {
            let machine = &self.machines[member];
            let goes = self.draining[member] || machine.leaving || machine.dismissed;
            if goes || !self.stage.nodes[member].runs() {
                continue;
            }
            for _ in 0..2 {
                let body = self.stage.promises.body(64);
                let ticket = self.stage.publish(member, self.now, Ack::Ordered, body, PATIENCE);
                self.farewells.push(ticket);
            }
            self.wake_at(member, self.now);
        }
    }

    fn check(&mut self) -> Course {
        let missing = self.unfinished();
        let rounds = self.rounds();
        if !missing.is_empty() || self.calm.as_ref().is_none_or(|(_, before)| *before != rounds) {
            self.calm = missing.is_empty().then_some((self.now, rounds));
        }
        if self.is_finished() {
            return Ok(());
        }
        if self.now > self.plan.heals() + PATIENCE {
            let restless = missing.is_empty().then(|| "views go on changing".to_owned());
            return Err(Verdict::Stalled(missing.into_iter().chain(restless).collect()));
        }
        self.after(Duration::from_millis(250), Event::Check);
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.calm.as_ref().is_some_and(|(since, _)| self.now.since(*since) >= CALM)
    }

    /// The rounds of the members that run.
    fn rounds(&self) -> Vec<Round> {
        let drivers = self.stage.nodes.iter().filter_map(|node| node.driver());
        drivers.map(|driver| driver.replica().round()).collect()
    }

    /// Whether a member is told to die when it does something next.
    pub(super) fn doom(&mut self, member: usize, death: Death) {
        self.stage.nodes[member].shell.lock().death = death;
    }

    fn begin_fault(&mut self) -> Course {
        if self.healed {
            return Ok(());
        }
        let faults = self.plan.faults.clone();
        let fault: Fault = self.random.weighted(&faults);
        self.inflict(fault);
        let gap = self.random.around(self.plan.fault_gap);
        self.after(gap, Event::Fault);
        Ok(())
    }
}
