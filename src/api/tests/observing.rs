//! What is seen of the membership: events in the stream, members, epochs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::member::{LEARNER, Member, OTHER, OWN, Plan, genesis};
use super::membership::ask;
use crate::api::client::Lines;
use crate::types::{
    Certificate, Configuration, Digest, Entry, EntryBody, Epoch, EpochEnd, EpochLink, EpochSnapshot, Genesis,
    GenesisMember, Hlc, Incarnation, MemberId, Position, Round, Seal, Slot, Standing, Tip, View, chain_digest, epoch,
};

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
    member.observe(|snapshot, membership| {
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
        "since_epoch": 0, "joined": 0, "ready": true, "leaving": null, "suspected_by": [OWN],
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
    member.observe(|snapshot, membership| {
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
