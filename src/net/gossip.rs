//! Gossip among members: libp2p's gossipsub on one topic of the group, for members only. Strangers get no stream of it,
//! and what is passed on is judged first (`announcing.rs`).

use std::collections::HashSet;
use std::task::{Context, Poll};
use std::time::Duration;

use either::Either;
use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, MessageId, ValidationMode};
use libp2p::identity::Keypair;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    dummy,
};

use super::metered::GOSSIP_PROTOCOL;
use crate::types::{ClusterId, limits};

/// Everybody keeps so many neighbours that announcements go through at once. With 50 idle members each passes on fewer than
/// three announcements of some 350 bytes a second.
const DEGREE: usize = 4;
const DEGREE_LEAST: usize = 2;
const DEGREE_MOST: usize = 8;
/// Who is no neighbour learns what it missed at this pace.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// An announcement seen twice within this time is dropped.
const SEEN_KEPT: Duration = Duration::from_secs(120);
/// Announcements that wait for one slow neighbour.
const QUEUE: usize = 64;

/// Gossip, for members only.
pub(super) struct Gossip {
    inner: gossipsub::Behaviour,
    topic: IdentTopic,
    members: HashSet<PeerId>,
    /// Connections that gossip knows of: whoever was a member when it connected.
    taken: HashSet<ConnectionId>,
}

/// What happened.
pub(super) type Event = gossipsub::Event;

impl Gossip {
    pub fn new(keypair: &Keypair, cluster: &ClusterId) -> Gossip {
        Gossip::speaking(MessageAuthenticity::Signed(keypair.clone()), config(), cluster)
    }

    /// One that says things in the name of somebody else.
    #[cfg(test)]
    pub fn forging(author: PeerId, cluster: &ClusterId) -> Gossip {
        let config = gossipsub::ConfigBuilder::from(config()).validation_mode(ValidationMode::Permissive).build();
        Gossip::speaking(MessageAuthenticity::Author(author), config.unwrap(), cluster)
    }

    fn speaking(authenticity: MessageAuthenticity, config: gossipsub::Config, cluster: &ClusterId) -> Gossip {
        let mut inner = gossipsub::Behaviour::new(authenticity, config).expect("its settings are ours, and agree");
        let topic = IdentTopic::new(format!("synod/{cluster}"));
        inner.subscribe(&topic).expect("no filter forbids it");
        Gossip { inner, topic, members: HashSet::new(), taken: HashSet::new() }
    }

    /// Who is a member from now on. Connections there are stay as they are.
    pub fn set_members(&mut self, members: HashSet<PeerId>) {
        self.members = members;
    }

    /// Announces something. The error says that nobody listens yet, or that queues are full.
    pub fn publish(&mut self, bytes: Vec<u8>) -> Result<(), gossipsub::PublishError> {
        self.inner.publish(self.topic.hash(), bytes).map(|_| ())
    }

    /// Whether an announcement is passed on.
    pub fn judge(&mut self, id: &MessageId, from: &PeerId, acceptance: gossipsub::MessageAcceptance) {
        self.inner.report_message_validation_result(id, from, acceptance);
    }

    /// How many members listen on the topic.
    pub fn listeners(&self) -> usize {
        let topic = self.topic.hash();
        self.inner.all_peers().filter(|(_, topics)| topics.contains(&&topic)).count()
    }

    fn takes(&mut self, id: ConnectionId, peer: &PeerId) -> bool {
        let takes = self.members.contains(peer);
        if takes {
            self.taken.insert(id);
        }
        takes
    }
}

fn config() -> gossipsub::Config {
    gossipsub::ConfigBuilder::default()
        .protocol_id_prefix(GOSSIP_PROTOCOL)
        .heartbeat_interval(HEARTBEAT)
        .heartbeat_initial_delay(HEARTBEAT / 4)
        .mesh_n(DEGREE)
        .mesh_n_low(DEGREE_LEAST)
        .mesh_n_high(DEGREE_MOST)
        .mesh_outbound_min(1)
        .gossip_lazy(2)
        .gossip_factor(0.1)
        .flood_publish(false)
        .max_transmit_size(limits::ANNOUNCEMENT_BYTES + 1024)
        .duplicate_cache_time(SEEN_KEPT)
        .connection_handler_queue_len(QUEUE)
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(message_id)
        .build()
        .expect("these settings agree")
}

/// Short, since it is told again and again.
fn message_id(message: &gossipsub::Message) -> MessageId {
    let mut hasher = blake3::Hasher::new();
    if let Some(source) = &message.source {
        hasher.update(&source.to_bytes());
    }
    hasher.update(&message.sequence_number.unwrap_or_default().to_be_bytes());
    MessageId::new(&hasher.finalize().as_bytes()[..12])
}

impl NetworkBehaviour for Gossip {
    type ConnectionHandler = Either<THandler<gossipsub::Behaviour>, dummy::ConnectionHandler>;
    type ToSwarm = gossipsub::Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if self.takes(id, &peer) {
            return self.inner.handle_established_inbound_connection(id, peer, local, remote).map(Either::Left);
        }
        Ok(Either::Right(dummy::ConnectionHandler))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if self.takes(id, &peer) {
            return self.inner.handle_established_outbound_connection(id, peer, address, role, port).map(Either::Left);
        }
        Ok(Either::Right(dummy::ConnectionHandler))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let about = match &event {
            FromSwarm::ConnectionEstablished(established) => Some((established.connection_id, false)),
            FromSwarm::ConnectionClosed(closed) => Some((closed.connection_id, true)),
            FromSwarm::AddressChange(change) => Some((change.connection_id, false)),
            _ => None,
        };
        if let Some((id, closes)) = about {
            let known = if closes { self.taken.remove(&id) } else { self.taken.contains(&id) };
            if !known {
                return;
            }
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {
            Either::Left(event) => self.inner.on_connection_handler_event(peer, id, event),
            Either::Right(never) => match never {},
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<gossipsub::Event, THandlerInEvent<Self>>> {
        self.inner.poll(cx).map(|action| action.map_in(Either::Left))
    }
}
