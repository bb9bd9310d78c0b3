//! Commands of scenarios about candidates (rule G1): a world of its own, in which exchanges and syncs take a millisecond.

use std::time::Duration;

use super::player::{Player, Understood, duration, number};
use crate::sim::candidates::{Doom, Gathering, Listens, MACHINES_MAX, Manner, members, names, plain, tell};
use crate::sim::clock::Moment;
use crate::sim::random::Random;
use crate::types::{CandidacyMessage, CandidacyRefusal, Digest, MemberId};

/// Time of an exchange, each way.
const LATENCY: Duration = Duration::from_millis(1);

impl Player {
    /// A world of candidates begins.
    pub(super) fn gather_candidates(&mut self, machines: &str, expect: &str) -> Understood<()> {
        let (machines, expect) = (number(machines)? as usize, number(expect)? as usize);
        if !(1..=MACHINES_MAX).contains(&machines) {
            return Err(format!("there are 1 to {MACHINES_MAX} machines"));
        }
        let manner = Manner { latency: LATENCY, varies: false, lost: 0, unseen: 0 };
        let mut gathering = Gathering::new(machines, expect, manner, Random::new(0, 0), self.sabotage.clone());
        gathering.notices = Some(Vec::new());
        self.gathering = Some(gathering);
        Ok(())
    }

    pub(super) fn understand_candidates(&mut self, words: &[&str]) -> Understood<()> {
        let done = self.candidates_do(words);
        let notices = self.gathering.as_mut().and_then(|gathering| gathering.notices.as_mut()).map(std::mem::take);
        self.out.extend(notices.into_iter().flatten().map(|(index, words)| (Some(index), words)));
        self.out.append(&mut self.later);
        done
    }

    fn candidates_do(&mut self, words: &[&str]) -> Understood<()> {
        match words {
            ["start", machines @ ..] => self.each_machine(machines, |player, index| {
                if player.gathering().machines[index].runs() {
                    return Err(format!("machine {} runs", index + 1));
                }
                player.gathering().start(index).or_else(|violation| player.violated(&violation))
            }),
            ["kill", machines @ ..] => self.each_machine(machines, |player, index| {
                player.gathering().kill(index, false).or_else(|violation| player.violated(&violation))
            }),
            ["lose", machines @ ..] => self.each_machine(machines, |player, index| {
                if player.gathering().machines[index].runs() {
                    return Err(format!("machine {} runs", index + 1));
                }
                player.gathering().lose(index);
                Ok(())
            }),
            ["doom", machine, "before-sync", record] => self.doom_machine(machine, false, record),
            ["doom", machine, "after-sync", record] => self.doom_machine(machine, true, record),
            ["advance", time] => {
                let by = duration(time)?;
                let until: Moment = self.gathering().now + by;
                self.gathering().advance(until).or_else(|violation| self.violated(&violation))
            }
            ["cut", one, other] => self.block(one, other, true, true),
            ["link", one, other] => self.block(one, other, true, false),
            ["silence", direction] => self.block_direction(direction, true),
            ["speak", direction] => self.block_direction(direction, false),
            ["part", machines @ ..] => self.part_machines(machines),
            ["join"] => {
                self.gathering().blocked.clear();
                Ok(())
            }
            ["stranger", machine, "lower"] => {
                let index = self.machine(machine)?;
                let lower = CandidacyMessage::Refused(CandidacyRefusal::Lower(MemberId([0; 32])));
                self.gathering().cry(index, lower).or_else(|violation| self.violated(&violation))
            }
            ["stranger", machine, "founded"] => {
                let index = self.machine(machine)?;
                let founded = CandidacyMessage::Founded(Digest([7; 32]));
                self.gathering().cry(index, founded).or_else(|violation| self.violated(&violation))
            }
            ["set", machine, what, value] => self.set(machine, what, value),
            ["move", machine] => {
                let index = self.machine(machine)?;
                self.gathering().machines[index].setup.moves += 1;
                Ok(())
            }
            ["waiting", machines @ ..] => self.each_machine(machines, Player::show_waiting),
            ["groups"] => {
                let ids = self.gathering().ids();
                let told = |genesis| format!("{} ({})", members(genesis), plain(&names(genesis), &ids));
                let groups: Vec<String> = self.gathering().vows.made().map(told).collect();
                let told = if groups.is_empty() { "no group".to_owned() } else { groups.join(" · ") };
                self.later.push((None, format!("groups: {told}")));
                Ok(())
            }
            _ => Err("no such command among candidates".to_owned()),
        }
    }

    fn gathering(&mut self) -> &mut Gathering {
        self.gathering.as_mut().expect("only then its commands are understood")
    }

    fn violated(&mut self, violation: &crate::sim::check::Violation) -> Understood<()> {
        self.later.push((None, format!("VIOLATED {violation}")));
        self.failed = true;
        Ok(())
    }

    fn machine(&mut self, word: &str) -> Understood<usize> {
        let index = number(word)? as usize;
        if (1..=self.gathering().machines.len()).contains(&index) {
            return Ok(index - 1);
        }
        Err(format!("there is no machine {word}"))
    }

    fn each_machine(&mut self, words: &[&str], act: impl Fn(&mut Player, usize) -> Understood<()>) -> Understood<()> {
        for word in words {
            let index = self.machine(word)?;
            act(self, index)?;
        }
        Ok(())
    }

    fn doom_machine(&mut self, word: &str, durable: bool, record: &str) -> Understood<()> {
        let (index, record) = (self.machine(word)?, number(record)?);
        self.gathering().machines[index].doom = Some(Doom { record, durable });
        Ok(())
    }

    fn block(&mut self, one: &str, other: &str, both: bool, block: bool) -> Understood<()> {
        let (one, other) = (self.machine(one)?, self.machine(other)?);
        let directions = &[(one, other), (other, one)][..if both { 2 } else { 1 }];
        let blocked = &mut self.gathering().blocked;
        match block {
            true => blocked.extend(directions.iter().copied()),
            false => blocked.retain(|direction| !directions.contains(direction)),
        }
        Ok(())
    }

    fn block_direction(&mut self, word: &str, block: bool) -> Understood<()> {
        let (from, to) = word.split_once("->").ok_or("a direction is written 1->2")?;
        self.block(from, to, false, block)
    }

    /// These do not reach the others, nor the others them.
    fn part_machines(&mut self, words: &[&str]) -> Understood<()> {
        let side: Vec<usize> = words.iter().map(|word| self.machine(word)).collect::<Understood<_>>()?;
        let all = self.gathering().machines.len();
        let apart = (0..all).flat_map(|one| (0..all).map(move |other| (one, other)));
        let apart: Vec<_> = apart.filter(|(one, other)| side.contains(one) != side.contains(other)).collect();
        self.gathering().blocked.extend(apart);
        Ok(())
    }

    fn set(&mut self, word: &str, what: &str, value: &str) -> Understood<()> {
        let index = self.machine(word)?;
        let setup = &mut self.gathering().machines[index].setup;
        match what {
            "expect" => setup.expect = number(value)? as usize,
            "voters" => setup.voters_target = number(value)? as u32,
            "name" => setup.name = value.to_owned(),
            "cluster" => setup.cluster = value.to_owned(),
            "listens" => {
                let known = Listens::ALL.into_iter().find(|(word, _)| *word == value);
                setup.listens = known.ok_or("a mesh listens own, bridged, bridge, rubbish, unusual or nowhere")?.1;
            }
            _ => return Err(format!("a machine has no `{what}` to be set")),
        }
        Ok(())
    }

    fn show_waiting(&mut self, index: usize) -> Understood<()> {
        let ids = self.gathering().ids();
        let id = tell(&self.gathering().machines[index].id(index));
        let told = match self.gathering().machines[index].candidate() {
            Some(candidate) => plain(&candidate.waiting().to_string(), &ids),
            None => "is no candidate now".to_owned(),
        };
        self.later.push((None, format!("{id} waits: {told}")));
        Ok(())
    }
}
