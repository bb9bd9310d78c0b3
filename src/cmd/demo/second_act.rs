//! The second act: while everybody publishes, a fourth member joins and catches up, the first leaves, and the fourth takes
//! its vote. Then all that still run are compared completely, and the leaver up to where it left.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::comparison::{self, Published, Read};
use super::{Demo, Findings, MEMBERS, event, read};
use crate::api::client::{Client, ClientError};
use crate::cmd::exit::Failure;
use crate::cmd::group::load::{Outcome, Publisher, Sent};
use crate::cmd::group::subscriber::Subscriber;
use crate::cmd::group::{newcomer, poll, ports, settle};
use crate::cmd::output::table;
use crate::cmd::{leave, sidecar};

const NAME: &str = "n4";
const LEAVER: usize = 0;
const NEWCOMER: usize = MEMBERS;
const BEFORE_THE_JOIN: Duration = Duration::from_secs(1);
const AFTER_THE_LEAVE: Duration = Duration::from_secs(2);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// From the answer to a leave to the end of the process, and from there to the end of its tail.
const END_MAX: Duration = Duration::from_secs(20);

/// What was measured on the way.
struct Course {
    caught_up_after: Duration,
    left_after: Duration,
    silence: Duration,
    leaver: Vec<Read>,
}

impl Demo {
    /// Tells the second act. `sent` is what was published before.
    pub(super) async fn second_act(&mut self, directory: &Path, mut sent: Vec<Vec<Sent>>) -> Result<Findings, Failure> {
        let before = sent.len();
        self.say("second act: publishing through all three again, and a fourth member joins");
        let mut publishers: Vec<Publisher> = (0..MEMBERS).map(|index| self.publisher(index, "-later")).collect();
        self.watch(&publishers, BEFORE_THE_JOIN).await;
        let caught_up_after = self.join(directory).await?;
        publishers.push(self.publisher(NEWCOMER, ""));
        let (left_after, leaver, silence) = self.leave(&mut publishers, &mut sent).await?;
        self.watch(&publishers, AFTER_THE_LEAVE).await;
        for publisher in publishers {
            sent.push(publisher.finish().await);
        }
        let head = settle::same_head(&mut self.members[1..], &self.clients[1..]).await?;
        self.say(&format!("all answers are in, the three that run are at position {head}; reading them completely"));
        let mut streams = Vec::new();
        for client in &self.clients[1..] {
            streams.push(read(client).await?);
        }
        Ok(self.compare_again(&Course { caught_up_after, left_after, silence, leaver }, &sent, before, &streams))
    }

    /// Invites and starts the fourth, and waits until it has caught up.
    async fn join(&mut self, directory: &Path) -> Result<Duration, Failure> {
        let began = Instant::now();
        let code = newcomer::invite(&self.clients[LEAVER]).await?;
        let ports = ports::free(1)?.remove(0);
        let mut member = newcomer::prepare(directory, NAME, Ipv4Addr::LOCALHOST.into(), ports)?.joining(&code);
        member.start()?;
        self.clients.push(poll::client(&member));
        self.members.push(member);
        settle::ready_within(&mut self.members[NEWCOMER], &self.clients[NEWCOMER], END_MAX).await?;
        let took = began.elapsed();
        self.say(&format!("{NAME} has joined by a join code, and caught up, after {:.2} s", took.as_secs_f64()));
        Ok(took)
    }

    /// The first leaves; its stream is followed to its end. The fourth has its vote then.
    async fn leave(
        &mut self,
        publishers: &mut Vec<Publisher>,
        sent: &mut Vec<Vec<Sent>>,
    ) -> Result<(Duration, Vec<Read>, Duration), Failure> {
        let name = self.members[LEAVER].name().to_owned();
        let tail = follow(&self.clients[LEAVER]).await.map_err(sidecar::failure)?;
        let mut subscribers = Vec::new();
        for client in &self.clients[1..] {
            subscribers.push(Subscriber::start(client).await.map_err(sidecar::failure)?);
        }
        settle::until("the others deliver", || subscribers.iter().all(|subscriber| subscriber.count() > 0)).await?;
        // A host that lets its member leave publishes elsewhere first.
        sent.push(publishers.remove(LEAVER).finish().await);
        let began = Instant::now();
        self.say(&format!("{name} leaves"));
        leave::leave(&self.clients[LEAVER], None, |_| ()).await?;
        let took = began.elapsed();
        self.vote_of(NEWCOMER).await?;
        self.say(&format!("{name} may go after {:.2} s; {NAME} votes in its place", took.as_secs_f64()));
        let ended = tokio::time::timeout(END_MAX, tail).await;
        let stream = ended.map_err(|_| Failure::failed(format!("{name} has left and does not end")))?;
        let silences = subscribers.iter().map(|subscriber| subscriber.longest_silence(began, Instant::now()));
        let silence = silences.max().unwrap_or_default();
        if !self.members[LEAVER].ended().await
            || self.members[LEAVER].exit_status().is_none_or(|status| !status.success())
        {
            return Err(Failure::failed(format!("{name} has left, and its process did not end in order")));
        }
        self.say(&format!("{name} has ended by itself"));
        Ok((took, stream.expect("following does not panic"), silence))
    }

    /// Waits until a member votes, as it says itself.
    async fn vote_of(&self, index: usize) -> Result<(), Failure> {
        let deadline = Instant::now() + END_MAX;
        loop {
            let members = sidecar::document(&self.clients[index], "/v1/members").await?;
            let mut listed = members["members"].as_array().into_iter().flatten();
            if listed.any(|member| member["self"] == true && member["role"] == "voter") {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::failed(format!("{} has not got a vote", self.members[index].name())));
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    fn compare_again(&self, course: &Course, sent: &[Vec<Sent>], before: usize, streams: &[Vec<Read>]) -> Findings {
        let published = super::published(sent);
        let failed =
            sent[before..].iter().flatten().filter(|sent| !matches!(sent.outcome, Outcome::Ordered(_))).count();
        let digests: Vec<String> = streams.iter().map(|stream| comparison::digest(stream)).collect();
        let mut mistakes = Vec::new();
        for (member, stream) in self.members[1..].iter().zip(streams) {
            let found = comparison::mistakes(stream, &published);
            mistakes.extend(found.into_iter().map(|mistake| format!("{}: {mistake}", member.name())));
        }
        if digests.iter().any(|digest| *digest != digests[0]) {
            mistakes.push(format!("the members differ: {}", digests.join(", ")));
        }
        mistakes.extend(leaver_mistakes(&course.leaver, &streams[0], &published));
        if failed > 0 {
            mistakes.push(format!("{failed} publishes failed while the membership changed"));
        }
        let document = json!({
            "same_sequence": mistakes.is_empty(),
            "messages": streams[0].len(),
            "digest": digests[0],
            "acknowledged": published.ordered.len(),
            "joined": NAME,
            "caught_up_after_seconds": course.caught_up_after.as_secs_f64(),
            "left": self.members[LEAVER].name(),
            "left_after_seconds": course.left_after.as_secs_f64(),
            "left_behind_position": course.leaver.len(),
            "silence_ms": course.silence.as_millis() as u64,
            "failed": failed,
            "seconds": self.began.elapsed().as_secs_f64(),
        });
        let text = self.told_again(course, &published, streams, &digests);
        Findings { document, text, mistakes }
    }

    fn told_again(&self, course: &Course, published: &Published, streams: &[Vec<Read>], digests: &[String]) -> String {
        let leaver = self.members[LEAVER].name();
        let told = self.members[1..].iter().zip(streams).zip(digests);
        let rows =
            told.map(|((member, stream), digest)| [member.name().into(), stream.len().to_string(), digest.clone()]);
        let left_at = course.leaver.len();
        let beginning = comparison::digest(&streams[0][..left_at.min(streams[0].len())]);
        format!(
            "\n{}\n{leaver} left behind position {left_at}; up to there its digest and that of the others is {beginning}\n\
             {NAME} had caught up after {:.2} s, {leaver} could go after {:.2} s, the longest silence around that was {} ms\n\
             no publish failed; every one of {} acknowledged messages is there exactly once; no duplicate, no gap\n\
             THE SAME SEQUENCE EVERYWHERE, after {:.1} s",
            table(["MEMBER", "EVENTS", "DIGEST (position, id, body)"], rows),
            course.caught_up_after.as_secs_f64(),
            course.left_after.as_secs_f64(),
            course.silence.as_millis(),
            published.ordered.len(),
            self.began.elapsed().as_secs_f64()
        )
    }
}

/// What the leaver delivered is the beginning of what the others delivered, and has everything that was acknowledged through it.
fn leaver_mistakes(leaver: &[Read], others: &[Read], published: &Published) -> Vec<String> {
    let mut mistakes = Vec::new();
    if leaver.is_empty() {
        mistakes.push("the leaver delivered nothing".to_owned());
    }
    if !others.starts_with(leaver) {
        let place = leaver.iter().zip(others).position(|(one, other)| one != other).unwrap_or(others.len());
        mistakes.push(format!("the leaver differs from position {} on", place + 1));
    }
    let last =
        published.ordered.iter().filter(|(body, _)| body.starts_with(LEAVER_BODIES)).map(|(_, place)| place.0).max();
    if last.is_some_and(|last| last > leaver.len() as u64) {
        mistakes.push(format!("the leaver left before it delivered its own last message, at {last:?}"));
    }
    mistakes
}

/// How the bodies published through the leaver begin.
const LEAVER_BODIES: &str = "n1-";

/// Follows a member's whole stream until the member ends.
async fn follow(client: &Client) -> Result<JoinHandle<Vec<Read>>, ClientError> {
    let mut lines = client.lines("/v1/messages?after=0").await?;
    Ok(tokio::spawn(async move {
        let mut stream = Vec::new();
        // However it ends: what came is a beginning of the order, or it is told.
        while let Ok(Some(line)) = lines.next().await {
            let event_or_nothing: Value = serde_json::from_slice(&line).unwrap_or_default();
            stream.push(event(&event_or_nothing));
        }
        stream
    }))
}
