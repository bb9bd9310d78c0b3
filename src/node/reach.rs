//! Where a member's mesh listens, and where it tells the others to reach it.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use libp2p::multiaddr::{Multiaddr, Protocol};
use tokio::time::timeout;

use super::founding::MESH_PORT_OFFSET;
use super::settings::Settings;
use crate::net::{self, Transport, listen_address};
use crate::types::GenesisMember;

/// A name that is not resolved within this time is passed over.
const RESOLVE_MAX: Duration = Duration::from_secs(2);

/// Where the mesh of a member listens: what its settings say, else what genesis says of it, else everywhere, at the port
/// that follows from the host API's. The error says what to set.
pub fn listens(settings: &Settings, named: Option<&GenesisMember>) -> Result<Vec<Multiaddr>, String> {
    if !settings.mesh_listen.is_empty() {
        return Ok(settings.mesh_listen.clone());
    }
    if let Some(named) = named {
        return Ok(with_quic(readable(&named.addresses)));
    }
    let port = match settings.api.listen.port() {
        0 => 0,
        api => api.checked_add(MESH_PORT_OFFSET).ok_or_else(|| {
            format!(
                "mesh.listen is not set, and no port is {MESH_PORT_OFFSET} above that of api.listen: set mesh.listen"
            )
        })?,
    };
    Ok(with_quic(vec![Transport::Tcp.multiaddress(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))]))
}

/// The addresses, and behind them QUIC at the UDP port of the same number, for those of TCP where it is not given.
fn with_quic(mut addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let tcp = addresses.iter().filter_map(listen_address).filter(|(transport, _)| *transport == Transport::Tcp);
    let quic: Vec<Multiaddr> = tcp.map(|(_, socket)| Transport::Quic.multiaddress(socket)).collect();
    addresses.extend(quic);
    let mut seen = HashSet::new();
    addresses.retain(|address| seen.insert(address.clone()));
    addresses
}

/// What can be read of addresses. All that a genesis names can, since it is checked when it is read; of others any text is
/// ordered and told.
pub fn readable(texts: &[String]) -> Vec<Multiaddr> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// The same addresses with a free port in place of each port 0, so that it is known before anything listens.
pub fn with_ports(listen: &[Multiaddr]) -> io::Result<Vec<Multiaddr>> {
    let with_port = |address: &Multiaddr| match listen_address(address) {
        Some((transport, socket)) if socket.port() == 0 => {
            Ok(transport.multiaddress(SocketAddr::new(socket.ip(), transport.free_port(socket)?)))
        }
        _ => Ok(address.clone()),
    };
    listen.iter().map(with_port).collect()
}

/// What a member that joins, or has joined, tells the others at its start, and when its addresses have changed: what its
/// settings say, else where it listens, with this machine's own address on the way to any of `others` in place of 0.0.0.0 and
/// ::. Where no way is found to them, such an address is left out.
pub async fn announced(settings: &Settings, listen: &[Multiaddr], others: &[Multiaddr]) -> Vec<Multiaddr> {
    if !settings.mesh_announce.is_empty() {
        return settings.mesh_announce.clone();
    }
    let mut announced = Vec::new();
    for address in listen {
        let Some((transport, socket)) = listen_address(address) else { continue };
        let ip = match socket.ip() {
            ip if ip.is_unspecified() => own_address(others, ip.is_ipv4()).await,
            ip => Some(ip),
        };
        let told = ip.map(|ip| transport.multiaddress(SocketAddr::new(ip, socket.port())));
        announced.extend(told.filter(|told| !announced.contains(told)));
    }
    announced
}

/// What to tell the operator of a member that says nothing of where it is, while no address at which the group knows it
/// leads to where it listens, as far as this machine can tell. None if one does.
pub fn moved(listen: &[Multiaddr], known: &[String]) -> Option<String> {
    let listens: Vec<(Transport, SocketAddr)> = listen.iter().filter_map(listen_address).collect();
    if listens.is_empty() || known.is_empty() || known.iter().any(|address| leads_to(address, &listens)) {
        return None;
    }
    let texts = listen.iter().map(ToString::to_string).collect::<Vec<_>>();
    Some(format!(
        "this member listens at {}, and the others dial it at {}, which does not seem to lead here: set mesh.announce to where \
         they reach it (to that same address, if it is translated on the way)",
        texts.join(", "),
        known.join(", ")
    ))
}

/// Whether one of these listeners is there. A name may lead anywhere.
fn leads_to(address: &str, listens: &[(Transport, SocketAddr)]) -> bool {
    let Ok(address) = address.parse::<Multiaddr>() else { return false };
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => Some(IpAddr::from(ip)),
        Some(Protocol::Ip6(ip)) => Some(IpAddr::from(ip)),
        _ => None,
    };
    let port = net::port(parts);
    let mut same_port = listens.iter().filter(|(transport, listen)| Some((*transport, listen.port())) == port);
    same_port.any(|(_, listen)| ip.is_none_or(|ip| listen.ip() == ip || (listen.ip().is_unspecified() && is_own(ip))))
}

/// Whether it is an address of this machine: it can be bound.
fn is_own(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// This machine's address on the way to the first of the others that there is a way to.
async fn own_address(others: &[Multiaddr], ipv4: bool) -> Option<IpAddr> {
    for other in others {
        for target in targets(other).await {
            if target.is_ipv4() == ipv4
                && let Ok(ip) = toward(target)
            {
                return Some(ip);
            }
        }
    }
    None
}

/// Nothing is sent: the system only chooses the way.
fn toward(target: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}

/// Where an address leads, whoever is to answer there; names are resolved.
async fn targets(address: &Multiaddr) -> Vec<SocketAddr> {
    // A join code has the key of a member behind its address.
    let mut parts = address.iter().filter(|part| !matches!(part, Protocol::P2p(_)));
    let (Some(host), Some((_, port))) = (parts.next(), net::port(parts)) else {
        return Vec::new();
    };
    let name = match host {
        Protocol::Ip4(ip) => return vec![SocketAddr::new(ip.into(), port)],
        Protocol::Ip6(ip) => return vec![SocketAddr::new(ip.into(), port)],
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => name,
        _ => return Vec::new(),
    };
    match timeout(RESOLVE_MAX, tokio::net::lookup_host((&*name, port))).await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::node::settings::layers::Layers;
    use crate::types::MemberId;

    fn settings(file: &str) -> Settings {
        let layers = Layers::gather(Some((Path::new("synod.toml"), file)), [], []);
        Settings::from_layers(&layers, Path::new("")).unwrap()
    }

    fn texts(addresses: &[Multiaddr]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn settings_come_before_genesis_before_the_default() {
        let addresses = vec!["/ip4/10.0.0.1/tcp/7271".to_owned()];
        let named = GenesisMember { name: "n1".to_owned(), id: MemberId([1; 32]), addresses };
        let given = settings("[mesh]\nlisten = [\"/ip4/0.0.0.0/tcp/9\"]");
        assert_eq!(texts(&listens(&given, Some(&named)).unwrap()), ["/ip4/0.0.0.0/tcp/9"], "and nothing else");
        let twins = ["/ip4/10.0.0.1/tcp/7271", "/ip4/10.0.0.1/udp/7271/quic-v1"];
        assert_eq!(texts(&listens(&settings(""), Some(&named)).unwrap()), twins);
        let both = GenesisMember { addresses: twins.map(str::to_owned).into(), ..named };
        assert_eq!(texts(&listens(&settings(""), Some(&both)).unwrap()), twins);
        let everywhere = ["/ip4/0.0.0.0/tcp/7271", "/ip4/0.0.0.0/udp/7271/quic-v1"];
        assert_eq!(texts(&listens(&settings(""), None).unwrap()), everywhere);
        let none = listens(&settings("[api]\nlisten = \"127.0.0.1:65500\""), None).unwrap_err();
        assert!(none.contains("set mesh.listen"), "{none}");
    }

    #[test]
    fn a_member_that_moved_without_a_word_is_told_what_to_set() {
        let told = |listen: &str, known: &[&str]| {
            let known: Vec<String> = known.iter().map(|text| (*text).to_owned()).collect();
            moved(&[listen.parse().unwrap()], &known)
        };
        // 192.0.2.0/24 is nobody's.
        for (listen, known) in [
            ("/ip4/0.0.0.0/tcp/7271", "/ip4/192.0.2.1/tcp/7271"),
            ("/ip4/127.0.0.1/tcp/7271", "/ip4/192.0.2.1/tcp/7271"),
            ("/ip4/127.0.0.1/tcp/7272", "/ip4/127.0.0.1/tcp/7271"),
            ("/ip4/0.0.0.0/tcp/7272", "/dns4/n1.example.org/tcp/7271"),
        ] {
            let text = told(listen, &[known]).unwrap();
            assert!(text.contains("mesh.announce") && text.contains(listen) && text.contains(known), "{text}");
        }
        for (listen, known) in [
            ("/ip4/0.0.0.0/tcp/7271", "/ip4/127.0.0.1/tcp/7271"),
            ("/ip4/127.0.0.1/tcp/7271", "/ip4/127.0.0.1/tcp/7271"),
            ("/ip4/0.0.0.0/tcp/7271", "/dns4/n1.example.org/tcp/7271"),
        ] {
            assert_eq!(told(listen, &["/ip4/192.0.2.1/tcp/7271", known]), None, "{known}");
        }
        assert_eq!(told("/ip4/0.0.0.0/tcp/7271", &[]), None, "nobody dials it");
        assert_eq!(moved(&[], &["/ip4/192.0.2.1/tcp/7271".to_owned()]), None);
    }

    #[tokio::test]
    async fn others_are_told_this_machines_address_on_the_way_to_them() {
        let group: Vec<Multiaddr> = ["/ip6/::1/tcp/1", "/ip4/127.0.0.7/tcp/1"].map(|text| text.parse().unwrap()).into();
        let listen = with_ports(&["/ip4/0.0.0.0/tcp/0".parse().unwrap()]).unwrap();
        let port = listen_address(&listen[0]).unwrap().1.port();
        assert_ne!(port, 0);
        let told = announced(&settings(""), &listen, &group).await;
        assert_eq!(texts(&told), [format!("/ip4/127.0.0.1/tcp/{port}")]);
        let key = "12D3KooWF9QKTSaocFMKztp8x31JnUeJLAxPNVcsD6HTJYk2cM85";
        let named: Vec<Multiaddr> = vec![format!("/ip4/127.0.0.7/tcp/1/p2p/{key}").parse().unwrap()];
        assert_eq!(announced(&settings(""), &listen, &named).await, told, "as in a join code");
        assert_eq!(announced(&settings(""), &listen, &group[..1]).await, [], "no way is found");
        let fixed: Multiaddr = "/ip4/127.0.0.9/tcp/5".parse().unwrap();
        assert_eq!(announced(&settings(""), &[fixed.clone(), fixed.clone()], &[]).await, [fixed]);
        let given = settings("[mesh]\nannounce = [\"/dns4/example.org/tcp/7\"]");
        assert_eq!(texts(&announced(&given, &listen, &group).await), ["/dns4/example.org/tcp/7"]);
    }
}
