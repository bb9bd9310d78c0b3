//! What the driver takes in and what it needs of the outside. The node supplies sockets and real time, the simulator
//! supplies virtual ones.

use std::sync::Arc;
use std::time::Duration;

pub use crate::types::input::{Input, Serve, ServeSlot};
use crate::types::peer::{Envelope, Hello, Refusal};
use crate::types::{Delivered, DoorMessage, Instant, MemberId, Now, Outcome, Roster, Snapshot, StartNonce, Ticket};

/// What the driver needs. Every call returns at once but [`Outside::inputs`] with a wait.
pub trait Outside {
    /// This moment.
    fn now(&mut self) -> Now;

    /// Up to `most` queued inputs. If there is none, waits for one until `until` (not at all if that is past or none).
    fn inputs(&mut self, most: usize, until: Option<Instant>) -> Vec<Input>;

    /// Sends messages to members; what cannot be queued is dropped, the status exchange repairs it.
    fn send(&mut self, to: MemberId, envelope: Arc<Envelope>);

    /// Closes the link to a member's process of that nonce, telling it why. Another process of the member, which may have
    /// come in its place meanwhile, is left alone: it was not the one judged.
    fn refuse(&mut self, peer: MemberId, nonce: StartNonce, reason: Refusal);

    /// Whom the mesh is to know, dial and let in from now on. Links to others are closed; of former members with
    /// [`Refusal::Departed`].
    fn roster(&mut self, roster: Roster);

    /// Says something at the door of a key: the answer to its knock, if it waits for one; a knock at its door otherwise,
    /// on the connection to it if there is one, at the addresses of the roster if not. The answer to a knock comes as
    /// [`Input::Door`]. What cannot be said is dropped.
    fn door(&mut self, to: MemberId, message: DoorMessage);

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
