//! What publishers were told, and what became of it.

use bytes::Bytes;

use super::Violation;
use crate::sim::clock::Moment;
use crate::types::{Ack, Command, Message, MessageId, Outcome, Position, Ticket};

/// What a publisher knows of its publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// No answer yet.
    Waiting,
    /// The member died before it answered: perhaps ordered.
    Orphaned,
    /// It answered.
    Answered(Outcome),
}

/// What somebody asked a member for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// That a message be ordered.
    Publish(Ack, Message),
    /// That a membership command be ordered.
    Command(Command),
    /// That it leave the group.
    Leave,
}

/// One publish, or another wish.
#[derive(Clone, Debug)]
struct Published {
    member: usize,
    start: u64,
    wish: Wish,
    deadline: Moment,
    fate: Fate,
    position: Option<Position>,
}

/// All publishes of a simulation. Each body names its publish, so that a delivered message finds it.
#[derive(Default)]
pub struct Promises {
    all: Vec<Published>,
    /// Highest publish of each member that was delivered.
    last: Vec<Option<usize>>,
}

/// Bytes of a body that name its publish.
const NAME_BYTES: usize = 8;

impl Promises {
    /// Nothing is published.
    pub fn new(members: usize) -> Promises {
        Promises { all: Vec::new(), last: vec![None; members] }
    }

    /// A body of so many bytes (at least eight) that names the next publish.
    pub fn body(&self, bytes: usize) -> Bytes {
        let name = self.all.len() as u64;
        let mut body = vec![name as u8; bytes.max(NAME_BYTES)];
        body[..NAME_BYTES].copy_from_slice(&name.to_le_bytes());
        Bytes::from(body)
    }

    /// A body that names the next publish and says this.
    pub fn text(&self, text: &str) -> Bytes {
        let mut body = (self.all.len() as u64).to_le_bytes().to_vec();
        body.extend_from_slice(text.as_bytes());
        Bytes::from(body)
    }

    /// What a body says behind its name: its text, or its size.
    pub fn says(body: &[u8]) -> String {
        let rest = body.get(NAME_BYTES..).unwrap_or_default();
        match std::str::from_utf8(rest) {
            Ok(text) if text.len() <= 40 => text.to_owned(),
            _ => format!("{} bytes", body.len()),
        }
    }

    /// What was asked for.
    pub fn wish(&self, ticket: Ticket) -> &Wish {
        &self.all[ticket.0 as usize].wish
    }

    /// Somebody asks a member for something, in its so-manieth start. A message's body is from [`Promises::body`].
    pub fn asked(&mut self, member: usize, start: u64, wish: Wish, deadline: Moment) -> Ticket {
        let ticket = Ticket(self.all.len() as u64);
        let fate = Fate::Waiting;
        self.all.push(Published { member, start, wish, deadline, fate, position: None });
        ticket
    }

    /// Messages published.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Publishes with such an answer.
    pub fn answers(&self, of_kind: impl Fn(&Outcome) -> bool) -> usize {
        self.all.iter().filter(|publish| matches!(&publish.fate, Fate::Answered(outcome) if of_kind(outcome))).count()
    }

    /// What a publisher knows.
    pub fn fate(&self, ticket: Ticket) -> &Fate {
        &self.all[ticket.0 as usize].fate
    }

    /// Where a message stands in the order.
    pub fn position(&self, ticket: Ticket) -> Option<Position> {
        self.all[ticket.0 as usize].position
    }

    /// A member died: whoever waits for it gets no answer.
    pub fn orphan(&mut self, member: usize) {
        for publish in &mut self.all {
            if publish.member == member && publish.fate == Fate::Waiting {
                publish.fate = Fate::Orphaned;
            }
        }
    }

    /// Publishes without an answer: how many have no position, and how many have one.
    pub fn orphans(&self) -> (u64, u64) {
        let orphans = || self.all.iter().filter(|publish| publish.fate == Fate::Orphaned);
        let ordered = orphans().filter(|publish| publish.position.is_some()).count();
        ((orphans().count() - ordered) as u64, ordered as u64)
    }

    /// Every message with a position, by position.
    pub fn order(&self) -> Vec<(Position, &Bytes)> {
        let placed = self.all.iter().filter_map(|publish| match &publish.wish {
            Wish::Publish(_, message) => Some((publish.position?, &message.body)),
            Wish::Command(_) | Wish::Leave => None,
        });
        let mut order: Vec<(Position, &Bytes)> = placed.collect();
        order.sort();
        order
    }

    /// A publisher is answered.
    pub fn answered(&mut self, member: usize, start: u64, ticket: Ticket, outcome: &Outcome) -> Result<(), Violation> {
        let Some(publish) = self.all.get_mut(ticket.0 as usize) else {
            return Err(Violation::new("answers", format!("ticket {} was never drawn", ticket.0)));
        };
        let fails = |text: &str| Err(Violation::new("answers", format!("publish {}: {text}: {outcome:?}", ticket.0)));
        if (publish.member, publish.start) != (member, start) {
            return fails("answered by a process that never got it");
        }
        if publish.fate != Fate::Waiting {
            return fails("a second answer");
        }
        match (&publish.wish, outcome) {
            (_, Outcome::Rejected(_)) => {}
            (Wish::Publish(Ack::Accepted, _), Outcome::Accepted { .. }) => {}
            (Wish::Publish(..), Outcome::Ordered { .. } | Outcome::OutcomeUnknown { .. }) => {}
            (
                Wish::Command(_),
                Outcome::Ordered { .. } | Outcome::WithoutEffect { .. } | Outcome::OutcomeUnknown { .. },
            ) => {}
            (Wish::Leave, Outcome::Left) => {}
            _ => return fails("less than was asked for, or another thing"),
        }
        if publish.position.is_some() && matches!(outcome, Outcome::Rejected(_)) {
            return fails("rejected, yet ordered");
        }
        publish.fate = Fate::Answered(outcome.clone());
        Ok(())
    }

    /// A message takes a position, for the first time anywhere.
    pub fn ordered(&mut self, origin: usize, id: &MessageId, message: &Message, at: Position) -> Result<(), Violation> {
        let name = message.body.get(..NAME_BYTES).map(|name| u64::from_le_bytes(name.try_into().expect("eight bytes")));
        let found = name.and_then(|name| Some((name as usize, self.all.get_mut(name as usize)?)));
        let is_it = |publish: &Published| matches!(&publish.wish, Wish::Publish(_, told) if told == message);
        let Some((index, publish)) = found.filter(|(_, publish)| is_it(publish)) else {
            return Err(Violation::new("integrity", format!("position {at} holds what nobody published")));
        };
        let fails = |rule, text: String| Err(Violation::new(rule, format!("publish {index} at position {at}: {text}")));
        if publish.member != origin {
            return fails("integrity", format!("delivered as a message of member {}", origin + 1));
        }
        if let Some(other) = publish.position {
            return fails("at most once", format!("it has position {other} already"));
        }
        if let Some(last) = self.last[origin].filter(|last| *last > index) {
            return fails("source order", format!("publish {last} of the same member came before it"));
        }
        match &publish.fate {
            Fate::Answered(Outcome::Rejected(reason)) => return fails("answers", format!("it was rejected: {reason}")),
            Fate::Answered(Outcome::Accepted { id: told } | Outcome::OutcomeUnknown { id: told }) if told != id => {
                return fails("answers", format!("its publisher was told the id {told}, it is {id}"));
            }
            _ => {}
        }
        publish.position = Some(at);
        self.last[origin] = Some(index);
        Ok(())
    }

    /// A publish that a member accepted and that has no place in the order.
    pub fn unordered(&self, member: usize, lost: impl Fn(&MessageId) -> bool) -> Option<usize> {
        self.all.iter().position(|publish| match &publish.fate {
            Fate::Answered(Outcome::Accepted { id }) => {
                publish.member == member && publish.position.is_none() && !lost(id)
            }
            _ => false,
        })
    }

    /// Every publish that was promised a place and has none, or waits for an answer long after its deadline. Messages of a
    /// member for which `lost` is true are gone with its disk.
    pub fn broken(&self, now: Moment, lost: impl Fn(usize, &MessageId) -> bool) -> Vec<String> {
        let mut broken = Vec::new();
        for (index, publish) in self.all.iter().enumerate() {
            if let Fate::Answered(Outcome::Accepted { id } | Outcome::Ordered { id, .. }) = &publish.fate
                && publish.position.is_none()
                && matches!(publish.wish, Wish::Publish(..))
                && !lost(publish.member, id)
            {
                broken.push(format!("publish {index} at member {} was acknowledged", publish.member + 1));
            }
            if publish.fate == Fate::Waiting && publish.deadline < now && publish.wish != Wish::Leave {
                broken.push(format!("publish {index} at member {} waits for its answer", publish.member + 1));
            }
        }
        broken
    }
}
