//! Members come and go, under load: nothing is lost, nothing is doubled, and no publish through the others fails.

use std::fs;

use serde_json::{Value, json};
use synod::types::join_code::{JoinCode, SECRET_BYTES};
use synod::types::{Ack, Digest, WallTime};

use super::harness::load::publish_last;
use super::harness::loads::Loads;
use super::harness::member::{Member, Signal};
use super::harness::program::{self, synod_with_input};
use super::harness::sequence::{agree, agree_without};
use super::harness::{Group, Published, synod, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_become_five_and_three_again() {
    let mut group = Group::start().await;
    let mut loads = Loads::start(&group, &[0, 1, 2]);
    loads.go_on(50).await;
    for at in [0, 1] {
        let newcomer = group.join(at).await;
        loads.add(&group, newcomer);
    }
    group.until_votes(0, &[0, 1, 2]).await;
    group.voters(2, 5).await;
    group.until_votes(3, &[0, 1, 2, 3, 4]).await;
    loads.go_on(50).await;
    group.voters(1, 3).await;
    loads.go_on(50).await;
    let voters = group.votes(0).await;
    let leavers: Vec<usize> = (0..5).filter(|index| !voters.contains(&group.members[*index].name)).collect();
    for leaver in leavers.iter().copied() {
        loads.stop(leaver).await;
        group.leave(leaver).await;
    }
    loads.go_on(50).await;
    let mut published = loads.finish().await;
    let stayed: Vec<usize> = (0..5).filter(|index| !leavers.contains(index)).collect();
    agree_without(&group, &stayed, &leavers, &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_original_member_is_replaced_until_none_is_left() {
    let mut group = Group::start().await;
    let mut loads = Loads::start(&group, &[0, 1, 2]);
    for leaver in 0..3 {
        loads.go_on(30).await;
        let newcomer = group.join((leaver + 1) % 3 + if leaver == 2 { 3 } else { 0 }).await;
        loads.add(&group, newcomer);
        loads.stop(leaver).await;
        group.leave(leaver).await;
        let voters: Vec<usize> = (leaver + 1..leaver + 4).collect();
        group.until_votes(newcomer, &voters).await;
    }
    loads.go_on(30).await;
    let mut published = loads.finish().await;
    let sequence = agree_without(&group, &[3, 4, 5], &[0, 1, 2], &mut published).await;
    for (kind, count) in [("synod.member.joined", 3), ("synod.member.left", 3), ("synod.epoch.began", 3)] {
        let found = sequence.iter().filter(|event| event.kind == kind).count();
        assert_eq!(found, count, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_sleeps_through_three_epochs_is_of_the_present_one_when_it_wakes() {
    let mut group = Group::start().await;
    let mut loads = Loads::start(&group, &[0, 1, 2]);
    loads.go_on(30).await;
    group.members[2].kill();
    loads.abandon(2).await;
    // Whom it knew is gone for good, at addresses where nobody is any more.
    for (leaver, at, voters) in [(0, 1, [1, 2, 3]), (1, 3, [2, 3, 4]), (3, 4, [2, 4, 5])] {
        let newcomer = group.join(at).await;
        loads.add(&group, newcomer);
        loads.stop(leaver).await;
        group.leave(leaver).await;
        group.until_votes(newcomer, &voters).await;
        loads.go_on(30).await;
    }
    group.members[2].start_and_catch_up().await;
    assert_eq!(group.members[2].status().await["epoch"], 3);
    loads.add(&group, 2);
    loads.go_on(30).await;
    let mut published = loads.finish().await;
    let sequence = agree_without(&group, &[2, 4, 5], &[0, 1, 3], &mut published).await;
    assert_eq!(sequence.iter().filter(|event| event.kind == "synod.epoch.began").count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_is_removed_while_it_is_down_learns_it_when_it_starts() {
    let mut group = Group::start().await;
    let learner = group.join(0).await;
    let mut loads = Loads::start(&group, &[0, 1, 2, learner]);
    loads.go_on(30).await;
    group.members[2].kill();
    loads.abandon(2).await;
    group.remove(2, 0).await;
    group.until_votes(learner, &[0, 1, learner]).await;
    loads.go_on(30).await;
    group.members[2].start();
    group.members[2].refuses(71, &["was removed from the group"]).await;
    let mut published = loads.finish().await;
    agree(&group, &[0, 1, learner], &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_changes_no_membership() {
    let mut group = Group::start().await;
    let learner = group.join(0).await;
    let mut loads = Loads::start(&group, &[0, 1, 2, learner]);
    for restarted in [0, 1, 2, learner] {
        loads.go_on(30).await;
        loads.stop(restarted).await;
        group.members[restarted].stop().await;
        loads.go_on(30).await;
        group.members[restarted].start_and_catch_up().await;
        loads.add(&group, restarted);
    }
    group.until_votes(learner, &[0, 1, 2]).await;
    let mut published = loads.finish().await;
    agree(&group, &[0, 1, 2, learner], &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_leaves() {
    let mut group = Group::start().await;
    let newcomer = group.join(0).await;
    let leader = group.leader().await;
    let mut loads = Loads::start(&group, &[0, 1, 2, newcomer]);
    loads.go_on(50).await;
    loads.stop(leader).await;
    group.leave(leader).await;
    loads.go_on(50).await;
    let stayed = group.others(leader);
    group.until_votes(newcomer, &stayed).await;
    let mut published = loads.finish().await;
    agree_without(&group, &stayed, &[leader], &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_lost_its_disk_is_replaced_and_removed() {
    let mut group = Group::found().await;
    for member in &group.members {
        member.edit(|config| config.replace("# replace_after = \"5m\"", "replace_after = \"5s\""));
    }
    group.start_all().await;
    let mut loads = Loads::start(&group, &[0, 1, 2]);
    loads.go_on(50).await;
    let newcomer = group.join(0).await;
    loads.add(&group, newcomer);
    group.members[2].kill();
    fs::remove_dir_all(&group.members[2].data_dir).unwrap();
    loads.abandon(2).await;
    group.until_votes(newcomer, &[0, 1, newcomer]).await;
    let socket = group.members[0].socket.to_str().unwrap().to_owned();
    synod(["remove", "n3", "--api", &socket]).await.refused(2, &["n3", "may be lost", "--yes"]);
    let removed = synod(["remove", "n3", "--yes", "--api", &socket, "--output", "json"]).await.json();
    assert_eq!(removed["name"], "n3", "{removed}");
    until("it is no member any more", async || (group.members_at(0).await == 3).then_some(())).await;
    synod(["remove", "n3", "--yes", "--api", &socket]).await.refused(1, &["unknown_member", "n3"]);
    loads.go_on(50).await;
    let mut published = loads.finish().await;
    agree(&group, &[0, 1, newcomer], &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_is_interrupted_goes_on_under_another_address() {
    let mut group = Group::start().await;
    let mut published = publish_last(&group, &[0, 1, 2]).await;
    let code = group.invite(1).await;
    let newcomer = group.prepare();
    for _ in 0..2 {
        group.members[newcomer].join(&code);
        let key = group.members[newcomer].data_dir.join("member.key");
        until("it has a key", async || key.exists().then_some(())).await;
        group.members[newcomer].kill();
    }
    let [api, mesh] = group.spare_addresses();
    group.members[newcomer].moved(api, mesh);
    group.members[newcomer].join(&code);
    group.members[newcomer].ready().await;
    agree(&group, &[0, 1, 2, newcomer], &mut published).await;
    // Once it is a member it needs no code.
    group.members[newcomer].stop().await;
    group.members[newcomer].start_and_catch_up().await;
    agree(&group, &[0, 1, 2, newcomer], &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_good_code_nobody_gets_in_and_is_told_why() {
    let mut group = Group::start().await;
    let newcomer = group.prepare();
    let refuse = async |group: &mut Group, code: &str, exit: i32, parts: &[&str]| {
        group.members[newcomer].join(code);
        group.members[newcomer].refuses(exit, parts).await;
    };
    refuse(&mut group, "hello", 2, &["synod-join-"]).await;
    let code = group.invite(0).await;
    refuse(&mut group, &code[..code.len() - 2], 2, &["damaged"]).await;
    let read = JoinCode::parse(&code).unwrap();
    let forged = JoinCode { secret: [9; SECRET_BYTES], ..read.clone() };
    refuse(&mut group, &forged.text(), 77, &["unknown_invite"]).await;
    let foreign = JoinCode { cluster: Digest([7; 32]), ..read.clone() };
    refuse(&mut group, &foreign.text(), 77, &["foreign_cluster"]).await;
    let socket = group.members[0].socket.to_str().unwrap().to_owned();
    let short = synod(["invite", "--ttl", "1s", "--api", &socket, "--output", "json"]).await.json();
    let expires = JoinCode::parse(short["code"].as_str().unwrap()).unwrap().expires;
    until("the code has expired", async || (now() > expires).then_some(())).await;
    refuse(&mut group, short["code"].as_str().unwrap(), 77, &["expired_invite"]).await;
    group.members[newcomer].join(&code);
    group.members[newcomer].ready().await;
    let another = group.prepare();
    group.members[another].join(&code);
    group.members[another].refuses(77, &["used_invite"]).await;
}

fn now() -> WallTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    WallTime(since.as_nanos() as u64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_need_not_stand_on_the_command_line() {
    let mut group = Group::start().await;
    let code = group.invite(0).await;
    let by_input = group.prepare();
    group.members[by_input].join_by_input(&code);
    group.members[by_input].ready().await;
    let by_variable = group.prepare();
    let mut command = program::command();
    command.env("SYNOD_JOIN", group.invite(1).await);
    group.members[by_variable].start_by(command);
    group.members[by_variable].ready().await;
    let another = group.prepare();
    let config = group.members[another].config.to_str().unwrap();
    for (input, exit, word) in [("hello", 2, "synod-join-"), ("", 2, "synod invite"), (&code, 77, "used_invite")] {
        let ended = synod_with_input(["join", "-", "--output", "json", "--config", config], input).await;
        let told: Value = serde_json::from_str(ended.stderr.lines().last().unwrap()).unwrap();
        assert_eq!((ended.code, &told["exit"]), (Some(exit), &json!(exit)), "{ended:?}");
        assert!(told["error"].as_str().unwrap().contains(word), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_without_a_quorum_changes_nothing_and_says_so() {
    let mut group = Group::start().await;
    let mut published = publish_last(&group, &[0, 1, 2]).await;
    let code = group.invite(0).await;
    let newcomer = group.prepare();
    group.members[1].kill();
    group.members[2].kill();
    let socket = group.members[0].socket.to_str().unwrap().to_owned();
    until("the loss is noticed", async || {
        (group.members[0].try_status().await?["quorum"]["linked"] == 1).then_some(())
    })
    .await;
    group.members[newcomer].join(&code);
    group.members[newcomer].refuses(69, &["no_quorum", "asking again"]).await;
    synod(["voters", "5", "--api", &socket]).await.refused(1, &["no_quorum"]);
    synod(["remove", "n2", "--yes", "--api", &socket]).await.refused(1, &["no_quorum"]);
    group.members[1].start();
    group.members[2].start();
    for member in &mut group.members[..3] {
        member.ready().await;
    }
    group.members[newcomer].join(&code);
    group.members[newcomer].ready().await;
    agree(&group, &[0, 1, 2, newcomer], &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_with_the_key_of_a_member_is_found_out() {
    let mut group = Group::start().await;
    let mut published = publish_last(&group, &[0, 1, 2]).await;
    let code = group.invite(0).await;
    let newcomer = group.prepare();
    fs::copy(group.members[2].data_dir.join("member.key"), group.members[newcomer].data_dir.join("member.key"))
        .unwrap();
    group.members[newcomer].join(&code);
    group.members[newcomer].refuses(73, &["exit=73"]).await;
    agree(&group, &[0, 1], &mut published).await;
    // Who meets two processes of one key stops both; the honest one may come back.
    group.members[2].kill();
    group.members[2].start_and_catch_up().await;
    agree(&group, &[0, 1, 2], &mut published).await;
    // The code was not used up by it.
    let honest = group.prepare();
    group.members[honest].join(&code);
    group.members[honest].ready().await;
    agree(&group, &[0, 1, 2, honest], &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_possible_voter_waits_and_leaves_when_another_can_vote() {
    let mut group = Group::start().await;
    let socket = group.members[2].socket.to_str().unwrap().to_owned();
    let mut loads = Loads::start(&group, &[0, 1, 2]);
    let waiting = synod(["leave", "--timeout", "1s", "--api", &socket, "--output", "json"]).await;
    assert_eq!(waiting.code, Some(1), "{waiting:?}");
    let waiting: Value = serde_json::from_str(&waiting.stdout).unwrap();
    assert!(waiting["left"] == false && !waiting["waits_for"].as_array().unwrap().is_empty(), "{waiting}");
    // Until it may go, it publishes as before.
    loads.go_on(30).await;
    loads.stop(2).await;
    let newcomer = group.join(0).await;
    loads.add(&group, newcomer);
    let status = group.members[2].ended().await;
    assert_eq!(status.code(), Some(0), "{}", group.members[2].log());
    group.until_votes(0, &[0, 1, newcomer]).await;
    group.members[2].start();
    group.members[2].refuses(71, &["left"]).await;
    let mut published = loads.finish().await;
    agree_without(&group, &[0, 1, newcomer], &[2], &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_keeps_the_membership_unless_it_is_to_leave_then() {
    let mut group = Group::start().await;
    let learner = group.join(0).await;
    group.members[learner].stop().await;
    assert_eq!(group.members_at(0).await, 4);
    group.members[learner].edit(|config| format!("leave_on_exit = \"true\"\n{config}"));
    group.members[learner].start_and_catch_up().await;
    group.members[learner].stop().await;
    until("it is no member any more", async || (group.members_at(0).await == 3).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_learns_of_its_removal_while_it_stops_keeps_that() {
    let mut group = Group::start().await;
    let (drains, leaves) = (group.join(0).await, group.join(1).await);
    for learner in [drains, leaves] {
        group.members[learner].kill();
        // Nothing that it waits for ends by itself.
        group.members[learner].edit(|config| config.replace("[api]", "[api]\npublish_timeout = \"1h\""));
        let (name, socket) = (&group.members[learner].name, group.members[0].socket.to_str().unwrap());
        synod(["remove", name, "--yes", "--api", socket, "--output", "json"]).await.json();
    }
    group.members[leaves].edit(|config| format!("leave_on_exit = \"true\"\n{config}"));
    until("they are no members any more", async || (group.members_at(0).await == 3).then_some(())).await;
    for voter in 0..3 {
        group.members[voter].stop().await;
    }
    for (learner, word) in [(drains, "draining"), (leaves, "leaving the group")] {
        let member = &mut group.members[learner];
        member.start();
        let client = member.unix();
        until("it accepts a message", async || {
            client.publish("t", None, Ack::Accepted, "unordered".into()).await.ok().map(drop)
        })
        .await;
        member.signal(Signal::Terminate);
        until("it stops", async || member.log().contains(word).then_some(())).await;
    }
    group.members[..3].iter_mut().for_each(Member::start);
    for learner in [drains, leaves] {
        group.members[learner].refuses(71, &["was removed from the group"]).await;
        let kept = fs::read_to_string(group.members[learner].data_dir.join("departed")).unwrap();
        assert!(kept.contains("was removed"), "{kept}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_wishes_and_two_operators_are_told_what_is_wrong() {
    let mut group = Group::start().await;
    let learner = group.join(0).await;
    let sockets: Vec<String> = group.members.iter().map(|member| member.socket.to_str().unwrap().to_owned()).collect();
    synod(["voters", "4", "--api", &sockets[0]]).await.refused(1, &["bad_target"]);
    synod(["remove", "nobody", "--yes", "--api", &sockets[0]]).await.refused(1, &["unknown_member", "n4"]);
    synod(["remove", "n1", "--yes", "--api", &sockets[0]]).await.refused(1, &["use_leave"]);
    let removing = |at: usize| synod(["remove", "n4", "--yes", "--api", sockets[at].as_str()]);
    let (one, other) = tokio::join!(removing(1), removing(2));
    let codes = [one.code, other.code];
    assert!(
        codes.contains(&Some(0)) && codes.iter().all(|code| [Some(0), Some(1)].contains(code)),
        "{one:?} {other:?}"
    );
    group.members[learner].refuses(71, &["removed"]).await;
    let mut published = Published::default();
    agree(&group, &[0, 1, 2], &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn epochs_are_proven_to_who_trusts_nobody() {
    let mut group = Group::start().await;
    let newcomer = group.join(0).await;
    group.leave(0).await;
    group.until_votes(newcomer, &[1, 2, newcomer]).await;
    let socket = group.members[newcomer].socket.to_str().unwrap().to_owned();
    let shown = synod(["epochs", "--api", &socket]).await;
    assert!(shown.code == Some(0) && shown.stdout.contains("signed"), "{shown:?}");
    let shown = synod(["members", "--api", &socket]).await;
    assert!(shown.code == Some(0) && shown.stdout.contains("REACHES"), "{shown:?}");
    let document = synod(["epochs", "--api", &socket, "--output", "json"]).await.json();
    let cluster = document["cluster"].as_str().unwrap().to_owned();
    let check = async |document: &Value, cluster: &str| {
        synod_with_input(["verify", "-", "--cluster", cluster, "--output", "json"], &document.to_string()).await
    };
    let report = check(&document, &cluster).await.json();
    assert_eq!(report["epochs"].as_array().unwrap().len(), 2, "{report}");
    assert!(report["epochs"][1]["certificate"]["signed_by"].as_array().unwrap().len() >= 2, "{report}");
    check(&document, &"0".repeat(64)).await.refused(1, &["it is of group"]);
    let mut unproven = document.clone();
    unproven["epochs"][1]["link"] = json!(null);
    check(&unproven, &cluster).await.refused(1, &["not whole"]);
    group.stop_all_that_run().await;
    for index in [0, newcomer] {
        let data_dir = group.members[index].data_dir.to_str().unwrap();
        let report = synod(["verify", data_dir, "--cluster", &cluster, "--output", "json"]).await.json();
        assert_eq!(report["whole"], true, "{report}");
    }
    let exported = group.folder().join("epochs.json");
    fs::write(&exported, document.to_string()).unwrap();
    let data_dirs = [0, newcomer].map(|index| group.members[index].data_dir.to_str().unwrap());
    let paths = [data_dirs[0], data_dirs[1], exported.to_str().unwrap()];
    let report = synod(["verify", "--output", "json"].iter().chain(&paths)).await.json();
    assert_eq!((&report["whole"], &report["forks"]), (&json!(true), &json!([])), "{report}");
    assert_eq!(report["paths"].as_array().unwrap().len(), 3, "{report}");
}
