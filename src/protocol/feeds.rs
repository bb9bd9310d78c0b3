//! Decided slots for those who do not vote: a learner asks one feeder for what comes next, and that one answers when there
//! is something. Whoever is far behind asks several members at once for pieces.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::chain::Waiting;
use super::model::FaultModel;
use super::replica::Replica;
use crate::types::peer::{ChainEntry, DecidedSlot};
use crate::types::statement::Round;
use crate::types::{Digest, Instant, MemberId, PeerMessage, Slot, limits};

/// A follower gets what gathered in this time with one answer.
const FEED_INTERVAL: Duration = Duration::from_millis(2);
/// An answer that does not come for this long, although there is something: another feeder is asked.
const FEED_PATIENCE: Duration = Duration::from_millis(500);
/// A piece that does not come for this long is asked of somebody else.
const PIECE_PATIENCE: Duration = Duration::from_secs(1);

/// Both ends of feeding.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    /// Who wants what follows its slot, and since when that may be told.
    followers: BTreeMap<MemberId, Follower>,
    /// The last decided slots, for followers; kept while there are members that do not vote.
    recent: VecDeque<(Slot, DecidedSlot)>,
    recent_bytes: u64,
    /// Whom this learner asked for what comes next, and when.
    feeder: Option<(MemberId, Instant)>,
    /// Feeders that did not answer in time, or went.
    failed: Vec<MemberId>,
    /// Pieces of the order that were asked for, far behind: of whom, what, and when.
    open: BTreeMap<MemberId, Piece>,
    /// Slots that came ahead of those before them, with the round they are known to be decided in.
    held: BTreeMap<Slot, (DecidedSlot, Round)>,
    held_bytes: u64,
}

/// Slots above `after`, up to `through`.
#[derive(Clone, Copy, Debug)]
struct Piece {
    after: Slot,
    through: Slot,
    since: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Follower {
    after: Slot,
    through: Slot,
    due: Instant,
}

impl Feeds {
    pub fn handle_link_down(&mut self, peer: &MemberId) {
        self.followers.remove(peer);
        self.open.remove(peer);
        if self.feeder.is_some_and(|(feeder, _)| feeder == *peer) {
            self.feeder = None;
            self.failed.push(*peer);
        }
    }

    /// Voters and leader change: the choice is made again.
    pub fn forget_feeder(&mut self) {
        self.feeder = None;
        self.failed.clear();
    }

    /// The feeder answered: the next question may go out.
    pub fn answered(&mut self, by: &MemberId) {
        self.open.remove(by);
        if self.feeder.is_some_and(|(feeder, _)| feeder == *by) {
            self.feeder = None;
            self.failed.clear();
        }
    }

    /// Whether pieces are asked for, of several members at once.
    pub fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Keeps a slot that came early, as far as there is room.
    pub fn hold(&mut self, slot: DecidedSlot, round: Round) {
        let bytes = size(&slot);
        if self.held_bytes + bytes <= limits::CATCHUP_HELD_BYTES
            && self.held.insert(slot.entry.slot, (slot, round)).is_none()
        {
            self.held_bytes += bytes;
        }
    }

    /// The slot after `decided`, if it came early; what is at or below that is given up.
    pub fn next_held(&mut self, decided: Slot) -> Option<(DecidedSlot, Round)> {
        while let Some(first) = self.held.first_entry().filter(|first| *first.key() <= decided.next()) {
            let (slot, round) = first.remove();
            self.held_bytes -= size(&slot);
            if slot.entry.slot > decided {
                return Some((slot, round));
            }
        }
        None
    }

    /// The first slot above `decided` that is neither here nor asked for: what is wanted lies above it.
    fn next_gap(&self, decided: Slot) -> Slot {
        let mut after = decided;
        loop {
            let asked = self.open.values().find(|piece| piece.after <= after && piece.through > after);
            after = match asked {
                Some(piece) => piece.through,
                None if self.held.contains_key(&after.next()) => after.next(),
                None => return after,
            };
        }
    }

    /// When a follower is to be told something.
    pub fn next_due(&self, delivered: Slot) -> Option<Instant> {
        self.followers.values().filter(|follower| follower.after < delivered).map(|follower| follower.due).min()
    }
}

impl<M: FaultModel> Replica<M> {
    /// Somebody asks for decided slots. What is there goes at once; what is not, when it is.
    pub(crate) fn handle_fetch_decided(
        &mut self,
        from: MemberId,
        after: Slot,
        digest: Digest,
        through: Slot,
        waits: bool,
    ) {
        let here = self.chain.digest_at(after);
        if digest != Digest::ZERO && here.is_some_and(|here| here != digest) {
            self.misbehaved(from, "it asks for what follows another chain");
            return; // that feed stops, the order does not
        }
        if after < self.chain.delivered() {
            if !waits || !self.feed_recent(&[from], after, through) {
                self.serve_decided(from, after, through);
            }
        } else if waits {
            // The more follow, the more gathers for each: their disks and ours are shared with the votes.
            let followers = self.feeds.followers.len() as u32 + 1;
            let due = self.now.instant + FEED_INTERVAL * followers;
            self.feeds.followers.insert(from, Follower { after, through, due });
        }
    }

    /// A slot is delivered: it is kept in memory for those who follow.
    pub(crate) fn remember_recent(&mut self, slot: &Waiting) {
        let membership = &self.chain.state.membership;
        let learners = membership.members.len() > membership.configuration.voters.len();
        if !learners {
            self.feeds.recent.clear();
            self.feeds.recent_bytes = 0;
            return;
        }
        let batches: Option<Vec<_>> = slot.batches.iter().map(|placed| placed.held.batch()).collect();
        let Some(batches) = batches else {
            self.feeds.recent.clear(); // bytes are only in the log: what is kept must have no hole
            self.feeds.recent_bytes = 0;
            return;
        };
        let candidate = &slot.candidate;
        let entry = ChainEntry {
            slot: slot.slot,
            parent: candidate.parent,
            entry: (candidate.entry.clone(), candidate.bytes.clone()),
        };
        let certificate = self.epochs.certificate_at(slot.slot).cloned();
        let kept = DecidedSlot { entry, batches, certificate };
        let feeds = &mut self.feeds;
        feeds.recent_bytes += size(&kept);
        feeds.recent.push_back((slot.slot, kept));
        while feeds.recent_bytes > limits::FEED_RING_BYTES && feeds.recent.len() > 1 {
            let (_, gone) = feeds.recent.pop_front().expect("there are several");
            feeds.recent_bytes -= size(&gone);
        }
    }

    /// Followers whose time has come get what was delivered since.
    pub(crate) fn feed_followers(&mut self) {
        let delivered = self.chain.delivered();
        let now = self.now.instant;
        let mut due: BTreeMap<(Slot, Slot), Vec<MemberId>> = BTreeMap::new();
        for (id, follower) in &self.feeds.followers {
            if follower.after < delivered && follower.due <= now {
                due.entry((follower.after, follower.through)).or_default().push(*id);
            }
        }
        for ((after, through), members) in due {
            self.feeds.followers.retain(|id, _| !members.contains(id));
            if !self.feed_recent(&members, after, through) {
                members.iter().for_each(|member| self.serve_decided(*member, after, through));
            }
        }
        self.catch_up();
        self.follow();
    }

    /// Far behind: pieces are asked of several members at once, each another one.
    fn catch_up(&mut self) {
        let now = self.now.instant;
        let decided = self.chain.decided.slot;
        self.feeds.open.retain(|_, piece| piece.through > decided && now.since(piece.since) < PIECE_PATIENCE);
        let known = self.known_slot();
        let far = known.0 > decided.0 + limits::CATCHUP_SLOTS as u64;
        if self.disk_full.is_some() || !far {
            return;
        }
        let able: Vec<MemberId> = self
            .peers
            .iter()
            .filter(|(id, peer)| peer.linked && !self.feeds.open.contains_key(id))
            .map(|(id, _)| *id)
            .collect();
        for to in able {
            let after = self.feeds.next_gap(decided);
            let ahead = after.0 - decided.0 >= 2 * (limits::CATCHUP_OPEN * limits::CATCHUP_SLOTS) as u64;
            let full = self.feeds.open.len() >= limits::CATCHUP_OPEN || after >= known;
            if ahead || full {
                break;
            }
            if self.peers[&to].decided.slot <= after {
                continue; // it is behind, too
            }
            let through = Slot(known.0.min(after.0 + limits::CATCHUP_SLOTS as u64));
            let digest = if after == decided { self.chain.decided.digest } else { Digest::ZERO };
            self.feeds.open.insert(to, Piece { after, through, since: now });
            self.counters.pieces_fetched += 1;
            self.send_early(to, PeerMessage::FetchDecided { after, digest, through, waits: false });
        }
    }

    /// From memory, one encoding for all. Whether it was there.
    fn feed_recent(&mut self, to: &[MemberId], after: Slot, through: Slot) -> bool {
        let first = after.next();
        let Some((oldest, _)) = self.feeds.recent.front() else { return false };
        if *oldest > first {
            return false;
        }
        let mut bytes = 0;
        let slots: Vec<DecidedSlot> = self
            .feeds
            .recent
            .iter()
            .skip((first.0 - oldest.0) as usize)
            .take(limits::CATCHUP_SLOTS)
            .take_while(|(slot, kept)| {
                let fits = bytes < limits::CATCHUP_BYTES && *slot <= through;
                bytes += size(kept);
                fits
            })
            .map(|(_, kept)| kept.clone())
            .collect();
        if slots.is_empty() {
            return false;
        }
        let envelope = self.envelope(PeerMessage::Decided { mark: self.chain.decided, slots });
        for to in to {
            if self.linked(to) {
                self.out.early(*to, Arc::clone(&envelope));
            }
        }
        true
    }

    /// A learner asks its feeder for what comes next; another one if that does not answer.
    fn follow(&mut self) {
        if self.votes() || self.disk_full.is_some() || self.feeds.has_open() {
            return;
        }
        let now = self.now.instant;
        if let Some((feeder, since)) = self.feeds.feeder {
            let behind = self.known_slot() > self.chain.decided.slot;
            if !behind || now.since(since) < FEED_PATIENCE {
                return;
            }
            self.feeds.failed.push(feeder);
            self.feeds.feeder = None;
            self.counters.feeders_changed += 1;
        }
        let Some(feeder) = self.choose_feeder() else { return };
        self.feeds.feeder = Some((feeder, now));
        let (after, digest) = (self.chain.decided.slot, self.chain.decided.digest);
        self.send_early(feeder, PeerMessage::FetchDecided { after, digest, through: Slot(u64::MAX), waits: true });
    }

    /// Voters rather than others, the leader last, and not all learners the same one.
    fn choose_feeder(&mut self) -> Option<MemberId> {
        let leader = self.leader();
        let mine = self.me.0[31];
        let linked: Vec<(bool, bool, Reverse<u8>, MemberId)> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.linked)
            .map(|(id, peer)| (!peer.votes, *id == leader, Reverse(id.0[31] ^ mine), *id))
            .collect();
        let able = linked.iter().filter(|(.., id)| !self.feeds.failed.contains(id)).min().copied();
        if able.is_none() {
            self.feeds.failed.clear();
        }
        able.or_else(|| linked.into_iter().min()).map(|(.., id)| id)
    }
}

fn size(slot: &DecidedSlot) -> u64 {
    let batches: usize = slot.batches.iter().map(|batch| batch.bytes.len()).sum();
    (slot.entry.entry.1.len() + batches) as u64
}
