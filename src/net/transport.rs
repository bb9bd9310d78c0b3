//! Sockets: TCP with noise and yamux, names resolved where the system can, and ports probed before they are used.

use std::net::{IpAddr, SocketAddr, TcpListener};

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, Transport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::swarm::{Config, NetworkBehaviour, Swarm};
use libp2p::{PeerId, connection_limits, dns, noise, ping, tcp, yamux};
use tracing::info;

use super::MeshError;
use super::streams::Streams;
use crate::types::limits;

/// What every connection does.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    pub streams: Streams,
    ping: ping::Behaviour,
}

pub(super) fn swarm(keypair: &Keypair) -> Result<Swarm<Behaviour>, MeshError> {
    let pending =
        connection_limits::ConnectionLimits::default().with_max_pending_incoming(Some(limits::PENDING_CONNECTIONS_MAX));
    let ping = ping::Config::new().with_interval(limits::PING_INTERVAL).with_timeout(limits::LINK_SILENCE_MAX);
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(pending),
        streams: Streams::new(),
        ping: ping::Behaviour::new(ping),
    };
    // A connection on which nobody says hello falls idle.
    let config = Config::with_tokio_executor().with_idle_connection_timeout(limits::HELLO_TIMEOUT);
    Ok(Swarm::new(transport(keypair)?, behaviour, keypair.public().to_peer_id(), config))
}

fn transport(keypair: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, MeshError> {
    let tcp = || tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    match dns::tokio::Transport::system(tcp()) {
        Ok(resolving) => secured(resolving, keypair),
        Err(error) => {
            info!(%error, "no resolver: members are dialled by IP address only");
            secured(tcp(), keypair)
        }
    }
}

fn secured<T>(transport: T, keypair: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, MeshError>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: futures::AsyncRead + futures::AsyncWrite + Unpin + Send + 'static,
    T::Error: Send + Sync,
    T::ListenerUpgrade: Send,
    T::Dial: Send,
{
    let noise = noise::Config::new(keypair).map_err(|error| MeshError::Key(error.to_string()))?;
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(limits::CONNECTION_STREAMS_MAX);
    Ok(transport.upgrade(Version::V1Lazy).authenticate(noise).multiplex(yamux).timeout(limits::HELLO_TIMEOUT).boxed())
}

/// Tells a port in use: libp2p listens with SO_REUSEPORT, and would share it with another process without a word.
pub(super) fn probe(address: &Multiaddr) -> Result<(), MeshError> {
    let socket = listen_address(address).ok_or_else(|| MeshError::BadListenAddress { address: address.clone() })?;
    match TcpListener::bind(socket) {
        Ok(_) => Ok(()),
        Err(error) => Err(MeshError::Listen { address: address.clone(), reason: error.to_string() }),
    }
}

/// The IP address and the TCP port of an address that can be listened on: just these two, nothing behind them.
pub fn listen_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let host: IpAddr = match parts.next()? {
        Protocol::Ip4(host) => host.into(),
        Protocol::Ip6(host) => host.into(),
        _ => return None,
    };
    match (parts.next()?, parts.next()) {
        (Protocol::Tcp(port), None) => Some(SocketAddr::new(host, port)),
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
    fn listening_needs_an_ip_address_and_a_tcp_port() {
        for address in ["/dns4/example.org/tcp/1", "/ip4/127.0.0.1/udp/1", "/ip4/127.0.0.1", "/ip4/127.0.0.1/tcp/1/ws"]
        {
            let error = probe(&address.parse().unwrap()).unwrap_err();
            assert!(matches!(error, MeshError::BadListenAddress { .. }), "{address}");
        }
    }
}
