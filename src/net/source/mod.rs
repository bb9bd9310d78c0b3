//! Where others may be: sources that yield addresses, and never trust. A key found beside an address is a hint; who is
//! there shows its own, and who is a member the group alone says.
//!
//! Each source is a task that tells all it knows at present, whenever that changes. The local network (`mdns`) is the
//! fifth source: libp2p's own behaviour watches it, in the swarm.

mod dns;
mod file;
mod place;

use std::path::PathBuf;

use libp2p::Multiaddr;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

pub use dns::DnsName;
pub use place::{NotAPlace, Place};

/// The name of the source that the swarm itself is.
pub(super) const MDNS: &str = "mdns";
/// The name of the source that other members are.
pub(super) const ADDRESSES: &str = "addresses";

/// Which sources there are; any number at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Fixed ones.
    pub addresses: Vec<Place>,
    /// Names that are resolved again and again.
    pub dns: Vec<DnsName>,
    /// A file that is read again when it changes.
    pub file: Option<PathBuf>,
    /// The local network, where the mesh listens on more than loopback.
    pub mdns: bool,
}

/// What a source knows at present, in place of what it told before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Where others may be.
    pub finds: Vec<Place>,
    /// Why this is not all that was asked for, for people.
    pub trouble: Option<String>,
}

/// One way to find others.
trait Source: Send + 'static {
    /// What it is called in settings, status and logs.
    const NAME: &'static str;

    /// What it knows, as soon as that is new. Never returns again when it never changes.
    fn next(&mut self) -> impl Future<Output = News> + Send;
}

/// News, and whose they are.
pub(super) type Told = (&'static str, News);

/// What one source says when it is asked just once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it is called in settings, status and logs.
    pub name: &'static str,
    /// Where others may be.
    pub finds: Vec<Place>,
    /// Why this is not all that was asked for, for people.
    pub trouble: Option<String>,
}

impl Sources {
    /// Whether any of them can find anybody, for a mesh that listens there.
    pub fn can_find(&self, listen: &[Multiaddr]) -> bool {
        let told = !self.addresses.is_empty() || !self.dns.is_empty() || self.file.is_some();
        told || (self.mdns && !super::is_loopback_only(listen))
    }

    /// Asks each of them once; not the local network, on which others are heard only after a while.
    pub async fn ask_once(&self) -> Vec<Answer> {
        async fn ask<S: Source>(mut source: S) -> Answer {
            let News { finds, trouble } = source.next().await;
            Answer { name: S::NAME, finds, trouble }
        }
        let mut answers = Vec::new();
        if !self.addresses.is_empty() {
            answers.push(ask(Fixed(Some(self.addresses.clone()))).await);
        }
        if let Some(path) = &self.file {
            answers.push(ask(file::WatchedFile::new(path.clone())).await);
        }
        if !self.dns.is_empty() {
            answers.push(ask(dns::Names::new(self.dns.clone())).await);
        }
        answers
    }
}

/// The sources at work; they end with this.
pub(super) struct Running {
    tasks: Vec<AbortHandle>,
}

impl Running {
    /// Starts every source but the local network. What they tell comes by the channel; a source waits while it is full.
    pub fn start(sources: &Sources, news: &mpsc::Sender<Told>) -> Running {
        let mut tasks = Vec::new();
        if !sources.addresses.is_empty() {
            tasks.push(run(Fixed(Some(sources.addresses.clone())), news.clone()));
        }
        if let Some(path) = &sources.file {
            tasks.push(run(file::WatchedFile::new(path.clone()), news.clone()));
        }
        if !sources.dns.is_empty() {
            tasks.push(run(dns::Names::new(sources.dns.clone()), news.clone()));
        }
        Running { tasks }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

fn run<S: Source>(mut source: S, told: mpsc::Sender<Told>) -> AbortHandle {
    let task = async move {
        loop {
            let news = source.next().await;
            if told.send((S::NAME, news)).await.is_err() {
                break;
            }
        }
    };
    tokio::spawn(task).abort_handle()
}

/// Addresses that never change.
struct Fixed(Option<Vec<Place>>);

impl Source for Fixed {
    const NAME: &'static str = ADDRESSES;

    async fn next(&mut self) -> News {
        match self.0.take() {
            Some(finds) => News { finds, trouble: None },
            None => std::future::pending().await,
        }
    }
}
