//! How many files and sockets the system lets this process have open, and what of them clients may take.

use std::fs;

use crate::types::limits;

/// Connections that each of the two listeners of the host API may have, so that files and peers always find a descriptor.
pub fn connections_max() -> usize {
    let descriptors = fs::read_to_string("/proc/self/limits").ok().and_then(|text| soft_limit(&text));
    let connections = share(descriptors);
    tracing::info!(descriptors, connections, "each listener of the host API takes so many clients at a time");
    connections
}

/// Of a process with so many descriptors; without any number there is no limit.
fn share(descriptors: Option<usize>) -> usize {
    let left = descriptors.map_or(usize::MAX, |all| all.saturating_sub(limits::DESCRIPTORS_RESERVED));
    (left / 2).clamp(limits::CONNECTIONS_LEAST, limits::CONNECTIONS_MAX)
}

/// The soft limit of open files; none if it is unlimited.
fn soft_limit(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_descriptors_to_files_and_peers() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             95000                95000                processes \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(text), Some(1024));
        assert_eq!(soft_limit(&text.replace("1024  ", "unlimited")), None);
        assert_eq!(share(Some(1024)), 320);
        assert_eq!(share(Some(100)), limits::CONNECTIONS_LEAST);
        assert_eq!(share(Some(1 << 20)), limits::CONNECTIONS_MAX);
        assert_eq!(share(None), limits::CONNECTIONS_MAX);
    }

    #[test]
    fn this_system_tells_its_limit() {
        assert!(fs::read_to_string("/proc/self/limits").unwrap().contains("Max open files"));
    }
}
