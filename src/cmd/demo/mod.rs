//! `synod demo`: a story told by a real group. Three sidecars, publishes from all of them, the leader killed, the rest
//! going on, the dead one back; and then all three read completely and compared. In the second act a fourth joins, the first
//! leaves, and they are compared again.

pub mod comparison;
mod second_act;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::exit::Failure;
use super::group::load::{Outcome, Plan, Publisher, Sent};
use super::group::member_process::MemberProcess;
use super::group::scratch::Scratch;
use super::group::subscriber::Subscriber;
use super::group::{self, poll, ports, settle};
use super::output::{Output, print_line, table};
use super::sidecar;
use crate::api::client::Client;
use crate::types::Position;
use comparison::{Published, Read};

const MEMBERS: usize = 3;
/// Messages a second through each member.
const INTERVAL: Duration = Duration::from_micros(3_333);
const BEFORE_THE_KILL: Duration = Duration::from_secs(3);
const AFTER_THE_KILL: Duration = Duration::from_secs(4);
const AFTER_THE_RESTART: Duration = Duration::from_secs(2);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the command.
pub fn run(output: Output) -> Result<(), Failure> {
    let mut scratch = Scratch::make("demo")?;
    let members = group::found(scratch.path(), "demo", ports::free(MEMBERS)?)?;
    let clients = members.iter().map(poll::client).collect();
    let mut demo = Demo { members, clients, output, began: Instant::now() };
    demo.say(&format!("three sidecars in {}", scratch.path().display()));
    let outcome = sidecar::block_on(async {
        let told = demo.tell(scratch.path()).await;
        let killed = group::stop(&mut demo.members).await;
        told.and_then(|result| if killed.is_empty() { Ok(result) } else { Err(Failure::failed(killed.join("; "))) })
    });
    let result = match outcome {
        Ok(result) if result.mistakes.is_empty() => result,
        failed => {
            scratch.keep();
            let place = scratch.path().display();
            let what = match failed {
                Ok(result) => format!("NOT TRUE:\n  {}", result.mistakes.join("\n  ")),
                Err(failure) => failure.message,
            };
            return Err(Failure::failed(format!("{what}\nlogs and data are kept in {place}")));
        }
    };
    output.print(&result.document, || result.text);
    Ok(())
}

/// What the demo found.
struct Findings {
    document: Value,
    text: String,
    mistakes: Vec<String>,
}

/// What happened around the kill.
struct Kill {
    victim: usize,
    silence: Duration,
}

struct Demo {
    members: Vec<MemberProcess>,
    clients: Vec<Client>,
    output: Output,
    began: Instant,
}

impl Demo {
    fn say(&self, line: &str) {
        if self.output == Output::Text {
            print_line(&format!("{:6.1} s  {line}", self.began.elapsed().as_secs_f64()));
        }
    }

    /// Both acts; the second is not told if the first is not true.
    async fn tell(&mut self, directory: &Path) -> Result<Findings, Failure> {
        let (mut first, sent) = self.first_act().await?;
        if !first.mistakes.is_empty() {
            return Ok(first);
        }
        if self.output == Output::Text {
            print_line(&format!("{}\n", first.text));
        }
        let second = self.second_act(directory, sent).await?;
        first.document["second_act"] = second.document;
        Ok(Findings { document: first.document, text: second.text, mistakes: second.mistakes })
    }

    async fn first_act(&mut self) -> Result<(Findings, Vec<Vec<Sent>>), Failure> {
        for member in &mut self.members {
            member.start()?;
        }
        settle::ready(&mut self.members, &self.clients).await?;
        self.say("all three are ready; publishing through all of them at once");
        let mut publishers: Vec<Publisher> = (0..MEMBERS).map(|index| self.publisher(index, "")).collect();
        self.watch(&publishers, BEFORE_THE_KILL).await;
        let kill = self.kill_the_leader(&publishers).await?;
        let name = self.members[kill.victim].name().to_owned();
        self.members[kill.victim].start()?;
        self.say(&format!("{name} is started again, with what its disk holds"));
        settle::ready(&mut self.members, &self.clients).await?;
        self.say(&format!("{name} is back and publishes again"));
        publishers.push(self.publisher(kill.victim, "-again"));
        self.watch(&publishers, AFTER_THE_RESTART).await;
        let mut sent = Vec::new();
        for publisher in publishers {
            sent.push(publisher.finish().await);
        }
        let head = settle::same_head(&mut self.members, &self.clients).await?;
        self.say(&format!("all answers are in, all three are at position {head}; reading them completely"));
        let mut streams = Vec::new();
        for client in &self.clients {
            streams.push(read(client).await?);
        }
        Ok((self.compare(&kill, &sent, &streams), sent))
    }

    fn publisher(&self, index: usize, suffix: &str) -> Publisher {
        let name = format!("{}{suffix}", self.members[index].name());
        Publisher::start(
            self.clients[index].clone(),
            Plan { name, interval: INTERVAL, offset: Duration::ZERO, body_bytes: 0 },
        )
    }

    /// Waits, and shows each second how far everybody is.
    async fn watch(&mut self, publishers: &[Publisher], time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            sleep(PROGRESS_INTERVAL.min(until - Instant::now())).await;
            let mut heads = Vec::new();
            for (member, client) in self.members.iter_mut().zip(&self.clients) {
                let standing = poll::standing(member, client).await;
                heads.push(match standing.is_ready() {
                    true => format!("{} {} ({})", member.name(), standing.delivered, standing.role),
                    false => format!("{} {}", member.name(), standing.state),
                });
            }
            let ordered: u64 = publishers.iter().map(Publisher::ordered).sum();
            self.say(&format!("{ordered} acknowledged; delivered: {}", heads.join(", ")));
        }
    }

    /// Kills the leader with SIGKILL while everybody publishes, and measures on the survivors.
    async fn kill_the_leader(&mut self, publishers: &[Publisher]) -> Result<Kill, Failure> {
        let victim = settle::leader(&self.members, &self.clients).await?;
        let mut subscribers = Vec::new();
        for (index, client) in self.clients.iter().enumerate() {
            if index != victim {
                subscribers.push(Subscriber::start(client).await.map_err(sidecar::failure)?);
            }
        }
        // Both survivors have seen deliveries before the silence begins.
        settle::until("the survivors deliver", || subscribers.iter().all(|subscriber| subscriber.count() > 0)).await?;
        let pid = self.members[victim].pid().unwrap_or_default();
        let at = Instant::now();
        self.members[victim].kill().await?;
        publishers[victim].stop();
        self.say(&format!("{}, the leader, is killed with SIGKILL (process {pid})", self.members[victim].name()));
        self.watch(publishers, AFTER_THE_KILL).await;
        let now = Instant::now();
        let silences = subscribers.iter().map(|subscriber| subscriber.longest_silence(at, now));
        Ok(Kill { victim, silence: silences.max().unwrap_or_default() })
    }

    fn compare(&self, kill: &Kill, sent: &[Vec<Sent>], streams: &[Vec<Read>]) -> Findings {
        let published = published(sent);
        let failed = |index: usize| {
            let failed = sent[index].iter().filter(|sent| !matches!(sent.outcome, Outcome::Ordered(_)));
            failed.count()
        };
        let failed_on_survivors: usize = (0..MEMBERS).filter(|index| *index != kill.victim).map(failed).sum();
        let digests: Vec<String> = streams.iter().map(|stream| comparison::digest(stream)).collect();
        let mut mistakes = Vec::new();
        for (member, stream) in self.members.iter().zip(streams) {
            let found = comparison::mistakes(stream, &published);
            mistakes.extend(found.into_iter().map(|mistake| format!("{}: {mistake}", member.name())));
        }
        if digests.iter().any(|digest| *digest != digests[0]) {
            mistakes.push(format!("the members differ: {}", digests.join(", ")));
        }
        let silence = kill.silence.as_millis();
        let document = json!({
            "same_sequence": mistakes.is_empty(),
            "messages": streams[0].len(),
            "digest": digests[0],
            "acknowledged": published.ordered.len(),
            "sent": published.sent.len(),
            "killed": self.members[kill.victim].name(),
            "silence_ms": silence as u64,
            "failed_on_survivors": failed_on_survivors,
            "unanswered_by_the_killed": failed(kill.victim),
            "seconds": self.began.elapsed().as_secs_f64(),
        });
        let members = self.members.iter().zip(streams).zip(&digests);
        let rows = members
            .map(|((member, stream), digest)| [member.name().to_owned(), stream.len().to_string(), digest.clone()]);
        let text = format!(
            "\n{}\nsilence after the kill: {silence} ms; failed publishes on the survivors: {failed_on_survivors}\n\
             unanswered by the killed leader: {} (perhaps ordered, never sent again)\n\
             every one of {} acknowledged messages is there exactly once; no duplicate, no gap\n\
             THE SAME SEQUENCE EVERYWHERE, after {:.1} s",
            table(["MEMBER", "MESSAGES", "DIGEST (position, id, body)"], rows),
            failed(kill.victim),
            published.ordered.len(),
            self.began.elapsed().as_secs_f64()
        );
        Findings { document, text, mistakes }
    }
}

fn published(sent: &[Vec<Sent>]) -> Published {
    let mut published = Published::default();
    for message in sent.iter().flatten() {
        published.sent.insert(message.body.clone());
        if let Outcome::Ordered(position) = message.outcome {
            published.ordered.insert(message.body.clone(), Position(position));
        }
    }
    published
}

/// A member's whole stream, from the first position to its head.
async fn read(client: &Client) -> Result<Vec<Read>, Failure> {
    let mut lines = client.lines("/v1/messages?after=0&follow=false").await.map_err(sidecar::failure)?;
    let mut stream = Vec::new();
    while let Some(line) = lines.next().await.map_err(sidecar::failure)? {
        stream.push(event(&serde_json::from_slice(&line).map_err(Failure::failed)?));
    }
    Ok(stream)
}

/// One event of a stream. What Synod says itself has a document as its body.
fn event(event: &Value) -> Read {
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let body = event["data"].as_str().map_or_else(|| event["data"].to_string(), str::to_owned);
    let position = Position(event["position"].as_u64().unwrap_or_default());
    Read { position, id: text("id"), body, system: text("type").starts_with(SYSTEM) }
}

/// How the types of events begin that Synod itself puts into the order.
const SYSTEM: &str = "synod.";
