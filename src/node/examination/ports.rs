//! Whether the addresses of a member can be listened on, and who has them if not.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use libp2p::multiaddr::{Multiaddr, Protocol};

use super::Finding;
use super::holders::{Carrier, Holder, holder};

const API: &str = "api.listen";

/// An address that a member is to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The setting that says so.
    pub setting: &'static str,
    /// TCP or UDP.
    pub carrier: Carrier,
    /// Where.
    pub address: SocketAddr,
}

/// Whose listeners there should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nobody's: the member does not run.
    Nobody,
    /// The member's, with its process as far as that is known.
    Member(Option<u32>),
    /// The member's before long: it starts.
    Starting(Option<u32>),
}

impl Port {
    /// That of the host API.
    pub fn of_api(address: SocketAddr) -> Port {
        Port { setting: API, carrier: Carrier::Tcp, address }
    }

    /// One of the mesh's; none if nothing can listen there.
    pub fn of_mesh(address: &Multiaddr) -> Option<Port> {
        let mut parts = address.iter();
        let host: IpAddr = match parts.next()? {
            Protocol::Ip4(host) => host.into(),
            Protocol::Ip6(host) => host.into(),
            _ => return None,
        };
        let (carrier, port) = match parts.next()? {
            Protocol::Tcp(port) => (Carrier::Tcp, port),
            Protocol::Udp(port) => (Carrier::Udp, port),
            _ => return None,
        };
        Some(Port { setting: "mesh.listen", carrier, address: SocketAddr::new(host, port) })
    }

    /// Tries to listen there, for a moment.
    pub fn examine(&self, expected: Expected) -> Finding {
        let bound = match self.carrier {
            Carrier::Tcp => TcpListener::bind(self.address).map(drop),
            Carrier::Udp => UdpSocket::bind(self.address).map(drop),
        };
        self.judge(bound, expected, || holder(self.carrier, self.address))
    }

    fn judge(&self, bound: io::Result<()>, expected: Expected, holder: impl FnOnce() -> Holder) -> Finding {
        let (check, address, setting) = (self.check(), self.address, self.setting);
        match (bound.map_err(|error| (error.kind(), error)), expected) {
            (Ok(()), _) if address.port() == 0 => Finding::ok(check, format!("{address}: a free one at each start")),
            (Ok(()), Expected::Nobody) => Finding::ok(check, format!("{address} is free")),
            (Ok(()), Expected::Member(_)) => Finding::warn(
                check,
                format!("nobody listens at {address}, though the member runs"),
                format!("{setting} was changed since its start: start it again, or undo the change"),
            ),
            (Ok(()), Expected::Starting(_)) => {
                let when = if setting == API { "before it reads its log" } else { "when its log is read" };
                Finding::ok(check, format!("nobody listens at {address} yet: the member that starts takes it {when}"))
            }
            (Err((ErrorKind::AddrInUse, _)), _) => self.taken(holder(), expected),
            (Err((ErrorKind::AddrNotAvailable, _)), _) => Finding::fail(
                check,
                format!("{address} is no address of this machine"),
                format!(
                    "set {setting} to one (`ip address` lists them), or to 0.0.0.0; a member that moved says where it is \
                     with mesh.listen and mesh.announce"
                ),
            ),
            (Err((ErrorKind::PermissionDenied, _)), _) => Finding::fail(
                check,
                format!("{address} is not for this user"),
                format!("set {setting} to a port of 1024 or above, or give the program CAP_NET_BIND_SERVICE"),
            ),
            (Err((_, error)), _) => Finding::fail(
                check,
                format!("{address}: {error}"),
                format!("set {setting} to an address that can be used"),
            ),
        }
    }

    fn taken(&self, holder: Holder, expected: Expected) -> Finding {
        let (check, address) = (self.check(), self.address);
        let who = match &holder {
            Holder::Process(process, name) => format!("process {process} ({name})"),
            Holder::OfUser(user) => format!("a process of user {user}"),
            Holder::Unknown => "a process that /proc does not show".to_owned(),
        };
        let ours = match (expected, &holder) {
            (Expected::Nobody, _) => false,
            (Expected::Member(Some(member)) | Expected::Starting(Some(member)), Holder::Process(process, _)) => {
                member == *process
            }
            (Expected::Member(_) | Expected::Starting(_), _) => true,
        };
        if ours {
            return Finding::ok(check, format!("{address} is held by {who}, the member"));
        }
        let but = if expected == Expected::Nobody { "" } else { ", which is not the member" };
        let what = format!("{address} is held by {who}{but}");
        Finding::fail(check, what, format!("stop what uses the port, or set another one ({})", self.setting))
    }

    fn check(&self) -> String {
        let carrier = match self.carrier {
            Carrier::Tcp => "tcp",
            Carrier::Udp => "udp",
        };
        format!("port {} {carrier}", self.setting)
    }
}

/// Whether an address leads to a listener of this machine's.
pub fn is_here(address: &Multiaddr, listen: &[Multiaddr]) -> bool {
    let Some(there) = Port::of_mesh(address) else { return false };
    listen.iter().filter_map(Port::of_mesh).any(|here| {
        let same = here.carrier == there.carrier && here.address.port() == there.address.port();
        // Every address of this machine can be bound, and no other.
        let own = || UdpSocket::bind((there.address.ip(), 0)).is_ok();
        same && (here.address.ip() == there.address.ip() || here.address.ip().is_unspecified() && own())
    })
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn port(text: &str) -> Port {
        Port::of_mesh(&text.parse().unwrap()).unwrap()
    }

    #[test]
    fn an_address_of_the_mesh_names_carrier_and_port() {
        assert_eq!(port("/ip4/10.0.0.1/tcp/7271").carrier, Carrier::Tcp);
        let quic = port("/ip6/::1/udp/7271/quic-v1");
        assert_eq!((quic.carrier, quic.address), (Carrier::Udp, "[::1]:7271".parse().unwrap()));
        assert_eq!(Port::of_mesh(&"/dns4/n1/tcp/7271".parse().unwrap()), None);
    }

    #[test]
    fn an_address_of_this_machine_leads_here() {
        let address = |text: &str| text.parse::<Multiaddr>().unwrap();
        let everywhere = [address("/ip4/0.0.0.0/tcp/7271")];
        assert!(is_here(&address("/ip4/127.0.0.1/tcp/7271"), &everywhere));
        assert!(is_here(&address("/ip4/192.0.2.1/tcp/7271"), &[address("/ip4/192.0.2.1/tcp/7271")]));
        for other in [
            "/ip4/127.0.0.1/tcp/7272",
            "/ip4/127.0.0.1/udp/7271/quic-v1",
            "/ip4/192.0.2.1/tcp/7271",
            "/dns/n1/tcp/7271",
        ] {
            assert!(!is_here(&address(other), &everywhere), "{other}");
        }
    }

    #[test]
    fn a_port_in_use_is_told_with_its_holder() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = Port::of_api(taken.local_addr().unwrap());
        let told = port.examine(Expected::Nobody);
        assert_eq!(told.state, State::Fail);
        assert!(told.what.contains(&format!("process {}", std::process::id())), "{told:?}");
        assert!(told.advice.unwrap().contains("api.listen"));
        assert_eq!(port.examine(Expected::Member(Some(std::process::id()))).state, State::Ok);
        assert!(port.examine(Expected::Member(Some(1))).what.contains("not the member"));
        assert_eq!(port.examine(Expected::Starting(Some(1))).state, State::Fail);
        drop(taken);
        assert_eq!(port.examine(Expected::Nobody).state, State::Ok);
        let mesh = Port { setting: "mesh.listen", ..port.clone() };
        for (port, when) in [(&port, "before it reads its log"), (&mesh, "when its log is read")] {
            let starting = port.examine(Expected::Starting(Some(1)));
            assert!(starting.state == State::Ok && starting.what.contains(when), "{starting:?}");
        }
        assert!(port.examine(Expected::Member(None)).advice.unwrap().contains("start it again"));
    }

    #[test]
    fn what_the_system_refuses_is_told_with_what_to_set() {
        let port = port("/ip4/10.0.0.1/udp/7271/quic-v1");
        let told = |kind: ErrorKind| port.judge(Err(kind.into()), Expected::Nobody, || Holder::Unknown);
        assert!(told(ErrorKind::AddrNotAvailable).what.contains("no address of this machine"));
        assert!(told(ErrorKind::PermissionDenied).advice.unwrap().contains("1024"));
        assert!(told(ErrorKind::AddrInUse).what.contains("/proc does not show"));
        assert_eq!(told(ErrorKind::Other).state, State::Fail);
        let hidden = port.judge(Err(ErrorKind::AddrInUse.into()), Expected::Member(Some(3)), || Holder::OfUser(7));
        assert_eq!(hidden.state, State::Ok, "who cannot be seen is taken for the member");
    }
}
