//! Taking in a request's body, within bounds: of its own size, of all bodies together, and of time.

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use warp::http::StatusCode;
use warp::http::header::{CONTENT_LENGTH, EXPECT};

use crate::types::limits;

use super::problem::Problem;
use super::request::{BodyStream, Request};

/// A whole body, and the room it holds while it waits for the driver.
pub(super) struct Body<'a> {
    pub(super) bytes: Bytes,
    pub(super) room: Option<SemaphorePermit<'a>>,
}

/// Room for larger bodies, shared by all requests.
pub(super) struct Bodies {
    room: Semaphore,
}

impl Bodies {
    pub(super) fn new() -> Bodies {
        Bodies { room: Semaphore::new(limits::BODIES_BYTES) }
    }

    /// The whole body, of at most `bytes_max` bytes.
    pub(super) async fn collect(&self, request: &mut Request, bytes_max: u64) -> Result<Body<'_>, Box<Problem>> {
        let headers = &request.headers;
        let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if let Some(bytes) = declared.filter(|bytes| *bytes > bytes_max) {
            // Whoever waits for a go-ahead has not sent anything yet, and shall not.
            if !headers.contains_key(EXPECT) {
                discard(&mut request.body).await;
            }
            return Err(too_large(Some(bytes), bytes_max));
        }
        match timeout(limits::REQUEST_BODY_MAX, self.read(&mut request.body, declared, bytes_max)).await {
            Ok(body) => body,
            Err(_) => Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "body_timeout",
                format!("the body did not arrive within {} s", limits::REQUEST_BODY_MAX.as_secs()),
                "send it in one go",
            )
            .retryable()
            .rejected()),
        }
    }

    async fn read(&self, stream: &mut BodyStream, declared: Option<u64>, most: u64) -> Result<Body<'_>, Box<Problem>> {
        let mut bytes = Vec::new();
        let mut room = None;
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|_| broken())?;
            let length = bytes.len() + piece.len();
            if length as u64 > most {
                discard(stream).await;
                return Err(too_large(None, most));
            }
            if length > limits::SMALL_BODY_BYTES && room.is_none() {
                let permits = declared.unwrap_or(most).min(limits::BODIES_BYTES as u64) as u32;
                room = Some(self.room.acquire_many(permits).await.expect("the semaphore is never closed"));
                bytes.reserve_exact((permits as usize).saturating_sub(bytes.len()));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Body { bytes: Bytes::from(bytes), room })
    }
}

/// Reads on for a while, so that the sender gets to see the answer instead of a reset connection.
async fn discard(stream: &mut BodyStream) {
    let mut left = limits::BODY_DISCARD_BYTES;
    let reading = async {
        while let Some(Ok(piece)) = stream.next().await {
            let Some(rest) = left.checked_sub(piece.len()) else { return };
            left = rest;
        }
    };
    // When the time is up the answer is sent all the same.
    let _ = timeout(limits::BODY_DISCARD_MAX, reading).await;
}

/// A body over the group's limit. `bytes` is its size if it is known.
pub(super) fn too_large(bytes: Option<u64>, most: u64) -> Box<Problem> {
    let size = bytes.map_or("more".to_owned(), |bytes| format!("{bytes} bytes"));
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "message_too_large",
        format!("the body has {size}; the group's limit `message_bytes_max` is {most} bytes"),
        "send less, or pass a reference to the data; the limit stands in genesis.toml and is the same for the whole group",
    )
    .with("limit", most)
    .rejected()
}

fn broken() -> Box<Problem> {
    Problem::mistake("body_broken", "the body ended early or its framing is broken", "send it again, whole").rejected()
}
