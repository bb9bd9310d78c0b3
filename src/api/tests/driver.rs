//! A driver that orders what it is sent, in batches, as a real one does; or does something else, if its mood is so.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::member::OWN;
use crate::api::Tickets;
use crate::delivery::{DeliveryWriter, RecordReader};
use crate::driver::Input;
use crate::driver::inbox::Inbox;
use crate::types::record::EntryRecord;
use crate::types::{
    Ack, Batch, BatchHeader, BatchId, BatchNumber, Command, Configuration, Delivered, DeliveredKind, Digest, Entry,
    EntryBody, Epoch, EpochEnd, Hlc, Incarnation, Location, Message, MessageNumber, Outcome, Position, Publish, Record,
    Rejection, Slot, Ticket,
};

/// What the driver does with what it is sent.
#[derive(Clone, Debug)]
pub(super) enum Mood {
    Order,
    /// Keeps them until the mood changes.
    Hold,
    Reject(Rejection),
    /// Answers commands like that.
    WithoutEffect(&'static str),
    Unknown,
}

/// What a test tells the driver's thread.
pub(super) struct Control {
    pub(super) mood: Mutex<Mood>,
    /// The epochs to begin.
    pub(super) epochs: Mutex<Vec<Configuration>>,
    pub(super) ended: AtomicBool,
    pub(super) drained: watch::Sender<bool>,
}

/// A log in memory.
#[derive(Default)]
pub(super) struct MemoryLog {
    records: Mutex<HashMap<Location, Bytes>>,
}

impl RecordReader for MemoryLog {
    fn read(&self, location: Location) -> Result<Bytes, String> {
        self.records.lock().unwrap().get(&location).cloned().ok_or_else(|| "no such record".to_owned())
    }
}

/// The driver.
pub(super) struct Driver {
    control: Arc<Control>,
    inbox: Inbox,
    writer: DeliveryWriter,
    log: Arc<MemoryLog>,
    tickets: Arc<Tickets>,
    batches: u64,
    held: Held,
}

/// Inputs that are not answered yet.
#[derive(Default)]
struct Held {
    publishes: Vec<Publish>,
    commands: Vec<(Ticket, Command)>,
    leaves: Vec<Ticket>,
    drain: bool,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.publishes.is_empty() && self.commands.is_empty() && self.leaves.is_empty() && !self.drain
    }

    fn tickets(self) -> impl Iterator<Item = Ticket> {
        let publishes = self.publishes.into_iter().map(|publish| publish.ticket);
        publishes.chain(self.commands.into_iter().map(|(ticket, _)| ticket)).chain(self.leaves)
    }
}

impl Driver {
    pub(super) fn new(
        control: Arc<Control>,
        inbox: Inbox,
        writer: DeliveryWriter,
        log: Arc<MemoryLog>,
        tickets: Arc<Tickets>,
    ) -> Driver {
        Driver { control, inbox, writer, log, tickets, batches: 0, held: Held::default() }
    }

    /// Goes on until it is told to end.
    pub(super) fn run(mut self) {
        let control = self.control.clone();
        while !control.ended.load(Ordering::Relaxed) {
            for input in self.inbox.take(64, Duration::from_millis(2)) {
                match input {
                    Input::Publish(publish) => self.held.publishes.push(publish),
                    Input::Command { ticket, command, .. } => self.held.commands.push((ticket, command)),
                    Input::Leave { ticket } => self.held.leaves.push(ticket),
                    Input::Drain => self.held.drain = true,
                    other => panic!("the API does not say {other:?}"),
                }
            }
            let mood = control.mood.lock().unwrap().clone();
            if !self.held.is_empty() {
                self.act(mood);
            }
            let epochs = std::mem::take(&mut *control.epochs.lock().unwrap());
            epochs.into_iter().for_each(|next| self.end_epoch(next));
        }
        self.tickets.close();
    }

    fn act(&mut self, mood: Mood) {
        let outcome = match mood {
            Mood::Hold => return,
            Mood::Order => return self.order(),
            Mood::Reject(rejection) => Outcome::Rejected(rejection),
            Mood::WithoutEffect(reason) => Outcome::WithoutEffect { reason: reason.to_owned() },
            Mood::Unknown => Outcome::OutcomeUnknown { id: self.header(1).message_id(0) },
        };
        let held = std::mem::take(&mut self.held);
        self.tickets.complete(held.tickets().map(|ticket| (ticket, outcome.clone())).collect());
    }

    /// Seals the messages that are there into one batch, and each command into its own.
    fn order(&mut self) {
        let Held { publishes, commands, leaves, drain } = std::mem::take(&mut self.held);
        if !publishes.is_empty() {
            let asked: Vec<(Ticket, Ack)> = publishes.iter().map(|publish| (publish.ticket, publish.ack)).collect();
            self.seal(publishes.into_iter().map(|publish| publish.message).collect(), asked);
        }
        for (ticket, command) in commands {
            self.seal(vec![command.message()], vec![(ticket, Ack::Ordered)]);
        }
        if drain {
            self.control.drained.send_replace(true);
        }
        self.tickets.complete(leaves.into_iter().map(|ticket| (ticket, Outcome::Left)).collect());
    }

    fn seal(&mut self, messages: Vec<Message>, asked: Vec<(Ticket, Ack)>) {
        self.batches += 1;
        let header = self.header(messages.len() as u64);
        let batch = Batch::seal(header.clone(), messages);
        let hlc = self.deliver(DeliveredKind::Batch(header.clone()), batch.bytes.clone(), batch.bytes);
        let first = Position(self.writer.delivered().0 + 1 - header.count);
        let answer = |(ticket, ack), index| {
            let id = header.message_id(index);
            let (position, hlc) = (first.plus(index), hlc.plus(index));
            match ack {
                Ack::Accepted => (ticket, Outcome::Accepted { id }),
                Ack::Ordered => (ticket, Outcome::Ordered { id, position, epoch: Epoch(0), hlc }),
            }
        };
        self.tickets.complete(asked.into_iter().zip(0..).map(|(asked, index)| answer(asked, index)).collect());
    }

    fn end_epoch(&mut self, next: Configuration) {
        self.batches += 1;
        let entry = Entry { hlc: Hlc(1 << 60), body: EntryBody::EpochEnd(EpochEnd { next }) }.encode();
        let record = EntryRecord { slot: Slot(self.batches), parent: Digest::ZERO, entry: entry.clone() };
        self.deliver(DeliveredKind::EpochEnd, Record::Entry(record).payload(), entry);
    }

    /// Puts a payload into the log, and its bytes into the stream, behind everything.
    fn deliver(&mut self, kind: DeliveredKind, payload: Bytes, bytes: Bytes) -> Hlc {
        let first = self.writer.delivered().next();
        let hlc = Hlc(1 << 60).plus(first.0);
        let location = Location { segment: self.batches, offset: 64, length: payload.len() as u32 };
        self.log.records.lock().unwrap().insert(location, payload);
        let count = match &kind {
            DeliveredKind::Batch(header) => header.count,
            DeliveredKind::EpochEnd => 1,
        };
        let (slot, epoch) = (Slot(self.batches), Epoch(0));
        self.writer.append(vec![Delivered { first, count, slot, epoch, hlc, kind, location, bytes: Some(bytes) }]);
        hlc
    }

    fn header(&self, count: u64) -> BatchHeader {
        BatchHeader {
            origin: OWN,
            incarnation: Incarnation(2),
            number: BatchNumber(self.batches),
            first: MessageNumber(self.writer.delivered().0 + 1),
            count,
            parent: Digest::ZERO,
            resumes: (self.batches == 1).then(BatchId::default),
        }
    }
}
