//! The one who appends.

use std::sync::{Arc, RwLock};

use crate::types::{Delivered, DeliveredKind, Position};

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

    /// Appends what was decided, and tells those who wait. Positions follow each other without a gap; what has none (an
    /// empty batch, a membership command without effect) leaves no trace.
    ///
    /// The bytes of a batch are those its lane sealed, in memory and at its location alike. The bytes of an epoch's end are
    /// in memory the entry's canonical ones; at its location stands the payload of the record of kind entry, in which slot
    /// and parent come before them.
    pub fn append(&mut self, delivered: Vec<Delivered>) {
        let before = self.last;
        for next in &delivered {
            assert_eq!(next.first, self.last.next(), "positions are dense");
            match &next.kind {
                DeliveredKind::Batch(header) => {
                    assert!(next.count <= header.count, "a batch gives no more positions than it has messages");
                }
                DeliveredKind::EpochEnd => assert_eq!(next.count, 1, "an epoch's end has one position"),
            }
            self.last = self.last.plus(next.count);
        }
        if self.last == before {
            return;
        }
        let mut gone = Vec::new();
        let mut shared = self.shared.write().expect(UNPOISONED);
        for next in delivered.into_iter().filter(|next| next.count > 0) {
            let row = shared.index.rows();
            shared.index.push(&next);
            if let Some(bytes) = next.bytes {
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
