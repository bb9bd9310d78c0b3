//! What a seed draws for candidates: how many there are and how many they expect, when they start, which faults fall; and
//! what must be there when the faults are over.

use std::time::Duration;

use super::gathering::{Course, Gathering, Manner};
use super::machine::{DISKS_MAX, Doom, Listens, Process};
use super::telling::{plain, tell};
use crate::protocol::WaitingPhase;
use crate::sim::campaign::{Report, guarded};
use crate::sim::check::Violation;
use crate::sim::clock::Moment;
use crate::sim::random::Random;
use crate::sim::world::Verdict;
use crate::types::{CandidacyMessage, CandidacyRefusal, ClusterId, Commitment, Digest, Genesis, MemberId, Sabotage};

/// After the faults there is a group within this time, or a reason why not.
const PATIENCE: Duration = Duration::from_secs(40);

/// Something that somebody does, or that happens to machines.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// One dies and comes back.
    Kill,
    /// One dies with one of its next records, durable or lost, and comes back.
    Doom,
    /// One dies and comes back without its disk.
    Lose,
    /// One dies and never comes back, and its disk is gone.
    Retire,
    /// The machines fall into two parts.
    Part,
    /// One direction goes silent.
    Silence,
    /// One is started with other settings, and later with the right ones.
    Differ,
    /// A machine's mesh moves to another address, at its next start or while it runs.
    Move,
    /// A stranger says something.
    Cry,
}

/// What is to happen.
#[derive(Debug)]
enum Deed {
    Start(usize),
    Fault,
    /// Machines may reach each other again.
    Join,
    Heal,
}

/// The group of which strangers tell, and which there is not.
const CRIED: ClusterId = Digest([7; 32]);

struct World {
    gathering: Gathering,
    random: Random,
    deeds: Vec<(Moment, Deed)>,
    expect: usize,
    /// Where machines say that they listen, but for those that differ.
    listens: Listens,
    faults: Vec<(u64, Fault)>,
    gap: Duration,
    heals: Moment,
    healed: bool,
    /// Machines that never come back.
    retired: Vec<bool>,
    /// Machines that were told to start.
    wanted: Vec<bool>,
}

/// Lets the candidates of a seed gather.
pub fn gather(seed: u64, sabotage: &Sabotage) -> Report {
    let mut world = World::new(seed, sabotage.clone());
    let verdict = guarded(|| world.run()).unwrap_or_else(|panicked| Verdict::Crashed(format!("panicked: {panicked}")));
    let gathering = &world.gathering;
    let chart = (verdict != Verdict::Passed).then(|| gathering.chart.draw());
    Report { seed, verdict, trace: gathering.trace(), coverage: gathering.coverage.clone(), chart }
}

impl World {
    fn new(seed: u64, sabotage: Sabotage) -> World {
        let mut random = Random::new(seed, 11);
        let expect = random.weighted(&[(1, 1), (12, 3), (5, 5)]);
        let extra = random.weighted(&[(2, -1), (6, 0), (4, 1), (2, expect as i64 - 1), (1, expect as i64)]);
        let machines = (expect as i64 + extra).max(1) as usize;
        let manner = Manner {
            latency: Duration::from_micros(random.weighted(&[(3, 200), (2, 5_000), (1, 60_000)])),
            varies: true,
            lost: random.weighted(&[(4, 0), (2, 30), (1, 250)]),
            unseen: random.weighted(&[(2, 0), (1, 400)]),
        };
        let spread = Duration::from_millis(random.weighted(&[(5, 300), (4, 8_000), (1, 100_000)]));
        let gap = Duration::from_millis(random.weighted(&[(3, 700), (2, 3_000), (2, 1_000_000)]));
        let rare = |random: &mut Random, weight: u64| if random.chance(350) { weight } else { 0 };
        let mut faults = vec![(8, Fault::Kill), (8, Fault::Doom)];
        for (weight, fault) in [
            (3, Fault::Lose),
            (2, Fault::Retire),
            (6, Fault::Part),
            (6, Fault::Silence),
            (3, Fault::Differ),
            (3, Fault::Move),
            (3, Fault::Cry),
        ] {
            faults.push((rare(&mut random, weight), fault));
        }
        let heals = Moment::at(spread + random.duration(Duration::from_secs(2), Duration::from_secs(25)));
        let listens = random.weighted(&[(2, Listens::Own), (1, Listens::Bridged)]);
        let mut gathering = Gathering::new(machines, expect, manner, Random::new(seed, 12), sabotage);
        for machine in &mut gathering.machines {
            machine.sync =
                Duration::from_micros(random.weighted(&[(8, 300), (4, 8_000), (2, 400_000), (1, 8_000_000)]));
            machine.setup.listens = listens;
        }
        let mut world = World {
            gathering,
            random,
            deeds: Vec::new(),
            expect,
            listens,
            faults,
            gap,
            heals,
            healed: false,
            retired: vec![false; machines],
            wanted: vec![false; machines],
        };
        for index in 0..machines {
            let delay = world.random.duration(Duration::ZERO, spread);
            world.deeds.push((Moment::at(delay), Deed::Start(index)));
        }
        world.deeds.push((Moment::at(world.gap), Deed::Fault));
        world.deeds.push((heals, Deed::Heal));
        world
    }

    fn run(&mut self) -> Verdict {
        match self.course() {
            Ok(missing) if missing.is_empty() => Verdict::Passed,
            Ok(missing) => Verdict::Stalled(missing),
            Err(violation) => Verdict::Diverged(violation),
        }
    }

    /// Lets everything happen; what is missing in the end.
    fn course(&mut self) -> Result<Vec<String>, Violation> {
        while let Some(next) = self.next_deed() {
            let (at, deed) = self.deeds.swap_remove(next);
            self.gathering.advance(at)?;
            self.does(deed)?;
        }
        let end = self.heals + PATIENCE;
        let mut missing = self.missing();
        while !missing.is_empty() && self.gathering.now < end {
            let until = self.gathering.now + Duration::from_secs(1);
            self.gathering.advance(until)?;
            missing = self.missing();
        }
        self.count_bound();
        Ok(missing)
    }

    /// The deed that comes first; of two at one moment the one that was planned first.
    fn next_deed(&self) -> Option<usize> {
        (0..self.deeds.len()).min_by_key(|index| self.deeds[*index].0)
    }

    fn after(&mut self, delay: Duration, deed: Deed) {
        let at = self.gathering.now + delay;
        self.deeds.push((at, deed));
    }

    fn does(&mut self, deed: Deed) -> Course {
        match deed {
            Deed::Start(index) => self.start(index),
            Deed::Fault if !self.healed => {
                let gap = self.random.around(self.gap);
                self.after(gap, Deed::Fault);
                let faults = self.faults.clone();
                let fault = self.random.weighted(&faults);
                self.inflict(fault)
            }
            Deed::Fault => Ok(()),
            Deed::Join => {
                self.gathering.blocked.clear();
                Ok(())
            }
            Deed::Heal => self.heal(),
        }
    }

    fn start(&mut self, index: usize) -> Course {
        self.wanted[index] = true;
        if self.retired[index] || !matches!(self.gathering.machines[index].process, Process::Down) {
            return Ok(());
        }
        self.gathering.start(index)
    }

    fn inflict(&mut self, fault: Fault) -> Course {
        let index = self.random.index(self.gathering.machines.len());
        match fault {
            Fault::Kill => self.kill(index),
            Fault::Doom => {
                let doom = Doom { record: self.random.between(1, 2), durable: self.random.chance(500) };
                self.gathering.machines[index].doom = Some(doom);
                if self.wanted[index] {
                    self.starts_later(index);
                }
                Ok(())
            }
            Fault::Lose if self.gathering.machines[index].disks_lost + 1 < DISKS_MAX => {
                self.kill(index)?;
                self.gathering.lose(index);
                Ok(())
            }
            Fault::Lose => Ok(()),
            Fault::Retire => {
                self.kill(index)?;
                self.gathering.lose(index);
                self.retired[index] = true;
                Ok(())
            }
            Fault::Part => {
                let size = self.gathering.machines.len();
                let side: Vec<bool> = (0..size).map(|_| self.random.chance(500)).collect();
                let pairs = (0..size).flat_map(|one| (0..size).map(move |other| (one, other)));
                self.gathering.blocked.extend(pairs.filter(|(one, other)| side[*one] != side[*other]));
                self.joins_later();
                Ok(())
            }
            Fault::Silence => {
                let other = self.random.index(self.gathering.machines.len());
                self.gathering.blocked.insert((index, other));
                self.joins_later();
                Ok(())
            }
            Fault::Differ => {
                self.kill(index)?;
                let setup = &mut self.gathering.machines[index].setup;
                let wrong = [Listens::Bridge, Listens::Rubbish, Listens::Unusual, Listens::Nowhere];
                match self.random.below(3) {
                    0 => setup.voters_target = 7,
                    1 => setup.listens = wrong[self.random.index(wrong.len())],
                    _ => setup.expect = if setup.expect == 3 { 5 } else { 3 },
                }
                Ok(())
            }
            Fault::Move if self.random.chance(500) => self.gathering.move_on(index),
            Fault::Move => {
                self.kill(index)?;
                self.gathering.machines[index].setup.moves += 1;
                Ok(())
            }
            Fault::Cry => self.cry(index),
        }
    }

    /// A stranger says to a candidate that there is a lower one, or a group. Only who is bound does not believe the latter.
    fn cry(&mut self, index: usize) -> Course {
        let machine = &self.gathering.machines[index];
        let holds = self.gathering.vows.holds(&machine.id(index));
        let bound = matches!(holds, Commitment::Proposed(_) | Commitment::Promised(_)) && machine.writing.is_empty();
        let message = if bound && self.random.chance(500) {
            CandidacyMessage::Founded(CRIED)
        } else {
            CandidacyMessage::Refused(CandidacyRefusal::Lower(MemberId([0; 32])))
        };
        self.gathering.cry(index, message)
    }

    /// A process dies, and is to come back.
    fn kill(&mut self, index: usize) -> Course {
        let written = self.random.chance(500);
        self.gathering.kill(index, written)?;
        if self.wanted[index] {
            self.starts_later(index);
        }
        Ok(())
    }

    fn starts_later(&mut self, index: usize) {
        let most = self.random.weighted(&[(3, 300), (2, 4_000), (1, 15_000)]);
        let delay = self.random.duration(Duration::from_millis(1), Duration::from_millis(most));
        self.after(delay, Deed::Start(index));
    }

    fn joins_later(&mut self) {
        let delay = self.random.duration(Duration::from_millis(200), Duration::from_secs(15));
        self.after(delay, Deed::Join);
    }

    /// Faults are over: everybody that is not gone runs, with the right settings, and reaches everybody.
    fn heal(&mut self) -> Course {
        self.healed = true;
        let gathering = &mut self.gathering;
        gathering.blocked.clear();
        gathering.manner.lost = 0;
        gathering.manner.unseen = 0;
        gathering.chart.word(gathering.now, "faults are over");
        for index in 0..gathering.machines.len() {
            let machine = &mut self.gathering.machines[index];
            machine.sync = machine.sync.min(Duration::from_millis(20));
            machine.doom = None;
            let differs = machine.setup.expect != self.expect
                || machine.setup.voters_target != self.expect as u32
                || machine.setup.listens != self.listens;
            machine.setup.expect = self.expect;
            machine.setup.listens = self.listens;
            machine.setup.voters_target = self.expect as u32;
            // Whom a stranger tells of a group says what to do if there is none: it is to be started again.
            let waiting = machine.candidate().map(|candidate| candidate.waiting());
            let misled = waiting.is_some_and(|waiting| waiting.claims.iter().any(|claim| claim.group == CRIED));
            if differs || misled {
                self.gathering.kill(index, true)?;
            }
            self.start(index)?;
        }
        Ok(())
    }

    /// What is missing: everybody is in a group, or has heard of one and stopped, or says why there is none.
    fn missing(&self) -> Vec<String> {
        let gathering = &self.gathering;
        let waiting: Vec<usize> =
            (0..gathering.machines.len()).filter(|index| gathering.machines[*index].candidate().is_some()).collect();
        let founded = gathering.machines.iter().any(|machine| matches!(machine.process, Process::Member(_)));
        let excused = !founded && (waiting.len() < self.expect || waiting.len() >= 2 * self.expect);
        if excused || (!founded && self.is_bound_for_good()) {
            return waiting.into_iter().filter_map(|index| self.silent_about(index)).collect();
        }
        let stuck = waiting.into_iter().filter(|index| !self.is_torn(*index));
        stuck.map(|index| format!("{}: {}", self.name(index), self.waiting(index))).collect()
    }

    /// A candidate is bound to a genesis beside which another group was made, of others: there were enough of them for two, or
    /// what it is bound to can never be made any more. It stays, and says who tells of the group.
    fn is_torn(&self, index: usize) -> bool {
        let gathering = &self.gathering;
        let holds = gathering.vows.holds(&gathering.machines[index].id(index));
        let (Commitment::Proposed(bound) | Commitment::Promised(bound)) = holds else { return false };
        // One that both name, and that lives, would say so itself, and be believed.
        let speaks = |id: &MemberId| {
            let mut machines = gathering.machines.iter().enumerate();
            machines.any(|(other, machine)| machine.id(other) == *id && matches!(machine.process, Process::Member(_)))
        };
        let apart = |made: &Genesis| {
            let mut both = made.members.iter().filter(|one| bound.members.iter().any(|other| one.id == other.id));
            !both.any(|one| speaks(&one.id))
        };
        let claims = gathering.machines[index].candidate().map(|candidate| candidate.waiting().claims);
        let claimed = |made: &Genesis| claims.iter().flatten().any(|claim| claim.group == made.cluster());
        gathering.vows.made().any(|made| apart(made) && claimed(made))
    }

    /// What a candidate should say of what it waits for, and does not.
    fn silent_about(&self, index: usize) -> Option<String> {
        let waiting = self.gathering.machines[index].candidate()?.waiting();
        let id = self.gathering.machines[index].id(index);
        let crowded = waiting.candidates.len() >= 2 * self.expect;
        let says = match self.gathering.vows.holds(&id) {
            Commitment::Free if crowded => waiting.phase == WaitingPhase::Crowded,
            Commitment::Promised(genesis) => {
                let gone = self.gathering.vows.is_lost(&genesis.members[0].id);
                matches!(waiting.phase, WaitingPhase::Promised { silent, .. } if silent == gone)
            }
            _ => true,
        };
        (!says).then(|| format!("{} says: {}", self.name(index), self.waiting(index)))
    }

    /// A candidate has promised to one whose disk is gone, and waits for an operator.
    fn is_bound_for_good(&self) -> bool {
        let gathering = &self.gathering;
        gathering.machines.iter().enumerate().any(|(index, machine)| match gathering.vows.holds(&machine.id(index)) {
            Commitment::Promised(genesis) => gathering.vows.is_lost(&genesis.members[0].id),
            _ => false,
        })
    }

    fn count_bound(&mut self) {
        let machines = self.gathering.machines.iter().enumerate();
        let waiting: Vec<MemberId> = machines
            .filter(|(_, machine)| machine.candidate().is_some())
            .map(|(index, machine)| machine.id(index))
            .collect();
        let bound = waiting.iter().filter(|id| match self.gathering.vows.holds(id) {
            Commitment::Promised(genesis) => self.gathering.vows.is_lost(&genesis.members[0].id),
            _ => false,
        });
        self.gathering.coverage.candidates_bound_for_good += bound.count() as u64;
    }

    fn name(&self, index: usize) -> String {
        tell(&self.gathering.machines[index].id(index))
    }

    fn waiting(&self, index: usize) -> String {
        let candidate = self.gathering.machines[index].candidate().expect("it waits");
        plain(&candidate.waiting().to_string(), &self.gathering.ids())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_of_many_seeds_found_one_group_or_say_why_not() {
        let mut failed = Vec::new();
        for seed in 0..200 {
            let report = gather(seed, &Sabotage::NONE);
            if report.verdict != Verdict::Passed {
                failed.push((seed, report.verdict));
            }
        }
        assert!(failed.is_empty(), "{failed:#?}");
    }

    #[test]
    fn the_same_seed_takes_the_same_course() {
        let (once, again) = (gather(5, &Sabotage::NONE), gather(5, &Sabotage::NONE));
        assert_eq!((once.trace, once.coverage), (again.trace, again.coverage));
    }
}
