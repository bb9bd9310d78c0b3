//! What the mesh counts, for the status and the metrics.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libp2p::Multiaddr;

use super::finding::SourceFigures;
use super::transport::Transport;
use crate::types::peer::Refusal;
use crate::types::{ClusterId, MemberId};

/// The mesh at one moment. Counters run from the start of the process.
#[derive(Clone, Debug, Default)]
pub struct MeshFigures {
    /// Where we listen.
    pub listen: Vec<Multiaddr>,
    /// How others are found.
    pub discovery: DiscoveryFigures,
    /// What was announced.
    pub gossip: GossipFigures,
    /// Everybody else on the roster, in its order.
    pub peers: Vec<PeerFigures>,
    /// Peers that we refused, by reason; strangers included.
    pub refused: BTreeMap<&'static str, u64>,
    /// Refusals that we got, by reason.
    pub refused_by_others: BTreeMap<&'static str, u64>,
    /// Frames that were no message of this protocol; their links were closed.
    pub malformed: u64,
    /// Streams that ended inside a frame, as they do when a process is killed.
    pub truncated: u64,
}

/// How others are found.
#[derive(Clone, Debug, Default)]
pub struct DiscoveryFigures {
    /// What each source tells.
    pub sources: Vec<SourceFigures>,
    /// Groups of our name with another genesis: met, and never merged with.
    pub foreign_groups: Vec<ForeignGroup>,
    /// How others see the addresses that we dial from.
    pub observed: Vec<Multiaddr>,
}

/// What was announced by gossip.
#[derive(Clone, Debug, Default)]
pub struct GossipFigures {
    /// Members with a connection that listen.
    pub listeners: u64,
    /// Announcements made here.
    pub announced: u64,
    /// Announcements of others that were news.
    pub heard: u64,
    /// What came and was no announcement of this group.
    pub malformed: u64,
    /// Bytes received on streams of gossip.
    pub bytes_in: u64,
    /// Bytes sent on them.
    pub bytes_out: u64,
}

/// A group of our name that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignGroup {
    /// The name of both.
    pub name: String,
    /// Its id.
    pub cluster: ClusterId,
    /// Which of its members was met last.
    pub member: MemberId,
    /// Where, for people.
    pub place: String,
    /// Whether it only said so itself, when it asked us.
    pub claimed: bool,
}

/// One other member.
#[derive(Clone, Debug)]
pub struct PeerFigures {
    /// Who.
    pub peer: MemberId,
    /// Its name for people.
    pub name: String,
    /// Whether there is a link, which both sides may use.
    pub linked: bool,
    /// What carries the link.
    pub transport: Option<Transport>,
    /// What was last in the way of a link: a dial that failed, or a refusal. None since the last link came up, unless
    /// another process of that member came since, and was refused.
    pub trouble: Option<String>,
    /// Of the last answered ping.
    pub round_trip: Option<Duration>,
    /// Links there were.
    pub links: u64,
    /// Frames received.
    pub frames_in: u64,
    /// Frames sent.
    pub frames_out: u64,
    /// Bytes received, headers included.
    pub bytes_in: u64,
    /// Bytes sent, headers included.
    pub bytes_out: u64,
    /// Messages dropped because a queue was full.
    pub dropped: u64,
    /// Bytes that wait on the urgent stream.
    pub urgent_queue_bytes: usize,
    /// Bytes that wait on the bulk stream.
    pub bulk_queue_bytes: usize,
}

/// Counters of one peer.
#[derive(Default)]
pub(super) struct Counters {
    pub links: Counter,
    pub frames_in: Counter,
    pub frames_out: Counter,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    pub dropped: Counter,
    pub round_trip_micros: Counter,
}

/// Counters of the whole mesh.
#[derive(Default)]
pub(super) struct Totals {
    pub refused: Reasons,
    pub refused_by_others: Reasons,
    pub malformed: Counter,
    pub truncated: Counter,
    pub gossip_listeners: Counter,
    pub announced: Counter,
    pub heard: Counter,
    pub malformed_announcements: Counter,
}

/// A number that others may read at any time.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number for each reason.
#[derive(Default)]
pub(super) struct Reasons(Mutex<BTreeMap<&'static str, u64>>);

impl Reasons {
    pub fn count(&self, refusal: &Refusal) {
        *self.0.lock().expect("counting never panics").entry(reason(refusal)).or_default() += 1;
    }

    pub fn values(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().expect("counting never panics").clone()
    }
}

/// A refusal's name in figures and metrics.
pub fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Version { .. } => "version",
        Refusal::Cluster { .. } => "cluster",
        Refusal::Configuration { .. } => "configuration",
        Refusal::NotAMember(_) => "not_a_member",
        Refusal::StaleDisk { .. } => "stale_disk",
        Refusal::TwoProcesses(_) => "two_processes",
        Refusal::Malformed(_) => "malformed",
        Refusal::Departed { .. } => "departed",
    }
}
