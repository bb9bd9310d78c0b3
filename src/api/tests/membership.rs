//! Who is a member and who votes: what is asked for, what is seen of it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::member::{
    LEARNER, Member, Mood, OTHER, OWN, Plan, SECRET, WALL, genesis, membership, observation, snapshot, until,
};
use crate::api::client::{Answer, Client, Lines};
use crate::types::join_code::secret_digest;
use crate::types::{
    Ack, Certificate, Configuration, Digest, Entry, EntryBody, Epoch, EpochEnd, EpochLink, EpochSnapshot, Genesis,
    GenesisMember, Hlc, Incarnation, JoinCode, MemberId, MembershipSnapshot, Position, Rejection, Round, Seal, Slot,
    Snapshot, Standing, Tip, View, WallTime, chain_digest, epoch, limits,
};

async fn ask(client: &Client, method: &str, path: &str, body: &'static str) -> Answer {
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

fn with(member: &Member, change: impl FnOnce(&mut Snapshot, &mut MembershipSnapshot)) {
    let (mut snapshot, mut membership) = (snapshot(), membership());
    change(&mut snapshot, &mut membership);
    snapshot.membership = Arc::new(membership);
    member.observed.send_replace(Some(observation(snapshot)));
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
        let addresses = vec!["/ip4/127.0.0.1/tcp/1".to_owned()];
        assert_eq!(code, JoinCode { cluster: Digest([1; 32]), secret: SECRET, expires, addresses });
        assert_eq!(invite["expires"], expires.to_string());
        assert_eq!(invite["cluster"], "01".repeat(32));
        assert_eq!(invite["addresses"], json!(["/ip4/127.0.0.1/tcp/1"]));
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
    with(&member, |_, membership| {
        for (index, one) in membership.members.iter_mut().enumerate() {
            one.addresses = (0..7).map(|port| format!("/ip4/10.0.0.{index}/tcp/{port}")).collect();
        }
        membership.members[2].leaving = Some(Standing::Left);
    });
    let invite = document(&ask(&member.tcp(), "POST", "/v1/invites", "").await);
    let addresses = invite["addresses"].as_array().unwrap();
    assert_eq!(addresses.len(), limits::ADDRESSES_MAX);
    assert_eq!(addresses[..3], ["/ip4/10.0.0.0/tcp/0", "/ip4/10.0.0.1/tcp/0", "/ip4/10.0.0.0/tcp/1"]);
    with(&member, |_, membership| membership.members.iter_mut().for_each(|one| one.addresses.clear()));
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
    with(&member, |_, membership| {
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
    with(&member, |snapshot, _| snapshot.peers[0].linked = false);
    let membership = |code| Mood::Reject(Rejection::Membership { code, reason: format!("because of {code}") });
    let cases = [
        (membership("unknown_member"), 404, "unknown_member", "rejected"),
        (membership("former_member"), 410, "former_member", "rejected"),
        (membership("last_voter"), 409, "last_voter", "rejected"),
        (membership("no_quorum"), 503, "no_quorum", "rejected"),
        (membership("bad_target"), 400, "bad_target", "rejected"),
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
    member.mood(membership("last_voter"));
    assert_eq!(refusal(&ask(&member.tcp(), "POST", "/v1/leave", "").await), (409, "last_voter".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leave_is_answered_when_the_member_may_go() {
    let member = Member::start().await;
    member.mood(Mood::Hold);
    with(&member, |snapshot, _| {
        snapshot.leaving = true;
        snapshot.waits_for = vec!["a learner that is ready".to_owned()];
    });
    let answer = ask(&member.tcp(), "POST", "/v1/leave", r#"{"timeout": "1ms"}"#).await;
    let waits = json!({"left": false, "member": OWN, "leaving": true, "waits_for": ["a learner that is ready"]});
    assert_eq!((answer.status, document(&answer)), (StatusCode::ACCEPTED, waits));
    assert_eq!(member.tickets.waiting(), 0, "nobody waits, and the wish stays");
    let status: Value = member.tcp().get_json("/v1/status").await.unwrap();
    assert_eq!(status["waits_for"], json!(["a learner that is ready"]));
    let client = member.unix();
    let leaving = tokio::spawn(async move { ask(&client, "POST", "/v1/leave", "").await });
    until("the leave waits", async || member.tickets.waiting() > 0).await;
    member.mood(Mood::Order);
    let answer = leaving.await.unwrap();
    let left = json!({"left": true, "member": OWN, "leaving": true, "waits_for": []});
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

/// A message, a command, the end of an epoch, a message: at positions 1 to 4.
async fn eventful() -> Member {
    let member = Member::start().await;
    member.publish(["1".to_owned()]).await;
    assert_eq!(ask(&member.tcp(), "DELETE", "/v1/members/two", "").await.status, StatusCode::OK);
    let voters = vec![OWN, LEARNER];
    member.end_epoch(Configuration { epoch: Epoch(1), voters, ..genesis().configuration() });
    member.until_status("delivered", 3).await;
    member.publish(["4".to_owned()]).await;
    member
}

async fn positions(mut lines: Lines) -> Vec<u64> {
    let mut positions = Vec::new();
    while let Some(line) = lines.next().await.unwrap() {
        positions.push(serde_json::from_slice::<Value>(&line).unwrap()["position"].as_u64().unwrap());
    }
    positions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_to_the_group_is_in_the_stream() {
    let member = eventful().await;
    let page: Value = member.tcp().get_json("/v1/messages").await.unwrap();
    let kinds: Vec<&str> =
        page["messages"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["t", "synod.member.removed", "synod.epoch.began", "t"]);
    let began = &page["messages"][2];
    assert_eq!(began["source"], format!("synod:{}", genesis().cluster()));
    let voters = [OWN, LEARNER];
    let expected = json!({"epoch": 1, "voters": voters, "voters_target": 3, "joined": [LEARNER], "gone": [OTHER]});
    assert_eq!(began["data"], expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_system_events_positions_stay_as_they_are() {
    let member = eventful().await;
    let client = member.tcp();
    let page = async |query: &str| {
        let page: Value = client.get_json(&format!("/v1/messages?{query}")).await.unwrap();
        let positions = page["messages"].as_array().unwrap().iter().map(|event| event["position"].as_u64().unwrap());
        (positions.collect::<Vec<_>>(), page["next"].as_u64().unwrap())
    };
    assert_eq!(page("system=true").await, (vec![1, 2, 3, 4], 4));
    assert_eq!(page("system=false").await, (vec![1, 4], 4));
    assert_eq!(page("system=false&limit=1").await, (vec![1], 1));
    assert_eq!(page("system=false&after=1&limit=1").await, (vec![4], 4));
    assert_eq!(page("topic=synod.epoch.began").await, (vec![3], 4));
    assert_eq!(page("topic=synod.epoch.began&topic=t&system=false").await, (vec![1, 4], 4));
    let lines = async |query: &str| {
        let path = format!("/v1/messages?follow=false&{query}");
        positions(client.lines(&path).await.unwrap()).await
    };
    assert_eq!(lines("").await, [1, 2, 3, 4]);
    assert_eq!(lines("system=false").await, [1, 4]);
    assert_eq!(lines("system=false&limit=1&after=1").await, [4]);
    assert_eq!(lines("topic=synod.member.removed").await, [2]);
    // A long poll passes over them and goes on waiting.
    let poll = tokio::spawn({
        let client = client.clone();
        async move { client.get_json::<Value>("/v1/messages?after=4&wait=60s&system=false").await.unwrap() }
    });
    assert_eq!(ask(&client, "PUT", "/v1/voters", r#"{"target": 5}"#).await.status, StatusCode::OK);
    member.publish(["6".to_owned()]).await;
    let found = poll.await.unwrap();
    assert_eq!((&found["messages"][0]["position"], &found["next"]), (&json!(6), &json!(6)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_members_are_told_with_what_is_known_of_each() {
    let member = Member::start().await;
    let silent = MemberId([0xdd; 32]);
    with(&member, |snapshot, membership| {
        let mut learner = snapshot.peers[0].clone();
        learner.member = LEARNER;
        learner.linked = false;
        snapshot.peers.push(learner);
        snapshot.waits_for = vec!["a fifth member".to_owned()];
        membership.members[1].incarnation = Incarnation(4);
        membership.members[1].suspected_by = vec![OWN];
        membership.members[2].since = Epoch(2);
        membership.members[2].joined = Position(77);
        membership.members[2].ready = true;
        membership.members[2].leaving = Some(Standing::Left);
        let mut unheard = membership.members[2].clone();
        unheard.id = silent;
        membership.members.push(unheard);
        membership.former = vec![(MemberId([0xee; 32]), Standing::Removed)];
        membership.invites = 2;
    });
    let members: Value = member.tcp().get_json("/v1/members").await.unwrap();
    for (name, expected) in [
        ("epoch", json!(0)),
        ("established", json!(0)),
        ("leader", json!(OWN)),
        ("quorum", json!(2)),
        ("voters_target", json!(3)),
        ("invites", json!(2)),
        ("waits_for", json!(["a fifth member"])),
        ("former", json!([{"id": "ee".repeat(32), "standing": "removed"}])),
        ("reachability", json!({OWN.to_string(): [OTHER], OTHER.to_string(): [OWN]})),
    ] {
        assert_eq!(members[name], expected, "{name}");
    }
    let expected = json!({
        "id": OTHER, "name": "two", "self": false, "role": "voter", "leader": false, "incarnation": 5,
        "since_epoch": 0, "joined": 0, "ready": false, "leaving": null, "suspected_by": [OWN],
        "addresses": ["/ip4/127.0.0.1/tcp/1"], "linked": true, "last_seen": 0.04, "slot_decided": 9, "slot_lag": 3,
    });
    assert_eq!(members["members"][1], expected);
    let learner = &members["members"][2];
    let of_learner = ["role", "since_epoch", "joined", "ready", "leaving", "linked"].map(|name| learner[name].clone());
    assert_eq!(of_learner, [json!("learner"), json!(2), json!(77), json!(true), json!("left"), json!(false)]);
    assert_eq!(members["members"][3]["last_seen"], Value::Null);
    assert_eq!(members["members"][0]["last_seen"], 0.0);
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

/// A group of three with real keys.
fn provable() -> Genesis {
    let id = |number| MemberId(key(number).verifying_key().to_bytes());
    let member = |number| GenesisMember { name: format!("n{number}"), id: id(number), addresses: Vec::new() };
    Genesis { members: (1..=3).map(member).collect(), ..genesis() }
}

/// The end of epoch 0, signed by the first two.
fn proof(genesis: &Genesis, next: &Configuration) -> EpochLink {
    let before = genesis.configuration();
    let entry = Entry { hlc: Hlc(5), body: EntryBody::EpochEnd(EpochEnd { next: next.clone() }) }.encode();
    let (parent, slot) = (Digest([9; 32]), Slot(4));
    let round = Round { epoch: Epoch(0), view: View(2) };
    let tip = Tip { round, slot, digest: chain_digest(&before.cluster, &parent, slot, &entry) };
    let sign = |number: u8| {
        let seal = Seal::sign(&key(number), &before, &tip, next.digest());
        (MemberId(key(number).verifying_key().to_bytes()), seal.signature)
    };
    let mut votes = vec![sign(1), sign(2)];
    votes.sort_unstable();
    EpochLink { parent, entry, certificate: Certificate { tip, votes } }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_epochs_are_told_with_all_that_a_proof_needs() {
    let group = provable();
    let mut next = Configuration { epoch: Epoch(1), ..group.configuration() };
    next.voters.rotate_left(1);
    let link = proof(&group, &next);
    let member = Member::planned(Plan { genesis: group.clone(), ..Plan::default() }).await;
    with(&member, |snapshot, membership| {
        snapshot.cluster = group.cluster();
        let first = EpochSnapshot { configuration: group.configuration(), ..membership.epochs[0].clone() };
        let second = EpochSnapshot {
            configuration: next.clone(),
            began: Position(41),
            slot: Slot(4),
            proof: Some(link.clone()),
        };
        membership.epochs = vec![first, second];
        membership.configuration = next.clone();
    });
    let told: Value = member.tcp().get_json("/v1/epochs").await.unwrap();
    let decoded = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    let genesis: Genesis = minicbor::decode(&decoded(&told["genesis"])).unwrap();
    assert_eq!(told["cluster"], json!(genesis.cluster()));
    assert_eq!(told["epoch"], 1);
    let rows = told["epochs"].as_array().unwrap();
    let links: Vec<EpochLink> =
        rows.iter().skip(1).map(|row| minicbor::decode(&decoded(&row["link"])).unwrap()).collect();
    assert_eq!(epoch::verify_chain(&genesis, &links).unwrap(), [group.configuration(), next.clone()]);
    assert_eq!((&rows[0]["established"], &rows[1]["established"]), (&json!(true), &json!(false)));
    assert!(rows[0].get("link").is_none() && rows[0].get("certificate").is_none(), "{}", rows[0]);
    let certificate = &link.certificate;
    let expected = json!({
        "epoch": 1,
        "began": 41,
        "slot": 4,
        "voters": next.voters,
        "voters_target": 3,
        "quorum": 2,
        "configuration": next.digest(),
        "established": false,
        "link": rows[1]["link"],
        "parent": "09".repeat(32),
        "entry": STANDARD.encode(&link.entry),
        "certificate": {
            "round": {"epoch": 0, "view": 2},
            "slot": 4,
            "digest": certificate.tip.digest,
            "signatures": [
                {"voter": certificate.votes[0].0, "signature": STANDARD.encode(certificate.votes[0].1.0)},
                {"voter": certificate.votes[1].0, "signature": STANDARD.encode(certificate.votes[1].1.0)},
            ],
        },
    });
    assert_eq!(rows[1], expected);
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
