//! Hosts on this machine: network namespaces on a bridge, each with an address, cut and joined as one wants, for
//! measurements and tests of what crosses a network. Nothing of it reaches the machine's own network, and all of it goes with
//! one process. It takes no privileges where user namespaces are allowed.
//!
//! Files are shared, so a member on such a host is spoken to over its Unix socket.

use std::io::Read;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

/// Makes the namespaces' place, says that it stands, and lives as long as its standard input.
const KEEPER: &str = "mount -t tmpfs tmpfs /run && mkdir /run/netns && ip link set lo up && echo up && exec cat";

/// Tells the hosts, and nobody else on this machine, what to ask. The file may be a link to one that the machine's own resolver
/// keeps in /run, which is hidden here. Elsewhere nothing is made that the whole machine would see.
const RESOLVE: &str = "file=$(readlink -m /etc/resolv.conf); \
                       if [ -e $file ]; then mount --bind /run/resolv.conf $file; else case $file in \
                       /run/*) mkdir -p ${file%/*} && cp /run/resolv.conf $file;; \
                       *) echo there is no $file to put another in its place >&2; false;; esac; fi";

/// Where a host looks up what is meant for itself: behind what is to get lost.
const LOCAL: u8 = 9;

/// Hosts on bridges.
pub struct Network {
    keeper: Child,
    hosts: Vec<Ipv4Addr>,
}

impl Network {
    /// So many hosts on one bridge: 10.77.0.1, 10.77.0.2 and so on, at most 250. The error says why this user may make no
    /// network.
    pub fn make(hosts: u8) -> Result<Network, String> {
        let mut network = Network { keeper: keeper()?, hosts: Vec::new() };
        network.run("ip link add whole type bridge && ip link set whole up")?;
        for host in 0..hosts {
            let address = Ipv4Addr::new(10, 77, 0, host + 1);
            network.run(&format!(
                "ip netns add h{host} && ip link add p{host} type veth peer name eth0 netns h{host} && \
                 ip link set p{host} master whole up && ip -n h{host} link set lo up && \
                 ip -n h{host} addr add {address}/16 dev eth0 && ip -n h{host} link set eth0 up && \
                 ip -n h{host} route add default dev eth0 && \
                 ip -n h{host} rule add pref {LOCAL} lookup local && ip -n h{host} rule del pref 0"
            ))?;
            network.hosts.push(address);
        }
        Ok(network)
    }

    /// How a program is started on a host: the words before its name.
    pub fn on(&self, host: usize) -> Vec<String> {
        let mut words = self.inside();
        words.extend(["ip", "netns", "exec", &format!("h{host}")].map(str::to_owned));
        words
    }

    /// From now on all hosts ask that one for names.
    pub fn resolve_at(&self, host: usize) -> Result<(), String> {
        let address = self.hosts[host];
        self.run(&format!("echo nameserver {address} >/run/resolv.conf; {RESOLVE}"))
    }

    /// Gives a host another address, as when its machine comes back elsewhere. Connections of the old one are dead.
    pub fn readdress(&mut self, host: usize, address: Ipv4Addr) -> Result<(), String> {
        let before = std::mem::replace(&mut self.hosts[host], address);
        self.run(&format!(
            "ip -n h{host} addr del {before}/16 dev eth0 && ip -n h{host} addr add {address}/16 dev eth0 && \
             ip -n h{host} route replace default dev eth0"
        ))
    }

    /// What one host sends another gets lost from now on, without a word to either; the other direction is whole.
    pub fn cut_one_way(&self, from: usize, to: usize) -> Result<(), String> {
        self.run(&format!("ip -n h{to} rule add pref 1 iif eth0 from {} blackhole", self.hosts[from]))
    }

    /// Undoes [`Network::cut_one_way`].
    pub fn heal_one_way(&self, from: usize, to: usize) -> Result<(), String> {
        self.run(&format!("ip -n h{to} rule del pref 1 iif eth0 from {} blackhole", self.hosts[from]))
    }

    /// What comes to a host over TCP gets lost from now on, as behind a firewall that drops it.
    pub fn drop_tcp(&self, host: usize) -> Result<(), String> {
        self.run(&format!("ip -n h{host} rule add pref 2 iif eth0 ipproto tcp blackhole"))
    }

    /// Undoes [`Network::drop_tcp`].
    pub fn let_tcp_pass(&self, host: usize) -> Result<(), String> {
        self.run(&format!("ip -n h{host} rule del pref 2 iif eth0 ipproto tcp blackhole"))
    }

    /// Moves these hosts to a bridge of their own: no frame passes between them and the others.
    pub fn part(&self, apart: &[usize]) -> Result<(), String> {
        self.run("ip link show apart >/dev/null 2>&1 || ip link add apart type bridge; ip link set apart up")?;
        apart.iter().try_for_each(|host| self.run(&format!("ip link set p{host} master apart")))
    }

    /// Brings all hosts together again.
    pub fn heal(&self) -> Result<(), String> {
        (0..self.hosts.len()).try_for_each(|host| self.run(&format!("ip link set p{host} master whole")))
    }

    /// The words that lead into the namespaces.
    fn inside(&self) -> Vec<String> {
        let target = self.keeper.id().to_string();
        ["nsenter", "--target", &target, "--user", "--net", "--mount", "--preserve-credentials", "--"]
            .map(str::to_owned)
            .to_vec()
    }

    fn run(&self, script: &str) -> Result<(), String> {
        let words = self.inside();
        let ran = Command::new(&words[0]).args(&words[1..]).args(["sh", "-ec", script]).output();
        let ran = ran.map_err(|error| format!("nsenter: {error}"))?;
        let said = String::from_utf8_lossy(&ran.stderr);
        if ran.status.success() { Ok(()) } else { Err(format!("{script}: {}", said.trim_end())) }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Its namespaces go with the last process in them.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// The process that holds the namespaces.
fn keeper() -> Result<Child, String> {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--mount", "sh", "-ec", KEEPER]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut keeper = command.spawn().map_err(|error| format!("unshare: {error}"))?;
    let mut said = [0; 2];
    let stands = keeper.stdout.as_mut().expect("it is piped").read_exact(&mut said).is_ok() && &said == b"up";
    if stands {
        return Ok(keeper);
    }
    // It may have ended by itself already.
    let _ = keeper.kill();
    let mut reason = String::new();
    let _ = keeper.stderr.take().expect("it is piped").read_to_string(&mut reason);
    let _ = keeper.wait();
    Err(format!(
        "this user may make no network namespaces, not even in a user namespace of its own (unshare --user --map-root-user --net \
         --mount; ip netns): {}",
        reason.trim_end()
    ))
}
