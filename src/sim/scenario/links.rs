//! Links of a script, and what becomes of messages in them.

use std::sync::Arc;
use std::time::Duration;

use super::inject;
use super::player::{Event, Pair, Player, Understood};
use crate::driver::Input;
use crate::sim::chart::describe;
use crate::sim::clock::Moment;
use crate::types::PeerMessage;
use crate::types::peer::{Envelope, Refusal};

/// Time on the way.
pub(super) const LATENCY: Duration = Duration::from_millis(1);
/// Who was not let in tries again after so long.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// What happens to messages of a kind in a direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    kind: String,
    from: Option<usize>,
    to: Option<usize>,
    holds: bool,
}

impl Filter {
    fn matches(&self, from: usize, to: usize, kind: &str) -> bool {
        (self.kind == "*" || self.kind == kind)
            && self.from.is_none_or(|wanted| wanted == from)
            && self.to.is_none_or(|wanted| wanted == to)
    }
}

impl Player {
    pub(super) fn pair(&mut self, one: usize, other: usize) -> &mut Pair {
        self.pairs.entry((one.min(other), one.max(other))).or_default()
    }

    /// Links a pair if both run, one dials the other and is let in, and nothing cuts them apart.
    pub(super) fn dial(&mut self, one: usize, other: usize) -> Understood<()> {
        let Some(stage) = &self.stage else { return Ok(()) };
        let both = stage.nodes[one].takes_links() && stage.nodes[other].takes_links();
        let pairs = [(one, other), (other, one)];
        let Some((caller, called)) = pairs.into_iter().find(|(one, other)| stage.dials(*one, *other)) else {
            return Ok(());
        };
        let refusal = stage.refuses(called, caller);
        let pair = *self.pair(one, other);
        if !both || pair.cut || pair.open {
            return Ok(());
        }
        if let Some(reason) = refusal {
            return self.let_not_in(caller, called, reason);
        }
        let pair = self.pair(one, other);
        pair.session += 1;
        pair.open = true;
        let session = pair.session;
        let ready = [one, other].map(|member| self.stage.as_ref().map_or(self.now, |stage| stage.nodes[member].busy));
        let at = self.now.max(ready[0]).max(ready[1]) + LATENCY;
        self.at(at, Event::Link(one, other, session));
        Ok(())
    }

    /// The caller is told why, and tries again after a while.
    fn let_not_in(&mut self, caller: usize, called: usize, reason: Refusal) -> Understood<()> {
        let words = self.named(&reason.to_string());
        if self.refused.insert((called, caller, words.clone())) {
            self.say(format!("{} lets {} not in: {words}", called + 1, caller + 1));
        }
        let peer = self.stage()?.group.id(called);
        self.push(caller, Input::Refused { peer, reason })?;
        self.at(self.now + REFUSED_PAUSE, Event::Dial(caller, called));
        Ok(())
    }

    /// A member's roster changed: links to whom it names no more are closed, others are dialled.
    pub(super) fn follow_roster(&mut self, member: usize) -> Understood<()> {
        let stage = self.stage()?;
        let changed = std::mem::take(&mut stage.nodes[member].shell.lock().roster_changed);
        if !changed || !stage.nodes[member].runs() {
            return Ok(());
        }
        for peer in (0..self.size()).filter(|peer| *peer != member) {
            let open = self.pair(member, peer).open;
            match self.stage()?.refuses(member, peer) {
                Some(reason) if open => {
                    self.part(member, peer)?;
                    let refuser = self.stage()?.group.id(member);
                    self.push(peer, Input::Refused { peer: refuser, reason })?;
                }
                Some(_) => {}
                None if !open => self.dial(member, peer)?,
                None => {}
            }
        }
        Ok(())
    }

    pub(super) fn linked(&mut self, one: usize, other: usize, session: u64) -> Understood<()> {
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
    pub(super) fn part(&mut self, one: usize, other: usize) -> Understood<()> {
        let pair = self.pair(one, other);
        if std::mem::take(&mut pair.open) {
            let at = self.now + LATENCY + LATENCY;
            self.at(at, Event::Unlink(one, other));
            self.at(at, Event::Unlink(other, one));
        }
        Ok(())
    }

    pub(super) fn lose_links(&mut self, member: usize) -> Understood<()> {
        (0..self.size()).filter(|peer| *peer != member).try_for_each(|peer| self.part(member, peer))
    }

    pub(super) fn cut(&mut self, one: &str, other: &str) -> Understood<()> {
        let (one, other) = (self.member(one)?, self.member(other)?);
        self.pair(one, other).cut = true;
        self.part(one, other)
    }

    pub(super) fn mend(&mut self, one: &str, other: &str) -> Understood<()> {
        let (one, other) = (self.member(one)?, self.member(other)?);
        self.pair(one, other).cut = false;
        self.dial(one, other)
    }

    pub(super) fn silence(&mut self, direction: &str) -> Understood<()> {
        let (Some(from), Some(to)) = self.direction(direction)? else { return Err("of one direction".to_owned()) };
        self.silent.push((from, to));
        Ok(())
    }

    pub(super) fn speak(&mut self, direction: &str) -> Understood<()> {
        let (Some(from), Some(to)) = self.direction(direction)? else { return Err("of one direction".to_owned()) };
        self.silent.retain(|silent| *silent != (from, to));
        Ok(())
    }

    pub(super) fn filter(&mut self, kind: &str, direction: &str, holds: bool) -> Understood<()> {
        let (from, to) = self.direction(direction)?;
        self.filters.push(Filter { kind: kind.to_owned(), from, to, holds });
        Ok(())
    }

    /// Messages pass from now on; held ones stay held. Returns what would match them.
    pub(super) fn open(&mut self, kind: &str, direction: &str) -> Understood<Filter> {
        let (from, to) = self.direction(direction)?;
        let named = |filter: &Filter| filter.kind == kind && (filter.from, filter.to) == (from, to);
        self.filters.retain(|filter| !named(filter));
        Ok(Filter { kind: kind.to_owned(), from, to, holds: false })
    }

    pub(super) fn pass(&mut self, kind: &str, direction: &str) -> Understood<()> {
        let passes = self.open(kind, direction)?;
        let (passed, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|(from, to, envelope)| passes.matches(*from, *to, envelope.message.name()));
        self.held = held;
        let passed: Vec<(usize, usize, Arc<Envelope>)> = passed;
        passed.into_iter().for_each(|(from, to, envelope)| self.deliver_later(from, to, self.now, envelope));
        Ok(())
    }

    pub(super) fn forget(&mut self) -> Understood<()> {
        self.held.clear();
        Ok(())
    }

    pub(super) fn send(&mut self, from: usize, to: usize, at: Moment, envelope: Arc<Envelope>) {
        self.remember(&envelope.message);
        if self.silent.contains(&(from, to)) {
            return;
        }
        match self.filter_of(from, to, envelope.message.name()) {
            Some(filter) if filter.holds => self.held.push((from, to, envelope)),
            Some(_) => {}
            None => self.deliver_later(from, to, at, envelope),
        }
    }

    /// What stands in the way of a message, if anything does.
    pub(super) fn filter_of(&self, from: usize, to: usize, kind: &str) -> Option<&Filter> {
        self.filters.iter().rev().find(|filter| filter.matches(from, to, kind))
    }

    pub(super) fn deliver_later(&mut self, from: usize, to: usize, at: Moment, envelope: Arc<Envelope>) {
        let pair = *self.pair(from, to);
        if pair.open {
            self.at(at + LATENCY, Event::Arrive { from, to, session: pair.session, envelope });
        }
    }

    pub(super) fn hand_over(&mut self, from: usize, to: usize, envelope: &Envelope) -> Understood<()> {
        let name = envelope.message.name();
        if self.watched.iter().any(|kind| kind == "*" || kind == name) {
            let described = self.named(&describe(&envelope.message));
            self.say(format!("{}->{} {described}", from + 1, to + 1));
        }
        let peer = self.stage()?.group.id(from);
        self.push(to, Input::Received { peer, envelope: envelope.clone() })
    }

    /// Keeps what messages made by hand may name.
    pub(super) fn remember(&mut self, message: &PeerMessage) {
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

    pub(super) fn inject(&mut self, direction: &str, what: &[&str]) -> Understood<()> {
        let (Some(from), Some(to)) = self.direction(direction)? else { return Err("of one direction".to_owned()) };
        let (epoch, configuration) = self.stage()?.present(from);
        for message in inject::messages(self, from, what)? {
            self.remember(&message);
            self.hand_over(from, to, &Envelope { epoch, configuration, message })?;
        }
        Ok(())
    }
}
