//! Floor 4: the host API, version 1, over loopback TCP and a Unix socket alike.
//!
//! | file | duty |
//! |---|---|
//! | `accept` | the accept loop: clients in, clients out, stop |
//! | `socket` | gives up on clients who take nothing |
//! | `listen` | the Unix socket's file |
//! | `routes` | the route table; who may come in |
//! | `request`, `body`, `document`, `media`, `json` | what a request says, within bounds |
//! | `publish` | one message, from the request to its outcome |
//! | `membership` | invites, leaving, removing, how many vote: likewise |
//! | `drain` | lets the member finish |
//! | `order`, `tickets`, `outcome` | inputs for the driver, and what becomes of them |
//! | `read`, `page`, `tail` | the order, as pages and as endless lines |
//! | `source`, `event`, `system_event` | the order as CloudEvents, encoded once for everybody |
//! | `status` | what this member says about itself |
//! | `members`, `epochs` | who is a member; every epoch with its proof |
//! | `problem` | every refusal |
//! | `client` | the other side, for the command line and for tests |
//!
//! One task per connection and one per listener; reads of the log and work on large bodies go to the runtime's blocking
//! threads. Nothing here is asked by the driver but [`Tickets::complete`], which does not block.

mod accept;
mod body;
pub mod client;
mod document;
mod drain;
mod epochs;
mod event;
mod json;
pub mod listen;
mod media;
mod members;
mod membership;
mod order;
mod outcome;
mod page;
mod problem;
mod publish;
mod read;
mod request;
mod routes;
mod socket;
mod source;
mod status;
mod system_event;
mod tail;
mod tickets;
pub mod waiting;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use warp::http::StatusCode;
use warp::http::header::{CONTENT_TYPE, HeaderValue};
use warp::reply::Response;

use crate::delivery::DeliveryReader;
use crate::driver::LogFigures;
use crate::driver::inbox::InboxSender;
use crate::types::join_code::SECRET_BYTES;
use crate::types::{Genesis, Instant, MemberId, Now, Position, Readiness, Snapshot, limits};

pub use tickets::Tickets;

use body::Bodies;
use source::Source;

/// How the API is served.
pub struct ApiSettings {
    /// The TCP listener. Beyond loopback it needs a token.
    pub tcp: Option<TcpListener>,
    /// The Unix socket; its file's mode says who may use it, so it asks for no token ([`listen::unix_socket`]).
    pub unix: Option<UnixListener>,
    /// How long a publish waits for its outcome. 10 s by default.
    pub publish_timeout: Duration,
    /// The group's bound for a message's body, in bytes.
    pub message_bytes_max: u64,
    /// What clients over TCP must send as `Authorization: Bearer`, if anything.
    pub token: Option<String>,
    /// How long a client may take nothing: [`limits::READER_STALL_MAX`], shorter only in tests.
    pub reader_stall_max: Duration,
    /// Connections of each listener; [`limits::CONNECTIONS_MAX`] if the system has descriptors for them.
    pub connections_max: usize,
    /// A driver that has not turned for this long stands still. Longer than it ever waits by itself.
    pub driver_silence_max: Duration,
}

impl ApiSettings {
    /// The defaults, without any listener.
    pub fn new(message_bytes_max: u64) -> ApiSettings {
        ApiSettings {
            tcp: None,
            unix: None,
            publish_timeout: Duration::from_secs(10),
            message_bytes_max,
            token: None,
            reader_stall_max: limits::READER_STALL_MAX,
            connections_max: limits::CONNECTIONS_MAX,
            driver_silence_max: limits::DRIVER_SILENCE_MAX,
        }
    }

    /// Whether it may be served like that.
    pub fn check(&self) -> Result<(), CannotServe> {
        let Some(tcp) = &self.tcp else { return Ok(()) };
        let address = tcp.local_addr()?;
        if !address.ip().is_loopback() && self.token.is_none() {
            return Err(CannotServe::NoToken(address));
        }
        Ok(())
    }
}

/// What the API needs of the member.
pub struct Host {
    /// The group's first word, which proves its cluster id.
    pub genesis: Genesis,
    /// Where its key and its log are: an absolute path, for the status.
    pub data_dir: PathBuf,
    /// The driver's queue.
    pub inbox: InboxSender,
    /// Where the driver's outcomes arrive.
    pub tickets: Arc<Tickets>,
    /// The order.
    pub delivery: DeliveryReader,
    /// The last position that can be read.
    pub delivered: watch::Receiver<Position>,
    /// What the driver observed last; none before it runs.
    pub observed: watch::Receiver<Option<Observation>>,
    /// Whether the start is finished: the log is read, the driver runs.
    pub started: watch::Receiver<bool>,
    /// Whether a drain is done: everything accepted is ordered and durable, and this member does not lead.
    pub drained: watch::Receiver<bool>,
    /// The driver's clocks.
    pub now: Box<dyn Fn() -> Now + Send + Sync>,
    /// Secrets of join codes.
    pub random: Box<dyn Fn() -> std::io::Result<[u8; SECRET_BYTES]> + Send + Sync>,
    /// An address of a member with its key behind it, for join codes: there nobody else is told the secret.
    pub door_of: fn(&MemberId, &str) -> Option<String>,
    /// What an operator should see to, for the status; empty if all is well.
    pub warnings: Box<Warnings>,
    /// The mesh's figures about its links, for the status.
    pub links: Box<dyn Fn() -> serde_json::Value + Send + Sync>,
}

/// What there is to warn of, each for people.
pub type Warnings = dyn Fn(&Snapshot) -> Vec<String> + Send + Sync;

/// What the driver said of itself, and when.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The member.
    pub snapshot: Snapshot,
    /// Its log.
    pub log: LogFigures,
    /// By the driver's clock.
    pub at: Instant,
}

impl Observation {
    /// Everything that stands in the way of serving at this moment by the driver's clock, the driver included if it has not
    /// turned for `driver_silence_max`.
    pub fn obstacles(&self, now: Instant, driver_silence_max: Duration) -> Vec<String> {
        let mut obstacles = match &self.snapshot.readiness {
            Readiness::Ready => Vec::new(),
            Readiness::NotReady(reasons) => reasons.clone(),
        };
        let silence = now.since(self.at);
        if silence >= driver_silence_max {
            obstacles.push(format!("the driver has not turned for {} s: its disk may hang", silence.as_secs()));
        }
        obstacles
    }
}

/// Why the API is not served. Nothing was.
#[derive(Debug, thiserror::Error)]
pub enum CannotServe {
    /// Anybody on the network could publish.
    #[error("the API listens at {0}, which is beyond loopback: that needs a token")]
    NoToken(SocketAddr),
    /// A listener that does not know where it listens.
    #[error("the API's TCP listener: {0}")]
    Listener(#[from] std::io::Error),
}

/// Serves until `stop` is true (or its sender is gone): then accepts nobody any more, ends live tails and long polls,
/// and returns when the requests that run are answered.
pub async fn serve(settings: ApiSettings, host: Host, stop: watch::Receiver<bool>) -> Result<(), CannotServe> {
    settings.check()?;
    let api = Arc::new(Api {
        source: Arc::new(Source::new(host.delivery.clone())),
        publish_timeout: settings.publish_timeout,
        message_bytes_max: settings.message_bytes_max,
        driver_silence_max: settings.driver_silence_max,
        token: settings.token,
        bodies: Bodies::new(),
        inbox_room: Arc::new(Semaphore::new(limits::INBOX_BYTES)),
        stalled: Arc::default(),
        stop: stop.clone(),
        host,
    });
    let serving = |guarded| accept::Serving {
        filter: routes::filter(api.clone(), guarded),
        connections_max: settings.connections_max,
        stall_max: settings.reader_stall_max,
        stalled: api.stalled.clone(),
        finish_max: settings.publish_timeout + limits::PUBLISH_ANSWER_MARGIN,
    };
    let tcp = async {
        if let Some(listener) = settings.tcp {
            serving(true).run(listener, stop.clone()).await;
        }
    };
    let unix = async {
        if let Some(listener) = settings.unix {
            serving(false).run(listener, stop.clone()).await;
        }
    };
    tokio::join!(tcp, unix);
    Ok(())
}

/// What every route has at hand.
struct Api {
    host: Host,
    source: Arc<Source>,
    publish_timeout: Duration,
    message_bytes_max: u64,
    driver_silence_max: Duration,
    token: Option<String>,
    bodies: Bodies,
    inbox_room: Arc<Semaphore>,
    /// Clients closed because they took nothing.
    stalled: Arc<AtomicU64>,
    stop: watch::Receiver<bool>,
}

/// Waits for the stop. A sender that is gone is one.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A JSON answer.
fn reply(status: StatusCode, document: &serde_json::Value) -> Response {
    let mut response = Response::new(document.to_string().into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
