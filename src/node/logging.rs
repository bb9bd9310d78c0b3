//! The log of events, to stderr. Payloads are never logged.

use tracing_subscriber::EnvFilter;

use super::settings::{Log, LogFormat};

/// Starts logging for the whole process. Libraries are heard from `warn` on; but for a packet of QUIC that finds no way,
/// and a connection that both sides close at once: the mesh tells what became of a dial, and of a link.
pub fn start(log: Log) {
    let filter = EnvFilter::new(format!("warn,quinn_udp=error,yamux=error,synod={}", log.level));
    let events = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => events.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => events.json().init(),
    }
}
