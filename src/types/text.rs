//! Durations and sizes as people write them: `250ms`, `30s`, `5m`; `512`, `64KiB`, `1MiB`. One spelling for
//! configuration files, flags and query parameters.

use std::time::Duration;

/// Text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration; write a whole number and its unit, such as `250ms`, `30s`, `5m` or `2h`")]
pub struct NotADuration(pub String);

/// Text that is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size; write a whole number and its unit, such as `512B`, `64KiB`, `1MiB` or `2GiB`")]
pub struct NotASize(pub String);

const DURATION_UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1000), ("m", 60 * 1000), ("h", 60 * 60 * 1000)];
const SIZE_UNITS: &[(&str, u64)] = &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1), ("", 1)];

/// Reads a duration: a whole number directly followed by `ms`, `s`, `m` or `h`.
pub fn duration(text: &str) -> Result<Duration, NotADuration> {
    measure(text, DURATION_UNITS).map(Duration::from_millis).ok_or_else(|| NotADuration(text.to_owned()))
}

/// Reads a size in bytes: a whole number directly followed by `B`, `KiB`, `MiB`, `GiB` or nothing.
pub fn size(text: &str) -> Result<u64, NotASize> {
    measure(text, SIZE_UNITS).ok_or_else(|| NotASize(text.to_owned()))
}

/// Writes a duration so that [`duration`] reads it back: in the largest unit that loses nothing, whole milliseconds.
pub fn duration_text(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fits = DURATION_UNITS.iter().rev().find(|(_, factor)| milliseconds > 0 && milliseconds % factor == 0);
    let (unit, factor) = fits.copied().unwrap_or(("ms", 1));
    format!("{}{unit}", milliseconds / factor)
}

/// Writes a size so that [`size`] reads it back: in the largest unit that loses nothing.
pub fn size_text(bytes: u64) -> String {
    let (unit, factor) =
        SIZE_UNITS.iter().find(|(_, factor)| bytes > 0 && bytes % factor == 0).copied().unwrap_or(("B", 1));
    format!("{}{unit}", bytes / factor)
}

fn measure(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write() {
        for (text, milliseconds) in [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
            assert_eq!(duration_text(Duration::from_millis(milliseconds)), text);
        }
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration(&duration_text(Duration::ZERO)), Ok(Duration::ZERO));
    }

    #[test]
    fn sizes_read_and_write() {
        for (text, bytes) in [("512B", 512), ("64KiB", 65_536), ("1MiB", 1 << 20), ("3GiB", 3 << 30)] {
            assert_eq!(size(text), Ok(bytes));
            assert_eq!(size_text(bytes), text);
        }
        assert_eq!(size("1000"), Ok(1000));
        assert_eq!(size(&size_text(0)), Ok(0));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in ["", "s", "30", "-1s", "1.5s", "30 s", "30S", "99999999999999999999s", "18446744073709551615h", "ä"]
        {
            assert_eq!(duration(text), Err(NotADuration(text.to_owned())));
        }
        for text in ["", "MiB", "1MB", "-1", "1 MiB", "18446744073709551615KiB", "€"] {
            assert_eq!(size(text), Err(NotASize(text.to_owned())));
        }
    }
}
