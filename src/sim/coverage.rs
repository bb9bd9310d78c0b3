//! What really happened, counted: a fault that never falls tests nothing.

use std::fmt;

macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// Counts of what happened in one simulation, or in many.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Coverage { $($(#[$doc])* pub $name: u64),* }

        impl Coverage {
            /// Every row: what is counted, and how often it happened.
            pub fn rows(&self) -> Vec<(&'static str, u64)> {
                vec![$(($text, self.$name)),*]
            }

            /// Adds what happened in another simulation.
            pub fn add(&mut self, other: &Coverage) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

rows! {
    /// Groups of one.
    groups_of_one = "groups of 1 member",
    /// Groups of three.
    groups_of_three = "groups of 3 members",
    /// Groups of five.
    groups_of_five = "groups of 5 members",
    /// Messages published.
    published = "messages published",
    /// Positions given.
    ordered = "messages ordered",
    /// Answers of that kind.
    answered_accepted = "publishes answered: accepted",
    /// Answers of that kind.
    answered_ordered = "publishes answered: ordered",
    /// Answers of that kind.
    answered_rejected = "publishes answered: rejected",
    /// Answers of that kind.
    answered_unknown = "publishes answered: outcome unknown",
    /// Publishes that died with their member and were ordered.
    orphans_ordered = "publishes without an answer, ordered",
    /// Publishes that died with their member and were not.
    orphans_lost = "publishes without an answer, never ordered",
    /// Processes that died; not those that ended by themselves.
    crashes = "crashes",
    /// Of these, the process only: the page cache stays.
    kills = "crashes of the process alone",
    /// Of these, inside a turn.
    crashes_inside_turn = "crashes inside a turn",
    /// Of these, after something left and before the sync that follows.
    crashes_before_sync = "crashes between an early message and its sync",
    /// Of these, right after a sync.
    crashes_after_sync = "crashes between a sync and what waits for it",
    /// Of these, inside a start.
    crashes_inside_start = "crashes inside a start",
    /// Unsynced writes of which a part survived, and a part did not.
    torn_writes = "torn writes",
    /// Starts that cut a torn tail.
    torn_tails = "torn tails cut at a start",
    /// Everybody ran, died, and came back.
    restarts_of_all = "restarts of all at once",
    /// Views entered by a voter.
    views_entered = "views entered",
    /// Bases adopted.
    adoptions = "bases adopted",
    /// Bases with several undecided slots adopted.
    adoptions_of_several = "bases of several undecided slots adopted",
    /// Resignations.
    resignations = "resignations",
    /// Leaders that rule L1 bars.
    barred = "leaders barred after a start",
    /// Requests of that kind.
    fetches_of_batches = "fetches of batches",
    /// Requests of that kind.
    fetches_of_lanes = "fetches of lanes",
    /// Requests of that kind.
    fetches_of_chains = "fetches of undecided chains",
    /// Requests of that kind.
    fetches_of_decided = "fetches of decided slots",
    /// Slots learnt from a peer's log.
    slots_by_catchup = "slots decided by catch-up",
    /// Lanes closed by a batch of a higher incarnation.
    lanes_closed = "lanes closed",
    /// Early batches that the origin's crash lost and the group ordered.
    early_batches_ordered = "early batches lost at their origin and ordered",
    /// Messages lost.
    messages_lost = "messages lost",
    /// Messages doubled.
    messages_doubled = "messages doubled",
    /// Messages that arrive after a later one of their stream.
    messages_overtaken = "messages overtaken",
    /// Messages held behind a silent direction.
    messages_held = "messages stuck behind a silent link",
    /// Links broken.
    links_broken = "links broken",
    /// Partitions that broke links.
    partitions = "partitions",
    /// Links of which one direction went silent.
    one_way_links = "one-way links",
    /// Pairs whose link stays broken while others see both.
    broken_pairs = "pairs without a link",
    /// Pauses.
    pauses = "members paused",
    /// Slow syncs.
    slow_syncs = "slow syncs",
    /// Syncs that failed.
    failed_syncs = "failed syncs",
    /// Clock jumps.
    clock_jumps = "clock jumps",
    /// Bits turned at or below the decided mark.
    rot_repaired = "rot repaired from peers",
    /// Rot after which a member never votes again.
    rot_fatal = "rot that ends an identity",
    /// Disks on which a file could not be made for a while.
    disks_full = "disks full for a while",
    /// Publishes refused for a full disk.
    refused_disk_full = "publishes refused for a full disk",
    /// Drains.
    drains = "members drained and restarted",
    /// Messages that went through their bytes.
    messages_coded = "messages encoded and admitted again",
    /// Epochs that ended.
    epochs_ended = "epochs ended",
    /// Epochs, but the first, in which something was decided.
    epochs_established = "epochs established",
    /// Voters that the next epoch had no more, and somebody else had their vote.
    voters_replaced = "voters replaced",
    /// Epochs with more voters than the one before.
    epochs_larger = "epochs with more voters",
    /// Epochs with fewer voters than the one before.
    epochs_smaller = "epochs with fewer voters",
    /// Ends of epochs that changed more than one seat.
    several_in_one = "ends of epochs that changed several seats",
    /// Commands that took effect.
    invited = "invites",
    /// Commands that took effect.
    joined = "joins",
    /// Commands that took effect.
    left = "leaves",
    /// Commands that took effect.
    removed = "removals",
    /// Commands that took effect.
    configured = "targets of voters changed",
    /// Commands that took effect.
    suspected = "suspicions",
    /// Commands that took effect.
    unsuspected = "suspicions withdrawn",
    /// Commands that took effect.
    ready = "learners ready",
    /// Commands that took effect.
    moved = "moves to another address",
    /// LeaveIntents that let nobody go.
    leaves_without_effect = "leaves decided without an effect",
    /// JoinIntents that let nobody in: repeated, or beaten by another.
    joins_without_effect = "joins decided without an effect",
    /// Answers of that kind.
    answered_without_effect = "commands answered: without effect",
    /// Answers of that kind.
    refused_gone = "publishes refused by a member that leaves",
    /// Answers of that kind.
    refused_membership = "commands refused",
    /// Messages of members that had voted and were replaced.
    ordered_of_replaced = "messages ordered of members without their old vote",
    /// Processes that ended because they had left.
    let_go = "members that left and exited",
    /// Processes that ended because they learnt that they are no members.
    departures_learnt = "members that learnt their removal and stopped",
    /// Members that were down while three epochs and more ended.
    sleepers = "members that slept through three epochs and more",
    /// Members whose disk is gone.
    disks_lost = "disks lost",
    /// Joiners that crashed between their knock and its answer.
    joiners_crashed = "joiners that crashed at the door",
    /// Joiners that came back under another address.
    joiners_moved = "joiners that moved",
    /// Operators who acted at the same moment.
    two_operators = "two operators at once",
    /// Refusals at the door.
    unknown_invites = "joins refused: unknown invite",
    /// Refusals at the door.
    used_invites = "joins refused: used invite",
    /// Refusals at the door.
    expired_invites = "joins refused: expired invite",
    /// Refusals at the door.
    former_members = "joins refused: former member",
    /// Refusals at the door.
    no_quorums = "joins refused: no quorum",
    /// Keys that no link was given to.
    strangers_refused = "links refused: not a member",
    /// Keys that no link was given to.
    departed_refused = "links refused: departed",
    /// Chains of epochs said at doors.
    chains_by_door = "chains of epochs told at doors",
    /// Chains of epochs sent over links.
    chains_by_link = "chains of epochs told over links",
    /// False chains of epochs said at doors.
    chains_forged = "forged chains of epochs told at doors",
    /// Geneses that all have promised.
    geneses_made = "geneses made by candidates",
    /// Candidates that became members.
    candidates_founded = "candidates that became members",
    /// Proposals that their proposers dropped.
    proposals_given_up = "proposals of a genesis given up",
    /// Proposals refused because a lower candidate is known.
    proposals_refused_lower = "proposals refused for a lower candidate",
    /// Promises that their proposers released.
    promises_released = "promises of a genesis released",
    /// Candidates that died.
    candidates_killed = "candidates killed",
    /// Of these, while a record was on its way to the disk.
    candidates_killed_writing = "candidates killed while their record was written",
    /// Candidates that started with a proposal, a promise or a genesis.
    candidates_restarted_bound = "candidates restarted with a proposal, a promise or a genesis",
    /// Disks of candidates that are gone, with their keys.
    candidates_disks_lost = "disks of candidates lost",
    /// Candidates that stopped because the group exists.
    candidates_told_of_a_group = "candidates that learnt of a group and stopped",
    /// Refusals of that kind.
    candidates_refused_crowded = "proposals refused by crowded candidates",
    /// Refusals of that kind.
    candidates_refused_differing = "candidates refused for other settings",
    /// Strangers' words to candidates: of a lower one, or of a group that is not there.
    candidates_heard_strangers = "words of strangers to candidates",
    /// Promises whose proposer's disk is gone: their candidates wait.
    candidates_bound_for_good = "candidates bound to a proposer that is gone",
    /// Members of two groups of one name that noticed each other.
    groups_of_one_name_met = "members that met another group of their name",
}

impl Coverage {
    /// Rows that never happened.
    pub fn empty_rows(&self) -> Vec<&'static str> {
        self.rows().into_iter().filter(|(_, count)| *count == 0).map(|(text, _)| text).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (text, count) in self.rows() {
            writeln!(f, "{count:>12}  {text}")?;
        }
        Ok(())
    }
}
