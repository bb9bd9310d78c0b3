//! What is known of every other voter.

use std::collections::VecDeque;

use crate::types::peer::Status;
use crate::types::statement::{Claim, Round, Tip};
use crate::types::{ClusterId, Incarnation, Instant, LaneHead, MemberId, Slot, StartNonce, WallTime};

/// Clock samples kept of a peer: the one least delayed on its way tells its clock best.
const CLOCK_SAMPLES: usize = 8;
/// A century and a bit, in nanoseconds.
const CLOCK_FAR: i64 = 1 << 61;

#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub linked: bool,
    /// It votes in the present epoch.
    pub votes: bool,
    /// Since when: silence counts from here at the earliest.
    pub votes_since: Option<Instant>,
    /// When it was last told this member's status.
    pub told: Option<Instant>,
    pub ever_linked: bool,
    pub incarnation: Option<Incarnation>,
    pub nonce: Option<StartNonce>,
    /// Two processes said to be this incarnation: neither is believed.
    pub disputed: Option<Incarnation>,
    /// Rule I1: the highest vote heard of this identity.
    pub highest_vote: Claim,
    /// Its newest status over the present link.
    pub status: Option<Status>,
    pub heard: Option<Instant>,
    /// The highest decided mark it ever told.
    pub decided: Tip,
    /// Cumulative bytes of this member's own lane: sent to it, and reported durable by it (rule N1).
    pub pushed: u64,
    pub acknowledged: u64,
    clocks: VecDeque<i64>,
}

impl Peer {
    pub fn new(cluster: ClusterId) -> Peer {
        Peer {
            linked: false,
            votes: false,
            votes_since: None,
            told: None,
            ever_linked: false,
            incarnation: None,
            nonce: None,
            disputed: None,
            highest_vote: None,
            status: None,
            heard: None,
            decided: Tip { round: Round::default(), slot: Slot(0), digest: cluster },
            pushed: 0,
            acknowledged: 0,
            clocks: VecDeque::new(),
        }
    }

    /// Its complaint about views, if it stands.
    pub fn complains_about(&self, round: Round) -> bool {
        self.votes
            && self.status.as_ref().is_some_and(|status| {
                status.round.epoch == round.epoch && status.complaint.is_some_and(|view| view >= round.view)
            })
    }

    /// Whether it says to have a link to `other`; unknown counts as yes.
    pub fn links_to(&self, other: &MemberId) -> bool {
        self.status.as_ref().is_none_or(|status| status.links.contains(other))
    }

    /// How far it holds `member`'s lanes, by its status.
    pub fn lane_head(&self, member: &MemberId) -> Option<LaneHead> {
        let lanes = &self.status.as_ref()?.lanes;
        lanes.iter().find(|(origin, _)| origin == member).map(|(_, head)| *head)
    }

    /// Compares clocks; differences of more than a century say no more than a century.
    pub fn sample_clock(&mut self, theirs: WallTime, ours: WallTime) {
        let ahead = i128::from(theirs.0) - i128::from(ours.0);
        let ahead = ahead.clamp(-i128::from(CLOCK_FAR), i128::from(CLOCK_FAR)) as i64;
        if self.clocks.len() == CLOCK_SAMPLES {
            self.clocks.pop_front();
        }
        self.clocks.push_back(ahead);
    }

    pub fn forget_clock(&mut self) {
        self.clocks.clear();
    }

    /// How far its clock is ahead of ours, in nanoseconds: the largest recent sample, since every delay makes one smaller.
    /// None before there are enough: one that waited in a queue says little.
    pub fn clock_ahead(&self) -> Option<i64> {
        self.clocks.iter().max().copied().filter(|_| self.clocks.len() == CLOCK_SAMPLES)
    }
}
