//! Gossip among members: libp2p's gossipsub on one topic of the group, for members only. Strangers get no stream of it,
//! and what is passed on is judged first (`announcing.rs`).

use std::collections::{HashMap, HashSet};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use either::Either;
use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::gossipsub::{
    self, IdentTopic, IdentityTransform, MessageAuthenticity, MessageId, ValidationMode, WhitelistSubscriptionFilter,
};
use libp2p::identity::Keypair;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    dummy,
};
use tracing::debug;

use super::metered::GOSSIP_PROTOCOL;
use crate::types::{ClusterId, limits};

/// Everybody keeps so many neighbours that announcements go through at once. With 50 idle members each passes on fewer than
/// three announcements of some 350 bytes a second.
const DEGREE: usize = 4;
const DEGREE_LEAST: usize = 2;
const DEGREE_MOST: usize = 8;
/// Who is no neighbour learns what it missed at this pace.
const HEARTBEAT: Duration = Duration::from_secs(2);
const MINUTE: Duration = Duration::from_secs(60);

/// gossipsub with one topic: subscriptions to others are not kept.
type OneTopic = gossipsub::Behaviour<IdentityTransform, WhitelistSubscriptionFilter>;

/// Gossip, for members only.
pub(super) struct Gossip {
    inner: OneTopic,
    topic: IdentTopic,
    members: HashSet<PeerId>,
    /// Connections that gossip knows of, and whose they are: whoever was a member when it connected.
    taken: HashMap<ConnectionId, PeerId>,
    pace: Pace,
}

/// How much each member has sent within a minute.
struct Pace {
    since: Instant,
    of_member: HashMap<PeerId, u32>,
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
        let topic = IdentTopic::new(format!("synod/{cluster}"));
        let filter = WhitelistSubscriptionFilter([topic.hash()].into());
        let mut inner = OneTopic::new_with_subscription_filter(authenticity, config, filter)
            .expect("its settings are ours, and agree");
        inner.subscribe(&topic).expect("the filter lets this topic through");
        let pace = Pace { since: Instant::now(), of_member: HashMap::new() };
        Gossip { inner, topic, members: HashSet::new(), taken: HashMap::new(), pace }
    }

    /// Who is a member from now on. Connections there are stay as they are; of who is none any more nothing is heard.
    pub fn set_members(&mut self, members: HashSet<PeerId>) {
        self.members = members;
    }

    /// As if a member had said all that is heard of it within this minute.
    #[cfg(test)]
    pub fn exhaust(&mut self, member: PeerId) {
        let now = Instant::now();
        while self.pace.take(member, now) {}
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
            self.taken.insert(id, *peer);
        }
        takes
    }

    /// How many connections to a peer gossip knows of, besides that one.
    fn others(&self, peer: &PeerId, id: ConnectionId) -> usize {
        self.taken.iter().filter(|(other, of)| *of == peer && **other != id).count()
    }
}

impl Pace {
    fn take(&mut self, member: PeerId, now: Instant) -> bool {
        if now >= self.since + MINUTE {
            *self = Pace { since: now, of_member: HashMap::new() };
        }
        let count = self.of_member.entry(member).or_default();
        *count = count.saturating_add(1);
        if *count == limits::GOSSIP_OF_MEMBER + 1 {
            debug!(%member, "it gossips too much; the rest of this minute nothing of it is heard, nor what it subscribes to meanwhile");
        }
        *count <= limits::GOSSIP_OF_MEMBER
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
        .duplicate_cache_time(limits::ANNOUNCEMENT_SEEN_KEPT)
        .connection_handler_queue_len(limits::ANNOUNCEMENTS_WAITING)
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
    type ConnectionHandler = Either<THandler<OneTopic>, dummy::ConnectionHandler>;
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

    /// Gossip keeps a peer until its last connection closes; so it is told how many there are of those that it knows of.
    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(mut established) => {
                if self.taken.contains_key(&established.connection_id) {
                    // As if it were the first: what we listen to is said again, since the other side may know nothing of
                    // those before.
                    established.other_established = 0;
                    self.inner.on_swarm_event(FromSwarm::ConnectionEstablished(established));
                }
            }
            FromSwarm::ConnectionClosed(mut closed) => {
                if self.taken.remove(&closed.connection_id).is_some() {
                    closed.remaining_established = self.others(&closed.peer_id, closed.connection_id);
                    self.inner.on_swarm_event(FromSwarm::ConnectionClosed(closed));
                }
            }
            FromSwarm::AddressChange(change) if !self.taken.contains_key(&change.connection_id) => {}
            event => self.inner.on_swarm_event(event),
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {
            Either::Left(event) => {
                if self.members.contains(&peer) && self.pace.take(peer, Instant::now()) {
                    self.inner.on_connection_handler_event(peer, id, event);
                }
            }
            Either::Right(never) => match never {},
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<gossipsub::Event, THandlerInEvent<Self>>> {
        self.inner.poll(cx).map(|action| action.map_in(Either::Left))
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::ConnectedPoint;
    use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};

    use super::*;
    use crate::types::Digest;

    struct Peer {
        gossip: Gossip,
        peer: PeerId,
        /// Connections as the swarm counts them.
        open: usize,
    }

    impl Peer {
        fn stranger() -> Peer {
            let gossip = Gossip::new(&Keypair::generate_ed25519(), &Digest([1; 32]));
            Peer { gossip, peer: PeerId::random(), open: 0 }
        }

        fn endpoint() -> ConnectedPoint {
            let address: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
            ConnectedPoint::Listener { local_addr: address.clone(), send_back_addr: address }
        }

        fn connects(&mut self, number: usize) {
            let (id, endpoint) = (ConnectionId::new_unchecked(number), Peer::endpoint());
            let address = endpoint.get_remote_address();
            self.gossip.handle_established_inbound_connection(id, self.peer, address, address).unwrap();
            self.gossip.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: self.peer,
                connection_id: id,
                endpoint: &endpoint,
                failed_addresses: &[],
                other_established: self.open,
            }));
            self.open += 1;
        }

        fn closes(&mut self, number: usize) {
            self.open -= 1;
            self.gossip.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id: self.peer,
                connection_id: ConnectionId::new_unchecked(number),
                endpoint: &Peer::endpoint(),
                cause: None,
                remaining_established: self.open,
            }));
        }

        fn is_known(&self) -> bool {
            self.gossip.inner.all_peers().any(|(peer, _)| *peer == self.peer)
        }
    }

    #[test]
    fn connections_of_strangers_do_not_count() {
        let mut peer = Peer::stranger();
        peer.connects(0);
        assert!(!peer.is_known());
        peer.gossip.set_members([peer.peer].into());
        peer.connects(1);
        peer.connects(2);
        assert!(peer.is_known());
        peer.closes(1);
        assert!(peer.is_known());
        peer.closes(2);
        assert!(!peer.is_known(), "the connection that stays is none of gossip's");
        peer.connects(3);
        peer.closes(0);
        assert!(peer.is_known());
        peer.closes(3);
        assert!(!peer.is_known());
    }

    #[test]
    fn there_is_one_topic() {
        let mut gossip = Peer::stranger().gossip;
        // Subscriptions of others are judged by the same filter.
        assert!(gossip.inner.subscribe(&IdentTopic::new("another")).is_err());
        assert!(gossip.inner.subscribe(&gossip.topic.clone()).is_ok());
    }

    #[test]
    fn a_member_is_heard_so_often_a_minute() {
        let (now, member) = (Instant::now(), PeerId::random());
        let mut pace = Pace { since: now, of_member: HashMap::new() };
        let heard = |pace: &mut Pace, at| (0..5000).filter(|_| pace.take(member, at)).count();
        assert_eq!(heard(&mut pace, now), limits::GOSSIP_OF_MEMBER as usize);
        assert!(pace.take(PeerId::random(), now), "others are heard");
        assert_eq!(heard(&mut pace, now + MINUTE), limits::GOSSIP_OF_MEMBER as usize);
    }
}
