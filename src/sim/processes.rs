//! Processes of the random world: they start, take their turns, die and stop.

use std::time::Duration;

use super::check::Violation;
use super::clock::Moment;
use super::damage::Damage;
use super::node::{Ending, Stopped};
use super::stage::{Act, Scene, count_death, tear};
use super::world::{Course, Event, Verdict, World};
use crate::driver::Input;
use crate::types::{MemberId, MessageId, PeerMessage};

/// A link that was up so short a time ago may have been up when something was made that leaves now.
const LATELY: Duration = Duration::from_secs(8);
/// A turn takes this long besides its syncs.
const TURN_TIME: Duration = Duration::from_micros(15);

impl World {
    /// Starts a member that is down.
    pub(super) fn start(&mut self, member: usize) -> Course {
        self.starting[member] = false;
        if self.stage.nodes[member].runs() || !self.is_member(member) {
            return Ok(());
        }
        if let Some(epoch) = self.machines[member].slept.take() {
            let newest = self.stage.agreement.epochs.newest().configuration.epoch;
            self.stage.coverage.sleepers += u64::from(newest.0 >= epoch.0 + 3);
        }
        let scene = self.stage.start(member, self.now)?;
        self.stage.coverage.crashes_inside_start += u64::from(matches!(scene.ending, Ending::Died));
        self.play(member, scene)?;
        if self.stage.nodes[member].runs() {
            self.rotten[member].iter_mut().for_each(Damage::survived);
            for peer in (0..self.size()).filter(|peer| *peer != member) {
                self.want_link(member, peer, Duration::from_millis(1));
            }
            if self.machines[member].leaving {
                self.ask_to_leave(member);
            }
            // What it had heard of others' moves may have gone with what was not synced.
            if self.healed && self.members().len() > 1 && !self.knows_anybody(member) {
                self.rescue(member);
            }
        }
        Ok(())
    }

    pub(super) fn wake(&mut self, member: usize, wake: u64) -> Course {
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
    pub(super) fn play(&mut self, member: usize, scene: Scene) -> Course {
        for (at, act) in scene.acts {
            match act {
                Act::Send { to, envelope } => {
                    self.check_end(member, &envelope.message)?;
                    self.send(member, to, at, envelope);
                }
                Act::Refuse { peer, reason } => self.refuse(member, peer, reason),
                Act::Door { to, message } => self.say_at_door(member, to, at, message),
                Act::Answer { ticket, outcome } => self.answered(ticket, &outcome),
                Act::Serve(request) => {
                    let start = self.stage.nodes[member].starts;
                    let delay = self.random.around(Duration::from_millis(2));
                    self.at(at + delay, Event::Served { member, start, request });
                }
            }
        }
        if self.stage.nodes[member].runs() {
            self.follow_roster(member);
        }
        match scene.ending {
            Ending::Goes { left: true, .. } => self.lets_go(member),
            Ending::Goes { next, again, drained, left: false } => {
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

    /// Rules E2 and E6 for an end of an epoch that is proposed for the first time: whoever makes it has links to everybody who
    /// joins and to a quorum of the next voters, of whom it is the first if it stays.
    fn check_end(&mut self, member: usize, message: &PeerMessage) -> Course {
        let PeerMessage::Proposal { entry, .. } = message else { return Ok(()) };
        let Some(end) = entry.entry.0.epoch_end().filter(|end| self.ends_seen.insert(end.next.digest())) else {
            return Ok(());
        };
        let index = |voter: &MemberId| self.stage.group.index(voter).expect("voters are machines");
        let next: Vec<usize> = end.next.voters.iter().map(index).collect();
        // What is made while a link is up may leave when it is down again.
        let lately = |parted: &Moment| self.now.since(*parted) < LATELY;
        let linked = |voter: &usize| {
            let up = *voter == member || self.network.believes(member, *voter);
            up || self.parted.get(&(member, *voter)).is_some_and(lately)
        };
        let fails = |rule, how: &str| {
            let text = format!("member {} ends an epoch {how}; then these vote: {next:?}", member + 1);
            Err(Verdict::Diverged(Violation::new(rule, text)))
        };
        let present = self.stage.agreement.epochs.newest().configuration.epoch;
        let voted = |voter: &usize| self.stage.agreement.epochs.votes(*voter, present);
        if next.iter().any(|voter| !voted(voter) && !linked(voter)) {
            return fails("E6", "without a link to somebody who joins");
        }
        if next.iter().filter(|voter| linked(voter)).count() < end.next.quorum() {
            return fails("E6", "without links to a quorum of the next");
        }
        if next.contains(&member) && next[0] != member {
            return fails("E2", "and does not lead the next");
        }
        Ok(())
    }

    /// A member stopped by itself: for a reason that the faults gave it, or for one it should not have.
    pub(super) fn stopped(&mut self, member: usize, stopped: &Stopped) -> Course {
        let failed = std::mem::take(&mut self.stage.nodes[member].shell.lock().failed);
        if stopped.is_disk() && (failed || self.disk_full[member]) {
            self.die(member);
            self.restart_after(member, Duration::from_millis(700));
            return Ok(());
        }
        let text = format!("member {} {stopped}", member + 1);
        if stopped.is_departure() {
            return self.departs(member, text);
        }
        if stopped.is_rot() && self.rotten[member].as_ref().is_some_and(Damage::may_end) {
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

    /// A member has left, and its process ends: nothing that it accepted is missing.
    fn lets_go(&mut self, member: usize) -> Course {
        let damage = self.rotten[member].as_ref();
        let order = &self.stage.agreement.order;
        let lost = |id: &MessageId| order.holds(id) || damage.is_some_and(|damage| damage.excuses(id));
        if let Some(publish) = self.stage.promises.unordered(member, lost) {
            let text =
                format!("member {} was let go, and publish {publish}, accepted there, is not ordered", member + 1);
            return Err(Verdict::Diverged(Violation::new("membership", text)));
        }
        self.stage.coverage.let_go += 1;
        self.retire(member, "it has left");
        Ok(())
    }

    /// A member says that it is none any more: the order says so, too.
    fn departs(&mut self, member: usize, text: String) -> Course {
        let id = self.stage.group.id(member);
        if self.stage.agreement.order.membership.departure(&id).is_none() {
            return Err(Verdict::Diverged(Violation::new(
                "membership",
                format!("{text}, and the order has not let it go"),
            )));
        }
        self.stage.coverage.departures_learnt += 1;
        self.retire(member, &text);
        Ok(())
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
    pub(super) fn unlink(&mut self, member: usize) {
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

    pub(super) fn push(&mut self, member: usize, input: Input) {
        if self.stage.nodes[member].runs() {
            self.stage.nodes[member].push(input);
            self.wake_at(member, self.now);
        }
    }
}
