//! The ordering core: one sans-IO replica. [`Replica::step`] takes inputs any number of times, then one
//! [`Replica::ready`] hands out everything to be done, each field saying what must be durable before it. No clock, disk,
//! socket, thread, randomness or map-iteration order inside.
//!
//! The lineage is Multi-Paxos and Viewstamped Replication. The collection of claims is the scout of "Clustering by
//! Consensus", the count of one slot's votes the commander, the voter record the acceptor, delivery the replica, the
//! lane the requester.
//!
//! # The rules
//!
//! Code cites them by these names. What is not built yet (dedup, checkpoints, the Byzantine model) has no rule here yet;
//! the names skipped below belong to it.
//!
//! **Setting.** A [`Configuration`](crate::types::Configuration) names cluster, epoch, fault model, rules version, voters
//! in leader order, how many are to vote, and limits; its digest is in every [`Envelope`](crate::types::peer::Envelope). In the crash model
//! f = (n−1)/2 and q = n/2+1, with one vote phase. The [`FaultModel`] is a type with five members and nothing else. The
//! leader of view v is `voters[v mod n]`; (epoch, view), a [`Round`](crate::types::Round), is compared as a pair.
//! n = 1 works: its own complaint would be a quorum, and L1 bars a view after each start.
//!
//! **Chain** (`chain.rs`). Slot s holds an entry; h_s = H(h_{s−1}, cluster, s, H(entry)). The view is not in h, so
//! proposing again keeps the digest; a vote binds epoch, configuration, view, phase, slot and h. Up to four slots are in
//! flight. There are no holes and no no-ops; a claim is one tip; a decided slot decides its ancestors. An entry is a list
//! of batches or an `EpochEnd`, which the leader makes. Every other change of the membership is a
//! [`Command`](crate::types::Command) in the lane of the member that orders it: durable, ordered once, offered again after
//! a restart. One that no longer applies has no effect and no position; one that has, and an `EpochEnd`, has exactly one.
//! Commands pass the bound on own unordered batches. Genesis is slot 0 and h_0 the cluster id; epoch 0 starts on it as
//! every epoch starts on its `EpochEnd`. View 0 of an epoch needs no claims: its leader proposes on that base once its
//! record is durable.
//!
//! Derived state (position, clock, lane heads, membership) has a decided part and an overlay of the undecided chain. A
//! pending batch is given up only for a decided closing of its lane.
//!
//! - **R9** Validity is a function of the chain up to the entry, its payload and the configuration, and of nothing else: no
//!   clock, suspicion, load or local setting makes a voter refuse or delay.
//! - **R11** A linked batch stays orderable as long as its lane is open. What is wrong with a message is settled at
//!   delivery. Limits bind the sealing origin only.
//! - **D1** Derived state is a function of the decided chain and the configuration alone.
//! - **D3** Only decided entries make positions.
//!
//! **Lanes** (`lanes.rs`, `sealing.rs`).
//!
//! - **L2** A lane never uses one (incarnation, number) for two batches: every start raises the incarnation durably before
//!   anything is sealed. Hence a batch may leave before its origin's own disk has it.
//! - **H1** A batch (k, s) is valid on a chain iff its lane is open there and either it continues the lane's head
//!   (k the same, s the next number, linked to its digest), or k is higher, s = 1 and what it *resumes* is at or below the
//!   head, compared as pairs. It resumes the last batch of any lower incarnation that the origin finds readable at its
//!   start. Ordering (k, 1) closes every lower incarnation. Each start seals a first batch at once, empty if need be,
//!   and offers, ahead of it, everything durable and not known to be ordered, bytes unchanged. An origin treats its old
//!   lanes like anyone's.
//! - **V5** The status carries durable lane heads; whoever lacks a batch takes it from any holder. Who sees in the
//!   statuses that the leader and another voter have no link passes that voter's batches on to the leader at once and
//!   feeds that voter decided slots.
//! - **N1** Backpressure is a credit per lane; votes, proposals, fetches and their answers always pass. Payload named by a
//!   proposal or a base is kept outside the pending bound; a batch behind a hole is dropped first. Own unordered batches
//!   are bounded too; beyond the bound messages wait in the intake, and beyond its bound they are rejected.
//!
//! **Normal case** (`views.rs` proposes, `voting.rs` votes and decides, `ballots.rs` counts). The leader, holding the
//! payload, proposes the next slot; a voter in that view whose chain it extends makes payload and entry durable and
//! votes, to all voters; q equal votes decide the slot and its ancestors. Where q is two, a follower's vote to another
//! follower may wait a little for company (`ready.rs`): the other has its own vote and the leader's.
//!
//! - **R1** Vote only in the view of the durable voter record.
//! - **R2** The votes of one view form one chain.
//! - **R3** Vote only for a slot whose whole chain, entries and payload, is held durably.
//! - **R4** One vote per view and slot.
//! - **R6** After a claim for view v, no vote below v.
//! - **R7** Durable before sent.
//! - **R10** Votes are counted plainly, whatever view the counter is in: with the voters of their epoch, per slot, equal
//!   votes only.
//! - **Delivery** and the answer `ordered` are only for what is decided *and* durable on this member's own disk.
//!
//! **Views** (`views.rs`, `status.rs`).
//!
//! - **L1** Entering a round, also view 0, is one durable record {round, configuration digest, claim, incarnation};
//!   nothing of that view leaves before it. A member leads only if that record carries its *present* incarnation and was
//!   durable before; hence a proposal may leave before the leader's own disk has it. Two claims equal in round and slot
//!   with different digests stop the process.
//! - **V1** A voter in view v enters v+1 when q voters complain about views ≥ v; it enters w > v on one statement of view
//!   w by a voter. Only q complaints, or the leader itself, ever open a view: a half-connected member deposes nobody.
//! - **V2** Complaint, claim, NewView, the leader's undecided proposals, the votes of every undecided slot, the decided
//!   mark and the durable lane heads are *state*: sent when they change, right after the hello, and repeated until
//!   overtaken. After a start a member sends and counts its own recorded claim and votes again.
//! - **V3** A leader that L1 bars, that drains, whose disk is full, whose clock runs ahead, or that has itself a reason of
//!   V4, resigns. *A resignation is the leader's own entry into the next view*: its claim and status of view v+1 are
//!   statements of a higher view, and V1 lets everybody follow. No message of its own is needed, and it cannot be lost
//!   while the view it opened is remembered.
//! - **V4** Reasons to complain: no link to the leader; its silence for T_silence; nothing decided for T_progress although
//!   an orderable batch is durable here and the leader was told. Time spent queueing is no reason. A complaint is
//!   withdrawn when its reason is gone. T doubles with each view that decided nothing. A voter that stood still itself
//!   takes its queued inputs first and counts that time for nothing. T_silence is at least four times the slowest recent sync
//!   that the leader's heartbeats report, and those come from the leader's own loop.
//! - **V6** The leader may use any q claims and change its choice until it sends NewView; the base is the maximum by
//!   (epoch, view, slot). It sends NewView only when it holds the whole base chain with payload. Adoption is atomic: hold
//!   the whole chain durably, then flip one record, the vote on the base tip. A claim never goes down. A voter that missed
//!   NewView may vote for any proposal of its view whose whole chain it holds. Who learns a decided slot of a higher view
//!   enters that view. A base that contradicts what is decided below its view stops the process, and so does a decided
//!   mark that is not of the decided chain; a base already overtaken in its own view is ignored.
//! - **V7** (`fetching.rs`) Whoever lacks an entry or batch that was named takes it by digest from any holder. An entry
//!   named by a vote of a view is a proposal of that view. Decided slots fetched from a peer count once they link to
//!   one's own decided chain: they replace an undecided chain that differs, count as no vote and change no claim.
//!
//! **Epochs** (`membership.rs` derives who belongs and who votes; `turnover.rs` goes from one epoch to the next; `epochs.rs`
//! keeps the proofs; `duties.rs` orders what this member has to; `door.rs` speaks to those who do not know the epoch;
//! `feeds.rs` feeds those who do not vote).
//!
//! - **E1** Votes, complaints, claims and NewView belong to one epoch and are inadmissible in any other. Entering an epoch
//!   sets the claim to none, which means base = its `EpochEnd`. The configuration changes when `EpochEnd` is decided, never
//!   when it is stored or voted on. What voters of the next epoch say is kept, within a bound, until it begins here.
//! - **R8** A proposal with an `EpochEnd` of this epoch among its ancestors is invalid, and a leader whose base ends in one
//!   proposes nothing.
//! - **E2** A new epoch starts as a view does: its base is the `EpochEnd`, and voters that hold the whole chain vote on it
//!   in (e+1, 0) at once. The epoch is *established* when anything is decided in it. Until a member knows that, it keeps
//!   and serves everything, and a voter that was let go stays, and is linked, until it knows.
//! - **E3** Votes on an `EpochEnd` are signed. q of them, equal in round, slot, h and digest of the next configuration, are
//!   the certificate: logged before anything of the new epoch, sent with the slot, kept for ever. *An `EpochEnd` is decided
//!   here only by its certificate*, not by a decided mark alone: else a voter that told the mark and lost its disk could
//!   leave a hole in the chain that no quorum could fill again. The chain of certificates begins at the cluster id and may
//!   be known further than the decided chain, and each is a decided mark to whoever knows it. Whoever is behind is told it
//!   over the link or at the *door*, which is open to every key that names the cluster id and gives and takes nothing but
//!   this chain and, with an invite, a `JoinIntent`. Who was removed learns it there, and stops. Two proven ends of one epoch
//!   stop the process.
//! - **E4** A voter that has not heard a voter for `replace_after` orders `Suspect`, and `Unsuspect` when it does; q
//!   standing suspicions by other voters make a replacement due. It takes the vote, not the membership: the lane stays open.
//!   Only leave and remove close a lane. `LeaveIntent` is the last message of its lane. It is sealed when an epoch without
//!   that voter could follow; *ordered where none could, it has no effect*, and publishing goes on. A learner is gone with
//!   it, a voter with the `EpochEnd` that lets it go. `RemoveIntent` closes the lane where it stands.
//! - **E5** `EpochEnd{next}` is valid iff, in the prefix: every joining voter is a member with a `Ready` of the incarnation
//!   of its lane head; every voter that goes has a `LeaveIntent`, a `RemoveIntent`, q standing suspicions, or stands at the
//!   end of the list beyond a lowered `voters_target`; the size is odd, and smaller than now only if it is `voters_target`;
//!   nothing else changes but what a decided `Configure` says. A learner orders `Ready` once per incarnation, when it holds
//!   the log up to `READY_SLOTS` of the head; one that got a vote and lost it says it anew. Suspicions end with the epoch.
//! - **E6** An `EpochEnd` is due when the prefix makes one valid that lets a voter go or takes a learner in. The leader
//!   takes as many as it can, in the order of their commands, and proposes it while it hears q of next and every joining
//!   voter, these within `READY_SLOTS` of its own decided slot. Until then whoever goes keeps its vote.
//! - **Invites**: the order has the digest of the secret and the expiry; the admitting member alone judges the expiry, by
//!   its clock. `JoinIntent` consumes the invite, first in order wins; repeating it is a no-op; an id is never used again,
//!   and no two members have one name. `Move` says that a member listens elsewhere now.
//! - **Learners** ask one feeder for (next slot, digest), and it answers when there is something; another digest stops that
//!   feed, not the order. They push their batches to all voters. Their figures count nowhere.
//!
//! **Genesis without a file** (`candidate.rs`; members of a founded group answer by `candidate/founded.rs`).
//!
//! - **G1** *N* counts all that are started for one cluster name. A candidate counts itself and everybody heard within
//!   `CANDIDATE_SILENCE` that names the same N and the same cluster-wide settings; whoever differs is refused by name, on
//!   both sides. The lowest key of all it counts proposes a whole genesis to the lowest N, itself first. A candidate is
//!   bound to one genesis at a time, durably before it says so: its own proposal is its own promise. It promises a
//!   proposal only from the first and lowest of its members, which counts, that has N members, its own name and settings
//!   and none but its own addresses, while it counts nobody lower than the proposer. Each member of a genesis has an
//!   address that can be dialled and that no other member has: who says to have none, or what is none, does not count;
//!   what two have is left out. All N promises make the genesis: recorded as made at the proposer, then told.
//!   - *Release*: only the proposer releases. It gives its proposal up, durably, when it hears of a lower candidate, by
//!     itself or by the word of a member of its set that counts, when a member of it is silent, differs or listens
//!     elsewhere by now, and when it is crowded; from then on it answers `Released` to a promise of it. A promise of which
//!     no answer comes is kept for ever: its proposer may have made the genesis. Whoever waits says for whom.
//!   - *Crowded*: a candidate that counts 2N proposes, promises and makes nothing, and says so. Below that any two sets of
//!     N share a candidate, so one promise each is enough for one group at most. Two halves of 2N that do not hear of each
//!     other make two groups.
//!   - *Founded*: who has a genesis, or hears from anybody that the group of that name has one, never promises and never
//!     proposes: a candidate stops, unless the genesis is the one that it has promised; that it takes from any key that
//!     the genesis names. Who is bound, and hears of another group from a key outside what it is bound to, stays and says
//!     who says so: others may rely on it. A proposer makes nothing from then on, unless that key says that it is a
//!     candidate itself; one that starts again asks anew, and makes nothing before it would count others as silent. *A
//!     member of a founded group answers candidates with that one fact*, and with the genesis those that it names and that
//!     still show their promise of it. It greets keys that it does not know with its group's id: two groups of one name
//!     that meet say so on both sides, and never merge.
//!   - A key that is found is heard, or fails to answer, before a proposal and before a genesis is made: it may know of a
//!     group. A key of which an earlier process is heard after a later one belongs to two processes, and is refused by name.
//!
//! **Clock.** entry.hlc = max(parent's last + 1, the leader's clock); message i of the slot has entry.hlc + i; *last* counts
//! all messages of the slot. Nobody compares an hlc with a local clock, except the readiness check and a leader that
//! resigns because its clock is ahead of the voters' median.
//!
//! **Disk** (`replay.rs`; W1 and W2 are the log's, see [`crate::wal`]).
//!
//! - **Rot** at or below the durable decided mark is repaired from peers before the member takes part. Rot above it, or
//!   where the newest voter record may be lost, means that the member no longer knows what it promised: under this
//!   identity it never votes, claims or leads again. A hole in its own unordered batches is looked for at peers, from when a
//!   quorum is heard; if nobody fills it, the lane ends before it, and the loss is logged. A claim of a lower round than the
//!   decided mark's is no base any more: its chain may be lost.
//! - **I1** The hello carries incarnation, start nonce, highest durable vote and the last batch sealed. Whoever has heard, or
//!   has in its log from before its own start, something higher of that identity refuses it as `stale_disk`, and it stops;
//!   one incarnation with two nonces is refused on both. Within one start (same nonce) nothing is compared: words may
//!   overtake a hello on another stream.
//!   Votes of epochs that have ended are void (E1): a member whose damaged log may have lost one says, in the place of its
//!   highest vote, that it knows of everything below the newest epoch that its log tells of.
//!
//! | before this leaves | this is on disk |
//! |---|---|
//! | anything of an incarnation | the incarnation record |
//! | `accepted` | the batch, in the origin's log |
//! | a vote | the whole chain up to its slot, entries and payload |
//! | claim, NewView, first proposal of a view | the record of that view (L1) |
//! | the first vote after NewView | the whole base chain, then the flip |
//! | delivery to the host, `ordered` | decided by q durable votes, and durable here |
//! | anything of a new epoch | its certificate, the mark that it has begun, the record of view 0 |
//! | `Ready` | the log up to its slot |
//! | a proposal of a genesis, a promise of one | the candidate's record of it |
//! | the word that a genesis is made, or given up | the proposer's record of that |

mod ballots;
mod candidate;
mod chain;
mod counters;
mod door;
mod duties;
mod epochs;
mod feeds;
mod fetching;
mod halt;
mod lanes;
mod membership;
mod model;
mod peers;
mod ready;
mod replay;
mod replica;
mod sealing;
mod status;
#[cfg(test)]
mod tests;
mod turnover;
mod views;
mod voting;

pub use candidate::{
    BadCandidate, CANDIDATE_SILENCE, Candidate, CandidateInput, CandidateReady, CandidateSettings, CandidateVerdict,
    Claim, FoundedAnswer, FoundedGroup, Waiting, WaitingCandidate, WaitingPhase,
};
pub use counters::Counters;
pub use halt::Halt;
pub use model::{Channel, Crash, FaultModel, Quorums};
pub use ready::{Haste, Outgoing, Ready};
pub use replay::Restored;
pub use replica::{Identity, Replica};
