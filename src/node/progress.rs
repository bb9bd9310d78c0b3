//! How far the reading of the log is, told each second while it lasts.

use std::time::Duration;

use crate::types::{Delivered, Instant};

const INTERVAL: Duration = Duration::from_secs(1);

/// Tells progress until the log is read.
#[derive(Debug, Default)]
pub struct Progress {
    log_bytes: u64,
    told: Option<Instant>,
    done: bool,
}

impl Progress {
    /// Of a log of so many bytes on disk.
    pub fn of(log_bytes: u64) -> Progress {
        Progress { log_bytes, told: None, done: false }
    }

    /// So far the log is read.
    pub fn reached(&mut self, last: &Delivered, now: Instant) {
        if self.done || self.told.is_some_and(|told| now < told + INTERVAL) {
            return;
        }
        let first = self.told.replace(now).is_none();
        if !first {
            tracing::info!(
                position = last.first.0 + last.count - 1,
                segment = last.location.segment,
                log_bytes = self.log_bytes,
                "reading the log"
            );
        }
    }

    /// The log is read; nothing is told any more.
    pub fn finish(&mut self) {
        self.done = true;
    }
}
