//! What happened, counted since the start: for status, metrics and the simulator's coverage.

/// Counters of one replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counters {
    pub views_entered: u64,
    pub resignations: u64,
    /// Resignations because the record of the view is of an earlier incarnation (L1).
    pub barred: u64,
    pub complaints: u64,
    pub complaints_withdrawn: u64,
    pub new_views: u64,
    pub adoptions: u64,
    /// Adoptions of a base with more than one undecided slot.
    pub adoptions_of_several: u64,
    pub proposals: u64,
    pub votes: u64,
    pub votes_without_new_view: u64,
    pub fetch_batches: u64,
    pub fetch_lane: u64,
    pub fetch_chain: u64,
    pub fetch_decided: u64,
    pub slots_by_catchup: u64,
    pub lanes_closed: u64,
    /// Batches of this member that were ordered although its own disk had lost them.
    pub own_batches_from_others: u64,
    pub batches_over_credit: u64,
    pub relayed: u64,
    pub repairs: u64,
    pub pauses_noticed: u64,
    pub refusals: u64,
    pub misbehaviour: u64,
}
