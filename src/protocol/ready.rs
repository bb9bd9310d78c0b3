//! What the replica hands out: every field says what must be durable before it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::types::peer::{Envelope, Hello, Refusal};
use crate::types::statement::Tip;
use crate::types::{BatchRef, Delivered, Digest, Location, MemberId, Outcome, Record, Serve, Slot, StartNonce, Ticket};

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// To whom.
    pub to: MemberId,
    /// What; shared when it goes to several.
    pub envelope: Arc<Envelope>,
}

/// Everything a turn produced. The driver sends, appends, syncs and hands over in the order of the fields.
#[derive(Debug, Default)]
pub struct Ready {
    /// Promises nothing about our disk: may leave at once (early batches by L2, a leader's proposals by L1).
    pub early: Vec<Outgoing>,
    /// R7: promises that records handed out *before* are durable, and they are.
    pub late: Vec<Outgoing>,
    /// Decided, and durable here since an earlier turn.
    pub deliver: Vec<Delivered>,
    /// Answers to publishers; whatever they promise is durable here.
    pub outcomes: Vec<(Ticket, Outcome)>,
    /// Decided slots to be read from the log and sent.
    pub serve: Vec<Serve>,
    /// Batches to be read back from the log: others may ask for them. [`super::Replica::handle_recalled`] takes them.
    pub recall: Vec<(BatchRef, Location)>,
    /// Peers whose links are to be closed, with the reason; the nonce names the process that was judged.
    pub refuse: Vec<(MemberId, StartNonce, Refusal)>,
    /// What hellos say from now on, if it changed.
    pub hello: Option<Hello>,
    /// To be appended in this order, then synced, then reported back.
    pub records: Vec<Record>,
    /// Whether somebody waits for one of the records. Payload alone can wait a little for the entry and the vote that
    /// follow it, so that one sync covers all three.
    pub urgent: bool,
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
    waiting: VecDeque<(u64, Outgoing)>,
}

impl Output {
    pub fn record(&mut self, record: Record, about: Handed) {
        self.ready.urgent |= !matches!(about, Handed::Batch(_) | Handed::Mark);
        self.ready.records.push(record);
        self.handed.push_back(about);
        self.records_made += 1;
    }

    pub fn early(&mut self, to: MemberId, envelope: Arc<Envelope>) {
        self.ready.early.push(Outgoing { to, envelope });
    }

    /// R7: leaves when every record made so far is durable.
    pub fn late(&mut self, to: MemberId, envelope: Arc<Envelope>) {
        let outgoing = Outgoing { to, envelope };
        if self.records_durable == self.records_made {
            self.ready.late.push(outgoing);
        } else {
            self.waiting.push_back((self.records_made, outgoing));
        }
    }

    /// The next record is durable.
    pub fn durable(&mut self) -> Option<Handed> {
        let handed = self.handed.pop_front()?;
        self.records_durable += 1;
        while self.waiting.front().is_some_and(|(after, _)| *after <= self.records_durable) {
            let (_, outgoing) = self.waiting.pop_front().expect("there is a front");
            self.ready.late.push(outgoing);
        }
        Some(handed)
    }

    /// Whether records wait to be handed out or to become durable.
    pub fn is_pending(&self) -> bool {
        !self.handed.is_empty()
    }
}
