//! Hosts of a test's own: network namespaces on a bridge, each with an address, cut and joined as the test wants. Nothing
//! of it reaches the machine's own network, and all of it goes with one process.
//!
//! Files are shared, so a member on such a host is spoken to over its Unix socket.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

/// Makes the namespaces' place, says that it stands, and lives as long as its standard input.
const KEEPER: &str = "mount -t tmpfs tmpfs /run && mkdir /run/netns && ip link set lo up && echo up && exec cat";

/// Hosts on bridges.
pub struct Network {
    keeper: Child,
    hosts: Vec<Ipv4Addr>,
}

impl Network {
    /// So many hosts on one bridge: 10.77.0.1, 10.77.0.2 and so on. None where this user may make no network: it says so,
    /// and fails where nothing may be left out.
    pub fn make(hosts: usize) -> Option<Network> {
        let Some(keeper) = keeper() else {
            not_tried();
            return None;
        };
        let mut network = Network { keeper, hosts: Vec::new() };
        network.run("ip link add whole type bridge && ip link set whole up");
        for host in 0..hosts {
            let address = Ipv4Addr::new(10, 77, 0, u8::try_from(host + 1).unwrap());
            network.run(&format!(
                "ip netns add h{host} && ip link add p{host} type veth peer name eth0 netns h{host} && \
                 ip link set p{host} master whole up && ip -n h{host} link set lo up && \
                 ip -n h{host} addr add {address}/16 dev eth0 && ip -n h{host} link set eth0 up && \
                 ip -n h{host} route add default dev eth0"
            ));
            network.hosts.push(address);
        }
        Some(network)
    }

    /// The address of a host.
    pub fn address(&self, host: usize) -> Ipv4Addr {
        self.hosts[host]
    }

    /// How a program is started on a host: the words before its name.
    pub fn on(&self, host: usize) -> Vec<String> {
        let mut words = self.inside();
        words.extend(["ip", "netns", "exec", &format!("h{host}")].map(str::to_owned));
        words
    }

    /// Gives a host another address, as when its machine comes back elsewhere. Connections of the old one are dead.
    pub fn readdress(&mut self, host: usize, address: Ipv4Addr) {
        let before = std::mem::replace(&mut self.hosts[host], address);
        self.run(&format!(
            "ip -n h{host} addr del {before}/16 dev eth0 && ip -n h{host} addr add {address}/16 dev eth0 && \
             ip -n h{host} route replace default dev eth0"
        ));
    }

    /// What one host sends another gets lost from now on; the other direction is whole.
    pub fn cut_one_way(&self, from: usize, to: usize) {
        self.run(&format!("ip -n h{from} route add blackhole {}/32", self.hosts[to]));
    }

    /// Undoes [`Network::cut_one_way`].
    pub fn heal_one_way(&self, from: usize, to: usize) {
        self.run(&format!("ip -n h{from} route del blackhole {}/32", self.hosts[to]));
    }

    /// Moves these hosts to a bridge of their own: no frame passes between them and the others.
    pub fn part(&self, apart: &[usize]) {
        self.run("ip link show apart >/dev/null 2>&1 || ip link add apart type bridge; ip link set apart up");
        for host in apart {
            self.run(&format!("ip link set p{host} master apart"));
        }
    }

    /// Brings all hosts together again.
    pub fn heal(&self) {
        for host in 0..self.hosts.len() {
            self.run(&format!("ip link set p{host} master whole"));
        }
    }

    /// Pulls a host's cable, both ways, or plugs it in.
    pub fn cable(&self, host: usize, plugged: bool) {
        self.run(&format!("ip link set p{host} {}", if plugged { "up" } else { "down" }));
    }

    /// The words that lead into the namespaces.
    fn inside(&self) -> Vec<String> {
        let target = self.keeper.id().to_string();
        ["nsenter", "--target", &target, "--user", "--net", "--mount", "--preserve-credentials", "--"]
            .map(str::to_owned)
            .to_vec()
    }

    fn run(&self, script: &str) {
        let words = self.inside();
        let ran =
            Command::new(&words[0]).args(&words[1..]).args(["sh", "-ec", script]).output().expect("nsenter is there");
        assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Its namespaces go with the last process in them.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// The process that holds the namespaces; none if this user may make none.
fn keeper() -> Option<Child> {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--mount", "sh", "-ec", KEEPER]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut keeper = command.spawn().ok()?;
    let mut said = [0; 2];
    let standing = std::io::Read::read_exact(keeper.stdout.as_mut().expect("it is piped"), &mut said);
    if standing.is_err() || &said != b"up" {
        let _ = keeper.kill();
        let _ = keeper.wait();
        return None;
    }
    Some(keeper)
}

/// Says so past the harness, which keeps what tests that pass print; fails where nothing may be left out.
fn not_tried() {
    let said = "NOT TRIED: real networks. This user may make no network namespaces, not even in a user namespace of its own \
                (`unshare --user --map-root-user --net --mount`, `ip netns`).";
    assert!(std::env::var_os("CHECK_NAMESPACES").is_none_or(|value| value != "1"), "{said}");
    std::io::stderr().write_all(format!("{said}\n").as_bytes()).unwrap();
}
