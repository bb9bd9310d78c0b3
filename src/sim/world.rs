//! The random world: virtual time, links, hosts that publish, and faults. One seed, one course of events.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use super::check::{self, Violation};
use super::clock::Moment;
use super::group::Group;
use super::network::{Network, Packet, Passage};
use super::node::{Ending, Life, Settings, Stopped};
use super::plan::{Fault, Plan};
use super::random::Random;
use super::shell::Death;
use super::stage::{Act, Scene, Stage, count_death, tear};
use crate::driver::{Input, Serve};
use crate::types::peer::{Envelope, Refusal};
use crate::types::{Ack, Outcome, Readiness, Round, Sabotage, Ticket};

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
    /// Members whose log was damaged, in which of their starts.
    pub(super) rotten: Vec<Option<u64>>,
    pub(super) disk_full: Vec<bool>,
    pub(super) draining: Vec<bool>,
    pub(super) starting: Vec<bool>,
    queue: BinaryHeap<Reverse<(Moment, u64, EventBox)>>,
    order: u64,
    dialling: Vec<bool>,
    farewells: Vec<Ticket>,
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
const PATIENCE: Duration = Duration::from_secs(40);
/// Last publishes come this long after the faults.
const FAREWELL_AFTER: Duration = Duration::from_secs(3);
/// When everything is done, no view changes for so long.
const CALM: Duration = Duration::from_secs(2);
/// No simulation needs more events than this.
const EVENTS_MAX: u64 = 4_000_000;
/// A turn takes this long besides its syncs.
const TURN_TIME: Duration = Duration::from_micros(15);

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
        let group = Group::new(plan.members, plan.limits);
        let members = (0..plan.members).map(|_| (plan.clock(&mut random), plan.temper(&mut random))).collect();
        let settings = Settings {
            genesis: group.genesis.clone(),
            timing: plan.timing,
            sabotage,
            segment_bytes: plan.segment_bytes,
        };
        let size = plan.members;
        World {
            stage: Stage::new(group, settings, members, seed),
            now: Moment(0),
            random,
            network: Network::new(size, plan.manner),
            healed: false,
            barred: vec![0; size * size],
            rotten: vec![None; size],
            disk_full: vec![false; size],
            draining: vec![false; size],
            starting: vec![false; size],
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
        let lanes_closed = self.stage.agreement.lanes_closed;
        let coverage = &mut self.stage.coverage;
        coverage.lanes_closed += lanes_closed;
        coverage.messages_lost += passages.lost;
        coverage.messages_doubled += passages.doubled;
        coverage.messages_overtaken += passages.overtaken;
        coverage.messages_held += passages.held;
        coverage.orphans_lost += lost;
        coverage.orphans_ordered += ordered;
        match self.plan.members {
            1 => coverage.groups_of_one += 1,
            3 => coverage.groups_of_three += 1,
            _ => coverage.groups_of_five += 1,
        }
    }

    /// Number of members.
    pub(super) fn size(&self) -> usize {
        self.plan.members
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
        for member in 0..self.size() {
            let delay = self.random.duration(Duration::ZERO, Duration::from_millis(300));
            self.starting[member] = true;
            self.after(delay, Event::Start(member));
        }
        self.after(Duration::from_millis(200), Event::Publish);
        self.after(Duration::from_millis(500), Event::Fault);
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

    // Members.

    /// Starts a member that is down.
    fn start(&mut self, member: usize) -> Course {
        self.starting[member] = false;
        if self.stage.nodes[member].runs() || !self.stage.nodes[member].may_start() {
            return Ok(());
        }
        let scene = self.stage.start(member, self.now)?;
        self.stage.coverage.crashes_inside_start += u64::from(matches!(scene.ending, Ending::Died));
        self.play(member, scene)?;
        if self.stage.nodes[member].runs() {
            for peer in (0..self.size()).filter(|peer| *peer != member) {
                self.want_link(member, peer, Duration::from_millis(1));
            }
        }
        Ok(())
    }

    fn wake(&mut self, member: usize, wake: u64) -> Course {
        let node = &mut self.stage.nodes[member];
        if node.wake != wake || !node.runs() {
            return Ok(());
        }
        node.wakes = None;
        if let Some(until) = node.paused {
            self.wake_at(member, until);
            return Ok(());
        }
        let scene = self.stage.turn(member, self.now)?;
        self.play(member, scene)
    }

    /// Acts on what a member did.
    fn play(&mut self, member: usize, scene: Scene) -> Course {
        for (at, act) in scene.acts {
            match act {
                Act::Send { to, envelope } => self.send(member, to, at, envelope),
                Act::Refuse { peer, reason } => self.refuse(member, peer, reason),
                Act::Serve(request) => {
                    let start = self.stage.nodes[member].starts;
                    let delay = self.random.around(Duration::from_millis(2));
                    self.at(at + delay, Event::Served { member, start, request });
                }
            }
        }
        match scene.ending {
            Ending::Goes { next, again, drained } => {
                let busy = self.stage.nodes[member].busy + TURN_TIME;
                self.stage.nodes[member].busy = busy;
                if drained && self.draining[member] {
                    self.stage.coverage.drains += 1;
                    self.draining[member] = false;
                    self.die(member);
                    self.restart_after(member, Duration::from_millis(300));
                } else if again {
                    self.wake_at(member, busy);
                } else if let Some(next) = next {
                    self.wake_at(member, next.max(busy));
                }
                Ok(())
            }
            Ending::Died => {
                let death = self.stage.nodes[member].shell.lock().death;
                count_death(&mut self.stage.coverage, death);
                self.die(member);
                let delay = self.random.around(Duration::from_millis(300));
                self.restart_after(member, delay);
                Ok(())
            }
            Ending::Stopped(stopped) => self.stopped(member, &stopped),
        }
    }

    /// A member stopped by itself: for a reason that the faults gave it, or for one it should not have.
    fn stopped(&mut self, member: usize, stopped: &Stopped) -> Course {
        let failed = std::mem::take(&mut self.stage.nodes[member].shell.lock().failed);
        if stopped.is_disk() && (failed || self.disk_full[member]) {
            self.die(member);
            self.restart_after(member, Duration::from_millis(700));
            return Ok(());
        }
        let text = format!("member {} {stopped}", member + 1);
        if self.rotten[member].is_some() && stopped.is_rot() {
            self.stage.coverage.rot_fatal += 1;
            self.unlink(member);
            self.stage.end(member, self.now, stopped.to_string());
            return Ok(());
        }
        if stopped.is_divergence() {
            return Err(Verdict::Diverged(Violation::new("agreement", text)));
        }
        Err(Verdict::Crashed(text))
    }

    /// A member's process is gone; its links break.
    pub(super) fn die(&mut self, member: usize) {
        let at = self.now;
        self.draining[member] = false;
        let machine = self.random.chance(500);
        if machine {
            self.stage.crash(member, at, tear(&mut self.random));
        } else {
            self.stage.kill(member, at);
        }
        self.unlink(member);
    }

    /// Everybody loses the links to a member whose process is gone.
    fn unlink(&mut self, member: usize) {
        for peer in (0..self.size()).filter(|peer| *peer != member) {
            let quick = self.random.chance(850);
            let longest = if quick { Duration::from_millis(4) } else { Duration::from_millis(1500) };
            let flush = self.random.chance(700);
            self.part_pair(member, peer, longest, flush);
        }
    }

    pub(super) fn restart_after(&mut self, member: usize, delay: Duration) {
        if !std::mem::replace(&mut self.starting[member], true) {
            self.after(delay, Event::Start(member));
        }
    }

    /// Lets a member's driver run then, or earlier if that was planned already.
    pub(super) fn wake_at(&mut self, member: usize, at: Moment) {
        let node = &mut self.stage.nodes[member];
        let at = at.max(node.busy);
        if !node.runs() || node.wakes.is_some_and(|planned| planned <= at) {
            return;
        }
        node.wake += 1;
        node.wakes = Some(at);
        let wake = node.wake;
        self.at(at, Event::Wake { member, wake });
    }

    fn push(&mut self, member: usize, input: Input) {
        if self.stage.nodes[member].runs() {
            self.stage.nodes[member].push(input);
            self.wake_at(member, self.now);
        }
    }

    // Links.

    fn send(&mut self, from: usize, to: usize, at: Moment, envelope: Arc<Envelope>) {
        let session = self.network.session(from, to).filter(|_| self.network.believes(from, to));
        let Some(session) = session else {
            self.stage.chart.message(at, from, to, &envelope, Some("no link"));
            return;
        };
        let packet = Packet { from, to, session, envelope };
        match self.network.send(&packet, at, &mut self.random) {
            Passage::Arrives(arrival, again) => {
                if let Some(again) = again {
                    self.at(again, Event::Arrive(packet.clone()));
                }
                self.at(arrival, Event::Arrive(packet));
            }
            Passage::Held => {}
            Passage::Lost(reason) => self.stage.chart.message(at, from, to, &packet.envelope, Some(reason)),
        }
    }

    fn arrive(&mut self, packet: Packet) {
        let Packet { from, to, session, envelope } = packet;
        if !self.network.carries(from, to, session) {
            return;
        }
        self.stage.chart.message(self.now, from, to, &envelope, None);
        let admitted = if self.plan.coded {
            self.stage.coverage.messages_coded += 1;
            Envelope::admit(&envelope.encode()).expect("members understand each other")
        } else {
            Envelope::clone(&envelope)
        };
        let peer = self.stage.group.id(from);
        self.push(to, Input::Received { peer, envelope: admitted });
    }

    /// A pair tries to link after a while, unless it tries already.
    pub(super) fn want_link(&mut self, one: usize, other: usize, delay: Duration) {
        let pair = self.pair(one, other);
        if !std::mem::replace(&mut self.dialling[pair], true) {
            self.after(delay, Event::Dial(one, other));
        }
    }

    fn dial(&mut self, one: usize, other: usize) {
        let pair = self.pair(one, other);
        self.dialling[pair] = false;
        if self.network.session(one, other).is_some() {
            return;
        }
        let ready = |member: usize| {
            let node = &self.stage.nodes[member];
            node.runs() && node.paused.is_none() && node.busy <= self.now && node.shell.lock().hello.is_some()
        };
        let able = ready(one) && ready(other) && self.barred[pair] == 0;
        if !able || !self.network.passable(one, other) {
            let wanted = [one, other].iter().all(|member| !matches!(self.stage.nodes[*member].life, Life::Ended(_)));
            if wanted {
                let delay = self.random.duration(Duration::from_millis(20), Duration::from_millis(150));
                self.want_link(one, other, delay);
            }
            return;
        }
        for (member, peer) in [(one, other), (other, one)] {
            if self.network.believes(member, peer) && !self.random.chance(200) {
                let peer = self.stage.group.id(peer);
                self.push(member, Input::LinkDown { peer });
            }
        }
        let moments = [one, other].map(|_| self.now + self.random.around(self.plan.manner.latency * 3));
        let session = self.network.open(one, other, moments[0].max(moments[1]));
        self.at(moments[0], Event::LinkUp(one, other, session));
        self.at(moments[1], Event::LinkUp(other, one, session));
    }

    fn link_up(&mut self, member: usize, peer: usize, session: u64) {
        let hello = self.stage.nodes[peer].shell.lock().hello.clone();
        let Some(hello) = hello.filter(|_| self.stage.nodes[peer].runs()) else { return };
        if self.network.tell(member, peer, session, true) {
            self.stage.chart.note(self.now, member, format!("link to {} is up", peer + 1));
            let peer = self.stage.group.id(peer);
            self.push(member, Input::LinkUp { peer, hello });
        }
    }

    fn link_down(&mut self, member: usize, peer: usize, session: u64) {
        if self.network.tell(member, peer, session, false) {
            self.stage.chart.note(self.now, member, format!("link to {} is down", peer + 1));
            let peer = self.stage.group.id(peer);
            self.push(member, Input::LinkDown { peer });
        }
    }

    /// A pair's session ends, and what is on the way in it is lost; each side learns it within `longest`.
    pub(super) fn break_link(&mut self, one: usize, other: usize, longest: Duration) {
        self.part_pair(one, other, longest, false);
    }

    /// A pair's session ends; with `flush` what is on the way still arrives at whoever has not learnt it. They dial again.
    fn part_pair(&mut self, one: usize, other: usize, longest: Duration, flush: bool) {
        if let Some((session, sides)) = self.network.close(one, other, flush) {
            self.stage.coverage.links_broken += 1;
            for (member, peer) in [(sides[0], sides[1]), (sides[1], sides[0])] {
                let delay = self.random.duration(Duration::ZERO, longest);
                self.after(delay, Event::LinkDown(member, peer, session));
            }
        }
        let delay = self.random.duration(Duration::from_millis(5), Duration::from_millis(120));
        self.want_link(one, other, delay);
    }

    fn refuse(&mut self, member: usize, peer: usize, reason: Refusal) {
        self.break_link(member, peer, Duration::from_millis(1));
        let refuser = self.stage.group.id(member);
        self.push(peer, Input::Refused { peer: refuser, reason });
    }

    fn served(&mut self, member: usize, start: u64, request: &Serve) {
        let node = &self.stage.nodes[member];
        if !node.runs() || node.starts != start {
            return;
        }
        let Some(to) = self.stage.group.index(&request.to) else { return };
        if let Some(envelope) = self.stage.read_slots(member, request) {
            self.send(member, to, self.now, envelope);
        }
    }

    pub(super) fn pair(&self, one: usize, other: usize) -> usize {
        one.min(other) * self.size() + one.max(other)
    }

    // Hosts.

    fn publish(&mut self) {
        if self.healed {
            return;
        }
        let burst = self.random.weighted(&[(70, 1), (20, 3), (9, 8), (1, 60)]);
        let member = self.random.index(self.size());
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

    /// After the faults every member that runs and does not drain publishes twice; these must be ordered.
    fn bid_farewell(&mut self) {
        for member in 0..self.size() {
            if !self.stage.nodes[member].runs() || self.draining[member] {
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

    // The end.

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

    /// What has still to happen.
    fn unfinished(&self) -> Vec<String> {
        let ended = |member: usize| matches!(self.stage.nodes[member].life, Life::Ended(_));
        let live: Vec<usize> = (0..self.size()).filter(|member| !ended(*member)).collect();
        let lost =
            |member: usize, start: u64| ended(member) || self.rotten[member].is_some_and(|rotten| start <= rotten);
        let (sequence, promises) = (&self.stage.sequence, &self.stage.promises);
        let mut missing = check::unfinished(self.now, &live, lost, sequence, promises);
        for member in &live {
            if !self.stage.nodes[*member].runs() {
                missing.push(format!("member {} does not run", member + 1));
            }
            missing.extend(self.unready(*member));
            if sequence.digest(*member) != sequence.digest(live[0]) {
                missing.push(format!("members {} and {} differ", live[0] + 1, member + 1));
            }
        }
        for ticket in &self.farewells {
            let fate = promises.fate(*ticket);
            if !matches!(fate, check::Fate::Answered(Outcome::Ordered { .. })) {
                missing.push(format!("publish {} after the faults: {fate:?}", ticket.0));
            }
        }
        missing
    }

    /// What a member that runs says is in its way. A clock that jumped stays wrong, and is no obstacle to the order.
    fn unready(&self, member: usize) -> Option<String> {
        let Readiness::NotReady(reasons) = self.stage.nodes[member].driver()?.replica().snapshot().readiness else {
            return None;
        };
        let reasons: Vec<String> = reasons.into_iter().filter(|reason| !reason.contains("clock")).collect();
        (!reasons.is_empty()).then(|| format!("member {} is not ready: {}", member + 1, reasons.join(", ")))
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
