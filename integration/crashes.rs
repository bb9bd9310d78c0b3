//! SIGKILL, of one and of all.

use super::harness::sequence::{agree, continues};
use super::harness::{Group, Load, Published};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_killed_under_load_and_no_publish_on_the_survivors_fails() {
    killed_under_load(async |group| group.leader().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_is_killed_under_load_and_no_publish_on_the_survivors_fails() {
    killed_under_load(async |group| group.follower().await).await;
}

/// Order never rests on gossip.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_killed_under_load_where_nobody_gossips() {
    let mut group = Group::found().await;
    group
        .members
        .iter()
        .for_each(|member| member.edit(|config| config.replace("# gossip = \"true\"", "gossip = \"false\"")));
    group.start_all().await;
    goes_on_after_a_kill(&mut group, async |group| group.leader().await).await;
    for member in &group.members {
        let gossip = &member.try_status().await.expect("it is ready")["links"]["gossip"];
        assert_eq!((&gossip["announced"], &gossip["listeners"]), (&0.into(), &0.into()), "{gossip}");
    }
}

async fn killed_under_load(choose: impl AsyncFn(&Group) -> usize) {
    goes_on_after_a_kill(&mut Group::start().await, choose).await;
}

async fn goes_on_after_a_kill(group: &mut Group, choose: impl AsyncFn(&Group) -> usize) {
    let load = Load::start(group);
    load.goes_on(&group.everybody(), 100).await;
    let victim = choose(group).await;
    let survivors = group.others(victim);
    group.members[victim].kill();
    load.goes_on(&survivors, 200).await;
    group.members[victim].start_and_catch_up().await;
    load.goes_on(&group.everybody(), 100).await;
    let mut published = load.finish().await;
    published.none_failed_at(&survivors);
    agree(group, &group.everybody(), &mut published).await;
}

/// commonware #4275: after a full restart all voters waited for votes that they had long given themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commonware_4275_all_are_killed_at_once_under_load_twice_and_the_order_goes_on() {
    let mut group = Group::start().await;
    let mut published = Published::default();
    let mut before = Vec::new();
    for _ in 0..2 {
        let load = Load::start(&group);
        load.goes_on(&group.everybody(), 150).await;
        group.kill_all();
        group.start_all().await;
        load.goes_on(&group.everybody(), 50).await;
        published.extend(load.finish().await);
        let now = agree(&group, &group.everybody(), &mut published).await;
        continues(&now, &before);
        before = now;
    }
    // Without any load too, and what was decided stays where it is.
    group.kill_all();
    group.start_all().await;
    let now = agree(&group, &group.everybody(), &mut published).await;
    continues(&now, &before);
}
