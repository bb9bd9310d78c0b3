//! Bugs that others had, where real processes show best that we do not have them. The rest stands elsewhere under the
//! same kind of name: openraft #1802 in `order` and in `protocol/model.rs`, commonware #4275 in `crashes`,
//! rabbitmq-server #12366 in `identities`.

use std::time::Duration;

use serde_json::Value;
use synod::api::client::{Client, Lines};
use synod::types::Ack;

use super::harness::load::{publish, publisher_name};
use super::harness::member::Signal;
use super::harness::sequence::agree;
use super::harness::wait::passed;
use super::harness::{Group, Load, Published, synod};

/// malachite #850, #864: votes left before the log was replayed, so that a member contradicted itself after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malachite_850_864_members_restarted_under_load_never_vote_twice_in_one_round() {
    let mut group = Group::start().await;
    let load = Load::start(&group);
    for round in 0..6 {
        load.goes_on(&group.everybody(), 30).await;
        let victim = if round % 2 == 0 { group.leader().await } else { group.follower().await };
        group.members[victim].kill();
        group.members[victim].start();
        group.members[victim].ready().await;
    }
    let mut published = load.finish().await;
    agree(&group, &group.everybody(), &mut published).await;
    group.stop_all().await;
    for member in &group.members {
        // It tells two different votes in one round, and whatever else contradicts itself.
        let report =
            synod(["verify".as_ref(), member.data_dir.as_os_str(), "--output".as_ref(), "json".as_ref()]).await;
        let report = report.json();
        assert_eq!(
            (&report["whole"], &report["mistakes"]),
            (&Value::Bool(true), &Value::Array(Vec::new())),
            "{report}"
        );
        assert!(report["records"]["vote"].as_u64().unwrap() > 0, "{report}");
    }
}

/// SmartBFT #570: one decision was delivered twice, by synchronisation and by a view change. Here a member that has to
/// catch up wakes up while the view changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smartbft_570_a_decision_learnt_by_catch_up_and_by_a_view_change_is_delivered_once() {
    let mut group = Group::start().await;
    let mut published = Published::default();
    for _ in 0..2 {
        let load = Load::start(&group);
        load.goes_on(&group.everybody(), 30).await;
        let leader = group.leader().await;
        let [behind, third] = group.others(leader)[..] else { unreachable!("a group has three members") };
        let tail = Tail::start(&group.members[behind].unix(), 0).await;
        group.members[behind].signal(Signal::Stop);
        load.goes_on(&[leader, third], 150).await;
        group.members[leader].kill();
        group.members[behind].signal(Signal::Continue);
        load.goes_on(&[behind, third], 50).await;
        group.members[leader].start_and_catch_up().await;
        let now = load.finish().await;
        now.none_failed_at(&[third]);
        published.extend(now);
        let sequence = agree(&group, &group.everybody(), &mut published).await;
        tail.has_every_position_once(sequence.len() as u64).await;
    }
}

/// relt: a reader that was away missed everything sent meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relt_a_reader_that_comes_back_misses_nothing() {
    let mut group = Group::start().await;
    let load = Load::start(&group);
    let mut last = 0;
    for round in 0..5 {
        // Each time at another member; positions are the same everywhere.
        let tail = Tail::start(&group.members[round % 3].client(), last).await;
        load.goes_on(&group.everybody(), 30).await;
        last = tail.leave().await;
        load.goes_on(&group.everybody(), 30).await;
    }
    let mut published = load.finish().await;
    let sequence = agree(&group, &group.everybody(), &mut published).await;
    // Also when the member itself was away.
    group.members[1].stop().await;
    group.members[1].start_and_catch_up().await;
    Tail::start(&group.members[1].client(), last).await.has_every_position_once(sequence.len() as u64).await;
}

/// relt: a slow reader lost messages after one second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relt_a_reader_that_stands_still_for_three_seconds_loses_nothing() {
    let group = Group::start().await;
    let mut lines = group.members[1].client().lines("/v1/messages?after=0").await.unwrap();
    let load = Load::start(&group);
    load.goes_on(&group.everybody(), 20).await;
    assert_eq!(position(&lines.next().await.unwrap().unwrap()), 1);
    // More than what stands in sockets between the two, so that the reader really holds its stream up.
    let padding = "x".repeat(1 << 20);
    let mut fillings = Vec::new();
    let name = publisher_name();
    for number in 0..24 {
        let mut body = format!("{name}/{number} {padding}");
        body.truncate(1 << 20);
        let client = group.members[number % 3].unix();
        fillings.extend(publish(&client, number % 3, body, Ack::Ordered).await);
    }
    passed(Duration::from_secs(3)).await;
    load.goes_on(&group.everybody(), 50).await;
    let mut published = load.finish().await;
    published.none_failed_at(&group.everybody());
    published.add(fillings);
    let sequence = agree(&group, &group.everybody(), &mut published).await;
    for event in &sequence[1..] {
        assert_eq!(position(&lines.next().await.unwrap().unwrap()), event.position);
    }
}

fn position(line: &[u8]) -> u64 {
    serde_json::from_slice::<Value>(line).unwrap()["position"].as_u64().unwrap()
}

/// A reader of an endless stream, which takes every line as it comes.
struct Tail {
    lines: Lines,
    last: u64,
}

impl Tail {
    async fn start(client: &Client, after: u64) -> Tail {
        Tail { lines: client.lines(&format!("/v1/messages?after={after}")).await.unwrap(), last: after }
    }

    async fn take(&mut self) {
        let line = self.lines.next().await.unwrap().expect("it does not end");
        assert_eq!(position(&line), self.last + 1, "every position comes once, in order");
        self.last += 1;
    }

    /// Reads up to a position.
    async fn has_every_position_once(mut self, upto: u64) {
        while self.last < upto {
            self.take().await;
        }
    }

    /// Reads something and goes, in the middle of everything. Gives back the last position it read.
    async fn leave(mut self) -> u64 {
        for _ in 0..40 {
            self.take().await;
        }
        self.last
    }
}
