//! Where somebody may be, as people and files write it.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use libp2p::multiaddr::{Multiaddr, Protocol};

use super::super::identity::{member_of_peer, peer_of};
use super::super::transport;
use crate::types::{MemberId, limits};

/// An address, and the key that is said to be there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Whose it is said to be.
    pub key: Option<MemberId>,
    /// Where, without a key.
    pub address: Multiaddr,
}

/// Text that names no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no place to look for others: expected host:port, or a multiaddress such as /ip4/10.0.0.7/tcp/7271, \
         /dns4/n7.example.org/tcp/7271 or /ip4/10.0.0.7/udp/7271/quic-v1, with /p2p/<key> behind it or without"
)]
pub struct NotAPlace {
    /// What it says.
    pub text: String,
}

impl Place {
    /// A place whose key is not known.
    pub fn at(address: Multiaddr) -> Place {
        Place { key: None, address }
    }

    /// Takes the key off a multiaddress; none if that is no address of the mesh.
    pub fn of(address: &Multiaddr) -> Option<Place> {
        let mut parts: Vec<Protocol> = address.iter().collect();
        let key = match parts.last() {
            Some(Protocol::P2p(peer)) => Some(member_of_peer(peer)?),
            _ => None,
        };
        parts.truncate(parts.len() - usize::from(key.is_some()));
        let is_host = matches!(
            parts.first()?,
            Protocol::Ip4(_) | Protocol::Ip6(_) | Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)
        );
        transport::port(parts.iter().skip(1).cloned()).filter(|(_, port)| is_host && *port != 0)?;
        let address: Multiaddr = parts.into_iter().collect();
        (address.len() <= limits::ADDRESS_BYTES_MAX).then_some(Place { key, address })
    }
}

impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Place, NotAPlace> {
        let address = if text.starts_with('/') { text.parse().ok() } else { host_and_port(text) };
        address.and_then(|address| Place::of(&address)).ok_or_else(|| NotAPlace { text: text.to_owned() })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_ref().and_then(peer_of) {
            Some(peer) => write!(f, "{}/p2p/{peer}", self.address),
            None => self.address.fmt(f),
        }
    }
}

/// Splits `host:port`, with an IPv6 address in brackets.
pub(super) fn split_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_plain = host.parse::<Ipv6Addr>().is_ok() || !host.is_empty() && !host.contains([':', '/', ' ']);
    let port = port.parse().ok().filter(|port| *port != 0)?;
    is_plain.then_some((host, port))
}

fn host_and_port(text: &str) -> Option<Multiaddr> {
    let (host, port) = split_port(text)?;
    let host = match (host.parse::<Ipv4Addr>(), host.parse::<Ipv6Addr>()) {
        (Ok(ip), _) => Protocol::Ip4(ip),
        (_, Ok(ip)) => Protocol::Ip6(ip),
        _ => Protocol::Dns(host.into()),
    };
    Some(Multiaddr::empty().with(host).with(Protocol::Tcp(port)))
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;

    #[test]
    fn places_are_written_in_two_ways() {
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        for (text, address) in [
            ("10.0.0.7:7271", "/ip4/10.0.0.7/tcp/7271"),
            ("[::1]:7271", "/ip6/::1/tcp/7271"),
            ("n1.example.org:7271", "/dns/n1.example.org/tcp/7271"),
            ("/ip4/10.0.0.7/udp/7271/quic-v1", "/ip4/10.0.0.7/udp/7271/quic-v1"),
        ] {
            let place: Place = text.parse().unwrap();
            assert_eq!((place.key, place.address.to_string()), (None, address.to_owned()));
            assert_eq!(place.to_string(), address);
        }
        let text = format!("/ip4/10.0.0.7/tcp/7271/p2p/{peer}");
        let place: Place = text.parse().unwrap();
        assert_eq!((place.key, place.to_string()), (member_of_peer(&peer), text));
    }

    #[test]
    fn what_is_no_place_is_told() {
        for text in [
            "",
            "host",
            "host:",
            "host:0",
            ":7271",
            "a b:1",
            "http://a:1",
            "/ip4/1.2.3.4",
            "/ip4/1.2.3.4/tcp/1/ws",
            "/tcp/1",
        ] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
