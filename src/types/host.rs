//! What passes between the ordering core and the hosts: publishes in, outcomes, deliveries and the member's state out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::batch::BatchHeader;
use super::configuration::Configuration;
use super::door::Standing;
use super::epoch::EpochLink;
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
    /// A membership command that was ordered and changed nothing: it did not apply any more.
    WithoutEffect {
        /// Why, for people.
        reason: String,
    },
    /// This member has left: nothing of it is missing, and the process may end.
    Left,
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
    /// This member is leaving, or is no member any more.
    #[error("this member {0} and accepts no more messages; publish through another one")]
    Gone(&'static str),
    /// A membership command that the group could not follow, or that makes no sense; nothing was changed.
    #[error("{code}: {reason}")]
    Membership {
        /// Stable, for programs: `unknown_member`, `last_voter`, `no_quorum`, `already_leaving`, `already_so`, `bad_target`, `former_member`.
        code: &'static str,
        /// For people, with what to do.
        reason: String,
    },
    /// The disk is full.
    #[error("disk_full: {0}; free space on the volume of data_dir, the member recovers by itself")]
    DiskFull(String),
}

/// What is decided and durable here, with its place: a batch, or the end of an epoch. Positions `first ..` are its messages,
/// in order; a membership command without effect has none.
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
    /// What it is.
    pub kind: DeliveredKind,
    /// Where its bytes stand in the log.
    pub location: Location,
    /// Its bytes, if they are in memory (they are not while the log is replayed).
    pub bytes: Option<Bytes>,
}

impl Delivered {
    /// Who sealed it, if it is a batch.
    pub fn header(&self) -> Option<&BatchHeader> {
        match &self.kind {
            DeliveredKind::Batch(header) => Some(header),
            DeliveredKind::EpochEnd => None,
        }
    }
}

/// What is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveredKind {
    /// A batch, with who sealed it and in which lane: messages of hosts, or one membership command.
    Batch(BatchHeader),
    /// The end of an epoch; its bytes are the entry's. It takes one position.
    EpochEnd,
}

/// What a member is just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Orders batches.
    Leader,
    /// Votes.
    Follower,
    /// Receives everything and does not vote.
    Learner,
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
    /// Every other member that this one has, or wants, a link to.
    pub peers: Vec<PeerSnapshot>,
    /// The agreed membership, as far as it is decided here. Shared: it changes seldom.
    pub membership: Arc<MembershipSnapshot>,
    /// What a leave, or a due change of the voters, waits for; for people.
    pub waits_for: Vec<String>,
    /// Whether this member is leaving.
    pub leaving: bool,
    /// A learner that catches up: the slot it had at the start and the one it goes for.
    pub catching_up: Option<(Slot, Slot)>,
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

/// The agreed membership at one point of the order.
#[derive(Clone, Debug)]
pub struct MembershipSnapshot {
    /// The configuration of the present epoch: voters in leader order, how many are to vote.
    pub configuration: Configuration,
    /// The newest epoch that is known to be established.
    pub established: Epoch,
    /// How many members are to vote from the next epoch on.
    pub voters_target: u32,
    /// Every member, in the order of the ids.
    pub members: Vec<MemberSnapshot>,
    /// Keys that were members, in the order of the keys.
    pub former: Vec<(MemberId, Standing)>,
    /// Every epoch, from 0 on.
    pub epochs: Vec<EpochSnapshot>,
    /// Invites that nobody has used.
    pub invites: u64,
}

impl MembershipSnapshot {
    /// Before anything was read: nobody is known but the voters.
    pub fn of_genesis(configuration: Configuration) -> MembershipSnapshot {
        MembershipSnapshot {
            established: configuration.epoch,
            voters_target: configuration.voters_target,
            members: Vec::new(),
            former: Vec::new(),
            epochs: Vec::new(),
            invites: 0,
            configuration,
        }
    }
}

/// One member by the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSnapshot {
    /// Its key.
    pub id: MemberId,
    /// Its name for people.
    pub name: String,
    /// Where its mesh listens.
    pub addresses: Vec<String>,
    /// Whether it votes in the present epoch.
    pub votes: bool,
    /// The incarnation of its newest lane that is ordered; 0 before the first.
    pub incarnation: Incarnation,
    /// The epoch in which it became a member.
    pub since: Epoch,
    /// The position of its joining; 0 for those of the genesis.
    pub joined: Position,
    /// It has said that it may vote, in its present incarnation (rule E5).
    pub ready: bool,
    /// It has left or was removed and keeps its vote until another member takes it.
    pub leaving: Option<Standing>,
    /// Voters that have not heard it for their `replace_after` (rule E4).
    pub suspected_by: Vec<MemberId>,
}

/// One epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochSnapshot {
    /// Who voted in it and by which rules.
    pub configuration: Configuration,
    /// The position at which it began: that of the end of the one before it; 0 for epoch 0.
    pub began: Position,
    /// The slot of that end.
    pub slot: Slot,
    /// Its proof; none for epoch 0, which the cluster id proves.
    pub proof: Option<EpochLink>,
}
