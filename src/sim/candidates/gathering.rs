//! Machines that look for each other: what they ask and answer, when their records are durable, who finds whom.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::machine::{Machine, Process};
use super::telling::{change, tell};
use super::vows::Vows;
use crate::protocol::{Candidate, CandidateInput, CandidateReady, CandidateVerdict, FoundedGroup, Waiting};
use crate::sim::chart::Chart;
use crate::sim::check::Violation;
use crate::sim::clock::Moment;
use crate::sim::coverage::Coverage;
use crate::sim::random::Random;
use crate::types::{
    CandidacyFrame, CandidacyMessage, Commitment, CommitmentRecord, Digest, Instant, MemberId, Sabotage,
};

/// A disk that hangs answers again within this time.
const SYNC_MAX: Duration = Duration::from_secs(15);

/// A key that no machine has, and that takes part in nothing.
const STRANGER: MemberId = MemberId([0xee; 32]);

/// How exchanges go.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Time on the way.
    pub latency: Duration,
    /// It varies, as simulated links do.
    pub varies: bool,
    /// Asks and answers lost, of 1,000.
    pub lost: u64,
    /// Machines that a source does not tell of, of 1,000.
    pub unseen: u64,
}

/// Something that is going to happen. A process is named by machine and start.
#[derive(Debug)]
pub(super) enum Event {
    /// A process looks at the time.
    Wake(usize, u64),
    /// A source tells a process who is there.
    Discover(usize, u64),
    /// A record is durable.
    Synced(usize, u64),
    /// An ask arrives.
    Ask { from: usize, to: usize, exchange: u64, frame: CandidacyFrame },
    /// An answer arrives.
    Answer { from: MemberId, to: usize, exchange: u64, frame: CandidacyFrame },
    /// Nobody has answered.
    NoAnswer { from: MemberId, to: usize, exchange: u64 },
}

/// The machines and what is between them.
pub struct Gathering {
    /// Virtual time.
    pub now: Moment,
    /// The machines.
    pub machines: Vec<Machine>,
    /// What must hold.
    pub vows: Vows,
    /// What happened, counted.
    pub coverage: Coverage,
    /// The last steps.
    pub chart: Chart,
    /// What machines do, if somebody wants to be told.
    pub notices: Option<Vec<(usize, String)>>,
    /// How exchanges go.
    pub manner: Manner,
    /// Directions in which nothing arrives.
    pub blocked: BTreeSet<(usize, usize)>,
    sabotage: Sabotage,
    pub(super) random: Random,
    queue: BTreeMap<(Moment, u64), Event>,
    order: u64,
    pub(super) exchanges: u64,
    told: BTreeSet<(usize, String)>,
    pub(super) trace: blake3::Hasher,
}

/// Ends everything.
pub(super) type Course = Result<(), Violation>;

impl Gathering {
    /// So many machines that expect so many.
    pub fn new(machines: usize, expect: usize, manner: Manner, random: Random, sabotage: Sabotage) -> Gathering {
        let sync = Duration::from_millis(1);
        Gathering {
            now: Moment(0),
            machines: (0..machines).map(|index| Machine::new(index, expect, sync)).collect(),
            vows: Vows::default(),
            coverage: Coverage::default(),
            chart: Chart::new(machines),
            notices: None,
            manner,
            blocked: BTreeSet::new(),
            sabotage,
            random,
            queue: BTreeMap::new(),
            order: 0,
            exchanges: 0,
            told: BTreeSet::new(),
            trace: blake3::Hasher::new(),
        }
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Moment> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// Digest of everything that happened.
    pub fn trace(&self) -> Digest {
        Digest(*self.trace.finalize().as_bytes())
    }

    /// Lets everything up to a moment happen.
    pub fn advance(&mut self, until: Moment) -> Course {
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= until) {
            self.now = entry.key().0;
            let event = entry.remove();
            self.happens(event)?;
        }
        self.now = until;
        Ok(())
    }

    /// Starts a process.
    pub fn start(&mut self, index: usize) -> Course {
        let now = self.instant();
        let machine = &mut self.machines[index];
        assert!(!machine.runs(), "one process on a machine");
        machine.starts += 1;
        machine.wake = Moment(0);
        let settings = machine.settings(index, &self.sabotage);
        let (id, start, record) = (settings.me, machine.starts, machine.record());
        let bound = record.as_ref().is_some_and(|record| record.commitment != Commitment::Free);
        match Candidate::new(settings, record, now) {
            Ok(candidate) => self.machines[index].process = Process::Candidate(Box::new(candidate)),
            Err(bad) => {
                self.note(index, format!("cannot start: {bad}"));
                return Ok(());
            }
        }
        self.coverage.candidates_restarted_bound += u64::from(bound);
        self.vows.started(id);
        let delay = self.delay();
        self.after(delay * 4, Event::Discover(index, start));
        self.act(index)
    }

    /// The process dies. A record on its way may be on the disk or not.
    pub fn kill(&mut self, index: usize, written: bool) -> Course {
        if !self.machines[index].runs() {
            self.machines[index].process = Process::Down;
            return Ok(());
        }
        self.note(index, "dies");
        self.coverage.candidates_killed += 1;
        let machine = &mut self.machines[index];
        machine.process = Process::Down;
        machine.doom = None;
        machine.asked.clear();
        machine.asks.clear();
        let record = machine.writing.drain(..).next();
        self.coverage.candidates_killed_writing += u64::from(record.is_some());
        match record.filter(|_| written) {
            Some(record) => self.store(index, record),
            None => Ok(()),
        }
    }

    /// The disk is gone, and the key with it. Nothing runs on it.
    pub fn lose(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        assert!(!machine.runs(), "the disk of a running process stays");
        self.vows.lost(machine.id(index));
        machine.process = Process::Down;
        machine.disk = None;
        machine.writing.clear();
        machine.disks_lost += 1;
        self.coverage.candidates_disks_lost += 1;
        self.note(index, "loses its disk");
    }

    /// Its mesh listens at another address, while it runs.
    pub fn move_on(&mut self, index: usize) -> Course {
        self.machines[index].setup.moves += 1;
        self.note(index, "is elsewhere");
        let addresses = self.machines[index].addresses(index);
        self.step(index, CandidateInput::Moved(addresses))
    }

    /// Somebody who is no machine of this world says something to a candidate.
    pub fn cry(&mut self, index: usize, message: CandidacyMessage) -> Course {
        let Some(candidate) = self.machines[index].candidate() else { return Ok(()) };
        let Waiting { cluster, expect, .. } = candidate.waiting();
        let frame = CandidacyFrame::new(&cluster, expect as u32, message);
        self.coverage.candidates_heard_strangers += 1;
        self.step(index, CandidateInput::Asked { from: STRANGER, frame })
    }

    /// Nothing is in the way between two machines.
    pub fn reach(&self, one: usize, other: usize) -> bool {
        !self.blocked.contains(&(one, other)) && !self.blocked.contains(&(other, one))
    }

    fn happens(&mut self, event: Event) -> Course {
        match event {
            Event::Wake(index, start) if self.is_running(index, start) && self.machines[index].wake == self.now => {
                self.machines[index].wake = Moment(0);
                self.step(index, CandidateInput::Tick)
            }
            Event::Discover(index, start) if self.is_running(index, start) => self.discover(index, start),
            Event::Synced(index, start) if self.is_running(index, start) => self.synced(index),
            Event::Wake(..) | Event::Discover(..) | Event::Synced(..) => Ok(()),
            Event::Ask { from, to, exchange, frame } => self.ask_arrives(from, to, exchange, frame),
            Event::Answer { from, to, exchange, frame } => {
                if self.machines[to].asked.get(&from) != Some(&exchange) {
                    return Ok(());
                }
                self.machines[to].asked.remove(&from);
                self.answer_arrives(from, to, frame)
            }
            Event::NoAnswer { from, to, exchange } => {
                if self.machines[to].asked.get(&from) != Some(&exchange) {
                    return Ok(());
                }
                self.machines[to].asked.remove(&from);
                self.step(to, CandidateInput::Unanswered { from, reason: "nobody is there".to_owned() })
            }
        }
    }

    pub(super) fn step(&mut self, index: usize, input: CandidateInput) -> Course {
        let now = self.instant();
        let Process::Candidate(candidate) = &mut self.machines[index].process else { return Ok(()) };
        candidate.step(input, now);
        self.act(index)
    }

    /// Does what a candidate wants done.
    fn act(&mut self, index: usize) -> Course {
        let Process::Candidate(candidate) = &mut self.machines[index].process else { return Ok(()) };
        let CandidateReady { record, asks, answers, verdict } = candidate.ready();
        if let Some(record) = record {
            self.write(index, &record);
        }
        for (to, frame) in asks {
            self.send_ask(index, to, frame)?;
        }
        for (to, frame) in answers {
            self.send_answer(index, to, frame)?;
        }
        if let Some(verdict) = verdict {
            return self.judge(index, verdict);
        }
        if self.is_doomed(index, false) && !self.machines[index].writing.is_empty() {
            return self.kill(index, false);
        }
        self.wake_in_time(index);
        Ok(())
    }

    /// Whether a process dies with the record that it writes now.
    fn is_doomed(&self, index: usize, durable: bool) -> bool {
        self.machines[index].doom.is_some_and(|doom| doom.record == 1 && doom.durable == durable)
    }

    fn wake_in_time(&mut self, index: usize) {
        let Process::Candidate(candidate) = &self.machines[index].process else { return };
        let at = Moment(candidate.next_timeout().0).max(self.now + Duration::from_millis(1));
        let machine = &mut self.machines[index];
        if machine.wake == Moment(0) || at < machine.wake {
            machine.wake = at;
            let start = machine.starts;
            self.at(at, Event::Wake(index, start));
        }
    }

    fn judge(&mut self, index: usize, verdict: CandidateVerdict) -> Course {
        let id = self.machines[index].id(index);
        match verdict {
            CandidateVerdict::Founded(genesis) => {
                self.vows.founded(id, &genesis)?;
                self.coverage.candidates_founded += 1;
                let group = FoundedGroup { me: id, genesis };
                self.machines[index].process = Process::Member(group);
            }
            CandidateVerdict::Exists { cluster, told_by } => {
                self.vows.exists(id, &cluster)?;
                self.coverage.candidates_told_of_a_group += 1;
                self.note(index, format!("stops: a group of this name exists, as {} says", tell(&told_by)));
                self.machines[index].process = Process::Stopped(cluster);
            }
        }
        Ok(())
    }

    fn write(&mut self, index: usize, record: &CommitmentRecord) {
        let machine = &mut self.machines[index];
        machine.writing.push_back(record.encode());
        let (sync, start) = (machine.sync, machine.starts);
        let sync = if self.manner.varies { self.random.around(sync).min(SYNC_MAX) } else { sync };
        self.after(sync, Event::Synced(index, start));
    }

    fn synced(&mut self, index: usize) -> Course {
        let Some(record) = self.machines[index].writing.pop_front() else { return Ok(()) };
        self.store(index, record)?;
        if self.is_doomed(index, true) {
            return self.kill(index, false);
        }
        if let Some(doom) = &mut self.machines[index].doom {
            doom.record = doom.record.saturating_sub(1).max(1);
        }
        self.step(index, CandidateInput::Durable)
    }

    /// The disk holds another record from now on.
    fn store(&mut self, index: usize, record: bytes::Bytes) -> Course {
        let id = self.machines[index].id(index);
        self.trace.update(&record);
        self.machines[index].disk = Some(record);
        let next = self.machines[index].record().expect("it was just written").commitment;
        let before = self.vows.holds(&id).clone();
        self.vows.durable(id, &next)?;
        self.count(&before, &next);
        if let Some(words) = change(&before, &next) {
            self.note(index, words);
        }
        Ok(())
    }

    fn count(&mut self, before: &Commitment, next: &Commitment) {
        let coverage = &mut self.coverage;
        match (before, next) {
            (Commitment::Proposed(_), Commitment::Made(_)) => coverage.geneses_made += 1,
            (Commitment::Proposed(_), Commitment::Free) => coverage.proposals_given_up += 1,
            (Commitment::Promised(_), Commitment::Free) => coverage.promises_released += 1,
            _ => {}
        }
    }

    /// Every key there is or was.
    pub fn ids(&self) -> Vec<MemberId> {
        let all = self.machines.iter().enumerate();
        all.flat_map(|(index, machine)| (0..=machine.disks_lost).map(move |disk| super::machine::key(index, disk)))
            .collect()
    }

    pub(super) fn note_once(&mut self, index: usize, words: String) -> bool {
        let new = self.told.insert((index, words.clone()));
        if new {
            self.note(index, words);
        }
        new
    }

    fn note(&mut self, index: usize, words: impl Into<String>) {
        let words = words.into();
        let id = tell(&self.machines[index].id(index));
        self.chart.note(self.now, index, words.clone());
        if let Some(notices) = &mut self.notices {
            notices.push((index, format!("{id} {words}")));
        }
    }

    fn is_running(&self, index: usize, start: u64) -> bool {
        self.machines[index].runs() && self.machines[index].starts == start
    }

    fn instant(&self) -> Instant {
        Instant(self.now.0)
    }

    pub(super) fn delay(&mut self) -> Duration {
        let latency = self.manner.latency;
        if self.manner.varies { self.random.around(latency) } else { latency }
    }

    pub(super) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, at: Moment, event: Event) {
        self.order += 1;
        self.queue.insert((at.max(self.now), self.order), event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [usize; 3] = [0, 1, 2];

    fn three() -> Gathering {
        let manner = Manner { latency: Duration::from_millis(1), varies: false, lost: 0, unseen: 0 };
        Gathering::new(ALL.len(), ALL.len(), manner, Random::new(0, 0), Sabotage::NONE)
    }

    /// Lets time pass; then all are members of one group.
    fn make_one_group(mut gathering: Gathering, course: &str) {
        let until = gathering.now + Duration::from_secs(15);
        gathering.advance(until).unwrap();
        assert_eq!(gathering.vows.made().count(), 1, "{course}");
        for machine in &gathering.machines {
            assert!(matches!(machine.process, Process::Member(_)), "{course}: {}", gathering.chart.draw());
        }
    }

    #[test]
    fn started_in_any_order_minutes_apart_three_make_one_group() {
        for [first, second, third] in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut gathering = three();
            for index in [first, second, third] {
                gathering.start(index).unwrap();
                let until = gathering.now + Duration::from_secs(if index == third { 0 } else { 200 });
                gathering.advance(until).unwrap();
            }
            make_one_group(gathering, &format!("{first} {second} {third}"));
        }
    }

    #[test]
    fn whoever_is_killed_at_whatever_moment_three_make_one_group() {
        for index in ALL {
            for half_milliseconds in 0..60 {
                for written in [false, true] {
                    let mut gathering = three();
                    ALL.into_iter().for_each(|index| gathering.start(index).unwrap());
                    gathering.advance(Moment(half_milliseconds * 500_000 + 250_000)).unwrap();
                    gathering.kill(index, written).unwrap();
                    let away = Duration::from_secs(if half_milliseconds % 2 == 0 { 1 } else { 8 });
                    let until = gathering.now + away;
                    gathering.advance(until).unwrap();
                    gathering.start(index).unwrap();
                    make_one_group(gathering, &format!("{} killed after {half_milliseconds} half ms", index + 1));
                }
            }
        }
    }
}
