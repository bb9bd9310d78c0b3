//! Why a member stops for good. Each of these means that going on could break a promise.

use crate::types::peer::Refusal;
use crate::types::statement::Tip;
use crate::types::{Epoch, MemberId, Standing};

/// The process must end; nothing was sent after the cause was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// Rule L1: two claims equal in round and slot name two chains.
    #[error(
        "two voters claim {first} and {second}: one round cannot have voted for two chains; keep both logs for examination"
    )]
    TwoDigests {
        /// One claim.
        first: Tip,
        /// The other.
        second: Tip,
    },
    /// Rule V6: what a quorum is said to have decided contradicts what is decided here.
    #[error(
        "{said} is said to be decided or is a view's base, but here {here} is decided; keep all logs for examination"
    )]
    Diverged {
        /// What was said.
        said: Tip,
        /// What is decided here.
        here: Tip,
    },
    /// A decided entry breaks a rule of validity.
    #[error("the decided entry {at} is not valid: {reason}; keep all logs for examination")]
    InvalidDecision {
        /// Which.
        at: Tip,
        /// Which rule.
        reason: &'static str,
    },
    /// Rule Rot: what this member promised can no longer be told from its log.
    #[error(
        "the log is damaged above what is known to be decided ({reason}); this member no longer knows what it promised and \
         must come back as a new one (`synod invite` on another member, `synod join` with a new data directory); this data \
         directory stays as it is"
    )]
    RotAboveDecided {
        /// What is missing.
        reason: String,
    },
    /// Rule I1: a peer has recorded something higher of this identity.
    #[error("member {} refuses this one: {refusal}", peer.short())]
    RefusedAsStale {
        /// Who.
        peer: MemberId,
        /// Its words.
        refusal: Refusal,
    },
    /// Rule E3: two quorums signed two ends of one epoch.
    #[error(
        "two proven ends of epoch {epoch} contradict each other: more voters of that epoch lost or changed their disks than the \
         group tolerates; keep all logs for examination"
    )]
    EpochFork {
        /// Which epoch ended twice.
        epoch: Epoch,
    },
    /// This member is none any more.
    #[error(
        "this member {}; its key is never used again. Messages that it accepted and that were not ordered stay in its data \
         directory; to come back, join with a new data directory (`synod invite` on a member prints a join code)",
        if *standing == Standing::Left { "has left the group" } else { "was removed from the group" }
    )]
    Departed {
        /// Left or removed.
        standing: Standing,
    },
    /// The log holds what is no record of this version.
    #[error("the log cannot be read: {0}")]
    Unreadable(String),
    /// The log belongs to another group.
    #[error("the data directory belongs to another group: its genesis is {theirs}, genesis.toml says {ours}")]
    OtherGroup {
        /// By the log.
        theirs: String,
        /// By the configuration.
        ours: String,
    },
}
