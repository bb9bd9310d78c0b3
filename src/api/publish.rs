//! `POST /v1/messages`: one message, from the request to its outcome.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::{SemaphorePermit, oneshot};
use tokio::time::{sleep, timeout};
use warp::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use crate::driver::Input;
use crate::driver::inbox::Credit;
use crate::types::{Ack, Message, MessageKind, Outcome, Publish, Rejection, limits};

use super::problem::Problem;
use super::request::{Parameters, Request, bad_header, bad_parameter, header};
use super::{Api, body, json, media, reply};

/// Prefix of topics that the group itself uses.
const OWN_TOPICS: &str = "synod.";

/// How headers begin that name what this version does not have.
const NOT_BUILT_HEADERS: [&str; 3] = ["idempotency-key", "producer-", "ce-"];

/// Content types that carry more than one plain message.
const NOT_BUILT_TYPES: [&str; 3] =
    ["application/x-ndjson", "application/cloudevents+json", "application/cloudevents-batch+json"];

/// Publishes one message and waits for its outcome. A refusal that says nothing of an outcome came before the driver had
/// the message: it is rejected.
pub(super) async fn publish(api: &Api, mut request: Request, parameters: Parameters) -> Result<Response, Box<Problem>> {
    refuse_not_built(&request.headers)?;
    let topic = topic(&parameters)?;
    let ack = ack(&request.headers)?;
    let content_type = content_type(&request.headers)?;
    let body = api.bodies.collect(&mut request, api.message_bytes_max).await?;
    if media::body(content_type.as_deref()) == media::Body::Json {
        check_json(&body.bytes).await?;
    }
    let message = Message { kind: MessageKind::Application, topic, content_type, body: body.bytes };
    let outcome = order(api, message, ack, body.room).await?;
    answer(outcome)
}

fn refuse_not_built(headers: &HeaderMap) -> Result<(), Box<Problem>> {
    let mut names = headers.keys().map(|name| name.as_str());
    if let Some(name) = names.find(|name| NOT_BUILT_HEADERS.iter().any(|prefix| name.starts_with(prefix))) {
        return Err(Problem::not_built(&format!("the header `{name}`")));
    }
    match header(headers, CONTENT_TYPE.as_str())?.map(media::essence) {
        Some(essence) if NOT_BUILT_TYPES.contains(&essence.as_str()) => {
            Err(Problem::not_built(&format!("publishing `{essence}`")))
        }
        _ => Ok(()),
    }
}

fn topic(parameters: &Parameters) -> Result<String, Box<Problem>> {
    let topic = parameters.one("topic")?.ok_or_else(|| {
        Problem::mistake("topic_missing", "the query parameter `topic` is missing", "name the topic: ?topic=orders")
    })?;
    if topic.is_empty() || topic.len() > limits::TOPIC_BYTES_MAX {
        let reason = format!("{} bytes; a topic has 1 to {}", topic.len(), limits::TOPIC_BYTES_MAX);
        return Err(bad_parameter("topic", reason, "choose another name"));
    }
    if topic.starts_with(OWN_TOPICS) {
        let reason = format!("names that begin with `{OWN_TOPICS}` are the group's own");
        return Err(bad_parameter("topic", reason, "choose another name"));
    }
    Ok(topic.to_owned())
}

fn ack(headers: &HeaderMap) -> Result<Ack, Box<Problem>> {
    match header(headers, "synod-ack")? {
        None | Some("ordered") => Ok(Ack::Ordered),
        Some("accepted") => Ok(Ack::Accepted),
        Some(other) => {
            Err(bad_header("Synod-Ack", format!("there is no `{other}`"), "send `ordered` (the default) or `accepted`"))
        }
    }
}

fn content_type(headers: &HeaderMap) -> Result<Option<String>, Box<Problem>> {
    if let Some(encoding) = header(headers, CONTENT_ENCODING.as_str())?.filter(|encoding| *encoding != "identity") {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content_encoding",
            format!("the header `Content-Encoding`: `{encoding}` would be lost on the way to the readers"),
            "send the body as it is, or name the compression in the content type",
        ));
    }
    let Some(content_type) = header(headers, CONTENT_TYPE.as_str())? else { return Ok(None) };
    if content_type.len() > limits::CONTENT_TYPE_BYTES_MAX {
        let reason = format!("{} bytes; the limit is {}", content_type.len(), limits::CONTENT_TYPE_BYTES_MAX);
        return Err(bad_header("Content-Type", reason, "shorten it"));
    }
    let essence = media::essence(content_type);
    if !essence.split_once('/').is_some_and(|(kind, subkind)| !kind.is_empty() && !subkind.is_empty()) {
        return Err(bad_header("Content-Type", "not a media type", "send something like `application/json`"));
    }
    Ok(Some(content_type.to_owned()))
}

async fn check_json(body: &Bytes) -> Result<(), Box<Problem>> {
    let checked = if body.len() <= limits::INLINE_WORK_BYTES {
        json::check(body)
    } else {
        let body = body.clone();
        let checking = tokio::task::spawn_blocking(move || json::check(&body));
        checking.await.unwrap_or_else(|_| Err("it could not be checked".to_owned()))
    };
    checked.map_err(|reason| {
        let detail = format!("the body is declared JSON and is not: {reason}");
        Problem::mistake("bad_json", detail, "correct it, or declare another content type")
    })
}

/// Hands a message to the driver and waits for the outcome. Its body holds its `room` until the driver has it.
async fn order(
    api: &Api,
    message: Message,
    ack: Ack,
    room: Option<SemaphorePermit<'_>>,
) -> Result<Outcome, Box<Problem>> {
    let host = &api.host;
    let deadline = (host.now)() + api.publish_timeout;
    let credit = tokio::select! {
        biased;
        credit = admit(api, message.weight()) => credit,
        () = sleep(api.publish_timeout) => return Err(not_taken(api)),
    };
    let (ticket, outcome) = host.tickets.issue();
    let publish = Publish { ticket, ack, message, deadline };
    if host.inbox.push(Input::Publish(publish), Some(credit)).is_err() {
        host.tickets.forget(ticket);
        return Err(stopping());
    }
    drop(room);
    let patience = deadline.since((host.now)()) + limits::PUBLISH_ANSWER_MARGIN;
    let outcome = timeout(patience, outcome).await;
    if outcome.is_err() {
        host.tickets.forget(ticket);
    }
    outcome_of(outcome, patience)
}

/// Waits until the member has started, and until the inbox has room.
async fn admit(api: &Api, weight: u64) -> Credit {
    let mut started = api.host.started.clone();
    // When nobody can say any more that it has started, the inbox says that the driver has ended.
    let _ = started.wait_for(|started| *started).await;
    let permits = u32::try_from(weight).expect("a message is smaller than the inbox");
    Box::new(api.inbox_room.clone().acquire_many_owned(permits).await.expect("the semaphore is never closed"))
}

fn outcome_of(
    outcome: Result<Result<Outcome, oneshot::error::RecvError>, tokio::time::error::Elapsed>,
    waited: Duration,
) -> Result<Outcome, Box<Problem>> {
    match outcome {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(_)) => Err(unknown("this member stopped before the outcome was known".to_owned())),
        Err(_) => Err(unknown(format!("no outcome within {} ms: this member's disk may hang", waited.as_millis()))),
    }
}

fn answer(outcome: Outcome) -> Result<Response, Box<Problem>> {
    match outcome {
        Outcome::Accepted { id } => Ok(reply(StatusCode::ACCEPTED, &json!({"id": id.to_string(), "ack": "accepted"}))),
        Outcome::Ordered { id, position, epoch, hlc } => {
            let receipt = json!({
                "position": position.0,
                "epoch": epoch.0,
                "hlc": hlc.text(&id.member),
                "ack": "ordered",
                "duplicate": false,
            });
            Ok(reply(StatusCode::OK, &receipt))
        }
        Outcome::Rejected(rejection) => Err(rejected(&rejection)),
        Outcome::WithoutEffect { .. } | Outcome::Left => unreachable!("no answer to a publish"),
        Outcome::OutcomeUnknown { id } => {
            let detail =
                "sealed, and not known to be ordered when its time was up: the group may have no quorum just now";
            Err(unknown(detail.to_owned()).with("id", id.to_string()))
        }
    }
}

fn rejected(rejection: &Rejection) -> Box<Problem> {
    let unavailable = |code, advice: &str| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, rejection.to_string(), advice).retryable().rejected()
    };
    match rejection {
        Rejection::TooLarge { bytes, most } => body::too_large(Some(*bytes), *most),
        Rejection::Gone(_) => unavailable("gone", "publish through another member"),
        Rejection::Membership { .. } => unreachable!("no answer to a publish"),
        Rejection::Draining => unavailable("draining", "publish through another member"),
        Rejection::IntakeFull { .. } => unavailable("intake_full", "publish more slowly; the message may be repeated"),
        Rejection::TimedOut { .. } => {
            unavailable("publish_timeout", "see /readyz for what is missing; the message may be repeated")
        }
        Rejection::DiskFull(_) => Problem::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "disk_full",
            rejection.to_string(),
            "publish through another member meanwhile; the message may be repeated",
        )
        .retryable()
        .rejected(),
    }
}

fn unknown(detail: String) -> Box<Problem> {
    Problem::new(
        StatusCode::GATEWAY_TIMEOUT,
        "outcome_unknown",
        detail,
        "it is perhaps ordered, now or later: look for its id in the order before publishing it again",
    )
    .outcome_unknown()
}

fn not_taken(api: &Api) -> Box<Problem> {
    let (code, detail) = if *api.host.started.borrow() {
        ("inbox_full", "this member takes no more messages just now: its disk may be slow")
    } else {
        ("starting", "this member is still reading its log")
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail, "publish again later, or through another member")
        .retryable()
        .rejected()
}

fn stopping() -> Box<Problem> {
    let detail = "this member is stopping";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail, "publish through another member")
        .retryable()
        .rejected()
}
