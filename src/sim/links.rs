//! Links of the random world: sessions come and go, and messages pass in them or do not.

use std::sync::Arc;
use std::time::Duration;

use super::clock::Moment;
use super::network::{Packet, Passage};
use super::world::{Event, World};
use crate::driver::{Input, Serve};
use crate::types::peer::{Envelope, Refusal};

impl World {
    pub(super) fn send(&mut self, from: usize, to: usize, at: Moment, envelope: Arc<Envelope>) {
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

    pub(super) fn arrive(&mut self, packet: Packet) {
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

    /// A pair tries to link: one of them dials, where it believes the other to be, and the other lets it in or does not.
    pub(super) fn dial(&mut self, one: usize, other: usize) {
        let pair = self.pair(one, other);
        self.dialling[pair] = false;
        let both = self.stage.nodes[one].runs() && self.stage.nodes[other].runs();
        if !both || self.network.session(one, other).is_some() {
            return; // a start dials again
        }
        let mut pairs = [(one, other), (other, one)].into_iter();
        let Some((caller, called)) = pairs.find(|(caller, called)| self.stage.dials(*caller, *called)) else {
            return; // and so does a roster that changes
        };
        let ready = |member: usize| {
            let node = &self.stage.nodes[member];
            node.paused.is_none() && node.busy <= self.now && node.takes_links()
        };
        let able = ready(one) && ready(other) && self.barred[pair] == 0;
        if !able || !self.network.passable(one, other) {
            let delay = self.random.duration(Duration::from_millis(20), Duration::from_millis(150));
            self.want_link(one, other, delay);
            return;
        }
        if let Some(reason) = self.stage.refuses(called, caller) {
            self.met.insert(pair, self.now);
            let refuser = self.stage.group.id(called);
            let row = &mut self.stage.coverage;
            match reason {
                Refusal::Departed { .. } => row.departed_refused += 1,
                _ => row.strangers_refused += 1,
            }
            self.stage.chart.note(self.now, called, format!("lets {} not in: {reason}", caller + 1));
            self.push(caller, Input::Refused { peer: refuser, reason });
            let delay = self.random.duration(Duration::from_millis(400), Duration::from_millis(1_500));
            self.want_link(one, other, delay);
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

    /// A member's roster changed: links to whom it names no more are closed, others are dialled.
    pub(super) fn follow_roster(&mut self, member: usize) {
        if !std::mem::take(&mut self.stage.nodes[member].shell.lock().roster_changed) {
            return;
        }
        for peer in (0..self.size()).filter(|peer| *peer != member) {
            let linked = self.network.session(member, peer).is_some();
            match self.stage.refuses(member, peer) {
                Some(reason) if linked => self.refuse(member, peer, reason),
                Some(_) => {}
                None if !linked => self.want_link(member, peer, Duration::from_millis(2)),
                None => {}
            }
        }
    }

    pub(super) fn link_up(&mut self, member: usize, peer: usize, session: u64) {
        let hello = self.stage.nodes[peer].shell.lock().hello.clone();
        let Some(hello) = hello.filter(|_| self.stage.nodes[peer].runs()) else { return };
        if self.network.tell(member, peer, session, true) {
            self.stage.chart.note(self.now, member, format!("link to {} is up", peer + 1));
            let peer = self.stage.group.id(peer);
            self.push(member, Input::LinkUp { peer, hello });
        }
    }

    pub(super) fn link_down(&mut self, member: usize, peer: usize, session: u64) {
        if self.network.tell(member, peer, session, false) {
            self.parted.insert((member, peer), self.now);
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
    pub(super) fn part_pair(&mut self, one: usize, other: usize, longest: Duration, flush: bool) {
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

    pub(super) fn refuse(&mut self, member: usize, peer: usize, reason: Refusal) {
        self.break_link(member, peer, Duration::from_millis(1));
        let refuser = self.stage.group.id(member);
        self.push(peer, Input::Refused { peer: refuser, reason });
    }

    pub(super) fn served(&mut self, member: usize, start: u64, request: &Serve) {
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
}
