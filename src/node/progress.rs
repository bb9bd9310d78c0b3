//! How far the reading of the log is, and how far a learner is behind: told each second while it lasts.

use std::time::Duration;

use crate::types::{Delivered, Instant, Slot};

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

/// Tells how far a member has caught up, unless that is done in a moment.
#[derive(Debug, Default)]
pub struct Pursuit {
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    since: Instant,
    told: Option<Instant>,
}

impl Pursuit {
    /// Where it stands: the slot it began at, the one it has, and the one it goes for. None if it has caught up.
    pub fn look(&mut self, standing: Option<(Slot, Slot, Slot)>, now: Instant) {
        let Some((from, at, to)) = standing else {
            if let Some(Running { since, told: Some(_), .. }) = self.running.take() {
                tracing::info!(seconds = now.since(since).as_secs_f64(), "caught up");
            }
            return;
        };
        let running = self.running.get_or_insert(Running { since: now, told: None });
        if now >= running.told.unwrap_or(running.since) + INTERVAL {
            running.told = Some(now);
            tracing::info!(slot = at.0, of = to.0, percent = percent(from, at, to), "catching up");
        }
    }
}

fn percent(from: Slot, at: Slot, to: Slot) -> u64 {
    let (done, whole) = (at.0.saturating_sub(from.0), to.0.saturating_sub(from.0));
    (done * 100).checked_div(whole).unwrap_or(100).min(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_stay_between_nothing_and_all() {
        let percent = |from, at, to| percent(Slot(from), Slot(at), Slot(to));
        assert_eq!((percent(0, 5, 10), percent(5, 5, 10), percent(0, 11, 10)), (50, 0, 100));
        assert_eq!((percent(3, 3, 3), percent(9, 2, 1)), (100, 100));
    }

    #[test]
    fn a_pursuit_is_told_each_second_until_it_ends() {
        let mut pursuit = Pursuit::default();
        let mut told = |standing: Option<(u64, u64)>, milliseconds: u64| {
            let way = standing.map(|(at, to)| (Slot(1), Slot(at), Slot(to)));
            pursuit.look(way, Instant(milliseconds * 1_000_000));
            pursuit.running.as_ref().map(|running| running.told.map(|told| told.0 / 1_000_000))
        };
        assert_eq!(told(Some((1, 9)), 100), Some(None), "it may be done in a moment");
        assert_eq!(told(Some((2, 9)), 1100), Some(Some(1100)));
        assert_eq!(told(Some((3, 9)), 1900), Some(Some(1100)), "not yet again");
        assert_eq!(told(Some((8, 9)), 2100), Some(Some(2100)));
        assert_eq!(told(None, 2101), None);
    }
}
