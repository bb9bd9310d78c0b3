//! Plays the world as a script says. Links take one millisecond, syncs too unless told otherwise; nothing is random.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::inject;
use crate::driver::Input;
use crate::sim::chart::describe;
use crate::sim::check::{Promises, Violation};
use crate::sim::clock::{Clock, Moment};
use crate::sim::group::Group;
use crate::sim::node::{Ending, Settings};
use crate::sim::shell::{Death, Temper};
use crate::sim::stage::{Act, Scene, Stage};
use crate::types::peer::{ChainEntry, Envelope};
use crate::types::settings::Timing;
use crate::types::{Ack, Batch, BatchId, ClusterLimits, Location, Outcome, PeerMessage, Record, Round, Sabotage, Slot};
use crate::wal::{MemoryFiles, Survival};

/// Time on the way.
const LATENCY: Duration = Duration::from_millis(1);
/// Time of a sync, unless told otherwise.
const SYNC: Duration = Duration::from_millis(1);
/// Time of a turn besides its syncs.
const TURN: Duration = Duration::from_micros(10);
/// How long publishers wait, unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(60);
/// Segments of the members' logs.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Kinds of records, from 1 on.
const RECORDS: [&str; 7] = ["incarnation", "batch", "entry", "voter", "vote", "decided", "genesis"];
/// A scenario that has so many events between two commands goes in circles.
const EVENTS_MAX: usize = 200_000;

/// Something that is going to happen.
enum Event {
    Wake(usize, u64),
    Arrive { from: usize, to: usize, session: u64, envelope: Arc<Envelope> },
    Link(usize, usize, u64),
    Unlink(usize, usize),
    Say(String),
}

/// What happens to messages of a kind in a direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    kind: String,
    from: Option<usize>,
    to: Option<usize>,
    holds: bool,
}

/// One pair's link.
#[derive(Clone, Copy, Default)]
struct Pair {
    session: u64,
    open: bool,
    cut: bool,
}

/// Plays one scenario.
pub(super) struct Player {
    sabotage: Sabotage,
    pub(super) stage: Option<Stage>,
    pub(super) now: Moment,
    order: u64,
    queue: BTreeMap<(Moment, u64), Event>,
    pairs: BTreeMap<(usize, usize), Pair>,
    filters: Vec<Filter>,
    silent: Vec<(usize, usize)>,
    held: Vec<(usize, usize, Arc<Envelope>)>,
    watched: Vec<String>,
    digests: Vec<String>,
    out: Vec<String>,
    failed: bool,
    quiet: bool,
    copies: BTreeMap<usize, MemoryFiles>,
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
            failed: false,
            quiet: false,
            copies: BTreeMap::new(),
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

    /// What was printed since this was last asked.
    pub fn output(&mut self) -> Vec<String> {
        std::mem::take(&mut self.out)
    }

    fn understand(&mut self, words: &[&str]) -> Understood<()> {
        match words {
            ["members", count] => self.gather(number(count)?),
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

    // The group.

    fn gather(&mut self, count: u64) -> Understood<()> {
        let count = usize::try_from(count).ok().filter(|count| [1, 3, 5, 7].contains(count));
        let group = Group::new(count.ok_or("a group has 1, 3, 5 or 7 members")?, ClusterLimits::default());
        let temper = Temper { sync: SYNC, exact: true, stall_every: 0, stall: Duration::ZERO, failing: false };
        let members = (0..group.size()).map(|_| (Clock::new(0, 0), temper)).collect();
        let settings = Settings {
            genesis: group.genesis.clone(),
            timing: Timing::default(),
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

    fn running(&mut self, word: &str) -> Understood<usize> {
        let member = self.member(word)?;
        if self.stage()?.nodes[member].runs() { Ok(member) } else { Err(format!("member {word} does not run")) }
    }

    fn each(&mut self, words: &[&str], act: impl Fn(&mut Player, usize) -> Understood<()>) -> Understood<()> {
        for word in words {
            let member = self.member(word)?;
            act(self, member)?;
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.stage.as_ref().map_or(0, |stage| stage.group.size())
    }

    /// `A->B`, where `*` stands for anybody.
    fn direction(&mut self, word: &str) -> Understood<(Option<usize>, Option<usize>)> {
        let (from, to) = word.split_once("->").ok_or("a direction is written 1->2")?;
        let mut end = |word: &str| if word == "*" { Ok(None) } else { self.member(word).map(Some) };
        Ok((end(from)?, end(to)?))
    }

    // Time.

    fn at(&mut self, at: Moment, event: Event) {
        self.order += 1;
        self.queue.insert((at.max(self.now), self.order), event);
    }

    fn advance(&mut self, by: Duration) -> Understood<()> {
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

    fn happens(&mut self, event: Event) -> Understood<()> {
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
            Event::Say(words) => {
                self.say(words);
                Ok(())
            }
            Event::Unlink(member, peer) => {
                let peer = self.stage()?.group.id(peer);
                self.push(member, Input::LinkDown { peer })
            }
        }
    }

    // Members.

    fn start(&mut self, member: usize) -> Understood<()> {
        let now = self.now;
        let stage = self.stage()?;
        if stage.nodes[member].runs() {
            return Err(format!("member {} runs already", member + 1));
        }
        let scene = stage.start(member, now);
        self.play(member, scene)?;
        for peer in (0..self.size()).filter(|peer| *peer != member) {
            self.dial(member, peer)?;
        }
        Ok(())
    }

    fn wake(&mut self, member: usize, wake: u64) -> Understood<()> {
        let now = self.now;
        let node = &mut self.stage()?.nodes[member];
        if node.wake != wake || !node.runs() || node.paused.is_some() {
            return Ok(());
        }
        node.wakes = None;
        let scene = self.stage()?.turn(member, now);
        self.play(member, scene)
    }

    fn wake_at(&mut self, member: usize, at: Moment) -> Understood<()> {
        let node = &mut self.stage()?.nodes[member];
        let at = at.max(node.busy);
        if node.runs() && node.wakes.is_none_or(|planned| planned > at) {
            node.wake += 1;
            node.wakes = Some(at);
            let wake = node.wake;
            self.at(at, Event::Wake(member, wake));
        }
        Ok(())
    }

    fn play(&mut self, member: usize, scene: Result<Scene, Violation>) -> Understood<()> {
        let scene = match scene {
            Ok(scene) => scene,
            Err(violation) => {
                self.collect();
                self.say(format!("VIOLATED {violation}"));
                self.failed = true;
                return Ok(());
            }
        };
        for (at, act) in scene.acts {
            match act {
                Act::Send { to, envelope } => self.send(member, to, at, envelope),
                Act::Refuse { peer, reason } => {
                    let words = self.named(&reason.to_string());
                    self.say(format!("{} refuses {}: {words}", member + 1, peer + 1));
                    self.part(member, peer)?;
                    let refuser = self.stage()?.group.id(member);
                    self.push(peer, Input::Refused { peer: refuser, reason })?;
                }
                Act::Serve(request) => {
                    let stage = self.stage()?;
                    let to = stage.group.index(&request.to).ok_or("a stranger was served")?;
                    if let Some(envelope) = stage.read_slots(member, &request) {
                        self.send(member, to, at, envelope);
                    }
                }
            }
        }
        self.collect();
        match scene.ending {
            Ending::Goes { next, again, drained } => {
                if drained {
                    self.say(format!("{} is drained and exits", member + 1));
                    return self.kill(member);
                }
                let busy = self.stage()?.nodes[member].busy + TURN;
                self.stage()?.nodes[member].busy = busy;
                match next {
                    _ if again => self.wake_at(member, busy),
                    Some(next) => self.wake_at(member, next.max(busy)),
                    None => Ok(()),
                }
            }
            Ending::Died => {
                let at = self.stage()?.nodes[member].busy;
                self.at(at, Event::Say(format!("{} dies", member + 1)));
                self.kill(member)
            }
            Ending::Stopped(stopped) => {
                let at = self.stage()?.nodes[member].busy;
                let words = self.named(&stopped.to_string());
                self.at(at, Event::Say(format!("{} {words}", member + 1)));
                self.kill(member)
            }
        }
    }

    fn push(&mut self, member: usize, input: Input) -> Understood<()> {
        let now = self.now;
        let node = &self.stage()?.nodes[member];
        if node.runs() {
            node.push(input);
            self.wake_at(member, now)?;
        }
        Ok(())
    }

    fn kill(&mut self, member: usize) -> Understood<()> {
        let now = self.now;
        self.stage()?.kill(member, now);
        self.lose_links(member)
    }

    fn crash(&mut self, word: &str, keeping: &[&str]) -> Understood<()> {
        let member = self.member(word)?;
        let survival = match keeping {
            [] | ["keeping", "nothing"] => Survival::Nothing,
            ["keeping", "all"] => Survival::All,
            ["keeping", "leading", bytes] => Survival::Leading(number(bytes)? as usize),
            ["keeping", "sectors", bits] => Survival::Sectors(bits.chars().map(|bit| bit == '1').collect()),
            _ => return Err("keeping nothing, all, leading N or sectors 0101".to_owned()),
        };
        let now = self.now;
        let mut written = Vec::new();
        self.stage()?.crash(member, now, |write| {
            written.push(write.length);
            survival.clone()
        });
        if !keeping.is_empty() {
            let written: Vec<String> = written.iter().map(usize::to_string).collect();
            self.say(format!("{} had unsynced writes of {} bytes", member + 1, written.join(" and ")));
        }
        self.lose_links(member)
    }

    fn doom(&mut self, word: &str, death: &[&str]) -> Understood<()> {
        let member = self.member(word)?;
        let death = match death {
            ["before-sync"] => Death::SyncAfterSend,
            ["in-sync"] => Death::InSync,
            ["after-sync"] => Death::AfterSync,
            ["after", effects] => Death::Effects(number(effects)?),
            _ => return Err("before-sync, in-sync, after-sync or after N".to_owned()),
        };
        self.stage()?.nodes[member].shell.lock().death = death;
        Ok(())
    }

    fn pause(&mut self, member: usize, pauses: bool) -> Understood<()> {
        self.stage()?.nodes[member].paused = pauses.then_some(Moment(u64::MAX));
        self.stage()?.nodes[member].wakes = None;
        let now = self.now;
        if pauses { Ok(()) } else { self.wake_at(member, now) }
    }

    fn disk(&mut self, word: &str, manner: &[&str]) -> Understood<()> {
        let member = self.member(word)?;
        let node = &self.stage()?.nodes[member];
        match manner {
            ["sync", time] => node.shell.lock().temper.sync = duration(time)?,
            ["full"] => node.files.limit(Some(0)),
            ["room"] => node.files.limit(None),
            ["fails"] => node.shell.lock().temper.failing = true,
            _ => return Err("sync TIME, full, room or fails".to_owned()),
        }
        Ok(())
    }

    fn move_clock(&mut self, word: &str, by: &str) -> Understood<()> {
        let member = self.member(word)?;
        let (back, time) = by.strip_prefix('-').map_or((false, by), |time| (true, time));
        let nanoseconds = duration(time)?.as_nanos() as i64;
        self.stage()?.nodes[member].shell.lock().clock.jump(if back { -nanoseconds } else { nanoseconds });
        Ok(())
    }

    fn drain(&mut self, word: &str) -> Understood<()> {
        let member = self.running(word)?;
        self.push(member, Input::Drain)
    }

    /// Keeps a copy of a member's disk.
    fn copy_disk(&mut self, word: &str) -> Understood<()> {
        let member = self.member(word)?;
        let copy = self.stage()?.nodes[member].files.fork();
        self.copies.insert(member, copy);
        Ok(())
    }

    /// Puts the copy in the place of the disk.
    fn restore_disk(&mut self, word: &str) -> Understood<()> {
        let member = self.member(word)?;
        let copy = self.copies.get(&member).ok_or("there is no copy of its disk")?.fork();
        let stage = self.stage()?;
        if stage.nodes[member].runs() {
            return Err(format!("member {word} runs"));
        }
        stage.replace_disk(member, copy);
        Ok(())
    }

    /// Turns a bit in the middle of a record.
    fn flip(&mut self, word: &str, what: &[&str]) -> Understood<()> {
        let member = self.member(word)?;
        let stage = self.stage()?;
        if stage.nodes[member].runs() {
            return Err(format!("member {word} runs"));
        }
        let read = |location: &Location, kind: u8| Record::read(kind, &stage.nodes[member].read(location)?).ok();
        let placed = stage.storage(member).placed();
        let of = |wanted: u8| placed.iter().rev().filter(move |placed| placed.kind == wanted);
        let found = match what {
            ["newest", kind, rest @ ..] => {
                let back = if let ["back", back] = rest { number(back)? as usize } else { 0 };
                let kind = RECORDS.iter().position(|name| name == kind).ok_or("no such kind of record")?;
                of(kind as u8 + 1).nth(back)
            }
            ["slot", slot] => {
                let slot = Slot(number(slot)?);
                of(3).find(
                    |placed| matches!(read(&placed.location, 3), Some(Record::Entry(record)) if record.slot == slot),
                )
            }
            _ => return Err("newest KIND [back N] or slot N".to_owned()),
        };
        let location = found.ok_or("there is no such record")?.location;
        let name = format!("{:020}.wal", location.segment);
        stage.nodes[member].files.flip_bit(&name, u64::from(location.offset + location.length / 2));
        Ok(())
    }

    // Hosts.

    fn publish(&mut self, word: &str, rest: &[&str]) -> Understood<()> {
        let member = self.running(word)?;
        let [text, rest @ ..] = rest else { return Err("publish M TEXT".to_owned()) };
        let (mut ack, mut patience, mut times, mut bytes) = (Ack::Ordered, PATIENCE, 1, None);
        let mut rest = rest;
        loop {
            rest = match rest {
                [] => break,
                ["accepted", rest @ ..] => {
                    ack = Ack::Accepted;
                    rest
                }
                ["within", time, rest @ ..] => {
                    patience = duration(time)?;
                    rest
                }
                ["times", count, rest @ ..] => {
                    times = number(count)?;
                    rest
                }
                ["bytes", count, rest @ ..] => {
                    bytes = Some(number(count)? as usize);
                    rest
                }
                _ => return Err("[accepted] [within TIME] [times N] [bytes N]".to_owned()),
            };
        }
        let now = self.now;
        let stage = self.stage()?;
        for index in 1..=times {
            let text = if times == 1 { (*text).to_owned() } else { format!("{text}{index}") };
            let body = match bytes {
                Some(bytes) => stage.promises.body(bytes),
                None => stage.promises.text(&text),
            };
            stage.publish(member, now, ack, body, patience);
        }
        self.wake_at(member, now)
    }

    // Links and messages.

    fn pair(&mut self, one: usize, other: usize) -> &mut Pair {
        self.pairs.entry((one.min(other), one.max(other))).or_default()
    }

    /// Links a pair if both run and nothing cuts them apart.
    fn dial(&mut self, one: usize, other: usize) -> Understood<()> {
        let both =
            [one, other].iter().all(|member| self.stage.as_ref().is_some_and(|stage| stage.nodes[*member].runs()));
        let pair = self.pair(one, other);
        if !both || pair.cut || pair.open {
            return Ok(());
        }
        pair.session += 1;
        pair.open = true;
        let session = pair.session;
        let ready = [one, other].map(|member| self.stage.as_ref().map_or(self.now, |stage| stage.nodes[member].busy));
        let at = self.now.max(ready[0]).max(ready[1]) + LATENCY;
        self.at(at, Event::Link(one, other, session));
        Ok(())
    }

    fn linked(&mut self, one: usize, other: usize, session: u64) -> Understood<()> {
        let pair = *self.pair(one, other);
        if pair.session != session || !pair.open {
            return Ok(());
        }
        for (member, peer) in [(one, other), (other, one)] {
            let stage = self.stage()?;
            let hello = stage.nodes[peer].shell.lock().hello.clone();
            let peer = stage.group.id(peer);
            if let Some(hello) = hello {
                self.push(member, Input::LinkUp { peer, hello })?;
            }
        }
        Ok(())
    }

    /// A pair's session ends. What is on the way still arrives.
    fn part(&mut self, one: usize, other: usize) -> Understood<()> {
        let pair = self.pair(one, other);
        if std::mem::take(&mut pair.open) {
            let at = self.now + LATENCY + LATENCY;
            self.at(at, Event::Unlink(one, other));
            self.at(at, Event::Unlink(other, one));
        }
        Ok(())
    }

    fn lose_links(&mut self, member: usize) -> Understood<()> {
        (0..self.size()).filter(|peer| *peer != member).try_for_each(|peer| self.part(member, peer))
    }

    fn cut(&mut self, one: &str, other: &str) -> Understood<()> {
        let (one, other) = (self.member(one)?, self.member(other)?);
        self.pair(one, other).cut = true;
        self.part(one, other)
    }

    fn mend(&mut self, one: &str, other: &str) -> Understood<()> {
        let (one, other) = (self.member(one)?, self.member(other)?);
        self.pair(one, other).cut = false;
        self.dial(one, other)
    }

    fn silence(&mut self, direction: &str) -> Understood<()> {
        let (Some(from), Some(to)) = self.direction(direction)? else { return Err("of one direction".to_owned()) };
        self.silent.push((from, to));
        Ok(())
    }

    fn speak(&mut self, direction: &str) -> Understood<()> {
        let (Some(from), Some(to)) = self.direction(direction)? else { return Err("of one direction".to_owned()) };
        self.silent.retain(|silent| *silent != (from, to));
        Ok(())
    }

    fn filter(&mut self, kind: &str, direction: &str, holds: bool) -> Understood<()> {
        let (from, to) = self.direction(direction)?;
        self.filters.push(Filter { kind: kind.to_owned(), from, to, holds });
        Ok(())
    }

    /// Messages pass from now on; held ones stay held. Returns what would match them.
    fn open(&mut self, kind: &str, direction: &str) -> Understood<Filter> {
        let (from, to) = self.direction(direction)?;
        let named = |filter: &Filter| filter.kind == kind && (filter.from, filter.to) == (from, to);
        self.filters.retain(|filter| !named(filter));
        Ok(Filter { kind: kind.to_owned(), from, to, holds: false })
    }

    fn pass(&mut self, kind: &str, direction: &str) -> Understood<()> {
        let passes = self.open(kind, direction)?;
        let (passed, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|(from, to, envelope)| passes.matches(*from, *to, &envelope.message));
        self.held = held;
        let passed: Vec<(usize, usize, Arc<Envelope>)> = passed;
        passed.into_iter().for_each(|(from, to, envelope)| self.deliver_later(from, to, self.now, envelope));
        Ok(())
    }

    fn forget(&mut self) -> Understood<()> {
        self.held.clear();
        Ok(())
    }

    fn send(&mut self, from: usize, to: usize, at: Moment, envelope: Arc<Envelope>) {
        self.remember(&envelope.message);
        if self.silent.contains(&(from, to)) {
            return;
        }
        match self.filters.iter().rev().find(|filter| filter.matches(from, to, &envelope.message)) {
            Some(filter) if filter.holds => self.held.push((from, to, envelope)),
            Some(_) => {}
            None => self.deliver_later(from, to, at, envelope),
        }
    }

    fn deliver_later(&mut self, from: usize, to: usize, at: Moment, envelope: Arc<Envelope>) {
        let pair = *self.pair(from, to);
        if pair.open {
            self.at(at + LATENCY, Event::Arrive { from, to, session: pair.session, envelope });
        }
    }

    fn hand_over(&mut self, from: usize, to: usize, envelope: &Envelope) -> Understood<()> {
        let name = envelope.message.name();
        if self.watched.iter().any(|kind| kind == "*" || kind == name) {
            let described = self.named(&describe(&envelope.message));
            self.say(format!("{}->{} {described}", from + 1, to + 1));
        }
        let peer = self.stage()?.group.id(from);
        self.push(to, Input::Received { peer, envelope: envelope.clone() })
    }

    /// Keeps what messages made by hand may name.
    fn remember(&mut self, message: &PeerMessage) {
        match message {
            PeerMessage::Proposal { round, entry } => {
                self.proposals.insert((entry.slot, *round), entry.clone());
            }
            PeerMessage::Batch(batch) => {
                let group = self.stage.as_ref().map(|stage| &stage.group);
                if let Some(origin) = group.and_then(|group| group.index(&batch.header.origin)) {
                    self.batches.insert((origin, batch.header.id()), batch.clone());
                }
            }
            _ => {}
        }
    }

    fn inject(&mut self, direction: &str, what: &[&str]) -> Understood<()> {
        let (Some(from), Some(to)) = self.direction(direction)? else { return Err("of one direction".to_owned()) };
        let configuration = self.stage()?.group.configuration;
        for message in inject::messages(self, from, what)? {
            self.remember(&message);
            self.hand_over(from, to, &Envelope { epoch: crate::types::Epoch(0), configuration, message })?;
        }
        Ok(())
    }

    // What is shown.

    fn watch(&mut self, kinds: &[&str]) -> Understood<()> {
        self.watched = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        Ok(())
    }

    fn show(&mut self, member: usize) -> Understood<()> {
        let stage = self.stage()?;
        let Some(driver) = stage.nodes[member].driver() else {
            self.say(format!("{}: down", member + 1));
            return Ok(());
        };
        let replica = driver.replica();
        let snapshot = replica.snapshot();
        let index = |id| stage.group.index(id).map_or(0, |index| index + 1);
        let leads = if replica.is_leading() { "leads" } else { "follows" };
        let linked: Vec<String> =
            snapshot.peers.iter().filter(|peer| peer.linked).map(|peer| index(&peer.member).to_string()).collect();
        let text = format!(
            "{}: {leads} {} of {} · slot {} · position {} · unordered {} · linked to {}",
            member + 1,
            snapshot.round,
            index(&snapshot.leader),
            snapshot.slot_decided,
            stage.sequence.position(member),
            snapshot.lane_unordered.0,
            linked.join(" ")
        );
        self.say(text);
        Ok(())
    }

    /// Who delivered what: every message with its position, and the members that have it.
    fn show_order(&mut self) -> Understood<()> {
        let stage = self.stage()?;
        let mut lines = Vec::new();
        for (position, body) in stage.promises.order() {
            let having: Vec<String> = (0..stage.group.size())
                .filter(|member| stage.sequence.position(*member) >= position)
                .map(|member| (member + 1).to_string())
                .collect();
            lines.push(format!("{position}: {} at {}", Promises::says(body), having.join(" ")));
        }
        lines.into_iter().for_each(|line| self.say(line));
        Ok(())
    }

    /// How many messages have a position, and who has all of them. (Every reading of the clock was above the one before:
    /// the checkers see to that.)
    fn count_order(&mut self) -> Understood<()> {
        let stage = self.stage()?;
        let head = stage.sequence.head();
        let having: Vec<String> = (0..stage.group.size())
            .filter(|member| stage.sequence.position(*member) == head)
            .map(|member| (member + 1).to_string())
            .collect();
        let slots = stage.sequence.largest_slot();
        self.say(format!("{head} messages at {}, up to {slots} in one slot", having.join(" ")));
        Ok(())
    }

    /// How publishers were answered, by kind.
    fn show_answers(&mut self) -> Understood<()> {
        let promises = &self.stage()?.promises;
        let ordered = promises.answers(|outcome| matches!(outcome, Outcome::Ordered { .. }));
        let accepted = promises.answers(|outcome| matches!(outcome, Outcome::Accepted { .. }));
        let rejected = promises.answers(|outcome| matches!(outcome, Outcome::Rejected(_)));
        let unknown = promises.answers(|outcome| matches!(outcome, Outcome::OutcomeUnknown { .. }));
        self.say(format!("{ordered} ordered · {accepted} accepted · {rejected} rejected · {unknown} unknown"));
        Ok(())
    }

    fn hush(&mut self, quiet: bool) -> Understood<()> {
        self.quiet = quiet;
        Ok(())
    }

    fn count(&mut self, word: &str, names: &[&str]) -> Understood<()> {
        let member = self.running(word)?;
        let driver = self.stage()?.nodes[member].driver().ok_or("it does not run")?;
        let rows = driver.replica().counters().rows();
        let mut shown = Vec::new();
        for name in names {
            let row = rows.iter().find(|row| row.0 == *name).ok_or(format!("no counter {name}"))?;
            shown.push(format!("{name} {}", row.1));
        }
        self.say(format!("{word}: {}", shown.join(" · ")));
        Ok(())
    }

    fn show_log(&mut self, word: &str) -> Understood<()> {
        let member = self.running(word)?;
        let driver = self.stage()?.nodes[member].driver().ok_or("it does not run")?;
        let recovered = driver.recovered();
        let torn = recovered.torn.map_or("whole".to_owned(), |_| "a torn tail was cut".to_owned());
        let incarnation = driver.replica().incarnation();
        self.say(format!("{word}: incarnation {incarnation} · {torn}"));
        Ok(())
    }

    /// The newest durable records of a member's log.
    fn show_records(&mut self, word: &str, count: usize) -> Understood<()> {
        let member = self.member(word)?;
        let placed = self.stage()?.storage(member).placed();
        let newest = &placed[placed.len().saturating_sub(count)..];
        let kinds: Vec<&str> = newest.iter().map(|placed| RECORDS[usize::from(placed.kind) - 1]).collect();
        self.say(format!("{word}: {}", kinds.join(" ")));
        Ok(())
    }

    pub(super) fn say(&mut self, line: impl Into<String>) {
        self.out.push(line.into());
    }

    /// Ids as member numbers, and digests as names in the order of their coming: recorded output survives a change of
    /// what is hashed.
    fn named(&mut self, text: &str) -> String {
        let words: Vec<String> = text.split(' ').map(|word| self.named_word(word)).collect();
        words.join(" ")
    }

    fn named_word(&mut self, word: &str) -> String {
        let Some(stage) = &self.stage else { return word.to_owned() };
        for index in 0..stage.group.size() {
            let short = stage.group.id(index).short();
            let rest = word.strip_prefix(&short).or_else(|| word.strip_prefix(&short[..4]));
            if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with(['/', ':'])) {
                return format!("{}{rest}", index + 1);
            }
        }
        if word.len() != 8 || !word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return word.to_owned();
        }
        let known = self.digests.iter().position(|digest| digest == word).unwrap_or_else(|| {
            self.digests.push(word.to_owned());
            self.digests.len() - 1
        });
        format!("h{}", known + 1)
    }

    fn collect(&mut self) {
        let notices = self.stage.as_mut().and_then(|stage| stage.notices.as_mut()).map(std::mem::take);
        if !self.quiet {
            notices.into_iter().flatten().for_each(|(at, notice)| self.at(at, Event::Say(notice)));
        }
    }
}

impl Filter {
    fn matches(&self, from: usize, to: usize, message: &PeerMessage) -> bool {
        (self.kind == "*" || self.kind == message.name())
            && self.from.is_none_or(|wanted| wanted == from)
            && self.to.is_none_or(|wanted| wanted == to)
    }
}

/// A whole number.
pub(super) fn number(word: &str) -> Understood<u64> {
    word.parse().map_err(|_| format!("`{word}` is no number"))
}

/// `5ms`, `2s`, `1h`.
fn duration(word: &str) -> Understood<Duration> {
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
