//! Virtual time: the group's own, and what each member's clocks make of it.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use crate::types::{Instant, Now, WallTime};

/// Nanoseconds since the simulated group began. No member sees it; members see their [`Clock`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment this long after the beginning.
    pub fn at(since_beginning: Duration) -> Moment {
        Moment(0) + since_beginning
    }

    /// Time from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Moment {
    /// Seconds with six decimals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000_000, self.0 / 1000 % 1_000_000)
    }
}

/// One member's clocks. The rising one begins anew at every start; the wall clock drifts and jumps.
#[derive(Clone, Debug)]
pub struct Clock {
    started: Moment,
    /// Added to the wall clock, in nanoseconds.
    offset: i64,
    /// The wall clock gains this many nanoseconds a millisecond.
    drift: i64,
}

/// The wall clock of a member without offset, when the simulated group begins: 2026-01-01.
const WALL_START: i64 = 1_767_225_600_000_000_000;
/// What the rising clock shows at a start: never zero, so that nothing relies on it.
const INSTANT_START: u64 = 1_000_000_000;

impl Clock {
    /// A clock this far off (nanoseconds), that gains `drift` nanoseconds a millisecond.
    pub fn new(offset: i64, drift: i64) -> Clock {
        Clock { started: Moment(0), offset, drift }
    }

    /// The process starts: its rising clock begins anew.
    pub fn start(&mut self, at: Moment) {
        self.started = at;
    }

    /// Moves the wall clock by so many nanoseconds.
    pub fn jump(&mut self, by: i64) {
        self.offset += by;
    }

    /// How far the wall clock is off now, leaving out its drift, in nanoseconds.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// What the member reads.
    pub fn read(&self, at: Moment) -> Now {
        let elapsed = i64::try_from(at.0).expect("a simulation lasts less than a century");
        let wall = WALL_START + elapsed + self.offset + elapsed / 1_000_000 * self.drift;
        Now {
            instant: Instant(INSTANT_START + at.0.saturating_sub(self.started.0)),
            wall: WallTime(u64::try_from(wall).expect("clocks stay after 1970")),
        }
    }

    /// When the member's rising clock will show `instant`.
    pub fn moment(&self, instant: Instant) -> Moment {
        Moment(self.started.0.saturating_add(instant.0.saturating_sub(INSTANT_START)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rising_clock_begins_anew_and_the_wall_clock_jumps() {
        let mut clock = Clock::new(0, 0);
        clock.start(Moment(5_000));
        let before = clock.read(Moment(7_000));
        assert_eq!(clock.moment(before.instant), Moment(7_000));
        clock.jump(-1_000_000);
        let after = clock.read(Moment(7_001));
        assert!(after.instant > before.instant && after.wall < before.wall);
    }
}
