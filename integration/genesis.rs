//! Groups that form themselves (rule G1): machines started with `bootstrap.expect`, in any order, with processes that die on
//! the way. There is one group, or none and a word why.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use serde_json::Value;
use synod::node::identity::Identity;
use synod::types::{
    ClusterLimits, Commitment, CommitmentRecord, FaultModelKind, Genesis, GenesisMember, MemberId, limits,
};

use super::harness::disk::Disk;
use super::harness::doom::Doom;
use super::harness::member::Member;
use super::harness::network::hosts;
use super::harness::sequence::agree;
use super::harness::{Group, Load, synod, until};

/// The number of SIGKILL.
const KILLED: i32 = 9;
/// Key, socket, proposal or promise, and genesis: each is made under another name first.
const CHANGES_MIN: usize = 10;

async fn cluster(group: &Group, index: usize) -> Value {
    group.members[index].status().await["cluster"].clone()
}

/// Everybody publishes, and all deliver the same.
async fn works(group: &Group) {
    let load = Load::start(group);
    load.goes_on(&group.everybody(), 30).await;
    let mut published = load.finish().await;
    agree(group, &group.everybody(), &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_fresh_machines_make_one_group_in_any_order() {
    let mut group = Group::fresh(3, 3, None).await;
    group.members[2].start();
    group.members[2].waits("waits for 2 more").await;
    group.members[0].start();
    group.members[2].waits("waits for 1 more").await;
    let client = group.members[0].unix();
    assert!(client.get("/livez").await.is_ok());
    let refused = format!("{:?}", client.get("/v1/members").await.unwrap_err());
    assert!(refused.contains("no_group"), "{refused}");
    group.start_all().await;
    works(&group).await;
    // Started again as before, it is an ordinary member.
    group.stop_all().await;
    assert!(group.members.iter().all(|member| !member.data_dir.join("candidacy").exists()));
    group.start_all().await;
    assert_eq!(cluster(&group, 0).await, cluster(&group, 2).await);
}

/// Gives a machine that key.
fn endow(group: &Group, index: usize, identity: &Identity) {
    let folder = &group.members[index].data_dir;
    fs::create_dir_all(folder).unwrap();
    identity.store(folder).unwrap();
}

/// A founder is killed at a change of the names in its data directory, and started again: in one group of three for the first
/// change, one for the second, and so on, until one is founded before that change comes. The keys of the others begin with this
/// byte, so that its own, which it draws itself, is all but surely the lowest or the highest.
async fn one_is_killed_at_every_change(others: u8) {
    let folder = tempfile::tempdir().unwrap();
    let doom = Doom::make(folder.path());
    let drawn = std::iter::repeat_with(|| Identity::draw().unwrap());
    let keys: Vec<Identity> = drawn.filter(|key| key.member().0[0] == others).take(2).collect();
    for change in 1.. {
        let mut group = Group::fresh(3, 3, None).await;
        for (index, key) in (1..).zip(&keys) {
            endow(&group, index, key);
            group.members[index].start();
        }
        let command = doom.command(&group.members[0], change);
        group.members[0].start_by(command);
        let victim = group.members[0].unix();
        let died = until("it dies, or is ready", async || match group.members[0].has_ended() {
            Some(status) => {
                assert_eq!(status.signal(), Some(KILLED), "change {change}: it ends otherwise");
                Some(true)
            }
            None => victim.get("/readyz").await.ok().map(|_| false),
        })
        .await;
        group.start_all().await;
        let clusters = [cluster(&group, 0).await, cluster(&group, 1).await, cluster(&group, 2).await];
        assert!(clusters.iter().all(|cluster| *cluster == clusters[0]), "killed at change {change}: {clusters:?}");
        if !died {
            assert!(change > CHANGES_MIN, "only so many changes: {change}");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposer_killed_at_any_change_of_its_files_and_restarted_makes_one_group() {
    one_is_killed_at_every_change(0xff).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_promises_killed_at_any_change_of_its_files_and_restarted_makes_one_group() {
    one_is_killed_at_every_change(0).await;
}

/// What a candidate is bound to, as its disk has it.
fn bound(member: &Member) -> Option<Commitment> {
    let bytes = fs::read(member.data_dir.join("candidacy")).ok()?;
    Some(CommitmentRecord::admit(&bytes).unwrap().commitment)
}

/// All have promised, and the one that proposes cannot write that down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposer_dies_between_promise_and_genesis() {
    let mut group = Group::fresh(4, 3, None).await;
    let mut keys: Vec<Identity> = std::iter::repeat_with(|| Identity::draw().unwrap()).take(4).collect();
    keys.sort_by_key(Identity::member);
    keys.iter().enumerate().for_each(|(index, key)| endow(&group, index, key));
    let disk = Disk::make(group.folder());
    group.members[0].start_by(disk.command());
    group.members[1].start();
    for index in [0, 1] {
        group.members[index].waits("waits for 1 more").await;
    }
    disk.hang();
    group.members[2].start();
    // While its proposal is on the way to the disk, what it writes next gets an obstacle in its way.
    let obstacle = group.members[0].data_dir.join("candidacy.new");
    until("it writes its proposal", async || obstacle.exists().then_some(())).await;
    disk.answer_one().await;
    until("it has written it", async || bound(&group.members[0])).await;
    fs::create_dir(&obstacle).unwrap();
    disk.go_on();
    let parts = ["candidacy.new: Is a directory", "from which it goes on", "start it again", "exit=74"];
    group.members[0].refuses(74, &parts).await;
    let Some(Commitment::Proposed(genesis)) = bound(&group.members[0]) else { panic!("it has proposed") };
    let promised = Some(Commitment::Promised(genesis.clone()));

    let proposer = format!("to {} ({})", group.members[0].name, keys[0].member().short());
    for index in [1, 2] {
        group.members[index].waits(&proposer).await;
        group.members[index].waits("which was not heard for").await;
        assert_eq!(bound(&group.members[index]), promised);
        group.members[index].kill();
        group.members[index].start();
        group.members[index].waits("which is not heard: start it again with its data directory").await;
    }
    group.members[3].start();
    group.members[3].waits(&format!("has promised what {} proposes", keys[0].member().short())).await;
    for index in [1, 2] {
        group.members[index].waits("3 of 3 candidates").await;
        assert_eq!(bound(&group.members[index]), promised);
    }
    assert!(group.members.iter().all(|member| !member.data_dir.join("genesis.toml").exists()));

    fs::remove_dir(&obstacle).unwrap();
    group.members[0].start();
    for index in [0, 1, 2] {
        group.members[index].ready().await;
        assert_eq!(cluster(&group, index).await, genesis.cluster().to_string());
    }
    group.members[3].refuses(77, &["there is a group `trial` already"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survivor_and_two_fresh_members_form_nothing() {
    let mut group = Group::fresh(3, 3, None).await;
    group.start_all().await;
    let before = cluster(&group, 0).await;
    for index in [1, 2] {
        group.members[index].kill();
        fs::remove_dir_all(&group.members[index].data_dir).unwrap();
        group.members[index].start();
    }
    for index in [1, 2] {
        group.members[index].refuses(77, &["there is a group `trial` already", "synod invite"]).await;
    }
    assert_eq!(cluster(&group, 0).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_geneses_of_one_name_that_meet_say_so_and_stay_apart() {
    let mut group = Group::fresh(2, 1, None).await;
    let found = |text: String| {
        let kept = text.lines().filter(|line| !line.starts_with("addresses"));
        kept.collect::<Vec<_>>().join("\n")
    };
    let whole: Vec<String> = group.members.iter().map(|member| fs::read_to_string(&member.config).unwrap()).collect();
    group.members.iter().for_each(|member| member.edit(found));
    group.start_all().await;
    let clusters = [cluster(&group, 0).await, cluster(&group, 1).await];
    assert_ne!(clusters[0], clusters[1]);
    group.stop_all().await;
    for (member, config) in group.members.iter().zip(&whole) {
        fs::write(&member.config, config).unwrap();
    }
    group.start_all().await;
    for (index, other) in [(0, 1), (1, 0)] {
        until_met(&group, index, &clusters[other]).await;
        assert_eq!(cluster(&group, index).await, clusters[index]);
    }
}

/// Waits until a member has met that other group of its name, and says so loudly.
async fn until_met(group: &Group, index: usize, other: &Value) {
    let id = other.as_str().unwrap();
    until("it has met the other group of its name", async || {
        let status = group.members[index].status().await;
        status["links"]["discovery"]["foreign_groups"].to_string().contains(id).then_some(())
    })
    .await;
    assert!(group.members[index].log().contains(id), "{}", group.members[index].name);
}

/// Too few were told to be expected, and neither half can know it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_that_expect_three_in_two_partitions_make_two_groups_that_say_so_when_they_meet() {
    let Some(network) = hosts(6) else { return };
    network.part(&[3, 4, 5]).unwrap();
    let mut group = Group::fresh(6, 3, Some(&network)).await;
    group.start_all().await;
    let clusters = [cluster(&group, 0).await, cluster(&group, 3).await];
    assert_ne!(clusters[0], clusters[1]);
    network.heal().unwrap();
    for index in 0..6 {
        until_met(&group, index, &clusters[1 - index / 3]).await;
        assert_eq!(cluster(&group, index).await, clusters[index / 3], "they never merge");
        group.members[index].ready().await;
    }
}

/// The file that names everybody comes last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_that_a_file_names_make_a_group() {
    let mut group = Group::fresh(3, 3, None).await;
    for member in &group.members {
        member.edit(|text| {
            let lines = text.lines().map(|line| if line.starts_with("addresses") { "file = \"others\"" } else { line });
            lines.collect::<Vec<_>>().join("\n")
        });
    }
    group.members.iter_mut().for_each(|member| member.start());
    for index in 0..3 {
        group.members[index].waits("waits for 2 more").await;
    }
    let others: Vec<String> = group.members.iter().map(|member| member.mesh.to_string()).collect();
    for member in &group.members {
        fs::write(member.config.with_file_name("others"), others.join("\n")).unwrap();
    }
    group.start_all().await;
    works(&group).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candidates_with_other_settings_are_refused_by_name() {
    let mut group = Group::fresh(3, 3, None).await;
    let before = fs::read_to_string(&group.members[2].config).unwrap();
    group.members[2].edit(|text| text.replace("batch_bytes_max = \"2MiB\"", "batch_bytes_max = \"3MiB\""));
    group.members[2].edit(|text| text.replace("segment_bytes = \"4MiB\"", "segment_bytes = \"8MiB\""));
    group.members.iter_mut().for_each(|member| member.start());
    for index in 0..3 {
        group.members[index].waits("batch_bytes_max = ").await;
    }
    group.members[2].kill();
    fs::write(&group.members[2].config, before).unwrap();
    group.start_all().await;
    works(&group).await;
}

/// All candidates that one of them counts, by key, the lowest first: where each is in the group, and its key.
async fn by_key(group: &Group, at: usize) -> Vec<(usize, MemberId)> {
    let status = group.members[at].status().await;
    let candidates = status["candidacy"]["candidates"].as_array().unwrap().clone();
    let place = |candidate: &Value| {
        let index = group.members.iter().position(|member| candidate["name"] == *member.name).unwrap();
        (index, candidate["id"].as_str().unwrap().parse().unwrap())
    };
    candidates.iter().map(place).collect()
}

/// The record of a candidate that has promised a genesis of these to the first of them.
fn promise(group: &Group, members: &[(usize, MemberId)]) -> CommitmentRecord {
    let member = |(index, id): &(usize, MemberId)| GenesisMember {
        name: group.members[*index].name.clone(),
        id: *id,
        addresses: vec![format!("/ip4/{}", group.members[*index].mesh.to_string().replace(':', "/tcp/"))],
    };
    let genesis = Genesis {
        name: "trial".to_owned(),
        nonce: [1; 16],
        model: FaultModelKind::Crash,
        rules_version: limits::RULES_VERSION,
        members: members.iter().map(member).collect(),
        limits: ClusterLimits::default(),
        voters_target: 3,
    };
    let (cluster, commitment) = ("trial".to_owned(), Commitment::Promised(genesis));
    CommitmentRecord { version: limits::PROTOCOL_VERSION, cluster, commitment }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_that_expect_three_make_nothing_until_three_are_gone() {
    let mut group = Group::fresh(6, 3, None).await;
    // As six of seven they only wait: so each has its key, and it is known which is the lowest.
    for member in &group.members {
        member.edit(|text| text.replace("expect = \"3\"", "expect = \"7\""));
    }
    group.members.iter_mut().for_each(|member| member.start());
    for index in 0..6 {
        group.members[index].waits("6 of 7").await;
    }
    let order = by_key(&group, 0).await;
    group.kill_all();
    for member in &group.members {
        member.edit(|text| text.replace("expect = \"7\"", "expect = \"3\""));
    }
    // The second is bound to the first, which is not there: so the other four found nothing either, and wait together.
    let record = promise(&group, &order[..3]).encode();
    fs::write(group.members[order[1].0].data_dir.join("candidacy"), record).unwrap();
    // One by one, so that nobody who is lower is missed.
    for (count, (index, _)) in (1..).zip(&order[1..]) {
        group.members[*index].start();
        group.members[*index].waits(&format!("{count} of 3 candidates")).await;
    }
    for (index, _) in &order[1..] {
        group.members[*index].waits("5 of 3 candidates").await;
    }
    // The first releases the second, and could found a group with it and the third; but now there are six.
    group.members[order[0].0].start();
    for index in 0..6 {
        group.members[index].waits("crowded: so many could make two groups").await;
    }
    for (index, _) in &order[3..] {
        group.members[*index].kill();
    }
    for (index, _) in &order[..3] {
        group.members[*index].ready().await;
    }
    for (index, _) in &order[3..] {
        group.members[*index].start();
        group.members[*index].refuses(77, &["there is a group `trial` already"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_can_find_nobody_says_so_and_a_genesis_of_others_is_refused() {
    let mut group = Group::fresh(1, 3, None).await;
    let whole = fs::read_to_string(&group.members[0].config).unwrap();
    group.members[0].edit(|text| {
        let kept = text.lines().filter(|line| !line.starts_with("addresses"));
        kept.collect::<Vec<_>>().join("\n")
    });
    group.members[0].start();
    group.members[0].waits("no source can find anybody: set discovery.addresses").await;
    let told = synod(["status", "--api", group.members[0].socket.to_str().unwrap()]).await;
    assert!(told.stdout.contains("candidate for group `trial`") && !told.stdout.contains("PEER"), "{told:?}");
    group.members[0].kill();
    let genesis = group.found_another().await.join("genesis.toml");
    fs::write(&group.members[0].config, format!("genesis = \"{}\"\n{whole}", genesis.display())).unwrap();
    group.members[0].start();
    group.members[0].refuses(2, &["in which this data_dir has no part", "bootstrap.expect"]).await;
}
