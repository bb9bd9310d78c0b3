//! Several hosts with addresses of their own on one network, which find each other by mDNS, or by names that a name server
//! knows: what cables, addresses and partitions do to a group.

use std::fs;
use std::net::Ipv4Addr;

use synod::cmd::group::network::Network;

use super::harness::loads::Loads;
use super::harness::name_server::NameServer;
use super::harness::network::hosts;
use super::harness::sequence::{agree, agree_without};
use super::harness::{Group, until};

/// Whether a member has a link to another, as it says.
async fn linked(group: &Group, at: usize, to: usize) -> bool {
    let Some(status) = group.members[at].try_status().await else { return false };
    let name = &group.members[to].name;
    status["peers"].as_array().into_iter().flatten().any(|peer| peer["name"] == **name && peer["linked"] == true)
}

/// Waits until all links go over that transport.
async fn until_all_over(group: &Group, transport: &str) {
    for (at, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        until(&format!("{} reaches {} over {transport}", group.members[at].name, group.members[to].name), async || {
            let status = group.members[at].try_status().await?;
            let name = &group.members[to].name;
            let mut links = status["links"]["peers"].as_array()?.iter();
            links.any(|link| link["name"] == **name && link["transport"] == transport).then_some(())
        })
        .await;
    }
}

/// Waits until each has found the addresses of all others on the local network.
async fn until_neighbours(group: &Group) {
    for member in &group.members {
        until(&format!("{} has found the others by mDNS", member.name), async || {
            let status = member.try_status().await?;
            let sources = status["links"]["discovery"]["sources"].as_array()?;
            let found = sources.iter().find(|source| source["name"] == "mdns")?["addresses"].to_string();
            let mut peers = status["links"]["peers"].as_array()?.iter();
            peers.all(|peer| found.contains(peer["member"].as_str().unwrap())).then_some(())
        })
        .await;
    }
}

/// Waits until a member knows by the order that somebody is there.
async fn until_ordered_at(group: &Group, at: usize, address: &str) {
    until(&format!("{} is told of {address}, in the order", group.members[at].name), async || {
        let members: serde_json::Value = group.members[at].unix().get_json("/v1/members").await.unwrap();
        members.to_string().contains(address).then_some(())
    })
    .await;
}

async fn until_linked(group: &Group, at: usize, to: usize, is: bool) {
    let fact = format!("{} {} {}", group.members[at].name, if is { "reaches" } else { "lost" }, group.members[to].name);
    until(&fact, async || (linked(group, at, to).await == is).then_some(())).await;
}

async fn compare(group: &Group, loads: Loads) {
    let mut published = loads.finish().await;
    agree(group, &group.everybody(), &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_fresh_hosts_find_each_other_by_mdns_and_one_of_them_moves() {
    let Some(mut network) = hosts(3) else { return };
    let mut group = Group::fresh(3, 3, Some(&network)).await;
    group.start_all().await;
    let loads = Loads::start(&group, &[0, 1, 2]);
    loads.go_on(30).await;
    let mut published = loads.finish().await;
    group.members[1].stop().await;
    network.readdress(1, Ipv4Addr::new(10, 77, 9, 9)).unwrap();
    group.members[1].start_and_catch_up().await;
    for other in [0, 2] {
        until_linked(&group, other, 1, true).await;
        until_ordered_at(&group, other, "/ip4/10.77.9.9/tcp/7271").await;
    }
    let loads = Loads::start(&group, &[0, 1, 2]);
    loads.go_on(30).await;
    // And once more, while it runs.
    network.readdress(1, Ipv4Addr::new(10, 77, 8, 8)).unwrap();
    until("it is linked by its new address", async || {
        let status = group.members[1].try_status().await?;
        let listens = status["links"]["listen"].to_string().contains("10.77.8.8");
        (listens && linked(&group, 1, 0).await && linked(&group, 1, 2).await).then_some(())
    })
    .await;
    for other in [0, 2] {
        until_ordered_at(&group, other, "/ip4/10.77.8.8/tcp/7271").await;
    }
    loads.go_on(30).await;
    published.extend(loads.finish().await);
    agree(&group, &group.everybody(), &mut published).await;
    // Members go on finding each other so, for whoever comes.
    until_neighbours(&group).await;
}

/// The hard case of a sleeper: nobody it knew is a member any more or runs, it was never told where the others are, and nobody
/// was told where it is by now. They find each other by mDNS alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_wakes_elsewhere_after_every_voter_that_it_knew_was_replaced() {
    let Some(mut network) = hosts(7) else { return };
    let mut group = Group::fresh(3, 3, Some(&network)).await;
    group.start_all().await;
    let sleeper = group.join_on(&network, 0).await;
    let mut loads = Loads::start(&group, &[0, 1, 2]);
    loads.go_on(30).await;
    group.members[sleeper].kill();
    for (leaver, at) in [(0, 1), (1, 2), (2, 4)] {
        let newcomer = group.join_on(&network, at).await;
        loads.add(&group, newcomer);
        loads.stop(leaver).await;
        group.leave(leaver).await;
        let known = group.votes(newcomer).await;
        assert!(known.contains(&group.members[newcomer].name), "{known:?}");
        loads.go_on(30).await;
    }
    group.until_votes(4, &[4, 5, 6]).await;
    network.readdress(sleeper, Ipv4Addr::new(10, 77, 9, 9)).unwrap();
    group.members[sleeper].start_and_catch_up().await;
    assert_eq!(group.members[sleeper].status().await["epoch"], group.members[4].status().await["epoch"]);
    group.until_votes(sleeper, &[4, 5, 6]).await;
    loads.add(&group, sleeper);
    loads.go_on(30).await;
    let mut published = loads.finish().await;
    agree_without(&group, &[sleeper, 4, 5, 6], &[0, 1, 2], &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_is_removed_while_it_is_cut_off_learns_it_when_the_network_heals() {
    let Some(network) = hosts(4) else { return };
    let mut group = Group::fresh(3, 3, Some(&network)).await;
    group.start_all().await;
    let learner = group.join_on(&network, 0).await;
    let apart = (group.leader().await + 1) % 3;
    let others = group.others(apart);
    let loads = Loads::start(&group, &others);
    loads.go_on(30).await;
    network.part(&[apart]).unwrap();
    until_linked(&group, others[0], apart, false).await;
    group.remove(apart, others[0]).await;
    group.until_votes(learner, &others).await;
    loads.go_on(30).await;
    // It knows nothing of it.
    assert_eq!(group.members_at(apart).await, 4);
    network.heal().unwrap();
    group.members[apart].refuses(71, &["was removed from the group"]).await;
    loads.go_on(30).await;
    let mut published = loads.finish().await;
    agree(&group, &others, &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_host_sends_another_is_lost_and_the_group_goes_on() {
    let Some(network) = hosts(3) else { return };
    let mut group = Group::fresh(3, 3, Some(&network)).await;
    group.start_all().await;
    let loads = Loads::start(&group, &[0, 1, 2]);
    loads.go_on(30).await;
    let leader = group.leader().await;
    let follower = (leader + 1) % 3;
    network.cut_one_way(leader, follower).unwrap();
    until_linked(&group, follower, leader, false).await;
    // The third sees both, and passes on what they have for each other.
    loads.go_on(50).await;
    network.heal_one_way(leader, follower).unwrap();
    until_linked(&group, follower, leader, true).await;
    loads.go_on(30).await;
    compare(&group, loads).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_tcp_gets_lost_links_go_over_quic_until_it_passes() {
    let Some(network) = hosts(3) else { return };
    (0..3).try_for_each(|host| network.drop_tcp(host)).unwrap();
    let mut group = Group::fresh(3, 3, Some(&network)).await;
    group.start_all().await;
    until_all_over(&group, "quic").await;
    let loads = Loads::start(&group, &[0, 1, 2]);
    loads.go_on(30).await;
    (0..3).try_for_each(|host| network.let_tcp_pass(host)).unwrap();
    until_all_over(&group, "tcp").await;
    loads.go_on(30).await;
    compare(&group, loads).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_heals() {
    let Some(network) = hosts(3) else { return };
    let mut group = Group::fresh(3, 3, Some(&network)).await;
    group.start_all().await;
    let apart = group.leader().await;
    let others = group.others(apart);
    let loads = Loads::start(&group, &others);
    loads.go_on(30).await;
    network.part(&[apart]).unwrap();
    until_linked(&group, others[0], apart, false).await;
    loads.go_on(50).await;
    until("the lonely one is not ready, and says who is missing", async || {
        let refused = group.members[apart].unix().get("/readyz").await.err()?;
        format!("{refused:?}").contains(&group.members[others[0]].name).then_some(())
    })
    .await;
    network.heal().unwrap();
    group.members[apart].ready().await;
    loads.go_on(30).await;
    compare(&group, loads).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_partitions_at_the_first_start_make_one_group_when_they_meet() {
    let Some(network) = hosts(5) else { return };
    let mut group = Group::fresh(5, 5, Some(&network)).await;
    network.part(&[3, 4]).unwrap();
    group.members.iter_mut().for_each(|member| member.start());
    for (index, missing) in [(0, "waits for 2 more"), (4, "waits for 3 more")] {
        until("each side waits for the other", async || {
            let status = group.members[index].try_status().await?;
            status["reasons"].to_string().contains(missing).then_some(())
        })
        .await;
    }
    network.heal().unwrap();
    group.start_all().await;
    let loads = Loads::start(&group, &group.everybody());
    loads.go_on(30).await;
    compare(&group, loads).await;
}

/// Three fresh machines on three hosts that ask a name server on a fourth, which knows nothing yet, for what these names lead
/// to; and nobody finds anybody in any other way.
async fn that_ask_for_names(network: &Network, asked: [&str; 3]) -> Option<(Group, NameServer)> {
    let server = 3;
    network.resolve_at(server).unwrap();
    let group = Group::fresh(3, 3, Some(network)).await;
    let name_server = NameServer::make(network.on(server), group.folder())?;
    for (member, asked) in group.members.iter().zip(asked) {
        member.edit(|text| text.replace("mdns = \"true\"", &format!("mdns = \"false\"\ndns = [\"{asked}\"]")));
    }
    Some((group, name_server))
}

/// One name leads to all, as that of a headless service; and one machine after the other is behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_fresh_hosts_that_one_name_leads_to_make_a_group_and_all_of_them_move() {
    let Some(mut network) = hosts(4) else { return };
    // The third asks for what is not there: it can only be found.
    let asked = ["trial.test:7271", "trial.test:7271", "nobody.test:7271"];
    let Some((mut group, mut name_server)) = that_ask_for_names(&network, asked).await else { return };
    let at = |last: &[u8]| last.iter().map(|last| ("trial.test", Ipv4Addr::new(10, 77, 0, *last))).collect::<Vec<_>>();
    group.members.iter_mut().for_each(|member| member.start());
    group.members[0].waits("waits for 2 more").await;
    name_server.knows(&at(&[1, 2]), &[]);
    for (index, missing) in [(0, "waits for 1 more"), (1, "waits for 1 more"), (2, "waits for 2 more")] {
        group.members[index].waits(missing).await;
    }
    name_server.knows(&at(&[1, 2, 3]), &[]);
    group.start_all().await;
    let loads = Loads::start(&group, &[0, 1, 2]);
    loads.go_on(30).await;
    let mut published = loads.finish().await;
    // Nobody knows of any other where it is now, but for the name.
    group.stop_all().await;
    (0..3).try_for_each(|host| network.readdress(host, Ipv4Addr::new(10, 77, 0, 101 + host as u8))).unwrap();
    name_server.knows(&at(&[101, 102, 103]), &[]);
    group.start_all().await;
    let loads = Loads::start(&group, &[0, 1, 2]);
    loads.go_on(30).await;
    published.extend(loads.finish().await);
    agree(&group, &group.everybody(), &mut published).await;
    for (index, other) in [(0, "10.77.0.102"), (1, "10.77.0.103"), (2, "10.77.0.101")] {
        until("the order tells where they are", async || {
            let members = group.members[index].unix().get_json::<serde_json::Value>("/v1/members").await.ok()?;
            members.to_string().contains(&format!("/ip4/{other}/tcp/7271")).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_fresh_hosts_that_a_service_names_with_ports_make_a_group_and_one_of_them_moves() {
    let Some(mut network) = hosts(4) else { return };
    let service = "_mesh._tcp.trial.test";
    let Some((mut group, mut name_server)) = that_ask_for_names(&network, [service; 3]).await else { return };
    let services = [(service, "n1.test", 7301), (service, "n2.test", 7302), (service, "n3.test", 7303)];
    for (member, (_, _, port)) in group.members.iter().zip(&services) {
        member.edit(|text| text.replace("/7271", &format!("/{port}")));
    }
    let at = |first: u8| {
        let hosts = [("n1.test", first), ("n2.test", 2), ("n3.test", 3)];
        hosts.map(|(name, last)| (name, Ipv4Addr::new(10, 77, 0, last)))
    };
    name_server.knows(&at(1), &services);
    group.start_all().await;
    let loads = Loads::start(&group, &[0, 1, 2]);
    loads.go_on(30).await;
    let mut published = loads.finish().await;
    group.members[0].stop().await;
    network.readdress(0, Ipv4Addr::new(10, 77, 0, 101)).unwrap();
    name_server.knows(&at(101), &services);
    group.members[0].start_and_catch_up().await;
    for other in [1, 2] {
        until_linked(&group, other, 0, true).await;
        until("it is found under its name", async || {
            let status = group.members[other].try_status().await?;
            let sources = status["links"]["discovery"]["sources"].as_array()?.clone();
            let found = sources.iter().filter(|source| source["name"] == "dns");
            let mut found = found.flat_map(|source| source["addresses"].as_array().into_iter().flatten());
            found.any(|found| found["address"] == "/ip4/10.77.0.101/tcp/7301").then_some(())
        })
        .await;
    }
    let loads = Loads::start(&group, &[0, 1, 2]);
    loads.go_on(30).await;
    published.extend(loads.finish().await);
    agree(&group, &group.everybody(), &mut published).await;
}

/// As a machine that is given another address after it has started, and was found already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_moves_while_it_waits_founds_the_group_where_it_is() {
    let Some(mut network) = hosts(3) else { return };
    let mut group = Group::fresh(3, 3, Some(&network)).await;
    group.members[0].start();
    group.members[1].start();
    group.members[0].waits("waits for 1 more").await;
    network.readdress(0, Ipv4Addr::new(10, 77, 9, 9)).unwrap();
    let moved = || group.members[0].log().contains("this candidate is reached elsewhere by now");
    until("it notices", async || moved().then_some(())).await;
    group.start_all().await;
    for member in &group.members {
        let genesis = fs::read_to_string(member.data_dir.join("genesis.toml")).unwrap();
        assert!(genesis.contains("/ip4/10.77.9.9/tcp/7271") && !genesis.contains("/ip4/10.77.0.1/"), "{genesis}");
    }
}
