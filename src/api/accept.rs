//! The accept loop: one for TCP, one for the Unix socket, alike.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use warp::Filter;
use warp::reply::Response;

use crate::types::limits;

use super::socket::ImpatientSocket;
use super::stopped;

/// Where clients come from.
pub(super) trait Listener {
    /// A client's connection.
    type Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next client.
    async fn next(&self) -> io::Result<Self::Socket>;
}

impl Listener for TcpListener {
    type Socket = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        let (socket, _) = self.accept().await?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }
}

impl Listener for UnixListener {
    type Socket = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

/// How connections are served.
pub(super) struct Serving<F> {
    /// Answers requests.
    pub(super) filter: F,
    /// Clients at a time; further ones wait in the system's queue.
    pub(super) connections_max: usize,
    /// A client may take nothing for this long.
    pub(super) stall_max: Duration,
    /// Clients closed for taking nothing.
    pub(super) stalled: Arc<AtomicU64>,
    /// Requests get this long to finish after the stop.
    pub(super) finish_max: Duration,
}

impl<F> Serving<F>
where
    F: Filter<Extract = (Response,), Error = warp::Rejection> + Clone + Send + Sync + 'static,
{
    /// Serves clients until the stop; then lets running requests finish, and cuts what does not.
    pub(super) async fn run<L: Listener>(self, listener: L, mut stop: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let mut failing = false;
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.next(), if connections.len() < self.connections_max => match accepted {
                    Ok(socket) => {
                        failing = false;
                        connections.spawn(self.connection(socket, graceful.watcher()));
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut failing, true) {
                            tracing::warn!(%error, "clients cannot be accepted just now");
                        }
                        sleep(limits::ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        if timeout(self.finish_max, graceful.shutdown()).await.is_err() {
            tracing::info!(connections = connections.len(), "closing clients that do not finish");
        }
        connections.shutdown().await;
    }

    /// One client, for as long as it stays. It never fails for anybody but itself.
    fn connection<S>(&self, socket: S, watcher: Watcher) -> impl Future<Output = ()> + Send + use<F, S> + 'static
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let socket = ImpatientSocket::new(socket, self.stall_max, self.stalled.clone());
        let service = TowerToHyperService::new(warp::service(self.filter.clone()));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::REQUEST_HEAD_MAX)
            .max_header_size(limits::REQUEST_HEAD_BYTES)
            .max_buf_size(limits::REQUEST_HEAD_BYTES)
            .serve_connection(TokioIo::new(socket), service);
        let connection = watcher.watch(connection);
        async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a client's connection ended");
            }
        }
    }
}
