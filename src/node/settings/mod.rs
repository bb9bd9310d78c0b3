//! Node-local settings: `synod.toml`, above it `SYNOD_*` variables, above them flags. Every setting stands once, in
//! [`table`]; [`layers`] gathers what was given; here it becomes [`Settings`], or every mistake at once.

pub mod layers;
pub mod table;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use crate::api::listen::SOCKET_PATH_BYTES_MAX;
use crate::net::{DnsName, Place, Sources, listen_address, port};
use crate::node::genesis_file::GENESIS_FILE;
use crate::types::command::{check_addresses, check_name};
use crate::types::limits::CRASH_GROUP_SIZES;
use crate::types::text;
use crate::types::{ClusterLimits, Genesis, Timing};
use layers::{Given, Layers, Origin};

/// What one member chooses for itself. Made by [`Settings::from_layers`]; [`table::SETTINGS`] has meaning and range of
/// each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Directory of the member's key and log.
    pub data_dir: PathBuf,
    /// The genesis file of a member that it names.
    pub genesis: PathBuf,
    /// The name that a member asks for when it joins.
    pub name: Option<String>,
    /// The group that is founded with others, if there is no genesis.
    pub bootstrap: Option<Bootstrap>,
    /// Whether a member told to stop leaves the group.
    pub leave_on_exit: bool,
    /// The host API over HTTP.
    pub api: Api,
    /// Where the mesh listens; empty means the default.
    pub mesh_listen: Vec<Multiaddr>,
    /// Where the others are told to reach it; empty means the default.
    pub mesh_announce: Vec<Multiaddr>,
    /// Who tells where others may be.
    pub discovery: Sources,
    /// Whether members gossip about where they are.
    pub gossip: bool,
    /// When the ordering core acts on silence and standstill.
    pub timing: Timing,
    /// Size of one file of the log.
    pub segment_bytes: u64,
    /// What is logged, and how.
    pub log: Log,
}

/// Settings of a group that is founded without a file (rule G1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// Its name for people.
    pub cluster: String,
    /// How many found it.
    pub expect: u32,
    /// Bounds that everybody agrees on.
    pub limits: ClusterLimits,
}

/// Settings of the host API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// Address of the HTTP listener.
    pub listen: SocketAddr,
    /// Path of the Unix socket.
    pub socket: PathBuf,
    /// File with the token that requests over TCP must carry.
    pub token_file: Option<PathBuf>,
    /// How long a publish waits for its place.
    pub publish_timeout: Duration,
}

/// Settings of the log of events (not of the write-ahead log).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The least grave events logged.
    pub level: tracing::Level,
    /// How they are written.
    pub format: LogFormat,
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors.
    Json,
}

/// Everything that is wrong with a configuration, each with field, value, limit and what to do. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the configuration has {count} mistake{}:", if count == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|mistake| write!(f, "\n  - {mistake}"))
    }
}

impl Mistakes {
    /// `value` if there is no mistake, else the mistakes.
    pub fn unless<T>(mistakes: Vec<String>, value: impl FnOnce() -> T) -> Result<T, Mistakes> {
        if mistakes.is_empty() { Ok(value()) } else { Err(Mistakes(mistakes)) }
    }
}

const PUBLISH_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;

impl Settings {
    /// Reads every setting. `folder` is where relative paths of the file count from.
    pub fn from_layers(layers: &Layers, folder: &Path) -> Result<Settings, Mistakes> {
        Settings::beside(layers, folder, None)
    }

    /// The same, and relates the settings to the group's genesis, if there is a usable one.
    pub fn beside(layers: &Layers, folder: &Path, group: Option<&Genesis>) -> Result<Settings, Mistakes> {
        let mut reader = Reader { layers, folder, mistakes: layers.mistakes().to_vec() };
        let data_dir = reader.path("data_dir");
        let genesis = reader.path("genesis");
        let api = reader.api(data_dir.as_deref());
        let name = reader.name();
        let bootstrap = reader.bootstrap();
        let leave_on_exit = reader.truth("leave_on_exit");
        let mesh_listen = reader.multiaddresses("mesh.listen", own_multiaddress);
        let mesh_announce = reader.announced();
        let discovery = reader.discovery();
        let gossip = reader.truth("discovery.gossip");
        let timing = reader.timing();
        let segment_bytes = reader.segment_bytes();
        let log = reader.log();
        if let (Some(api), Some(timing)) = (&api, &timing) {
            reader.relate(api, timing);
        }
        let bootstrapped = bootstrap.iter().flatten().map(|bootstrap| bootstrap.limits).next();
        if let (Some(segment_bytes), Some(limits)) = (segment_bytes, group.map(|group| group.limits).or(bootstrapped)) {
            reader.fit(segment_bytes, limits);
        }
        if data_dir.is_none() {
            reader.mistakes.push("data_dir is empty: name the directory of this member's key and log".to_owned());
        }
        if genesis.is_none() {
            reader.mistakes.push("genesis is empty: name the group's genesis.toml".to_owned());
        }
        Mistakes::unless(reader.mistakes, || Settings {
            data_dir: data_dir.expect("its absence is a mistake"),
            genesis: genesis.expect("its absence is a mistake"),
            api: api.expect("its absence is a mistake"),
            name: name.expect("its absence is a mistake"),
            bootstrap: bootstrap.expect("its absence is a mistake"),
            leave_on_exit: leave_on_exit.expect("its absence is a mistake"),
            mesh_listen: mesh_listen.expect("its absence is a mistake"),
            mesh_announce: mesh_announce.expect("its absence is a mistake"),
            discovery: discovery.expect("its absence is a mistake"),
            gossip: gossip.expect("its absence is a mistake"),
            timing: timing.expect("its absence is a mistake"),
            segment_bytes: segment_bytes.expect("its absence is a mistake"),
            log: log.expect("its absence is a mistake"),
        })
    }

    /// Where the genesis file is, and where that of a member that has joined would be, even if other settings cannot be
    /// used.
    pub fn genesis_paths(layers: &Layers, folder: &Path) -> (Option<PathBuf>, Option<PathBuf>) {
        let mut reader = Reader { layers, folder, mistakes: Vec::new() };
        (reader.path("genesis"), reader.path("data_dir").map(|data_dir| data_dir.join(GENESIS_FILE)))
    }
}

/// Reads values one by one and keeps what is wrong with them.
struct Reader<'a> {
    layers: &'a Layers,
    folder: &'a Path,
    mistakes: Vec<String>,
}

impl Reader<'_> {
    fn wrong(&mut self, key: &str, given: &Given, what: impl fmt::Display) {
        self.mistakes.push(format!("{key} = \"{}\" ({}): {what}", given.text, given.origin));
    }

    fn parsed<T, E: fmt::Display>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        let given = self.layers.value(key);
        parse(&given.text).map_err(|error| self.wrong(key, &given, error)).ok()
    }

    /// A path, absolute or from the right place; none if it is empty.
    fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let given = self.layers.value(key);
        let path = Path::new(&given.text);
        match given.origin {
            _ if given.text.is_empty() => None,
            Origin::File(_) | Origin::Default => Some(self.folder.join(path)),
            Origin::Variable(_) | Origin::Flag(_) => Some(path.to_owned()),
        }
    }

    fn api(&mut self, data_dir: Option<&Path>) -> Option<Api> {
        let listen = self.parsed("api.listen", |text| {
            text.parse::<SocketAddr>().map_err(|_| "expected an address and a port, such as \"127.0.0.1:7171\"")
        });
        let socket = self.path("api.socket").or_else(|| data_dir.map(|directory| directory.join("synod.sock")));
        let token_file = self.path("api.token_file");
        let publish_timeout = self.parsed("api.publish_timeout", text::duration);
        if let Some(socket) = &socket {
            let length = socket.as_os_str().len();
            if length > SOCKET_PATH_BYTES_MAX {
                self.mistakes.push(format!(
                    "api.socket = \"{}\" has {length} bytes, the system allows {SOCKET_PATH_BYTES_MAX}: set a shorter \
                     path, or a shorter data_dir",
                    socket.display()
                ));
            }
        }
        if let (Some(listen), None) = (listen, &token_file)
            && !listen.ip().is_loopback()
        {
            let given = self.layers.value("api.listen");
            self.wrong("api.listen", &given, "is not a loopback address: set api.token_file too, or use 127.0.0.1");
        }
        Some(Api { listen: listen?, socket: socket?, token_file, publish_timeout: publish_timeout? })
    }

    /// None given is none; the outer one is a mistake.
    fn name(&mut self) -> Option<Option<String>> {
        self.parsed("name", |text| match text {
            "" => Ok(None),
            name => check_name(name).map(|()| Some(name.to_owned())).map_err(|error| error.0),
        })
    }

    /// None asked for is none; the outer one is a mistake.
    fn bootstrap(&mut self) -> Option<Option<Bootstrap>> {
        let expect = self.parsed("bootstrap.expect", |text| match text {
            "" => Ok(None),
            number => match number.parse::<usize>() {
                Ok(count) if CRASH_GROUP_SIZES.contains(&count) => Ok(Some(count as u32)),
                _ => Err("a group is founded by 3, 5 or 7 members, or by 1 for trying out"),
            },
        });
        let cluster = self.parsed("cluster", |text| match text {
            "" => Ok(None),
            name => check_name(name).map(|()| Some(name.to_owned())).map_err(|error| error.0),
        });
        let message_bytes_max = self.parsed("bootstrap.message_bytes_max", text::size);
        let batch_bytes_max = self.parsed("bootstrap.batch_bytes_max", text::size);
        let limits = ClusterLimits { message_bytes_max: message_bytes_max?, batch_bytes_max: batch_bytes_max? };
        let mistakes = limits.mistakes();
        if !mistakes.is_empty() {
            self.mistakes.extend(mistakes.iter().map(|mistake| mistake.replace("limits.", "bootstrap.")));
            return None;
        }
        match (expect?, cluster?) {
            (None, _) => Some(None),
            (Some(expect), Some(cluster)) => Some(Some(Bootstrap { cluster, expect, limits })),
            (Some(_), None) => {
                let given = self.layers.value("bootstrap.expect");
                self.wrong(
                    "bootstrap.expect",
                    &given,
                    "the group needs a name: set cluster too, the same on all of them",
                );
                None
            }
        }
    }

    fn truth(&mut self, key: &'static str) -> Option<bool> {
        self.parsed(key, |text| text.parse::<bool>().map_err(|_| "expected \"true\" or \"false\""))
    }

    fn list<T, E>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, E>) -> Option<Vec<T>>
    where
        E: fmt::Display,
    {
        self.parsed(key, |text| {
            text.split(',').filter(|item| !item.is_empty()).map(&parse).collect::<Result<Vec<_>, _>>()
        })
    }

    fn discovery(&mut self) -> Option<Sources> {
        let addresses = self.list("discovery.addresses", str::parse::<Place>);
        let dns = self.list("discovery.dns", str::parse::<DnsName>);
        let file = self.path("discovery.file");
        let mdns = self.truth("discovery.mdns");
        Some(Sources { addresses: addresses?, dns: dns?, file, mdns: mdns? })
    }

    fn multiaddresses(
        &mut self,
        key: &'static str,
        usable: impl Fn(&str) -> Result<Multiaddr, String>,
    ) -> Option<Vec<Multiaddr>> {
        self.list(key, usable)
    }

    fn announced(&mut self) -> Option<Vec<Multiaddr>> {
        let announced = self.multiaddresses("mesh.announce", reachable_multiaddress)?;
        let texts: Vec<String> = announced.iter().map(ToString::to_string).collect();
        if let Err(error) = check_addresses(&texts) {
            let given = self.layers.value("mesh.announce");
            self.wrong("mesh.announce", &given, error.0);
            return None;
        }
        Some(announced)
    }

    fn timing(&mut self) -> Option<Timing> {
        let mut read = |key| self.parsed(key, text::duration);
        let [heartbeat, leader_timeout, order_timeout, timeout_max, start_grace, clock_drift_max, replace_after] = [
            read("timing.heartbeat"),
            read("timing.leader_timeout"),
            read("timing.order_timeout"),
            read("timing.timeout_max"),
            read("timing.start_grace"),
            read("timing.clock_drift_max"),
            read("timing.replace_after"),
        ];
        let timing = Timing {
            heartbeat: heartbeat?,
            leader_timeout: leader_timeout?,
            order_timeout: order_timeout?,
            timeout_max: timeout_max?,
            start_grace: start_grace?,
            clock_drift_max: clock_drift_max?,
            replace_after: replace_after?,
        };
        self.mistakes.extend(timing.mistakes());
        Some(timing)
    }

    fn segment_bytes(&mut self) -> Option<u64> {
        let bytes = self.parsed("wal.segment_bytes", text::size)?;
        if !SEGMENT_BYTES.contains(&bytes) {
            let [least, most] = [SEGMENT_BYTES.start(), SEGMENT_BYTES.end()].map(|bound| text::size_text(*bound));
            let given = self.layers.value("wal.segment_bytes");
            self.wrong("wal.segment_bytes", &given, format!("must be between \"{least}\" and \"{most}\""));
            return None;
        }
        Some(bytes)
    }

    /// A segment has room for the group's largest batch.
    fn fit(&mut self, segment_bytes: u64, group: ClusterLimits) {
        let batch_bytes_max = group.batch_bytes_max;
        if segment_bytes < batch_bytes_max.saturating_mul(2) {
            let given = self.layers.value("wal.segment_bytes");
            let most = text::size_text(batch_bytes_max);
            let what = format!("must be at least twice the group's limits.batch_bytes_max, which is \"{most}\"");
            self.wrong("wal.segment_bytes", &given, what);
        }
    }

    fn log(&mut self) -> Option<Log> {
        let level = self.parsed("log.level", |text| match text {
            "error" => Ok(tracing::Level::ERROR),
            "warn" => Ok(tracing::Level::WARN),
            "info" => Ok(tracing::Level::INFO),
            "debug" => Ok(tracing::Level::DEBUG),
            "trace" => Ok(tracing::Level::TRACE),
            _ => Err("expected error, warn, info, debug or trace"),
        });
        let format = self.parsed("log.format", |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("expected text or json"),
        });
        Some(Log { level: level?, format: format? })
    }

    fn relate(&mut self, api: &Api, timing: &Timing) {
        if !(timing.order_timeout..=PUBLISH_TIMEOUT_MAX).contains(&api.publish_timeout) {
            let given = self.layers.value("api.publish_timeout");
            let least = text::duration_text(timing.order_timeout);
            let most = text::duration_text(PUBLISH_TIMEOUT_MAX);
            let what = format!("must be between \"{least}\" (timing.order_timeout) and \"{most}\"");
            self.wrong("api.publish_timeout", &given, what);
        }
    }
}

/// An address that a member can be dialled at: a host and a port of one of the two transports.
pub fn mesh_multiaddress(text: &str) -> Result<Multiaddr, String> {
    let address: Multiaddr = text.parse().map_err(|error| {
        format!("`{text}` is not a multiaddress ({error}): expected such as \"/ip4/10.0.0.1/tcp/7271\"")
    })?;
    let mut parts = address.iter();
    let host = parts.next();
    let is_host = matches!(
        host,
        Some(Protocol::Ip4(_) | Protocol::Ip6(_) | Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_))
    );
    if is_host && port(parts).is_some() {
        return Ok(address);
    }
    Err(format!(
        "`{text}` is more than a host and a port, or less: expected such as \"/ip4/10.0.0.1/tcp/7271\", \
         \"/dns4/n1.example.org/tcp/7271\" or, for QUIC, \"/ip4/10.0.0.1/udp/7271/quic-v1\""
    ))
}

/// An address that this member can listen on.
fn own_multiaddress(text: &str) -> Result<Multiaddr, String> {
    let address = mesh_multiaddress(text)?;
    if listen_address(&address).is_some() {
        return Ok(address);
    }
    Err(format!(
        "`{text}` cannot be listened on: expected an address of this machine, such as \"/ip4/0.0.0.0/tcp/7271\""
    ))
}

/// An address that others can reach this member at.
fn reachable_multiaddress(text: &str) -> Result<Multiaddr, String> {
    let address = mesh_multiaddress(text)?;
    match listen_address(&address) {
        Some((_, socket)) if socket.ip().is_unspecified() || socket.port() == 0 => {
            Err(format!("`{text}` is no place to be reached at: name the address of this machine, and the port"))
        }
        _ => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str) -> Result<Settings, Mistakes> {
        let layers = Layers::gather(Some((Path::new("/etc/synod/synod.toml"), file)), [], []);
        Settings::from_layers(&layers, Path::new("/etc/synod"))
    }

    #[test]
    fn the_defaults_can_be_used_and_paths_count_from_the_file() {
        let settings = read("").unwrap();
        assert_eq!(settings.timing, Timing::default());
        assert_eq!(settings.data_dir, Path::new("/etc/synod/data"));
        assert_eq!(settings.api.socket, Path::new("/etc/synod/data/synod.sock"));
        assert_eq!(settings.segment_bytes, 64 << 20);
        assert_eq!(read("data_dir = \"/var/lib/synod\"").unwrap().data_dir, Path::new("/var/lib/synod"));
    }

    #[test]
    fn paths_of_flags_count_from_the_working_directory() {
        let layers = Layers::gather(None, [], [("data_dir", "here".to_owned())]);
        assert_eq!(Settings::from_layers(&layers, Path::new("/etc")).unwrap().data_dir, Path::new("here"));
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let long = "x".repeat(108);
        let file = format!(
            "colour = 1\ndata_dir = \"\"\nname = \"a b\"\nleave_on_exit = \"perhaps\"\n[api]\nlisten = \"0.0.0.0:7171\"\nsocket = \"/{long}\"\npublish_timeout = \"2d\"\n\
             [timing]\nheartbeat = \"80ms\"\n[wal]\nsegment_bytes = \"1KiB\"\n[log]\nlevel = \"loud\"\nformat = \"xml\"\n\
             [mesh]\nlisten = [\"/ip4/1.2.3.4/udp/5\"]\nannounce = [\"/ip4/0.0.0.0/tcp/5\"]\n"
        );
        let mistakes = read(&file).unwrap_err();
        let text = mistakes.to_string();
        for part in [
            "colour in",
            "data_dir is empty",
            "is not a loopback address",
            "has 109 bytes, the system allows 107",
            "`2d` is not a duration",
            "timing.heartbeat = \"80ms\" must be at most a quarter",
            "must be between \"64KiB\" and \"1GiB\"",
            "expected error, warn",
            "expected text or json",
            "/ip4/1.2.3.4/udp/5` is more than a host and a port, or less",
            "name = \"a b\" (/etc/synod/synod.toml): a name has 1 to 64 letters",
            "expected \"true\" or \"false\"",
            "is no place to be reached at",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert_eq!(mistakes.0.len(), 13, "{text}");
    }

    #[test]
    fn the_mesh_listens_on_addresses_of_this_machine() {
        for (address, told) in [
            ("/dns4/example.org/tcp/7271", "cannot be listened on"),
            ("/ip4/1.2.3.4/tcp/1/ws", "more than a host and a port"),
            ("/tcp/1", "or less"),
        ] {
            let text = read(&format!("[mesh]\nlisten = [\"{address}\"]")).unwrap_err().to_string();
            assert!(text.contains("mesh.listen = ") && text.contains(address) && text.contains(told), "{text}");
        }
        assert_eq!(read("[mesh]\nlisten = [\"/ip6/::/tcp/0\"]").unwrap().mesh_listen.len(), 1);
    }

    #[test]
    fn a_publish_outlives_a_change_of_the_leader() {
        let text = read("[api]\npublish_timeout = \"10ms\"").unwrap_err().to_string();
        assert!(text.contains("must be between \"1s\" (timing.order_timeout) and \"1h\""), "{text}");
    }
}
