//! Where readers get their events: encoded once per batch while it is recent, shared by all of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use crate::delivery::{DeliveryReader, PlacedBatch, ReadError, Recent};
use crate::types::batch::NotABatch;
use crate::types::{Position, limits};

use super::event::Encoded;

/// The stream as encoded events.
pub(super) struct Source {
    delivery: DeliveryReader,
    recent: Arc<Cache>,
}

/// Events that should be there cannot be had. What was handed out before stands.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// A delivered batch does not decode.
    #[error("the batch at position {0} does not decode: {1}")]
    Batch(Position, NotABatch),
    /// The thread that read panicked.
    #[error("the reading thread failed")]
    Thread,
}

impl Source {
    pub(super) fn new(delivery: DeliveryReader) -> Source {
        Source { delivery, recent: Arc::new(Cache::default()) }
    }

    /// The last position that can be read.
    pub(super) fn head(&self) -> Position {
        self.delivery.delivered()
    }

    /// The next batches after `after`; none if it is the head or beyond it. From memory at once, otherwise a piece of
    /// the log, read and encoded on a thread that may block.
    pub(super) async fn after(&self, after: Position) -> Result<Vec<Arc<Encoded>>, SourceError> {
        match self.delivery.recent_after(after, limits::READ_RING_BYTES) {
            Recent::AtHead => Ok(Vec::new()),
            Recent::Batches(batches) => {
                let bytes: usize = batches.iter().map(|batch| batch.bytes().len()).sum();
                let recent = self.recent.clone();
                let encode = move || batches.iter().map(|batch| recent.encoded(batch)).collect();
                if bytes <= limits::INLINE_WORK_BYTES { encode() } else { aside(encode).await }
            }
            Recent::Behind => {
                let delivery = self.delivery.clone();
                aside(move || {
                    let batches = delivery.read_after(after, limits::READ_PIECE_BYTES)?;
                    batches.iter().map(encode).collect()
                })
                .await
            }
        }
    }
}

/// Runs work that takes long or blocks, on a thread for it.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(SourceError::Thread))
}

fn encode(batch: &PlacedBatch) -> Result<Arc<Encoded>, SourceError> {
    Encoded::new(batch).map(Arc::new).map_err(|reason| SourceError::Batch(batch.first(), reason))
}

/// The encodings of recent batches, by first position; the oldest go first.
#[derive(Default)]
struct Cache {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    cells: BTreeMap<Position, (Arc<Cell>, usize)>,
    bytes: usize,
}

/// Filled by the first reader who wants it, while the others wait.
type Cell = OnceLock<Result<Arc<Encoded>, NotABatch>>;

const UNPOISONED: &str = "nobody panics while holding the encodings";

impl Cache {
    fn encoded(&self, batch: &PlacedBatch) -> Result<Arc<Encoded>, SourceError> {
        let first = batch.first();
        let cell = self.kept.lock().expect(UNPOISONED).cells.entry(first).or_default().0.clone();
        let mut fresh = false;
        let encoded = cell.get_or_init(|| {
            fresh = true;
            Encoded::new(batch).map(Arc::new)
        });
        if fresh {
            let size = encoded.as_ref().map_or(0, |encoded| encoded.size());
            self.kept.lock().expect(UNPOISONED).weigh(first, &cell, size);
        }
        encoded.clone().map_err(|reason| SourceError::Batch(first, reason))
    }
}

impl Kept {
    /// Counts an encoding that is ready, and drops the oldest while there is too much.
    fn weigh(&mut self, first: Position, cell: &Arc<Cell>, size: usize) {
        if let Some((kept, weight)) = self.cells.get_mut(&first)
            && Arc::ptr_eq(kept, cell)
        {
            *weight = size;
            self.bytes += size;
        }
        while self.bytes > limits::ENCODED_CACHE_BYTES {
            let (_, (_, weight)) = self.cells.pop_first().expect("bytes are counted while they are kept");
            self.bytes -= weight;
        }
    }
}
