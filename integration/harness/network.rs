//! Hosts of a test's own, where this user may make them.

use std::io::Write;

use synod::cmd::group::network::Network;

/// Whether what the machine does not allow fails, as in CI: where CHECK_NAMESPACES says anything.
pub fn nothing_may_be_left_out() -> bool {
    std::env::var_os("CHECK_NAMESPACES").is_some_and(|value| !value.is_empty())
}

/// So many hosts on one network. None where this user may make none: it says so past the harness, which keeps what tests that
/// pass print, and fails where nothing may be left out.
pub fn hosts(count: u8) -> Option<Network> {
    match Network::make(count) {
        Ok(network) => Some(network),
        Err(reason) => {
            let said = format!("NOT TRIED: real networks: {reason}");
            assert!(!nothing_may_be_left_out(), "{said}");
            std::io::stderr().write_all(format!("{said}\n").as_bytes()).unwrap();
            None
        }
    }
}
