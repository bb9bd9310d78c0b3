//! Floor 4: the mesh, on libp2p over TCP with noise and yamux.
//!
//! Every pair of members keeps one connection, and on it two long-lived streams: urgent, and bulk in pieces within a
//! window, so that a vote never waits behind payload (`codec/` has the frames). Both members dial; where both succeed
//! the member with the smaller id chooses, and it chooses what it dialled itself (`attempt.rs`). A link is up when both
//! sides have agreed, and the driver hears of it once; when its connection goes, it is down at once and dialled again.
//!
//! | file | duty |
//! |---|---|
//! | `switchboard.rs` | the task that owns the swarm: gives every connection its task, takes links up and down |
//! | `choice.rs` | which connection of a pair is the link, without a socket in sight |
//! | `dial.rs` | when a member is dialled again |
//! | `refusals.rs` | who refused whom: counted, and told once |
//! | `attempt.rs`, `pair.rs` | a connection's task until it is a link: hellos, checks, refusals; its two streams |
//! | `link.rs`, `queue.rs` | a link and what waits to be written on it |
//! | `link/tasks.rs` | a link's four tasks: two write from its queues, two read into the driver's inbox |
//! | `streams.rs`, `transport.rs` | what libp2p needs: streams by connection; sockets |
//! | `peer.rs`, `figures.rs` | what is known and counted of each member |
//! | `identity.rs` | members and their libp2p names |
//!
//! **Who waits for whom.** [`Mesh::send`] never waits: queues are bounded, and what does not fit is dropped and counted.
//! Readers wait until the driver has taken what it was handed before (credits for bytes, and for the room that every
//! message takes besides); then TCP holds the peer back, and its queues fill. **Who is refused** hears why in a frame; it
//! is counted, logged once, and dialled at leisure.

mod attempt;
mod choice;
mod dial;
mod figures;
pub mod identity;
mod link;
mod pair;
mod peer;
mod queue;
mod refusals;
mod streams;
mod switchboard;
mod transport;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::{Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

pub use figures::{MeshFigures, PeerFigures, reason};
pub use transport::listen_address;

use crate::driver::inbox::InboxSender;
use crate::types::peer::{Envelope, Hello, Refusal};
use crate::types::{MemberId, StartNonce};
use figures::Totals;
use link::Intake;
use peer::Peer;
use switchboard::Switchboard;

/// What a mesh needs.
pub struct MeshSettings {
    /// Our key, an ed25519 one.
    pub keypair: Keypair,
    /// Where to listen: `/ip4/…/tcp/…` or `/ip6/…/tcp/…`; port 0 takes a free one.
    pub listen: Vec<Multiaddr>,
    /// Everybody in the group. We may be among them, and are not dialled.
    pub members: Vec<MeshMember>,
    /// What the hello of new links says. Version, cluster, epoch and configuration in it are what others are checked by.
    pub hello: watch::Receiver<Hello>,
    /// Where links and messages are reported.
    pub inbox: InboxSender,
    /// Credits for received messages: one permit a byte, [`crate::types::limits::INBOX_BYTES`] in all. The host API has
    /// as many of its own, so that neither of the two can take the other's room.
    pub credits: Arc<Semaphore>,
}

/// One member of the group.
#[derive(Clone, Debug)]
pub struct MeshMember {
    /// Its key.
    pub id: MemberId,
    /// Its name for people.
    pub name: String,
    /// Where it is dialled.
    pub addresses: Vec<Multiaddr>,
}

/// Why there is no mesh. Nothing listens and nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The key cannot be used.
    #[error("the key of this member cannot be used for the mesh: {0}")]
    Key(String),
    /// A member's id is no public key.
    #[error("the id of member `{name}` is not an ed25519 public key; check genesis.toml")]
    BadMember {
        /// Whose.
        name: String,
    },
    /// Not an address to listen on.
    #[error("the mesh cannot listen on {address}: expected /ip4/<address>/tcp/<port> or /ip6/<address>/tcp/<port>")]
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
    peers: BTreeMap<MemberId, Arc<Peer>>,
    /// In the order of the settings.
    order: Vec<MemberId>,
    listen: Mutex<Vec<Multiaddr>>,
    totals: Totals,
}

/// What a handle asks of the switchboard.
///
/// The channel of commands needs no bound: a refusal answers a link that came up, and links come up one by one.
enum Command {
    Refuse { peer: MemberId, nonce: StartNonce, refusal: Refusal },
    Stop { reply: oneshot::Sender<()> },
}

impl Mesh {
    /// Listens on every address, then dials the members. Needs a tokio runtime. Errors name the address or the member.
    pub async fn start(settings: MeshSettings) -> Result<Mesh, MeshError> {
        let shared = Arc::new(Shared::new(&settings)?);
        settings.listen.iter().try_for_each(transport::probe)?;
        let members = shared.peers.values().map(|peer| peer.peer_id).collect();
        let mut swarm = transport::swarm(&settings.keypair, members)?;
        listen(&mut swarm, &settings.listen, &shared).await?;
        let (commands, receiver) = mpsc::unbounded_channel();
        let intake = Intake { inbox: settings.inbox, credits: settings.credits };
        tokio::spawn(Switchboard::new(swarm, shared.clone(), settings.hello, intake, receiver).run());
        Ok(Mesh { shared, commands })
    }

    /// Where we listen, with the ports that the system chose.
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.shared.listen.lock().expect("nobody panics with addresses in hand").clone()
    }

    /// Queues a message to a member. Never waits; without a link, or over the queue's bound, the message is dropped. From
    /// any thread.
    pub fn send(&self, to: MemberId, envelope: &Envelope) {
        self.send_bytes(to, envelope.message.is_bulk(), envelope.encode());
    }

    /// Queues an encoded [`Envelope`], so that one encoding serves several members.
    pub fn send_bytes(&self, to: MemberId, bulk: bool, envelope: Bytes) {
        if let Some(peer) = self.shared.peers.get(&to) {
            peer.send(bulk, envelope);
        }
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
            peers: self.shared.order.iter().map(|member| self.shared.peers[member].figures()).collect(),
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
        let others: Vec<&MeshMember> = settings.members.iter().filter(|other| other.id != member).collect();
        let mut peers = BTreeMap::new();
        for MeshMember { id, name, addresses } in &others {
            let peer_id: PeerId = identity::peer_of(id).ok_or_else(|| MeshError::BadMember { name: name.clone() })?;
            peers.insert(*id, Arc::new(Peer::new(*id, name.clone(), peer_id, addresses.clone())));
        }
        let order = others.iter().map(|other| other.id).collect();
        Ok(Shared { member, peers, order, listen: Mutex::default(), totals: Totals::default() })
    }

    /// For logs: a member's name, and the beginning of the key.
    fn label(&self, member: &MemberId) -> String {
        self.peers.get(member).map_or_else(|| format!("stranger {}", member.short()), |peer| peer.label())
    }

    fn add_listen_address(&self, address: Multiaddr) {
        let mut listen = self.listen.lock().expect("nobody panics with addresses in hand");
        if !listen.contains(&address) {
            listen.push(address);
        }
    }
}

/// Listens, and waits until every listener has told an address of its.
async fn listen(
    swarm: &mut Swarm<transport::Behaviour>,
    addresses: &[Multiaddr],
    shared: &Shared,
) -> Result<(), MeshError> {
    for address in addresses {
        let failed = |reason: String| MeshError::Listen { address: address.clone(), reason };
        let listener = swarm.listen_on(address.clone()).map_err(|error| failed(error.to_string()))?;
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, address } => {
                    shared.add_listen_address(address);
                    if listener_id == listener {
                        break;
                    }
                }
                SwarmEvent::ListenerClosed { listener_id, reason, .. } if listener_id == listener => {
                    return Err(failed(reason.map_or_else(|error| error.to_string(), |()| "closed".to_owned())));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
