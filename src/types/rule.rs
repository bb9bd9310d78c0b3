//! The safety rules that can be switched off one by one to show that the simulator notices (feature `sabotage`).
//! Without that feature [`Sabotage`] is empty and [`Sabotage::upholds`] is always true.

use std::fmt;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// A rule with a switch. The texts of the rules are in `protocol/mod.rs` and `wal/mod.rs`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule { $($(#[$doc])* $name),* }

        impl Rule {
            /// Every rule with a switch.
            pub const ALL: &[Rule] = &[$(Rule::$name),*];

            /// The name used on the command line and in reports.
            pub fn name(self) -> &'static str {
                match self { $(Rule::$name => $text),* }
            }

            /// The rule of that name.
            pub fn named(text: &str) -> Option<Rule> {
                Rule::ALL.iter().copied().find(|rule| rule.name() == text)
            }
        }
    };
}

rules! {
    /// L1: a view is entered by a durable record, and led only by the incarnation that recorded it.
    L1 = "L1",
    /// L2: a lane number is never used for two batches (each start raises the incarnation durably).
    L2 = "L2",
    /// H1: lane order; a batch extends its lane's head or resumes at or below it.
    H1 = "H1",
    /// R1: vote only in the view of the durable record.
    R1 = "R1",
    /// R2: the votes of one view form one chain.
    R2 = "R2",
    /// R3: vote only for a chain held durably, entries and payload.
    R3 = "R3",
    /// R4: one vote per view and slot.
    R4 = "R4",
    /// R6: after a claim for a view, no vote below it.
    R6 = "R6",
    /// R7: durable before sent.
    R7 = "R7",
    /// R10: equal votes only are counted together.
    R10 = "R10",
    /// V1: only q complaints, or the leader itself, open a view.
    V1 = "V1",
    /// V6: the base is held whole and durably before the flip.
    V6Adoption = "V6-adoption",
    /// V6: a claim never goes down.
    V6Claim = "V6-claim",
    /// V6: the base is the maximum of the claims.
    V6Base = "V6-base",
    /// V7: a fetched slot is decided only when it links to one's own decided chain.
    V7 = "V7",
    /// W1: after a start nothing is appended behind a cut.
    W1 = "W1",
    /// W1's other half: a frame's checksum is chained over the frame before it.
    Chain = "chain",
    /// W2: a turn ends with a mark, which tells rot from a torn tail.
    W2 = "W2",
    /// Rot above the decided mark ends this identity's votes and claims.
    Rot = "rot",
    /// Delivery only of what is durable here.
    Delivery = "delivery",
    /// E1: votes and claims belong to one epoch; entering one sets the claim to none.
    E1 = "E1",
    /// E2: the voters of a new epoch vote on its base; until it is established the old ones stay.
    E2 = "E2",
    /// E3: an epoch is entered only by the signed votes of a quorum of the one before it.
    E3 = "E3",
    /// E4: a voter that is replaced keeps its lane.
    E4 = "E4",
    /// E5: a joining voter has said in the log, in its present incarnation, that it is ready.
    E5 = "E5",
    /// R8: nothing is proposed behind the end of an epoch.
    R8 = "R8",
    /// E1's other half: the configuration changes when the end of the epoch is decided, not when it is voted on.
    Undecided = "undecided",
    /// G1: a promise is durable before it is given.
    G1Durable = "G1-durable",
    /// G1: one promise at a time.
    G1Single = "G1-single",
    /// G1: only the proposer releases a promise.
    G1Release = "G1-release",
    /// G1: all promises make a genesis.
    G1All = "G1-all",
    /// G1: a genesis is recorded as made at its proposer before it is told.
    G1Recorded = "G1-recorded",
    /// A quorum is n/2+1.
    Quorum = "quorum",
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which rules are switched off. Nothing can be, in a build without the feature `sabotage`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sabotage {
    #[cfg(feature = "sabotage")]
    off: Vec<Rule>,
}

impl Sabotage {
    /// Every rule upheld.
    pub const NONE: Sabotage = Sabotage {
        #[cfg(feature = "sabotage")]
        off: Vec::new(),
    };

    /// These rules switched off.
    #[cfg(feature = "sabotage")]
    pub fn of(rules: &[Rule]) -> Sabotage {
        Sabotage { off: rules.to_vec() }
    }

    /// Whether the rule holds in this run.
    #[inline]
    pub fn upholds(&self, rule: Rule) -> bool {
        #[cfg(feature = "sabotage")]
        return !self.off.contains(&rule);
        #[cfg(not(feature = "sabotage"))]
        {
            let _ = rule;
            true
        }
    }
}
