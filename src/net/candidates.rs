//! A mesh before there is a group: candidates find each other through the sources and ask each other, and nothing else
//! (rule G1). Who drives a candidate says what is asked and what is answered; here it is carried.
//!
//! Every key that can be asked is told once it is found: because somebody answered at an address, because it connected, or
//! because a source named it. A question goes over any connection there is, or to the addresses that are known of the key,
//! and ends in exactly one answer or none. What is open falls idle by itself.

mod gathering;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use self::gathering::Gathering;
use super::candidacy::Inquiry;
use super::figures::DiscoveryFigures;
use super::finding::Patience;
use super::identity::member_of;
use super::source::{self, Sources};
use super::transport::{self, SwarmSettings};
use super::{ListenAddresses, MeshError, is_loopback_only, listen};
use crate::types::{CandidacyFrame, Contact, MemberId, limits};

/// QUIC has told its peers that it closes within this time, where packets get through.
const DRAIN_MAX: Duration = Duration::from_secs(1);
/// Then ports are free within this time.
const PORTS_FREE_MAX: Duration = Duration::from_secs(5);
/// And that is looked for so often.
const PORT_PAUSE: Duration = Duration::from_millis(5);

/// What a mesh of candidates needs.
pub struct CandidateMeshSettings {
    /// Our key, an ed25519 one.
    pub keypair: Keypair,
    /// Where to listen, as for [`super::MeshSettings`].
    pub listen: Vec<Multiaddr>,
    /// Who tells where others may be.
    pub sources: Sources,
    /// As for [`super::MeshSettings`].
    pub leader_timeout: Duration,
    /// Name of the group that is to be.
    pub cluster: String,
    /// How many found it.
    pub expect: u32,
}

/// What happens between candidates.
#[derive(Debug)]
pub enum CandidateEvent {
    /// A key that can be asked.
    Found(MemberId),
    /// A key asks, and waits for [`CandidateMesh::answer`]; a further question of it takes the place of one that waits.
    Asked {
        /// Who.
        from: MemberId,
        /// What.
        frame: CandidacyFrame,
    },
    /// The answer to our question.
    Answered {
        /// Whose.
        from: MemberId,
        /// What.
        frame: CandidacyFrame,
    },
    /// Our question got no answer.
    Unanswered {
        /// Whose it would have been.
        from: MemberId,
        /// Why, for people.
        reason: String,
    },
    /// A key asks what cannot be read.
    Unread {
        /// Who.
        from: MemberId,
        /// Why, for people.
        reason: String,
    },
}

/// The mesh, from outside. It ends with this, or by [`CandidateMesh::stop`].
pub struct CandidateMesh {
    commands: mpsc::UnboundedSender<Command>,
    events: mpsc::UnboundedReceiver<CandidateEvent>,
    shared: Arc<Shared>,
    listen: Vec<Multiaddr>,
    runtime: OwnRuntime,
}

/// What the mesh runs on, and nothing else. With it goes all that transports leave: QUIC keeps its port for as long as a
/// peer may not have heard that it is closed, which takes long where packets take long, and a member is to listen there.
struct OwnRuntime(Option<Runtime>);

#[derive(Default)]
struct Shared {
    listen: ListenAddresses,
    figures: Mutex<DiscoveryFigures>,
}

/// Questions answer what was found or heard, and both are bounded: so the channel needs no bound.
enum Command {
    Ask { to: MemberId, frame: Box<CandidacyFrame> },
    Answer { to: MemberId, frame: Box<CandidacyFrame> },
    Direct(Vec<Contact>),
    Stop(oneshot::Sender<()>),
}

impl CandidateMesh {
    /// Listens on every address and starts the sources. Needs a tokio runtime.
    pub async fn start(settings: CandidateMeshSettings) -> Result<CandidateMesh, MeshError> {
        settings.listen.iter().try_for_each(transport::probe)?;
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("candidates").enable_all().build()?;
        let runtime = OwnRuntime(Some(runtime));
        let (commands, receiver) = mpsc::unbounded_channel();
        let (events, told) = mpsc::unbounded_channel();
        let (shared, listen) = (Arc::new(Shared::default()), settings.listen.clone());
        let gathering = runtime.spawn(gathering(settings, shared.clone(), events)).await;
        let gathering = gathering.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        drop(runtime.spawn(gathering.run(receiver)));
        Ok(CandidateMesh { commands, events: told, shared, listen, runtime })
    }

    /// Where we listen, per interface.
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.shared.listen.all()
    }

    /// Asks a key, and never waits. While a question to it is under way, a further one is unanswered at once.
    pub fn ask(&self, to: MemberId, frame: CandidacyFrame) {
        self.command(Command::Ask { to, frame: Box::new(frame) });
    }

    /// Answers the question of a key, if it still waits for one. Never waits.
    pub fn answer(&self, to: MemberId, frame: CandidacyFrame) {
        self.command(Command::Answer { to, frame: Box::new(frame) });
    }

    /// Further addresses of keys, instead of those that were given so before.
    pub fn direct(&self, contacts: Vec<Contact>) {
        self.command(Command::Direct(contacts));
    }

    /// What happens next; never returns once the mesh has ended. Cancel safe.
    pub async fn next(&mut self) -> CandidateEvent {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// How others are found.
    pub fn figures(&self) -> DiscoveryFigures {
        self.shared.figures.lock().expect("nobody panics with the figures in hand").clone()
    }

    /// Closes everything; nothing listens when this returns, and a member may.
    pub async fn stop(self) {
        let (reply, stopped) = oneshot::channel();
        self.command(Command::Stop(reply));
        // An error means that it had stopped already.
        let _ = stopped.await;
        let _ = timeout(DRAIN_MAX, ports_free(&self.listen)).await;
        drop(self.runtime);
        // Who listens there next tells what is wrong.
        let _ = timeout(PORTS_FREE_MAX, ports_free(&self.listen)).await;
    }

    fn command(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

/// The owner of a swarm that listens.
async fn gathering(
    settings: CandidateMeshSettings,
    shared: Arc<Shared>,
    events: mpsc::UnboundedSender<CandidateEvent>,
) -> Result<Gathering, MeshError> {
    let me = member_of(&settings.keypair).ok_or_else(|| MeshError::Key("it is not an ed25519 key".to_owned()))?;
    let mdns = settings.sources.mdns && !is_loopback_only(&settings.listen);
    let pace = mdns.then_some(transport::MDNS_PACE_OF_CANDIDATES);
    let plain = SwarmSettings::plain(settings.leader_timeout, limits::CANDIDATES_MAX);
    let swarm = transport::swarm(&settings.keypair, SwarmSettings { mdns: pace, ..plain })?;
    let pause = limits::CANDIDATE_PAUSE_MAX;
    let patience = Patience { stranger: pause, unreached: pause };
    let mut inquiry = Inquiry::start(&settings.sources, patience, (settings.cluster, settings.expect));
    if settings.sources.mdns && !swarm.behaviour().mdns.is_enabled() {
        inquiry.finder.trouble(source::MDNS, transport::no_mdns(mdns));
    }
    let mut gathering = Gathering::new(me, swarm, inquiry, shared, events);
    listen(&mut gathering, &settings.listen).await?;
    Ok(gathering)
}

async fn ports_free(listen: &[Multiaddr]) {
    while !listen.iter().all(|address| transport::probe(address).is_ok()) {
        sleep(PORT_PAUSE).await;
    }
}

impl OwnRuntime {
    fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.0.as_ref().expect("it goes when this is dropped").spawn(task)
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
