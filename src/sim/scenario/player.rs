//! Plays the world as a script says. Links take one millisecond, syncs too unless told otherwise; nothing is random.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::links::Filter;
use crate::driver::Input;
use crate::sim::candidates::Gathering;
use crate::sim::clock::{Clock, Moment};
use crate::sim::door::Words;
use crate::sim::group::Group;
use crate::sim::node::Settings;
use crate::sim::shell::Temper;
use crate::sim::stage::Stage;
use crate::types::peer::{ChainEntry, Envelope};
use crate::types::settings::Timing;
use crate::types::{Batch, BatchId, ClusterLimits, Round, Sabotage, Slot};
use crate::wal::MemoryFiles;

/// Time of a sync, unless told otherwise.
const SYNC: Duration = Duration::from_millis(1);
/// Segments of the members' logs.
const SEGMENT_BYTES: u64 = 16 << 20;
/// A scenario that has so many events between two commands goes in circles.
const EVENTS_MAX: usize = 200_000;
/// Machines of a scenario.
const MACHINES_MAX: usize = 12;
/// Timeouts do not grow beyond this where voters are suspected soon.
const SUSPECTED_AFTER_MIN: Duration = Duration::from_secs(1);
/// A join code lasts so long, unless it is expired from the start.
const CODE_LASTS: Duration = Duration::from_secs(3600);

/// Something that is going to happen.
pub(super) enum Event {
    Wake(usize, u64),
    Arrive {
        from: usize,
        to: usize,
        session: u64,
        envelope: Arc<Envelope>,
    },
    Link(usize, usize, u64),
    Unlink(usize, usize),
    /// A pair that could not link tries again.
    Dial(usize, usize),
    /// Words at a door.
    Words(Box<Words>),
    Say(usize, String),
}

/// One pair's link.
#[derive(Clone, Copy, Default)]
pub(super) struct Pair {
    pub(super) session: u64,
    pub(super) open: bool,
    pub(super) cut: bool,
}

/// Plays one scenario.
pub(super) struct Player {
    pub(super) sabotage: Sabotage,
    pub(super) stage: Option<Stage>,
    /// In the place of members: candidates.
    pub(super) gathering: Option<Gathering>,
    pub(super) now: Moment,
    pub(super) order: u64,
    pub(super) queue: BTreeMap<(Moment, u64), Event>,
    pub(super) pairs: BTreeMap<(usize, usize), Pair>,
    pub(super) filters: Vec<Filter>,
    pub(super) silent: Vec<(usize, usize)>,
    pub(super) held: Vec<(usize, usize, Arc<Envelope>)>,
    pub(super) watched: Vec<String>,
    pub(super) digests: Vec<String>,
    /// Lines to be printed; a deed of a member with that member.
    pub(super) out: Vec<(Option<usize>, String)>,
    /// Lines that come after the deeds of their command.
    pub(super) later: Vec<(Option<usize>, String)>,
    pub(super) failed: bool,
    pub(super) quiet: bool,
    pub(super) copies: BTreeMap<usize, MemoryFiles>,
    /// Who knocked at whose door and waits for the answer, in which of its starts.
    pub(super) knocks: BTreeMap<(usize, usize), u64>,
    /// Refusals that were told, each once.
    pub(super) refused: BTreeSet<(usize, usize, String)>,
    /// Proposals that were sent, for messages made by hand.
    pub(super) proposals: BTreeMap<(Slot, Round), ChainEntry>,
    /// Batches that were sent.
    pub(super) batches: BTreeMap<(usize, BatchId), Batch>,
}

/// A command that cannot be understood, or not now.
pub(super) type Understood<T> = Result<T, String>;

impl Player {
    /// A player without a group.
    pub fn new(sabotage: Sabotage) -> Player {
        Player {
            sabotage,
            stage: None,
            gathering: None,
            now: Moment(0),
            order: 0,
            queue: BTreeMap::new(),
            pairs: BTreeMap::new(),
            filters: Vec::new(),
            silent: Vec::new(),
            held: Vec::new(),
            watched: Vec::new(),
            digests: Vec::new(),
            out: Vec::new(),
            later: Vec::new(),
            failed: false,
            quiet: false,
            copies: BTreeMap::new(),
            knocks: BTreeMap::new(),
            refused: BTreeSet::new(),
            proposals: BTreeMap::new(),
            batches: BTreeMap::new(),
        }
    }

    /// Does what a line says. After a violation nothing is done any more.
    pub fn command(&mut self, line: &str) {
        if self.failed {
            return;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Err(text) = self.understand(&words) {
            self.say(format!("`{line}`: {text}"));
        }
        self.collect();
    }

    /// What was printed since this was last asked. Members' deeds between two other lines are told member by member: who
    /// was first by some microseconds is not what a scenario shows.
    pub fn output(&mut self) -> Vec<String> {
        let mut lines = std::mem::take(&mut self.out);
        for deeds in lines.chunk_by_mut(|(one, _), (other, _)| one.is_some() && other.is_some()) {
            deeds.sort_by_key(|(member, _)| *member);
        }
        lines.into_iter().map(|(_, line)| line).collect()
    }

    fn understand(&mut self, words: &[&str]) -> Understood<()> {
        if self.gathering.is_some() {
            return self.understand_candidates(words);
        }
        match words {
            ["candidates", machines, "expect", expect] => self.gather_candidates(machines, expect),
            ["members", count] => self.gather(count, count, Timing::default()),
            ["members", count, "of", machines] => self.gather(count, machines, Timing::default()),
            ["members", count, "of", machines, "suspected", "after", time] => {
                let timing =
                    Timing { timeout_max: SUSPECTED_AFTER_MIN, replace_after: duration(time)?, ..Timing::default() };
                self.gather(count, machines, timing)
            }
            ["start", members @ ..] => self.each(members, Self::start),
            ["advance", time] => self.advance(duration(time)?),
            ["publish", member, rest @ ..] => self.publish(member, rest),
            ["drop", kind, direction] => self.filter(kind, direction, false),
            ["hold", kind, direction] => self.filter(kind, direction, true),
            ["pass", kind, direction] => self.pass(kind, direction),
            ["open", kind, direction] => self.open(kind, direction).map(|_| ()),
            ["quiet"] => self.hush(true),
            ["loud"] => self.hush(false),
            ["forget"] => self.forget(),
            ["cut", one, other] => self.cut(one, other),
            ["link", one, other] => self.mend(one, other),
            ["silence", direction] => self.silence(direction),
            ["speak", direction] => self.speak(direction),
            ["kill", members @ ..] => self.each(members, Self::kill),
            ["crash", member, keeping @ ..] => self.crash(member, keeping),
            ["doom", member, death @ ..] => self.doom(member, death),
            ["pause", members @ ..] => self.each(members, |player, member| player.pause(member, true)),
            ["resume", members @ ..] => self.each(members, |player, member| player.pause(member, false)),
            ["disk", member, manner @ ..] => self.disk(member, manner),
            ["clock", member, by] => self.move_clock(member, by),
            ["flip", member, what @ ..] => self.flip(member, what),
            ["copy", member] => self.copy_disk(member),
            ["restore", member] => self.restore_disk(member),
            ["drain", member] => self.drain(member),
            ["invite", member, code] => self.invite(member, code, CODE_LASTS),
            ["invite", member, code, "expired"] => self.invite(member, code, Duration::ZERO),
            ["join", machine, code, "at", member] => self.join(machine, code, member),
            ["leave", member] => self.leave(member),
            ["remove", member, "at", asked] => self.remove(member, asked),
            ["voters", count, "at", asked] => self.configure(number(count)?, asked),
            ["limits", "message", bytes, "at", asked] => self.limit(number(bytes)?, asked),
            ["move", member] => self.relocate(member),
            ["lose", members @ ..] => self.each(members, Self::lose),
            ["tell", direction, "forged", signers] => self.tell_forged(direction, signers),
            ["announce", direction, "head"] => self.announce_head(direction),
            ["announce", direction, "epoch", epoch] => self.announce(direction, number(epoch)?, None),
            ["announce", direction, "epoch", epoch, "forged", signers] => {
                self.announce(direction, number(epoch)?, Some(signers))
            }
            ["ask", direction] => self.ask(direction),
            ["epochs"] => self.show_epochs(),
            ["verify", members @ ..] => self.each(members, Self::verify),
            ["membership", members @ ..] => self.each(members, Self::show_membership),
            ["inject", direction, what @ ..] => self.inject(direction, what),
            ["show", members @ ..] => self.each(members, Self::show),
            ["order"] => self.show_order(),
            ["order", "count"] => self.count_order(),
            ["answers"] => self.show_answers(),
            ["count", member, names @ ..] => self.count(member, names),
            ["log", member] => self.show_log(member),
            ["records", member, count] => self.show_records(member, number(count)? as usize),
            ["watch", kinds @ ..] => self.watch(kinds),
            ["unwatch"] => self.watch(&[]),
            _ => Err("no such command".to_owned()),
        }
    }

    fn gather(&mut self, count: &str, machines: &str, timing: Timing) -> Understood<()> {
        let (count, machines) = (number(count)? as usize, number(machines)? as usize);
        if ![1, 3, 5, 7].contains(&count) || !(count..=MACHINES_MAX).contains(&machines) {
            return Err(format!("a group begins with 1, 3, 5 or 7 of at most {MACHINES_MAX} machines"));
        }
        let group = Group::new(count, machines, ClusterLimits::default());
        let temper = Temper { sync: SYNC, exact: true, stall_every: 0, stall: Duration::ZERO, failing: false };
        let members = (0..group.size()).map(|_| (Clock::new(0, 0), temper)).collect();
        let settings = Settings {
            genesis: group.genesis.clone(),
            timing,
            sabotage: self.sabotage.clone(),
            segment_bytes: SEGMENT_BYTES,
        };
        let mut stage = Stage::new(group, settings, members, 0);
        stage.notices = Some(Vec::new());
        self.stage = Some(stage);
        Ok(())
    }

    pub(super) fn stage(&mut self) -> Understood<&mut Stage> {
        self.stage.as_mut().ok_or_else(|| "there is no group yet".to_owned())
    }

    pub(super) fn member(&mut self, word: &str) -> Understood<usize> {
        let size = self.stage()?.group.size();
        let member = number(word)? as usize;
        if (1..=size).contains(&member) { Ok(member - 1) } else { Err(format!("there is no member {word}")) }
    }

    pub(super) fn running(&mut self, word: &str) -> Understood<usize> {
        let member = self.member(word)?;
        if self.stage()?.nodes[member].runs() { Ok(member) } else { Err(format!("member {word} does not run")) }
    }

    pub(super) fn each(
        &mut self,
        words: &[&str],
        act: impl Fn(&mut Player, usize) -> Understood<()>,
    ) -> Understood<()> {
        for word in words {
            let member = self.member(word)?;
            act(self, member)?;
        }
        Ok(())
    }

    pub(super) fn size(&self) -> usize {
        self.stage.as_ref().map_or(0, |stage| stage.group.size())
    }

    /// `A->B`, where `*` stands for anybody.
    pub(super) fn direction(&mut self, word: &str) -> Understood<(Option<usize>, Option<usize>)> {
        let (from, to) = word.split_once("->").ok_or("a direction is written 1->2")?;
        let mut end = |word: &str| if word == "*" { Ok(None) } else { self.member(word).map(Some) };
        Ok((end(from)?, end(to)?))
    }

    pub(super) fn at(&mut self, at: Moment, event: Event) {
        self.order += 1;
        self.queue.insert((at.max(self.now), self.order), event);
    }

    pub(super) fn advance(&mut self, by: Duration) -> Understood<()> {
        let until = self.now + by;
        let mut events = 0;
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= until && !self.failed) {
            self.now = entry.key().0;
            let event = entry.remove();
            self.happens(event)?;
            self.collect();
            events += 1;
            if events > EVENTS_MAX {
                return Err(format!("{EVENTS_MAX} events: the group goes in circles"));
            }
        }
        self.now = until;
        Ok(())
    }

    pub(super) fn happens(&mut self, event: Event) -> Understood<()> {
        match event {
            Event::Wake(member, wake) => self.wake(member, wake),
            Event::Arrive { from, to, session, envelope } => {
                let pair = self.pair(from, to);
                if pair.session == session {
                    self.hand_over(from, to, &envelope)?;
                }
                Ok(())
            }
            Event::Link(one, other, session) => self.linked(one, other, session),
            Event::Say(member, words) => {
                self.out.push((Some(member), words));
                Ok(())
            }
            Event::Dial(one, other) => self.dial(one, other),
            Event::Words(words) => self.hear_at_door(*words),
            Event::Unlink(member, peer) => {
                let peer = self.stage()?.group.id(peer);
                self.push(member, Input::LinkDown { peer })
            }
        }
    }
}

/// A whole number.
pub(super) fn number(word: &str) -> Understood<u64> {
    word.parse().map_err(|_| format!("`{word}` is no number"))
}

/// `5ms`, `2s`, `1h`.
pub(super) fn duration(word: &str) -> Understood<Duration> {
    let digits = word.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let amount = number(digits)?;
    match &word[digits.len()..] {
        "us" => Ok(Duration::from_micros(amount)),
        "ms" => Ok(Duration::from_millis(amount)),
        "s" => Ok(Duration::from_secs(amount)),
        "m" => Ok(Duration::from_secs(60 * amount)),
        "h" => Ok(Duration::from_secs(3600 * amount)),
        _ => Err(format!("`{word}` is no time")),
    }
}
