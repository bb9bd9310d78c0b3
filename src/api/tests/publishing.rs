//! `POST /v1/messages`.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::driver::Mood;
use super::member::{MESSAGE_BYTES_MAX, Member, Plan, until};
use crate::api::client::{Answer, Client, ClientError, Receipt};
use crate::types::{Ack, Rejection};

/// Path, headers, body; status, code, and what the detail names.
type Mistake<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a str, u16, &'a str, &'a str);

async fn post(client: &Client, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    client.send(Method::POST, path, headers, body.into()).await.unwrap()
}

fn problem(answer: &Answer) -> Value {
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(document["status"], answer.status.as_u16());
    for member in ["type", "title", "detail", "advice"] {
        assert!(document[member].as_str().is_some_and(|text| !text.is_empty()), "{member} of {document}");
    }
    document
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordered_message_is_answered_with_its_place() {
    let member = Member::start().await;
    for (client, position) in [(member.tcp(), 1), (member.unix(), 2)] {
        let answer = post(&client, "/v1/messages?topic=orders", &[("Content-Type", "application/json")], "{}").await;
        assert_eq!(answer.status, StatusCode::OK);
        let receipt: Value = serde_json::from_slice(&answer.body).unwrap();
        let hlc = receipt["hlc"].as_str().unwrap();
        assert!(hlc.ends_with(&"a7".repeat(16)), "{hlc}");
        let expected = json!({"position": position, "epoch": 0, "hlc": hlc, "ack": "ordered", "duplicate": false});
        assert_eq!(receipt, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accepted_message_is_answered_with_its_identity() {
    let member = Member::start().await;
    let answer = post(&member.tcp(), "/v1/messages?topic=t", &[("Synod-Ack", "accepted")], "x").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let receipt: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(receipt, json!({"id": format!("{}/2/1", "a7".repeat(32)), "ack": "accepted"}));
    let receipt = member.tcp().publish("t", None, Ack::Accepted, Bytes::new()).await.unwrap();
    assert_eq!(receipt, Receipt::Accepted { id: format!("{}/2/2", "a7".repeat(32)) });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mistake_is_refused_by_name() {
    let member = Member::start().await;
    let client = member.tcp();
    let long = "x".repeat(257);
    let long_topic = format!("/v1/messages?topic={long}");
    let long_type = format!("text/{long}");
    let messages = "/v1/messages?topic=t";
    let cases: [Mistake; 24] = [
        ("/v1/messages", vec![], "x", 400, "topic_missing", "topic"),
        ("/v1/messages?topic=", vec![], "x", 400, "bad_parameter", "topic"),
        ("/v1/messages?topic=%FF", vec![], "x", 400, "bad_parameter", "topic"),
        ("/v1/messages?topic=synod.epoch.began", vec![], "x", 400, "bad_parameter", "topic"),
        (&long_topic, vec![], "x", 400, "bad_parameter", "256"),
        ("/v1/messages?topic=a&topic=b", vec![], "x", 400, "repeated_parameter", "topic"),
        ("/v1/messages?topic=t&ack=ordered", vec![], "x", 400, "unknown_parameter", "ack"),
        (messages, vec![("Synod-Ack", "perhaps")], "x", 400, "bad_header", "Synod-Ack"),
        (messages, vec![("Synod-Ack", "ordered"), ("Synod-Ack", "accepted")], "x", 400, "repeated_header", "synod-ack"),
        (messages, vec![("Synod-Priority", "1")], "x", 400, "unknown_header", "synod-priority"),
        (messages, vec![("Content-Type", "application/json")], "{", 400, "bad_json", "JSON"),
        (messages, vec![("Content-Type", "application/a+json")], "", 400, "bad_json", "JSON"),
        (messages, vec![("Content-Type", "nonsense")], "x", 400, "bad_header", "Content-Type"),
        (messages, vec![("Content-Type", &long_type)], "x", 400, "bad_header", "256"),
        (messages, vec![("Content-Encoding", "gzip")], "x", 415, "content_encoding", "Content-Encoding"),
        (messages, vec![("Idempotency-Key", "k")], "x", 501, "not_implemented", "idempotency-key"),
        (messages, vec![("Producer-Id", "p")], "x", 501, "not_implemented", "producer-id"),
        (messages, vec![("Producer-Epoch", "1")], "x", 501, "not_implemented", "producer-epoch"),
        (messages, vec![("Producer-Seq", "1")], "x", 501, "not_implemented", "producer-seq"),
        (messages, vec![("Producer-Group", "1")], "x", 501, "not_implemented", "producer-group"),
        ("/v1/messages", vec![("ce-type", "t")], "x", 501, "not_implemented", "ce-type"),
        (messages, vec![("Content-Type", "application/x-ndjson")], "x", 501, "not_implemented", "application/x-ndjson"),
        (
            messages,
            vec![("Content-Type", "application/cloudevents+json; charset=utf-8")],
            "{}",
            501,
            "not_implemented",
            "application/cloudevents+json",
        ),
        (
            messages,
            vec![("Content-Type", "application/cloudevents-batch+json")],
            "[]",
            501,
            "not_implemented",
            "application/cloudevents-batch+json",
        ),
    ];
    for (path, headers, body, status, code, named) in cases {
        let answer = post(&client, path, &headers, body.to_owned()).await;
        let document = problem(&answer);
        assert_eq!((answer.status.as_u16(), document["code"].as_str().unwrap()), (status, code), "{path} {headers:?}");
        assert!(document["detail"].as_str().unwrap().contains(named), "{document}");
        assert_eq!((&document["retryable"], &document["outcome"]), (&json!(false), &json!("rejected")), "{document}");
    }
    member.publish(["the first".to_owned()]).await;
    member.until_status("delivered", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_the_limit_is_413_and_names_it() {
    let member = Member::start().await;
    let client = member.tcp();
    let most = vec![0; MESSAGE_BYTES_MAX as usize];
    let answer = post(&client, "/v1/messages?topic=t", &[], most.clone()).await;
    assert_eq!(answer.status, StatusCode::OK);
    for size in [MESSAGE_BYTES_MAX + 1, 5_000_000] {
        let answer = post(&client, "/v1/messages?topic=t", &[], vec![0; size as usize]).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
        let document = problem(&answer);
        assert!(document["detail"].as_str().unwrap().contains("`message_bytes_max` is 100000"), "{document}");
        assert_eq!((&document["outcome"], &document["code"]), (&json!("rejected"), &json!("message_too_large")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_outcome_has_its_answer() {
    let member = Member::start().await;
    let client = member.tcp();
    let cases = [
        (Mood::Reject(Rejection::Draining), 503, "draining", true, "rejected"),
        (Mood::Reject(Rejection::IntakeFull { waiting: 9 }), 503, "intake_full", true, "rejected"),
        (Mood::Reject(Rejection::TimedOut { unordered: 9 }), 503, "publish_timeout", true, "rejected"),
        (Mood::Reject(Rejection::DiskFull("no space".to_owned())), 507, "disk_full", true, "rejected"),
        (Mood::Reject(Rejection::TooLarge { bytes: 9, most: 8 }), 413, "message_too_large", false, "rejected"),
        (Mood::Unknown, 504, "outcome_unknown", false, "outcome_unknown"),
    ];
    for (mood, status, code, retryable, outcome) in cases {
        member.mood(mood);
        let answer = post(&client, "/v1/messages?topic=t", &[], "x").await;
        let document = problem(&answer);
        assert_eq!(answer.status.as_u16(), status);
        assert_eq!(document["code"], code);
        assert_eq!(document["retryable"], retryable);
        assert_eq!(document["outcome"], outcome);
        assert_eq!(answer.headers.contains_key("retry-after"), retryable);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_says_nothing_leaves_the_outcome_unknown() {
    let member = Member::planned(Plan { publish_timeout: Duration::from_millis(20), ..Plan::default() }).await;
    member.mood(Mood::Hold);
    let answer = post(&member.tcp(), "/v1/messages?topic=t", &[], "x").await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(problem(&answer)["outcome"], "outcome_unknown");
    assert_eq!(member.tickets.waiting(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_start_is_finished_publishes_wait_and_then_are_refused() {
    let plan = Plan { publish_timeout: Duration::from_millis(20), started: false, ..Plan::default() };
    let member = Member::planned(plan).await;
    let answer = post(&member.tcp(), "/v1/messages?topic=t", &[], "x").await;
    assert_eq!((answer.status, &problem(&answer)["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("starting")));
    assert_eq!(problem(&answer)["outcome"], "rejected");
    member.started.send_replace(true);
    assert_eq!(post(&member.tcp(), "/v1/messages?topic=t", &[], "x").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_publish_at_once() {
    let member = Member::start().await;
    let publishers = (0..40).map(|publisher| {
        let client = if publisher % 2 == 0 { member.tcp() } else { member.unix() };
        tokio::spawn(async move {
            let mut waiting = Vec::new();
            for index in 0..50 {
                let client = client.clone();
                waiting.push(tokio::spawn(async move {
                    let body = Bytes::from(format!("{publisher}.{index}"));
                    match client.publish("t", Some("text/plain"), Ack::Ordered, body).await.unwrap() {
                        Receipt::Ordered { position, .. } => position,
                        other => panic!("{other:?}"),
                    }
                }));
            }
            let mut positions = Vec::new();
            for waiting in waiting {
                positions.push(waiting.await.unwrap());
            }
            positions
        })
    });
    let mut positions = Vec::new();
    for publisher in publishers.collect::<Vec<_>>() {
        positions.extend(publisher.await.unwrap());
    }
    positions.sort_unstable();
    assert_eq!(positions, (1..=2000).collect::<Vec<_>>());
    assert_eq!(member.tickets.waiting(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_who_hangs_up_hurts_nobody() {
    let member = Member::start().await;
    member.mood(Mood::Hold);
    let client = member.tcp();
    let publish = tokio::spawn(async move { client.publish("t", None, Ack::Ordered, Bytes::from("lost")).await });
    until("the publish waits", async || member.tickets.waiting() > 0).await;
    publish.abort();
    member.mood(Mood::Order);
    member.publish(["kept".to_owned()]).await;
    assert_eq!(member.tickets.waiting(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_tells_a_refusal_from_a_broken_connection() {
    let member = Member::start().await;
    member.mood(Mood::Reject(Rejection::Draining));
    let error = member.tcp().publish("t", None, Ack::Ordered, Bytes::new()).await.unwrap_err();
    let ClientError::Refused(problem) = error else { panic!("{error}") };
    assert_eq!((problem.code.as_str(), problem.outcome.as_deref()), ("draining", Some("rejected")));
}
