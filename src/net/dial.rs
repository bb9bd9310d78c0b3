//! When a member is dialled again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;

use crate::types::limits;

/// The dialling of one member.
pub(super) struct Dialling {
    /// Not before this moment.
    pub due: Instant,
    /// The dial that runs.
    pub running: Option<ConnectionId>,
    failures: u32,
}

impl Dialling {
    pub fn new(now: Instant) -> Dialling {
        Dialling { due: now, running: None, failures: 0 }
    }

    /// The member was not reached, or the connection came to nothing.
    pub fn failed(&mut self, now: Instant) {
        self.due = now + jittered(pause(self.failures));
        self.failures = self.failures.saturating_add(1);
    }

    /// Whether it went well until now.
    pub fn is_fresh(&self) -> bool {
        self.failures == 0
    }

    /// One side refused the other.
    pub fn refused(&mut self, now: Instant) {
        self.due = now + jittered(limits::REFUSED_PAUSE);
    }

    /// A link that was up since `since` is lost: at once, unless links come and go.
    pub fn lost(&mut self, since: Instant, now: Instant) {
        if now.duration_since(since) >= limits::DIAL_PAUSE_MAX {
            self.failures = 0;
            self.due = now;
        } else {
            self.failed(now);
        }
    }
}

fn pause(failures: u32) -> Duration {
    limits::DIAL_PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(limits::DIAL_PAUSE_MAX)
}

/// Between three quarters and five quarters of it, so that two members do not keep dialling each other in step.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 1024;
    pause * 3 / 4 + pause * random as u32 / 2048
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        assert_eq!(pause(0), limits::DIAL_PAUSE_MIN);
        assert_eq!(pause(1), 2 * limits::DIAL_PAUSE_MIN);
        assert_eq!(pause(6), limits::DIAL_PAUSE_MAX);
        assert_eq!(pause(u32::MAX), limits::DIAL_PAUSE_MAX);
        for _ in 0..100 {
            let jittered = jittered(Duration::from_secs(4));
            assert!((3.0..5.0).contains(&jittered.as_secs_f64()));
        }
    }

    #[test]
    fn a_link_that_lasted_is_dialled_at_once() {
        let start = Instant::now();
        let mut dialling = Dialling::new(start);
        dialling.failed(start);
        assert!(dialling.due > start);
        let later = start + 2 * limits::DIAL_PAUSE_MAX;
        dialling.lost(start, later);
        assert_eq!(dialling.due, later);
        dialling.lost(later, later);
        assert!(dialling.due > later, "a link that comes and goes waits");
    }
}
