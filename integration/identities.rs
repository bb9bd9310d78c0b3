//! Who a member is: its key, its log, its group, and that there is only one of it.

use std::fs;

use super::harness::member::{Member, Signal, copy_folder};
use super::harness::sequence::{agree, continues};
use super::harness::wait::until;
use super::harness::{Group, Load, synod};

const USAGE: i32 = 2;
/// Perhaps later: whoever starts members by itself tries again.
const UNAVAILABLE: i32 = 69;
const IDENTITY_LOST: i32 = 73;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_another_group_or_member_is_refused() {
    let mut group = Group::start().await;
    let load = Load::start(&group);
    load.goes_on(&group.everybody(), 30).await;
    let mut published = load.finish().await;
    let sequence = agree(&group, &group.everybody(), &mut published).await;
    group.stop_all().await;
    // The log of another member under this member's key.
    let [first, second] = [group.members[0].wal(), group.members[1].wal()];
    fs::rename(&first, group.folder().join("aside")).unwrap();
    copy_folder(&second, &first);
    group.members[0].start();
    group.members[0].refuses(USAGE, &["belongs to another member or group"]).await;
    fs::remove_dir_all(&first).unwrap();
    fs::rename(group.folder().join("aside"), &first).unwrap();
    // The same members, but another genesis.
    let genesis = fs::read_to_string(group.genesis()).unwrap();
    group.edit_genesis(|genesis| genesis.replace("name = \"trial\"", "name = \"trial-2\""));
    group.members[0].start();
    group.members[0].refuses(USAGE, &["belongs to another"]).await;
    fs::write(group.genesis(), genesis).unwrap();
    // Nothing of it left a trace.
    group.start_all().await;
    let after = agree(&group, &group.everybody(), &mut published).await;
    continues(&after, &sequence);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_genesis_does_not_name_is_refused() {
    let mut group = Group::found().await;
    let other = group.found_another().await;
    let key = group.members[0].data_dir.join("member.key");
    fs::remove_file(&key).unwrap();
    fs::copy(other.join("n1/data/member.key"), &key).unwrap();
    group.members[0].start();
    group.members[0].refuses(USAGE, &["which the genesis of group `trial` does not name"]).await;
    fs::remove_file(&key).unwrap();
    group.members[0].start();
    group.members[0].refuses(USAGE, &["member.key is missing", "synod init"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_one_data_directory_is_refused_and_told_who_has_it() {
    let mut group = Group::start().await;
    let config = group.members[0].config.clone();
    let holder = format!("in use by process {}", group.members[0].pid());
    let second = synod(["run".as_ref(), "--config".as_ref(), config.as_os_str()]).await;
    second.refused(UNAVAILABLE, &[&holder, "stop that one first"]);
    let data_dir = group.members[0].data_dir.clone();
    synod(["verify".as_ref(), data_dir.as_os_str()]).await.refused(USAGE, &[&holder]);
    let mut published = Default::default();
    agree(&group, &group.everybody(), &mut published).await;
    group.stop_all().await;
    assert_eq!(synod(["verify".as_ref(), data_dir.as_os_str()]).await.code, Some(0));
}

/// rabbitmq-server #12366: a stale replica delivered days-old messages again. Here an old copy of a disk is refused by
/// those who heard what was voted since, and delivers nothing at another position.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_server_12366_an_old_copy_of_a_disk_is_refused_as_stale() {
    let mut group = Group::start().await;
    let load = Load::start(&group);
    load.goes_on(&group.everybody(), 50).await;
    let mut published = load.finish().await;
    let before = agree(&group, &group.everybody(), &mut published).await;
    let stale = group.follower().await;
    let others = group.others(stale);
    group.members[stale].stop().await;
    let (data_dir, copy) = (group.members[stale].data_dir.clone(), group.folder().join("copy"));
    copy_folder(&data_dir, &copy);
    group.members[stale].start_and_catch_up().await;
    let load = Load::start(&group);
    load.goes_on(&group.everybody(), 50).await;
    published.extend(load.finish().await);
    agree(&group, &group.everybody(), &mut published).await;
    group.members[stale].stop().await;
    fs::rename(&data_dir, group.folder().join("newest")).unwrap();
    fs::rename(&copy, &data_dir).unwrap();
    let load = Load::start_at(&group, &others);
    group.members[stale].start();
    group.members[stale].refuses(IDENTITY_LOST, &["stale_disk", "old or copied data directory"]).await;
    load.goes_on(&others, 50).await;
    published.extend(load.finish().await);
    published.none_failed_at(&others);
    until("the refusal is counted", async || {
        let mut count = 0;
        for other in &others {
            count += group.members[*other].try_status().await?["links"]["refused"]["stale_disk"].as_u64().unwrap_or(0);
        }
        (count > 0).then_some(())
    })
    .await;
    let after = agree(&group, &others, &mut published).await;
    continues(&after, &before);
    // The newest disk is as good as ever.
    fs::remove_dir_all(&data_dir).unwrap();
    fs::rename(group.folder().join("newest"), &data_dir).unwrap();
    group.members[stale].start_and_catch_up().await;
    agree(&group, &group.everybody(), &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_with_one_identity_are_refused_both() {
    let mut group = Group::start().await;
    let load = Load::start(&group);
    load.goes_on(&group.everybody(), 30).await;
    let mut published = load.finish().await;
    let before = agree(&group, &group.everybody(), &mut published).await;
    let twice = group.follower().await;
    let others = group.others(twice);
    group.members[twice].stop().await;
    let [api, mesh] = group.spare_addresses();
    let mut twin = group.members[twice].copy(group.folder(), "twin", api, mesh);
    let load = Load::start_at(&group, &others);
    group.members[twice].start();
    twin.start();
    // Whoever is heard last may find the other gone already, and is then told that it has an old disk.
    twin.refuses(IDENTITY_LOST, &["exit=73"]).await;
    group.members[twice].refuses(IDENTITY_LOST, &["exit=73"]).await;
    let logs = twin.log() + &group.members[twice].log();
    assert!(logs.contains("two processes run with the key of member"), "{logs}");
    load.goes_on(&others, 50).await;
    published.extend(load.finish().await);
    published.none_failed_at(&others);
    let after = agree(&group, &others, &mut published).await;
    continues(&after, &before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_twin_of_a_running_member_is_found_out() {
    let mut group = Group::start().await;
    let mut published = Default::default();
    agree(&group, &group.everybody(), &mut published).await;
    let twice = group.follower().await;
    let others = group.others(twice);
    // A copy taken while the member stands still, as a snapshot of its machine would be.
    group.members[twice].signal(Signal::Stop);
    let [api, mesh] = group.spare_addresses();
    let mut twin = group.members[twice].copy(group.folder(), "twin", api, mesh);
    group.members[twice].signal(Signal::Continue);
    group.members[twice].ready().await;
    let load = Load::start(&group);
    load.goes_on(&group.everybody(), 30).await;
    twin.start();
    twin.refuses(IDENTITY_LOST, &["exit=73"]).await;
    load.goes_on(&others, 50).await;
    let mut more = load.finish().await;
    more.none_failed_at(&others);
    more.extend(published);
    agree(&group, &others, &mut more).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_without_its_log_is_refused_by_those_who_heard_it() {
    without_its_log(async |_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_without_its_log_is_refused_by_those_who_have_its_messages_in_their_logs() {
    without_its_log(async |group: &mut Group| {
        for other in group.others(2) {
            group.members[other].stop().await;
        }
    })
    .await;
}

async fn without_its_log(before_the_start: impl AsyncFn(&mut Group)) {
    let mut group = Group::start().await;
    let load = Load::start(&group);
    load.goes_on(&group.everybody(), 30).await;
    let mut published = load.finish().await;
    let before = agree(&group, &group.everybody(), &mut published).await;
    let (wiped, others) = (2, group.others(2));
    group.members[wiped].stop().await;
    fs::remove_dir_all(group.members[wiped].wal()).unwrap();
    before_the_start(&mut group).await;
    group.members.iter_mut().filter(|member| !member.is_started()).for_each(Member::start);
    group.members[wiped].refuses(IDENTITY_LOST, &["stale_disk", "exit=73"]).await;
    for other in &others {
        group.members[*other].ready().await;
    }
    // Starting it again does not make it any better.
    group.members[wiped].start();
    group.members[wiped].refuses(IDENTITY_LOST, &["stale_disk"]).await;
    let after = agree(&group, &others, &mut published).await;
    continues(&after, &before);
}
