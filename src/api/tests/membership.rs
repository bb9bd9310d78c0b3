//! What is asked of the membership: invites, leaving, removing, how many vote.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::driver::Mood;
use super::member::{LEARNER, Member, OTHER, OWN, SECRET, WALL, until};
use crate::api::client::{Answer, Client};
use crate::types::join_code::secret_digest;
use crate::types::{Ack, Digest, JoinCode, MemberId, Rejection, Standing, WallTime, limits};

pub(super) async fn ask(client: &Client, method: &str, path: &str, body: &'static str) -> Answer {
    client.send(method.parse().unwrap(), path, &[], Bytes::from(body)).await.unwrap()
}

fn document(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

/// Status and code of a refusal.
fn refusal(answer: &Answer) -> (u16, String) {
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    (answer.status.as_u16(), document(answer)["code"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invite_is_answered_with_a_join_code_once_it_is_ordered() {
    let member = Member::start().await;
    for (position, body, ttl) in [
        (1, "", limits::INVITE_TTL),
        (2, "{}", limits::INVITE_TTL),
        (3, r#"{"ttl": "90s"}"#, Duration::from_secs(90)),
        (4, r#"{"ttl": "168h"}"#, limits::INVITE_TTL_MAX),
    ] {
        let answer = ask(&member.tcp(), "POST", "/v1/invites", body).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.headers["cache-control"], "no-store");
        let invite = document(&answer);
        let expires = WallTime(WALL.0 + ttl.as_nanos() as u64);
        let code = JoinCode::parse(invite["code"].as_str().unwrap()).unwrap();
        assert_eq!(invite["addresses"], json!(code.addresses), "of three members, each with its key behind it");
        assert_eq!(code.addresses[0], "/ip4/127.0.0.1/tcp/1/p2p/a7a7a7a7");
        let addresses = code.addresses.clone();
        assert_eq!(code, JoinCode { cluster: Digest([1; 32]), secret: SECRET, expires, addresses });
        assert_eq!(invite["expires"], expires.to_string());
        assert_eq!(invite["cluster"], "01".repeat(32));
        assert_eq!(invite["position"], position);
        let page: Value = member.tcp().get_json(&format!("/v1/messages?after={}", position - 1)).await.unwrap();
        let event = &page["messages"][0];
        assert_eq!(event["type"], "synod.member.invited");
        let data = json!({"by": OWN, "invite": secret_digest(&SECRET).short(), "expires": expires.to_string()});
        assert_eq!(event["data"], data, "and never the secret");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_code_names_doors_of_several_members() {
    let member = Member::start().await;
    member.observe(|_, membership| {
        for (index, one) in membership.members.iter_mut().enumerate() {
            one.addresses = (0..7).map(|port| format!("/ip4/10.0.0.{index}/tcp/{port}")).collect();
        }
        membership.members[2].leaving = Some(Standing::Left);
    });
    let invite = document(&ask(&member.tcp(), "POST", "/v1/invites", "").await);
    let addresses = invite["addresses"].as_array().unwrap();
    let door = |member: usize, port: usize, key: &str| format!("/ip4/10.0.0.{member}/tcp/{port}/p2p/{key}");
    let doors = [door(0, 0, "a7a7a7a7"), door(1, 0, "b8b8b8b8"), door(0, 1, "a7a7a7a7"), door(1, 1, "b8b8b8b8")];
    assert_eq!((addresses.len(), &addresses[..]), (limits::JOIN_CODE_ADDRESSES, &doors.map(Value::from)[..]));
    member.observe(|_, membership| membership.members.iter_mut().for_each(|one| one.addresses.clear()));
    assert_eq!(refusal(&ask(&member.tcp(), "POST", "/v1/invites", "").await), (409, "no_address".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_many_vote_is_3_5_or_7() {
    let member = Member::start().await;
    let answer = ask(&member.unix(), "PUT", "/v1/voters", r#"{"target": 5}"#).await;
    let changed = document(&answer);
    assert_eq!((answer.status, &changed["target"], &changed["position"]), (StatusCode::OK, &json!(5), &json!(1)));
    let page: Value = member.tcp().get_json("/v1/messages").await.unwrap();
    let event = &page["messages"][0];
    assert_eq!(event["type"], "synod.voters.configured");
    assert_eq!(event["data"], json!({"by": OWN, "voters_target": 5, "limits": null}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_named_by_its_id_its_beginning_or_its_name() {
    let member = Member::start().await;
    for (name, votes) in [(OTHER.to_string(), true), ("B8b8B8b8".to_owned(), true), ("three".to_owned(), false)] {
        let answer = ask(&member.tcp(), "DELETE", &format!("/v1/members/{name}"), "").await;
        let removed = document(&answer);
        assert_eq!(answer.status, StatusCode::OK, "{removed}");
        assert_eq!(removed["member"], json!(if votes { OTHER } else { LEARNER }));
        assert_eq!(removed["name"], if votes { "two" } else { "three" });
        assert!(removed["may_lose"].as_str().unwrap().contains("are not ordered any more"), "{removed}");
        assert_eq!(removed["keeps_vote_until"].is_string(), votes, "{removed}");
    }
    let page: Value = member.tcp().get_json("/v1/messages?after=2").await.unwrap();
    assert_eq!(page["messages"][0]["type"], "synod.member.removed");
    assert_eq!(page["messages"][0]["data"], json!({"by": OWN, "member": LEARNER}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mistake_is_refused_by_name() {
    let member = Member::start().await;
    member.observe(|_, membership| {
        let mut twin = membership.members[1].clone();
        twin.id.0[31] = 0;
        twin.name = "four".to_owned();
        membership.members.push(twin);
        membership.former = vec![(MemberId([0xee; 32]), Standing::Removed)];
    });
    let long: &'static str = Box::leak(format!("{{\"ttl\": \"{}\"}}", "1".repeat(5000)).into_boxed_str());
    let cases = [
        ("POST", "/v1/invites", r#"{"ttl": "169h"}"#, 400, "bad_ttl", "168h"),
        ("POST", "/v1/invites", r#"{"ttl": "0s"}"#, 400, "bad_ttl", "ttl"),
        ("POST", "/v1/invites", r#"{"ttl": "1d"}"#, 400, "bad_duration", "ttl"),
        ("POST", "/v1/invites", r#"{"ttl": 1}"#, 400, "bad_json", "string"),
        ("POST", "/v1/invites", r#"{"tll": "1h"}"#, 400, "bad_json", "tll"),
        ("POST", "/v1/invites", "\u{0}", 400, "bad_json", "body"),
        ("POST", "/v1/invites", long, 413, "body_too_large", "4096"),
        ("POST", "/v1/invites?ttl=1h", "", 400, "unknown_parameter", "ttl"),
        ("POST", "/v1/leave", r#"{"timeout": "soon"}"#, 400, "bad_duration", "timeout"),
        ("POST", "/v1/leave", "[", 400, "bad_json", "body"),
        ("PUT", "/v1/voters", "", 400, "bad_target", "target"),
        ("PUT", "/v1/voters", r#"{"target": 4}"#, 400, "bad_target", "target"),
        ("PUT", "/v1/voters", r#"{"target": 9}"#, 400, "bad_target", "target"),
        ("PUT", "/v1/voters", r#"{"target": "5"}"#, 400, "bad_json", "u32"),
        ("DELETE", "/v1/members/nobody", "", 404, "unknown_member", "nobody"),
        ("DELETE", "/v1/members/b8b8b8", "", 404, "unknown_member", "b8b8b8"),
        ("DELETE", "/v1/members/b8b8b8b8", "", 400, "ambiguous_member", "2 members"),
        ("DELETE", "/v1/members/%ff", "", 400, "bad_path", "UTF-8"),
        ("DELETE", "/v1/members/eeeeeeee", "", 410, "former_member", "eeee"),
        ("DELETE", "/v1/members/one", "", 409, "use_leave", "asked"),
    ];
    for (method, path, body, status, code, named) in cases {
        let answer = ask(&member.tcp(), method, path, body).await;
        assert_eq!(refusal(&answer), (status, code.to_owned()), "{method} {path} {}", document(&answer));
        let document = document(&answer);
        assert!(document["detail"].as_str().unwrap().contains(named), "{document}");
        assert_eq!(document["outcome"], "rejected", "{document}");
    }
    let page: Value = member.tcp().get_json("/v1/messages").await.unwrap();
    assert_eq!(page["head"], 0, "nothing was ordered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_outcome_has_its_answer() {
    let member = Member::start().await;
    member.observe(|snapshot, _| snapshot.peers[0].linked = false);
    let membership = |code| Mood::Reject(Rejection::Membership { code, reason: format!("because of {code}") });
    let cases = [
        (membership("unknown_member"), 404, "unknown_member", "rejected"),
        (membership("former_member"), 410, "former_member", "rejected"),
        (membership("last_voter"), 409, "last_voter", "rejected"),
        (membership("no_quorum"), 503, "no_quorum", "rejected"),
        (membership("bad_target"), 400, "bad_target", "rejected"),
        (membership("busy"), 503, "busy", "rejected"),
        (Mood::Reject(Rejection::Gone("has left")), 503, "gone", "rejected"),
        (Mood::Reject(Rejection::Draining), 503, "draining", "rejected"),
        (Mood::Reject(Rejection::TimedOut { unordered: 3 }), 503, "publish_timeout", "rejected"),
        (Mood::WithoutEffect("it was removed meanwhile"), 409, "without_effect", "rejected"),
        (Mood::Unknown, 504, "outcome_unknown", "outcome_unknown"),
    ];
    for (mood, status, code, outcome) in cases {
        member.mood(mood.clone());
        let answer = ask(&member.tcp(), "DELETE", "/v1/members/two", "").await;
        assert_eq!(refusal(&answer), (status, code.to_owned()));
        let document = document(&answer);
        assert_eq!(document["outcome"], outcome, "{document}");
        let names_missing = ["no_quorum", "publish_timeout", "outcome_unknown"].contains(&code);
        let missing = json!({"needed": 2, "linked": 1, "missing": [{"id": OTHER, "name": "two"}]});
        assert_eq!(document["quorum"], if names_missing { missing } else { Value::Null }, "{document}");
    }
    member.mood(membership("already_leaving"));
    let answer = ask(&member.tcp(), "DELETE", "/v1/members/two", "").await;
    assert_eq!((answer.status, &document(&answer)["position"]), (StatusCode::OK, &Value::Null));
    let answer = ask(&member.tcp(), "POST", "/v1/leave", "").await;
    assert_eq!((answer.status, &document(&answer)["left"]), (StatusCode::ACCEPTED, &json!(false)));
    member.mood(membership("last_voter"));
    assert_eq!(refusal(&ask(&member.tcp(), "POST", "/v1/leave", "").await), (409, "last_voter".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leave_is_answered_when_the_member_may_go() {
    let member = Member::start().await;
    member.mood(Mood::Hold);
    member.observe(|snapshot, _| {
        snapshot.leaving = true;
        snapshot.waits_for = vec!["a learner that is ready".to_owned()];
    });
    let answer = ask(&member.tcp(), "POST", "/v1/leave", r#"{"timeout": "1ms"}"#).await;
    let waits = json!({"left": false, "member": OWN, "waits_for": ["a learner that is ready"]});
    assert_eq!((answer.status, document(&answer)), (StatusCode::ACCEPTED, waits));
    assert_eq!(member.tickets.waiting(), 0, "nobody waits, and the wish stays");
    let status: Value = member.tcp().get_json("/v1/status").await.unwrap();
    assert_eq!(
        (&status["waits_for"], &status["warnings"]),
        (&json!(["a learner that is ready"]), &json!(["see to it"]))
    );
    member.observe(|snapshot, _| {
        snapshot.leaving = true;
        snapshot.peers.iter_mut().for_each(|peer| peer.linked = false);
    });
    let status: Value = member.tcp().get_json("/v1/status").await.unwrap();
    assert_eq!(status["waits_for"], json!(["a quorum: 1 of the 2 voters that it takes are in touch"]));
    let client = member.unix();
    let leaving = tokio::spawn(async move { ask(&client, "POST", "/v1/leave", "").await });
    until("the leave waits", async || member.tickets.waiting() > 0).await;
    member.mood(Mood::Order);
    let answer = leaving.await.unwrap();
    let left = json!({"left": true, "member": OWN, "waits_for": []});
    assert_eq!((answer.status, document(&answer)), (StatusCode::OK, left));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_the_wait_of_a_leave() {
    let mut member = Member::start().await;
    member.mood(Mood::Hold);
    let client = member.tcp();
    let leaving = tokio::spawn(async move { ask(&client, "POST", "/v1/leave", "").await });
    until("the leave waits", async || member.tickets.waiting() > 0).await;
    member.stop.send_replace(true);
    let answer = leaving.await.unwrap();
    assert_eq!(refusal(&answer), (503, "stopping".to_owned()));
    assert_eq!(document(&answer)["outcome"], "outcome_unknown");
    (&mut member.serving).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaver_publishes_no_more() {
    let member = Member::start().await;
    member.mood(Mood::Reject(Rejection::Gone("is leaving")));
    let answer = member.tcp().send(Method::POST, "/v1/messages?topic=t", &[], Bytes::new()).await.unwrap();
    assert_eq!(refusal(&answer), (503, "gone".to_owned()));
    member.mood(Mood::Order);
    member.tcp().publish("t", None, Ack::Ordered, Bytes::new()).await.unwrap();
}
