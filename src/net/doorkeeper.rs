//! Who is heard at a door, who waits there for an answer, and where we knock ourselves. Judges and remembers only: the
//! switchboard does what is judged. What candidates ask each other is heard in the same way, within bounds of its own.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::types::{MemberId, limits};

const SECOND: Duration = Duration::from_secs(1);

/// The exchanges there are: of every key at most one in each direction.
pub(super) struct Doorkeeper<M> {
    bounds: Bounds,
    /// Keys whose knock is heard, or waits for its answer.
    theirs: HashMap<MemberId, Theirs<M>>,
    /// Connections on which answers are being given, and how many.
    answering: HashMap<ConnectionId, usize>,
    /// Keys at whose door we knock.
    ours: HashMap<MemberId, Ours<M>>,
    pace: Pace,
}

/// How much is heard.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Strangers at a time.
    pub waiting: usize,
    /// Of one key, within a second.
    pub of_key: u32,
    /// Of all strangers, within a second.
    pub of_strangers: u32,
}

impl Bounds {
    /// At the door.
    pub const DOOR: Bounds = Bounds {
        waiting: limits::DOOR_WAITING_MAX,
        of_key: limits::DOOR_KNOCKS_OF_KEY,
        of_strangers: limits::DOOR_KNOCKS_OF_STRANGERS,
    };
    /// Of candidates.
    pub const CANDIDATES: Bounds = Bounds {
        waiting: limits::CANDIDACY_WAITING_MAX,
        of_key: limits::CANDIDACY_ASKS_OF_KEY,
        of_strangers: limits::CANDIDACY_ASKS,
    };
}

struct Theirs<M> {
    connection: ConnectionId,
    stranger: bool,
    task: AbortHandle,
    /// There once the driver was asked.
    reply: Option<oneshot::Sender<M>>,
}

struct Ours<M> {
    connection: ConnectionId,
    /// Not said yet: there is no stream.
    message: Option<M>,
    task: Option<AbortHandle>,
}

/// How many knocks were heard within a second. Keys cost nothing, so strangers are counted together as well.
struct Pace {
    since: Instant,
    strangers: u32,
    of_key: HashMap<MemberId, u32>,
}

impl<M> Doorkeeper<M> {
    pub fn new(bounds: Bounds, now: Instant) -> Doorkeeper<M> {
        let pace = Pace { since: now, strangers: 0, of_key: HashMap::new() };
        Doorkeeper { bounds, theirs: HashMap::new(), answering: HashMap::new(), ours: HashMap::new(), pace }
    }

    /// Whether a knock is heard.
    pub fn admits(&mut self, member: &MemberId, stranger: bool, now: Instant) -> bool {
        if self.theirs.contains_key(member) {
            return false;
        }
        if stranger && self.theirs.values().filter(|one| one.stranger).count() >= self.bounds.waiting {
            return false;
        }
        self.pace.take(self.bounds, member, stranger, now)
    }

    /// A knock is being heard.
    pub fn hears(&mut self, member: MemberId, stranger: bool, connection: ConnectionId, task: AbortHandle) {
        self.theirs.insert(member, Theirs { connection, stranger, task, reply: None });
    }

    /// The driver is being asked: its answer goes there.
    pub fn asked(&mut self, member: &MemberId, reply: oneshot::Sender<M>) {
        if let Some(theirs) = self.theirs.get_mut(member) {
            theirs.reply = Some(reply);
        }
    }

    /// Gives the knock of that key its answer; gives the message back if none waits for one.
    pub fn answer(&mut self, to: &MemberId, message: M) -> Option<M> {
        match self.theirs.get_mut(to).and_then(|theirs| theirs.reply.take()) {
            Some(reply) => reply.send(message).err(),
            None => Some(message),
        }
    }

    /// A knock of theirs waits no longer. Its place is free, and its answer is given.
    pub fn heard(&mut self, member: &MemberId) {
        if let Some(theirs) = self.theirs.remove(member) {
            *self.answering.entry(theirs.connection).or_default() += 1;
        }
    }

    /// An answer is given.
    pub fn answered(&mut self, connection: ConnectionId) {
        if let Some(count) = self.answering.get_mut(&connection) {
            *count -= 1;
        }
        self.answering.retain(|_, count| *count > 0);
    }

    /// Whether we knock there already.
    pub fn knocks_at(&self, member: &MemberId) -> bool {
        self.ours.contains_key(member)
    }

    /// We are to say this as soon as there is a stream on that connection.
    pub fn knocks(&mut self, member: MemberId, connection: ConnectionId, message: M) {
        self.ours.insert(member, Ours { connection, message: Some(message), task: None });
    }

    /// What is to be said on a stream that has opened, and to whom.
    pub fn opened(&mut self, connection: ConnectionId) -> Option<(MemberId, M)> {
        let mut ours = self.ours.iter_mut().filter(|(_, ours)| ours.connection == connection);
        let (member, ours) = ours.next()?;
        Some((*member, ours.message.take()?))
    }

    /// It is being said.
    pub fn says(&mut self, member: &MemberId, task: AbortHandle) {
        if let Some(ours) = self.ours.get_mut(member) {
            ours.task = Some(task);
        }
    }

    /// A knock of ours is over.
    pub fn said(&mut self, member: &MemberId) {
        self.ours.remove(member);
    }

    /// A connection closed, or was never there: nobody waits there for an answer, and what was to be said on it never will
    /// be. Gives whose door it was.
    pub fn closed(&mut self, connection: ConnectionId) -> Option<MemberId> {
        self.theirs.retain(|_, theirs| {
            let stays = theirs.connection != connection;
            if !stays {
                theirs.task.abort();
            }
            stays
        });
        let unsaid = |ours: &Ours<M>| ours.connection == connection && ours.message.is_some();
        let member = self.ours.iter().find(|(_, ours)| unsaid(ours)).map(|(member, _)| *member)?;
        self.ours.remove(&member);
        Some(member)
    }

    /// Whether a connection is needed by an exchange.
    pub fn uses(&self, connection: ConnectionId) -> bool {
        let theirs = self.theirs.values().map(|one| one.connection);
        let mut all = theirs.chain(self.ours.values().map(|one| one.connection));
        self.answering.contains_key(&connection) || all.any(|one| one == connection)
    }

    /// Ends every exchange but for answers that are being given.
    pub fn close(&mut self) {
        self.theirs.drain().for_each(|(_, theirs)| theirs.task.abort());
        self.ours.drain().filter_map(|(_, ours)| ours.task).for_each(|task| task.abort());
    }
}

impl Pace {
    fn take(&mut self, bounds: Bounds, member: &MemberId, stranger: bool, now: Instant) -> bool {
        if now >= self.since + SECOND {
            *self = Pace { since: now, strangers: 0, of_key: HashMap::new() };
        }
        if stranger && self.strangers >= bounds.of_strangers {
            return false;
        }
        let of_key = self.of_key.entry(*member).or_default();
        if *of_key >= bounds.of_key {
            return false;
        }
        *of_key += 1;
        self.strangers += u32::from(stranger);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DoorMessage;

    fn key(number: u64) -> MemberId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        MemberId(id)
    }

    fn keeper(now: Instant) -> Doorkeeper<DoorMessage> {
        Doorkeeper::new(Bounds::DOOR, now)
    }

    fn task() -> AbortHandle {
        tokio::spawn(std::future::pending::<()>()).abort_handle()
    }

    fn connection(number: u64) -> ConnectionId {
        ConnectionId::new_unchecked(number as usize)
    }

    #[tokio::test]
    async fn one_knock_a_key_and_few_strangers_at_a_time() {
        let now = Instant::now();
        let mut keeper = keeper(now);
        let most = limits::DOOR_WAITING_MAX as u64;
        for number in 0..most {
            assert!(keeper.admits(&key(number), true, now));
            keeper.hears(key(number), true, connection(number), task());
        }
        assert!(!keeper.admits(&key(0), true, now), "one at a time");
        assert!(!keeper.admits(&key(most), true, now), "the door is full");
        assert!(keeper.admits(&key(most), false, now), "not for members");
        keeper.heard(&key(0));
        assert!(keeper.admits(&key(most), true, now));
        assert!(keeper.uses(connection(0)), "its answer is being given");
        keeper.answered(connection(0));
        assert!(keeper.uses(connection(1)) && !keeper.uses(connection(0)));
        keeper.close();
        assert!(!keeper.uses(connection(1)));
    }

    #[test]
    fn knocks_come_at_a_pace() {
        let now = Instant::now();
        let mut keeper = keeper(now);
        let mut heard = |member, stranger, now| (0..100).filter(|_| keeper.admits(&member, stranger, now)).count();
        assert_eq!(heard(key(1), false, now), limits::DOOR_KNOCKS_OF_KEY as usize);
        assert_eq!(heard(key(1), false, now + SECOND), limits::DOOR_KNOCKS_OF_KEY as usize);
        let strangers: usize = (10..100).map(|number| heard(key(number), true, now + SECOND)).sum();
        assert_eq!(strangers, limits::DOOR_KNOCKS_OF_STRANGERS as usize);
        assert_eq!(heard(key(2), false, now + SECOND), limits::DOOR_KNOCKS_OF_KEY as usize, "members come by");
    }

    #[tokio::test]
    async fn an_answer_finds_the_knock_that_waits_for_it() {
        let now = Instant::now();
        let mut keeper = keeper(now);
        let ask = DoorMessage::Ask { have: None };
        keeper.hears(key(1), true, connection(1), task());
        assert_eq!(keeper.answer(&key(1), ask.clone()), Some(ask.clone()), "it has not asked yet");
        let (reply, mut answer) = oneshot::channel();
        keeper.asked(&key(1), reply);
        assert_eq!(keeper.answer(&key(2), ask.clone()), Some(ask.clone()));
        assert_eq!(keeper.answer(&key(1), ask.clone()), None);
        assert_eq!(answer.try_recv().unwrap(), ask);
        assert_eq!(keeper.answer(&key(1), ask.clone()), Some(ask), "once");
    }

    #[tokio::test]
    async fn who_hung_up_may_come_again() {
        let now = Instant::now();
        let mut keeper = keeper(now);
        keeper.hears(key(1), true, connection(1), task());
        assert!(!keeper.admits(&key(1), true, now));
        keeper.closed(connection(1));
        assert!(keeper.admits(&key(1), true, now) && !keeper.uses(connection(1)));
    }

    #[test]
    fn what_was_to_be_said_goes_with_its_connection() {
        let mut keeper = keeper(Instant::now());
        let ask = DoorMessage::Ask { have: None };
        keeper.knocks(key(1), connection(1), ask.clone());
        assert!(keeper.knocks_at(&key(1)) && keeper.uses(connection(1)));
        assert_eq!(keeper.closed(connection(2)), None);
        assert_eq!(keeper.opened(connection(1)), Some((key(1), ask.clone())));
        assert_eq!(
            (keeper.opened(connection(1)), keeper.closed(connection(1))),
            (None, None),
            "its task tells the end"
        );
        keeper.said(&key(1));
        keeper.knocks(key(1), connection(3), ask);
        assert_eq!(keeper.closed(connection(3)), Some(key(1)));
        assert!(!keeper.knocks_at(&key(1)));
    }
}
