//! Hands inputs to the driver, within bounds, and waits for their outcomes.

use tokio::time::sleep;
use warp::http::StatusCode;

use crate::driver::Input;
use crate::driver::inbox::Credit;
use crate::types::{Instant, Ticket, limits};

use super::Api;
use super::outcome::{Awaited, unknown};
use super::problem::Problem;
use super::tickets::{Awaiting, NoOutcome};

/// An input that the driver has, and when it is given up.
pub(super) struct Handed<T> {
    pub(super) awaiting: Awaiting<T>,
    deadline: Instant,
}

impl<T> Handed<T> {
    /// The outcome. The driver answers by the deadline, unless its disk hangs.
    pub(super) async fn outcome(mut self, api: &Api) -> Result<T, Box<Problem>> {
        let patience = self.deadline.since((api.host.now)().instant) + limits::PUBLISH_ANSWER_MARGIN;
        self.awaiting.within(patience).await.map_err(no_outcome)
    }
}

/// Queues the input that `input` makes of a ticket and a deadline. `weight` is what it takes in the inbox, in bytes. A
/// refusal came before the driver had it.
pub(super) async fn hand_over<T: Awaited>(
    api: &Api,
    weight: u64,
    input: impl FnOnce(Ticket, Instant) -> Input,
) -> Result<Handed<T>, Box<Problem>> {
    let host = &api.host;
    let deadline = (host.now)().instant + api.publish_timeout;
    let credit = tokio::select! {
        biased;
        credit = admit(api, weight) => credit,
        () = sleep(api.publish_timeout) => return Err(not_taken(api)),
    };
    let (ticket, awaiting) = host.tickets.issue();
    host.inbox.push(input(ticket, deadline), Some(credit)).map_err(|_| stopping().rejected())?;
    Ok(Handed { awaiting, deadline })
}

/// Waits until the member has started, and until the inbox has room.
pub(super) async fn admit(api: &Api, weight: u64) -> Credit {
    let mut started = api.host.started.clone();
    // When nobody can say any more that it has started, the inbox says that the driver has ended.
    let _ = started.wait_for(|started| *started).await;
    let permits = u32::try_from(weight).expect("an input is smaller than the inbox");
    Box::new(api.inbox_room.clone().acquire_many_owned(permits).await.expect("the semaphore is never closed"))
}

/// The answer where the driver gave none.
pub(super) fn no_outcome(reason: NoOutcome) -> Box<Problem> {
    match reason {
        NoOutcome::Ended => unknown("this member stopped before the outcome was known"),
        NoOutcome::Late(waited) => {
            unknown(format!("no outcome within {} ms: this member's disk may hang", waited.as_millis()))
        }
    }
}

fn not_taken(api: &Api) -> Box<Problem> {
    let (code, detail) = if *api.host.started.borrow() {
        ("inbox_full", "this member takes no more messages just now: its disk may be slow")
    } else {
        ("starting", "this member is still reading its log")
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail, "try again later, or use another member")
        .retryable()
        .rejected()
}

/// The answer of a member that is about to end.
pub(super) fn stopping() -> Box<Problem> {
    let detail = "this member is stopping";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail, "use another member").retryable()
}
