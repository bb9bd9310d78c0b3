//! Simulated links. A pair of members has at most one session at a time; each direction of a session carries two
//! streams (urgent and bulk) whose messages keep their order unless the direction is drawn to disorder them.
//!
//! A message may be lost (a queue overflowed), doubled, delayed, or stuck behind a silent direction. A session breaks
//! when somebody dies, by chance, or when a side notices that the other is silent; what was on the way is lost with it.

use std::sync::Arc;
use std::time::Duration;

use super::clock::Moment;
use super::random::Random;
use crate::types::peer::Envelope;

/// How one direction of a link behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Usual time on the way.
    pub latency: Duration,
    /// Messages lost, of 1,000.
    pub lost: u64,
    /// Messages that arrive twice, of 1,000.
    pub doubled: u64,
    /// Messages that may be overtaken by later ones of their stream, of 1,000.
    pub overtaken: u64,
    /// Nothing arrives until this changes; the sender does not notice.
    pub silent: bool,
}

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Index of the sender.
    pub from: usize,
    /// Index of the receiver.
    pub to: usize,
    /// The session it belongs to; it arrives only while that lasts.
    pub session: u64,
    /// What is said.
    pub envelope: Arc<Envelope>,
}

/// What became of a message that was sent.
#[derive(Debug)]
pub enum Passage {
    /// It arrives then; a second time too, if it was doubled.
    Arrives(Moment, Option<Moment>),
    /// It waits behind a silent direction.
    Held,
    /// It never arrives: why.
    Lost(&'static str),
}

/// What the network did, for the coverage table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passages {
    /// Messages lost by chance.
    pub lost: u64,
    /// Messages that arrived twice.
    pub doubled: u64,
    /// Messages overtaken by a later one.
    pub overtaken: u64,
    /// Messages held behind a silent direction.
    pub held: u64,
}

struct Direction {
    manner: Manner,
    /// When the last message of each stream arrives: [urgent, bulk].
    last: [Moment; 2],
    /// When messages arrive that may be overtaken and have not been: [urgent, bulk].
    late: [Vec<Moment>; 2],
    held: Vec<Packet>,
}

impl Direction {
    fn new(manner: Manner) -> Direction {
        Direction { manner, last: [Moment(0); 2], late: [Vec::new(), Vec::new()], held: Vec::new() }
    }

    /// A message of a stream arrives then: how many sent before it arrive after it. Each is counted once.
    fn overtaken(&mut self, stream: usize, arrival: Moment) -> u64 {
        let late = &mut self.late[stream];
        let before = late.len();
        late.retain(|moment| *moment <= arrival);
        let overtaken = before - late.len();
        late.retain(|moment| *moment > self.last[stream]); // nothing arrives before that any more
        overtaken as u64
    }
}

/// The connection of one pair.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    /// Number of the newest session; sessions are never numbered alike.
    session: u64,
    /// Whether that session lasts.
    open: bool,
    /// Whether what was sent before its end still arrives.
    flushed: bool,
    /// Whether the lower and the higher member have been told that it is there.
    told: [bool; 2],
}

/// All links of the group.
pub struct Network {
    members: usize,
    directions: Vec<Direction>,
    pairs: Vec<Pair>,
    /// What happened.
    pub passages: Passages,
}

impl Network {
    /// Links between so many members, without any session.
    pub fn new(members: usize, manner: Manner) -> Network {
        let directions = (0..members * members).map(|_| Direction::new(manner)).collect();
        Network { members, directions, pairs: vec![Pair::default(); members * members], passages: Passages::default() }
    }

    /// How messages go from one member to another.
    pub fn manner(&mut self, from: usize, to: usize) -> &mut Manner {
        &mut self.direction(from, to).manner
    }

    /// The session of a pair, if it has one.
    pub fn session(&self, one: usize, other: usize) -> Option<u64> {
        let pair = self.pairs[self.pair(one, other)];
        pair.open.then_some(pair.session)
    }

    /// Opens a session; messages arrive in it no earlier than `from`, when both sides have been told.
    pub fn open(&mut self, one: usize, other: usize, from: Moment) -> u64 {
        let index = self.pair(one, other);
        let session = self.pairs[index].session + 1;
        self.pairs[index] = Pair { session, open: true, flushed: false, told: [false; 2] };
        for (source, target) in [(one, other), (other, one)] {
            let direction = self.direction(source, target);
            direction.last = [from; 2];
            direction.late.iter_mut().for_each(Vec::clear);
            direction.held.clear();
        }
        session
    }

    /// Ends a pair's session; with `flush` what is on the way still arrives at a side that has not been told. Returns the
    /// session and its sides.
    pub fn close(&mut self, one: usize, other: usize, flush: bool) -> Option<(u64, [usize; 2])> {
        let index = self.pair(one, other);
        self.direction(one, other).held.clear();
        self.direction(other, one).held.clear();
        let pair = &mut self.pairs[index];
        pair.flushed = flush;
        std::mem::take(&mut pair.open).then_some((pair.session, [one.min(other), one.max(other)]))
    }

    /// Marks that a member was told of a session (`up`) or of its end. False if there is nothing new in that.
    pub fn tell(&mut self, member: usize, peer: usize, session: u64, up: bool) -> bool {
        let index = self.pair(member, peer);
        let pair = &mut self.pairs[index];
        if pair.session != session || (up && !pair.open) {
            return false;
        }
        let told = &mut pair.told[usize::from(member > peer)];
        std::mem::replace(told, up) != up
    }

    /// Whether a message of this session still arrives.
    pub fn carries(&self, from: usize, to: usize, session: u64) -> bool {
        let pair = &self.pairs[self.pair(from, to)];
        pair.session == session && (pair.open || pair.flushed) && self.believes(to, from)
    }

    /// Whether a member believes to have a session with another.
    pub fn believes(&self, member: usize, peer: usize) -> bool {
        self.pairs[self.pair(member, peer)].told[usize::from(member > peer)]
    }

    /// Whether both directions let messages through.
    pub fn passable(&mut self, one: usize, other: usize) -> bool {
        !self.manner(one, other).silent && !self.manner(other, one).silent
    }

    /// Sends a message at `now`.
    pub fn send(&mut self, packet: &Packet, now: Moment, random: &mut Random) -> Passage {
        let stream = usize::from(packet.envelope.message.is_bulk());
        let direction = &mut self.directions[packet.from * self.members + packet.to];
        let manner = direction.manner;
        if manner.silent {
            direction.held.push(packet.clone());
            self.passages.held += 1;
            return Passage::Held;
        }
        if manner.lost > 0 && random.chance(manner.lost) {
            self.passages.lost += 1;
            return Passage::Lost("lost");
        }
        let drawn = now + random.around(manner.latency);
        let lingers = manner.overtaken > 0 && random.chance(manner.overtaken);
        let arrival = if lingers {
            drawn.max(direction.last[stream]) + random.around(manner.latency * 4)
        } else {
            direction.last[stream] = drawn.max(direction.last[stream]);
            direction.last[stream]
        };
        self.passages.overtaken += direction.overtaken(stream, arrival);
        if lingers {
            direction.late[stream].push(arrival);
        }
        let again = (manner.doubled > 0 && random.chance(manner.doubled)).then(|| {
            self.passages.doubled += 1;
            arrival + random.around(manner.latency * 8)
        });
        Passage::Arrives(arrival, again)
    }

    /// A direction speaks again: what waited in it, in order.
    pub fn release(&mut self, from: usize, to: usize) -> Vec<Packet> {
        let direction = self.direction(from, to);
        direction.manner.silent = false;
        std::mem::take(&mut direction.held)
    }

    fn direction(&mut self, from: usize, to: usize) -> &mut Direction {
        &mut self.directions[from * self.members + to]
    }

    fn pair(&self, one: usize, other: usize) -> usize {
        one.min(other) * self.members + one.max(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::PeerMessage;
    use crate::types::{Digest, Epoch, Slot};

    fn packet() -> Packet {
        let message =
            PeerMessage::FetchDecided { after: Slot(0), digest: Digest::ZERO, through: Slot(1), waits: false };
        let envelope = Arc::new(Envelope { epoch: Epoch(0), configuration: Digest::ZERO, message });
        Packet { from: 0, to: 1, session: 1, envelope }
    }

    fn manner() -> Manner {
        Manner { latency: Duration::from_micros(100), lost: 0, doubled: 0, overtaken: 0, silent: false }
    }

    #[test]
    fn messages_of_one_stream_keep_their_order() {
        let mut network = Network::new(2, manner());
        network.open(0, 1, Moment(0));
        let mut random = Random::new(1, 1);
        let mut last = Moment(0);
        for step in 0..1000 {
            let Passage::Arrives(arrival, None) = network.send(&packet(), Moment(step * 10), &mut random) else {
                panic!("nothing is lost here")
            };
            assert!(arrival >= last);
            last = arrival;
        }
    }

    #[test]
    fn a_silent_direction_holds_what_is_sent_until_it_speaks_or_the_session_ends() {
        let mut network = Network::new(2, manner());
        let mut random = Random::new(1, 1);
        network.open(0, 1, Moment(0));
        network.manner(0, 1).silent = true;
        assert!(matches!(network.send(&packet(), Moment(0), &mut random), Passage::Held));
        assert_eq!(network.release(0, 1).len(), 1);
        network.manner(0, 1).silent = true;
        network.send(&packet(), Moment(0), &mut random);
        network.close(0, 1, false);
        assert!(network.release(0, 1).is_empty());
    }

    #[test]
    fn a_message_is_overtaken_when_a_later_one_arrives_before_it() {
        let mut network = Network::new(2, manner());
        let mut random = Random::new(1, 1);
        network.open(0, 1, Moment(0));
        network.manner(0, 1).overtaken = 1000;
        network.send(&packet(), Moment(0), &mut random);
        assert_eq!(network.passages.overtaken, 0, "nothing follows it");
        *network.manner(0, 1) = Manner { latency: Duration::ZERO, ..manner() };
        for step in 1..4 {
            network.send(&packet(), Moment(step), &mut random);
            assert_eq!(network.passages.overtaken, 1);
        }
    }

    #[test]
    fn a_side_is_told_once() {
        let mut network = Network::new(2, manner());
        let session = network.open(0, 1, Moment(0));
        assert!(network.tell(0, 1, session, true));
        assert!(!network.tell(0, 1, session, true));
        network.close(0, 1, true);
        assert!(network.tell(0, 1, session, false));
        assert!(!network.tell(1, 0, session, false), "it never believed in it");
    }
}
