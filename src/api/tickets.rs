//! Who waits for the outcome of which publish.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

use crate::types::{Outcome, Ticket};

/// Hands outcomes from the driver's thread to the requests that wait for them.
#[derive(Default)]
pub struct Tickets {
    waiting: Mutex<HashMap<Ticket, oneshot::Sender<Outcome>>>,
    issued: AtomicU64,
}

const UNPOISONED: &str = "nobody panics while holding the tickets";

impl Tickets {
    /// Nobody waits yet.
    pub fn new() -> Tickets {
        Tickets::default()
    }

    /// Answers publishers. Called by the driver; never blocks for longer than taking the senders out. Outcomes nobody
    /// waits for any more are dropped.
    pub fn complete(&self, outcomes: Vec<(Ticket, Outcome)>) {
        let mut waiting = self.waiting.lock().expect(UNPOISONED);
        let answered: Vec<_> = outcomes
            .into_iter()
            .filter_map(|(ticket, outcome)| waiting.remove(&ticket).map(|sender| (sender, outcome)))
            .collect();
        drop(waiting);
        for (sender, outcome) in answered {
            // The requester may have hung up: then nobody is left to tell.
            let _ = sender.send(outcome);
        }
    }

    /// No outcome comes any more: the driver has ended. Whoever waits learns that the outcome is unknown.
    pub fn close(&self) {
        self.waiting.lock().expect(UNPOISONED).clear();
    }

    /// A new ticket, and where its outcome arrives.
    pub(super) fn issue(&self) -> (Ticket, oneshot::Receiver<Outcome>) {
        let ticket = Ticket(self.issued.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().expect(UNPOISONED).insert(ticket, sender);
        (ticket, receiver)
    }

    /// Nobody waits for this one any more.
    pub(super) fn forget(&self, ticket: Ticket) {
        self.waiting.lock().expect(UNPOISONED).remove(&ticket);
    }

    /// Publishes without an outcome yet.
    pub fn waiting(&self) -> usize {
        self.waiting.lock().expect(UNPOISONED).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Rejection;

    #[test]
    fn each_ticket_gets_its_own_outcome() {
        let tickets = Tickets::new();
        let (first, mut first_outcome) = tickets.issue();
        let (second, mut second_outcome) = tickets.issue();
        let full = Outcome::Rejected(Rejection::IntakeFull { waiting: 7 });
        tickets.complete(vec![(second, Outcome::Rejected(Rejection::Draining)), (first, full.clone())]);
        assert_eq!(first_outcome.try_recv(), Ok(full));
        assert_eq!(second_outcome.try_recv(), Ok(Outcome::Rejected(Rejection::Draining)));
        assert_eq!(tickets.waiting(), 0);
    }

    #[test]
    fn an_outcome_for_somebody_gone_is_dropped() {
        let tickets = Tickets::new();
        let (gone, outcome) = tickets.issue();
        drop(outcome);
        let (forgotten, mut late) = tickets.issue();
        tickets.forget(forgotten);
        tickets.complete(vec![
            (gone, Outcome::Rejected(Rejection::Draining)),
            (forgotten, Outcome::Rejected(Rejection::Draining)),
        ]);
        assert!(late.try_recv().is_err());
    }

    #[test]
    fn closing_ends_every_wait() {
        let tickets = Tickets::new();
        let (_ticket, mut outcome) = tickets.issue();
        tickets.close();
        assert_eq!(outcome.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
