//! The bytes of the last batches, shared with readers.

use std::collections::VecDeque;

use bytes::Bytes;

/// Bytes by row number, the oldest dropped when there are too many.
pub(super) struct Ring {
    batches: VecDeque<(usize, Bytes)>,
    bytes: usize,
    bytes_max: usize,
}

impl Ring {
    pub(super) fn new(bytes_max: usize) -> Ring {
        Ring { batches: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Keeps a batch. Returns what had to go for it (perhaps itself), to be freed by the caller outside of the lock.
    pub(super) fn push(&mut self, row: usize, bytes: Bytes, gone: &mut Vec<Bytes>) {
        debug_assert!(self.batches.back().is_none_or(|(last, _)| *last < row), "rows are pushed in order");
        self.bytes += bytes.len();
        self.batches.push_back((row, bytes));
        while self.bytes > self.bytes_max {
            let (_, oldest) = self.batches.pop_front().expect("bytes are counted while they are kept");
            self.bytes -= oldest.len();
            gone.push(oldest);
        }
    }

    /// The bytes of a row's batch, if they are still here.
    pub(super) fn find(&self, row: usize) -> Option<Bytes> {
        let place = self.batches.binary_search_by_key(&row, |(row, _)| *row).ok()?;
        Some(self.batches[place].1.clone())
    }
}
