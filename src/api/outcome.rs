//! What the driver says of an input that it was handed: one type for each kind of input, with the outcomes that this
//! kind can have, and the refusal for each that is none.

use serde_json::{Value, json};
use warp::http::StatusCode;

use crate::types::{Epoch, Hlc, MessageId, Outcome, Position, Rejection};

use super::body;
use super::problem::Problem;

/// The outcomes of one kind of input.
pub(super) trait Awaited: Sized + Send + 'static {
    /// The outcome as one of these; given back if it is an answer to another kind of input.
    fn of(outcome: Outcome) -> Result<Self, Outcome>;
}

/// A place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: MessageId,
    pub(super) position: Position,
    pub(super) epoch: Epoch,
    pub(super) hlc: Hlc,
}

impl Place {
    /// The place as answers name it.
    pub(super) fn document(&self) -> Value {
        json!({"position": self.position.0, "epoch": self.epoch.0, "hlc": self.hlc.text(&self.id.member)})
    }
}

/// What became of a publish.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Published {
    Accepted { id: MessageId },
    Ordered(Place),
    Rejected(Rejection),
    Unknown { id: MessageId },
}

/// What became of a membership command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Commanded {
    Ordered(Place),
    WithoutEffect { reason: String },
    Rejected(Rejection),
    Unknown { id: MessageId },
}

/// What became of the wish to leave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parted {
    Left,
    Rejected(Rejection),
}

impl Awaited for Published {
    fn of(outcome: Outcome) -> Result<Published, Outcome> {
        Ok(match outcome {
            Outcome::Accepted { id } => Published::Accepted { id },
            Outcome::Ordered { id, position, epoch, hlc } => Published::Ordered(Place { id, position, epoch, hlc }),
            Outcome::Rejected(rejection) => Published::Rejected(rejection),
            Outcome::OutcomeUnknown { id } => Published::Unknown { id },
            other @ (Outcome::WithoutEffect { .. } | Outcome::Left) => return Err(other),
        })
    }
}

impl Awaited for Commanded {
    fn of(outcome: Outcome) -> Result<Commanded, Outcome> {
        Ok(match outcome {
            Outcome::Ordered { id, position, epoch, hlc } => Commanded::Ordered(Place { id, position, epoch, hlc }),
            Outcome::WithoutEffect { reason } => Commanded::WithoutEffect { reason },
            Outcome::Rejected(rejection) => Commanded::Rejected(rejection),
            Outcome::OutcomeUnknown { id } => Commanded::Unknown { id },
            other @ (Outcome::Accepted { .. } | Outcome::Left) => return Err(other),
        })
    }
}

impl Awaited for Parted {
    fn of(outcome: Outcome) -> Result<Parted, Outcome> {
        match outcome {
            Outcome::Left => Ok(Parted::Left),
            Outcome::Rejected(rejection) => Ok(Parted::Rejected(rejection)),
            other => Err(other),
        }
    }
}

/// The refusal that a rejection is for its client.
pub(super) fn rejected(rejection: &Rejection) -> Box<Problem> {
    let unavailable = |code, advice: &str| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, rejection.to_string(), advice).retryable().rejected()
    };
    match rejection {
        Rejection::TooLarge { bytes, most } => body::too_large(Some(*bytes), *most).rejected(),
        Rejection::Gone(_) => unavailable("gone", "use another member"),
        Rejection::Membership { code, reason } => membership(code, reason).rejected(),
        Rejection::Draining => unavailable("draining", "use another member"),
        Rejection::IntakeFull { .. } => unavailable("intake_full", "publish more slowly; the message may be repeated"),
        Rejection::TimedOut { .. } => {
            unavailable("publish_timeout", "see /readyz for what is missing; the message may be repeated")
        }
        Rejection::DiskFull(_) => Problem::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "disk_full",
            rejection.to_string(),
            "use another member meanwhile; the request may be repeated",
        )
        .retryable()
        .rejected(),
    }
}

/// A membership command that cannot be.
fn membership(code: &'static str, reason: &str) -> Box<Problem> {
    let problem = |status, advice: &str| Problem::new(status, code, reason, advice);
    match code {
        "unknown_member" => problem(StatusCode::NOT_FOUND, "see /v1/members for who is a member"),
        "former_member" => problem(StatusCode::GONE, "nothing is left to do: an identity never comes back"),
        "bad_target" => problem(StatusCode::BAD_REQUEST, "name another number of voters"),
        "no_quorum" => {
            problem(StatusCode::SERVICE_UNAVAILABLE, "start the members that are missing; /readyz names them")
                .retryable()
        }
        "busy" => problem(StatusCode::SERVICE_UNAVAILABLE, "try again in a moment").retryable(),
        "last_voter" => problem(StatusCode::CONFLICT, "let another member join first, with `synod invite`"),
        _ => problem(StatusCode::CONFLICT, "see /v1/members for how the group stands"),
    }
}

/// The refusal where nobody can say what became of the request.
pub(super) fn unknown(detail: impl Into<String>) -> Box<Problem> {
    Problem::new(
        StatusCode::GATEWAY_TIMEOUT,
        "outcome_unknown",
        detail,
        "it is perhaps ordered, now or later: look for it in the order before repeating it",
    )
    .outcome_unknown()
}
