//! `GET /v1/messages`: what a reader asks for, and which form of answer it gets.

use std::time::Duration;

use tokio::time::timeout;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use crate::types::{Position, limits, text};

use super::event::Wanted;
use super::media::{self, Format};
use super::page::{self, PageRequest};
use super::problem::Problem;
use super::request::{Parameters, Request, bad_parameter, header};
use super::source::SourceError;
use super::tail::{self, TailRequest};
use super::{Api, request::bad_header, status};

/// Parameters this version does not have.
const NOT_BUILT_PARAMETERS: [&str; 2] = ["cursor", "mode"];

/// Answers with a page or a tail.
pub(super) async fn read(api: &Api, request: Request, parameters: Parameters) -> Result<Response, Box<Problem>> {
    if let Some(name) = NOT_BUILT_PARAMETERS.into_iter().find(|name| parameters.has(name)) {
        return Err(Problem::not_built(&format!("the query parameter `{name}`")));
    }
    until_started(api).await?;
    let after = after(api, &parameters, &request.headers)?;
    let wanted = Wanted { topics: topics(&parameters)?, system: flag(&parameters, "system")? };
    match media::negotiate(&request.headers) {
        Some(Format::Page) => {
            refuse_elsewhere(&parameters, "follow", "application/x-ndjson")?;
            let limit = limit(&parameters)?.unwrap_or(limits::PAGE_MESSAGES as u64);
            if limit > limits::PAGE_MESSAGES_MAX as u64 {
                let reason = format!("a page has at most {} messages", limits::PAGE_MESSAGES_MAX);
                return Err(bad_parameter("limit", reason, "ask for fewer, and follow `next`"));
            }
            let wait = wait(&parameters)?;
            page::page(api, PageRequest { after, wanted, limit: limit as usize, wait }).await
        }
        Some(Format::Lines) => {
            refuse_elsewhere(&parameters, "wait", "application/json")?;
            let limit = limit(&parameters)?;
            let follow = flag(&parameters, "follow")?;
            Ok(tail::tail(api, TailRequest { after, wanted, limit, follow }))
        }
        Some(Format::Events) => Err(Problem::not_built("the answer `text/event-stream`")),
        None => Err(Problem::new(
            StatusCode::NOT_ACCEPTABLE,
            "not_acceptable",
            "the header `Accept` names no format of this route",
            "accept application/json (a page) or application/x-ndjson (a tail)",
        )),
    }
}

/// While the log is being read for the start nothing else can read it: readers wait a while, as publishers do.
async fn until_started(api: &Api) -> Result<(), Box<Problem>> {
    let mut started = api.host.started.clone();
    match timeout(api.publish_timeout, started.wait_for(|started| *started)).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(status::starting()),
    }
}

/// Tells the operator that the log fails a reader.
pub(super) fn report(error: &SourceError) {
    tracing::error!(%error, "a reader cannot be served");
}

/// The answer when the log fails a reader. The operator hears of it too.
pub(super) fn unreadable(error: &SourceError) -> Box<Problem> {
    report(error);
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "log_unreadable",
        error.to_string(),
        "read from another member at the same position; check this one's disk with `synod verify`",
    )
}

fn after(api: &Api, parameters: &Parameters, headers: &HeaderMap) -> Result<Position, Box<Problem>> {
    let asked = match parameters.one("after")? {
        None => Position(0),
        Some("latest") => api.source.head(),
        Some(number) => number.parse().map(Position).map_err(|_| {
            bad_parameter("after", format!("`{number}` is no position"), "give a whole number, or `latest`")
        })?,
    };
    match header(headers, "last-event-id")? {
        None => Ok(asked),
        Some(number) => number.parse().map(Position).map_err(|_| {
            bad_header("Last-Event-ID", format!("`{number}` is no position"), "send the position of the last message")
        }),
    }
}

fn topics(parameters: &Parameters) -> Result<Vec<String>, Box<Problem>> {
    let topics: Vec<String> = parameters.all("topic").map(str::to_owned).collect();
    if topics.iter().any(|topic| topic.is_empty() || topic.len() > limits::TOPIC_BYTES_MAX) {
        let reason = format!("a topic has 1 to {} bytes", limits::TOPIC_BYTES_MAX);
        return Err(bad_parameter("topic", reason, "name a topic, or leave the parameter out to read all"));
    }
    Ok(topics)
}

fn limit(parameters: &Parameters) -> Result<Option<u64>, Box<Problem>> {
    let Some(text) = parameters.one("limit")? else { return Ok(None) };
    match text.parse() {
        Ok(limit) if limit > 0 => Ok(Some(limit)),
        _ => Err(bad_parameter("limit", format!("`{text}` is no number of messages"), "give a whole number from 1")),
    }
}

fn wait(parameters: &Parameters) -> Result<Duration, Box<Problem>> {
    let Some(text) = parameters.one("wait")? else { return Ok(Duration::ZERO) };
    let wait = text::duration(text).map_err(|error| bad_parameter("wait", error, "wait=30s"))?;
    if wait > limits::LONG_POLL_MAX {
        let reason = format!("the longest wait is {}", text::duration_text(limits::LONG_POLL_MAX));
        return Err(bad_parameter("wait", reason, "wait less, and ask again"));
    }
    Ok(wait)
}

/// A parameter that is true unless it says otherwise.
fn flag(parameters: &Parameters, name: &str) -> Result<bool, Box<Problem>> {
    match parameters.one(name)? {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => Err(bad_parameter(name, format!("there is no `{other}`"), "give `true` or `false`")),
    }
}

fn refuse_elsewhere(parameters: &Parameters, name: &str, format: &str) -> Result<(), Box<Problem>> {
    if parameters.has(name) {
        let reason = format!("it belongs to the answer `{format}`, which the header `Accept` does not ask for");
        return Err(bad_parameter(name, reason, "leave it out, or accept that"));
    }
    Ok(())
}
