//! The fault model: a type with five members and nothing else, so that both models share everything but these.

use crate::types::peer::PeerMessage;
use crate::types::statement::Claim;

/// What a group of `n` voters tolerates, and how many of them decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorums {
    /// Voters that may fail.
    pub faults: usize,
    /// Equal votes that decide.
    pub quorum: usize,
}

/// Where the fault models differ.
pub trait FaultModel: 'static {
    /// Vote phases within one round.
    const PHASES: u8;
    /// What accompanies a statement and proves who made it.
    type Auth: Default;
    /// f and q for `n` voters.
    fn quorums(n: usize) -> Quorums;
    /// Whether a claim may be counted, by what accompanies it.
    fn admissible(claim: &Claim, auth: &Self::Auth) -> bool;
    /// Whether this many members' word proves the statement.
    fn believes(statement: &PeerMessage, senders: usize) -> bool;
}

/// Members stop and come back, and never lie: n = 2f+1, one vote phase, and the channel names the speaker.
#[derive(Clone, Copy, Debug)]
pub struct Crash;

/// The libp2p channel has authenticated the sender; nothing accompanies the statement itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channel;

impl FaultModel for Crash {
    const PHASES: u8 = 1;
    type Auth = Channel;

    fn quorums(n: usize) -> Quorums {
        Quorums { faults: (n - 1) / 2, quorum: n / 2 + 1 }
    }

    fn admissible(_: &Claim, Channel: &Channel) -> bool {
        true
    }

    fn believes(_: &PeerMessage, senders: usize) -> bool {
        senders >= 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// openraft #1802: a quorum was counted that never existed. Any two of ours share a voter, at every size.
    #[test]
    fn any_two_quorums_share_a_voter() {
        for n in 1..=9 {
            let Quorums { faults, quorum } = Crash::quorums(n);
            assert!(2 * quorum > n, "two quorums of {n} may be disjoint");
            assert!(quorum + faults <= n, "{faults} failures of {n} leave no quorum");
        }
    }
}
