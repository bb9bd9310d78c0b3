//! What happened, counted since the start: for scenarios and the simulator's coverage.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters of one replica.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64),* }

        impl Counters {
            /// Every counter with its name.
            pub fn rows(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

counters! {
    /// Views entered after the first.
    views_entered,
    /// Views this member led and left by its own word (V3).
    resignations,
    /// Resignations because the record of the view is of an earlier incarnation (L1).
    barred,
    /// Complaints raised about a view (V4).
    complaints,
    /// Complaints whose reason went away.
    complaints_withdrawn,
    /// Bases fixed as the leader of a view (V6).
    new_views,
    /// Bases adopted.
    adoptions,
    /// Adoptions of a base with more than one undecided slot.
    adoptions_of_several,
    /// Slots proposed as a leader.
    proposals,
    /// Votes given.
    votes,
    /// First votes of a view given to a proposal, NewView having been missed.
    votes_without_new_view,
    /// Requests for batches by digest.
    fetch_batches,
    /// Requests for what follows in a member's lanes.
    fetch_lane,
    /// Requests for undecided entries.
    fetch_chain,
    /// Requests for decided slots.
    fetch_decided,
    /// Slots decided by a peer's word and its log.
    slots_by_catchup,
    /// Lanes that ended because a later incarnation was ordered.
    lanes_closed,
    /// Batches of this member that were ordered although its own disk had lost them.
    own_batches_from_others,
    /// Batches dropped because too many of their lane were pending (N1).
    batches_over_credit,
    /// Batches and slots passed on between members that have no link (V5).
    relayed,
    /// Damaged logs repaired from peers.
    repairs,
    /// Times this process stood still (V4).
    pauses_noticed,
    /// Membership commands sealed.
    commands,
    /// Epochs that began here.
    epochs_begun,
    /// Voters that this one said to be silent (E4).
    suspicions,
    /// Suspicions taken back.
    suspicions_withdrawn,
    /// LeaveIntents of this member that had no effect.
    leaves_without_effect,
    /// Knocks at the doors of members that do not know this one.
    knocks,
    /// Chains of epochs told at a door unasked.
    told_at_doors,
    /// Pieces of the order asked of several members at once.
    pieces_fetched,
    /// Feeders given up because they did not answer.
    feeders_changed,
    /// Hellos refused (I1).
    refusals,
    /// Messages of peers that broke a rule, dropped.
    misbehaviour,
}
