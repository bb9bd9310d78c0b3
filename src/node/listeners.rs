//! Every address a member listens on, taken early: what cannot be used is told before anything is read or sent.

use libp2p::multiaddr::Multiaddr;
use tokio::net::{TcpListener, UnixListener};

use super::settings::Settings;
use crate::api::listen::{self, SocketFile};
use crate::net::listen_address;

/// The host API's listeners.
pub struct Listeners {
    /// HTTP over TCP.
    pub tcp: TcpListener,
    /// The Unix socket.
    pub unix: UnixListener,
    /// Its file.
    pub socket_file: SocketFile,
}

/// What cannot be listened on, all at once. Nothing was read or sent.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen:\n  - {}", .0.join("\n  - "))]
pub struct CannotListen(pub Vec<String>);

impl Listeners {
    /// Takes the API's listeners, and makes sure that the mesh's addresses are free: libp2p shares ports silently. The
    /// Unix socket comes last, since it leaves a file: when anything else cannot be used, there is none.
    pub async fn take(settings: &Settings, mesh: &[Multiaddr]) -> Result<Listeners, CannotListen> {
        let tcp = Listeners::tcp(settings, mesh).await?;
        let (unix, socket_file) =
            listen::unix_socket(&settings.api.socket).await.map_err(|error| CannotListen(vec![error.to_string()]))?;
        Ok(Listeners { tcp, unix, socket_file })
    }

    /// Makes sure that everything could be taken just now, and leaves it.
    pub async fn check(settings: &Settings, mesh: &[Multiaddr]) -> Result<(), CannotListen> {
        Listeners::tcp(settings, mesh).await.map(drop)
    }

    /// The listener over TCP, if all the others could be taken, too.
    async fn tcp(settings: &Settings, mesh: &[Multiaddr]) -> Result<TcpListener, CannotListen> {
        let mut mistakes = Vec::new();
        let address = settings.api.listen;
        let tcp = TcpListener::bind(address).await.map_err(|error| {
            mistakes.push(format!(
                "the host API at {address} (api.listen): {error}; stop what uses the port, or set another one"
            ));
        });
        for address in mesh {
            if let Some((transport, socket)) = listen_address(address)
                && let Err(error) = transport.free_port(socket)
            {
                mistakes.push(format!(
                    "the mesh at {address} (mesh.listen, or genesis): {error}; stop what uses the port, or set another one"
                ));
            }
        }
        if let Err(error) = listen::check(&settings.api.socket).await {
            mistakes.push(error.to_string());
        }
        match tcp {
            Ok(tcp) if mistakes.is_empty() => Ok(tcp),
            _ => Err(CannotListen(mistakes)),
        }
    }
}
