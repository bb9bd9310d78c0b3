//! The route that lets a member finish before it is stopped.

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::driver::Input;
use crate::types::limits;

use super::document::{document, duration};
use super::order::{admit, stopping};
use super::problem::Problem;
use super::request::Request;
use super::{Api, reply, status};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainRequest {
    timeout: Option<String>,
}

/// `POST /v1/drain`: `{"timeout": "30s"}` or nothing. From now on this member accepts no publish, and is not ready; it goes on
/// voting and serving reads until its process is stopped, and only a new start ends that. 200 `{"drained": true}` when
/// everything it accepted is ordered and on its disk, and another one leads; 202 with what it waits for when the time is up
/// first.
pub(super) async fn drain(api: &Api, mut request: Request) -> Result<Response, Box<Problem>> {
    let DrainRequest { timeout } = document(api, &mut request).await?;
    let timeout = timeout.map(|text| duration("timeout", &text)).transpose()?;
    if !*api.host.started.borrow() {
        return Err(status::starting());
    }
    let up = async {
        match timeout {
            Some(timeout) => sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let drained = async {
        let credit = admit(api, limits::INPUT_OVERHEAD_BYTES as u64).await;
        api.host.inbox.push(Input::Drain, Some(credit)).map_err(|_| stopping())?;
        let mut drained = api.host.drained.clone();
        drained.wait_for(|drained| *drained).await.map(drop).map_err(|_| stopping())
    };
    tokio::select! {
        biased;
        drained = drained => drained.map(|()| reply(StatusCode::OK, &json!({"drained": true, "waits_for": []}))),
        () = up => Ok(reply(StatusCode::ACCEPTED, &json!({"drained": false, "waits_for": waits_for(api)?}))),
    }
}

/// What is to happen before this member has finished, as far as the driver said.
fn waits_for(api: &Api) -> Result<Vec<Value>, Box<Problem>> {
    let snapshot = status::observed(api)?.snapshot;
    let (messages, batches) = (snapshot.intake.0, snapshot.lane_unordered.0);
    let mut waits_for = Vec::new();
    if messages > 0 || batches > 0 {
        waits_for.push(json!(format!(
            "the order of what was accepted: {batches} batches, and {messages} messages not in a batch yet"
        )));
    }
    if snapshot.leader == snapshot.member {
        waits_for.push(json!("another member to lead"));
    }
    Ok(waits_for)
}
