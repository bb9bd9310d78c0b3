//! What the driver takes in and what it needs of the outside. The node supplies sockets and real time, the simulator
//! supplies virtual ones.

use std::sync::Arc;
use std::time::Duration;

use crate::types::peer::{Envelope, Hello, Refusal};
use crate::types::{Delivered, Instant, Location, MemberId, Now, Outcome, Publish, Snapshot, Ticket, Tip};

/// What the outside tells the driver.
#[derive(Debug)]
pub enum Input {
    /// A host publishes.
    Publish(Publish),
    /// A link to a member is up; its hello came with it.
    LinkUp {
        /// Who.
        peer: MemberId,
        /// What it said first.
        hello: Hello,
    },
    /// The link to a member is down.
    LinkDown {
        /// Who.
        peer: MemberId,
    },
    /// A peer refused our hello.
    Refused {
        /// Who.
        peer: MemberId,
        /// Why.
        reason: Refusal,
    },
    /// A message from a member, admitted.
    Received {
        /// Who.
        peer: MemberId,
        /// What.
        envelope: Envelope,
    },
    /// Accept no more publishes; resign if leading; say when everything accepted is ordered.
    Drain,
}

/// What the driver needs. Every call returns at once but [`Outside::inputs`] with a wait.
pub trait Outside {
    /// This moment.
    fn now(&mut self) -> Now;

    /// Up to `most` queued inputs. If there is none, waits for one until `until` (not at all if that is past or none).
    fn inputs(&mut self, most: usize, until: Option<Instant>) -> Vec<Input>;

    /// Sends messages to members; what cannot be queued is dropped, the status exchange repairs it.
    fn send(&mut self, to: MemberId, envelope: Arc<Envelope>);

    /// Closes the links to a member, telling it why.
    fn refuse(&mut self, peer: MemberId, reason: Refusal);

    /// What the hello of new links says from now on.
    fn hello(&mut self, hello: Hello);

    /// Reads slots from the log, away from the driver's thread, and sends them to a member as
    /// [`crate::types::PeerMessage::Decided`].
    fn serve(&mut self, request: Serve);

    /// Hands over what is decided and durable here, in order.
    fn deliver(&mut self, delivered: Vec<Delivered>);

    /// Answers publishers.
    fn answer(&mut self, outcomes: Vec<(Ticket, Outcome)>);

    /// The member's state, after it changed, at bounded intervals.
    fn observe(&mut self, snapshot: Snapshot, log: LogFigures);
}

/// Decided slots to be read from the log for a member that lacks them.
#[derive(Clone, Debug)]
pub struct Serve {
    /// Who lacks them.
    pub to: MemberId,
    /// Everything up to here is decided.
    pub mark: Tip,
    /// From low to high: where each slot's entry and batches stand.
    pub slots: Vec<ServeSlot>,
}

/// One slot to be read.
#[derive(Clone, Debug)]
pub struct ServeSlot {
    /// The entry record.
    pub entry: Location,
    /// The batch records, in the entry's order.
    pub batches: Vec<Location>,
}

/// What the log says about itself.
#[derive(Clone, Debug, Default)]
pub struct LogFigures {
    /// Segments in use.
    pub segments: u64,
    /// Bytes of segments in use.
    pub bytes: u64,
    /// Why no more segments can be made, if so.
    pub disk_full: Option<String>,
    /// The last sync.
    pub sync_last: Duration,
}
