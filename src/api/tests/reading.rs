//! `GET /v1/messages`: pages, long polls, tails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::member::{Member, Plan};
use crate::api::client::{Client, Lines};
use crate::types::Ack;

async fn page(client: &Client, query: &str) -> Value {
    client.get_json(&format!("/v1/messages?{query}")).await.unwrap()
}

fn data(page: &Value) -> Vec<&str> {
    page["messages"].as_array().unwrap().iter().map(|event| event["data"].as_str().unwrap()).collect()
}

async fn line(lines: &mut Lines) -> Option<Value> {
    lines.next().await.unwrap().map(|line| serde_json::from_slice(&line).unwrap())
}

async fn position(lines: &mut Lines) -> u64 {
    line(lines).await.unwrap()["position"].as_u64().unwrap()
}

fn numbered(count: usize) -> impl Iterator<Item = String> {
    (1..=count).map(|number| number.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_follow_each_other() {
    for ring_bytes in [0, 1 << 20] {
        let member = Member::planned(Plan { ring_bytes, ..Plan::default() }).await;
        member.publish(numbered(7)).await;
        let client = member.unix();
        let first = page(&client, "limit=3").await;
        assert_eq!((data(&first), &first["next"], &first["head"]), (vec!["1", "2", "3"], &json!(3), &json!(7)));
        assert_eq!(first["messages"][0]["position"], 1);
        let second = page(&client, "after=3").await;
        assert_eq!((data(&second), &second["next"]), (vec!["4", "5", "6", "7"], &json!(7)));
        let end = page(&client, "after=7").await;
        assert_eq!(end, json!({"messages": [], "next": 7, "head": 7}));
        let beyond = page(&client, "after=99").await;
        assert_eq!(beyond, json!({"messages": [], "next": 99, "head": 7}));
        let far = page(&client, &format!("after={}&wait=1ms", u64::MAX)).await;
        assert_eq!(far, json!({"messages": [], "next": u64::MAX, "head": 7}));
        let latest = page(&client, "after=latest").await;
        assert_eq!(latest, json!({"messages": [], "next": 7, "head": 7}));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_leave_gaps_in_what_is_shown_never_in_the_numbering() {
    let member = Member::start().await;
    let client = member.tcp();
    for topic in ["a", "b", "c", "b", "c"] {
        client.publish(topic, Some("text/plain"), Ack::Ordered, Bytes::from(topic)).await.unwrap();
    }
    let some = page(&client, "topic=a&topic=b").await;
    assert_eq!((data(&some), &some["next"]), (vec!["a", "b", "b"], &json!(5)));
    let one = page(&client, "topic=b&limit=1").await;
    assert_eq!((data(&one), &one["next"]), (vec!["b"], &json!(2)));
    let none = page(&client, "topic=nobody").await;
    assert_eq!((data(&none), &none["next"]), (vec![], &json!(5)));
    let mut lines = client.lines("/v1/messages?topic=c&follow=false").await.unwrap();
    assert_eq!((position(&mut lines).await, position(&mut lines).await), (3, 5));
    assert_eq!(line(&mut lines).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_waits_for_the_first_message() {
    let member = Member::start().await;
    let client = member.tcp();
    let waiting = tokio::spawn(async move { page(&client, "after=2&wait=60s&topic=t").await });
    member.publish(numbered(3)).await;
    let found = waiting.await.unwrap();
    assert_eq!((data(&found), &found["next"]), (vec!["3"], &json!(3)));
    let empty = page(&member.tcp(), "after=3&wait=1ms").await;
    assert_eq!(empty, json!({"messages": [], "next": 3, "head": 3}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_goes_on_where_the_order_goes_on() {
    let member = Member::start().await;
    let mut lines = member.unix().lines("/v1/messages").await.unwrap();
    let mut beyond = member.tcp().lines("/v1/messages?after=2").await.unwrap();
    for expected in 1..=4 {
        member.publish([expected.to_string()]).await;
        assert_eq!(position(&mut lines).await, expected);
    }
    assert_eq!((position(&mut beyond).await, position(&mut beyond).await), (3, 4));
    let mut two = member.tcp().lines("/v1/messages?limit=2").await.unwrap();
    assert_eq!((position(&mut two).await, position(&mut two).await), (1, 2));
    assert_eq!(line(&mut two).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pretty_printed_body_stays_on_its_line() {
    let member = Member::start().await;
    let body = Bytes::from("{\r\n  \"text\": \"a\\nb\"\n}");
    member.tcp().publish("t", Some("application/json"), Ack::Ordered, body).await.unwrap();
    let mut lines = member.tcp().lines("/v1/messages?follow=false").await.unwrap();
    assert_eq!(line(&mut lines).await.unwrap()["data"], json!({"text": "a\nb"}));
    assert_eq!(line(&mut lines).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mistake_is_refused_by_name() {
    let member = Member::start().await;
    let client = member.tcp();
    let lines = "application/x-ndjson";
    let cases = [
        ("after=x", "", 400, "bad_parameter", "after"),
        ("after=-1", "", 400, "bad_parameter", "after"),
        ("after=1&after=2", "", 400, "repeated_parameter", "after"),
        ("topic=", "", 400, "bad_parameter", "topic"),
        ("limit=0", "", 400, "bad_parameter", "limit"),
        ("limit=1001", "", 400, "bad_parameter", "1000"),
        ("limit=many", lines, 400, "bad_parameter", "limit"),
        ("wait=30", "", 400, "bad_parameter", "wait"),
        ("wait=61s", "", 400, "bad_parameter", "1m"),
        ("wait=1s", lines, 400, "bad_parameter", "wait"),
        ("follow=false", "", 400, "bad_parameter", "follow"),
        ("follow=maybe", lines, 400, "bad_parameter", "follow"),
        ("since=1", "", 400, "unknown_parameter", "since"),
        ("cursor=billing", "", 501, "not_implemented", "cursor"),
        ("mode=at-most-once", "", 501, "not_implemented", "mode"),
        ("system=no", lines, 400, "bad_parameter", "system"),
        ("", "text/event-stream", 501, "not_implemented", "text/event-stream"),
        ("", "image/png", 406, "not_acceptable", "Accept"),
    ];
    for (query, accept, status, code, named) in cases {
        let path = format!("/v1/messages?{query}");
        let answer = client.send(Method::GET, &path, &[("Accept", accept)], Bytes::new()).await.unwrap();
        let document: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status.as_u16(), document["code"].as_str().unwrap()), (status, code), "{query} {accept}");
        assert!(document["detail"].as_str().unwrap().contains(named), "{document}");
    }
    let headers = [("Last-Event-ID", "x")];
    let answer = client.send(Method::GET, "/v1/messages", &headers, Bytes::new()).await.unwrap();
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_event_id_wins_over_after() {
    let member = Member::start().await;
    member.publish(numbered(3)).await;
    let headers = [("Last-Event-ID", "2")];
    let answer = member.tcp().send(Method::GET, "/v1/messages?after=0", &headers, Bytes::new()).await.unwrap();
    let page: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(data(&page), ["3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_start_is_finished_readers_wait_and_then_are_refused() {
    let plan = Plan { publish_timeout: Duration::from_millis(20), started: false, ..Plan::default() };
    let member = Member::planned(plan).await;
    let answer = member.tcp().send(Method::GET, "/v1/messages", &[], Bytes::new()).await.unwrap();
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, &document["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("starting")));
    member.started.send_replace(true);
    assert_eq!(page(&member.tcp(), "").await["head"], 0);
}

/// Publishes until told to stop; gives back how many.
fn publish_on(member: &Member, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<u64> {
    let client = member.tcp();
    tokio::spawn(async move {
        let mut published = 0;
        while !stop.load(Ordering::Relaxed) {
            client.publish("t", Some("text/plain"), Ack::Ordered, Bytes::from(vec![b'x'; 200])).await.unwrap();
            published += 1;
        }
        published
    })
}

/// relt's first bug: a reader that is away misses what is sent meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_reader_misses_nothing_sent_meanwhile() {
    let member = Member::planned(Plan { ring_bytes: 2000, ..Plan::default() }).await;
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = publish_on(&member, stop.clone());
    let mut last = 0;
    for visit in 0..40 {
        let client = if visit % 2 == 0 { member.tcp() } else { member.unix() };
        let mut lines = client.lines(&format!("/v1/messages?after={last}")).await.unwrap();
        for _ in 0..10 {
            assert_eq!(position(&mut lines).await, last + 1);
            last += 1;
        }
        // Away: the order goes on without it.
        drop(lines);
        member.publish(numbered(2)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let published = publisher.await.unwrap() + 80;
    let mut rest = member.tcp().lines(&format!("/v1/messages?after={last}&follow=false")).await.unwrap();
    while let Some(event) = line(&mut rest).await {
        assert_eq!(event["position"], last + 1);
        last += 1;
    }
    assert_eq!(last, published);
}

/// relt's second bug: a slow reader loses what it does not take at once. And nobody waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_reader_loses_nothing() {
    let member = Member::planned(Plan { ring_bytes: 100_000, ..Plan::default() }).await;
    let mut slow = member.tcp().lines("/v1/messages").await.unwrap();
    let mut quick = member.tcp().lines("/v1/messages").await.unwrap();
    let client = member.tcp();
    let body = Bytes::from(vec![b'x'; 60_000]);
    for expected in 1..=300 {
        // Publishing and the quick reader go on while the slow one takes nothing, far beyond every buffer on its way.
        client.publish("t", Some("text/plain"), Ack::Ordered, body.clone()).await.unwrap();
        assert_eq!(position(&mut quick).await, expected);
    }
    for expected in 1..=300 {
        assert_eq!(position(&mut slow).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_is_closed_and_counted() {
    let member = Member::planned(Plan { reader_stall_max: Duration::from_millis(50), ..Plan::default() }).await;
    let mut stalled = member.tcp().lines("/v1/messages").await.unwrap();
    let client = member.tcp();
    for _ in 0..300 {
        client.publish("t", None, Ack::Ordered, Bytes::from(vec![b'x'; 60_000])).await.unwrap();
    }
    member.until_status("readers_stalled", 1).await;
    // What it gets is a broken answer, without a gap, never one that looks complete.
    let mut expected = 1;
    let broken = loop {
        match stalled.next().await {
            Ok(Some(line)) => assert_eq!(serde_json::from_slice::<Value>(&line).unwrap()["position"], expected),
            Ok(None) => break false,
            Err(_) => break true,
        }
        expected += 1;
    };
    assert!(broken);
    let mut resumed = member.tcp().lines(&format!("/v1/messages?after={}", expected - 1)).await.unwrap();
    assert_eq!(position(&mut resumed).await, expected);
}
