//! What the driver needs, supplied by the real parts: clocks, inbox, mesh, subscribers, publishers.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::catch_up::CatchUp;
use super::progress::Progress;
use super::real_time::RealTime;
use super::state_log::StateLog;
use crate::api::{Observation, Tickets};
use crate::delivery::DeliveryWriter;
use crate::driver::inbox::Inbox;
use crate::driver::{Input, LogFigures, Outside, Serve};
use crate::net::Mesh;
use crate::types::peer::{Envelope, Hello, Refusal};
use crate::types::{Delivered, DoorMessage, Instant, MemberId, Now, Outcome, Roster, Snapshot, StartNonce, Ticket};

/// The mesh, once it is started. Until then what is sent is dropped: there are no links.
pub type LateMesh = Arc<OnceLock<Mesh>>;

/// The real outside; lives on the driver's thread.
pub struct RealOutside {
    /// The clocks.
    pub time: RealTime,
    /// Where inputs come from.
    pub inbox: Inbox,
    /// Where messages go.
    pub mesh: LateMesh,
    /// What hellos say.
    pub hello: HelloSource,
    /// Whom the mesh knows.
    pub roster: watch::Sender<Roster>,
    /// Who reads decided slots for peers.
    pub catch_up: CatchUp,
    /// Where deliveries go.
    pub delivery: DeliveryWriter,
    /// Who waits for outcomes.
    pub tickets: Arc<Tickets>,
    /// Who looks at the state.
    pub observed: watch::Sender<Option<Observation>>,
    /// Tells how far the reading of the log is.
    pub progress: Progress,
    /// Tells changes of the state.
    pub state_log: StateLog,
    /// The last message encoded: one that goes to several members is encoded once.
    pub encoded: Option<(Arc<Envelope>, Bytes)>,
}

/// What hellos say: the first one starts the mesh, later ones change it.
pub enum HelloSource {
    /// Nothing was said yet; whoever starts the mesh waits for this.
    Waiting(oneshot::Sender<watch::Receiver<Hello>>),
    /// The mesh listens here.
    Started(watch::Sender<Hello>),
}

impl HelloSource {
    fn say(self, hello: Hello) -> HelloSource {
        match self {
            HelloSource::Waiting(first) => {
                let (sender, receiver) = watch::channel(hello);
                // Nobody waits when the process is about to end.
                let _ = first.send(receiver);
                HelloSource::Started(sender)
            }
            HelloSource::Started(sender) => {
                sender.send_replace(hello);
                HelloSource::Started(sender)
            }
        }
    }
}

impl RealOutside {
    fn encoded(&mut self, envelope: Arc<Envelope>) -> Bytes {
        match &self.encoded {
            Some((last, bytes)) if Arc::ptr_eq(last, &envelope) => bytes.clone(),
            _ => {
                let bytes = envelope.encode();
                self.encoded = Some((envelope, bytes.clone()));
                bytes
            }
        }
    }
}

impl Outside for RealOutside {
    fn now(&mut self) -> Now {
        self.time.now()
    }

    fn inputs(&mut self, most: usize, until: Option<Instant>) -> Vec<Input> {
        let patience = until.map(|until| until.since(self.time.instant())).unwrap_or_default();
        self.inbox.take(most, patience)
    }

    fn send(&mut self, to: MemberId, envelope: Arc<Envelope>) {
        if self.mesh.get().is_none() {
            return;
        }
        let bulk = envelope.message.is_bulk();
        let bytes = self.encoded(envelope);
        if let Some(mesh) = self.mesh.get() {
            mesh.send_bytes(to, bulk, bytes);
        }
    }

    fn refuse(&mut self, peer: MemberId, nonce: StartNonce, reason: Refusal) {
        if let Some(mesh) = self.mesh.get() {
            mesh.refuse(peer, nonce, reason);
        }
    }

    fn roster(&mut self, roster: Roster) {
        self.roster.send_replace(roster);
    }

    fn door(&mut self, to: MemberId, message: DoorMessage) {
        if let Some(mesh) = self.mesh.get() {
            mesh.door(to, message);
        }
    }

    fn hello(&mut self, hello: Hello) {
        let (placeholder, _) = oneshot::channel();
        let source = std::mem::replace(&mut self.hello, HelloSource::Waiting(placeholder));
        self.hello = source.say(hello);
    }

    fn serve(&mut self, request: Serve) {
        self.catch_up.serve(request);
    }

    fn deliver(&mut self, delivered: Vec<Delivered>) {
        if let Some(last) = delivered.last() {
            self.progress.reached(last, self.time.instant());
        }
        self.delivery.append(delivered);
    }

    fn answer(&mut self, outcomes: Vec<(Ticket, Outcome)>) {
        self.tickets.complete(outcomes);
    }

    fn observe(&mut self, snapshot: Snapshot, log: LogFigures) {
        let at = self.time.instant();
        self.state_log.look(&snapshot, &log, at);
        self.observed.send_replace(Some(Observation { snapshot, log, at }));
    }
}
