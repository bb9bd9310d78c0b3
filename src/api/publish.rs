//! `POST /v1/messages`: one message, from the request to its outcome.

use bytes::Bytes;
use serde_json::json;
use warp::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use crate::driver::Input;
use crate::types::{Ack, Message, MessageKind, Publish, limits};

use super::outcome::{Published, rejected, unknown};
use super::problem::Problem;
use super::request::{Parameters, Request, bad_header, bad_parameter, header};
use super::{Api, body, json, media, order, reply};

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
    let body = api.bodies.collect(&mut request, api.message_bytes_max, body::too_large).await?;
    if media::body(content_type.as_deref()) == media::Body::Json {
        check_json(&body.bytes).await?;
    }
    let message = Message { kind: MessageKind::Application, topic, content_type, body: body.bytes };
    let weight = message.weight();
    let publish = |ticket, deadline| Input::Publish(Publish { ticket, ack, message, deadline });
    let handed = order::hand_over(api, weight, publish).await?;
    drop(body.room);
    answer(handed.outcome(api).await?)
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

fn answer(outcome: Published) -> Result<Response, Box<Problem>> {
    match outcome {
        Published::Accepted { id } => {
            Ok(reply(StatusCode::ACCEPTED, &json!({"id": id.to_string(), "ack": "accepted"})))
        }
        Published::Ordered(place) => {
            let mut receipt = place.document();
            receipt["ack"] = json!("ordered");
            receipt["duplicate"] = json!(false);
            Ok(reply(StatusCode::OK, &receipt))
        }
        Published::Rejected(rejection) => Err(rejected(&rejection)),
        Published::Unknown { id } => {
            let detail =
                "sealed, and not known to be ordered when its time was up: the group may have no quorum just now";
            Err(unknown(detail).with("id", id.to_string()))
        }
    }
}
