//! A subscriber of one member's live tail, which notes when each message came.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::api::client::{Client, ClientError};

/// One delivery.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// When it came.
    pub at: Instant,
    /// The message's body without padding.
    pub body: String,
}

/// A subscriber that runs; it ends with its member.
pub struct Subscriber {
    /// What came, and when; it is read when all is over, so that reading delays nothing.
    arrivals: Arc<Mutex<Vec<(Instant, Bytes)>>>,
    task: JoinHandle<()>,
}

const UNPOISONED: &str = "nobody panics while holding the arrivals";

impl Subscriber {
    /// Subscribes to everything from now on.
    pub async fn start(client: &Client) -> Result<Subscriber, ClientError> {
        let mut lines = client.lines("/v1/messages?after=latest").await?;
        let arrivals: Arc<Mutex<Vec<(Instant, Bytes)>>> = Arc::default();
        let kept = arrivals.clone();
        let task = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next().await {
                kept.lock().expect(UNPOISONED).push((Instant::now(), line));
            }
        });
        Ok(Subscriber { arrivals, task })
    }

    /// How many deliveries came so far.
    pub fn count(&self) -> usize {
        self.arrivals.lock().expect(UNPOISONED).len()
    }

    /// How many came between two moments.
    pub fn count_between(&self, from: Instant, until: Instant) -> usize {
        let arrivals = self.arrivals.lock().expect(UNPOISONED);
        arrivals.iter().filter(|(at, _)| (from..until).contains(at)).count()
    }

    /// The longest time without a delivery that began or ended between two moments.
    pub fn longest_silence(&self, from: Instant, until: Instant) -> Duration {
        let arrivals = self.arrivals.lock().expect(UNPOISONED);
        longest_silence(arrivals.iter().map(|(at, _)| *at), from, until)
    }

    /// Ends the subscription and gives everything that came.
    pub fn finish(self) -> Vec<Delivery> {
        self.task.abort();
        let arrivals = std::mem::take(&mut *self.arrivals.lock().expect(UNPOISONED));
        arrivals.into_iter().map(|(at, line)| Delivery { at, body: body(&line) }).collect()
    }
}

/// The text of an event without its padding; empty if it has none.
fn body(line: &[u8]) -> String {
    let event: Value = serde_json::from_slice(line).unwrap_or_default();
    event["data"].as_str().unwrap_or_default().trim_end().to_owned()
}

/// Silence counts from the last moment before `from`, or from `from`, and until the first after `until`, or until `until`.
fn longest_silence(moments: impl Iterator<Item = Instant>, from: Instant, until: Instant) -> Duration {
    let mut last = from;
    let mut longest = Duration::ZERO;
    for moment in moments {
        if moment <= from {
            last = moment;
            continue;
        }
        longest = longest.max(moment - last);
        last = moment;
        if moment > until {
            return longest;
        }
    }
    longest.max(until.saturating_duration_since(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_the_longest_gap_around_the_span() {
        let start = Instant::now();
        let at = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        let silence = |moments: &[u64], from, until| {
            longest_silence(moments.iter().map(|moment| at(*moment)), at(from), at(until)).as_millis()
        };
        assert_eq!(silence(&[1, 2, 90, 95, 300, 305], 92, 310), 205);
        assert_eq!(silence(&[90, 400], 100, 310), 310, "it began before and ended after");
        assert_eq!(silence(&[90, 120], 100, 310), 190, "it has not ended");
        assert_eq!(silence(&[], 100, 310), 210);
        assert_eq!(silence(&[50, 101, 102, 103, 1000], 100, 102), 51, "what is later does not count");
    }
}
