//! Sockets: TCP with noise and yamux, and QUIC for where TCP cannot be dialled; names resolved where the system can, and
//! ports probed before they are used.

use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, Transport as _};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{Config, NetworkBehaviour, Swarm};
use libp2p::{PeerId, connection_limits, dns, identify, mdns, noise, ping, quic, tcp, yamux};
use tracing::{info, warn};

use super::MeshError;
use super::gossip::Gossip;
use super::metered::{Metered, Traffic};
use super::streams::Streams;
use crate::types::{ClusterId, limits};

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP with noise and yamux.
    Tcp,
    /// QUIC over UDP.
    Quic,
}

impl Transport {
    /// What an address asks for.
    pub fn of(address: &Multiaddr) -> Transport {
        match address.iter().any(|part| matches!(part, Protocol::QuicV1)) {
            true => Transport::Quic,
            false => Transport::Tcp,
        }
    }

    /// The one that is tried where this one leads to nobody.
    pub(super) fn other(self) -> Transport {
        match self {
            Transport::Tcp => Transport::Quic,
            Transport::Quic => Transport::Tcp,
        }
    }

    /// The address of a socket, as others dial it.
    pub fn multiaddress(self, socket: SocketAddr) -> Multiaddr {
        let host = Multiaddr::from(socket.ip());
        match self {
            Transport::Tcp => host.with(Protocol::Tcp(socket.port())),
            Transport::Quic => host.with(Protocol::Udp(socket.port())).with(Protocol::QuicV1),
        }
    }

    /// The port that the system gives for such a listener: the one asked for, or a free one for 0. Nothing listens there
    /// when this returns.
    pub fn free_port(self, socket: SocketAddr) -> std::io::Result<u16> {
        let bound = match self {
            Transport::Tcp => TcpListener::bind(socket)?.local_addr()?,
            Transport::Quic => UdpSocket::bind(socket)?.local_addr()?,
        };
        Ok(bound.port())
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "tcp",
            Transport::Quic => "quic",
        })
    }
}

/// What every connection does.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    pub streams: Streams,
    ping: ping::Behaviour,
    identify: identify::Behaviour,
    pub mdns: Toggle<mdns::tokio::Behaviour>,
    /// Last: it remembers whom it is asked about, so nobody may be turned away after it.
    pub gossip: Toggle<Gossip>,
}

/// What a swarm is to be like.
pub(super) struct SwarmSettings {
    /// A QUIC connection on which nothing comes for this long is lost: nobody else would tell that a process was killed.
    pub idle_timeout: Duration,
    /// Connections of keys that are no members, at a time.
    pub strangers_max: usize,
    /// How often the local network is asked, if it is looked at.
    pub mdns: Option<Duration>,
    /// The group whose members gossip, if they do.
    pub gossip: Option<ClusterId>,
    /// Counts what gossip costs.
    pub traffic: Arc<Traffic>,
}

impl SwarmSettings {
    /// For one who has nobody to listen to.
    pub fn plain(idle_timeout: Duration, strangers_max: usize) -> SwarmSettings {
        SwarmSettings { idle_timeout, strangers_max, mdns: None, gossip: None, traffic: Arc::default() }
    }
}

/// Members ask for neighbours this often.
pub(super) const MDNS_PACE: Duration = Duration::from_secs(10);
/// Candidates, who wait for each other.
pub(super) const MDNS_PACE_OF_CANDIDATES: Duration = Duration::from_secs(1);
/// What neighbours told holds this long.
const MDNS_TTL: Duration = Duration::from_secs(40);

pub(super) fn swarm(keypair: &Keypair, settings: SwarmSettings) -> Result<Swarm<Behaviour>, MeshError> {
    let SwarmSettings { idle_timeout, strangers_max, mdns, gossip, traffic } = settings;
    let pending =
        connection_limits::ConnectionLimits::default().with_max_pending_incoming(Some(limits::PENDING_CONNECTIONS_MAX));
    let ping = ping::Config::new().with_interval(limits::PING_INTERVAL).with_timeout(limits::LINK_SILENCE_MAX);
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(pending),
        streams: Streams::new(strangers_max),
        ping: ping::Behaviour::new(ping),
        identify: identify::Behaviour::new(identify_config(keypair)),
        mdns: mdns.and_then(|pace| neighbours(keypair, pace)).into(),
        gossip: gossip.map(|cluster| Gossip::new(keypair, &cluster)).into(),
    };
    // A connection on which nobody says hello falls idle.
    let config = Config::with_tokio_executor().with_idle_connection_timeout(limits::HELLO_TIMEOUT);
    Ok(Swarm::new(transport(keypair, idle_timeout, traffic)?, behaviour, keypair.public().to_peer_id(), config))
}

/// What everybody is told of us: where we listen, and nothing else that a stranger could use.
fn identify_config(keypair: &Keypair) -> identify::Config {
    identify::Config::new(format!("/synod/{}", limits::PROTOCOL_VERSION), keypair.public())
        .with_agent_version(concat!("synod/", env!("CARGO_PKG_VERSION")).to_owned())
        .with_push_listen_addr_updates(true)
        .with_cache_size(0)
}

fn neighbours(keypair: &Keypair, query_interval: Duration) -> Option<mdns::tokio::Behaviour> {
    let config = mdns::Config { ttl: MDNS_TTL, query_interval, enable_ipv6: false };
    let behaviour = mdns::tokio::Behaviour::new(config, keypair.public().to_peer_id());
    behaviour.map_err(|error| warn!(%error, "the local network is not looked at")).ok()
}

/// Why the local network is not looked at, if it was to be.
pub(super) fn no_mdns(wanted: bool) -> String {
    match wanted {
        true => "the system tells nothing of its network interfaces".to_owned(),
        false => "the mesh listens on loopback only".to_owned(),
    }
}

type Connections = Boxed<(PeerId, StreamMuxerBox)>;

fn transport(keypair: &Keypair, idle_timeout: Duration, traffic: Arc<Traffic>) -> Result<Connections, MeshError> {
    let both = || {
        let both = over_tcp(keypair)?.or_transport(over_quic(keypair, idle_timeout));
        let traffic = traffic.clone();
        Ok::<_, MeshError>(both.map(move |connection, _| {
            let (peer, streams) = connection.into_inner();
            (peer, StreamMuxerBox::new(Metered::new(streams, traffic.clone())))
        }))
    };
    match dns::tokio::Transport::system(both()?) {
        Ok(resolving) => Ok(resolving.boxed()),
        Err(error) => {
            info!(%error, "no resolver: members are dialled by IP address only");
            Ok(both()?.boxed())
        }
    }
}

fn over_tcp(keypair: &Keypair) -> Result<Connections, MeshError> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let noise = noise::Config::new(keypair).map_err(|error| MeshError::Key(error.to_string()))?;
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(limits::CONNECTION_STREAMS_MAX);
    Ok(tcp.upgrade(Version::V1Lazy).authenticate(noise).multiplex(yamux).timeout(limits::HELLO_TIMEOUT).boxed())
}

fn over_quic(keypair: &Keypair, idle_timeout: Duration) -> Connections {
    let mut config = quic::Config::new(keypair);
    config.max_idle_timeout = u32::try_from(idle_timeout.as_millis()).unwrap_or(u32::MAX);
    // One of three may be lost.
    config.keep_alive_interval = idle_timeout / 3;
    config.handshake_timeout = (4 * idle_timeout).clamp(limits::QUIC_HANDSHAKE_LEAST, limits::HELLO_TIMEOUT);
    config.max_concurrent_stream_limit = limits::CONNECTION_STREAMS_MAX as u32;
    config.max_stream_data = limits::QUIC_STREAM_BYTES;
    config.max_connection_data = limits::QUIC_CONNECTION_BYTES;
    quic::tokio::Transport::new(config).map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection))).boxed()
}

/// Tells a port in use: libp2p listens with SO_REUSEPORT, and would share it with another process without a word.
pub(super) fn probe(address: &Multiaddr) -> Result<(), MeshError> {
    let (transport, socket) =
        listen_address(address).ok_or_else(|| MeshError::BadListenAddress { address: address.clone() })?;
    match transport.free_port(socket) {
        Ok(_) => Ok(()),
        Err(error) => Err(MeshError::Listen { address: address.clone(), reason: error.to_string() }),
    }
}

/// The transport, the IP address and the port of an address that can be listened on: just these, nothing behind them.
pub fn listen_address(address: &Multiaddr) -> Option<(Transport, SocketAddr)> {
    let mut parts = address.iter();
    let host: IpAddr = match parts.next()? {
        Protocol::Ip4(host) => host.into(),
        Protocol::Ip6(host) => host.into(),
        _ => return None,
    };
    let (transport, port) = port(parts)?;
    Some((transport, SocketAddr::new(host, port)))
}

/// What follows the host in an address of the mesh: `/tcp/<port>` or `/udp/<port>/quic-v1`, and nothing else.
pub fn port<'a>(mut parts: impl Iterator<Item = Protocol<'a>>) -> Option<(Transport, u16)> {
    match (parts.next()?, parts.next(), parts.next()) {
        (Protocol::Tcp(port), None, None) => Some((Transport::Tcp, port)),
        (Protocol::Udp(port), Some(Protocol::QuicV1), None) => Some((Transport::Quic, port)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port()).parse().unwrap();
        let error = probe(&address).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("in use"), "{error}");
        drop(taken);
        probe(&address).unwrap();
    }

    #[test]
    fn a_udp_port_in_use_is_named() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = Transport::Quic.multiaddress(taken.local_addr().unwrap());
        let error = probe(&address).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("in use"), "{error}");
        drop(taken);
        probe(&address).unwrap();
    }

    #[test]
    fn an_address_tells_its_transport() {
        for (text, transport) in [("/ip4/127.0.0.1/tcp/1", Transport::Tcp), ("/ip6/::1/udp/2/quic-v1", Transport::Quic)]
        {
            let address: Multiaddr = text.parse().unwrap();
            let (told, socket) = listen_address(&address).unwrap();
            assert_eq!((told, Transport::of(&address)), (transport, transport));
            assert_eq!(transport.multiaddress(socket), address);
        }
    }

    #[test]
    fn listening_needs_an_ip_address_and_a_port() {
        for address in [
            "/dns4/example.org/tcp/1",
            "/ip4/127.0.0.1/udp/1",
            "/ip4/127.0.0.1/udp/1/quic-v1/webtransport",
            "/ip4/127.0.0.1",
            "/ip4/127.0.0.1/tcp/1/ws",
        ] {
            let error = probe(&address.parse().unwrap()).unwrap_err();
            assert!(matches!(error, MeshError::BadListenAddress { .. }), "{address}");
        }
    }
}
