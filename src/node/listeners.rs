//! Every address a member listens on, taken early: what cannot be used is told before anything is read or sent.

use std::net::{SocketAddr, TcpListener as PlainListener};

use libp2p::multiaddr::{Multiaddr, Protocol};
use tokio::net::{TcpListener, UnixListener};

use super::settings::Settings;
use crate::api::listen;

/// The host API's listeners.
pub struct Listeners {
    /// HTTP over TCP.
    pub tcp: TcpListener,
    /// The Unix socket.
    pub unix: UnixListener,
}

/// What cannot be listened on, all at once. Nothing was read or sent.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen:\n  - {}", .0.join("\n  - "))]
pub struct CannotListen(pub Vec<String>);

impl Listeners {
    /// Takes the API's listeners, and makes sure that the mesh's addresses are free: libp2p shares ports silently.
    pub async fn take(settings: &Settings, mesh: &[Multiaddr]) -> Result<Listeners, CannotListen> {
        let mut mistakes = Vec::new();
        let address = settings.api.listen;
        let tcp = TcpListener::bind(address).await.map_err(|error| {
            mistakes.push(format!(
                "the host API at {address} (api.listen): {error}; stop what uses the port, or set another one"
            ));
        });
        let unix = listen::unix_socket(&settings.api.socket).map_err(|error| mistakes.push(error.to_string()));
        for address in mesh {
            if let Some(plain) = socket_address(address)
                && let Err(error) = PlainListener::bind(plain)
            {
                mistakes.push(format!(
                    "the mesh at {address} (mesh.listen, or genesis): {error}; stop what uses the port, or set another one"
                ));
            }
        }
        match (tcp, unix) {
            (Ok(tcp), Ok(unix)) if mistakes.is_empty() => Ok(Listeners { tcp, unix }),
            _ => Err(CannotListen(mistakes)),
        }
    }
}

/// The IP address and TCP port a multiaddress begins with.
pub fn socket_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    match (parts.next()?, parts.next()?) {
        (Protocol::Ip4(ip), Protocol::Tcp(port)) => Some((ip, port).into()),
        (Protocol::Ip6(ip), Protocol::Tcp(port)) => Some((ip, port).into()),
        _ => None,
    }
}
