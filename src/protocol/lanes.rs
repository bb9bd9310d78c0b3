//! Lanes: what every member sealed, how far it is ordered, and what of it is held here.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use std::sync::Arc;

use super::membership::Membership;
use crate::types::limits;
use crate::types::{
    Batch, BatchHeader, BatchId, BatchNumber, BatchRef, Command, Digest, Incarnation, LaneHead, Location, MemberId,
    Rule, Sabotage,
};

/// How far a record of ours has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logged {
    /// In memory only.
    No,
    /// Handed to the log, in this order, and not yet durable.
    Handed,
    /// Durable, and where.
    Durable(Location),
}

impl Logged {
    pub fn is_durable(self) -> bool {
        matches!(self, Logged::Durable(_))
    }

    pub fn location(self) -> Option<Location> {
        match self {
            Logged::Durable(location) => Some(location),
            _ => None,
        }
    }
}

/// A batch that is not yet ordered, as far as this member knows.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub header: BatchHeader,
    pub digest: Digest,
    /// Its bytes; none where they are only in the log.
    pub bytes: Option<Bytes>,
    pub size: u64,
    pub logged: Logged,
    /// The membership command it carries.
    pub command: Option<Arc<Command>>,
}

impl Held {
    pub fn head(&self) -> LaneHead {
        LaneHead { batch: self.header.id(), digest: self.digest }
    }

    pub fn reference(&self) -> BatchRef {
        BatchRef { origin: self.header.origin, batch: self.header.id(), digest: self.digest }
    }

    /// The last word of a lane leaves no disk before it is on it, as other batches may: its origin, which lost it in a crash,
    /// would go on and accept what can never be ordered.
    pub fn is_withheld(&self) -> bool {
        self.command.as_deref() == Some(&Command::LeaveIntent) && !self.logged.is_durable()
    }

    /// The batch to be sent, if its bytes are here and it may leave.
    pub fn batch(&self) -> Option<Batch> {
        let bytes = self.bytes.clone().filter(|_| !self.is_withheld())?;
        Some(Batch { header: self.header.clone(), digest: self.digest, bytes, command: self.command.clone() })
    }
}

/// What became of a batch that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// New: kept.
    Kept,
    /// Held already.
    Known,
    /// Ordered already, or its lane is closed: dropped.
    Past,
    /// Its origin is no member: dropped.
    Stranger,
    /// More of that lane is pending than its credit allows (rule N1): dropped, to be fetched when it is named.
    OverCredit,
}

/// One member's lanes.
#[derive(Clone, Debug)]
struct Lane {
    head: LaneHead,
    held: BTreeMap<(BatchId, Digest), Held>,
    bytes: u64,
}

impl Lane {
    const EMPTY: Lane = Lane { head: LaneHead::START, held: BTreeMap::new(), bytes: 0 };
}

/// Every member's lanes.
#[derive(Clone, Debug)]
pub(crate) struct Lanes {
    lanes: BTreeMap<MemberId, Lane>,
    sabotage: Sabotage,
}

impl Lanes {
    pub fn new(members: &[MemberId], sabotage: Sabotage) -> Lanes {
        Lanes { lanes: members.iter().map(|member| (*member, Lane::EMPTY)).collect(), sabotage }
    }

    /// The membership changed: new lanes are opened, and of closed ones everything pending is given up.
    pub fn follow(&mut self, before: &Membership, after: &Membership) {
        for member in before.members.keys().filter(|member| before.is_open(member) && !after.is_open(member)) {
            self.lanes.remove(member);
        }
        for member in after.members.keys().filter(|member| after.is_open(member)) {
            self.lanes.entry(*member).or_insert(Lane::EMPTY);
        }
    }

    /// Opens a lane ahead of the order: of a member that has joined on a chain that is not decided here yet.
    pub fn open(&mut self, member: MemberId) {
        if self.lanes.len() < 2 * limits::MEMBERS_MAX {
            self.lanes.entry(member).or_insert(Lane::EMPTY);
        }
    }

    /// Decided head of one member's lanes.
    pub fn head(&self, member: &MemberId) -> LaneHead {
        self.lanes.get(member).map_or(LaneHead::START, |lane| lane.head)
    }

    pub fn held(&self, batch: &BatchRef) -> Option<&Held> {
        self.lanes.get(&batch.origin)?.held.get(&(batch.batch, batch.digest))
    }

    fn held_mut(&mut self, batch: &BatchRef) -> Option<&mut Held> {
        self.lanes.get_mut(&batch.origin)?.held.get_mut(&(batch.batch, batch.digest))
    }

    pub fn mark(&mut self, batch: &BatchRef, logged: Logged) {
        if let Some(held) = self.held_mut(batch) {
            held.logged = logged;
        }
    }

    /// Takes a batch in. `wanted`: it was named by a proposal or a base, which no bound keeps out (rule N1).
    pub fn admit(&mut self, batch: Batch, logged: Logged, wanted: bool) -> Admission {
        let Some(lane) = self.lanes.get(&batch.header.origin) else { return Admission::Stranger };
        let id = batch.header.id();
        if id <= lane.head.batch {
            return Admission::Past;
        }
        let size = batch.bytes.len() as u64;
        let full = lane.held.len() >= limits::PENDING_BATCHES || lane.bytes + size > limits::PENDING_BYTES;
        if full && !wanted && !lane.held.contains_key(&(id, batch.digest)) && !self.make_room(&batch.header) {
            return Admission::OverCredit;
        }
        let lane = self.lanes.get_mut(&batch.header.origin).expect("just looked up");
        if let Some(known) = lane.held.get_mut(&(id, batch.digest)) {
            known.bytes.get_or_insert(batch.bytes);
            return Admission::Known;
        }
        lane.bytes += size;
        let Batch { header, digest, bytes, command } = batch;
        lane.held.insert((id, digest), Held { header, digest, bytes: Some(bytes), size, logged, command });
        Admission::Kept
    }

    /// N1: for a batch that extends a lane without a hole, the furthest one behind a hole is dropped.
    fn make_room(&mut self, header: &BatchHeader) -> bool {
        let reached = self.contiguous(&header.origin, |_| true);
        let lane = self.lanes.get_mut(&header.origin).expect("its lane is full");
        let Some(furthest) = lane.held.keys().next_back().copied() else { return false };
        if !header.follows(&reached) || furthest.0 <= reached.batch {
            return false;
        }
        let gone = lane.held.remove(&furthest).expect("it is the last one");
        lane.bytes -= gone.size;
        true
    }

    /// Rule H1: the held batch that may be ordered next after `head`. A lane's own next batch comes before the batch
    /// that closes the lane, so that what was accepted is ordered; of several that close it, the lowest.
    pub fn next_after(&self, member: &MemberId, head: &LaneHead) -> Option<&Held> {
        let lane = self.lanes.get(member)?;
        let same = BatchId { incarnation: head.batch.incarnation, number: head.batch.number.next() };
        let here = (same, Digest([0; 32]))..=(same, Digest([255; 32]));
        let linked = lane.held.range(here).map(|(_, held)| held).find(|held| held.header.follows(head));
        linked.or_else(|| self.opening_after(lane, head))
    }

    /// The first batch of the lowest higher incarnation that may follow `head`.
    fn opening_after<'a>(&'a self, lane: &'a Lane, head: &LaneHead) -> Option<&'a Held> {
        let mut incarnation = head.batch.incarnation;
        loop {
            let last = BatchId { incarnation, number: BatchNumber(u64::MAX) };
            let above = (Bound::Excluded((last, Digest([255; 32]))), Bound::Unbounded);
            let (key, held) = lane.held.range(above).next()?;
            if held.header.follows(head) || (!self.sabotage.upholds(Rule::H1) && held.header.number == BatchNumber(1)) {
                return Some(held);
            }
            incarnation = key.0.incarnation;
        }
    }

    /// How far `member`'s lanes are held without a hole, from what is ordered on.
    pub fn contiguous(&self, member: &MemberId, accept: impl Fn(&Held) -> bool) -> LaneHead {
        let mut head = self.head(member);
        while let Some(next) = self.next_after(member, &head).filter(|held| accept(held)) {
            head = next.head();
        }
        head
    }

    /// The held batches of `member` that follow `after`, in lane order.
    pub fn following<'a>(&'a self, member: &'a MemberId, after: LaneHead) -> impl Iterator<Item = &'a Held> + 'a {
        let mut head = after;
        std::iter::from_fn(move || {
            let next = self.next_after(member, &head)?;
            head = next.head();
            Some(next)
        })
    }

    /// The highest batch of `member` held here, whether linked or not.
    pub fn highest(&self, member: &MemberId) -> Option<BatchId> {
        self.lanes.get(member)?.held.keys().next_back().map(|(id, _)| *id)
    }

    /// A batch is ordered: its lane's head moves there, and what can no longer be ordered is given up (rule H1). Returns
    /// the batch and whether it closed a lane that had held batches.
    pub fn order(&mut self, batch: &BatchRef) -> (Held, bool) {
        let lane = self.lanes.get_mut(&batch.origin).expect("a valid entry orders batches of members");
        let held = lane.held.remove(&(batch.batch, batch.digest)).expect("only held batches are ordered");
        lane.bytes -= held.size;
        let closes =
            batch.batch.incarnation > lane.head.batch.incarnation && lane.head.batch.incarnation > Incarnation(0);
        lane.head = held.head();
        let stays = lane.held.split_off(&(batch.batch, Digest([255; 32])));
        lane.bytes -= lane.held.values().map(|gone| gone.size).sum::<u64>();
        lane.held = stays;
        (held, closes)
    }

    /// Batches that are not ordered and whose bytes are only in the log, with their places.
    pub fn forgotten(&self) -> Vec<(BatchRef, Location)> {
        let held = self.lanes.values().flat_map(|lane| lane.held.values());
        held.filter(|held| held.bytes.is_none())
            .filter_map(|held| Some((held.reference(), held.logged.location()?)))
            .collect()
    }

    /// Takes the bytes of such a batch back.
    pub fn remember(&mut self, batch: &BatchRef, bytes: Bytes) {
        if let Some(held) = self.held_mut(batch) {
            held.bytes = Some(bytes);
        }
    }

    /// Frees the bytes of a batch that the log holds (while a damaged log is replayed).
    pub fn forget_bytes(&mut self, batch: &BatchRef) {
        if let Some(held) = self.held_mut(batch) {
            held.bytes = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::MessageNumber;

    const ORIGIN: MemberId = MemberId([1; 32]);

    fn batch(incarnation: u64, number: u64, parent: Digest, resumes: Option<(u64, u64)>) -> Batch {
        let header = BatchHeader {
            origin: ORIGIN,
            incarnation: Incarnation(incarnation),
            number: BatchNumber(number),
            first: MessageNumber(1),
            count: 0,
            parent,
            resumes: resumes.map(|(j, m)| BatchId { incarnation: Incarnation(j), number: BatchNumber(m) }),
        };
        Batch::seal(header, Vec::new())
    }

    fn lanes(batches: &[&Batch]) -> Lanes {
        let mut lanes = Lanes::new(&[ORIGIN], Sabotage::NONE);
        for batch in batches {
            assert_eq!(lanes.admit((*batch).clone(), Logged::No, false), Admission::Kept);
        }
        lanes
    }

    #[test]
    fn a_lane_goes_on_before_it_is_closed() {
        let first = batch(1, 1, Digest::ZERO, Some((0, 0)));
        let second = batch(1, 2, first.digest, None);
        let opening = batch(2, 1, Digest::ZERO, Some((1, 1)));
        let mut lanes = lanes(&[&opening, &second, &first]);
        let order: Vec<BatchId> = lanes.following(&ORIGIN, LaneHead::START).map(|held| held.header.id()).collect();
        assert_eq!(order, [first.header.id(), second.header.id(), opening.header.id()]);
        lanes.order(&first.reference());
        assert!(lanes.order(&opening.reference()).1);
        assert!(lanes.held(&second.reference()).is_none(), "a closed lane's batch is given up");
        assert_eq!(lanes.admit(second, Logged::No, true), Admission::Past);
    }

    #[test]
    fn a_lane_opens_only_where_what_it_resumes_is_ordered() {
        let first = batch(1, 1, Digest::ZERO, Some((0, 0)));
        let opening = batch(2, 1, Digest::ZERO, Some((1, 2)));
        let lanes = lanes(&[&first, &opening]);
        assert_eq!(lanes.contiguous(&ORIGIN, |_| true), LaneHead { batch: first.header.id(), digest: first.digest });
    }

    #[test]
    fn two_batches_of_one_number_are_told_apart_by_their_link() {
        let first = batch(1, 1, Digest::ZERO, Some((0, 0)));
        let second = batch(1, 2, first.digest, None);
        let false_second = batch(1, 2, Digest::of("test", b"elsewhere"), None);
        let lanes = lanes(&[&first, &false_second, &second]);
        assert_eq!(lanes.contiguous(&ORIGIN, |_| true).digest, second.digest);
    }
}
