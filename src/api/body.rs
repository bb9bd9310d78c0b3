//! Taking in a request's body, within bounds: of its own size, of all bodies together, and of time.

use std::time::{Duration, Instant};

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
    /// A client sends a body within this time; and another body waits for room no longer than that.
    patience: Duration,
}

impl Bodies {
    pub(super) fn new() -> Bodies {
        Bodies { room: Semaphore::new(limits::BODIES_BYTES), patience: limits::REQUEST_BODY_MAX }
    }

    /// The whole body, of at most `bytes_max` bytes; `too_large` refuses a larger one.
    pub(super) async fn collect(
        &self,
        request: &mut Request,
        bytes_max: u64,
        too_large: TooLarge,
    ) -> Result<Body<'_>, Box<Problem>> {
        let headers = &request.headers;
        let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if let Some(bytes) = declared.filter(|bytes| *bytes > bytes_max) {
            // Whoever waits for a go-ahead has not sent anything yet, and shall not.
            if !headers.contains_key(EXPECT) {
                discard(&mut request.body).await;
            }
            return Err(too_large(Some(bytes), bytes_max));
        }
        self.read(&mut request.body, declared, bytes_max, too_large).await
    }

    async fn read(
        &self,
        stream: &mut BodyStream,
        declared: Option<u64>,
        most: u64,
        too_large: TooLarge,
    ) -> Result<Body<'_>, Box<Problem>> {
        let mut bytes = Vec::new();
        let mut room = None;
        let mut patience = self.patience;
        loop {
            // The time in which this member has no room is not the client's.
            let began = Instant::now();
            let piece = timeout(patience, stream.next()).await.map_err(|_| late(self.patience))?;
            patience = patience.saturating_sub(began.elapsed());
            let Some(piece) = piece else { return Ok(Body { bytes: Bytes::from(bytes), room }) };
            let piece = piece.map_err(|_| broken())?;
            let length = bytes.len() + piece.len();
            if length as u64 > most {
                discard(stream).await;
                return Err(too_large(None, most));
            }
            if length > limits::SMALL_BODY_BYTES && room.is_none() {
                let permits = declared.unwrap_or(most).min(limits::BODIES_BYTES as u64) as u32;
                room = Some(self.take_room(permits).await?);
                bytes.reserve_exact((permits as usize).saturating_sub(bytes.len()));
            }
            bytes.extend_from_slice(&piece);
        }
    }

    /// Room for a whole body at once: bodies that took it piece by piece could wait for each other's.
    async fn take_room(&self, bytes: u32) -> Result<SemaphorePermit<'_>, Box<Problem>> {
        let room = timeout(self.patience, self.room.acquire_many(bytes)).await.map_err(|_| no_room(self.patience))?;
        Ok(room.expect("the semaphore is never closed"))
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

/// The refusal of a body that has more bytes than allowed: its size, if it is known, and the limit.
pub(super) type TooLarge = fn(Option<u64>, u64) -> Box<Problem>;

/// A message over the group's limit.
pub(super) fn too_large(bytes: Option<u64>, most: u64) -> Box<Problem> {
    let size = bytes.map_or("more".to_owned(), |bytes| format!("{bytes} bytes"));
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "message_too_large",
        format!("the body has {size}; the group's limit `message_bytes_max` is {most} bytes"),
        "send less, or pass a reference to the data; the limit stands in genesis.toml and is the same for the whole group",
    )
    .with("limit", most)
}

fn late(patience: Duration) -> Box<Problem> {
    let detail = format!("the body did not arrive within {} s", patience.as_secs());
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail, "send it in one go").retryable()
}

fn no_room(patience: Duration) -> Box<Problem> {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "bodies_full",
        format!("for {} s other large bodies have taken all the room there is for them", patience.as_secs()),
        "publish again later, or through another member",
    )
    .retryable()
}

fn broken() -> Box<Problem> {
    Problem::mistake("body_broken", "the body ended early or its framing is broken", "send it again, whole")
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use warp::http::{HeaderMap, Method};
    use warp::reply::Reply;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    fn request(pieces: impl futures::Stream<Item = Bytes> + Send + 'static) -> Request {
        Request {
            method: Method::POST,
            path: String::new(),
            query: String::new(),
            headers: HeaderMap::new(),
            body: pieces.map(Ok).boxed(),
        }
    }

    fn large() -> Bytes {
        Bytes::from(vec![7; limits::SMALL_BODY_BYTES + 1])
    }

    async fn refusal(bodies: &Bodies, mut request: Request) -> StatusCode {
        let refused = bodies.collect(&mut request, 100_000, too_large).await.err();
        refused.expect("it is refused").into_response().status()
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_told_from_one_without_room() {
        let bodies = Bodies { patience: SHORT, ..Bodies::new() };
        let stalling = || request(stream::iter([large()]).chain(stream::pending()));
        assert_eq!(refusal(&bodies, stalling()).await, StatusCode::REQUEST_TIMEOUT);
        let taken = bodies.room.acquire_many(limits::BODIES_BYTES as u32).await.unwrap();
        assert_eq!(refusal(&bodies, stalling()).await, StatusCode::SERVICE_UNAVAILABLE);
        // Small ones need none.
        bodies.collect(&mut request(stream::iter([Bytes::from("small")])), 100_000, too_large).await.map(drop).unwrap();
        drop(taken);
        bodies.collect(&mut request(stream::iter([large(), large()])), 100_000, too_large).await.map(drop).unwrap();
    }
}
