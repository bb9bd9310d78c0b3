//! What is lacking here, and who is asked for it; what others lack, and what they get (rules V5, V7).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::chain::{Lack, SlotRow};
use super::lanes::Held;
use super::model::FaultModel;
use super::replica::Replica;
use crate::types::peer::ChainEntry;
use crate::types::{BatchRef, Digest, Instant, LaneHead, MemberId, PeerMessage, Serve, ServeSlot, Slot, limits};

/// Payload that its origin is probably sending just now is not asked for before this.
const GRACE: Duration = Duration::from_millis(20);
/// Nobody answered: ask somebody else.
const RETRY: Duration = Duration::from_millis(150);
/// How often the statuses are searched for lanes held further elsewhere.
const LANE_CHECK: Duration = Duration::from_millis(100);

/// Something lacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Want {
    Entry(Slot, Digest),
    Batch(BatchRef),
    Lane(MemberId),
    Decided,
}

#[derive(Clone, Debug)]
struct Asked {
    since: Instant,
    last: Option<Instant>,
    times: usize,
    /// Who was asked in this round of asking everybody.
    of: BTreeSet<MemberId>,
    /// Progress so far, to tell a standing gap from one that moves.
    progress: (u64, u64),
}

#[derive(Debug, Default)]
pub(crate) struct Fetches {
    asked: BTreeMap<Want, Asked>,
    next_due: Option<Instant>,
    next_lane_check: Instant,
    /// Lanes that somebody holds further: how far we do, and who holds more, most first.
    lane_wants: BTreeMap<MemberId, (LaneHead, Vec<MemberId>)>,
}

impl Fetches {
    /// Whether this batch was named by something that needs it.
    pub fn wants(&self, batch: &BatchRef) -> bool {
        self.asked.contains_key(&Want::Batch(*batch))
    }

    /// When something is to be asked (again).
    pub fn next_due(&self) -> Option<Instant> {
        self.next_due
    }

    /// Decided slots came: the next ones may be asked for at once.
    pub fn answered(&mut self) {
        if let Some(asked) = self.asked.get_mut(&Want::Decided) {
            asked.last = None;
            asked.times = 0;
            asked.of.clear();
        }
    }

    /// Somebody came who may have what nobody else had: it is asked soon, however long the others were waited for.
    pub fn handle_link_up(&mut self, peer: &MemberId) {
        for asked in self.asked.values_mut() {
            asked.times = asked.times.min(1);
            asked.of.remove(peer);
        }
    }
}

impl<M: FaultModel> Replica<M> {
    /// Asks for what is lacking, each thing of one member at a time.
    pub(crate) fn fetch(&mut self) {
        if self.disk_full.is_some() {
            self.fetches.next_due = None;
            return; // there is no room for an answer
        }
        self.check_lanes();
        let wants = self.wants();
        self.fetches.asked.retain(|want, _| wants.contains_key(want));
        self.fetches.next_due = None;
        let mut batches: BTreeMap<MemberId, Vec<BatchRef>> = BTreeMap::new();
        for (want, preferred) in wants {
            if let Some(to) = self.due(want, &preferred) {
                match want {
                    Want::Batch(reference) => batches.entry(to).or_default().push(reference),
                    Want::Entry(slot, digest) => self.ask_chain(to, slot, digest),
                    Want::Lane(origin) => self.ask_lane(to, origin),
                    Want::Decided => self.ask_decided(to),
                }
            }
        }
        for (to, references) in batches {
            for piece in references.chunks(limits::FETCH_BATCHES) {
                self.counters.fetch_batches += 1;
                let decided = self.chain.decided.slot;
                self.send_early(to, PeerMessage::FetchBatches { decided, batches: piece.to_vec() });
            }
        }
    }

    /// Everything lacking now, each with the members to be asked first.
    fn wants(&self) -> BTreeMap<Want, Vec<MemberId>> {
        let mut wants: BTreeMap<Want, Vec<MemberId>> = BTreeMap::new();
        for (lack, named_by) in &self.lacks {
            match lack {
                // Named by a decided mark only: whole slots are asked for, below.
                Lack::Entry(..) if named_by.is_none() && self.somebody_decided_more() => {}
                Lack::Entry(slot, digest) => wants.entry(Want::Entry(*slot, *digest)).or_default().extend(named_by),
                Lack::Batches(references) => {
                    for reference in references {
                        let preferred = wants.entry(Want::Batch(*reference)).or_default();
                        preferred.push(reference.origin);
                        preferred.extend(named_by);
                    }
                }
                // It comes with the decided slot.
                Lack::Certificate(_) | Lack::Invalid(_) => {}
            }
        }
        if self.known_slot() > self.chain.decided.slot && !self.feeds.has_open() {
            wants.insert(Want::Decided, Vec::new());
        }
        for (origin, (_, holders)) in &self.fetches.lane_wants {
            wants.insert(Want::Lane(*origin), holders.clone());
        }
        wants
    }

    fn somebody_decided_more(&self) -> bool {
        self.peers.values().any(|peer| peer.linked && peer.decided.slot > self.chain.decided.slot)
    }

    /// Whom to ask for this now; none if it is too early or nobody can be asked.
    fn due(&mut self, want: Want, preferred: &[MemberId]) -> Option<MemberId> {
        let now = self.now.instant;
        let progress = self.progress(want);
        let fresh = Asked { since: now, last: None, times: 0, of: BTreeSet::new(), progress };
        let asked = self.fetches.asked.entry(want).or_insert_with(|| fresh.clone());
        if asked.progress != progress && asked.last.is_none() && asked.times == 0 {
            *asked = fresh; // it moves by itself
        }
        let due = match asked.last {
            // A large slot over a slow link takes its time: asking again and again would only add to it.
            Some(last) => last + RETRY * (1 << asked.times.min(5)),
            None => asked.since + self.grace(want),
        };
        if now < due {
            self.fetches.next_due = Some(self.fetches.next_due.map_or(due, |next| next.min(due)));
            return None;
        }
        let able = self.holders(want, preferred);
        let retry = now + RETRY;
        self.fetches.next_due = Some(self.fetches.next_due.map_or(retry, |next| next.min(retry)));
        let asked = self.fetches.asked.get_mut(&want).expect("just looked up");
        if able.iter().all(|id| asked.of.contains(id)) {
            asked.of.clear();
        }
        let to = able.into_iter().find(|id| !asked.of.contains(id))?;
        asked.of.insert(to);
        asked.last = Some(now);
        asked.times += 1;
        Some(to)
    }

    fn progress(&self, want: Want) -> (u64, u64) {
        match want {
            Want::Decided => (self.chain.decided.slot.0, 0),
            Want::Lane(origin) => {
                let head = self.fetches.lane_wants.get(&origin).map_or(LaneHead::START, |(head, _)| *head);
                (head.batch.incarnation.0, head.batch.number.0)
            }
            // Bulk keeps its order: while the lane's earlier batches come in, this one is on its way.
            Want::Batch(batch) => match self.lanes.highest(&batch.origin) {
                Some(id) if id < batch.batch => (id.incarnation.0, id.number.0),
                _ => (0, 0),
            },
            Want::Entry(..) => (0, 0),
        }
    }

    fn grace(&self, want: Want) -> Duration {
        match want {
            // Its origin has no link to us: nobody is sending it.
            Want::Batch(reference) if !self.linked(&reference.origin) => Duration::ZERO,
            Want::Entry(..) => GRACE / 4,
            Want::Decided if self.lacks.iter().any(|(lack, _)| matches!(lack, Lack::Certificate(_))) => Duration::ZERO,
            Want::Decided if self.known_slot().0 > self.chain.decided.slot.0 + 2 * limits::WINDOW_SLOTS => {
                Duration::ZERO
            }
            _ => GRACE,
        }
    }

    /// Linked members that may have it, those first that are known to.
    fn holders(&self, want: Want, preferred: &[MemberId]) -> Vec<MemberId> {
        let mut seen = BTreeSet::new();
        let others = self.peers.keys().copied();
        let all = preferred.iter().copied().chain(others);
        all.filter(|id| self.linked(id) && seen.insert(*id))
            .filter(|id| want != Want::Decided || self.peers[id].decided.slot > self.chain.decided.slot)
            .collect()
    }

    fn ask_chain(&mut self, to: MemberId, slot: Slot, digest: Digest) {
        self.counters.fetch_chain += 1;
        let above = self.chain.decided.slot;
        self.send_early(to, PeerMessage::FetchChain { slot, digest, above });
    }

    fn ask_lane(&mut self, to: MemberId, origin: MemberId) {
        self.counters.fetch_lane += 1;
        let after = self.lanes.contiguous(&origin, |_| true);
        self.send_early(to, PeerMessage::FetchLane { origin, after });
    }

    fn ask_decided(&mut self, to: MemberId) {
        self.counters.fetch_decided += 1;
        let after = self.chain.decided.slot;
        let (digest, through) = (self.chain.decided.digest, Slot(u64::MAX));
        self.send_early(to, PeerMessage::FetchDecided { after, digest, through, waits: false });
    }

    /// V5: lanes that a status shows held further elsewhere.
    fn check_lanes(&mut self) {
        let now = self.now.instant;
        if now < self.fetches.next_lane_check {
            return;
        }
        self.fetches.next_lane_check = now + LANE_CHECK;
        let mut wants = BTreeMap::new();
        // A learner is fed; only its own lane may have lost something that nobody feeds it.
        let heads = &self.chain.state.heads;
        for origin in heads.keys().filter(|origin| self.votes() || **origin == self.me) {
            let mine = self.lanes.contiguous(origin, |_| true);
            let linked = self.peers.iter().filter(|(_, peer)| peer.linked);
            let heads = linked.filter_map(|(id, peer)| Some((peer.lane_head(origin)?.batch, *id)));
            let mut further: Vec<_> = heads.filter(|(head, _)| *head > mine.batch).collect();
            further.sort_by_key(|(head, id)| (Reverse(*head), *id));
            if !further.is_empty() {
                wants.insert(*origin, (mine, further.into_iter().map(|(_, id)| id).collect()));
            }
        }
        // Only a gap that was there at the last check already, and did not move since, is asked for.
        let before = std::mem::replace(&mut self.fetches.lane_wants, wants);
        let standing = |origin: &MemberId, mine: &LaneHead| before.get(origin).is_some_and(|(head, _)| head == mine);
        for (origin, (mine, _)) in &self.fetches.lane_wants {
            if !standing(origin, mine) {
                self.fetches.asked.remove(&Want::Lane(*origin));
            }
        }
    }

    /// Answers with the batches that are pending here; of those that are decided, with whole slots.
    pub(crate) fn serve_batches(&mut self, to: MemberId, decided: Slot, batches: &[BatchRef]) {
        let mut past = false;
        for reference in batches.iter().take(limits::FETCH_BATCHES) {
            match self.lanes.held(reference).and_then(Held::batch) {
                Some(batch) => self.send_early(to, PeerMessage::Batch(batch)),
                None => past |= reference.batch <= self.lanes.head(&reference.origin).batch,
            }
        }
        if past {
            self.serve_decided(to, decided, Slot(u64::MAX));
        }
    }

    pub(crate) fn serve_lane(&mut self, to: MemberId, origin: MemberId, after: LaneHead) {
        let head = self.lanes.head(&origin);
        let from = if after.batch < head.batch { head } else { after };
        let mut bytes = 0;
        let batches: Vec<_> = self
            .lanes
            .following(&origin, from)
            .take(limits::FETCH_BATCHES)
            .take_while(|held| {
                bytes += held.size;
                bytes <= limits::CATCHUP_BYTES.max(held.size)
            })
            .filter_map(Held::batch)
            .collect();
        for batch in batches {
            self.send_early(to, PeerMessage::Batch(batch));
        }
    }

    pub(crate) fn serve_chain(&mut self, to: MemberId, slot: Slot, digest: Digest, above: Slot) {
        let mut entries: Vec<ChainEntry> = Vec::new();
        let (mut slot, mut digest) = (slot, digest);
        while slot > above && entries.len() < limits::CHAIN_ENTRIES {
            let Some(entry) = self.chain.chain_entry(slot, &digest) else { break };
            (slot, digest) = (Slot(slot.0 - 1), entry.parent);
            entries.push(entry);
        }
        entries.reverse();
        if !entries.is_empty() {
            self.send_early(to, PeerMessage::Chain(entries));
        }
        if above < self.chain.decided.slot {
            self.serve_decided(to, above, Slot(u64::MAX));
        }
    }

    /// Entries of a chain somebody named: kept, and voted for only if a vote or proposal of our view names them.
    pub(crate) fn handle_chain(&mut self, entries: &[ChainEntry]) {
        for entry in entries.iter().take(limits::CHAIN_ENTRIES) {
            self.keep_entry(entry);
        }
    }

    /// Decided slots above `after`, read from the log away from here.
    pub(crate) fn serve_decided(&mut self, to: MemberId, after: Slot, through: Slot) {
        let first = usize::try_from(after.0).unwrap_or(usize::MAX);
        if first >= self.chain.rows.len() {
            return;
        }
        let most = usize::try_from(through.0.saturating_sub(after.0)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let slots: Vec<ServeSlot> = self.chain.rows[first..]
            .iter()
            .zip(after.0 + 1..)
            .take(limits::CATCHUP_SLOTS.min(most))
            .take_while(|(row, _)| {
                let fits = bytes < limits::CATCHUP_BYTES;
                bytes +=
                    u64::from(row.entry.length) + row.batches.iter().map(|batch| u64::from(batch.length)).sum::<u64>();
                fits
            })
            .map(|(row, slot)| self.serve_slot(row, Slot(slot)))
            .collect();
        self.out.ready.serve.push(Serve { to, mark: self.chain.decided, slots });
    }

    fn serve_slot(&self, row: &SlotRow, slot: Slot) -> ServeSlot {
        let certificate = self.epochs.certificate_at(slot).cloned();
        ServeSlot { entry: row.entry, batches: row.batches.to_vec(), certificate }
    }

    /// V5: whoever has no link to the leader is fed like a learner, by one of those who have both.
    pub(crate) fn feed(&mut self, slot: Slot) {
        let cut_off: Vec<MemberId> =
            self.peers.keys().copied().filter(|id| self.is_cut_off(id) && self.feeds(id)).collect();
        for to in cut_off {
            let row = &self.chain.rows[slot.0 as usize - 1];
            let slots = vec![self.serve_slot(row, slot)];
            self.counters.relayed += 1;
            self.out.ready.serve.push(Serve { to, mark: self.chain.decided, slots });
        }
    }
}
