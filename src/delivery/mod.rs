//! Floor 3: the ordered stream that others subscribe to.
//!
//! One writer, the thread that drives the member, appends what is decided and durable here. Any number of readers
//! *pull*: they hold nothing but a position and ask for what comes after it. There is no queue per reader, so a slow
//! one costs nothing and loses nothing; what has left memory it reads from the log.
//!
//! ```text
//! driver ──append──▶ [ index: one row per batch, all of them ] [ ring: bytes of the last batches ] ──▶ readers
//!                                     │ location                                                        ▲
//!                                     └────────────────────────▶ log ───────────────────────────────────┘
//! ```
//!
//! Beside the batches stand the ends of epochs, each with a row and a position of its own: at one position is a message
//! of a host, a membership command that took effect, or an epoch's end ([`Content`]).
//!
//! Index and ring stand behind one lock. The writer holds it to push rows and shared bytes; a reader holds it for one
//! look-up and to copy at most a few thousand rows out. Nobody decodes, reads a disk or frees memory under it.
//!
//! There is no runtime here: whoever waits for new positions is told through the function given to [`stream`].

mod index;
mod placed;
mod reader;
mod ring;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::{Arc, RwLock};

use crate::types::{Configuration, Position};

pub use placed::{Content, NotAsDelivered, Placed, PlacedEvent};
pub use reader::{DeliveryReader, ReadError, ReadLimits, Recent, RecordReader};
pub use writer::DeliveryWriter;

use index::Index;
use ring::Ring;

/// A new, empty stream. `genesis` is the configuration of epoch 0; `log` reads what has left memory; `notify` is called
/// with the last position after every append, on the writer's thread, and must not block.
pub fn stream(
    genesis: Configuration,
    log: Arc<dyn RecordReader>,
    notify: impl Fn(Position) + Send + 'static,
) -> (DeliveryWriter, DeliveryReader) {
    stream_with_ring(genesis, log, notify, crate::types::limits::DELIVERY_RING_BYTES)
}

/// [`stream`] with another bound for the bytes kept in memory.
pub fn stream_with_ring(
    genesis: Configuration,
    log: Arc<dyn RecordReader>,
    notify: impl Fn(Position) + Send + 'static,
    ring_bytes: usize,
) -> (DeliveryWriter, DeliveryReader) {
    let shared = Arc::new(RwLock::new(Shared { index: Index::default(), ring: Ring::new(ring_bytes) }));
    (DeliveryWriter::new(shared.clone(), Box::new(notify)), DeliveryReader::new(Arc::new(genesis), shared, log))
}

/// What writer and readers share.
struct Shared {
    index: Index,
    ring: Ring,
}

const UNPOISONED: &str = "nobody panics while holding the stream's lock";
