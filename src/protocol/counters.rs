//! What happened, counted since the start: for status, metrics and the simulator's coverage.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters of one replica.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[allow(missing_docs)]
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
    views_entered,
    resignations,
    /// Resignations because the record of the view is of an earlier incarnation (L1).
    barred,
    complaints,
    complaints_withdrawn,
    new_views,
    adoptions,
    /// Adoptions of a base with more than one undecided slot.
    adoptions_of_several,
    proposals,
    votes,
    votes_without_new_view,
    fetch_batches,
    fetch_lane,
    fetch_chain,
    fetch_decided,
    slots_by_catchup,
    lanes_closed,
    /// Batches of this member that were ordered although its own disk had lost them.
    own_batches_from_others,
    batches_over_credit,
    relayed,
    repairs,
    pauses_noticed,
    refusals,
    misbehaviour,
}
