//! What waits to be written to one peer. Filled from the driver's thread, which never waits: over the bound a message is
//! dropped and counted, and the status exchange repairs it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::Notify;

/// A bounded queue with one reader.
pub(super) struct Queue {
    state: Mutex<State>,
    bytes_max: usize,
    wake: Notify,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Bytes>,
    /// Of the messages queued and of those taken but not written yet.
    bytes: usize,
}

impl Queue {
    pub fn new(bytes_max: usize) -> Queue {
        Queue { state: Mutex::default(), bytes_max, wake: Notify::new() }
    }

    /// Whether there was room.
    #[must_use]
    pub fn push(&self, message: Bytes) -> bool {
        let mut state = self.lock();
        if state.bytes + message.len() > self.bytes_max {
            return false;
        }
        state.bytes += message.len();
        state.messages.push_back(message);
        drop(state);
        self.wake.notify_one();
        true
    }

    /// The next message, still counted until [`Queue::written`].
    pub fn take(&self) -> Option<Bytes> {
        self.lock().messages.pop_front()
    }

    /// Everything there is, still counted until [`Queue::written`].
    pub fn take_all(&self) -> VecDeque<Bytes> {
        std::mem::take(&mut self.lock().messages)
    }

    /// Makes room for as much again.
    pub fn written(&self, bytes: usize) {
        self.lock().bytes -= bytes;
    }

    /// Wakes the reader without a message.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Returns once after every push or [`Queue::wake`] since the last return; pushes in between count as one.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Bytes that are not written yet.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the queue in hand")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_over_the_bound_is_dropped() {
        let queue = Queue::new(10);
        assert!(queue.push(Bytes::from_static(b"123456")));
        assert!(!queue.push(Bytes::from_static(b"12345")));
        assert!(queue.push(Bytes::from_static(b"1234")));
        queue.woken().await;
        assert_eq!(queue.take_all().len(), 2);
        assert!(!queue.push(Bytes::from_static(b"1")), "taken is not written");
        queue.written(10);
        assert_eq!(queue.bytes(), 0);
        assert!(queue.push(Bytes::from_static(b"1")));
        assert_eq!(queue.take().as_deref(), Some(&b"1"[..]));
    }
}
