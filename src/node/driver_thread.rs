//! The thread that owns replica and log. It blocks on exactly two things: the sync and its inbox.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::sync::{oneshot, watch};

use super::log_reader::LogReader;
use super::outside::RealOutside;
use crate::driver::inbox::InboxSender;
use crate::driver::{Driver, Input, Start, StartError, Stop};
use crate::wal::DiskFiles;

/// The running thread.
pub struct DriverThread {
    /// True when the log is read and the loop runs.
    pub started: watch::Receiver<bool>,
    /// True when a drain is done: everything accepted is ordered and durable.
    pub drained: watch::Receiver<bool>,
    /// True when this member has left its group.
    pub left: watch::Receiver<bool>,
    /// None once it was told.
    ended: Option<oneshot::Receiver<Result<(), DriverError>>>,
    end: Arc<AtomicBool>,
    inbox: InboxSender,
}

/// Why the driver ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// It could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its loop ended.
    #[error(transparent)]
    Stop(#[from] Stop),
    /// It panicked, which is a bug; what it promised is on the disk.
    #[error("the driver ended by a panic, which is a bug; what was promised is on the disk, start again and report it")]
    Panicked,
}

impl DriverThread {
    /// Starts the thread: it opens and reads the log, then turns until it is told to end.
    pub fn start(
        start: Start,
        files: DiskFiles,
        outside: RealOutside,
        reader: LogReader,
        inbox: InboxSender,
    ) -> io::Result<DriverThread> {
        let (started_sender, started) = watch::channel(false);
        let (drained_sender, drained) = watch::channel(false);
        let (left_sender, left) = watch::channel(false);
        let (ended_sender, ended) = oneshot::channel();
        let end = Arc::new(AtomicBool::new(false));
        let told = end.clone();
        thread::Builder::new().name("driver".to_owned()).spawn(move || {
            let outcome = Driver::open(start, files, outside).map_err(DriverError::from).and_then(|driver| {
                reader.open(driver.reader());
                tell_recovery(&driver);
                started_sender.send_replace(true);
                turn(driver, &told, &drained_sender, &left_sender).map_err(DriverError::from)
            });
            // Nobody waits when the process is about to end.
            let _ = ended_sender.send(outcome);
        })?;
        Ok(DriverThread { started, drained, left, ended: Some(ended), end, inbox })
    }

    /// Waits for its end, and tells once how it was. Dropping the wait loses nothing.
    pub async fn ended(&mut self) -> Result<(), DriverError> {
        let Some(ended) = &mut self.ended else { return Ok(()) };
        let outcome = ended.await.unwrap_or(Err(DriverError::Panicked));
        self.ended = None;
        outcome
    }

    /// Makes it accept no more publishes, and resign if it leads.
    pub fn drain(&self) {
        // If it has ended there is nothing to drain.
        let _ = self.inbox.push(Input::Drain, None);
    }

    /// Ends the loop and waits for the last write.
    pub async fn finish(mut self) -> Result<(), DriverError> {
        self.end.store(true, Ordering::Release);
        // Wakes it.
        self.drain();
        self.ended().await
    }
}

fn turn(
    mut driver: Driver<RealOutside, DiskFiles>,
    end: &AtomicBool,
    drained: &watch::Sender<bool>,
    left: &watch::Sender<bool>,
) -> Result<(), Stop> {
    driver.outside_mut().progress.finish();
    loop {
        let turn = driver.turn(true)?;
        drained.send_if_modified(|drained| std::mem::replace(drained, turn.drained) != turn.drained);
        left.send_if_modified(|left| std::mem::replace(left, turn.left) != turn.left);
        if end.load(Ordering::Acquire) {
            return driver.close().map(|_| ());
        }
    }
}

fn tell_recovery(driver: &Driver<RealOutside, DiskFiles>) {
    let recovered = driver.recovered();
    if let Some(torn) = recovered.torn {
        tracing::info!(
            segment = torn.segment,
            offset = torn.offset,
            bytes = torn.bytes_dropped,
            "the unfinished end of the last write was cut off; nothing of it was promised"
        );
    }
    tracing::info!(
        segments = recovered.segments,
        bytes = recovered.bytes,
        records = recovered.records,
        "the log is read"
    );
}
