//! A disk that does not answer for a while: every sync of one member, or of one that founds a group, waits until it is told to
//! go on.

use std::time::Duration;

use super::harness::disk::Disk;
use super::harness::member::Signal;
use super::harness::sequence::agree;
use super::harness::wait::passed;
use super::harness::{Group, Load, until};

const DISK_FAILED: i32 = 74;

/// A group under load at all but one, whose disk has just begun to hang, and which says so.
async fn with_a_hanging_disk() -> (Group, usize, Disk, Load) {
    let mut group = Group::found().await;
    let disk = Disk::make(group.folder());
    let hanging = 2;
    group.members[hanging].start_by(disk.command());
    group.start_all().await;
    let load = Load::start_at(&group, &group.others(hanging));
    load.goes_on(&group.others(hanging), 50).await;
    disk.hang();
    let client = group.members[hanging].unix();
    until("it says that it stands still", async || {
        let refusal = client.get("/readyz").await.err()?.to_string();
        refusal.contains("the driver has not turned for").then_some(())
    })
    .await;
    assert_eq!(group.members[hanging].status().await["ready"], false);
    (group, hanging, disk, load)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_disk_hangs_is_not_ready_and_nobody_waits_for_it() {
    let (mut group, hanging, disk, load) = with_a_hanging_disk().await;
    load.goes_on(&group.others(hanging), 200).await;
    disk.go_on();
    group.members[hanging].ready().await;
    let mut published = load.finish().await;
    published.none_failed_at(&group.others(hanging));
    agree(&group, &group.everybody(), &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_disk_hangs_ends_when_it_is_told_twice() {
    let (mut group, hanging, disk, load) = with_a_hanging_disk().await;
    group.members[hanging].signal(Signal::Terminate);
    until("it drains", async || group.members[hanging].log().contains("draining").then_some(())).await;
    // A second signal, a while after the first, ends the wait.
    passed(Duration::from_millis(1500)).await;
    group.members[hanging].signal(Signal::Terminate);
    group.members[hanging].refuses(DISK_FAILED, &["stopped at once", "the disk has not answered", "exit=74"]).await;
    disk.go_on();
    group.members[hanging].start_and_catch_up().await;
    let mut published = load.finish().await;
    published.none_failed_at(&group.others(hanging));
    agree(&group, &group.everybody(), &mut published).await;
}

/// Three that found a group, but for the disk of one, which has just begun to hang, and which says so.
async fn founding_with_a_hanging_disk() -> (Group, usize, Disk) {
    let mut group = Group::fresh(3, 3, None).await;
    let disk = Disk::make(group.folder());
    let hanging = 0;
    group.members[hanging].start_by(disk.command());
    group.members[1].start();
    group.members[hanging].waits("waits for 1 more").await;
    disk.hang();
    group.members[2].start();
    group.members[hanging].waits("the disk has not answered for").await;
    (group, hanging, disk)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_founded_when_the_disk_of_a_founder_answers_again() {
    let (mut group, _, disk) = founding_with_a_hanging_disk().await;
    assert!(group.members.iter().all(|member| !member.data_dir.join("genesis.toml").exists()));
    disk.go_on();
    group.start_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_whose_disk_hangs_ends_when_it_is_told() {
    let (mut group, hanging, disk) = founding_with_a_hanging_disk().await;
    group.members[hanging].signal(Signal::Terminate);
    group.members[hanging].refuses(DISK_FAILED, &["the disk has not answered", "stopped without it", "exit=74"]).await;
    disk.go_on();
    group.start_all().await;
}
