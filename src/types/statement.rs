//! What voters say: rounds, tips, votes, claims.
//!
//! ```text
//! round = [ epoch, view ]
//! tip   = [ round, slot, digest ]
//! claim = tip / null
//! vote  = [ phase, tip, ( seal ) ]
//! ```

use minicbor::{Decode, Encode};

use super::epoch::Seal;
use super::ids::{Digest, Epoch, Slot, View};

/// (epoch, view), compared as a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(array)]
pub struct Round {
    /// The epoch.
    #[n(0)]
    pub epoch: Epoch,
    /// The view within it.
    #[n(1)]
    pub view: View,
}

impl Round {
    /// The next view of the same epoch.
    pub fn next_view(self) -> Round {
        Round { epoch: self.epoch, view: self.view.next() }
    }
}

impl std::fmt::Display for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.epoch, self.view)
    }
}

/// The end of a chain, with the round it was voted or decided in. Compared by round, then slot (rule V6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(array)]
pub struct Tip {
    /// Where it was voted or decided.
    #[n(0)]
    pub round: Round,
    /// Its slot.
    #[n(1)]
    pub slot: Slot,
    /// The chain's digest there.
    #[n(2)]
    pub digest: Digest,
}

impl std::fmt::Display for Tip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{} {}", self.slot, self.round, self.digest.short())
    }
}

/// A voter's highest vote; none if it never voted in this epoch.
pub type Claim = Option<Tip>;

/// One voter's vote: it holds the whole chain up to the tip durably. The phase is 0 (commit) in the crash model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Vote {
    /// Vote phase within the round.
    #[n(0)]
    pub phase: u8,
    /// What is voted for, and in which round.
    #[n(1)]
    pub tip: Tip,
    /// On the end of an epoch, and there always: the vote's proof for those who are not here (rule E3).
    #[n(2)]
    pub seal: Option<Seal>,
}
