//! The way in: the intake, this member's own lane, and the answers to publishers.

use std::collections::{BTreeMap, VecDeque};

use super::chain::Placed;
use super::lanes::{Held, Logged};
use super::model::FaultModel;
use super::ready::{Handed, Haste};
use super::replica::Replica;
use crate::types::host::{Publish, Rejection};
use crate::types::{
    Ack, Batch, BatchHeader, BatchId, BatchNumber, BatchRef, Command, Digest, Epoch, Instant, LaneHead, MessageId,
    MessageNumber, Outcome, PeerMessage, Record, Rule, Ticket, limits,
};

/// One of this member's own batches that is sealed and not yet ordered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    pub reference: BatchRef,
    pub size: u64,
    /// Cumulative bytes of the lane up to and with this batch.
    pub total: u64,
}

/// A membership command on its way into this member's lane.
#[derive(Clone, Debug)]
pub(crate) struct OwnCommand {
    pub command: Command,
    /// Who waits for it, and until when; nobody where this member does so by itself.
    pub asked: Option<(Ticket, Instant)>,
}

#[derive(Clone, Copy, Debug)]
struct Awaited {
    id: MessageId,
    index: u64,
    ack: Ack,
    deadline: Instant,
}

/// This member as a source.
#[derive(Debug, Default)]
pub(crate) struct OwnLane {
    /// Whether this incarnation's first batch is sealed.
    pub opened: bool,
    pub next_number: BatchNumber,
    pub next_message: MessageNumber,
    pub parent: Digest,
    /// Sealed and not ordered, oldest first; those of earlier incarnations stand ahead.
    pub unordered: VecDeque<Own>,
    pub unordered_bytes: u64,
    pub sealed_total: u64,
    pub ordered_total: u64,
    intake: VecDeque<Publish>,
    intake_bytes: u64,
    /// Open publishes by their time, with the bytes of those that wait in the intake.
    deadlines: BTreeMap<(Instant, Ticket), u64>,
    awaited: BTreeMap<Ticket, Awaited>,
    tickets: BTreeMap<BatchId, Vec<Ticket>>,
    /// There may be a hole in what rot left of earlier lanes: it is looked for at peers, and nothing is sealed.
    pub looks_for_hole: bool,
    /// Until when, once a quorum is heard.
    pub hole_until: Option<Instant>,
    /// Rot took something since this lane was opened: perhaps its end.
    pub suspect: bool,
}

impl OwnLane {
    pub fn push(&mut self, reference: BatchRef, size: u64) {
        self.sealed_total += size;
        self.unordered_bytes += size;
        self.unordered.push_back(Own { reference, size, total: self.sealed_total });
    }

    pub fn intake(&self) -> (u64, u64) {
        (self.intake.len() as u64, self.intake_bytes)
    }

    /// Number of the last batch sealed by this incarnation; 0 before the first.
    pub fn sealed_number(&self) -> BatchNumber {
        BatchNumber(self.next_number.0.saturating_sub(1))
    }

    /// Nothing waits to be sealed or ordered.
    pub fn is_drained(&self) -> bool {
        self.intake.is_empty() && self.unordered.is_empty()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    fn has_room(&self) -> bool {
        self.unordered_bytes < limits::LANE_UNORDERED_BYTES && self.unordered.len() < limits::LANE_UNORDERED_BATCHES
    }

    /// The lane is closed: what of it is not ordered never will be.
    pub fn close(&mut self) {
        self.unordered.clear();
        self.unordered_bytes = 0;
        self.ordered_total = self.sealed_total;
    }

    /// Own batches up to and with `head` are ordered.
    pub fn ordered(&mut self, head: &LaneHead) {
        while self.unordered.front().is_some_and(|own| own.reference.batch <= head.batch) {
            let own = self.unordered.pop_front().expect("there is a front");
            self.unordered_bytes -= own.size;
            self.ordered_total = own.total;
        }
    }
}

impl<M: FaultModel> Replica<M> {
    /// Takes a publish into the intake, or refuses it while nothing has become of it.
    pub(crate) fn handle_publish(&mut self, publish: Publish) {
        let bytes = publish.message.body.len() as u64;
        let most = self.configuration.limits.message_bytes_max;
        let (waiting, waiting_bytes) = self.lane.intake();
        let rejection = if let Some(gone) = self.gone() {
            Some(gone)
        } else if self.draining {
            Some(Rejection::Draining)
        } else if bytes > most {
            Some(Rejection::TooLarge { bytes, most })
        } else if let Some(reason) = &self.disk_full {
            Some(Rejection::DiskFull(reason.clone()))
        } else if waiting >= limits::INTAKE_MESSAGES as u64 || waiting_bytes + bytes > limits::INTAKE_BYTES {
            Some(Rejection::IntakeFull { waiting })
        } else {
            None
        };
        match rejection {
            Some(reason) => self.out.ready.outcomes.push((publish.ticket, Outcome::Rejected(reason))),
            None => {
                self.lane.deadlines.insert((publish.deadline, publish.ticket), bytes);
                self.lane.intake_bytes += bytes;
                self.lane.intake.push_back(publish);
            }
        }
    }

    /// Seals what has gathered. A start's first batch is sealed at once, empty if need be (rule H1).
    pub(crate) fn seal(&mut self) {
        if self.repairing.is_some() || self.lane.looks_for_hole || self.disk_full.is_some() {
            return;
        }
        if let Some(gone) = self.sealed_its_last() {
            self.refuse_intake(&gone);
            return;
        }
        if !self.lane.opened {
            self.open_lane();
        }
        self.seal_commands();
        while !self.lane.intake.is_empty() && self.lane.has_room() {
            let publishes = self.gather();
            if !publishes.is_empty() {
                self.seal_as(publishes, None);
            }
        }
    }

    /// What waits in the intake is refused: nothing of it was sealed.
    fn refuse_intake(&mut self, reason: &Rejection) {
        for publish in std::mem::take(&mut self.lane.intake) {
            // One whose time is up was answered, and may stand behind others still.
            if self.lane.deadlines.remove(&(publish.deadline, publish.ticket)).is_some() {
                self.out.ready.outcomes.push((publish.ticket, Outcome::Rejected(reason.clone())));
            }
        }
        self.lane.intake_bytes = 0;
    }

    /// Commands travel alone, ahead of what waits in the intake, and pass the bound on unordered batches.
    fn seal_commands(&mut self) {
        for OwnCommand { command, asked } in std::mem::take(&mut self.duties.commands) {
            let header = self.next_header(1, None);
            if let Some((ticket, deadline)) = asked {
                let awaited = Awaited { id: header.message_id(0), index: 0, ack: Ack::Ordered, deadline };
                self.lane.awaited.insert(ticket, awaited);
                self.lane.deadlines.insert((deadline, ticket), 0);
                self.lane.tickets.insert(header.id(), vec![ticket]);
            }
            self.counters.commands += 1;
            self.seal_batch(Batch::seal(header, vec![command.message()]));
            self.out.hasten(Haste::Now);
        }
    }

    /// As many waiting publishes as one batch holds.
    fn gather(&mut self) -> Vec<Publish> {
        let mut publishes: Vec<Publish> = Vec::new();
        let mut weight = limits::MESSAGE_OVERHEAD_BYTES;
        while let Some(next) = self.lane.intake.front() {
            if next.deadline <= self.now.instant {
                self.lane.intake.pop_front(); // its time is up: `expire` answers
                continue;
            }
            weight += next.message.weight();
            let full =
                weight > self.configuration.limits.batch_bytes_max || publishes.len() == limits::BATCH_MESSAGES_MAX;
            if full && !publishes.is_empty() {
                break;
            }
            self.lane.intake_bytes -= next.message.body.len() as u64;
            publishes.extend(self.lane.intake.pop_front());
        }
        publishes
    }

    fn open_lane(&mut self) {
        let resumes = self.resumed.batch;
        self.lane.opened = true;
        self.lane.next_number = BatchNumber(1);
        self.lane.next_message = MessageNumber(1);
        self.lane.parent = Digest::ZERO;
        let publishes = self.gather();
        self.seal_as(publishes, Some(resumes));
    }

    fn seal_as(&mut self, publishes: Vec<Publish>, resumes: Option<BatchId>) {
        let header = self.next_header(publishes.len() as u64, resumes);
        let id = header.id();
        let mut messages = Vec::with_capacity(publishes.len());
        let mut tickets = Vec::with_capacity(publishes.len());
        let wants_accepted = publishes.iter().any(|publish| publish.ack == Ack::Accepted);
        for (index, publish) in publishes.into_iter().enumerate() {
            let index = index as u64;
            let awaited = Awaited { id: header.message_id(index), index, ack: publish.ack, deadline: publish.deadline };
            self.lane.awaited.insert(publish.ticket, awaited);
            tickets.push(publish.ticket);
            messages.push(publish.message);
        }
        if !tickets.is_empty() {
            self.lane.tickets.insert(id, tickets);
        }
        self.seal_batch(Batch::seal(header, messages));
        if wants_accepted {
            self.out.hasten(Haste::Now);
        }
    }

    fn next_header(&self, count: u64, resumes: Option<BatchId>) -> BatchHeader {
        BatchHeader {
            origin: self.me,
            incarnation: self.incarnation,
            number: self.lane.next_number,
            first: self.lane.next_message,
            count,
            parent: self.lane.parent,
            resumes,
        }
    }

    fn seal_batch(&mut self, batch: Batch) {
        self.lane.next_number = self.lane.next_number.next();
        self.lane.next_message = MessageNumber(self.lane.next_message.0 + batch.header.count);
        self.lane.parent = batch.digest;
        self.lane.push(batch.reference(), batch.bytes.len() as u64);
        self.lanes.admit(batch.clone(), Logged::No, true);
        self.log_batch(&batch.reference());
        self.push_own(); // L2: may leave before it is durable here
    }

    /// Sends own unordered batches to every linked voter, as far as its credit goes (rule N1).
    pub(crate) fn push_own(&mut self) {
        let linked: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.linked && peer.votes && peer.status.is_some())
            .map(|(id, _)| *id)
            .collect();
        for to in linked {
            let peer = &self.peers[&to];
            let mut pushed = peer.pushed.max(self.lane.ordered_total);
            let acknowledged = peer.acknowledged.max(self.lane.ordered_total);
            let from = self.lane.unordered.partition_point(|own| own.total <= pushed);
            let mut batches = Vec::new();
            for own in self.lane.unordered.range(from..) {
                if own.total - acknowledged > limits::LANE_CREDIT_BYTES.max(own.size) {
                    break;
                }
                let Some(batch) = self.lanes.held(&own.reference).and_then(Held::batch) else { break }; // being read back
                pushed = own.total;
                batches.push(batch);
            }
            for batch in batches {
                self.send_early(to, PeerMessage::Batch(batch));
            }
            self.peers.get_mut(&to).expect("it is linked").pushed = pushed;
        }
    }

    /// A peer told how far it holds this member's lanes.
    pub(crate) fn note_acknowledged(&mut self, peer: &crate::types::MemberId) {
        let me = self.me;
        let Some(entry) = self.peers.get_mut(peer) else { return };
        let Some(head) = entry.lane_head(&me) else { return };
        let held = self.lane.unordered.partition_point(|own| own.reference.batch <= head.batch);
        let total = if held == 0 { self.lane.ordered_total } else { self.lane.unordered[held - 1].total };
        entry.acknowledged = entry.acknowledged.max(total);
        entry.pushed = entry.pushed.max(total);
    }

    /// Hands a held batch to the log, once.
    pub(crate) fn log_batch(&mut self, reference: &BatchRef) {
        let Some(held) = self.lanes.held(reference) else { return };
        if held.logged != Logged::No {
            return;
        }
        let bytes = held.bytes.clone().expect("a batch that is not in the log is in memory");
        self.lanes.mark(reference, Logged::Handed);
        self.out.record(Record::Batch(bytes), Handed::Batch(*reference));
    }

    /// An own batch is durable here: `accepted` may be said (it was sealed under a durable incarnation, and will be
    /// offered again after any restart).
    pub(crate) fn answer_accepted(&mut self, id: BatchId) {
        let Some(tickets) = self.lane.tickets.get(&id) else { return };
        for ticket in tickets {
            let Some(awaited) = self.lane.awaited.get(ticket).copied() else { continue };
            if awaited.ack == Ack::Accepted {
                self.lane.awaited.remove(ticket);
                self.lane.deadlines.remove(&(awaited.deadline, *ticket));
                self.out.ready.outcomes.push((*ticket, Outcome::Accepted { id: awaited.id }));
            }
        }
    }

    /// An own batch is delivered.
    pub(crate) fn answer_ordered(&mut self, placed: &Placed, epoch: Epoch) {
        if placed.held.header.incarnation != self.incarnation {
            return; // who waited for it has gone with the process
        }
        for ticket in self.lane.tickets.remove(&placed.held.header.id()).unwrap_or_default() {
            let Some(awaited) = self.lane.awaited.remove(&ticket) else { continue };
            self.lane.deadlines.remove(&(awaited.deadline, ticket));
            let (position, hlc) = (placed.first.plus(awaited.index), placed.hlc.plus(awaited.index));
            let outcome = match placed.without_effect {
                None => Outcome::Ordered { id: awaited.id, position, epoch, hlc },
                Some(reason) => Outcome::WithoutEffect { reason: reason.to_owned() },
            };
            self.out.ready.outcomes.push((ticket, outcome));
        }
    }

    /// Answers publishers whose time is up: rejected while in the intake, unknown once sealed.
    pub(crate) fn expire(&mut self) {
        self.expire_commands();
        while let Some(((deadline, ticket), bytes)) = self.lane.deadlines.pop_first() {
            if deadline > self.now.instant {
                self.lane.deadlines.insert((deadline, ticket), bytes);
                break;
            }
            let outcome = match self.lane.awaited.remove(&ticket) {
                Some(awaited) => Outcome::OutcomeUnknown { id: awaited.id },
                None => {
                    self.lane.intake_bytes -= bytes;
                    Outcome::Rejected(Rejection::TimedOut { unordered: self.lane.unordered.len() as u64 })
                }
            };
            self.out.ready.outcomes.push((ticket, outcome));
        }
        let open = |publish: &Publish| self.lane.deadlines.contains_key(&(publish.deadline, publish.ticket));
        while self.lane.intake.front().is_some_and(|publish| !open(publish)) {
            self.lane.intake.pop_front();
        }
    }

    fn expire_commands(&mut self) {
        let (now, unordered) = (self.now.instant, self.lane.unordered.len() as u64);
        let outcomes = &mut self.out.ready.outcomes;
        self.duties.commands.retain(|own| match own.asked {
            Some((ticket, deadline)) if deadline <= now => {
                outcomes.push((ticket, Outcome::Rejected(Rejection::TimedOut { unordered })));
                false
            }
            _ => true,
        });
    }

    /// What this member's lanes resume at, as far as its own disk tells (rule H1), and whether a hole hides more.
    pub(crate) fn find_resumed(&self) -> (LaneHead, bool) {
        let head = self.lanes.contiguous(&self.me, |_| true);
        let hole = self.lanes.highest(&self.me).is_some_and(|highest| highest > head.batch);
        (head, hole && self.sabotage.upholds(Rule::H1))
    }
}
