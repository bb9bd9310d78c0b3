//! SIGSTOP: a process that stands still for ten seconds, and then goes on as if nothing had been.

use std::time::Duration;

use super::harness::member::Signal;
use super::harness::sequence::agree;
use super::harness::wait::passed;
use super::harness::{Group, Load, synod, until};

const PAUSE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_stands_still_for_ten_seconds_under_load_and_comes_back_as_a_follower() {
    stands_still(async |group| group.leader().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_stands_still_for_ten_seconds_under_load_and_deposes_nobody_on_waking() {
    let (leaders, views) = stands_still(async |group| group.follower().await).await;
    assert_eq!(leaders[0], leaders[1], "the leader stays");
    assert_eq!(views[0], views[1], "and so does the view");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_do_not_wait_for_a_sidecar_that_stands_still() {
    let mut group = Group::found().await;
    group.members[0].start();
    let client = group.members[0].unix();
    until("it serves", async || client.get("/livez").await.ok()).await;
    group.members[0].signal(Signal::Stop);
    let socket = group.members[0].socket.to_str().unwrap();
    for command in ["status", "members"] {
        synod([command, "--api", socket]).await.refused(69, &[socket, "does not answer within 10 s"]);
    }
}

/// Pauses one member. Gives back leader and view before and after.
async fn stands_still(choose: impl AsyncFn(&Group) -> usize) -> ([usize; 2], [u64; 2]) {
    let mut group = Group::start().await;
    let load = Load::start(&group);
    load.goes_on(&group.everybody(), 100).await;
    let before = view(&group).await;
    let paused = choose(&group).await;
    let others = group.others(paused);
    group.members[paused].signal(Signal::Stop);
    passed(PAUSE).await;
    load.goes_on(&others, 100).await;
    group.members[paused].signal(Signal::Continue);
    group.members[paused].ready().await;
    load.goes_on(&group.everybody(), 100).await;
    let after = view(&group).await;
    let mut published = load.finish().await;
    published.none_failed_at(&others);
    agree(&group, &group.everybody(), &mut published).await;
    ([before.0, after.0], [before.1, after.1])
}

async fn view(group: &Group) -> (usize, u64) {
    let leader = group.leader().await;
    let status = group.members[leader].status().await;
    (leader, status["view"].as_u64().unwrap())
}
