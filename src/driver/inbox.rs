//! The driver's queue. Bounded by credits: an adapter holds one for the bytes it queues, and the driver's taking gives
//! it back, so that whoever sends faster than the driver takes waits on its own side.

use std::any::Any;
use std::sync::mpsc;
use std::time::Duration;

use super::outside::Input;

/// Given back (dropped) when the driver has taken the input it came with.
pub type Credit = Box<dyn Any + Send>;

/// Where adapters put inputs.
#[derive(Clone)]
pub struct InboxSender {
    queue: mpsc::Sender<(Input, Option<Credit>)>,
}

/// The driver has ended; nothing takes inputs any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the driver has ended")]
pub struct DriverEnded;

/// Where the driver takes them.
pub struct Inbox {
    queue: mpsc::Receiver<(Input, Option<Credit>)>,
}

/// A new queue.
pub fn inbox() -> (InboxSender, Inbox) {
    let (sender, receiver) = mpsc::channel();
    (InboxSender { queue: sender }, Inbox { queue: receiver })
}

impl InboxSender {
    /// Queues an input. Inputs that carry bytes of others come with a credit for them; link events come
    /// without: they are small, and a connection has a few of them at most.
    pub fn push(&self, input: Input, credit: Option<Credit>) -> Result<(), DriverEnded> {
        self.queue.send((input, credit)).map_err(|_| DriverEnded)
    }
}

impl Inbox {
    /// Up to `most` inputs that are there. If there is none, waits for the first for `patience` at most.
    pub fn take(&mut self, most: usize, patience: Duration) -> Vec<Input> {
        let mut inputs = Vec::new();
        if let Ok((first, _credit)) = self.queue.try_recv() {
            inputs.push(first);
        } else if patience > Duration::ZERO
            && let Ok((first, _credit)) = self.queue.recv_timeout(patience)
        {
            inputs.push(first);
        }
        while inputs.len() < most
            && let Ok((input, _credit)) = self.queue.try_recv()
        {
            inputs.push(input);
        }
        inputs
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn taking_gives_the_credit_back() {
        let (sender, mut inbox) = inbox();
        let credit = Arc::new(());
        sender.push(Input::Drain, Some(Box::new(credit.clone()))).unwrap();
        assert_eq!(Arc::strong_count(&credit), 2);
        assert_eq!(inbox.take(10, Duration::ZERO).len(), 1);
        assert_eq!(Arc::strong_count(&credit), 1);
        assert!(inbox.take(10, Duration::ZERO).is_empty());
    }
}
