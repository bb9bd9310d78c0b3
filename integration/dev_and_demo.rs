//! `synod dev` and `synod demo`: groups that a command runs. Here they run on a group's own address, so that they meet
//! nobody.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;

use super::harness::load::publish_last;
use super::harness::member::Signal;
use super::harness::program;
use super::harness::sequence::{agree, agree_without};
use super::harness::{Group, Published, synod, until};

/// `synod dev`, ended when this is dropped; its members end with it, because they read the end of their input.
struct Dev {
    process: Child,
}

impl Dev {
    fn start(group: &Group) -> Dev {
        let mut command = program::command();
        command.args(["dev", "--output", "json", "--data-dir"]).arg(group.folder());
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Dev { process }
    }

    /// Ends it as Ctrl-C does, and gives back its exit code.
    async fn interrupt(mut self) -> Option<i32> {
        Signal::Interrupt.send(self.process.id());
        until("dev has ended", async || self.process.try_wait().unwrap()).await.code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The members of `members.json`, if all of them have the processes wanted: a number, or none.
fn roster(folder: &Path, running: &[bool]) -> Option<Vec<Value>> {
    let document = fs::read_to_string(folder.join("members.json")).ok()?;
    let members: Vec<Value> = serde_json::from_str(&document).expect("readers see it whole");
    let fits = members.iter().zip(running).all(|(member, running)| member["pid"].is_u64() == *running);
    (members.len() == running.len() && fits).then_some(members)
}

async fn nobody_runs(members: &[Value]) {
    for member in members {
        let process = format!("/proc/{}", member["pid"]);
        until("the member has ended", async || (!Path::new(&process).exists()).then_some(())).await;
    }
}

async fn all_ready(group: &mut Group) {
    for member in &mut group.members {
        member.ready().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_runs_a_group_keeps_its_roster_and_goes_on_with_it() {
    let mut group = Group::found().await;
    let mut published = Published::default();
    let dev = Dev::start(&group);
    all_ready(&mut group).await;
    let folder = group.folder().canonicalize().unwrap();
    let members = until("all run", async || roster(&folder, &[true; 3])).await;
    for (index, member) in members.iter().enumerate() {
        let own = &group.members[index];
        assert_eq!(member["name"], own.name);
        assert_eq!(member["api"], format!("http://{}", own.api));
        for (key, path) in [("socket", &own.socket), ("data_dir", &own.data_dir), ("config", &own.config)] {
            let told = Path::new(member[key].as_str().unwrap());
            assert!(told.is_absolute() && fs::canonicalize(told).unwrap() == path.canonicalize().unwrap(), "{member}");
        }
        assert_eq!(own.status().await["member"], member["member"]);
    }
    agree(&group, &group.everybody(), &mut published).await;
    // What is killed stays down, and can be started by hand.
    Signal::Kill.send(members[1]["pid"].as_u64().unwrap() as u32);
    until("its end is told", async || roster(&folder, &[true, false, true])).await;
    published.extend(publish_last(&group, &[0, 2]).await);
    group.members[1].start_and_catch_up().await;
    let by_hand = u64::from(group.members[1].pid());
    until("its process is told", async || roster(&folder, &[true; 3]).filter(|members| members[1]["pid"] == by_hand))
        .await;
    agree(&group, &group.everybody(), &mut published).await;
    assert_eq!(dev.interrupt().await, Some(0));
    nobody_runs(&[members[0].clone(), members[2].clone()]).await;
    group.members[1].stop().await;
    // The same directory, the same group.
    let dev = Dev::start(&group);
    all_ready(&mut group).await;
    let before = published.acknowledged();
    let sequence = agree(&group, &group.everybody(), &mut published).await;
    assert!(sequence.len() > before, "{} messages were there before", before);
    assert_eq!(dev.interrupt().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_dev_end_with_it_even_when_it_is_killed() {
    let mut group = Group::found().await;
    let dev = Dev::start(&group);
    all_ready(&mut group).await;
    let folder = group.folder().to_owned();
    let members = until("all run", async || roster(&folder, &[true; 3])).await;
    drop(dev);
    nobody_runs(&members).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_lets_members_join_and_leave_while_it_runs() {
    let mut group = Group::found().await;
    let folder = group.folder().to_owned();
    let change = async |change: &[&str]| {
        let place = ["--data-dir", folder.to_str().unwrap(), "--output", "json"];
        synod(["dev"].iter().chain(change).chain(&place).copied().collect::<Vec<_>>()).await
    };
    change(&["add"]).await.refused(1, &["no `synod dev` runs on"]);
    let dev = Dev::start(&group);
    all_ready(&mut group).await;
    let mut published = Published::default();
    agree(&group, &group.everybody(), &mut published).await;
    let added = change(&["add"]).await.json();
    assert_eq!(added["name"], "n4", "{added}");
    let newcomer = group.adopt();
    agree(&group, &group.everybody(), &mut published).await;
    until("all run", async || roster(&folder, &[true; 4])).await;
    // Started again it has the same members.
    assert_eq!(dev.interrupt().await, Some(0));
    let dev = Dev::start(&group);
    all_ready(&mut group).await;
    change(&["remove", "n9"]).await.refused(2, &["n9", "n4"]);
    // The voters stay; the one that was added goes.
    let left = change(&["remove"]).await.json();
    assert_eq!(left["name"], "n4", "{left}");
    assert!(!folder.join("n4").exists());
    until("three are left", async || roster(&folder, &[true; 3])).await;
    agree_without(&group, &[0, 1, 2], &[newcomer], &mut published).await;
    change(&["remove"]).await.refused(2, &["nobody was added"]);
    assert_eq!(dev.interrupt().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_refuses_ports_in_use_and_another_size_for_a_group_that_exists() {
    let group = Group::found().await;
    let held = std::net::TcpListener::bind(group.members[2].mesh).unwrap();
    let folder = group.folder().to_str().unwrap();
    let taken = group.members[2].mesh.to_string();
    synod(["dev", "--data-dir", folder]).await.refused(2, &[&taken, "mesh of n3"]);
    synod(["dev", "--data-dir", folder, "--members", "5"]).await.refused(2, &["--members 5", "has 3"]);
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_shows_that_all_delivered_the_same_in_both_acts() {
    // It is a group too, and this machine is small.
    let _room = Group::found().await;
    let demo = synod(["demo"]).await;
    assert_eq!(demo.code, Some(0), "{demo:?}");
    assert_eq!(demo.stdout.matches("THE SAME SEQUENCE EVERYWHERE").count(), 2, "{}", demo.stdout);
}
