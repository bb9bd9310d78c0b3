//! Floor 4: the mesh, on libp2p: over TCP with noise and yamux, and over QUIC where TCP cannot be dialled.
//!
//! The driver's roster says who is a member; it changes while the mesh runs. Every pair of members that is to have a link
//! keeps one connection, and on it two long-lived streams: urgent, and bulk in pieces within a window, so that a vote
//! never waits behind payload (`codec/` has the frames). Both members dial; where both succeed the member with the smaller
//! id chooses, and it chooses what it dialled itself (`attempt.rs`). A link is up when both sides have agreed, and the
//! driver hears of it once; when its connection goes, it is down at once and dialled again.
//!
//! Any key may knock at the *door*: a stream for one frame each way, which the driver answers (`door.rs`). It is all there
//! is for strangers, and how a member that missed every change learns who is a member now. And any key may ask as
//! *candidates* do (rule G1): a founded group says that it is there; where there is none yet, candidates form one
//! (`candidates.rs`).
//!
//! **Who tells where others are.** The roster; the *sources* (fixed addresses, DNS names, a file, the local network); what
//! members say of themselves (identify, gossip). All of it is hints: where a key is known to be a member's, its addresses
//! are dialled besides those of the roster, and the key that answers must be its own. An address without a known key is
//! dialled and asked once who is there, and again only after a pause that doubles. A false word costs a dial, and never
//! more than a few of them at a time.
//!
//! **What is gossiped** are announcements: where a member is, and the newest epoch with its proof. Strangers have no stream
//! of it; what a member passes on is judged before it is passed on further. Order, votes and payload never travel on it.
//!
//! | file | duty |
//! |---|---|
//! | `switchboard.rs` | the task that owns the swarm: gives every connection its task, takes links up and down |
//! | `choice.rs` | which connection of a pair is the link, without a socket in sight |
//! | `roster.rs` | whom the mesh knows just now |
//! | `switchboard/` | its parts: links, dials, the door, what is found, gossip |
//! | `dial.rs` | where members are found, over which transport, and when one is dialled again |
//! | `source/` | the sources of addresses |
//! | `finding.rs`, `outcome.rs` | what they tell: which addresses are dialled without knowing who is there; what came of it |
//! | `announcing.rs`, `gossip.rs` | what is announced and passed on; gossipsub for members only |
//! | `candidacy.rs`, `candidates.rs` | questions of candidates, both ways; a mesh before there is a group |
//! | `refusals.rs` | who refused whom: counted, and told once |
//! | `attempt.rs`, `pair.rs` | a connection's task until it is a link: hellos, checks, refusals; its two streams |
//! | `link.rs`, `queue.rs` | a link and what waits to be written on it |
//! | `link/tasks.rs` | a link's four tasks: two write from its queues, two read into the driver's inbox |
//! | `doorkeeper.rs`, `exchange.rs` | who is heard, at the door and as a candidate; one frame each way |
//! | `door.rs` | one exchange at the door; and a knock without a mesh |
//! | `streams.rs`, `transport.rs` | what libp2p needs: streams by connection; sockets |
//! | `metered.rs` | counts what gossip costs |
//! | `peer.rs`, `figures.rs` | what is known and counted of each member |
//! | `identity.rs` | members and their libp2p names |
//!
//! **Who waits for whom.** [`Mesh::send`] never waits: queues are bounded, and what does not fit is dropped and counted.
//! Readers wait until the driver has taken what it was handed before (credits for bytes, and for the room that every
//! message takes besides); then TCP holds the peer back, and its queues fill. **Who is refused** hears why in a frame; it
//! is counted, logged once, and dialled at leisure; who does not know us yet is dialled sooner, and whenever the roster
//! changes. **Who knocks too often** is told to come again: of every key one knock is heard at a time, and of strangers a
//! few at a time and a few a second.

mod announcing;
mod attempt;
mod candidacy;
pub mod candidates;
mod choice;
mod dial;
pub mod door;
mod doorkeeper;
mod exchange;
mod figures;
mod finding;
mod gossip;
pub mod identity;
mod link;
mod metered;
mod outcome;
mod pair;
mod peer;
mod queue;
mod refusals;
mod roster;
mod source;
mod streams;
mod switchboard;
mod transport;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use libp2p::swarm::{Swarm, SwarmEvent};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

pub use figures::{DiscoveryFigures, ForeignGroup, GossipFigures, MeshFigures, PeerFigures, reason};
pub use finding::{FoundAddress, SourceFigures};
pub use outcome::Outcome;
pub use source::{Answer, DnsName, NotAPlace, Place, Sources};
pub use transport::{Transport, listen_address, port};

use crate::driver::inbox::InboxSender;
use crate::types::peer::{Envelope, Hello, Refusal};
use crate::types::{CandidacyFrame, ClusterId, DoorMessage, MemberId, PeerMessage, Roster, StartNonce, limits};
use announcing::Announcer;
use candidacy::Inquiry;
use figures::Totals;
use finding::Patience;
use link::Intake;
use metered::Traffic;
use roster::Known;
use switchboard::{Parts, Switchboard};
use transport::{Behaviour, BehaviourEvent, SwarmSettings};

/// What a mesh needs.
pub struct MeshSettings {
    /// Our key, an ed25519 one.
    pub keypair: Keypair,
    /// Where to listen: `/ip4/…/tcp/…` or `/ip4/…/udp/…/quic-v1`, or the same of `ip6`; port 0 takes a free one.
    pub listen: Vec<Multiaddr>,
    /// A link over QUIC on which nothing comes for this long is lost. The shorter one of the two sides counts.
    pub leader_timeout: Duration,
    /// Who tells where others may be, besides the roster.
    pub sources: Sources,
    /// Where the others are told to reach us; empty means where we listen.
    pub announce: Vec<Multiaddr>,
    /// Whether members gossip about where they are and which epoch is the newest. A group works without it as well.
    pub gossip: bool,
    /// What candidates and other strangers hear of the group.
    pub founded: Founded,
    /// Whom the mesh knows: the newest value counts. We may be among them, and are not dialled.
    pub roster: watch::Receiver<Roster>,
    /// What the hello of new links says. Version, cluster, epoch and configuration in it are what others are checked by.
    pub hello: watch::Receiver<Hello>,
    /// Where links and messages are reported.
    pub inbox: InboxSender,
    /// Credits for received messages: one permit a byte, [`crate::types::limits::INBOX_BYTES`] in all. The host API has
    /// as many of its own, so that neither of the two can take the other's room.
    pub credits: Arc<Semaphore>,
}

/// What a founded group says to candidates, and to whoever else is found and is no member.
pub struct Founded {
    /// What it asks a stranger; names the group.
    pub greeting: CandidacyFrame,
    /// What it answers a key that asks, and the id of another group of the same name that the asker says it is of.
    pub answer: Box<FoundedAnswer>,
}

/// What a key that asks is answered, and the other group of our name that it says it is of.
pub type FoundedAnswer = dyn Fn(MemberId, &CandidacyFrame) -> (CandidacyFrame, Option<ClusterId>) + Send + Sync;

/// Why there is no mesh. Nothing listens and nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The key cannot be used.
    #[error("the key of this member cannot be used for the mesh: {0}")]
    Key(String),
    /// Not an address to listen on.
    #[error(
        "the mesh cannot listen on {address}: expected /ip4/<address>/tcp/<port>, \
         /ip4/<address>/udp/<port>/quic-v1, or the same of ip6"
    )]
    BadListenAddress {
        /// Which.
        address: Multiaddr,
    },
    /// The system does not let us listen there.
    #[error("the mesh cannot listen on {address}: {reason}; stop what uses the port, or choose another one")]
    Listen {
        /// Which.
        address: Multiaddr,
        /// Why, as the system says it.
        reason: String,
    },
    /// The system refuses what the mesh runs on.
    #[error("the system refuses what the mesh needs: {0}")]
    System(#[from] std::io::Error),
}

/// The mesh, from outside. Clones speak to the same one; it ends with the last of them, or by [`Mesh::stop`].
#[derive(Clone)]
pub struct Mesh {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
}

/// What handles and tasks share.
struct Shared {
    member: MemberId,
    known: Known,
    hello: watch::Receiver<Hello>,
    listen: ListenAddresses,
    totals: Totals,
    discovery: Mutex<DiscoveryFigures>,
    traffic: Arc<Traffic>,
}

/// What a handle asks of the switchboard.
///
/// The channel of commands needs no bound: a refusal answers a link that came up, and links come up one by one; what is
/// said at a door answers what was heard there, or a refusal, and both are bounded.
enum Command {
    Refuse { peer: MemberId, nonce: StartNonce, refusal: Refusal },
    Door { to: MemberId, message: Box<DoorMessage> },
    Stop { reply: oneshot::Sender<()> },
}

impl Mesh {
    /// Listens on every address, then dials the members. Needs a tokio runtime. Errors name the address or the member.
    pub async fn start(settings: MeshSettings) -> Result<Mesh, MeshError> {
        let (mesh, switchboard) = Mesh::prepare(settings).await?;
        tokio::spawn(switchboard.run());
        Ok(mesh)
    }

    /// Listens; the switchboard does not run yet.
    async fn prepare(settings: MeshSettings) -> Result<(Mesh, Switchboard), MeshError> {
        let shared = Arc::new(Shared::new(&settings)?);
        settings.listen.iter().try_for_each(transport::probe)?;
        let mdns = settings.sources.mdns && !is_loopback_only(&settings.listen);
        let hello = settings.hello.borrow().clone();
        let how = SwarmSettings {
            idle_timeout: settings.leader_timeout,
            strangers_max: limits::STRANGERS_MAX,
            mdns: mdns.then_some(transport::MDNS_PACE),
            gossip: settings.gossip.then_some(hello.cluster),
            traffic: shared.traffic.clone(),
        };
        let swarm = transport::swarm(&settings.keypair, how)?;
        let (commands, receiver) = mpsc::unbounded_channel();
        let intake = Intake { inbox: settings.inbox, credits: settings.credits };
        let patience = Patience { stranger: limits::STRANGER_PAUSE_MAX, unreached: limits::UNREACHED_PAUSE_MAX };
        let group = (settings.founded.greeting.cluster.clone(), 0);
        let mut inquiry = Inquiry::start(&settings.sources, patience, group);
        if settings.sources.mdns && !swarm.behaviour().mdns.is_enabled() {
            inquiry.finder.trouble(source::MDNS, transport::no_mdns(mdns));
        }
        let announcer = Announcer::new(hello.cluster, hello.incarnation, Instant::now());
        let parts = Parts {
            swarm,
            inquiry,
            announcer,
            announced: settings.announce,
            founded: settings.founded,
            roster: settings.roster,
            intake,
        };
        let mut switchboard = Switchboard::new(parts, shared.clone(), receiver);
        listen(&mut switchboard, &settings.listen).await?;
        Ok((Mesh { shared, commands }, switchboard))
    }

    /// Where we listen, with the ports that the system chose.
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.shared.listen.all()
    }

    /// Queues a message to a member. Never waits; without a link, or over the queue's bound, the message is dropped. From
    /// any thread.
    pub fn send(&self, to: MemberId, envelope: &Envelope) {
        self.send_bytes(to, envelope.message.is_bulk(), envelope.encode());
    }

    /// Queues an encoded [`Envelope`], so that one encoding serves several members.
    pub fn send_bytes(&self, to: MemberId, bulk: bool, envelope: Bytes) {
        if let Some(peer) = self.shared.known.peer(&to) {
            peer.send(bulk, envelope);
        }
    }

    /// Queues a message that the driver did not make itself, as of the epoch that the hello of new links names.
    pub fn send_message(&self, to: MemberId, message: PeerMessage) {
        let (epoch, configuration) = {
            let hello = self.shared.hello.borrow();
            (hello.epoch, hello.configuration)
        };
        self.send(to, &Envelope { epoch, configuration, message });
    }

    /// Says something at the door of a key: the answer to its knock, if it waits for one; a knock of ours otherwise, on a
    /// connection that there is, or where the roster says that it listens. The answer comes as
    /// [`crate::driver::Input::Door`]. Never waits; what cannot be said is dropped.
    pub fn door(&self, to: MemberId, message: DoorMessage) {
        self.command(Command::Door { to, message: Box::new(message) });
    }

    /// Tells a member's process of that nonce why it is refused and closes its link, if it has one. It may come again,
    /// after a pause. Another process of the member keeps its link.
    pub fn refuse(&self, peer: MemberId, nonce: StartNonce, refusal: Refusal) {
        self.command(Command::Refuse { peer, nonce, refusal });
    }

    /// What is known and counted at this moment.
    pub fn figures(&self) -> MeshFigures {
        let totals = &self.shared.totals;
        MeshFigures {
            listen: self.listen_addresses(),
            discovery: self.shared.discovery().clone(),
            gossip: self.shared.gossip_figures(),
            peers: self.shared.known.figures(),
            refused: totals.refused.values(),
            refused_by_others: totals.refused_by_others.values(),
            malformed: totals.malformed.value(),
            truncated: totals.truncated.value(),
        }
    }

    /// Writes what is queued, as far as that takes no more than two seconds, and closes everything.
    pub async fn stop(self) {
        let (reply, stopped) = oneshot::channel();
        self.command(Command::Stop { reply });
        // An error means that it had stopped already.
        let _ = stopped.await;
    }

    fn command(&self, command: Command) {
        // After a stop there is nobody to tell, and nothing to do.
        let _ = self.commands.send(command);
    }
}

impl Shared {
    fn new(settings: &MeshSettings) -> Result<Shared, MeshError> {
        let member = identity::member_of(&settings.keypair)
            .ok_or_else(|| MeshError::Key("it is not an ed25519 key".to_owned()))?;
        Ok(Shared {
            member,
            known: Known::default(),
            hello: settings.hello.clone(),
            listen: ListenAddresses::default(),
            totals: Totals::default(),
            discovery: Mutex::default(),
            traffic: Arc::default(),
        })
    }

    fn discovery(&self) -> MutexGuard<'_, DiscoveryFigures> {
        self.discovery.lock().expect("nobody panics with the figures in hand")
    }

    fn gossip_figures(&self) -> GossipFigures {
        let totals = &self.totals;
        GossipFigures {
            listeners: totals.gossip_listeners.value(),
            announced: totals.announced.value(),
            heard: totals.heard.value(),
            malformed: totals.malformed_announcements.value(),
            bytes_in: self.traffic.received.value(),
            bytes_out: self.traffic.sent.value(),
        }
    }
}

/// Where we listen just now, per interface.
#[derive(Default)]
struct ListenAddresses(Mutex<Vec<Multiaddr>>);

impl ListenAddresses {
    fn all(&self) -> Vec<Multiaddr> {
        self.held().clone()
    }

    fn add(&self, address: Multiaddr) {
        let mut all = self.held();
        if !all.contains(&address) {
            all.push(address);
        }
    }

    fn forget(&self, address: &Multiaddr) {
        self.held().retain(|listen| listen != address);
    }

    fn held(&self) -> MutexGuard<'_, Vec<Multiaddr>> {
        self.0.lock().expect("nobody panics with addresses in hand")
    }
}

/// Whether nobody but this machine can reach us.
fn is_loopback_only(listen: &[Multiaddr]) -> bool {
    listen.iter().filter_map(listen_address).all(|(_, socket)| socket.ip().is_loopback())
}

/// Who owns a swarm, and handles all that happens on it.
trait SwarmOwner {
    fn swarm(&mut self) -> &mut Swarm<Behaviour>;
    fn handle_swarm(&mut self, event: SwarmEvent<BehaviourEvent>);
}

/// Listens, and waits until every listener has told an address of its. What else happens meanwhile is handled as ever:
/// neighbours are told of once, and others may connect.
async fn listen(owner: &mut impl SwarmOwner, addresses: &[Multiaddr]) -> Result<(), MeshError> {
    for address in addresses {
        let failed = |reason: String| MeshError::Listen { address: address.clone(), reason };
        let listener = owner.swarm().listen_on(address.clone()).map_err(|error| failed(error.to_string()))?;
        let mut listens = false;
        while !listens {
            let event = owner.swarm().select_next_some().await;
            match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } => listens = *listener_id == listener,
                SwarmEvent::ListenerClosed { listener_id, reason, .. } if *listener_id == listener => {
                    return Err(failed(reason.as_ref().map_or_else(ToString::to_string, |()| "closed".to_owned())));
                }
                _ => {}
            }
            owner.handle_swarm(event);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
