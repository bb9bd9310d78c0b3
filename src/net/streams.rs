//! The streams of a connection, by connection: who dialled for a link opens both, the other side takes one of each. At
//! the door either side may knock, and ask as candidates do, on any connection, as often as the doorkeeper hears it.
//!
//! `libp2p-stream` would open them on any of several connections, does not say which connection an incoming one is on,
//! drops incoming ones beyond the first that waits, and keeps an entry for every connection there ever was. Here a link
//! stands or falls with its connection, so both sides always mean the same two streams.
//!
//! Connections are bounded here as well: of every key, and of all keys that are no members together.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{ConnectedPoint, Endpoint, Multiaddr};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, SubstreamProtocol, ToSwarm,
};
use libp2p::{PeerId, Stream, StreamProtocol};

use super::identity::member_of_peer;
use super::transport::Transport;
use crate::codec::StreamClass;
use crate::types::limits;

const URGENT: StreamProtocol = StreamProtocol::new("/synod/urgent/1");
const BULK: StreamProtocol = StreamProtocol::new("/synod/bulk/1");
const DOOR: StreamProtocol = StreamProtocol::new("/synod/door/1");
const CANDIDATE: StreamProtocol = StreamProtocol::new("/synod/candidate/1");

/// What became of a stream.
#[derive(Debug)]
pub(super) struct StreamEvent {
    pub connection: ConnectionId,
    pub peer: PeerId,
    pub opened: Opened,
}

/// Which stream it is.
#[derive(Debug)]
pub(super) enum Opened {
    /// One of the two of a link.
    Pair(StreamOutcome),
    /// They knock at our door.
    Knock(Stream),
    /// We knock at theirs: the stream, or why there is none.
    Door(Result<Stream, String>),
    /// They ask as candidates do.
    Asked(Stream),
    /// We ask them so: the stream, or why there is none.
    Ask(Result<Stream, String>),
}

/// One of the two streams of a link, or why there is none.
pub(super) type StreamOutcome = Result<(StreamClass, Stream), String>;

/// A stream to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Pair(StreamClass),
    Door,
    Ask,
}

/// A connection that there is.
struct Connected {
    peer: PeerId,
    transport: Transport,
    /// Whether it is within this machine.
    loopback: bool,
    /// Our own address on it, as far as it is known.
    local: Option<IpAddr>,
    /// Whether the key was a member's when it connected.
    as_member: bool,
    since: Instant,
}

/// Opens and takes streams, and admits connections.
pub(super) struct Streams {
    strangers_max: usize,
    members: HashSet<PeerId>,
    connections: HashMap<ConnectionId, Connected>,
    actions: VecDeque<ToSwarm<StreamEvent, Wanted>>,
}

impl Streams {
    /// Admits no more connections than that of keys that are no members.
    pub fn new(strangers_max: usize) -> Streams {
        Streams { strangers_max, members: HashSet::new(), connections: HashMap::new(), actions: VecDeque::new() }
    }

    /// Who is a member from now on; everybody else is a stranger. Connections there are stay.
    pub fn set_members(&mut self, members: HashSet<PeerId>) {
        self.members = members;
    }

    /// The other side says by which of our addresses we came.
    pub fn seen_from(&mut self, connection: ConnectionId, address: IpAddr) {
        if let Some(connected) = self.connections.get_mut(&connection) {
            connected.local.get_or_insert(address);
        }
    }

    /// Every connection by an address of ours.
    pub fn with_own_address(&self, address: IpAddr) -> Vec<ConnectionId> {
        let from = self.connections.iter().filter(|(_, connected)| connected.local == Some(address));
        from.map(|(id, _)| *id).collect()
    }

    /// Our own address on a connection, as far as it is known.
    pub fn own_address(&self, connection: ConnectionId) -> Option<IpAddr> {
        self.connections.get(&connection)?.local
    }

    /// The newest connection to that key: older ones may be dead without a word.
    pub fn newest_to(&self, peer: &PeerId) -> Option<ConnectionId> {
        let to = self.connections.iter().filter(|(_, connected)| connected.peer == *peer);
        to.max_by_key(|(id, connected)| (connected.since, **id)).map(|(id, _)| *id)
    }

    /// Every connection to that key.
    pub fn all_to(&self, peer: &PeerId) -> Vec<ConnectionId> {
        let to = self.connections.iter().filter(|(_, connected)| connected.peer == *peer);
        to.map(|(id, _)| *id).collect()
    }

    /// Every connection of a key that is no member and connected longer ago than that.
    pub fn strangers_older_than(&self, age: Duration, now: Instant) -> Vec<ConnectionId> {
        let strangers = self.connections.iter().filter(|(_, connected)| !self.members.contains(&connected.peer));
        strangers.filter(|(_, connected)| now > connected.since + age).map(|(id, _)| *id).collect()
    }

    /// Every connection there is.
    pub fn connections(&self) -> Vec<ConnectionId> {
        self.connections.keys().copied().collect()
    }

    /// What carries a connection.
    pub fn transport(&self, connection: ConnectionId) -> Option<Transport> {
        self.connections.get(&connection).map(|connected| connected.transport)
    }

    /// Whether the key of a connection was a member's when it connected.
    pub fn came_as_member(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_some_and(|connected| connected.as_member)
    }

    /// Whether a connection is within this machine.
    pub fn is_loopback(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_some_and(|connected| connected.loopback)
    }

    /// Opens both streams of a link on a connection that we dialled.
    pub fn open(&mut self, peer: PeerId, connection: ConnectionId) {
        self.want(peer, connection, Wanted::Pair(StreamClass::Urgent));
        self.want(peer, connection, Wanted::Pair(StreamClass::Bulk));
    }

    /// Opens a stream to the door on the other side.
    pub fn knock(&mut self, peer: PeerId, connection: ConnectionId) {
        self.want(peer, connection, Wanted::Door);
    }

    /// Opens a stream on which to ask as candidates do.
    pub fn ask(&mut self, peer: PeerId, connection: ConnectionId) {
        self.want(peer, connection, Wanted::Ask);
    }

    fn want(&mut self, peer: PeerId, connection: ConnectionId, wanted: Wanted) {
        let handler = NotifyHandler::One(connection);
        self.actions.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler, event: wanted });
    }

    fn admit(&self, peer: &PeerId) -> Result<(), ConnectionDenied> {
        let member = self.members.contains(peer);
        let peers = self.connections.values().map(|connected| &connected.peer);
        let of_peer = peers.clone().filter(|other| *other == peer).count();
        let of_strangers = peers.filter(|other| !self.members.contains(*other)).count();
        if of_peer >= limits::MEMBER_CONNECTIONS_MAX || (!member && of_strangers >= self.strangers_max) {
            return Err(ConnectionDenied::new(TooManyConnections));
        }
        if member_of_peer(peer).is_none() {
            return Err(ConnectionDenied::new(NotAnEd25519Key));
        }
        Ok(())
    }
}

pub(super) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

#[derive(Debug, thiserror::Error)]
#[error("too many connections")]
struct TooManyConnections;

#[derive(Debug, thiserror::Error)]
#[error("members have ed25519 keys")]
struct NotAnEd25519Key;

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = StreamEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.admit(&peer)?;
        Ok(Handler::new(vec![URGENT, BULK]))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.admit(&peer)?;
        Ok(Handler::new(Vec::new()))
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                let address = match established.endpoint {
                    ConnectedPoint::Dialer { address, .. } => address,
                    ConnectedPoint::Listener { local_addr, .. } => local_addr,
                };
                let loopback = ip_of(established.endpoint.get_remote_address()).is_some_and(|ip| ip.is_loopback());
                let local = match established.endpoint {
                    ConnectedPoint::Dialer { .. } => None,
                    // QUIC tells where it listens, which may be everywhere.
                    ConnectedPoint::Listener { local_addr, .. } => ip_of(local_addr).filter(|ip| !ip.is_unspecified()),
                };
                let (peer, transport) = (established.peer_id, Transport::of(address));
                let (as_member, since) = (self.members.contains(&peer), Instant::now());
                let connected = Connected { peer, transport, loopback, local, as_member, since };
                self.connections.insert(established.connection_id, connected);
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.connections.remove(&closed.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, opened: Opened) {
        self.actions.push_back(ToSwarm::GenerateEvent(StreamEvent { connection, peer, opened }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<StreamEvent, Wanted>> {
        self.actions.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// One connection's side of [`Streams`].
pub(super) struct Handler {
    /// What the other side may still open of a link: each once.
    takes: Vec<StreamProtocol>,
    events: VecDeque<ConnectionHandlerEvent<Upgrade, Wanted, Opened>>,
}

impl Handler {
    fn new(takes: Vec<StreamProtocol>) -> Handler {
        Handler { takes, events: VecDeque::new() }
    }

    fn take(&mut self, stream: Stream, protocol: &StreamProtocol) {
        if *protocol == DOOR {
            return self.tell(Opened::Knock(stream));
        }
        if *protocol == CANDIDATE {
            return self.tell(Opened::Asked(stream));
        }
        // A second stream of a class, negotiated at the same time as the first, is dropped.
        if let Some(place) = self.takes.iter().position(|taken| taken == protocol) {
            self.takes.remove(place);
            let class = if *protocol == URGENT { StreamClass::Urgent } else { StreamClass::Bulk };
            self.tell(Opened::Pair(Ok((class, stream))));
        }
    }

    fn opened(&mut self, wanted: Wanted, outcome: Result<Stream, String>) {
        self.tell(match wanted {
            Wanted::Pair(class) => Opened::Pair(outcome.map(|stream| (class, stream))),
            Wanted::Door => Opened::Door(outcome),
            Wanted::Ask => Opened::Ask(outcome),
        });
    }

    fn tell(&mut self, opened: Opened) {
        self.events.push_back(ConnectionHandlerEvent::NotifyBehaviour(opened));
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Wanted;
    type ToBehaviour = Opened;
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Wanted;

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade> {
        let takes = self.takes.iter().cloned().chain([DOOR, CANDIDATE]).collect();
        SubstreamProtocol::new(Upgrade(takes), ()).with_timeout(limits::HELLO_TIMEOUT)
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Upgrade, Wanted, Opened>> {
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn on_behaviour_event(&mut self, wanted: Wanted) {
        let protocol = match wanted {
            Wanted::Pair(StreamClass::Urgent) => URGENT,
            Wanted::Pair(StreamClass::Bulk) => BULK,
            Wanted::Door => DOOR,
            Wanted::Ask => CANDIDATE,
        };
        let protocol = SubstreamProtocol::new(Upgrade(vec![protocol]), wanted).with_timeout(limits::HELLO_TIMEOUT);
        self.events.push_back(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Upgrade, Upgrade, (), Wanted>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol), ..
            }) => self.take(stream, &protocol),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: (stream, _), info }) => {
                self.opened(info, Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                self.opened(info, Err(error.to_string()));
            }
            _ => {}
        }
    }
}

/// Agrees on one of these names; the stream itself is used as it is.
pub(super) struct Upgrade(Vec<StreamProtocol>);

impl UpgradeInfo for Upgrade {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl OutboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

#[cfg(test)]
mod tests {
    use libp2p::swarm::behaviour::ConnectionEstablished;

    use super::*;

    /// Whether a further connection of a key is admitted where these have some already.
    fn admits(streams: &mut Streams, there: &[(PeerId, usize)], key: PeerId) -> bool {
        let all = there.iter().flat_map(|(peer, count)| std::iter::repeat_n(*peer, *count));
        let connected = |peer| {
            let (transport, since) = (Transport::Tcp, Instant::now());
            Connected { peer, transport, loopback: false, local: None, as_member: false, since }
        };
        let numbered = all.enumerate().map(|(number, peer)| (ConnectionId::new_unchecked(number), connected(peer)));
        streams.connections = numbered.collect();
        streams.admit(&key).is_ok()
    }

    #[test]
    fn no_key_takes_the_room_of_others() {
        let draw = || libp2p::identity::Keypair::generate_ed25519().public().to_peer_id();
        let (member, greedy, other) = (draw(), draw(), draw());
        let most = limits::MEMBER_CONNECTIONS_MAX;
        let mut streams = Streams::new(most + 1);
        streams.set_members(HashSet::from([member]));
        assert!(admits(&mut streams, &[(greedy, most - 1)], greedy));
        assert!(!admits(&mut streams, &[(greedy, most)], greedy), "one stranger has as many as one member");
        assert!(admits(&mut streams, &[(greedy, most)], other));
        assert!(!admits(&mut streams, &[(greedy, most), (other, 1)], other), "all strangers together");
        assert!(admits(&mut streams, &[(greedy, most), (other, 1), (member, most - 1)], member));
        assert!(!admits(&mut streams, &[(member, most)], member));
    }

    /// They connect to us.
    fn connect(streams: &mut Streams, connection_id: ConnectionId, peer_id: PeerId) {
        connect_at("/ip4/127.0.0.1/tcp/1", streams, connection_id, peer_id);
    }

    fn connect_at(address: &str, streams: &mut Streams, connection_id: ConnectionId, peer_id: PeerId) {
        let address: Multiaddr = address.parse().unwrap();
        let endpoint = ConnectedPoint::Listener { local_addr: address.clone(), send_back_addr: address };
        let (failed_addresses, other_established) = (&[][..], 0);
        streams.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id,
            connection_id,
            endpoint: &endpoint,
            failed_addresses,
            other_established,
        }));
    }

    #[test]
    fn the_newest_connection_of_a_key_is_chosen() {
        let mut streams = Streams::new(usize::MAX);
        let [comes_again, other] = std::array::from_fn(|_| PeerId::random());
        for number in 1..20 {
            // A dial that began before may end after.
            let id = ConnectionId::new_unchecked(100 - number);
            connect(&mut streams, id, comes_again);
            assert_eq!((streams.newest_to(&comes_again), streams.newest_to(&other)), (Some(id), None));
        }
    }

    #[test]
    fn a_listener_everywhere_is_no_address_of_ours() {
        let mut streams = Streams::new(usize::MAX);
        let [there, everywhere] = [1, 2].map(ConnectionId::new_unchecked);
        connect_at("/ip4/10.0.0.1/tcp/1", &mut streams, there, PeerId::random());
        connect_at("/ip4/0.0.0.0/udp/1/quic-v1", &mut streams, everywhere, PeerId::random());
        let own = |last| IpAddr::from([10, 0, 0, last]);
        assert_eq!((streams.own_address(there), streams.own_address(everywhere)), (Some(own(1)), None));
        [there, everywhere].iter().for_each(|id| streams.seen_from(*id, own(2)));
        assert_eq!(streams.with_own_address(own(1)), [there], "we know better");
        assert_eq!(streams.with_own_address(own(2)), [everywhere]);
    }

    #[test]
    fn strangers_do_not_stay() {
        let mut streams = Streams::new(4);
        let [member, comes, stranger] = std::array::from_fn(|_| PeerId::random());
        streams.set_members([member].into());
        let ids = [1, 2, 3].map(ConnectionId::new_unchecked);
        ids.into_iter().zip([member, comes, stranger]).for_each(|(id, peer)| connect(&mut streams, id, peer));
        streams.set_members([member, comes].into());
        assert_eq!(ids.map(|id| streams.came_as_member(id)), [true, false, false]);
        let (now, age) = (Instant::now(), limits::STRANGER_CONNECTION_MAX);
        assert_eq!(streams.strangers_older_than(age, now), []);
        assert_eq!(streams.strangers_older_than(age, now + age), [ids[2]]);
        assert_eq!(streams.all_to(&comes), [ids[1]]);
    }
}
