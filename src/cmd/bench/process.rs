//! What the system says of a process: memory and processor time.

use std::fs;
use std::time::Duration;

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

/// Processor time of the threads it has, of the program and of the system for it.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let time = |thread: fs::DirEntry| {
        let scheduled = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        scheduled.split_whitespace().next()?.parse::<u64>().ok()
    };
    // A thread that ends meanwhile counts no more; those of a member last as long as it.
    Some(Duration::from_nanos(threads.flatten().filter_map(time).sum()))
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
