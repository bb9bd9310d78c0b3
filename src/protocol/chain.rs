//! The chain: decided slots, and the entries above them that may become decided.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::lanes::{Held, Lanes, Logged};
use super::membership::{Heads, LaneChange, Membership};
use crate::types::entry::EntryBody;
use crate::types::peer::ChainEntry;
use crate::types::statement::{Round, Tip};
use crate::types::{
    BatchRef, ClusterId, Digest, Entry, Epoch, Hlc, LaneHead, Location, Position, Rule, Sabotage, Slot, chain_digest,
    limits,
};

/// An entry that is not decided, as far as this member knows.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub parent: Digest,
    pub entry: Entry,
    pub bytes: Bytes,
    pub logged: Logged,
}

/// A decided slot that is delivered: where it stands in the log.
#[derive(Clone, Debug)]
pub(crate) struct SlotRow {
    pub digest: Digest,
    pub entry: Location,
    pub batches: Box<[Location]>,
}

/// A decided slot that waits until it is durable here.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub slot: Slot,
    pub digest: Digest,
    /// The epoch it belongs to; the end of one belongs to the one it ends.
    pub epoch: Epoch,
    /// Position of its first message, or of the end of an epoch.
    pub first: Position,
    pub candidate: Candidate,
    pub batches: Vec<Placed>,
    /// Batches that are not durable yet.
    lacking: usize,
}

/// A batch of a decided slot, with its place.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub held: Held,
    pub first: Position,
    /// Messages that take a position: all, but a command without effect.
    pub count: u64,
    pub hlc: Hlc,
    /// Why a command has no effect.
    pub without_effect: Option<&'static str>,
}

/// What a member lacks to go on with a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// The entry with this digest.
    Entry(Slot, Digest),
    /// Payload of an entry it has.
    Batches(Vec<BatchRef>),
    /// The signed votes that decide the end of an epoch, which it has.
    Certificate(Slot),
    /// Nothing can help: the chain does not extend what is decided, or breaks a rule of validity (R9).
    Invalid(&'static str),
}

/// Derived state at one point of a chain (rule D1), as far as it bears on validity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Derived {
    /// Of the members whose lanes are open.
    pub heads: Heads,
    pub last_hlc: Hlc,
    pub next_position: Position,
    pub membership: Arc<Membership>,
    /// The epoch ends with the last entry: nothing may follow (rule R8).
    ended: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Chain {
    cluster: ClusterId,
    sabotage: Sabotage,
    pub rows: Vec<SlotRow>,
    pub waiting: VecDeque<Waiting>,
    /// The last decided slot; the round it is known to be decided in.
    pub decided: Tip,
    /// Derived state at the decided slot.
    pub state: Derived,
    candidates: BTreeMap<(Slot, Digest), Candidate>,
    /// Derived state at one undecided point, kept so that a growing chain is not walked again and again.
    overlay: Option<(Slot, Digest, Derived)>,
}

impl Chain {
    pub fn new(membership: Membership, sabotage: Sabotage) -> Chain {
        let cluster = membership.configuration.cluster;
        let state = Derived {
            heads: membership.members.keys().map(|member| (*member, LaneHead::START)).collect(),
            last_hlc: Hlc(0),
            next_position: Position(1),
            membership: Arc::new(membership),
            ended: false,
        };
        Chain {
            cluster,
            sabotage,
            rows: Vec::new(),
            waiting: VecDeque::new(),
            decided: Tip { round: Round::default(), slot: Slot(0), digest: cluster },
            state,
            candidates: BTreeMap::new(),
            overlay: None,
        }
    }

    /// The last delivered slot: decided, and durable here.
    pub fn delivered(&self) -> Slot {
        Slot(self.rows.len() as u64)
    }

    /// The last position handed out to a delivered message.
    pub fn delivered_position(&self) -> Position {
        Position(self.waiting.front().map_or(self.state.next_position, |slot| slot.first).0 - 1)
    }

    /// h of a decided slot; none above.
    pub fn digest_at(&self, slot: Slot) -> Option<Digest> {
        if slot == Slot(0) {
            return Some(self.cluster);
        }
        if let Some(row) = self.rows.get(slot.0 as usize - 1) {
            return Some(row.digest);
        }
        self.waiting.get((slot.0 - 1) as usize - self.rows.len()).map(|waiting| waiting.digest)
    }

    pub fn candidate(&self, slot: Slot, digest: &Digest) -> Option<&Candidate> {
        self.candidates.get(&(slot, *digest))
    }

    /// h of a slot with this entry.
    pub fn digest_of(&self, entry: &ChainEntry) -> Digest {
        chain_digest(&self.cluster, &entry.parent, entry.slot, &entry.entry.1)
    }

    /// Keeps an entry above the decided slot; returns its digest, or none if it is not of use now. Nothing of a chain
    /// in use is dropped: `protect` names what is voted, proposed or adopted.
    pub fn keep(
        &mut self,
        entry: &ChainEntry,
        logged: Logged,
        protect: impl Fn(Slot, &Digest) -> bool,
    ) -> Option<Digest> {
        if entry.slot <= self.decided.slot || entry.slot.0 > self.decided.slot.0 + limits::CANDIDATE_SLOTS {
            return None;
        }
        Some(self.keep_any(entry, logged, protect))
    }

    /// Keeps an entry of one's own log, however far above the decided slot it is.
    pub fn keep_any(&mut self, entry: &ChainEntry, logged: Logged, protect: impl Fn(Slot, &Digest) -> bool) -> Digest {
        let digest = self.digest_of(entry);
        let (parsed, bytes) = entry.entry.clone();
        self.candidates.entry((entry.slot, digest)).or_insert_with(|| Candidate {
            parent: entry.parent,
            entry: parsed,
            bytes,
            logged,
        });
        let of_slot = (entry.slot, Digest([0; 32]))..=(entry.slot, Digest([255; 32]));
        if self.candidates.range(of_slot.clone()).count() > limits::CANDIDATES_PER_SLOT {
            let spare = self
                .candidates
                .range(of_slot)
                .map(|(key, _)| *key)
                .find(|(slot, other)| *other != digest && !protect(*slot, other));
            if let Some(key) = spare {
                self.candidates.remove(&key);
            }
        }
        digest
    }

    pub fn mark(&mut self, slot: Slot, digest: &Digest, logged: Logged) {
        if let Some(candidate) = self.candidates.get_mut(&(slot, *digest)) {
            candidate.logged = logged;
        }
    }

    /// The undecided part of the chain that ends in (slot, digest), from low to high; its lowest slot follows the
    /// decided one. Empty if that slot is decided.
    pub fn path(&self, slot: Slot, digest: &Digest) -> Result<Vec<(Slot, Digest)>, Lack> {
        let mut path = Vec::new();
        let (mut slot, mut digest) = (slot, *digest);
        while slot > self.decided.slot {
            let candidate = self.candidates.get(&(slot, digest)).ok_or(Lack::Entry(slot, digest))?;
            path.push((slot, digest));
            (slot, digest) = (Slot(slot.0 - 1), candidate.parent);
        }
        if self.digest_at(slot) != Some(digest) {
            return Err(Lack::Invalid("it does not extend the decided chain"));
        }
        path.reverse();
        Ok(path)
    }

    /// Rules R9 and R3: the path, if the whole chain is valid and its payload is held.
    pub fn whole(&mut self, slot: Slot, digest: &Digest, lanes: &Lanes) -> Result<Vec<(Slot, Digest)>, Lack> {
        let path = self.path(slot, digest)?;
        self.derived(&path, lanes)?;
        Ok(path)
    }

    /// Derived state at the end of a path.
    pub fn derived(&mut self, path: &[(Slot, Digest)], lanes: &Lanes) -> Result<Derived, Lack> {
        let known = self.overlay.as_ref().and_then(|(slot, digest, derived)| {
            let index = path.iter().position(|at| *at == (*slot, *digest))?;
            Some((index + 1, derived.clone()))
        });
        let (start, mut derived) = known.unwrap_or_else(|| (0, self.state.clone()));
        for key in &path[start..] {
            derived.apply(&self.candidates[key].entry, lanes, &self.sabotage)?;
        }
        if let Some((slot, digest)) = path.last() {
            self.overlay = Some((*slot, *digest, derived.clone()));
        }
        Ok(derived)
    }

    /// Decides the slot after the last decided one. The caller has checked the path; every batch is held. Returns how
    /// many lanes it closed.
    pub fn decide(&mut self, round: Round, digest: Digest, lanes: &mut Lanes) -> u64 {
        let slot = self.decided.slot.next();
        let candidate = self.candidates.remove(&(slot, digest)).expect("a decided entry is here");
        let (first, epoch) = (self.state.next_position, self.state.membership.configuration.epoch);
        let before = self.state.membership.clone();
        let effects = self.state.apply(&candidate.entry, lanes, &self.sabotage).expect("a decided entry is valid here");
        let mut effects = effects.into_iter();
        self.state.ended = false;
        let mut closed = 0;
        let (mut position, mut reading) = (first, candidate.entry.hlc);
        let mut batches = Vec::with_capacity(candidate.entry.batches().len());
        for reference in candidate.entry.batches() {
            let (held, closes) = lanes.order(reference);
            closed += u64::from(closes);
            let without_effect = effects.next().flatten();
            let count = if without_effect.is_some() { 0 } else { held.header.count };
            let read = held.header.count;
            batches.push(Placed { held, first: position, count, hlc: reading, without_effect });
            position = position.plus(count); // D3: decided messages, and nothing else
            reading = reading.plus(read);
        }
        if !Arc::ptr_eq(&before, &self.state.membership) {
            lanes.follow(&before, &self.state.membership);
        }
        self.decided = Tip { round, slot, digest };
        self.candidates = self.candidates.split_off(&(slot.next(), Digest([0; 32])));
        if self.overlay.as_ref().is_some_and(|(at, _, _)| *at <= slot) {
            self.overlay = None;
        }
        let lacking = batches.iter().filter(|batch| !batch.held.logged.is_durable()).count();
        self.waiting.push_back(Waiting { slot, digest, epoch, first, candidate, batches, lacking });
        closed
    }

    /// A place in the log became durable: of a decided slot that waits for it, or of a candidate.
    pub fn batch_durable(&mut self, batch: &BatchRef, location: Location) {
        for slot in self.waiting.iter_mut().filter(|slot| slot.lacking > 0) {
            let lacking = |placed: &&mut Placed| !placed.held.logged.is_durable() && placed.held.reference() == *batch;
            if let Some(placed) = slot.batches.iter_mut().find(lacking) {
                placed.held.logged = Logged::Durable(location);
                slot.lacking -= 1;
                return; // a batch is ordered once
            }
        }
    }

    /// An entry's record became durable.
    pub fn entry_durable(&mut self, slot: Slot, digest: &Digest, location: Location) {
        self.mark(slot, digest, Logged::Durable(location));
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.slot == slot && waiting.digest == *digest) {
            waiting.candidate.logged = Logged::Durable(location);
        }
    }

    /// The next decided slot that is durable here, taken out: it is to be delivered now.
    pub fn next_delivery(&mut self) -> Option<Waiting> {
        let front = self.waiting.front()?;
        let durable = front.candidate.logged.is_durable() && front.lacking == 0;
        if !durable && self.sabotage.upholds(Rule::Delivery) {
            return None;
        }
        let slot = self.waiting.pop_front()?;
        let nowhere = Location { segment: 0, offset: 0, length: 0 }; // only in sabotaged runs
        self.rows.push(SlotRow {
            digest: slot.digest,
            entry: slot.candidate.logged.location().unwrap_or(nowhere),
            batches: slot.batches.iter().map(|batch| batch.held.logged.location().unwrap_or(nowhere)).collect(),
        });
        Some(slot)
    }

    /// An undecided slot's record, for whoever asks.
    pub fn chain_entry(&self, slot: Slot, digest: &Digest) -> Option<ChainEntry> {
        let candidate = self.candidate(slot, digest)?;
        Some(ChainEntry { slot, parent: candidate.parent, entry: (candidate.entry.clone(), candidate.bytes.clone()) })
    }

    /// Some undecided entry that follows the decided chain, whatever its digest (used where rule V7 is switched off).
    pub fn any_successor(&self) -> Option<Digest> {
        let slot = self.decided.slot.next();
        let here = (slot, Digest([0; 32]))..=(slot, Digest([255; 32]));
        self.candidates.range(here).find(|(_, candidate)| candidate.parent == self.decided.digest).map(|(key, _)| key.1)
    }
}

/// Readings beyond this leave no room for what follows them.
const HLC_MAX: u64 = u64::MAX - (1 << 40);

impl Derived {
    /// The last entry ends the epoch.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Rule R9: moves on by an entry, if it is valid here; tells of every batch why it has no effect, if it has none.
    fn apply(&mut self, entry: &Entry, lanes: &Lanes, sabotage: &Sabotage) -> Result<Vec<Option<&'static str>>, Lack> {
        if self.ended && sabotage.upholds(Rule::R8) {
            return Err(Lack::Invalid("its epoch has ended before it (R8)"));
        }
        if entry.hlc.0 > HLC_MAX {
            return Err(Lack::Invalid("its clock reading is beyond the end of the clock"));
        }
        if entry.hlc <= self.last_hlc {
            return Err(Lack::Invalid("its clock reading is not after its parent's"));
        }
        match &entry.body {
            EntryBody::Batches(batches) => self.apply_batches(entry.hlc, batches, lanes, sabotage),
            EntryBody::EpochEnd(end) => {
                self.membership.check_end(&end.next, &self.heads, sabotage).map_err(Lack::Invalid)?;
                Arc::make_mut(&mut self.membership).end_epoch(&end.next, sabotage);
                let membership = &self.membership;
                self.heads.retain(|member, _| membership.is_open(member));
                self.last_hlc = entry.hlc;
                self.next_position = self.next_position.next();
                self.ended = true;
                Ok(Vec::new())
            }
        }
    }

    fn apply_batches(
        &mut self,
        hlc: Hlc,
        batches: &[BatchRef],
        lanes: &Lanes,
        sabotage: &Sabotage,
    ) -> Result<Vec<Option<&'static str>>, Lack> {
        if batches.is_empty() || batches.len() > limits::ENTRY_BATCHES_MAX {
            return Err(Lack::Invalid("its number of batches is out of bounds"));
        }
        let missing: Vec<BatchRef> = batches.iter().filter(|batch| lanes.held(batch).is_none()).copied().collect();
        if !missing.is_empty() {
            return Err(Lack::Batches(missing));
        }
        let mut reading = hlc;
        let mut effects = Vec::with_capacity(batches.len());
        for batch in batches {
            let held = lanes.held(batch).expect("none is missing");
            effects.push(self.order(held, sabotage)?);
            reading = reading.plus(held.header.count);
        }
        self.last_hlc = Hlc(hlc.0.max(reading.0.saturating_sub(1)));
        Ok(effects)
    }

    /// Moves on by one batch (H1), and by the command it carries; tells why that has no effect, if it has none.
    pub fn order(&mut self, held: &Held, sabotage: &Sabotage) -> Result<Option<&'static str>, Lack> {
        let origin = held.header.origin;
        let head = self.heads.get_mut(&origin).ok_or(Lack::Invalid("a batch's origin has no open lane"))?;
        if !held.header.follows(head) && sabotage.upholds(Rule::H1) {
            return Err(Lack::Invalid("a batch does not follow its lane's head (H1)"));
        }
        *head = held.head();
        let Some(command) = &held.command else {
            self.next_position = self.next_position.plus(held.header.count);
            return Ok(None);
        };
        let (incarnation, at) = (held.header.incarnation, self.next_position);
        match Arc::make_mut(&mut self.membership).apply(command, &origin, incarnation, at, &self.heads) {
            Ok(change) => {
                self.next_position = at.next();
                match change {
                    LaneChange::None => {}
                    LaneChange::Opened(member) => drop(self.heads.insert(member, LaneHead::START)),
                    LaneChange::Closed(member) => drop(self.heads.remove(&member)),
                }
                Ok(None)
            }
            Err(why) => Ok(Some(why)),
        }
    }
}
