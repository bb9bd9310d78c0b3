//! What changes of the membership cost: a join, an epoch, a follower's death, past epochs, learners; and how soon a voter that
//! slept through some knows of them.

use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::process::{anonymous_bytes, cpu_time};
use super::{
    AFTER_A_CHANGE, BODY_BYTES, Bench, DELIVERY_RATE, LOOK_INTERVAL, PATIENCE, Row, WARM_UP, failed, milliseconds,
    percentile,
};
use crate::cmd::exit::Failure;
use crate::cmd::group::load::Publisher;
use crate::cmd::group::settle;
use crate::cmd::group::subscriber::Subscriber;
use crate::cmd::output::{Output, print_line};
use crate::cmd::sidecar;

/// Voters of the groups measured, and what they grow to and back.
const VOTERS: [u32; 2] = [3, 5];
/// Epochs whose stalls are measured.
const EPOCH_CHANGES: u32 = 20;
/// Past epochs whose cost is measured.
const PAST_EPOCHS: u32 = 100;
/// Epochs that a voter sleeps through.
const SLEPT_EPOCHS: u32 = 4;
/// How often it does; the slowest and the median count.
const SLEEPS: u32 = 5;
/// The member that sleeps: it votes in every epoch, and its vote is not needed in any.
const SLEEPER: usize = 2;
/// Learners whose cost is measured.
const LEARNERS: usize = 20;
/// Publishes a second that do not meet in one slot.
const LOW_RATE: f64 = 100.0;
/// What a follower's death costs is looked for in this time after it.
const AFTER_THE_DEATH: Duration = Duration::from_secs(3);
/// Throughput is counted in windows of this length.
const WINDOW: Duration = Duration::from_millis(250);
/// Starts of one member that are timed; the median counts.
const STARTS: usize = 5;

/// A learner joins a group with a long history, while publishing goes on.
pub async fn join(messages: u64, output: Output) -> Result<Vec<Row>, Failure> {
    let mut bench = Bench::start(3).await?;
    fill(&bench, messages, output).await?;
    let publishers = bench.publishers(DELIVERY_RATE, BODY_BYTES);
    sleep(WARM_UP).await;
    let began = Instant::now();
    let newcomer = bench.add().await?;
    settle::ready_within(&mut bench.members[newcomer], &bench.clients[newcomer], PATIENCE).await?;
    let took = began.elapsed();
    let failures = stop(publishers).await;
    bench.stop().await?;
    Ok(vec![
        Row { name: "a learner has caught up after", value: took.as_secs_f64(), unit: "s", aim: "≤ 10" },
        Row { name: "  behind so many messages", value: messages as f64, unit: "", aim: "1,000,000" },
        Row { name: "  failed publishes meanwhile, 2,000/s", value: failures as f64, unit: "", aim: "0" },
    ])
}

/// Publishes so many messages, as fast as it goes.
async fn fill(bench: &Bench, messages: u64, output: Output) -> Result<(), Failure> {
    let publishers = bench.publishers(f64::INFINITY, BODY_BYTES);
    let (began, mut told) = (Instant::now(), 0);
    loop {
        let ordered: u64 = publishers.iter().map(Publisher::ordered).sum();
        if ordered >= messages {
            break;
        }
        if began.elapsed() > PATIENCE {
            return Err(Failure::failed(format!("only {ordered} messages are ordered after {} s", PATIENCE.as_secs())));
        }
        if output == Output::Text && ordered * 10 / messages > told {
            told = ordered * 10 / messages;
            print_line(&format!("  {ordered} messages of history"));
        }
        sleep(LOOK_INTERVAL).await;
    }
    stop(publishers).await;
    Ok(())
}

/// Stops publishing; how many publishes failed.
async fn stop(publishers: Vec<Publisher>) -> usize {
    publishers.iter().for_each(Publisher::stop);
    let mut failures = 0;
    for publisher in publishers {
        failures += failed(&publisher.finish().await);
    }
    failures
}

/// The longest time without a delivery around each change of the voters.
pub async fn epoch() -> Result<Vec<Row>, Failure> {
    let bench = grown().await?;
    let subscribers = bench.subscribers().await?;
    let publishers = bench.publishers(DELIVERY_RATE, BODY_BYTES);
    sleep(WARM_UP).await;
    let mut stalls = Vec::new();
    for change in 0..EPOCH_CHANGES {
        let from = Instant::now();
        change_voters(&bench, change).await?;
        sleep(AFTER_A_CHANGE).await;
        let until = Instant::now();
        let stall = subscribers.iter().map(|subscriber| subscriber.longest_silence(from, until)).max();
        stalls.push(stall.unwrap_or_default());
    }
    let failures = stop(publishers).await;
    bench.stop().await?;
    let row = |name, value, aim| Row { name, value, unit: "ms", aim };
    Ok(vec![
        row("stall of an epoch change, median of 20", percentile(&mut stalls, 0.50), "≤ 100"),
        row("  the longest of them", percentile(&mut stalls, 1.00), ""),
        Row { name: "  failed publishes meanwhile, 2,000/s", value: failures as f64, unit: "", aim: "0" },
    ])
}

/// A group of three voters with two learners that may vote.
async fn grown() -> Result<Bench, Failure> {
    let mut bench = Bench::start(VOTERS[0] as usize).await?;
    while bench.members.len() < VOTERS[1] as usize {
        let newcomer = bench.add().await?;
        settle::ready_within(&mut bench.members[newcomer], &bench.clients[newcomer], PATIENCE).await?;
    }
    Ok(bench)
}

/// Lets five vote, or three again, by turns; waits until the new epoch orders.
async fn change_voters(bench: &Bench, change: u32) -> Result<(), Failure> {
    let target = VOTERS[(change + 1) as usize % VOTERS.len()];
    let client = &bench.clients[0];
    sidecar::change(client, Method::PUT, "/v1/voters", &json!({ "target": target })).await?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = sidecar::document(client, "/v1/status").await?;
        let epoch = status["epoch"].as_u64().unwrap_or_default();
        if epoch > u64::from(change) && status["established"] == status["epoch"] {
            return Ok(());
        }
        if Instant::now() > deadline {
            let waits_for = &status["waits_for"];
            return Err(Failure::failed(format!("epoch {} does not come, waiting for {waits_for}", change + 1)));
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// What the death of a follower costs the others.
pub async fn follower(time: Duration) -> Result<Vec<Row>, Failure> {
    let mut bench = Bench::start(3).await?;
    let leader = settle::leader(&bench.members, &bench.clients).await?;
    let victim = (leader + 1) % bench.members.len();
    let mut subscribers = bench.subscribers().await?;
    drop(subscribers.remove(victim));
    let mut publishers = bench.publishers(DELIVERY_RATE, BODY_BYTES);
    // All load goes through the two that stay: what the dead one no longer takes is no loss of the group.
    publishers.remove(victim).finish().await;
    sleep(WARM_UP).await;
    let from = Instant::now();
    sleep(time).await;
    let at = Instant::now();
    bench.members[victim].kill().await?;
    sleep(AFTER_THE_DEATH).await;
    let failures = stop(publishers).await;
    let losses: Vec<Loss> = subscribers.iter().map(|subscriber| loss(subscriber, from, at)).collect();
    bench.stop().await?;
    let worst = losses.into_iter().reduce(Loss::worse).unwrap_or_default();
    Ok(vec![
        Row {
            name: "time below 90 % of the throughput after a follower's death",
            value: milliseconds(worst.time),
            unit: "ms",
            aim: "< 1000",
        },
        Row { name: "  throughput lost in the first second", value: worst.percent, unit: "%", aim: "< 10" },
        Row { name: "  failed publishes on the survivors", value: failures as f64, unit: "", aim: "0" },
    ])
}

/// How much less one subscriber got.
#[derive(Default)]
struct Loss {
    /// Windows with less than nine tenths of what came before.
    time: Duration,
    /// Of the first second, in percent.
    percent: f64,
}

impl Loss {
    fn worse(self, other: Loss) -> Loss {
        Loss { time: self.time.max(other.time), percent: self.percent.max(other.percent) }
    }
}

/// What came after a moment, compared with what came between two.
fn loss(subscriber: &Subscriber, from: Instant, at: Instant) -> Loss {
    let rate = subscriber.count_between(from, at) as f64 / (at - from).as_secs_f64();
    let expected = rate * WINDOW.as_secs_f64();
    let windows = (AFTER_THE_DEATH.as_nanos() / WINDOW.as_nanos()) as u32;
    let begins = (0..windows).map(|window| at + WINDOW * window);
    let low = begins.filter(|begin| (subscriber.count_between(*begin, *begin + WINDOW) as f64) < 0.9 * expected);
    let second = subscriber.count_between(at, at + Duration::from_secs(1)) as f64;
    Loss { time: WINDOW * low.count() as u32, percent: (100.0 * (1.0 - second / rate)).max(0.0) }
}

/// What a member's memory and its start cost more after many epochs.
pub async fn epochs() -> Result<Vec<Row>, Failure> {
    let mut bench = grown().await?;
    let before = starts(&mut bench).await?;
    for change in 0..PAST_EPOCHS {
        change_voters(&bench, change).await?;
    }
    let after = starts(&mut bench).await?;
    let document: Value = sidecar::document(&bench.clients[0], "/v1/epochs").await?;
    let epochs = document["epochs"].as_array().map_or(0, Vec::len).saturating_sub(1);
    bench.stop().await?;
    let memory = (after.memory as f64 - before.memory as f64) / f64::from(1 << 20);
    let start = milliseconds(after.start) - milliseconds(before.start);
    Ok(vec![
        Row { name: "past epochs", value: epochs as f64, unit: "", aim: "100" },
        Row { name: "  memory they cost", value: memory, unit: "MiB", aim: "≤ 1" },
        Row { name: "  time they cost at a start", value: start, unit: "ms", aim: "≤ 50" },
    ])
}

/// Medians of several starts of one member.
struct Starts {
    start: Duration,
    memory: u64,
}

async fn starts(bench: &mut Bench) -> Result<Starts, Failure> {
    let last = bench.members.len() - 1;
    let (mut times, mut memories) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        bench.members[last].kill().await?;
        times.push(bench.start_again(last).await?);
        settle::ready_within(&mut bench.members[last], &bench.clients[last], PATIENCE).await?;
        sleep(WARM_UP).await;
        memories.extend(bench.members[last].pid().and_then(anonymous_bytes));
    }
    times.sort_unstable();
    memories.sort_unstable();
    let memory = memories.get(memories.len() / 2).copied();
    let memory = memory.ok_or_else(|| Failure::failed("/proc tells no anonymous memory"))?;
    Ok(Starts { start: times[times.len() / 2], memory })
}

/// From the start of a voter that slept through several epochs to its being of the present one, and to its readiness.
pub async fn asleep() -> Result<Vec<Row>, Failure> {
    let mut bench = grown().await?;
    let (mut present, mut ready) = (Vec::new(), Vec::new());
    for sleep in 0..SLEEPS {
        bench.members[SLEEPER].kill().await?;
        for change in 0..SLEPT_EPOCHS {
            change_voters(&bench, sleep * SLEPT_EPOCHS + change).await?;
        }
        let epoch = sidecar::document(&bench.clients[0], "/v1/status").await?["epoch"].clone();
        let began = Instant::now();
        bench.members[SLEEPER].start()?;
        wakes(&mut bench, |status| status["epoch"] == epoch).await?;
        present.push(began.elapsed());
        wakes(&mut bench, |status| status["ready"] == true).await?;
        ready.push(began.elapsed());
    }
    bench.stop().await?;
    present.sort_unstable();
    ready.sort_unstable();
    let middle = SLEEPS as usize / 2;
    let row = |name, value: Duration| Row { name, value: value.as_secs_f64(), unit: "s", aim: "≤ 2" };
    Ok(vec![
        row("a voter that slept through several epochs is of the present one after", present[middle]),
        row("  the slowest", present[present.len() - 1]),
        row("  and is ready after", ready[middle]),
        row("  the slowest", ready[ready.len() - 1]),
    ])
}

/// Waits until the sleeper says that of itself.
async fn wakes(bench: &mut Bench, is: impl Fn(&Value) -> bool) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while !bench.clients[SLEEPER].get_json::<Value>("/v1/status").await.is_ok_and(|status| is(&status)) {
        let ended = bench.members[SLEEPER].exit_status();
        if ended.is_some() || Instant::now() > deadline {
            let log = bench.members[SLEEPER].log_path();
            return Err(Failure::failed(format!("the sleeper does not wake; see {}", log.display())));
        }
        sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

/// What learners cost the leader: at the usual rate, where this machine has more members than it can serve and the leader
/// puts more into each slot, and at a low one, where each message has a slot of its own with and without them.
pub async fn learners(time: Duration) -> Result<Vec<Row>, Failure> {
    let mut bench = Bench::start(3).await?;
    let alone = [leader_cost(&mut bench, DELIVERY_RATE, time).await?, leader_cost(&mut bench, LOW_RATE, time).await?];
    let mut newcomers = Vec::new();
    for _ in 0..LEARNERS {
        newcomers.push(bench.add().await?);
    }
    for newcomer in newcomers {
        settle::ready_within(&mut bench.members[newcomer], &bench.clients[newcomer], PATIENCE).await?;
    }
    let followed =
        [leader_cost(&mut bench, DELIVERY_RATE, time).await?, leader_cost(&mut bench, LOW_RATE, time).await?];
    bench.stop().await?;
    let row = |name, value, unit, aim| Row { name, value, unit, aim };
    let growth = |index: usize| 100.0 * (followed[index].microseconds / alone[index].microseconds - 1.0);
    Ok(vec![
        row("the leader's processor per message, 2,000/s", alone[0].microseconds, "µs", ""),
        row("  with 20 learners", followed[0].microseconds, "µs", ""),
        row("  growth", growth(0), "%", "< 15"),
        row("  messages ordered with them", followed[0].rate, "/s", "2,000"),
        row("the leader's processor per message, 100/s", alone[1].microseconds, "µs", ""),
        row("  with 20 learners", followed[1].microseconds, "µs", ""),
        row("  growth", growth(1), "%", "< 15"),
    ])
}

/// What a leader needs.
struct LeaderCost {
    /// Processor time for each message.
    microseconds: f64,
    /// Messages ordered a second.
    rate: f64,
}

/// Measures the leader at a steady load through the voters.
async fn leader_cost(bench: &mut Bench, rate: f64, time: Duration) -> Result<LeaderCost, Failure> {
    let leader = settle::leader(&bench.members, &bench.clients).await?;
    let pid = bench.members[leader].pid().ok_or_else(|| Failure::failed("the leader does not run"))?;
    let used = || cpu_time(pid).ok_or_else(|| Failure::failed("/proc tells no processor time"));
    let publishers = bench.publishers_at(VOTERS[0] as usize, rate, BODY_BYTES);
    let ordered = || publishers.iter().map(Publisher::ordered).sum::<u64>();
    sleep(WARM_UP).await;
    let (cpu, messages) = (used()?, ordered());
    sleep(time).await;
    let (cpu, messages) = (used()? - cpu, ordered() - messages);
    stop(publishers).await;
    if settle::leader(&bench.members, &bench.clients).await? != leader {
        return Err(Failure::failed("the leader changed while it was measured; measure again"));
    }
    let microseconds = cpu.as_secs_f64() * 1e6 / messages.max(1) as f64;
    Ok(LeaderCost { microseconds, rate: messages as f64 / time.as_secs_f64() })
}
