//! What goes wrong: each kind of fault, how it begins and how it ends.

use std::time::Duration;

use super::plan::Fault;
use super::shell::Death;
use super::world::{Event, Relief, World};
use crate::driver::Input;
use crate::types::{Entry, Location, Record, Slot};

/// Segment files hold this much beside a record's payload: length and kind before it, the checksum behind it.
const HEAD_BYTES: u64 = 5;
const CHECKSUM_BYTES: u64 = 4;
/// Kinds of records that say what a voter promised: voter and vote.
const PROMISES: [u8; 2] = [4, 5];

impl World {
    /// Begins a fault.
    pub(super) fn inflict(&mut self, fault: Fault) {
        let member = self.victim();
        let alone = self.members().len() == 1;
        self.stage.chart.word(self.now, format!("{fault:?}"));
        match fault {
            Fault::Crash => self.kill(member),
            Fault::CrashInside => {
                let effects = self.random.between(0, 14);
                self.doom(member, Death::Effects(effects));
            }
            Fault::CrashBeforeSync => self.doom(member, Death::SyncAfterSend),
            Fault::CrashAfterSync => self.doom(member, Death::AfterSync),
            Fault::CrashInStart => self.kill_in_start(member),
            Fault::CrashLeader => self.kill_leader(),
            Fault::RestartAll => self.restart_all(),
            Fault::BreakLink | Fault::BrokenPair | Fault::OneWay | Fault::Partition if alone => {}
            Fault::BreakLink => {
                let peer = self.other(member);
                let longest = self.milliseconds(1, 400);
                self.break_link(member, peer, longest);
            }
            Fault::BrokenPair => self.bar_pair(member),
            Fault::OneWay => self.silence(member),
            Fault::Partition => self.part(),
            Fault::Pause => self.pause(member),
            Fault::SlowDisk => self.slow_disk(member),
            Fault::FailedSync => self.stage.nodes[member].shell.lock().temper.failing = true,
            Fault::ClockJump => self.jump_clock(member),
            Fault::RotBelow => self.rot(member, false),
            Fault::RotAbove => self.kill_to_rot(member),
            Fault::FullDisk => self.fill_disk(member),
            Fault::Drain => self.drain(member),
            Fault::BadLinks => self.worsen_links(),
            Fault::Churn if alone => {}
            Fault::Churn => {
                let rounds = self.random.between(2, 8);
                self.churn(member, rounds);
            }
        }
    }

    /// Ends what a fault began.
    pub(super) fn relieve(&mut self, relief: Relief) {
        match relief {
            Relief::Speak(from, to) => self.speak(from, to),
            Relief::Mend(one, other) => {
                let pair = self.pair(one, other);
                self.barred[pair] = self.barred[pair].saturating_sub(1);
            }
            Relief::Join(side) => self.join(side),
            Relief::Resume(member) => {
                self.stage.nodes[member].paused = None;
                self.wake_at(member, self.now);
            }
            Relief::Quicken(member) => self.quicken(member),
            Relief::Room(member) => self.give_room(member),
            Relief::Smooth => self.smooth_links(),
            Relief::Notice(one, other, session) => {
                if self.network.session(one, other) == Some(session) && !self.network.passable(one, other) {
                    self.break_link(one, other, Duration::from_millis(300));
                }
            }
            Relief::Churn(member, rounds) => self.churn(member, rounds),
            Relief::Rot(member) => self.rot(member, true),
        }
    }

    /// Everything is well from now on.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.stage.chart.word(self.now, "faults are over");
        self.barred.fill(0);
        self.smooth_links();
        for member in 0..self.size() {
            for peer in (0..self.size()).filter(|peer| *peer != member) {
                self.speak(member, peer);
            }
            self.doom(member, Death::None);
            self.quicken(member);
            self.give_room(member);
            let node = &mut self.stage.nodes[member];
            node.shell.lock().temper.failing = false;
            node.paused = None;
            self.wake_at(member, self.now);
            if !self.stage.nodes[member].runs() && self.is_member(member) {
                let delay = self.milliseconds(1, 500);
                self.restart_after(member, delay);
            }
        }
        for member in self.members() {
            if !self.knows_anybody(member) {
                self.rescue(member);
            }
        }
    }

    /// Somebody, rather often the leader of the highest round that any disk has.
    fn victim(&mut self) -> usize {
        let members = self.members();
        if self.random.chance(350) { self.leader() } else { members[self.random.index(members.len())] }
    }

    fn leader(&self) -> usize {
        let configuration = &self.stage.agreement.epochs.newest().configuration;
        let rounds = (0..self.size()).filter_map(|member| Some(self.stage.agreement.voter(member)?.round));
        let view = rounds.filter(|round| round.epoch == configuration.epoch).map(|round| round.view).max();
        let leader = configuration.leader(view.unwrap_or_default());
        self.stage.group.index(&leader).expect("voters are machines")
    }

    fn other(&mut self, member: usize) -> usize {
        let others: Vec<usize> = self.members().into_iter().filter(|other| *other != member).collect();
        others[self.random.index(others.len())]
    }

    fn milliseconds(&mut self, low: u64, high: u64) -> Duration {
        self.random.duration(Duration::from_millis(low), Duration::from_millis(high))
    }

    fn kill(&mut self, member: usize) {
        if self.stage.nodes[member].runs() {
            self.die(member);
            let delay = self.downtime();
            self.restart_after(member, delay);
        }
    }

    fn downtime(&mut self) -> Duration {
        let longest = self.random.weighted(&[(4, 100), (4, 800), (2, 4_000)]);
        self.milliseconds(5, longest)
    }

    fn kill_in_start(&mut self, member: usize) {
        self.kill(member);
        let effects = self.random.between(0, 8);
        self.doom(member, Death::Effects(effects));
    }

    fn kill_leader(&mut self) {
        let leader = self.leader();
        match self.random.below(4) {
            0 => self.kill(leader),
            1 => self.doom(leader, Death::SyncAfterSend),
            2 => self.doom(leader, Death::AfterSync),
            _ => {
                let effects = self.random.between(0, 10);
                self.doom(leader, Death::Effects(effects));
            }
        }
    }

    fn restart_all(&mut self) {
        let members = self.members();
        let all = members.len() > 1 && members.iter().all(|member| self.stage.nodes[*member].runs());
        self.stage.coverage.restarts_of_all += u64::from(all);
        for member in 0..self.size() {
            if self.stage.nodes[member].runs() {
                self.die(member);
                let delay = self.milliseconds(5, 250);
                self.restart_after(member, delay);
            }
        }
    }

    fn bar_pair(&mut self, member: usize) {
        let peer = self.other(member);
        let pair = self.pair(member, peer);
        self.barred[pair] += 1;
        self.stage.coverage.broken_pairs += 1;
        self.break_link(member, peer, Duration::from_millis(5));
        let until = self.milliseconds(300, 6_000);
        self.after(until, Event::Relief(Relief::Mend(member, peer)));
    }

    /// One direction, or now and then both, goes silent; somebody notices, or nobody does before it speaks again.
    fn silence(&mut self, member: usize) {
        let peer = self.other(member);
        let both = self.network.session(member, peer).is_some() && self.network.passable(member, peer);
        self.stage.coverage.one_way_links += u64::from(both);
        self.network.manner(member, peer).silent = true;
        let until = self.milliseconds(50, 4_000);
        self.after(until, Event::Relief(Relief::Speak(member, peer)));
        if let Some(session) = self.network.session(member, peer).filter(|_| self.random.chance(600)) {
            let delay = self.milliseconds(100, 2_500);
            self.after(delay, Event::Relief(Relief::Notice(member, peer, session)));
        }
    }

    fn speak(&mut self, from: usize, to: usize) {
        for packet in self.network.release(from, to) {
            let delay = self.random.around(self.plan.manner.latency);
            self.at(self.now + delay, Event::Arrive(packet));
        }
    }

    /// The group falls into two parts; bit i of `side` says in which member i is.
    fn part(&mut self) {
        let side = 1 + self.random.below((1 << self.size()) - 2);
        let cut = self.cut(side);
        let linked = cut.iter().any(|(one, other)| self.network.session(*one, *other).is_some());
        self.stage.coverage.partitions += u64::from(linked);
        let abrupt = self.random.chance(500);
        for (one, other) in cut {
            if abrupt {
                let pair = self.pair(one, other);
                self.barred[pair] += 1;
                self.break_link(one, other, Duration::from_millis(10));
            } else {
                self.network.manner(one, other).silent = true;
                self.network.manner(other, one).silent = true;
                if let Some(session) = self.network.session(one, other) {
                    let delay = self.milliseconds(200, 2_000);
                    self.after(delay, Event::Relief(Relief::Notice(one, other, session)));
                }
            }
        }
        let until = self.milliseconds(200, 5_000);
        self.after(until, Event::Relief(Relief::Join(side)));
    }

    fn join(&mut self, side: u64) {
        for (one, other) in self.cut(side) {
            let pair = self.pair(one, other);
            self.barred[pair] = self.barred[pair].saturating_sub(1);
            self.speak(one, other);
            self.speak(other, one);
        }
    }

    /// Pairs with one member in each part.
    fn cut(&self, side: u64) -> Vec<(usize, usize)> {
        let count = self.size();
        let pairs = (0..count).flat_map(|one| (one + 1..count).map(move |other| (one, other)));
        pairs.filter(|(one, other)| (side >> one) & 1 != (side >> other) & 1).collect()
    }

    fn pause(&mut self, member: usize) {
        if !self.stage.nodes[member].runs() || self.stage.nodes[member].paused.is_some() {
            return;
        }
        self.stage.coverage.pauses += 1;
        let longest = self.random.weighted(&[(3, 400), (3, 2_000), (1, 9_000)]);
        let length = self.milliseconds(50, longest);
        self.stage.nodes[member].paused = Some(self.now + length);
        self.after(length, Event::Relief(Relief::Resume(member)));
        if self.members().len() > 1 && self.random.chance(300) {
            let peer = self.other(member);
            self.break_link(member, peer, Duration::from_millis(50));
        }
    }

    fn slow_disk(&mut self, member: usize) {
        let (every, stall) = self.random.weighted(&[(3, (1, 30)), (3, (10, 200)), (2, (40, 700)), (1, (1, 150))]);
        {
            let temper = &mut self.stage.nodes[member].shell.lock().temper;
            temper.stall_every = every;
            temper.stall = Duration::from_millis(stall);
        }
        let until = self.milliseconds(500, 5_000);
        self.after(until, Event::Relief(Relief::Quicken(member)));
    }

    fn quicken(&mut self, member: usize) {
        self.stage.nodes[member].shell.lock().temper.stall_every = 0;
    }

    fn jump_clock(&mut self, member: usize) {
        self.stage.coverage.clock_jumps += 1;
        let seconds = self.random.weighted(&[(3, 1), (3, 10), (1, 3_600)]);
        let by = self.random.between(0, 2 * seconds * 1_000_000_000) as i64 - (seconds * 1_000_000_000) as i64;
        self.stage.nodes[member].shell.lock().clock.jump(by);
    }

    fn fill_disk(&mut self, member: usize) {
        let node = &self.stage.nodes[member];
        if !node.runs() {
            return;
        }
        node.files.limit(Some(0));
        self.disk_full[member] = true;
        let until = self.milliseconds(1_000, 8_000);
        self.after(until, Event::Relief(Relief::Room(member)));
    }

    fn give_room(&mut self, member: usize) {
        self.stage.nodes[member].files.limit(None);
        self.disk_full[member] = false;
        let noticed = std::mem::take(&mut self.stage.nodes[member].shell.lock().full);
        self.stage.coverage.disks_full += u64::from(noticed);
    }

    fn drain(&mut self, member: usize) {
        if self.stage.nodes[member].runs() && !self.draining[member] && !self.machines[member].leaving {
            self.draining[member] = true;
            self.stage.nodes[member].push(Input::Drain);
            self.wake_at(member, self.now);
        }
    }

    fn worsen_links(&mut self) {
        let loss = self.random.weighted(&[(2, 0), (3, 20), (1, 200)]);
        let doubled = self.random.weighted(&[(2, 0), (3, 50)]);
        let overtaken = self.random.weighted(&[(1, 0), (3, 100)]);
        let slower = self.random.weighted(&[(3, 1), (1, 10), (1, 60)]);
        for (from, to) in self.directions() {
            let manner = self.network.manner(from, to);
            manner.lost = loss;
            manner.doubled = doubled;
            manner.overtaken = overtaken;
            manner.latency = self.plan.manner.latency * slower;
        }
        let until = self.milliseconds(300, 5_000);
        self.after(until, Event::Relief(Relief::Smooth));
    }

    fn smooth_links(&mut self) {
        for (from, to) in self.directions() {
            let silent = self.network.manner(from, to).silent;
            *self.network.manner(from, to) = super::network::Manner { silent, ..self.plan.manner };
        }
    }

    fn directions(&self) -> Vec<(usize, usize)> {
        let count = self.size();
        (0..count).flat_map(|from| (0..count).map(move |to| (from, to))).filter(|(from, to)| from != to).collect()
    }

    /// The leader loses its links, again and again: views change while slots are in flight.
    fn churn(&mut self, member: usize, rounds: u64) {
        if self.healed {
            return;
        }
        let victim = if self.random.chance(700) { self.leader() } else { member };
        for peer in 0..self.size() {
            if peer != victim && self.network.session(peer, victim).is_some() && self.random.chance(700) {
                let longest = self.milliseconds(1, 60);
                self.break_link(victim, peer, longest);
            }
        }
        if rounds > 0 {
            let delay = self.milliseconds(20, 500);
            self.after(delay, Event::Relief(Relief::Churn(member, rounds - 1)));
        }
    }

    /// A member restarts, and soon its disk turns a bit: from the restart on everything before it is known to be synced,
    /// its newest vote too.
    fn kill_to_rot(&mut self, member: usize) {
        if self.stage.nodes[member].runs() {
            self.die(member);
            self.restart_after(member, Duration::from_millis(5));
        }
        let delay = self.milliseconds(20, 400);
        self.after(delay, Event::Relief(Relief::Rot(member)));
    }

    /// Turns a bit in a member's log while the member is down.
    fn rot(&mut self, member: usize, above: bool) {
        if !self.is_member(member) || !self.may_lose(member) || self.starting[member] {
            return;
        }
        let Some(location) = self.rotting(member, above) else { return };
        if self.stage.nodes[member].runs() {
            self.die(member);
        }
        let first = u64::from(location.offset) - HEAD_BYTES;
        let bytes = HEAD_BYTES + u64::from(location.length) + CHECKSUM_BYTES;
        let offset = first + self.random.below(bytes);
        self.stage.chart.note(self.now, member, format!("a bit turns at {}/{offset}", location.segment));
        self.machines[member].struck = Some(self.now);
        self.rotten[member].get_or_insert_default().strike(&self.stage, member, &location);
        self.stage.nodes[member].files.flip_bit(&format!("{:020}.wal", location.segment), offset);
        let delay = self.downtime();
        self.restart_after(member, delay);
    }

    /// A record to be damaged: an entry or a batch of a slot at or below the durable decided mark, or one of the newest
    /// that can be told from a torn tail.
    fn rotting(&mut self, member: usize, above: bool) -> Option<Location> {
        let storage = self.stage.storage(member);
        let proven = storage.proven();
        if above {
            let promise = proven.iter().rfind(|placed| PROMISES.contains(&placed.kind)).copied();
            let newest = &proven[proven.len().saturating_sub(8)..];
            let any = newest.get(self.random.index(newest.len().max(1))).copied();
            return promise.filter(|_| self.random.chance(700)).or(any).map(|placed| placed.location);
        }
        let node = &self.stage.nodes[member];
        let read = |placed: &super::check::Placed| Record::read(placed.kind, &node.read(&placed.location)?).ok();
        let mark = proven.iter().rev().find_map(|placed| match read(placed)? {
            Record::Decided(tip) => Some(tip.slot),
            _ => None,
        })?;
        let below: Vec<Location> = proven
            .iter()
            .filter(|placed| match read(placed) {
                Some(Record::Entry(record)) => record.slot <= mark && Entry::admit(&record.entry).is_ok(),
                Some(Record::Batch(_)) => storage
                    .batch_at(&placed.location)
                    .is_some_and(|batch| (1..=mark.0).any(|slot| self.orders(Slot(slot), batch))),
                _ => false,
            })
            .map(|placed| placed.location)
            .collect();
        (!below.is_empty()).then(|| below[self.random.index(below.len())])
    }

    fn orders(&self, slot: Slot, batch: &crate::types::BatchRef) -> bool {
        self.stage.agreement.batches(slot).is_some_and(|batches| batches.contains(batch))
    }
}
