//! The JSON documents with which a client changes something.

use std::time::Duration;

use serde::de::DeserializeOwned;
use warp::http::StatusCode;

use crate::types::{limits, text};

use super::Api;
use super::problem::Problem;
use super::request::Request;

/// The JSON document of a request; an empty body says nothing.
pub(super) async fn document<T: DeserializeOwned + Default>(
    api: &Api,
    request: &mut Request,
) -> Result<T, Box<Problem>> {
    let body = api.bodies.collect(request, limits::OPERATION_BODY_BYTES, too_large).await?;
    if body.bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    serde_json::from_slice(&body.bytes).map_err(|error| {
        Problem::mistake("bad_json", format!("the body is not what this route takes: {error}"), "see the documentation")
    })
}

fn too_large(_: Option<u64>, most: u64) -> Box<Problem> {
    let detail = format!("the body of this route has at most {most} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail, "send the JSON document and nothing else")
}

/// A duration in such a document.
pub(super) fn duration(name: &str, text: &str) -> Result<Duration, Box<Problem>> {
    text::duration(text)
        .map_err(|error| Problem::mistake("bad_duration", format!("`{name}`: {error}"), "write it like \"30s\""))
}
