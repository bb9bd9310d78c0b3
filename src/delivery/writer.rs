//! The one who appends.

use std::sync::{Arc, RwLock};

use crate::types::{Delivered, Position};

use super::{Shared, UNPOISONED};

/// Appends to the stream; there is one.
pub struct DeliveryWriter {
    shared: Arc<RwLock<Shared>>,
    notify: Box<dyn Fn(Position) + Send>,
    last: Position,
}

impl DeliveryWriter {
    pub(super) fn new(shared: Arc<RwLock<Shared>>, notify: Box<dyn Fn(Position) + Send>) -> DeliveryWriter {
        DeliveryWriter { shared, notify, last: Position(0) }
    }

    /// Appends what was decided, and tells those who wait. Positions follow each other without a gap; batches without a
    /// position leave no trace.
    pub fn append(&mut self, delivered: Vec<Delivered>) {
        let before = self.last;
        for batch in &delivered {
            assert_eq!(batch.first, self.last.next(), "positions are dense");
            let most = batch.header().map_or(1, |header| header.count);
            assert!(batch.count <= most, "a batch gives no more positions than it has messages");
            self.last = self.last.plus(batch.count);
        }
        if self.last == before {
            return;
        }
        let mut gone = Vec::new();
        let mut shared = self.shared.write().expect(UNPOISONED);
        for batch in delivered.into_iter().filter(|batch| batch.count > 0) {
            let row = shared.index.rows();
            shared.index.push(&batch);
            if let Some(bytes) = batch.bytes {
                shared.ring.push(row, bytes, &mut gone);
            }
        }
        drop(shared);
        drop(gone);
        (self.notify)(self.last);
    }

    /// The last position appended.
    pub fn delivered(&self) -> Position {
        self.last
    }
}
