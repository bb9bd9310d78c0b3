//! What the replica hands out: every field says what must be durable before it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::types::peer::{Envelope, Hello, Refusal};
use crate::types::statement::Tip;
use crate::types::{
    BatchRef, Delivered, Digest, DoorMessage, Instant, Location, MemberId, Outcome, Record, Roster, Serve, Slot,
    StartNonce, Ticket,
};

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// To whom.
    pub to: MemberId,
    /// What; shared when it goes to several.
    pub envelope: Arc<Envelope>,
}

/// Everything a turn produced. The driver hands over, sends, appends and syncs in the order of the fields.
#[derive(Debug, Default)]
pub struct Ready {
    /// What hellos say from now on, if it changed.
    pub hello: Option<Hello>,
    /// Decided, and durable here since an earlier turn.
    pub deliver: Vec<Delivered>,
    /// Answers to publishers; whatever they promise is durable here.
    pub outcomes: Vec<(Ticket, Outcome)>,
    /// Promises nothing about our disk: may leave at once (early batches by L2, a leader's proposals by L1).
    pub early: Vec<Outgoing>,
    /// R7: promises that records handed out *before* are durable, and they are.
    pub late: Vec<Outgoing>,
    /// Decided slots to be read from the log and sent.
    pub serve: Vec<Serve>,
    /// Batches to be read back from the log: others may ask for them. [`super::Replica::handle_recalled`] takes them.
    pub recall: Vec<(BatchRef, Location)>,
    /// Peers whose links are to be closed, with the reason; the nonce names the process that was judged.
    pub refuse: Vec<(MemberId, StartNonce, Refusal)>,
    /// Whom the mesh is to know from now on, if that changed.
    pub roster: Option<Roster>,
    /// Words at the door: answers to those who knocked, and knocks.
    pub door: Vec<(MemberId, DoorMessage)>,
    /// To be appended in this order, then synced, then reported back.
    pub records: Vec<Record>,
    /// How soon the records are to be durable.
    pub haste: Haste,
}

/// How soon records are to be durable. What may wait a little shares a sync with what comes meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Haste {
    /// Payload alone waits for the entry that orders it, and for the vote: one sync covers all three.
    #[default]
    Payload,
    /// Entries and votes, and more of them are on the way: they wait for about as long as a sync takes.
    Gather,
    /// Somebody waits for nothing else.
    Now,
}

/// What a record handed out was about, to be looked up when it is durable.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Handed {
    Batch(BatchRef),
    Entry(Slot, Digest),
    Voter(crate::types::record::Voter),
    Vote(Tip),
    /// A decided mark: it rides on the next sync.
    Mark,
    Other,
}

/// Collects what becomes the next [`Ready`].
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub ready: Ready,
    /// Records handed out or about to be, and not yet reported durable.
    pub handed: VecDeque<Handed>,
    records_made: u64,
    records_durable: u64,
    waiting: VecDeque<Waiting>,
    /// What may leave, and is in no hurry.
    patient: VecDeque<(Instant, Outgoing)>,
}

/// A message that waits until so many records are durable.
#[derive(Debug)]
struct Waiting {
    after: u64,
    /// Until then it waits for company.
    until: Option<Instant>,
    outgoing: Outgoing,
}

impl Output {
    pub fn record(&mut self, record: Record, about: Handed) {
        let haste = match about {
            Handed::Batch(_) | Handed::Mark => Haste::Payload,
            Handed::Entry(..) | Handed::Vote(_) => Haste::Gather,
            Handed::Voter(_) | Handed::Other => Haste::Now,
        };
        self.hasten(haste);
        self.ready.records.push(record);
        self.handed.push_back(about);
        self.records_made += 1;
    }

    /// The records of this turn are to be durable so soon at the latest.
    pub fn hasten(&mut self, haste: Haste) {
        self.ready.haste = self.ready.haste.max(haste);
    }

    pub fn early(&mut self, to: MemberId, envelope: Arc<Envelope>) {
        self.ready.early.push(Outgoing { to, envelope });
    }

    /// R7: leaves when every record made so far is durable.
    pub fn late(&mut self, to: MemberId, envelope: Arc<Envelope>) {
        self.wait(Waiting { after: self.records_made, until: None, outgoing: Outgoing { to, envelope } });
    }

    /// Like [`Output::late`]; goes with the next message to the same member, or when it is time.
    pub fn late_in_company(&mut self, to: MemberId, envelope: Arc<Envelope>, until: Instant) {
        self.wait(Waiting { after: self.records_made, until: Some(until), outgoing: Outgoing { to, envelope } });
    }

    fn wait(&mut self, waiting: Waiting) {
        if self.records_durable >= waiting.after {
            self.release(waiting);
        } else {
            self.waiting.push_back(waiting);
        }
    }

    fn release(&mut self, Waiting { until, outgoing, .. }: Waiting) {
        match until {
            Some(until) => self.patient.push_back((until, outgoing)),
            None => self.ready.late.push(outgoing),
        }
    }

    /// Lets go what found company, or waited long enough.
    pub fn release_patient(&mut self, now: Instant) {
        let ready = &self.ready;
        let has_company = |to: MemberId| ready.early.iter().chain(&ready.late).any(|other| other.to == to);
        let goes = |(until, outgoing): &(Instant, Outgoing)| *until <= now || has_company(outgoing.to);
        let (go, stay): (VecDeque<_>, _) = std::mem::take(&mut self.patient).into_iter().partition(goes);
        self.patient = stay;
        self.ready.late.extend(go.into_iter().map(|(_, outgoing)| outgoing));
    }

    /// When a patient message goes at the latest.
    pub fn next_due(&self) -> Option<Instant> {
        self.patient.front().map(|(until, _)| *until)
    }

    /// The next record is durable.
    pub fn durable(&mut self) -> Option<Handed> {
        let handed = self.handed.pop_front()?;
        self.records_durable += 1;
        while let Some(waiting) = self.waiting.pop_front_if(|waiting| waiting.after <= self.records_durable) {
            self.release(waiting);
        }
        Some(handed)
    }

    /// Records made so far: what is said late now leaves when all of them are durable.
    pub fn made(&self) -> u64 {
        self.records_made
    }

    /// Whether what was said late when so many records were made has left.
    pub fn has_left(&self, made: u64) -> bool {
        self.records_durable >= made
    }

    /// What waits, for the disk or for company, is not said to this member any more.
    pub fn forget(&mut self, to: &MemberId) {
        self.waiting.retain(|waiting| waiting.outgoing.to != *to);
        self.patient.retain(|(_, outgoing)| outgoing.to != *to);
    }

    /// Whether records wait to become durable, or messages or answers to be handed out.
    pub fn is_pending(&self) -> bool {
        let said = self.waiting.is_empty() && self.patient.is_empty() && self.ready.late.is_empty();
        !(said && self.handed.is_empty() && self.ready.outcomes.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::types::PeerMessage;
    use crate::types::statement::Round;

    const PEER: MemberId = MemberId([1; 32]);
    const OTHER: MemberId = MemberId([2; 32]);

    fn envelope() -> Arc<Envelope> {
        let message =
            PeerMessage::FetchDecided { after: Slot(0), digest: Digest::ZERO, through: Slot(1), waits: false };
        Arc::new(Envelope { epoch: Round::default().epoch, configuration: Digest::ZERO, message })
    }

    fn at(milliseconds: u64) -> Instant {
        Instant(0) + Duration::from_millis(milliseconds)
    }

    fn late(output: &mut Output, now: Instant) -> Vec<MemberId> {
        output.release_patient(now);
        std::mem::take(&mut output.ready).late.into_iter().map(|outgoing| outgoing.to).collect()
    }

    #[test]
    fn what_is_late_waits_for_the_records_before_it() {
        let mut output = Output::default();
        output.record(Record::Genesis(Bytes::new()), Handed::Other);
        output.late(PEER, envelope());
        output.late_in_company(OTHER, envelope(), at(0));
        assert!(late(&mut output, at(9)).is_empty(), "R7");
        output.durable().unwrap();
        assert_eq!(late(&mut output, at(9)), [PEER, OTHER]);
    }

    #[test]
    fn what_is_patient_goes_in_company_or_in_time() {
        let mut output = Output::default();
        output.late_in_company(PEER, envelope(), at(2));
        output.late(OTHER, envelope());
        assert_eq!(late(&mut output, at(1)), [OTHER], "no company of its own");
        assert_eq!(output.next_due(), Some(at(2)));
        output.early(PEER, envelope());
        assert_eq!(late(&mut output, at(1)), [PEER]);
        output.late_in_company(PEER, envelope(), at(2));
        assert_eq!(late(&mut output, at(2)), [PEER]);
        assert_eq!(output.next_due(), None);
    }

    #[test]
    fn what_became_durable_is_pending_until_it_is_said() {
        let mut output = Output::default();
        output.record(Record::Genesis(Bytes::new()), Handed::Other);
        output.late(PEER, envelope());
        output.late_in_company(OTHER, envelope(), at(2));
        output.durable().unwrap();
        assert!(output.is_pending());
        assert_eq!(late(&mut output, at(1)), [PEER]);
        assert!(output.is_pending(), "one waits for company");
        assert_eq!(late(&mut output, at(2)), [OTHER]);
        assert!(!output.is_pending());
    }

    #[test]
    fn the_greatest_haste_counts() {
        let mut output = Output::default();
        assert_eq!(output.ready.haste, Haste::Payload);
        output.record(
            Record::Genesis(Bytes::new()),
            Handed::Vote(Tip { round: Round::default(), slot: Slot(1), digest: Digest::ZERO }),
        );
        output.record(Record::Genesis(Bytes::new()), Handed::Mark);
        assert_eq!(output.ready.haste, Haste::Gather);
        output.hasten(Haste::Now);
        assert_eq!(output.ready.haste, Haste::Now);
    }
}
