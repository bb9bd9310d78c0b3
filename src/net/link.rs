//! A link: what waits to be written on its two streams, and how it stands. It is up once, and down once. Its tasks
//! (`link/tasks.rs`) do the reading and writing.

mod tasks;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use libp2p::swarm::ConnectionId;
use tokio::sync::{Semaphore, watch};

pub(super) use tasks::{run, weight};

use super::pair::End;
use super::peer::Peer;
use super::queue::Queue;
use super::transport::Transport;
use crate::driver::Input;
use crate::driver::inbox::{Credit, InboxSender};
use crate::types::limits;
use crate::types::peer::{Hello, Refusal};

/// Where received messages go: the driver's inbox, against credits for their bytes.
#[derive(Clone)]
pub(super) struct Intake {
    pub inbox: InboxSender,
    /// [`limits::INBOX_BYTES`] permits, one a byte.
    pub credits: Arc<Semaphore>,
}

/// One link to one member.
pub(super) struct Link {
    pub peer: Arc<Peer>,
    pub connection: ConnectionId,
    /// What carries it.
    pub transport: Transport,
    /// What the peer said first.
    pub hello: Hello,
    intake: Intake,
    state: Mutex<State>,
    urgent: Queue,
    bulk: Queue,
    /// Bytes of pieces that may still be sent before the peer reports some as consumed.
    window: Semaphore,
    /// Bytes of pieces consumed here and not reported yet.
    consumed: AtomicU64,
    /// Said last, instead of whatever else is queued.
    refusal: Mutex<Option<Refusal>>,
    /// Whether the writers end when their queues are empty.
    finishing: AtomicBool,
    /// Why the connection closed.
    given_up: watch::Sender<Option<String>>,
}

enum State {
    /// Not agreed yet.
    Waiting,
    Up {
        since: Instant,
    },
    Down {
        since: Option<Instant>,
    },
}

impl Link {
    pub fn new(
        peer: Arc<Peer>,
        (connection, transport): (ConnectionId, Transport),
        hello: Hello,
        intake: Intake,
    ) -> Link {
        Link {
            peer,
            connection,
            transport,
            hello,
            intake,
            state: Mutex::new(State::Waiting),
            urgent: Queue::new(limits::URGENT_QUEUE_BYTES),
            bulk: Queue::new(limits::BULK_QUEUE_BYTES),
            window: Semaphore::new(limits::BULK_WINDOW_BYTES),
            consumed: AtomicU64::new(0),
            refusal: Mutex::new(None),
            finishing: AtomicBool::new(false),
            given_up: watch::Sender::new(None),
        }
    }

    /// Tells the driver that the link is up. Once.
    pub fn bring_up(&self) {
        let mut state = self.state();
        assert!(matches!(*state, State::Waiting), "a link comes up once");
        *state = State::Up { since: Instant::now() };
        self.peer.counters.links.add(1);
        let input = Input::LinkUp { peer: self.peer.member, hello: self.hello.clone() };
        // A driver that has ended needs no news; the mesh is about to be stopped.
        let _ = self.intake.inbox.push(input, None);
    }

    /// Tells the driver that the link is down, if it was up. Nothing is received on it from here on.
    pub fn take_down(&self) {
        let mut state = self.state();
        match *state {
            State::Waiting => *state = State::Down { since: None },
            State::Up { since } => {
                *state = State::Down { since: Some(since) };
                let _ = self.intake.inbox.push(Input::LinkDown { peer: self.peer.member }, None);
            }
            State::Down { .. } => {}
        }
    }

    pub fn is_up(&self) -> bool {
        matches!(*self.state(), State::Up { .. })
    }

    /// When it came up, if it did.
    pub fn up_since(&self) -> Option<Instant> {
        match *self.state() {
            State::Waiting => None,
            State::Up { since } => Some(since),
            State::Down { since } => since,
        }
    }

    /// Queues a message; false if there is no room. What is too long for the urgent stream goes by the bulk stream. A
    /// short batch goes by the urgent one while nothing waits on the bulk stream and little on that one: with the
    /// proposal that follows it, it is one write here and one wake-up there, and a vote behind it waits for next to
    /// nothing.
    pub fn send(&self, bulk: bool, message: Bytes) -> bool {
        let bulk = match bulk {
            true => self.bulk.bytes() > 0 || message.len() + self.urgent.bytes() > limits::URGENT_PAYLOAD_BYTES,
            false => message.len() > limits::URGENT_FRAME_BYTES,
        };
        if bulk { self.bulk.push(message) } else { self.urgent.push(message) }
    }

    /// The process on the other side is refused: nothing is received from it any more, and it hears why.
    pub fn turn_away(&self, refusal: Refusal) {
        self.take_down();
        self.refuse(refusal);
    }

    /// Says why, then closes the streams.
    pub fn refuse(&self, refusal: Refusal) {
        self.refusal.lock().expect("nobody panics with a refusal in hand").get_or_insert(refusal);
        self.urgent.wake();
        self.bulk.wake();
    }

    /// Writes what is queued, then closes the streams.
    pub fn finish(&self) {
        self.finishing.store(true, Ordering::Release);
        self.urgent.wake();
        self.bulk.wake();
    }

    /// Its connection has closed: nobody waits any longer, not for the driver either.
    pub fn give_up(&self, reason: String) {
        self.given_up.send_replace(Some(reason));
    }

    /// Bytes that wait on the urgent and on the bulk stream.
    pub fn queue_bytes(&self) -> (usize, usize) {
        (self.urgent.bytes(), self.bulk.bytes())
    }

    /// What is said last.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal.lock().expect("nobody panics with a refusal in hand").clone()
    }

    fn is_finishing(&self) -> bool {
        self.finishing.load(Ordering::Acquire)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with a link's state in hand")
    }

    /// Hands something to the driver unless the link is down: nothing comes after `LinkDown`.
    fn push(&self, input: Input, credit: Option<Credit>) -> Result<(), End> {
        let state = self.state();
        if !matches!(*state, State::Up { .. }) {
            return Err(End::Left);
        }
        self.intake.inbox.push(input, credit).map_err(|_| End::Finished)
    }
}
