//! The log of events, to stderr. Payloads are never logged.

use tracing_subscriber::EnvFilter;

use super::settings::{Log, LogFormat};

/// What is not worth a line: a packet of QUIC that finds no way, and a connection that both sides close at once, since the
/// mesh tells what became of a dial, and of a link; what peers say wrong in identify and gossip, as often as they like; and
/// every packet of multicast DNS that an interface does not take.
const QUIET: &str = "quinn_udp=error,yamux=error,libp2p_identify=error,libp2p_gossipsub=error,libp2p_mdns=off";

/// Starts logging for the whole process. Libraries are heard from `warn` on, but for what is not worth a line.
pub fn start(log: Log) {
    let events = tracing_subscriber::fmt().with_env_filter(filter(&log.level)).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => events.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => events.json().init(),
    }
}

fn filter(level: &impl std::fmt::Display) -> EnvFilter {
    EnvFilter::new(format!("warn,{QUIET},synod={level}"))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_peers_can_repeat_at_will_gets_no_lines() {
        let lines = Lines::default();
        let written = lines.clone();
        let events = tracing_subscriber::fmt().with_env_filter(filter(&"info")).with_writer(move || written.clone());
        tracing::subscriber::with_default(events.finish(), || {
            tracing::warn!(target: "libp2p_identify::handler", "another key");
            tracing::warn!(target: "libp2p_gossipsub::protocol", "no signature");
            tracing::error!(target: "libp2p_mdns::behaviour::iface", "not sent");
            tracing::debug!(target: "synod::net", "not asked for");
            tracing::error!(target: "libp2p_gossipsub::behaviour", "first");
            tracing::warn!(target: "libp2p_swarm", "second");
            tracing::info!(target: "synod::net", "third");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let ends: Vec<&str> = text.lines().filter_map(|line| line.rsplit(' ').next()).collect();
        assert_eq!(ends, ["first", "second", "third"], "{text}");
    }
}
