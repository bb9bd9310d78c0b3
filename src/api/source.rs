//! Where readers get their events: encoded once per batch, or epoch's end, while it is recent, shared by all of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use crate::delivery::{DeliveryReader, NotAsDelivered, Placed, ReadError, ReadLimits, Recent};
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
    /// What was delivered does not decode.
    #[error("what stands at position {0} does not decode: {1}")]
    Undecodable(Position, NotAsDelivered),
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

    /// The next batches and epochs' ends after `after`, no further one once there are `events`; none if it is the head or beyond it.
    /// From memory at once, otherwise a piece of the log, read and encoded on a thread that may block.
    pub(super) async fn after(&self, after: Position, events: u64) -> Result<Vec<Arc<Encoded>>, SourceError> {
        match self.delivery.recent_after(after, ReadLimits { bytes: limits::READ_RING_BYTES, events }) {
            Recent::AtHead => Ok(Vec::new()),
            Recent::Next(next) => {
                let bytes: usize = next.iter().map(|placed| placed.bytes().len()).sum();
                let recent = self.recent.clone();
                let encode = move || next.iter().map(|placed| recent.encoded(placed)).collect();
                if bytes <= limits::INLINE_WORK_BYTES { encode() } else { aside(encode).await }
            }
            Recent::Behind => {
                let delivery = self.delivery.clone();
                aside(move || {
                    let next = delivery.read_after(after, ReadLimits { bytes: limits::READ_PIECE_BYTES, events })?;
                    next.iter().map(encode).collect()
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

fn encode(placed: &Placed) -> Result<Arc<Encoded>, SourceError> {
    Encoded::new(placed).map(Arc::new).map_err(|reason| SourceError::Undecodable(placed.first(), reason))
}

/// The encodings of what is recent, by first position; the oldest go first.
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
type Cell = OnceLock<Result<Arc<Encoded>, NotAsDelivered>>;

const UNPOISONED: &str = "nobody panics while holding the encodings";

impl Cache {
    fn encoded(&self, placed: &Placed) -> Result<Arc<Encoded>, SourceError> {
        let first = placed.first();
        let cell = self.kept.lock().expect(UNPOISONED).cells.entry(first).or_default().0.clone();
        let mut fresh = false;
        let encoded = cell.get_or_init(|| {
            fresh = true;
            Encoded::new(placed).map(Arc::new)
        });
        if fresh {
            let size = encoded.as_ref().map_or(0, |encoded| encoded.size());
            self.kept.lock().expect(UNPOISONED).weigh(first, &cell, size);
        }
        encoded.clone().map_err(|reason| SourceError::Undecodable(first, reason))
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::delivery::{self, DeliveryWriter, RecordReader};
    use crate::types::{
        Batch, BatchHeader, BatchId, BatchNumber, ClusterLimits, Configuration, Delivered, DeliveredKind, Digest,
        Epoch, FaultModelKind, Hlc, Incarnation, Location, MemberId, Message, MessageKind, MessageNumber, Slot,
    };

    struct NoLog;

    impl RecordReader for NoLog {
        fn read(&self, _: Location) -> Result<Bytes, String> {
            Err("there is no log here".to_owned())
        }
    }

    fn genesis() -> Configuration {
        Configuration {
            cluster: Digest([1; 32]),
            epoch: Epoch(0),
            model: FaultModelKind::Crash,
            rules_version: 0,
            voters: vec![MemberId([1; 32])],
            limits: ClusterLimits::default(),
            voters_target: 1,
        }
    }

    /// Delivers one message of this size.
    fn deliver(writer: &mut DeliveryWriter, size: usize) {
        let first = writer.delivered().next();
        let header = BatchHeader {
            origin: MemberId([1; 32]),
            incarnation: Incarnation(1),
            number: BatchNumber(first.0),
            first: MessageNumber(first.0),
            count: 1,
            parent: Digest::ZERO,
            resumes: (first.0 == 1).then(BatchId::default),
        };
        let message = Message {
            kind: MessageKind::Application,
            topic: "t".to_owned(),
            content_type: None,
            body: Bytes::from(vec![0; size]),
        };
        let batch = Batch::seal(header.clone(), vec![message]);
        let location = Location { segment: 1, offset: 0, length: batch.bytes.len() as u32 };
        let bytes = Some(batch.bytes);
        let kind = DeliveredKind::Batch(header);
        let (slot, epoch, hlc) = (Slot(first.0), Epoch(0), Hlc(first.0));
        writer.append(vec![Delivered { first, count: 1, slot, epoch, hlc, kind, location, bytes }]);
    }

    #[tokio::test]
    async fn a_recent_batch_is_encoded_once() {
        let (mut writer, reader) = delivery::stream(genesis(), Arc::new(NoLog), |_| ());
        deliver(&mut writer, 10);
        let source = Source::new(reader);
        let first = source.after(Position(0), 1).await.unwrap();
        let second = source.after(Position(0), 1).await.unwrap();
        assert!(Arc::ptr_eq(&first[0], &second[0]));
    }

    #[tokio::test]
    async fn encodings_kept_stay_within_their_bound() {
        let (mut writer, reader) = delivery::stream(genesis(), Arc::new(NoLog), |_| ());
        let source = Source::new(reader);
        for position in 0..40 {
            deliver(&mut writer, 500_000);
            source.after(Position(position), 1).await.unwrap();
            let kept = source.recent.kept.lock().unwrap();
            let weights: usize = kept.cells.values().map(|(_, weight)| weight).sum();
            assert_eq!(weights, kept.bytes);
            assert!(kept.bytes <= limits::ENCODED_CACHE_BYTES);
        }
    }

    #[tokio::test]
    async fn a_log_that_fails_is_an_error() {
        let (mut writer, reader) = delivery::stream_with_ring(genesis(), Arc::new(NoLog), |_| (), 0);
        deliver(&mut writer, 10);
        assert!(matches!(Source::new(reader).after(Position(0), 1).await, Err(SourceError::Log(_))));
    }
}
