//! Time as an argument: our own rising [`Instant`], the wall clock a leader labels with, and the hybrid logical clock.

use std::fmt;
use std::time::Duration;

use minicbor::{Decode, Encode};
use uhlc::NTP64;

use super::ids::MemberId;

/// Nanoseconds since some fixed moment of this process (or simulation); never steps back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// Time from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The local clock's opinion, nanoseconds since 1970-01-01 UTC. May jump; never decides anything but a label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct WallTime(#[n(0)] pub u64);

/// Both readings of one moment, as the driver hands them to the replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For timers.
    pub instant: Instant,
    /// For the hybrid logical clock.
    pub wall: WallTime,
}

/// A reading of the hybrid logical clock: `uhlc`'s 64-bit NTP time (32 bits of seconds, 32 bits of fraction).
///
/// It rises strictly with the position (PROTOCOL §7): an entry's reading is the larger of its parent's last plus one and
/// the leader's clock, and message *i* of the slot has the entry's reading plus *i*.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Hlc(#[n(0)] pub u64);

impl Hlc {
    /// The reading for a new entry: past everything before it, and not before the leader's clock.
    pub fn after(last: Hlc, clock: WallTime) -> Hlc {
        Hlc((last.0 + 1).max(Hlc::from(clock).0))
    }

    /// This reading moved on by `count` messages.
    pub fn plus(self, count: u64) -> Hlc {
        Hlc(self.0.saturating_add(count))
    }

    /// Nanoseconds since 1970 (rounded down), and the number of readings since that nanosecond began.
    pub fn split(self) -> (WallTime, u16) {
        let time = NTP64(self.0);
        let nanoseconds = u64::from(time.as_secs()) * NANOSECONDS + ((u64::from(self.0 as u32) * NANOSECONDS) >> 32);
        let start = Hlc::from(WallTime(nanoseconds));
        (WallTime(nanoseconds), (self.0 - start.0) as u16)
    }

    /// Text of fixed width whose order is the clock's order: time, counter, member that published.
    pub fn text(self, member: &MemberId) -> String {
        let (time, counter) = self.split();
        format!("{time}/{counter:04x}/{}", &member.to_string()[..32])
    }
}

const NANOSECONDS: u64 = 1_000_000_000;

impl From<WallTime> for Hlc {
    /// The first reading at or after the nanosecond.
    fn from(time: WallTime) -> Hlc {
        let seconds = time.0 / NANOSECONDS;
        let fraction = ((time.0 % NANOSECONDS) << 32).div_ceil(NANOSECONDS);
        Hlc((seconds << 32) + fraction)
    }
}

impl fmt::Display for WallTime {
    /// RFC 3339 with nine decimals, UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, rest) = (self.0 / NANOSECONDS / 86_400, self.0 / NANOSECONDS % 86_400);
        let (year, month, day) = civil_date(days as i64);
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", self.0 % NANOSECONDS)
    }
}

/// Year, month and day of the proleptic Gregorian calendar, `days` after 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn civil_date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_reads_as_rfc_3339() {
        assert_eq!(WallTime(0).to_string(), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(WallTime(1_795_163_467_123_456_789).to_string(), "2026-11-20T08:31:07.123456789Z");
        assert_eq!(WallTime(951_782_400_000_000_000).to_string(), "2000-02-29T00:00:00.000000000Z");
    }

    #[test]
    fn text_order_is_the_order_of_the_clock() {
        let member = MemberId([7; 32]);
        let start = Hlc::from(WallTime(1_795_163_467_123_456_789));
        let readings: Vec<String> = (0..1000).map(|step| start.plus(step).text(&member)).collect();
        assert!(readings.windows(2).all(|pair| pair[0] < pair[1] && pair[0].len() == pair[1].len()));
    }

    #[test]
    fn an_entry_is_after_its_parent_whatever_the_clock_says() {
        let last = Hlc::from(WallTime(5_000));
        assert_eq!(Hlc::after(last, WallTime(0)), Hlc(last.0 + 1));
        assert_eq!(Hlc::after(last, WallTime(9_000)), Hlc::from(WallTime(9_000)));
    }
}
