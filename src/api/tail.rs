//! Endless lines: every event from a position on, as it is delivered.
//!
//! The connection pulls: a chunk is made when there is room to send it, and nothing is queued for a reader who does not
//! take. Such a one is closed by its socket ([`super::socket`]).

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use tokio::sync::watch;
use tokio::time::Instant;
use warp::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use warp::reply::{Reply, Response};

use crate::types::{Position, limits};

use super::event::{Encoded, Wanted};
use super::source::{Source, SourceError};
use super::{Api, read, stopped};

/// What a tail is asked for.
pub(super) struct TailRequest {
    pub(super) after: Position,
    pub(super) wanted: Wanted,
    /// Ends after this many events.
    pub(super) limit: Option<u64>,
    /// Whether to go on at the head.
    pub(super) follow: bool,
}

/// Answers with lines.
pub(super) fn tail(api: &Api, request: TailRequest) -> Response {
    let tail = Tail {
        source: api.source.clone(),
        delivered: api.host.delivered.clone(),
        stop: api.stop.clone(),
        until: None,
        end: (!request.follow).then(|| api.source.head()),
        after: request.after,
        wanted: request.wanted,
        left: request.limit,
    };
    let chunks = stream::unfold(tail, |mut tail| async move {
        let chunk = tail.next().await?;
        Some((chunk, tail))
    });
    let mut response = warp::reply::stream(OneOwner(Mutex::new(chunks.boxed()))).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

struct Tail {
    source: Arc<Source>,
    delivered: watch::Receiver<Position>,
    stop: watch::Receiver<bool>,
    /// When it ends at the latest, if the member stops.
    until: Option<Instant>,
    /// Where it ends, if it does not follow.
    end: Option<Position>,
    after: Position,
    wanted: Wanted,
    left: Option<u64>,
}

impl Tail {
    /// The next lines. None when the tail is over.
    async fn next(&mut self) -> Option<Result<Bytes, SourceError>> {
        loop {
            self.note_stop();
            let late = self.until.is_some_and(|until| Instant::now() >= until);
            if late || self.left == Some(0) || self.end.is_some_and(|end| self.after >= end) {
                return None;
            }
            match self.source.after(self.after, self.left.unwrap_or(u64::MAX)).await {
                Err(error) => {
                    // The reader sees a broken answer, not one that ended.
                    read::report(&error);
                    return Some(Err(error));
                }
                Ok(pieces) if pieces.is_empty() => self.wait().await?,
                Ok(pieces) => {
                    let chunk = self.take(&pieces);
                    if !chunk.is_empty() {
                        return Some(Ok(chunk));
                    }
                    // Nothing that it wants here: let others run before scanning on.
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// A member that stops has told its readers what it delivered, as far as they take it in time.
    fn note_stop(&mut self) {
        if *self.stop.borrow() && self.until.is_none() {
            let head = self.source.head();
            self.until = Some(Instant::now() + limits::FAREWELL_TIMEOUT);
            self.end = Some(self.end.map_or(head, |end| end.min(head)));
        }
    }

    /// Waits for a position after the last one scanned, or for the member to stop. None when there is nothing more to come.
    async fn wait(&mut self) -> Option<()> {
        let after = self.after;
        tokio::select! {
            biased;
            () = stopped(&mut self.stop) => Some(()),
            waited = self.delivered.wait_for(|delivered| *delivered > after) => waited.ok().map(|_| ()),
        }
    }

    /// The lines of these that this reader wants, and moves on behind them.
    fn take(&mut self, pieces: &[Arc<Encoded>]) -> Bytes {
        if let [piece] = pieces
            && self.left.is_none()
            && self.wanted.takes_all_of(piece)
        {
            return self.take_shared(piece);
        }
        let mut chunk = BytesMut::new();
        for piece in pieces {
            for (position, line) in piece.lines_after(self.after, &self.wanted) {
                chunk.extend_from_slice(&piece.text()[line]);
                if let Some(left) = &mut self.left {
                    *left -= 1;
                    if *left == 0 {
                        self.after = position;
                        return chunk.freeze();
                    }
                }
            }
            self.after = piece.last();
        }
        chunk.freeze()
    }

    /// All lines of one batch after the position: shared, not copied.
    fn take_shared(&mut self, piece: &Encoded) -> Bytes {
        let start =
            piece.lines_after(self.after, &self.wanted).next().map_or(piece.text().len(), |(_, line)| line.start);
        self.after = piece.last();
        piece.text().slice(start..)
    }
}

/// Lets a stream that only one task may touch stand where a shareable one is asked for: it is only ever polled through
/// the one owner, so the lock is never taken.
struct OneOwner(Mutex<BoxStream<'static, Result<Bytes, SourceError>>>);

impl Stream for OneOwner {
    type Item = Result<Bytes, SourceError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let stream = self.0.get_mut().expect("the lock is never taken, so nobody panics holding it");
        stream.as_mut().poll_next(context)
    }
}
