//! What passes between the ordering core and the hosts: publishes in, outcomes, deliveries and the member's state out.

use std::time::Duration;

use bytes::Bytes;

use super::batch::BatchHeader;
use super::ids::{ClusterId, Epoch, Incarnation, MemberId, MessageId, Position, Slot, StartNonce};
use super::message::Message;
use super::record::Location;
use super::statement::Round;
use super::time::{Hlc, Instant};

/// Names one publish between an adapter and the core; chosen by the adapter, unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a publisher waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Durable here: it will get its place in the order.
    Accepted,
    /// Decided on a quorum's disks and durable here: it has its position.
    Ordered,
}

/// One publish.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Where the outcome goes.
    pub ticket: Ticket,
    /// What the publisher waits for.
    pub ack: Ack,
    /// The message; its body is at most the group's `message_bytes_max`.
    pub message: Message,
    /// When the publisher stops waiting.
    pub deadline: Instant,
}

/// The last word on one publish; each ticket gets exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Durable here; will be ordered.
    Accepted {
        /// Its identity.
        id: MessageId,
    },
    /// Ordered.
    Ordered {
        /// Its identity.
        id: MessageId,
        /// Its position.
        position: Position,
        /// In which epoch it was decided.
        epoch: Epoch,
        /// Its clock reading.
        hlc: Hlc,
    },
    /// Certainly not ordered, now or ever.
    Rejected(Rejection),
    /// Sealed in the lane when the deadline passed: perhaps ordered, now or later.
    OutcomeUnknown {
        /// Its identity.
        id: MessageId,
    },
}

/// Why a publish was refused before it was sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The member is draining.
    #[error("this member is draining and accepts no more messages; publish through another one")]
    Draining,
    /// The body is over the group's bound.
    #[error("the body has {bytes} bytes, the group allows {most} (limits.message_bytes_max in genesis.toml)")]
    TooLarge {
        /// What was sent.
        bytes: u64,
        /// What the group allows.
        most: u64,
    },
    /// Too much waits in the intake.
    #[error("{waiting} messages wait to be sealed, which is the bound; publish again later")]
    IntakeFull {
        /// Messages that wait.
        waiting: u64,
    },
    /// Still in the intake at the deadline: nothing is being ordered.
    #[error(
        "still waiting to be sealed when its time was up: {unordered} earlier messages of this member are not ordered yet"
    )]
    TimedOut {
        /// Sealed and unordered messages ahead of it.
        unordered: u64,
    },
    /// The disk is full.
    #[error("disk_full: {0}; free space on the volume of data_dir, the member recovers by itself")]
    DiskFull(String),
}

/// A batch that is decided and durable here, with its place. Positions `first ..= last()` are its messages, in order.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// Position of its first message.
    pub first: Position,
    /// Messages that take a position.
    pub count: u64,
    /// The slot that decided it.
    pub slot: Slot,
    /// The epoch it was decided in.
    pub epoch: Epoch,
    /// Clock reading of its first message; message i has `hlc + i`.
    pub hlc: Hlc,
    /// Who sealed it, in which lane.
    pub header: BatchHeader,
    /// Where its bytes stand in the log.
    pub location: Location,
    /// Its bytes, if they are in memory (they are not while the log is replayed).
    pub bytes: Option<Bytes>,
}

/// What a member is just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Orders batches.
    Leader,
    /// Votes.
    Follower,
}

/// Whether the member serves what the group has, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Caught up, in touch with a quorum.
    Ready,
    /// Everything that stands in the way, for people.
    NotReady(Vec<String>),
}

/// A member's state at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The group.
    pub cluster: ClusterId,
    /// This member.
    pub member: MemberId,
    /// Its start.
    pub incarnation: Incarnation,
    /// This start's nonce.
    pub nonce: StartNonce,
    /// Its role.
    pub role: Role,
    /// Its durable round.
    pub round: Round,
    /// The leader of that round.
    pub leader: MemberId,
    /// Last position decided, as far as this member knows the messages.
    pub decided: Position,
    /// Last position handed to subscribers.
    pub delivered: Position,
    /// Last slot decided here.
    pub slot_decided: Slot,
    /// Last slot anybody is known to have decided.
    pub slot_known: Slot,
    /// Sealed here and not yet ordered: batches and bytes.
    pub lane_unordered: (u64, u64),
    /// Waiting in the intake: messages and bytes.
    pub intake: (u64, u64),
    /// The slowest recent sync.
    pub sync_slowest: Duration,
    /// This member's clock against the voters' median, in milliseconds.
    pub clock_offset_ms: i64,
    /// Views entered since the start.
    pub views_entered: u64,
    /// Messages of peers that broke a rule of the protocol, since the start.
    pub misbehaviour: u64,
    /// Whether the member is draining.
    pub draining: bool,
    /// Whether it is ready, and if not, why.
    pub readiness: Readiness,
    /// Every other voter.
    pub peers: Vec<PeerSnapshot>,
}

/// What is known of another member.
#[derive(Clone, Debug)]
pub struct PeerSnapshot {
    /// Which.
    pub member: MemberId,
    /// Whether there is a link.
    pub linked: bool,
    /// Its incarnation, if ever heard.
    pub incarnation: Option<Incarnation>,
    /// Time since its last word, if ever heard.
    pub silent: Option<Duration>,
    /// Its round by its last status.
    pub round: Option<Round>,
    /// Last slot it said to have decided.
    pub slot_decided: Slot,
    /// Members it says to have links to.
    pub links: Vec<MemberId>,
}
