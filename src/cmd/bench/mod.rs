//! `synod bench`: the figures of this machine, for comparing versions and settings. No test depends on them.

mod gossip;
mod membership;
mod network;
mod process;
mod turnover;

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::exit::Failure;
use super::group::load::{Outcome, Plan, Publisher, Sent};
use super::group::member_process::MemberProcess;
use super::group::scratch::Scratch;
use super::group::subscriber::{Delivery, Subscriber};
use super::group::{self, newcomer, poll, ports, settle};
use super::output::{Output, print_line, table};
use super::sidecar;
use crate::api::client::Client;
use crate::sim::campaign::campaign;
use crate::types::Sabotage;
use crate::types::text::size;
use process::resident_bytes;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct BenchArguments {
    /// Measure only this; may be repeated
    #[arg(long, value_enum)]
    only: Vec<Figure>,
    /// Seconds of load per figure
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Size of the log whose reading is timed
    #[arg(long, default_value = "1GiB", value_parser = size)]
    log: u64,
    /// Messages before a learner joins
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Seeds to simulate
    #[arg(long, default_value_t = 100)]
    seeds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Figure {
    /// Resident memory of an idle member
    Memory,
    /// From the publish to the delivery at each of three members, 2,000 single publishes a second
    Delivery,
    /// Silence and failed publishes after SIGKILL of the leader, at 500 publishes a second
    Silence,
    /// Reading the log at a start
    Recovery,
    /// Simulated seeds a minute
    Seeds,
    /// From the join to the readiness of a learner, behind a long history, at 2,000 publishes a second
    Join,
    /// Stall of the order around a change of the voters, at 2,000 publishes a second
    Epoch,
    /// Throughput lost by the death of a follower
    Follower,
    /// Memory and time at a start that 100 past epochs cost
    Epochs,
    /// Processor time of the leader per message, without and with 20 learners
    Learners,
    /// Silence while members join, leave, restart and are replaced
    Turnover,
    /// What gossip costs each of 50 members when nothing happens, all of them in one process; takes more than three minutes
    Gossip,
    /// From three fresh processes on hosts of their own, which find each other by mDNS, to the first ordered message
    Genesis,
    /// From the start of a member under a new address to its links
    Moved,
    /// From the start of a voter that slept through several epochs to the present one, and to its readiness
    Asleep,
    /// From the start of a removed member, or the end of the partition in which it was removed, to its own word of that
    Removed,
}

const ALL: [Figure; 16] = [
    Figure::Memory,
    Figure::Delivery,
    Figure::Silence,
    Figure::Recovery,
    Figure::Seeds,
    Figure::Join,
    Figure::Epoch,
    Figure::Follower,
    Figure::Epochs,
    Figure::Learners,
    Figure::Turnover,
    Figure::Gossip,
    Figure::Genesis,
    Figure::Moved,
    Figure::Asleep,
    Figure::Removed,
];
const DELIVERY_RATE: f64 = 2000.0;
const SILENCE_RATE: f64 = 500.0;
const BODY_BYTES: usize = 128;
const RECOVERY_BODY_BYTES: usize = 16 << 10;
/// An idle group has settled after this.
const IDLE: Duration = Duration::from_secs(3);
/// The first moments after the start do not count.
const WARM_UP: Duration = Duration::from_secs(1);
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// A change of the membership is over, and its traces too, when this has passed.
const AFTER_A_CHANGE: Duration = Duration::from_millis(300);
/// Changes of the membership, and filling a log, are given up after this.
const PATIENCE: Duration = Duration::from_secs(1200);

/// One measured value.
struct Row {
    name: &'static str,
    value: f64,
    unit: &'static str,
    aim: &'static str,
}

/// Runs the command.
pub fn run(arguments: &BenchArguments, output: Output) -> Result<(), Failure> {
    let figures = if arguments.only.is_empty() { ALL.to_vec() } else { arguments.only.clone() };
    let time = Duration::from_secs(arguments.seconds);
    let (mut rows, mut left_out) = (Vec::new(), Vec::new());
    for figure in figures {
        if let Some(reason) = not_possible(figure, network::check).filter(|_| arguments.only.is_empty()) {
            left_out.push(LeftOut { figure, reason });
            continue;
        }
        if output == Output::Text {
            print_line(&format!("measuring {figure:?} …").to_lowercase());
        }
        rows.extend(match figure {
            Figure::Memory => sidecar::block_on(memory())?,
            Figure::Delivery => sidecar::block_on(delivery(time))?,
            Figure::Silence => sidecar::block_on(silence(time))?,
            Figure::Recovery => sidecar::block_on(recovery(arguments.log))?,
            Figure::Seeds => seeds(arguments.seeds),
            Figure::Join => sidecar::block_on(membership::join(arguments.messages, output))?,
            Figure::Epoch => sidecar::block_on(membership::epoch())?,
            Figure::Follower => sidecar::block_on(membership::follower(time))?,
            Figure::Epochs => sidecar::block_on(membership::epochs())?,
            Figure::Learners => sidecar::block_on(membership::learners(time))?,
            Figure::Turnover => sidecar::block_on(turnover::turnover())?,
            Figure::Gossip => sidecar::block_on(gossip::gossip(time))?,
            Figure::Genesis => sidecar::block_on(network::genesis())?,
            Figure::Moved => sidecar::block_on(network::moved())?,
            Figure::Asleep => sidecar::block_on(membership::asleep())?,
            Figure::Removed => sidecar::block_on(network::removed())?,
        });
    }
    let measured =
        rows.iter().map(|row| json!({ "name": row.name, "value": row.value, "unit": row.unit, "aim": row.aim }));
    let document: Value = measured.chain(left_out.iter().map(LeftOut::document)).collect();
    output.print(&document, || {
        let lines = rows
            .iter()
            .map(|row| [row.name.to_owned(), format!("{:.2}", row.value), row.unit.to_owned(), row.aim.to_owned()]);
        let left_out: String = left_out.iter().map(|left_out| format!("\n{left_out}")).collect();
        table(["FIGURE", "VALUE", "UNIT", "AIM"], lines) + &left_out
    });
    Ok(())
}

/// A figure that this machine does not allow to be measured. Those that it allows are of use without it.
struct LeftOut {
    figure: Figure,
    reason: String,
}

impl LeftOut {
    fn document(&self) -> Value {
        json!({ "name": self.name(), "value": null, "not_measured": self.reason })
    }

    fn name(&self) -> String {
        format!("{:?}", self.figure).to_lowercase()
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: not measured: {}", self.name(), self.reason)
    }
}

/// Why a figure cannot be measured here; none if it can, or needs nothing that a machine may not allow.
fn not_possible(figure: Figure, check_hosts: impl FnOnce() -> Result<(), String>) -> Option<String> {
    match figure {
        Figure::Genesis | Figure::Moved | Figure::Removed => check_hosts().err(),
        _ => None,
    }
}

/// A group in a directory of its own, for the time of one figure.
struct Bench {
    members: Vec<MemberProcess>,
    clients: Vec<Client>,
    scratch: Scratch,
}

impl Bench {
    async fn start(count: usize) -> Result<Bench, Failure> {
        Bench::start_with(count, &[]).await
    }

    /// With further settings of every member: (key, text).
    async fn start_with(count: usize, settings: &[(&'static str, String)]) -> Result<Bench, Failure> {
        let scratch = Scratch::make("bench")?;
        let mut members = group::found_with(scratch.path(), "bench", ports::free(count)?, settings)?;
        let clients: Vec<Client> = members.iter().map(poll::client).collect();
        for member in &mut members {
            member.start()?;
        }
        settle::ready(&mut members, &clients).await?;
        Ok(Bench { members, clients, scratch })
    }

    /// A further member, invited and started; by its index.
    async fn add(&mut self) -> Result<usize, Failure> {
        let index = self.members.len();
        let code = newcomer::invite(&self.clients[0]).await?;
        let ports = ports::free(1)?.remove(0);
        let name = format!("n{}", index + 1);
        let mut member =
            newcomer::prepare(self.scratch.path(), &name, Ipv4Addr::LOCALHOST.into(), ports)?.joining(&code);
        member.start()?;
        self.clients.push(poll::client(&member));
        self.members.push(member);
        Ok(index)
    }

    /// Starts a member that was stopped, and takes the time until its log is read.
    async fn start_again(&mut self, index: usize) -> Result<Duration, Failure> {
        let began = Instant::now();
        self.members[index].start()?;
        while self.clients[index].get("/startupz").await.is_err() {
            if let Some(status) = self.members[index].exit_status() {
                return Err(Failure::failed(format!("the member ended ({status})")));
            }
            sleep(LOOK_INTERVAL).await;
        }
        Ok(began.elapsed())
    }

    /// Publishers at all members, which share a rate.
    fn publishers(&self, rate: f64, body_bytes: usize) -> Vec<Publisher> {
        self.publishers_at(self.members.len(), rate, body_bytes)
    }

    /// Publishers at the first so many members.
    fn publishers_at(&self, members: usize, rate: f64, body_bytes: usize) -> Vec<Publisher> {
        let spacing = Duration::from_secs_f64(1.0 / rate);
        let count = members as u32;
        let start = |(index, (member, client)): (u32, (&MemberProcess, &Client))| {
            let (interval, offset) = (spacing * count, spacing * index);
            Publisher::start(client.clone(), Plan { name: member.name().to_owned(), interval, offset, body_bytes })
        };
        (0..count).zip(self.members.iter().zip(&self.clients)).map(start).collect()
    }

    async fn subscribers(&self) -> Result<Vec<Subscriber>, Failure> {
        let mut subscribers = Vec::new();
        for client in &self.clients {
            subscribers.push(Subscriber::start(client).await.map_err(sidecar::failure)?);
        }
        Ok(subscribers)
    }

    async fn stop(mut self) -> Result<(), Failure> {
        let killed = group::stop(&mut self.members).await;
        if killed.is_empty() { Ok(()) } else { Err(Failure::failed(killed.join("; "))) }
    }
}

async fn memory() -> Result<Vec<Row>, Failure> {
    let mut bench = Bench::start(3).await?;
    sleep(IDLE).await;
    let resident = bench.members.iter_mut().filter_map(|member| resident_bytes(member.pid()?)).max();
    bench.stop().await?;
    let resident = resident.ok_or_else(|| Failure::failed("/proc tells no resident memory"))?;
    Ok(vec![Row { name: "resident, idle", value: resident as f64 / f64::from(1 << 20), unit: "MiB", aim: "≤ 60" }])
}

async fn delivery(time: Duration) -> Result<Vec<Row>, Failure> {
    let bench = Bench::start(3).await?;
    let subscribers = bench.subscribers().await?;
    let counts_from = Instant::now() + WARM_UP;
    let publishers = bench.publishers(DELIVERY_RATE, BODY_BYTES);
    sleep(WARM_UP + time).await;
    let mut sent = Vec::new();
    for publisher in publishers {
        sent.extend(publisher.finish().await);
    }
    let everything = || subscribers.iter().all(|subscriber| subscriber.count() >= sent.len());
    settle::until("everything is delivered", everything).await?;
    let deliveries: Vec<Vec<Delivery>> = subscribers.into_iter().map(Subscriber::finish).collect();
    bench.stop().await?;
    let mut single = Vec::new();
    let mut everywhere: HashMap<&str, Duration> = HashMap::new();
    let published: HashMap<&str, Instant> =
        sent.iter().filter(|sent| sent.at >= counts_from).map(|sent| (sent.body.as_str(), sent.at)).collect();
    for delivery in deliveries.iter().flatten() {
        if let Some(at) = published.get(delivery.body.as_str()) {
            let took = delivery.at.saturating_duration_since(*at);
            single.push(took);
            let last = everywhere.entry(&delivery.body).or_default();
            *last = took.max(*last);
        }
    }
    let mut everywhere: Vec<Duration> = everywhere.into_values().collect();
    let mut answers: Vec<Duration> = sent.iter().filter(|sent| sent.at >= counts_from).map(|sent| sent.took).collect();
    let row = |name, value, aim| Row { name, value, unit: "ms", aim };
    Ok(vec![
        row("delivery p50, 2,000/s", percentile(&mut single, 0.50), "≤ 1.0"),
        row("delivery p99, 2,000/s", percentile(&mut single, 0.99), ""),
        row("delivery at the last of three p50", percentile(&mut everywhere, 0.50), ""),
        row("delivery at the last of three p99", percentile(&mut everywhere, 0.99), ""),
        row("answer p50", percentile(&mut answers, 0.50), ""),
        row("answer p99", percentile(&mut answers, 0.99), ""),
        Row { name: "failed publishes", value: failed(&sent) as f64, unit: "", aim: "0" },
    ])
}

async fn silence(time: Duration) -> Result<Vec<Row>, Failure> {
    let mut bench = Bench::start(3).await?;
    let victim = settle::leader(&bench.members, &bench.clients).await?;
    let mut subscribers = bench.subscribers().await?;
    drop(subscribers.remove(victim));
    let publishers = bench.publishers(SILENCE_RATE, BODY_BYTES);
    sleep(time / 2).await;
    let at = Instant::now();
    bench.members[victim].kill().await?;
    publishers[victim].stop();
    sleep(time / 2).await;
    let now = Instant::now();
    let silences = subscribers.iter().map(|subscriber| subscriber.longest_silence(at, now));
    let silence = silences.max().unwrap_or_default();
    let mut failures = 0;
    for (index, publisher) in publishers.into_iter().enumerate() {
        let sent = publisher.finish().await;
        failures += if index == victim { 0 } else { failed(&sent) };
    }
    bench.stop().await?;
    Ok(vec![
        Row { name: "silence after SIGKILL of the leader", value: milliseconds(silence), unit: "ms", aim: "≤ 500" },
        Row { name: "failed publishes on the survivors", value: failures as f64, unit: "", aim: "0" },
    ])
}

/// A member alone, filled and killed; then the time from its start to the end of reading.
async fn recovery(log_bytes: u64) -> Result<Vec<Row>, Failure> {
    let mut bench = Bench::start(1).await?;
    let publisher = bench.publishers(f64::INFINITY, RECOVERY_BODY_BYTES).remove(0);
    while publisher.ordered() * (RECOVERY_BODY_BYTES as u64) < log_bytes {
        sleep(LOOK_INTERVAL).await;
    }
    let sent = publisher.finish().await;
    bench.members[0].kill().await?;
    let took = bench.start_again(0).await?;
    bench.stop().await?;
    let gibibytes = (sent.len() * RECOVERY_BODY_BYTES) as f64 / f64::from(1 << 30);
    Ok(vec![Row {
        name: "reading the log at a start",
        value: took.as_secs_f64() / gibibytes,
        unit: "s/GiB",
        aim: "≤ 5",
    }])
}

fn seeds(count: u64) -> Vec<Row> {
    let jobs = std::thread::available_parallelism().map_or(1, |jobs| jobs.get());
    let began = Instant::now();
    campaign(0..count, jobs, &Sabotage::NONE, |_| true);
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    vec![Row { name: "simulated seeds", value: count as f64 / minutes, unit: "/min", aim: "≥ 500" }]
}

fn failed(sent: &[Sent]) -> usize {
    sent.iter().filter(|sent| !matches!(sent.outcome, Outcome::Ordered(_))).count()
}

/// In milliseconds; 0 if there is nothing.
fn percentile(durations: &mut [Duration], part: f64) -> f64 {
    durations.sort_unstable();
    let index = (durations.len() as f64 * part) as usize;
    durations.get(index).or(durations.last()).copied().map_or(0.0, milliseconds)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_does_not_allow_is_named() {
        let refused = || Err("unshare says no".to_owned());
        let reason = not_possible(Figure::Genesis, refused).unwrap();
        let left_out = LeftOut { figure: Figure::Genesis, reason };
        assert_eq!(left_out.to_string(), "genesis: not measured: unshare says no");
        assert_eq!(left_out.document()["value"], Value::Null);
        assert_eq!(not_possible(Figure::Moved, || Ok(())), None);
        assert_eq!(not_possible(Figure::Memory, refused), None, "it needs no hosts");
    }

    #[test]
    fn percentiles_are_of_the_sorted_values() {
        let mut durations: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut durations, 0.50), 51.0);
        assert_eq!(percentile(&mut durations, 0.99), 100.0);
        assert_eq!(percentile(&mut [], 0.5), 0.0);
    }
}
