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
use tokio::sync::{mpsc, oneshot};

use self::gathering::Gathering;
use super::candidacy::Inquiry;
use super::figures::DiscoveryFigures;
use super::finding::Patience;
use super::identity::member_of;
use super::source::{self, Sources};
use super::transport::{self, SwarmSettings};
use super::{MeshError, is_loopback_only, listen};
use crate::types::{CandidacyFrame, Contact, MemberId, limits};

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
}

#[derive(Default)]
struct Shared {
    listen: Mutex<Vec<Multiaddr>>,
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
        let me = member_of(&settings.keypair).ok_or_else(|| MeshError::Key("it is not an ed25519 key".to_owned()))?;
        settings.listen.iter().try_for_each(transport::probe)?;
        let mdns = settings.sources.mdns && !is_loopback_only(&settings.listen);
        let pace = mdns.then_some(transport::MDNS_PACE_OF_CANDIDATES);
        let plain = SwarmSettings::plain(settings.leader_timeout, limits::CANDIDATES_MAX);
        let swarm = transport::swarm(&settings.keypair, SwarmSettings { mdns: pace, ..plain })?;
        let shared = Arc::new(Shared::default());
        let pause = limits::CANDIDATE_PAUSE_MAX;
        let patience = Patience { stranger: pause, unreached: pause };
        let mut inquiry = Inquiry::start(&settings.sources, patience, (settings.cluster, settings.expect));
        if settings.sources.mdns && !swarm.behaviour().mdns.is_enabled() {
            inquiry.finder.trouble(source::MDNS, transport::no_mdns(mdns));
        }
        let (commands, receiver) = mpsc::unbounded_channel();
        let (events, told) = mpsc::unbounded_channel();
        let mut gathering = Gathering::new(me, swarm, inquiry, shared.clone(), events, settings.listen.clone());
        listen(&mut gathering, &settings.listen).await?;
        tokio::spawn(gathering.run(receiver));
        Ok(CandidateMesh { commands, events: told, shared })
    }

    /// Where we listen, per interface.
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.shared.listen.lock().expect("nobody panics with addresses in hand").clone()
    }

    /// Asks a key, and never waits. While a question to it is under way, a further one is unanswered at once.
    pub fn ask(&self, to: MemberId, frame: CandidacyFrame) {
        self.command(Command::Ask { to, frame: Box::new(frame) });
    }

    /// Answers the question of a key, if it still waits for one. Never waits.
    pub fn answer(&self, to: MemberId, frame: CandidacyFrame) {
        self.command(Command::Answer { to, frame: Box::new(frame) });
    }

    /// Further addresses of keys.
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
    }

    fn command(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

impl Shared {
    fn add_listen_address(&self, address: Multiaddr) {
        let mut listen = self.listen.lock().expect("nobody panics with addresses in hand");
        if !listen.contains(&address) {
            listen.push(address);
        }
    }
}
