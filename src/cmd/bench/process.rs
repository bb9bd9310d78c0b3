//! What the system says of a process: memory and processor time.

use std::fs;
use std::time::Duration;

/// Ticks a second in which `/proc` counts: fixed in Linux for every program.
const TICKS_PER_SECOND: u64 = 100;

/// Resident memory, in bytes.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    status_bytes(pid, "VmRSS:")
}

/// Resident memory that is not of files, in bytes: it differs less from start to start.
pub fn anonymous_bytes(pid: u32) -> Option<u64> {
    status_bytes(pid, "RssAnon:")
}

fn status_bytes(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// Processor time since its start, of the program and of the system for it.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything; the third field follows it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_used_time() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).unwrap() >= anonymous_bytes(pid).unwrap());
        let before = cpu_time(pid).unwrap();
        let mut number = 1_u64;
        while cpu_time(pid).unwrap() == before {
            number = number.wrapping_mul(3);
        }
        assert_ne!(number, 0);
    }
}
