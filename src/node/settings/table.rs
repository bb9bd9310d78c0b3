//! Every node-local setting, once: its key in `synod.toml`, what it means, its default. The environment variable and
//! the flag follow from the key: `wal.segment_bytes` is `SYNOD_WAL_SEGMENT_BYTES` and `--wal-segment-bytes`.

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Key in `synod.toml`: `name` or `section.name`.
    pub key: &'static str,
    /// What kind of TOML value it is.
    pub shape: Shape,
    /// Its default as text; a list is separated by commas; empty means none.
    pub default: &'static str,
    /// Meaning, range and relation to its neighbours, in full sentences.
    pub meaning: &'static str,
}

/// How a setting stands in `synod.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A string.
    Text,
    /// An array of strings.
    List,
}

const fn text(key: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { key, shape: Shape::Text, default, meaning }
}

const fn list(key: &'static str, meaning: &'static str) -> Setting {
    Setting { key, shape: Shape::List, default: "", meaning }
}

/// Every setting, in the order of the commented file that `synod config default` prints.
pub const SETTINGS: &[Setting] = &[
    text(
        "data_dir",
        "data",
        "Directory of this member's key and log. Losing it is losing the member: no backup of it may ever be started. \
         A relative path counts from the file that names it, or from the working directory if a variable or flag does.",
    ),
    text(
        "genesis",
        "genesis.toml",
        "The group's genesis, the same file on all members it names: who founded the group, and the limits all must agree \
         on. A member that has joined has its own in data_dir, and this one does not count.",
    ),
    text(
        "name",
        "",
        "Name of this member for people, told to the group when it joins: 1 to 64 letters, digits, `-`, `_` or `.`, unique \
         in the group. Default: the first digits of its key. What genesis names keeps that name.",
    ),
    text(
        "cluster",
        "",
        "Name for people of the group that this member founds together with others (bootstrap.expect): 1 to 64 letters, \
         digits, `-`, `_` or `.`. Once there is a genesis, that has the name.",
    ),
    text(
        "leave_on_exit",
        "false",
        "Whether a member told to stop leaves the group, for good, as by `synod leave`: true or false. It waits for that as \
         long as it waits for what it accepted; a member that may not go by then stops and stays one, unless its leave was on \
         its way. A second signal, a second or more after the first, stops it at once.",
    ),
    text(
        "api.listen",
        "127.0.0.1:7171",
        "Address and port of the host API over HTTP. Anything beyond loopback also needs api.token_file. Port 0 takes a \
         free one, which the log names.",
    ),
    text(
        "api.socket",
        "",
        "Path of the Unix socket that serves the same API, at most 107 bytes. Default: synod.sock in data_dir.",
    ),
    text(
        "api.token_file",
        "",
        "File that holds the token every request over TCP must carry (`Authorization: Bearer …`), readable by its owner \
         only; root's may be readable by the member's group. Default: none, no token is asked for.",
    ),
    text(
        "api.publish_timeout",
        "10s",
        "How long a publish waits for its place in the order before it is answered with 503 or 504; a member told to \
         stop waits as long, and 2s more, for what it accepted. Not below timing.order_timeout, so that it outlives a \
         change of the leader; at most 1h.",
    ),
    list(
        "mesh.listen",
        "Multiaddresses on which the other members reach this one. Default: its addresses in genesis; for a member that \
         joins, every IPv4 address of the machine, at the port 100 above that of api.listen; to each TCP port the UDP port of \
         the same number, for QUIC, which is dialled where TCP cannot be. Set it where they differ, as behind address \
         translation: [\"/ip4/0.0.0.0/tcp/7271\", \"/ip4/0.0.0.0/udp/7271/quic-v1\"]; without the second, no QUIC. Set \
         mesh.announce too then.",
    ),
    list(
        "mesh.announce",
        "Multiaddresses that this member tells the others to reach it at, at most 8. Default: for a member that genesis \
         names, nothing: what the group knows stands, and the log and the status warn if that does not lead here. For one that joined, mesh.listen, with the address of this machine \
         towards the group in place of 0.0.0.0 or ::. A member that starts with others than the group knows tells it.",
    ),
    list(
        "discovery.addresses",
        "Where others may be, besides what the group itself knows: multiaddresses, with /p2p/ and a key behind them or \
         without, or host:port for TCP: [\"10.0.0.7:7271\"]. Who answers there is known by its key, and is a member only if \
         the group says so.",
    ),
    list(
        "discovery.dns",
        "Names that lead to others, resolved again every few seconds: host:port asks for its addresses (A, AAAA), \
         _service._proto.name for hosts and ports (SRV), as a Kubernetes headless service gives both.",
    ),
    text(
        "discovery.file",
        "",
        "File that lists others, one to a line in the form of discovery.addresses; `#` begins a comment. It is read again \
         when it changes. Default: none.",
    ),
    text(
        "discovery.mdns",
        "true",
        "Whether others are looked for on the local network by multicast DNS, and found there: true or false. It does \
         nothing where the mesh listens on loopback only.",
    ),
    text(
        "discovery.gossip",
        "true",
        "Whether members tell all others where they are and which epoch is the newest by gossip: true or false. Without it \
         a group works as well; who moves or sleeps is only found again later.",
    ),
    text(
        "bootstrap.expect",
        "",
        "A member without a genesis founds a group with so many members, itself included: 3, 5 or 7, or 1 for trying out. It \
         counts *all* that are started with it; they find each other through `discovery`, and all of them promise one \
         genesis before there is a group. Needs `cluster`. Where there is a genesis, it and what follows do not count. \
         Default: none, genesis is read.",
    ),
    text(
        "bootstrap.message_bytes_max",
        "1MiB",
        "Largest body of a message in a group that is founded so; the same on all that found it.",
    ),
    text(
        "bootstrap.batch_bytes_max",
        "4MiB",
        "Largest batch, with all its messages, in a group that is founded so; the same on all that found it.",
    ),
    text(
        "timing.heartbeat",
        "50ms",
        "The leader says this often that it lives. At most a quarter of timing.leader_timeout.",
    ),
    text(
        "timing.leader_timeout",
        "300ms",
        "Silence of the leader after which a voter asks for another one; doubles with each attempt that decided nothing.",
    ),
    text(
        "timing.order_timeout",
        "1s",
        "Standstill, although messages could be ordered, after which a voter asks for another leader; doubles likewise. \
         Not below timing.leader_timeout.",
    ),
    text("timing.timeout_max", "5s", "Neither timeout doubles beyond this. Not below timing.order_timeout."),
    text(
        "timing.start_grace",
        "1s",
        "For this long after its own start a member does not complain about silence. Not below timing.leader_timeout.",
    ),
    text(
        "timing.clock_drift_max",
        "500ms",
        "A member whose clock is further than this from the others' is not ready and does not lead.",
    ),
    text(
        "timing.replace_after",
        "5m",
        "A voter that is not heard for this long is suspected; when a quorum suspects it, a ready learner takes its vote. \
         It stays a member. Not below timing.timeout_max.",
    ),
    text(
        "wal.segment_bytes",
        "64MiB",
        "Size of one file of the log, written with zeros ahead of its use. Between twice the group's batch_bytes_max \
         and 1GiB.",
    ),
    text("log.level", "info", "What is logged to stderr: error, warn, info, debug or trace."),
    text("log.format", "text", "How it is logged: text for people, json for collectors, one line each."),
];

/// Keys of `genesis.toml`, which do not belong in `synod.toml`.
pub const CLUSTER_WIDE: &[&str] =
    &["nonce", "model", "rules_version", "members", "limits", "message_bytes_max", "batch_bytes_max"];

impl Setting {
    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.key.replace('.', "_").to_ascii_uppercase())
    }

    /// Its flag, without the dashes.
    pub fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// Section and name; the section is empty at the top of the file.
    pub fn place(&self) -> (&'static str, &'static str) {
        self.key.split_once('.').unwrap_or(("", self.key))
    }
}

/// How every variable begins.
pub const VARIABLE_PREFIX: &str = "SYNOD_";
/// Variables that are not settings of a member: they tell a command which configuration, which sidecar or which join code to
/// use.
pub const OTHER_VARIABLES: &[&str] = &["SYNOD_CONFIG", "SYNOD_API", "SYNOD_JOIN"];
/// Kubernetes sets such variables by itself when a service is called `synod`.
pub const FOREIGN_PREFIXES: &[&str] = &["SYNOD_SERVICE_", "SYNOD_PORT"];

/// The setting of that key.
pub fn setting(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_variables_and_flags_are_unique() {
        for (index, one) in SETTINGS.iter().enumerate() {
            for other in &SETTINGS[..index] {
                assert_ne!(one.variable(), other.variable());
                assert_ne!(one.flag(), other.flag());
            }
            assert!(!OTHER_VARIABLES.contains(&one.variable().as_str()));
            assert!(!FOREIGN_PREFIXES.iter().any(|prefix| one.variable().starts_with(prefix)));
        }
    }
}
