//! What a script does to members, their disks and clocks, and what their hosts do.

use std::time::Duration;

use super::player::{Event, Player, Understood, duration, number};
use super::show::RECORDS;
use crate::driver::Input;
use crate::sim::check::Violation;
use crate::sim::clock::Moment;
use crate::sim::node::Ending;
use crate::sim::shell::Death;
use crate::sim::stage::{Act, Scene};
use crate::types::{Ack, Location, Record, Slot};
use crate::wal::Survival;

/// Time of a turn besides its syncs.
const TURN: Duration = Duration::from_micros(10);
/// How long publishers wait, unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

impl Player {
    pub(super) fn start(&mut self, member: usize) -> Understood<()> {
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

    pub(super) fn wake(&mut self, member: usize, wake: u64) -> Understood<()> {
        let now = self.now;
        let node = &mut self.stage()?.nodes[member];
        if node.wake != wake || !node.runs() || node.paused.is_some() {
            return Ok(());
        }
        node.wakes = None;
        let scene = self.stage()?.turn(member, now);
        self.play(member, scene)
    }

    pub(super) fn wake_at(&mut self, member: usize, at: Moment) -> Understood<()> {
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

    pub(super) fn play(&mut self, member: usize, scene: Result<Scene, Violation>) -> Understood<()> {
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
                Act::Door { to, message } => self.say_at_door(member, to, at, message),
                Act::Answer { .. } => {}
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
        self.follow_roster(member)?;
        match scene.ending {
            Ending::Goes { left: true, .. } => {
                self.say(format!("{} has left and exits", member + 1));
                self.kill(member)
            }
            Ending::Goes { next, again, drained, left: false } => {
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
                self.at(at, Event::Say(member, format!("{} dies", member + 1)));
                self.kill(member)
            }
            Ending::Stopped(stopped) => {
                let at = self.stage()?.nodes[member].busy;
                let words = self.named(&stopped.to_string());
                self.at(at, Event::Say(member, format!("{} {words}", member + 1)));
                self.kill(member)
            }
        }
    }

    pub(super) fn push(&mut self, member: usize, input: Input) -> Understood<()> {
        let now = self.now;
        let node = &self.stage()?.nodes[member];
        if node.runs() {
            node.push(input);
            self.wake_at(member, now)?;
        }
        Ok(())
    }

    pub(super) fn kill(&mut self, member: usize) -> Understood<()> {
        let now = self.now;
        self.stage()?.kill(member, now);
        self.lose_links(member)
    }

    pub(super) fn crash(&mut self, word: &str, keeping: &[&str]) -> Understood<()> {
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

    pub(super) fn doom(&mut self, word: &str, death: &[&str]) -> Understood<()> {
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

    pub(super) fn pause(&mut self, member: usize, pauses: bool) -> Understood<()> {
        self.stage()?.nodes[member].paused = pauses.then_some(Moment(u64::MAX));
        self.stage()?.nodes[member].wakes = None;
        let now = self.now;
        if pauses { Ok(()) } else { self.wake_at(member, now) }
    }

    pub(super) fn disk(&mut self, word: &str, manner: &[&str]) -> Understood<()> {
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

    pub(super) fn move_clock(&mut self, word: &str, by: &str) -> Understood<()> {
        let member = self.member(word)?;
        let (back, time) = by.strip_prefix('-').map_or((false, by), |time| (true, time));
        let nanoseconds = duration(time)?.as_nanos() as i64;
        self.stage()?.nodes[member].shell.lock().clock.jump(if back { -nanoseconds } else { nanoseconds });
        Ok(())
    }

    pub(super) fn drain(&mut self, word: &str) -> Understood<()> {
        let member = self.running(word)?;
        self.push(member, Input::Drain)
    }

    /// Keeps a copy of a member's disk.
    pub(super) fn copy_disk(&mut self, word: &str) -> Understood<()> {
        let member = self.member(word)?;
        let copy = self.stage()?.nodes[member].files.fork();
        self.copies.insert(member, copy);
        Ok(())
    }

    /// Puts the copy in the place of the disk.
    pub(super) fn restore_disk(&mut self, word: &str) -> Understood<()> {
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
    pub(super) fn flip(&mut self, word: &str, what: &[&str]) -> Understood<()> {
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

    pub(super) fn publish(&mut self, word: &str, rest: &[&str]) -> Understood<()> {
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
}
