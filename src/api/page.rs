//! Pages and long polls.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use warp::http::StatusCode;
use warp::http::header::{CONTENT_TYPE, HeaderValue};
use warp::reply::Response;

use crate::types::{Position, limits};

use super::event::Wanted;
use super::problem::Problem;
use super::{Api, read, stopped};

/// What one page is asked for.
pub(super) struct PageRequest {
    pub(super) after: Position,
    pub(super) wanted: Wanted,
    pub(super) limit: usize,
    pub(super) wait: Duration,
}

/// Answers with what is there after a position; if there is nothing, waits for the first.
pub(super) async fn page(api: &Api, request: PageRequest) -> Result<Response, Box<Problem>> {
    let until = Instant::now() + request.wait;
    let mut page = Page::new(&request);
    loop {
        page.fill(api).await?;
        if page.events > 0 || !page.at_head || !more(api, page.scanned, until).await {
            return Ok(page.response(api));
        }
    }
}

/// Waits for a position after `scanned`. False when the time is up or the member stops.
async fn more(api: &Api, scanned: Position, until: Instant) -> bool {
    let mut delivered = api.host.delivered.clone();
    let mut stop = api.stop.clone();
    tokio::select! {
        biased;
        () = stopped(&mut stop) => false,
        waited = timeout_at(until, delivered.wait_for(|delivered| *delivered > scanned)) => matches!(waited, Ok(Ok(_))),
    }
}

struct Page<'a> {
    request: &'a PageRequest,
    text: Vec<u8>,
    events: usize,
    scanned: Position,
    bytes_scanned: usize,
    at_head: bool,
}

impl Page<'_> {
    fn new(request: &PageRequest) -> Page<'_> {
        let text = br#"{"messages":["#.to_vec();
        Page { request, text, events: 0, scanned: request.after, bytes_scanned: 0, at_head: false }
    }

    /// Scans until the page is full or there is nothing more.
    async fn fill(&mut self, api: &Api) -> Result<(), Box<Problem>> {
        while self.events < self.request.limit && self.bytes_scanned < limits::PAGE_SCAN_BYTES {
            let read = api.source.after(self.scanned, self.readable()).await;
            let pieces = read.map_err(|error| read::unreadable(&error))?;
            self.at_head = pieces.is_empty();
            if self.at_head {
                return Ok(());
            }
            for piece in pieces {
                self.bytes_scanned += piece.text().len();
                for (position, line) in piece.lines_after(self.scanned, &self.request.wanted) {
                    self.push(&piece.text()[line]);
                    if self.events == self.request.limit {
                        self.scanned = position;
                        return Ok(());
                    }
                }
                self.scanned = piece.last();
            }
        }
        Ok(())
    }

    /// Events to read in one go: what is missing, unless most of them may be of other topics.
    fn readable(&self) -> u64 {
        if self.request.wanted.topics.is_empty() { (self.request.limit - self.events) as u64 } else { u64::MAX }
    }

    fn push(&mut self, line: &[u8]) {
        if self.events > 0 {
            self.text.push(b',');
        }
        self.text.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        self.events += 1;
    }

    fn response(mut self, api: &Api) -> Response {
        let end = format!(r#"],"next":{},"head":{}}}"#, self.scanned, api.source.head());
        self.text.extend_from_slice(end.as_bytes());
        let mut response = Response::new(self.text.into());
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
