//! Publishers at a steady rate, one per member, and what became of each message. No message is ever sent twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, JoinSet};

use crate::api::client::{Client, Receipt};
use crate::types::Ack;

/// Messages that may be due and not sent yet; beyond it the pace waits.
const DUE_MAX: usize = 64;
/// Messages of one publisher that wait for their answers; beyond it it pauses.
const WAITING_MAX: usize = 2048;

/// One message, sent once.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Its body without the padding; no other message has it.
    pub body: String,
    /// When it was sent.
    pub at: Instant,
    /// How long its answer took.
    pub took: Duration,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Ordered, at this position.
    Ordered(u64),
    /// Certainly not ordered, and why.
    Rejected(String),
    /// Perhaps ordered: no answer came, and why.
    Unknown(String),
}

/// A publisher that runs.
pub struct Publisher {
    stop: Arc<AtomicBool>,
    ordered: Arc<AtomicU64>,
    task: JoinHandle<Vec<Sent>>,
}

/// What to publish.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How bodies begin; tells publishers apart.
    pub name: String,
    /// From one message to the next; none at all means as fast as the answers allow.
    pub interval: Duration,
    /// The first one is sent after this: publishers of one rate take turns.
    pub offset: Duration,
    /// Bytes of each body, filled up with spaces; at least what the name and a number take.
    pub body_bytes: usize,
}

impl Publisher {
    /// Starts publishing through `client`.
    pub fn start(client: Client, plan: Plan) -> Publisher {
        let stop = Arc::new(AtomicBool::new(false));
        let ordered = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(publish(client, plan, stop.clone(), ordered.clone()));
        Publisher { stop, ordered, task }
    }

    /// Messages acknowledged so far.
    pub fn ordered(&self) -> u64 {
        self.ordered.load(Ordering::Relaxed)
    }

    /// Sends nothing more.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Sends nothing more and waits for the answers that are due.
    pub async fn finish(self) -> Vec<Sent> {
        self.stop();
        self.task.await.expect("publishing does not panic")
    }
}

async fn publish(client: Client, plan: Plan, stop: Arc<AtomicBool>, ordered: Arc<AtomicU64>) -> Vec<Sent> {
    let mut sent = Vec::new();
    let mut waiting: JoinSet<Sent> = JoinSet::new();
    let mut due = pace(&plan, stop);
    let mut keep = |message: Result<Sent, JoinError>| {
        let message = message.expect("publishing does not panic");
        if matches!(message.outcome, Outcome::Ordered(_)) {
            ordered.fetch_add(1, Ordering::Relaxed);
        }
        sent.push(message);
    };
    loop {
        tokio::select! {
            number = due.recv(), if waiting.len() < WAITING_MAX => {
                let Some(number) = number else { break };
                waiting.spawn(one(client.clone(), format!("{}-{number}", plan.name), plan.body_bytes));
            }
            Some(message) = waiting.join_next() => keep(message),
        }
    }
    while let Some(message) = waiting.join_next().await {
        keep(message);
    }
    sent
}

/// Tells the number of each message when it is due, until it is to stop. A thread, because the runtime's timers know
/// whole milliseconds only: the messages of several publishers would fall together.
fn pace(plan: &Plan, stop: Arc<AtomicBool>) -> mpsc::Receiver<u32> {
    let (sender, receiver) = mpsc::channel(DUE_MAX);
    let (interval, began) = (plan.interval, Instant::now() + plan.offset);
    thread::spawn(move || {
        for number in 1.. {
            thread::sleep((began + interval * (number - 1)).saturating_duration_since(Instant::now()));
            if stop.load(Ordering::Relaxed) || sender.blocking_send(number).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn one(client: Client, body: String, body_bytes: usize) -> Sent {
    let padded = Bytes::from(format!("{body:<body_bytes$}"));
    let at = Instant::now();
    let answer = client.publish("load", Some("text/plain"), Ack::Ordered, padded).await;
    let outcome = match answer {
        Ok(Receipt::Ordered { position, .. }) => Outcome::Ordered(position),
        Ok(Receipt::Accepted { .. }) => Outcome::Unknown("answered with `accepted` instead of `ordered`".to_owned()),
        Err(error) if error.is_rejected() => Outcome::Rejected(error.to_string()),
        Err(error) => Outcome::Unknown(error.to_string()),
    };
    Sent { body, at, took: at.elapsed(), outcome }
}
