//! SIGTERM: what runs is finished, what comes is refused, whoever leads hands over.

use std::ffi::OsString;
use std::time::Duration;

use synod::types::Ack;

use super::harness::load::{Fate, publish, publisher_name};
use super::harness::member::Signal;
use super::harness::sequence::agree;
use super::harness::wait::passed;
use super::harness::{Group, Load, Published, synod, until};

/// Publishers that a [`Load`] has at each member.
const PUBLISHERS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_told_to_stop_finishes_hands_over_and_leaves_with_code_0() {
    stops_under_load(async |group| group.leader().await, Signal::Terminate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_told_to_stop_finishes_and_leaves_with_code_0() {
    stops_under_load(async |group| group.follower().await, Signal::Interrupt).await;
}

async fn stops_under_load(choose: impl AsyncFn(&Group) -> usize, signal: Signal) {
    let mut group = Group::start().await;
    let load = Load::start(&group);
    load.goes_on(&group.everybody(), 50).await;
    let leaving = choose(&group).await;
    let others = group.others(leaving);
    let mut tail = group.members[leaving].client().lines("/v1/messages?after=0").await.unwrap();
    let reader = tokio::spawn(async move {
        let mut positions = 0;
        while let Some(line) = tail.next().await.expect("the stream ends in order") {
            let event: serde_json::Value = serde_json::from_slice(&line).unwrap();
            positions += 1;
            assert_eq!(event["position"], positions);
        }
        positions
    });
    group.members[leaving].signal(signal);
    let status = group.members[leaving].ended().await;
    assert_eq!(status.code(), Some(0), "{}", group.members[leaving].log());
    assert!(reader.await.unwrap() > 0);
    load.goes_on(&others, 100).await;
    group.members[leaving].start_and_catch_up().await;
    load.goes_on(&group.everybody(), 50).await;
    let mut published = load.finish().await;
    published.none_failed_at(&others);
    every_request_was_answered(&published, leaving);
    agree(&group, &group.everybody(), &mut published).await;
}

/// A request that meets the closing of its idle connection gets no answer; each publisher may meet that once.
fn every_request_was_answered(published: &Published, leaving: usize) {
    let here = || published.iter().filter(|sent| sent.member == leaving);
    let unknown: Vec<&String> = here()
        .filter_map(|sent| match &sent.fate {
            Fate::Unknown { why } => Some(why),
            _ => None,
        })
        .collect();
    assert!(unknown.len() <= PUBLISHERS, "{unknown:?}");
    assert!(unknown.iter().all(|why| why.contains("broke")), "{unknown:?}");
    let refused = here().filter_map(|sent| match &sent.fate {
        Fate::Rejected { why } => Some(why),
        _ => None,
    });
    refused.for_each(|why| assert!(why.contains("draining") || why.contains("stopping"), "{why}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_a_quorum_leaves_when_told_and_offers_what_it_accepted_again() {
    let mut group = Group::start().await;
    let mut published = Published::default();
    agree(&group, &group.everybody(), &mut published).await;
    group.members[0].kill();
    group.members[1].kill();
    let client = group.members[2].unix();
    let body = publisher_name() + "/0";
    let sent = publish(&client, 2, body, Ack::Accepted).await.unwrap();
    assert!(matches!(sent.fate, Fate::Accepted { .. }), "{sent:?}");
    published.add([sent]);
    group.members[2].signal(Signal::Terminate);
    until("it drains", async || group.members[2].log().contains("draining").then_some(())).await;
    // A second signal, a while after the first, ends the wait.
    passed(Duration::from_millis(1500)).await;
    group.members[2].stop().await;
    group.start_all().await;
    agree(&group, &group.everybody(), &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_drained_hands_over_and_goes_on_reading_and_voting() {
    let mut group = Group::start().await;
    let load = Load::start(&group);
    load.goes_on(&group.everybody(), 50).await;
    let drained = group.leader().await;
    let (config, others) = (group.members[drained].config.clone(), group.others(drained));
    let command = |arguments: &[&str]| {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        synod(arguments.into_iter().chain(["--config".into(), config.clone().into_os_string()]))
    };
    assert_eq!(command(&["status", "--probe", "readyz", "--output", "json"]).await.json()["status"], "ready");
    let answer = command(&["drain", "--output", "json"]).await.json();
    assert_eq!(answer, serde_json::json!({"drained": true, "waits_for": []}));
    command(&["status", "--probe", "readyz"]).await.refused(1, &["not_ready", "draining"]);
    for probe in ["livez", "startupz"] {
        assert_eq!(command(&["status", "--probe", probe]).await.code, Some(0), "{probe}");
    }
    // Two of three decide only as long as the drained one votes.
    let (leading, killed) = (group.leader().await, group.others(drained)[0]);
    assert_ne!(leading, drained);
    let remaining = others[1];
    group.members[killed].kill();
    load.goes_on(&[remaining], 100).await;
    let position = group.members[remaining].status().await["delivered"].as_u64().unwrap();
    until("the drained one reads on", async || {
        (group.members[drained].status().await["delivered"].as_u64().unwrap() >= position).then_some(())
    })
    .await;
    assert_ne!(group.leader().await, drained);
    group.members[drained].stop().await;
    group.start_all().await;
    let mut published = load.finish().await;
    every_request_was_answered(&published, drained);
    agree(&group, &group.everybody(), &mut published).await;
}
