//! Durations and sizes as people write them: `"250ms"`, `"64MiB"`. One number, one unit, nothing else.

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
const SIZE_UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: expected a whole number and a unit, one of ns, us, ms, s, m, h, such as \"250ms\"")]
pub struct NotADuration(pub String);

/// Text that is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size: expected a whole number and a unit, one of B, KiB, MiB, GiB, such as \"64MiB\"")]
pub struct NotASize(pub String);

/// Reads a duration such as `"250ms"`.
pub fn duration(text: &str) -> Result<Duration, NotADuration> {
    quantity(text, &DURATION_UNITS).map(Duration::from_nanos).ok_or_else(|| NotADuration(text.to_owned()))
}

/// Reads a size in bytes such as `"64MiB"`.
pub fn size(text: &str) -> Result<u64, NotASize> {
    quantity(text, &SIZE_UNITS).ok_or_else(|| NotASize(text.to_owned()))
}

/// Writes a duration in the largest unit that divides it; [`duration`] reads it back (up to 584 years).
pub fn duration_text(duration: Duration) -> String {
    written(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), &DURATION_UNITS)
}

/// Writes a size in the largest unit that divides it; [`size`] reads it back.
pub fn size_text(bytes: u64) -> String {
    written(bytes, &SIZE_UNITS)
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn written(quantity: u64, units: &[(&str, u64)]) -> String {
    let (name, factor) = units
        .iter()
        .rev()
        .find(|(_, factor)| quantity >= *factor && quantity.is_multiple_of(*factor))
        .unwrap_or(&units[0]);
    format!("{}{name}", quantity / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_written() {
        for text in ["250ms", "1s", "90s", "2h", "7us", "3ns"] {
            let read = duration(text).unwrap();
            assert_eq!(duration(&duration_text(read)), Ok(read));
        }
        assert_eq!(duration("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration_text(Duration::from_secs(60)), "1m");
        assert_eq!(duration_text(Duration::ZERO), "0ns");
        for text in ["", "10", "ms", "-1s", "1.5s", "1 s", "1sec", "18446744073709551615h", "١s"] {
            assert_eq!(duration(text), Err(NotADuration(text.to_owned())));
        }
    }

    #[test]
    fn sizes_read_as_written() {
        assert_eq!(size("64MiB").unwrap(), 64 << 20);
        assert_eq!(size("0B").unwrap(), 0);
        assert_eq!(size_text(64 << 20), "64MiB");
        assert_eq!(size_text((64 << 20) + 1), "67108865B");
        for text in ["", "64", "64MB", "64mib", "1e3B", "99999999999GiB"] {
            assert_eq!(size(text), Err(NotASize(text.to_owned())));
        }
    }
}
