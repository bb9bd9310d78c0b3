//! The real clocks.

use std::time::{Instant as SystemInstant, SystemTime, UNIX_EPOCH};

use crate::types::{Instant, Now, WallTime};

/// Reads both clocks; instants count from its making.
#[derive(Debug, Clone, Copy)]
pub struct RealTime {
    start: SystemInstant,
}

impl RealTime {
    /// Begins to count.
    pub fn start() -> RealTime {
        RealTime { start: SystemInstant::now() }
    }

    /// This moment, rising.
    pub fn instant(&self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_nanos()).expect("no process runs for 584 years"))
    }

    /// This moment by both clocks. A wall clock before 1970 reads as 1970.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = WallTime(u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX));
        Now { instant: self.instant(), wall }
    }
}
