//! A volume without room: a small memory file system of the member's own, which nobody else sees and which goes with it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use synod::types::Ack;

use super::harness::load::{Fate, publish, publisher_name};
use super::harness::member::Member;
use super::harness::network::nothing_may_be_left_out;
use super::harness::program::PROGRAM;
use super::harness::sequence::agree;
use super::harness::{Group, Load, until};

/// Mounts a small volume at the first argument, copies the key of the second there, and runs what follows.
const SMALL_VOLUME: &str = r#"
set -e
mount -t tmpfs -o size=24m,mode=0700 tmpfs "$1"
cp -p "$2" "$1"/
shift 2
exec "$@"
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_with_a_full_disk_refuses_publishes_serves_reads_and_recovers_by_itself() {
    fills_up(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_with_a_full_disk_hands_over_and_recovers_by_itself() {
    fills_up(0).await;
}

/// The member that leads at first is the first.
async fn fills_up(victim: usize) {
    let Some(mount) = mounting() else { return not_tried() };
    let mut group = Group::found().await;
    start_on_small_volume(mount, &group.folder().join("n.sock"), &mut group.members[victim]);
    group.start_all().await;
    let others = group.others(victim);
    let load = Load::start(&group);
    load.goes_on(&group.everybody(), 50).await;
    let ballast = volume(&group.members[victim]).join("ballast");
    fill(&ballast);
    // What anybody publishes uses everybody's log up, until nothing is left of what was made ahead.
    let (name, padding, mut number, mut extra) = (publisher_name(), "x".repeat(200_000), 0, Vec::new());
    let (probes, probe_at) = (publisher_name(), group.members[victim].unix());
    let refused = until("its disk is full", async || {
        number += 1;
        let filling = format!("{name}/{number} {padding}");
        extra.extend(publish(&group.members[others[0]].unix(), others[0], filling, Ack::Accepted).await);
        let probe = publish(&probe_at, victim, format!("{probes}/{number}"), Ack::Accepted).await.unwrap();
        extra.push(probe.clone());
        matches!(probe.fate, Fate::Rejected { .. }).then_some(probe)
    })
    .await;
    assert!(matches!(&refused.fate, Fate::Rejected { why } if why.contains("507 disk_full")), "{refused:?}");
    let member = &group.members[victim];
    until("it says so", async || {
        let reason = member.unix().get("/readyz").await.err()?.to_string();
        (reason.contains("disk") && !member.status().await["disk"]["full"].is_null()).then_some(())
    })
    .await;
    let page: Value = member.unix().get_json("/v1/messages?after=0&limit=1").await.unwrap();
    assert_eq!(page["messages"][0]["position"], 1, "it serves what it has");
    load.goes_on(&others, 200).await;
    fs::remove_file(&ballast).unwrap();
    group.members[victim].ready().await;
    load.goes_on(&group.everybody(), 50).await;
    let mut published = load.finish().await;
    published.add(extra);
    published.none_failed_at(&others);
    let otherwise = published.iter().find(|sent| match &sent.fate {
        Fate::Rejected { why } => !why.contains("disk_full"),
        Fate::Unknown { .. } => true,
        _ => false,
    });
    assert!(otherwise.is_none(), "refused for another reason: {otherwise:?}");
    agree(&group, &group.everybody(), &mut published).await;
}

/// Starts the member with its data on a volume of its own, in a mount namespace of its own.
fn start_on_small_volume(mut mount: Command, socket: &Path, member: &mut Member) {
    let key = member.config.with_file_name("member.key");
    fs::rename(member.data_dir.join("member.key"), &key).unwrap();
    // What is in its data directory cannot be seen from here.
    member.edit(|config| config.replace("# socket = \"\"", &format!("socket = {socket:?}")));
    member.socket = socket.to_owned();
    mount.args(["sh", "-c", SMALL_VOLUME, "sh"]).arg(&member.data_dir).arg(&key).arg(PROGRAM);
    member.start_by(mount);
}

/// Runs what follows where it may mount: as this user, or as the root of a user namespace. None if it may not at all, as
/// in most containers.
fn mounting() -> Option<Command> {
    let ways: [&[&str]; 2] = [&["--mount"], &["--map-root-user", "--mount"]];
    let run = |way: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(way);
        command
    };
    let works = |way: &[&str]| {
        let mut trial = run(way);
        trial.args(["sh", "-c", "mount -t tmpfs tmpfs /tmp"]).stdout(Stdio::null()).stderr(Stdio::null());
        trial.status().is_ok_and(|status| status.success())
    };
    ways.into_iter().find(|way| works(way)).map(run)
}

/// Says so past the harness, which keeps what tests that pass print; fails where nothing may be left out.
fn not_tried() {
    let said =
        "NOT TRIED: full disks. This user may mount nothing, not even in a namespace of its own (`unshare --mount`).";
    assert!(!nothing_may_be_left_out(), "{said}");
    std::io::stderr().write_all(format!("{said}\n").as_bytes()).unwrap();
}

/// The member's data directory as it sees it.
fn volume(member: &Member) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", member.pid()));
    root.join(member.data_dir.strip_prefix("/").expect("it is absolute"))
}

/// Writes a file until nothing more fits on its volume.
fn fill(path: &Path) {
    let mut file = File::create_new(path).unwrap();
    let piece = vec![0; 16 << 10];
    loop {
        match file.write_all(&piece) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return,
            Err(error) => panic!("{error}"),
        }
    }
}
