//! What happens on a network of several hosts: how soon fresh members that find each other by mDNS have a group that orders,
//! how soon a member under a new address is reached again, and how soon a removed one knows it.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{IDLE, LOOK_INTERVAL, Row};
use crate::api::client::{Client, Target};
use crate::cmd::exit::{Exit, Failure};
use crate::cmd::group::network::Network;
use crate::cmd::group::newcomer;
use crate::cmd::group::scratch::Scratch;
use crate::cmd::sidecar;
use crate::node::settings::table::VARIABLE_PREFIX;
use crate::types::{Ack, limits};

/// Members that found the group; each on a host.
const FOUNDERS: u8 = 3;
/// Groups that are founded; the slowest and the median count.
const FOUNDINGS: usize = 5;
/// The member that moves.
const MOVER: usize = 1;
/// Members that are removed: one is down meanwhile, then one is cut off.
const REMOVED: [usize; 2] = [1, 2];
/// Nothing takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_secs(60);

/// Members on hosts of their own. Their processes end with this.
struct Hosts {
    network: Network,
    scratch: Scratch,
    /// What the members say is not shown: it is expected.
    silent: bool,
    processes: Vec<Option<Child>>,
}

/// Fails with the reason where this user may make no hosts.
pub fn check() -> Result<(), String> {
    Network::make(FOUNDERS).map(drop)
}

/// From the start of three fresh processes to the first ordered message.
pub async fn genesis() -> Result<Vec<Row>, Failure> {
    let mut took = Vec::new();
    for _ in 0..FOUNDINGS {
        let mut hosts = Hosts::make(FOUNDERS)?;
        took.push(hosts.found().await?);
        hosts.stop()?;
    }
    took.sort_unstable();
    let row = |name, value: Duration| Row { name, value: value.as_secs_f64(), unit: "s", aim: "≤ 3" };
    Ok(vec![
        row("three fresh members to the first ordered message, mDNS", took[took.len() / 2]),
        row("  the slowest", took[took.len() - 1]),
    ])
}

/// From the start under a new address, and from a change of the address under a running process, to a link from both others.
/// A link that is younger than a hello may be gives way later: it could be the one that was chosen of two dials at once.
pub async fn moved() -> Result<Vec<Row>, Failure> {
    let mut hosts = Hosts::make(FOUNDERS)?;
    hosts.found().await?;
    hosts.settle().await?;
    let before = hosts.links().await?;
    hosts.end(MOVER)?;
    hosts.network.readdress(MOVER, Ipv4Addr::new(10, 77, 1, 1)).map_err(Failure::failed)?;
    let began = Instant::now();
    hosts.start(MOVER)?;
    hosts.reached(&before).await?;
    let started = began.elapsed();
    hosts.settle().await?;
    sleep(limits::HELLO_TIMEOUT).await;
    let running = hosts.moves(Ipv4Addr::new(10, 77, 1, 2)).await?;
    hosts.settle().await?;
    let soon_after = hosts.moves(Ipv4Addr::new(10, 77, 1, 3)).await?;
    hosts.stop()?;
    let row = |name, value: Duration| Row { name, value: value.as_secs_f64(), unit: "s", aim: "≤ 2" };
    Ok(vec![
        row("a member started under a new address is reached after", started),
        row("  one whose address changes while it runs", running),
        row("  and again, while its links are young", soon_after),
    ])
}

/// From the start of a member that was removed while it was down, and from the end of a partition in which one was removed, to
/// the end with which it says so.
pub async fn removed() -> Result<Vec<Row>, Failure> {
    let mut took = [const { Vec::new() }; REMOVED.len()];
    for _ in 0..FOUNDINGS {
        let mut hosts = Hosts::make(FOUNDERS + REMOVED.len() as u8)?;
        hosts.silent = true;
        hosts.found().await?;
        for host in usize::from(FOUNDERS)..hosts.processes.len() {
            hosts.join(host).await?;
        }
        sleep(IDLE).await;
        let [down, apart] = REMOVED;
        hosts.end(down)?;
        hosts.remove(down).await?;
        let began = Instant::now();
        hosts.start(down)?;
        hosts.knows_that_it_is_removed(down).await?;
        took[0].push(began.elapsed());
        hosts.network.part(&[apart]).map_err(Failure::failed)?;
        hosts.remove(apart).await?;
        sleep(IDLE).await;
        let began = Instant::now();
        hosts.network.heal().map_err(Failure::failed)?;
        hosts.knows_that_it_is_removed(apart).await?;
        took[1].push(began.elapsed());
        hosts.stop()?;
    }
    let [mut down, mut apart] = took;
    down.sort_unstable();
    apart.sort_unstable();
    let row = |name, value: Duration| Row { name, value: value.as_secs_f64(), unit: "s", aim: "≤ 2" };
    Ok(vec![
        row("a member removed while it was down says so after its start", down[FOUNDINGS / 2]),
        row("  the slowest", down[FOUNDINGS - 1]),
        row("one removed while it was cut off, after the network heals", apart[FOUNDINGS / 2]),
        row("  the slowest", apart[FOUNDINGS - 1]),
    ])
}

impl Hosts {
    fn make(count: u8) -> Result<Hosts, Failure> {
        let network = Network::make(count).map_err(Failure::failed)?;
        let processes = (0..count).map(|_| None).collect();
        Ok(Hosts { network, scratch: Scratch::make("bench")?, silent: false, processes })
    }

    fn data_dir(&self, host: usize) -> PathBuf {
        self.scratch.path().join(name(host))
    }

    fn client(&self, host: usize) -> Client {
        Client::new(Target::Unix(self.data_dir(host).join("synod.sock")))
    }

    fn start(&mut self, host: usize) -> Result<(), Failure> {
        self.start_with(host, &["--bootstrap-expect", &FOUNDERS.to_string(), "--cluster", "bench"])
    }

    fn start_with(&mut self, host: usize, arguments: &[&str]) -> Result<(), Failure> {
        let program = std::env::current_exe().map_err(Failure::failed)?;
        let words = self.network.on(host);
        let mut command = Command::new(&words[0]);
        // What is measured is not to depend on what the caller has set.
        let variables = std::env::vars_os().map(|(name, _)| name);
        for name in variables.filter(|name| name.to_string_lossy().starts_with(VARIABLE_PREFIX)) {
            command.env_remove(name);
        }
        command.args(&words[1..]).arg(program).args(["run", "--exit-with-parent"]).args(arguments);
        command.args(["--wal-segment-bytes", "16MiB", "--log-level", "warn"]);
        command.args(["--name", &name(host), "--data-dir"]).arg(self.data_dir(host));
        let said = if self.silent { Stdio::null() } else { Stdio::inherit() };
        command.current_dir(self.scratch.path()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(said);
        self.processes[host] = Some(command.spawn().map_err(Failure::failed)?);
        Ok(())
    }

    /// Starts the founders, and publishes at the first until one message is ordered.
    async fn found(&mut self) -> Result<Duration, Failure> {
        let began = Instant::now();
        for host in 0..usize::from(FOUNDERS) {
            self.start(host)?;
        }
        let client = self.client(0);
        let ordered = async {
            while client.publish("bench", Some("text/plain"), Ack::Ordered, "hello".into()).await.is_err() {
                sleep(LOOK_INTERVAL).await;
            }
        };
        let ordered = timeout(PATIENCE, ordered).await;
        ordered.map_err(|_| Failure::failed("the members made no group; see what they say above"))?;
        Ok(began.elapsed())
    }

    /// A further member joins, and has caught up.
    async fn join(&mut self, host: usize) -> Result<(), Failure> {
        let code = newcomer::invite(&self.client(0)).await?;
        self.start_with(host, &["--join", &code])?;
        self.until(&self.client(host), |status| status["ready"] == true).await
    }

    /// Removes a voter; until another has its vote.
    async fn remove(&self, host: usize) -> Result<(), Failure> {
        let client = self.client(0);
        let before = sidecar::document(&client, "/v1/status").await?["epoch"].as_u64();
        let path = format!("/v1/members/{}", name(host));
        sidecar::change(&client, Method::DELETE, &path, &json!({})).await?;
        let follows = |status: &Value| status["epoch"].as_u64() > before && status["established"] == status["epoch"];
        self.until(&client, follows).await
    }

    /// Waits for the end of a process that says why it ends.
    async fn knows_that_it_is_removed(&mut self, host: usize) -> Result<(), Failure> {
        let process = self.processes[host].as_mut().ok_or_else(|| Failure::failed("it does not run"))?;
        let ends = async {
            loop {
                match process.try_wait().map_err(Failure::failed)? {
                    Some(status) if status.code() == Some(Exit::Departed as i32) => return Ok(()),
                    Some(status) => return Err(Failure::failed(format!("it ended otherwise ({status})"))),
                    None => sleep(LOOK_INTERVAL).await,
                }
            }
        };
        let ended =
            timeout(PATIENCE, ends).await.map_err(|_| Failure::failed("it does not learn that it is removed"))?;
        self.processes[host] = None;
        ended
    }

    /// Waits until everybody is linked with everybody, and nothing of the start goes on.
    async fn settle(&self) -> Result<(), Failure> {
        for host in 0..self.processes.len() {
            let client = self.client(host);
            let linked = |status: &Value| peers(status).filter(|peer| peer["linked"] == true).count() + 1;
            self.until(&client, |status| linked(status) == self.processes.len()).await?;
        }
        sleep(IDLE).await;
        Ok(())
    }

    /// From a change of the address under the running process to a link from both others.
    async fn moves(&mut self, address: Ipv4Addr) -> Result<Duration, Failure> {
        let before = self.links().await?;
        self.network.readdress(MOVER, address).map_err(Failure::failed)?;
        let began = Instant::now();
        self.reached(&before).await?;
        Ok(began.elapsed())
    }

    /// The links that each other had to the one that moves, so far.
    async fn links(&self) -> Result<Vec<u64>, Failure> {
        let mut links = Vec::new();
        for host in self.others() {
            let status = self.client(host).get_json("/v1/status").await.map_err(sidecar::failure)?;
            links.push(link_to_mover(&status)["links_total"].as_u64().unwrap_or_default());
        }
        Ok(links)
    }

    /// Waits until both others have a further link to the one that moved.
    async fn reached(&self, before: &[u64]) -> Result<(), Failure> {
        for (host, before) in self.others().zip(before) {
            let further = |status: &Value| {
                let link = link_to_mover(status);
                link["connected"] == true && link["links_total"].as_u64() > Some(*before)
            };
            self.until(&self.client(host), further).await?;
        }
        Ok(())
    }

    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.processes.len()).filter(|host| *host != MOVER)
    }

    async fn until(&self, client: &Client, is: impl Fn(&Value) -> bool) -> Result<(), Failure> {
        let look = async {
            loop {
                if client.get_json::<Value>("/v1/status").await.is_ok_and(|status| is(&status)) {
                    return;
                }
                sleep(LOOK_INTERVAL).await;
            }
        };
        timeout(PATIENCE, look).await.map_err(|_| Failure::failed("the members do not find each other again"))
    }

    fn end(&mut self, host: usize) -> Result<(), Failure> {
        if let Some(mut process) = self.processes[host].take() {
            process.kill().and_then(|()| process.wait()).map_err(Failure::failed)?;
        }
        Ok(())
    }

    fn stop(mut self) -> Result<(), Failure> {
        (0..self.processes.len()).try_for_each(|host| self.end(host))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in 0..self.processes.len() {
            // One that cannot be killed has ended.
            let _ = self.end(host);
        }
    }
}

fn name(host: usize) -> String {
    format!("n{}", host + 1)
}

fn link_to_mover(status: &Value) -> &Value {
    let name = name(MOVER);
    let mut links = status["links"]["peers"].as_array().into_iter().flatten();
    links.find(|link| link["name"] == *name).unwrap_or(&Value::Null)
}

fn peers(status: &Value) -> impl Iterator<Item = &Value> {
    status["peers"].as_array().into_iter().flatten()
}
