//! How long nothing is delivered while members come, go, restart and are replaced, and how many publishes through the
//! others fail then.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{AFTER_A_CHANGE, BODY_BYTES, Bench, LOOK_INTERVAL, PATIENCE, Row, WARM_UP, failed, milliseconds};
use crate::cmd::exit::Failure;
use crate::cmd::group::load::{Plan, Publisher};
use crate::cmd::group::settle;
use crate::cmd::group::subscriber::Subscriber;
use crate::cmd::{leave, sidecar};

/// From one message of a member to the next.
const INTERVAL: Duration = Duration::from_millis(6);
/// A voter that is silent for this long is replaced: the least that may be set.
const REPLACE_AFTER: &str = "5s";

/// A group under load, of which each member can be taken out of the load before it goes.
struct Course {
    bench: Bench,
    publishers: BTreeMap<usize, Publisher>,
    /// Publishers started so far: no two have one name.
    started: usize,
    failures: usize,
}

/// Measures each step.
pub async fn turnover() -> Result<Vec<Row>, Failure> {
    let mut course = Course::start(&[]).await?;
    let mut rows = vec![
        ("silence: two members join", course.joins(2).await?),
        ("silence: five vote instead of three", course.voters(5).await?),
        ("silence: three vote again", course.voters(3).await?),
        ("silence: a learner leaves", course.learner_leaves().await?),
        ("silence: the leader leaves", course.leader_leaves().await?),
        ("silence: all restart, one after another", course.all_restart().await?),
    ];
    let mut failures = course.finish().await?;
    let mut course = Course::start(&[("timing.replace_after", REPLACE_AFTER.to_owned())]).await?;
    rows.push(("silence: the leader's disk is lost, it is replaced", course.leader_is_replaced().await?));
    failures += course.finish().await?;
    let row = |(name, silence)| Row { name, value: milliseconds(silence), unit: "ms", aim: "≤ 1000" };
    let mut rows: Vec<Row> = rows.into_iter().map(row).collect();
    rows.push(Row { name: "  failed publishes on the others", value: failures as f64, unit: "", aim: "0" });
    Ok(rows)
}

impl Course {
    async fn start(settings: &[(&'static str, String)]) -> Result<Course, Failure> {
        let bench = Bench::start_with(3, settings).await?;
        let mut course = Course { bench, publishers: BTreeMap::new(), started: 0, failures: 0 };
        (0..3).for_each(|index| course.publish_at(index));
        sleep(WARM_UP).await;
        Ok(course)
    }

    fn publish_at(&mut self, index: usize) {
        self.started += 1;
        let name = format!("{}-{}", self.bench.members[index].name(), self.started);
        let plan = Plan { name, interval: INTERVAL, offset: Duration::ZERO, body_bytes: BODY_BYTES };
        self.publishers.insert(index, Publisher::start(self.bench.clients[index].clone(), plan));
    }

    /// Publishes nothing more there; what failed so far counts.
    async fn spare(&mut self, index: usize) {
        if let Some(publisher) = self.publishers.remove(&index) {
            self.failures += failed(&publisher.finish().await);
        }
    }

    /// Subscribers at all that publish and stay.
    async fn watch(&self) -> Result<(Vec<Subscriber>, Instant), Failure> {
        let mut subscribers = Vec::new();
        for index in self.publishers.keys() {
            subscribers.push(Subscriber::start(&self.bench.clients[*index]).await.map_err(sidecar::failure)?);
        }
        settle::until("all deliver", || subscribers.iter().all(|subscriber| subscriber.count() > 0)).await?;
        Ok((subscribers, Instant::now()))
    }

    async fn joins(&mut self, count: usize) -> Result<Duration, Failure> {
        let watched = self.watch().await?;
        for _ in 0..count {
            let index = self.bench.add().await?;
            self.ready(index).await?;
            self.publish_at(index);
        }
        Ok(silence(watched).await)
    }

    async fn ready(&mut self, index: usize) -> Result<(), Failure> {
        settle::ready_within(&mut self.bench.members[index], &self.bench.clients[index], PATIENCE).await
    }

    async fn voters(&mut self, target: usize) -> Result<Duration, Failure> {
        let watched = self.watch().await?;
        let client = &self.bench.clients[self.some()];
        sidecar::change(client, Method::PUT, "/v1/voters", &json!({ "target": target })).await?;
        self.until_votes(|voters| voters.len() == target).await?;
        Ok(silence(watched).await)
    }

    async fn learner_leaves(&mut self) -> Result<Duration, Failure> {
        let voters = self.votes().await?;
        let learner = self.publishers.keys().copied().find(|index| !voters.contains(&self.name(*index)));
        let learner = learner.ok_or_else(|| Failure::failed("everybody votes"))?;
        self.leaves(learner).await
    }

    async fn leader_leaves(&mut self) -> Result<Duration, Failure> {
        let leader = self.leader().await?;
        self.leaves(leader).await
    }

    async fn leaves(&mut self, index: usize) -> Result<Duration, Failure> {
        self.spare(index).await;
        let watched = self.watch().await?;
        leave::leave(&self.bench.clients[index], None, |_| ()).await?;
        self.bench.members[index].ended().await;
        Ok(silence(watched).await)
    }

    async fn all_restart(&mut self) -> Result<Duration, Failure> {
        let mut longest = Duration::ZERO;
        for index in self.publishers.keys().copied().collect::<Vec<_>>() {
            self.spare(index).await;
            let watched = self.watch().await?;
            self.bench.members[index].ask_to_stop();
            self.bench.members[index].ended().await;
            self.bench.start_again(index).await?;
            self.ready(index).await?;
            longest = longest.max(silence(watched).await);
            self.publish_at(index);
        }
        Ok(longest)
    }

    async fn leader_is_replaced(&mut self) -> Result<Duration, Failure> {
        let newcomer = self.bench.add().await?;
        self.ready(newcomer).await?;
        let leader = self.leader().await?;
        self.spare(leader).await;
        let watched = self.watch().await?;
        self.bench.members[leader].kill().await?;
        let data_dir = self.bench.members[leader].settings().data_dir.clone();
        fs::remove_dir_all(&data_dir)
            .map_err(|error| Failure::failed(format!("{} cannot be removed: {error}", data_dir.display())))?;
        let (gone, come) = (self.name(leader), self.name(newcomer));
        self.until_votes(|voters| voters.contains(&come) && !voters.contains(&gone)).await?;
        Ok(silence(watched).await)
    }

    async fn finish(mut self) -> Result<usize, Failure> {
        for index in self.publishers.keys().copied().collect::<Vec<_>>() {
            self.spare(index).await;
        }
        self.bench.stop().await?;
        Ok(self.failures)
    }

    /// One that is there.
    fn some(&self) -> usize {
        *self.publishers.keys().next().expect("somebody stays")
    }

    fn name(&self, index: usize) -> String {
        self.bench.members[index].name().to_owned()
    }

    async fn leader(&self) -> Result<usize, Failure> {
        let status: Value = sidecar::document(&self.bench.clients[self.some()], "/v1/status").await?;
        let leads = |index: &usize| status["leader_name"] == self.name(*index);
        let leader = (0..self.bench.members.len()).find(leads);
        leader.ok_or_else(|| Failure::failed(format!("nobody leads: {}", status["leader"])))
    }

    /// The names of those that vote.
    async fn votes(&self) -> Result<Vec<String>, Failure> {
        let members = sidecar::document(&self.bench.clients[self.some()], "/v1/members").await?;
        let voters = members["members"].as_array().into_iter().flatten().filter(|member| member["role"] == "voter");
        Ok(voters.filter_map(|member| member["name"].as_str().map(str::to_owned)).collect())
    }

    async fn until_votes(&self, are: impl Fn(&[String]) -> bool) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let voters = self.votes().await?;
            if are(&voters) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::failed(format!("still {} vote", voters.join(", "))));
            }
            sleep(LOOK_INTERVAL).await;
        }
    }
}

/// The longest time without a delivery at any of them, from a moment until a while from now.
async fn silence((subscribers, from): (Vec<Subscriber>, Instant)) -> Duration {
    sleep(AFTER_A_CHANGE).await;
    let until = Instant::now();
    subscribers.iter().map(|subscriber| subscriber.longest_silence(from, until)).max().unwrap_or_default()
}
