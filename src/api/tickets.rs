//! Who waits for the outcome of which input.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::types::{Outcome, Ticket};

use super::outcome::Awaited;

/// Hands outcomes from the driver's thread to the requests that wait for them.
#[derive(Default)]
pub struct Tickets {
    waiting: Mutex<HashMap<Ticket, Deliver>>,
    issued: AtomicU64,
}

/// Hands one outcome over.
type Deliver = Box<dyn FnOnce(Outcome) + Send>;

const UNPOISONED: &str = "nobody panics while holding the tickets";

/// Where the outcome of one ticket arrives. Dropped, nobody waits for it any more.
pub(super) struct Awaiting<T> {
    ticket: Ticket,
    outcome: oneshot::Receiver<T>,
    tickets: Arc<Tickets>,
}

/// Why there is no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoOutcome {
    /// The driver has ended.
    Ended,
    /// It has not said anything for as long as this.
    Late(Duration),
}

impl Tickets {
    /// Nobody waits yet.
    pub fn new() -> Tickets {
        Tickets::default()
    }

    /// Answers requests. Called by the driver; never blocks for longer than taking the senders out. Outcomes nobody
    /// waits for any more are dropped.
    pub fn complete(&self, outcomes: Vec<(Ticket, Outcome)>) {
        let mut waiting = self.waiting.lock().expect(UNPOISONED);
        let answered: Vec<_> = outcomes
            .into_iter()
            .filter_map(|(ticket, outcome)| waiting.remove(&ticket).map(|deliver| (deliver, outcome)))
            .collect();
        drop(waiting);
        for (deliver, outcome) in answered {
            deliver(outcome);
        }
    }

    /// No outcome comes any more: the driver has ended. Whoever waits learns that the outcome is unknown.
    pub fn close(&self) {
        self.waiting.lock().expect(UNPOISONED).clear();
    }

    /// A new ticket, and where its outcome arrives.
    pub(super) fn issue<T: Awaited>(self: &Arc<Self>) -> (Ticket, Awaiting<T>) {
        let ticket = Ticket(self.issued.fetch_add(1, Ordering::Relaxed));
        let (sender, outcome) = oneshot::channel();
        let deliver = move |outcome| match T::of(outcome) {
            // The requester may have hung up: then nobody is left to tell.
            Ok(awaited) => drop(sender.send(awaited)),
            Err(outcome) => tracing::error!(?outcome, "an input was answered with an outcome of another kind"),
        };
        self.waiting.lock().expect(UNPOISONED).insert(ticket, Box::new(deliver));
        (ticket, Awaiting { ticket, outcome, tickets: self.clone() })
    }

    /// Inputs without an outcome yet.
    pub fn waiting(&self) -> usize {
        self.waiting.lock().expect(UNPOISONED).len()
    }
}

impl<T> Awaiting<T> {
    /// The outcome, if it comes within `patience`.
    pub(super) async fn within(&mut self, patience: Duration) -> Result<T, NoOutcome> {
        timeout(patience, self.outcome()).await.unwrap_or(Err(NoOutcome::Late(patience)))
    }

    /// The outcome, however long it takes.
    pub(super) async fn outcome(&mut self) -> Result<T, NoOutcome> {
        (&mut self.outcome).await.map_err(|_| NoOutcome::Ended)
    }
}

impl<T> Drop for Awaiting<T> {
    fn drop(&mut self) {
        if !self.outcome.is_terminated() {
            self.tickets.waiting.lock().expect(UNPOISONED).remove(&self.ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::outcome::{Parted, Published};
    use crate::types::Rejection;

    #[tokio::test]
    async fn each_ticket_gets_its_own_outcome() {
        let tickets = Arc::new(Tickets::new());
        let (first, mut first_outcome) = tickets.issue::<Published>();
        let (second, mut second_outcome) = tickets.issue::<Published>();
        let full = Rejection::IntakeFull { waiting: 7 };
        tickets
            .complete(vec![(second, Outcome::Rejected(Rejection::Draining)), (first, Outcome::Rejected(full.clone()))]);
        assert_eq!(first_outcome.outcome().await, Ok(Published::Rejected(full)));
        assert_eq!(second_outcome.outcome().await, Ok(Published::Rejected(Rejection::Draining)));
        assert_eq!(tickets.waiting(), 0);
    }

    #[tokio::test]
    async fn an_outcome_for_somebody_gone_is_dropped() {
        let tickets = Arc::new(Tickets::new());
        let (gone, outcome) = tickets.issue::<Published>();
        drop(outcome);
        assert_eq!(tickets.waiting(), 0);
        tickets.complete(vec![(gone, Outcome::Rejected(Rejection::Draining))]);
        let (late, mut outcome) = tickets.issue::<Parted>();
        assert_eq!(outcome.within(Duration::ZERO).await, Err(NoOutcome::Late(Duration::ZERO)));
        tickets.complete(vec![(late, Outcome::Left)]);
        assert_eq!(outcome.outcome().await, Ok(Parted::Left));
    }

    #[tokio::test]
    async fn an_outcome_of_another_kind_is_none() {
        let tickets = Arc::new(Tickets::new());
        let (ticket, mut outcome) = tickets.issue::<Published>();
        tickets.complete(vec![(ticket, Outcome::Left)]);
        assert_eq!(outcome.outcome().await, Err(NoOutcome::Ended));
    }

    #[tokio::test]
    async fn closing_ends_every_wait() {
        let tickets = Arc::new(Tickets::new());
        let (_ticket, mut outcome) = tickets.issue::<Published>();
        tickets.close();
        assert_eq!(outcome.outcome().await, Err(NoOutcome::Ended));
    }
}
