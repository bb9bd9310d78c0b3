//! What cannot be used is refused before anything is started, by name, with the limit and what to do.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::harness::program;
use super::harness::sequence::agree;
use super::harness::{Group, synod, until};

const USAGE: i32 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_in_use_are_named_all_at_once() {
    let mut group = Group::found().await;
    let taken = [group.members[0].api, group.members[0].mesh];
    let held = taken.map(|address| TcpListener::bind(address).unwrap());
    let [api, mesh] = taken.map(|address| address.port().to_string());
    group.members[0].start();
    group.members[0]
        .refuses(USAGE, &[&api, "api.listen", &mesh, "mesh.listen, or genesis", "Address already in use"])
        .await;
    assert!(!group.members[0].socket.exists(), "nothing is left of a start that failed");
    drop(held);
    group.start_all().await;
    agree(&group, &group.everybody(), &mut Default::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mistake_of_a_configuration_is_told_at_once() {
    let group = Group::found().await;
    let config = &group.members[0].config;
    group.members[0].edit(|text| {
        text.replace("[timing]", "[timing]\nheartbeat = \"80ms\"\ntypo = 1")
            .replace("[wal]", "[wal]\nmessage_bytes_max = \"2MiB\"")
            .replace("# publish_timeout = \"10s\"", "publish_timeout = \"soon\"")
            .replace("segment_bytes = \"4MiB\"", "segment_bytes = \"2KiB\"")
    });
    group.edit_genesis(|text| text.replace("model = \"crash\"", "model = \"crush\"\ncolour = 1"));
    let told = [
        "mistakes:",
        "timing.heartbeat = \"80ms\"",
        "typo",
        "message_bytes_max",
        "genesis.toml",
        "`soon` is not a duration",
        "must be between \"64KiB\"",
        "model = \"crush\"",
        "colour",
    ];
    let path = config.to_str().unwrap();
    synod(["run", "--config", path]).await.refused(USAGE, &told);
    synod(["config", "check", "--config", path]).await.refused(USAGE, &told);
    assert!(!group.members[0].wal().exists(), "nothing was started");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_path_where_something_else_stands_is_refused_and_that_is_kept() {
    let mut group = Group::found().await;
    let (key, served) = (group.members[0].data_dir.join("member.key"), group.members[1].socket.clone());
    let (before, config) = (fs::read(&key).unwrap(), fs::read_to_string(&group.members[0].config).unwrap());
    let path = group.members[0].config.to_str().unwrap().to_owned();
    group.members[0].edit(|text| text.replace("# socket = \"\"", "socket = \"data/member.key\""));
    for command in [&["run"][..], &["config", "check"]] {
        let refused = synod(command.iter().copied().chain(["--config", &path])).await;
        refused.refused(USAGE, &["api.socket", "member.key is there already and is no socket"]);
    }
    assert_eq!(fs::read(&key).unwrap(), before);
    fs::write(&path, config).unwrap();
    group.members[1].start();
    let client = group.members[1].unix();
    until("the second member serves", async || client.get("/livez").await.ok()).await;
    group.members[0].edit(|text| text.replace("# socket = \"\"", &format!("socket = {served:?}")));
    group.members[0].start();
    group.members[0].refuses(USAGE, &["api.socket", "is in use by another process"]).await;
    group.members[1].unix().get("/livez").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_cannot_be_listened_on_is_refused_before_the_log_is_opened() {
    let group = Group::found().await;
    let path = group.members[0].config.to_str().unwrap();
    let mesh = format!("/ip4/{}/tcp/{}", group.members[0].mesh.ip(), group.members[0].mesh.port());
    group.edit_genesis(|text| text.replace(&mesh, "/dns4/n1/tcp/7271"));
    let told = ["mesh.listen is not set", "/dns4/n1/tcp/7271", "set mesh.listen = [\"/ip4/0.0.0.0/tcp/7271\"]"];
    synod(["config", "check", "--config", path]).await.refused(USAGE, &told);
    synod(["run", "--config", path]).await.refused(USAGE, &told);
    assert!(!group.members[0].wal().exists(), "nothing was started");
    group.members[0].edit(|text| text.replace("[mesh]", &format!("[mesh]\nlisten = [\"{mesh}\"]")));
    assert_eq!(synod(["config", "check", "--config", path]).await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_the_whole_group_is_no_setting_of_one_member() {
    let group = Group::found().await;
    let path = group.members[0].config.to_str().unwrap().to_owned();
    group.members[0].edit(|text| format!("message_bytes_max = \"2MiB\"\n{text}"));
    synod(["run", "--config", &path]).await.refused(USAGE, &["message_bytes_max", "genesis.toml"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_genesis_that_this_version_does_not_know_is_refused_by_name() {
    let group = Group::found().await;
    let path = group.members[0].config.to_str().unwrap().to_owned();
    let genesis = fs::read_to_string(group.genesis()).unwrap();
    for (from, to, told) in [
        ("model = \"crash\"", "model = \"byzantine\"", "model = \"byzantine\" is not there yet; use \"crash\""),
        ("rules_version = 0", "rules_version = 7", "rules_version = 7 is not known to this version"),
        ("name = \"n2\"", "name = \"n1\"", "two members are named `n1`"),
    ] {
        group.edit_genesis(|text| text.replace(from, to));
        synod(["run", "--config", &path]).await.refused(USAGE, &[told]);
        fs::write(group.genesis(), &genesis).unwrap();
    }
    let two = genesis.rsplit_once("\n[[members]]").unwrap().0;
    fs::write(group.genesis(), two).unwrap();
    synod(["run", "--config", &path]).await.refused(USAGE, &["2 members: a group has 3, 5 or 7"]);
    fs::remove_file(group.genesis()).unwrap();
    synod(["run", "--config", &path]).await.refused(USAGE, &["genesis = ", "cannot be read", "synod init"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_that_cannot_be_used_is_refused_by_name() {
    let mut group = Group::found().await;
    let config = group.members[0].config.clone();
    let run = async |parts: &[&str]| {
        synod(["run".as_ref(), "--config".as_ref(), config.as_os_str()]).await.refused(USAGE, parts);
    };
    let (data_dir, aside) = (group.members[0].data_dir.clone(), group.folder().join("aside"));
    fs::rename(&data_dir, &aside).unwrap();
    run(&["data_dir = ", "does not exist", "synod init"]).await;
    fs::write(&data_dir, "a file").unwrap();
    run(&["data_dir = ", "is not a directory"]).await;
    fs::remove_file(&data_dir).unwrap();
    fs::rename(&aside, &data_dir).unwrap();
    let key = data_dir.join("member.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    run(&["member.key has mode 0644", "chmod 600"]).await;
    let text = fs::read_to_string(&key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&key, &text[..text.len() - 9]).unwrap();
    run(&["member.key is not a key file"]).await;
    fs::write(&key, text).unwrap();
    group.start_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_of_another_user_is_refused_by_name() {
    let mut group = Group::found().await;
    let member = &mut group.members[0];
    for mode in [0o500, 0o000] {
        fs::set_permissions(&member.data_dir, fs::Permissions::from_mode(mode)).unwrap();
        member.start_by(program::command_without_privileges());
        member.refuses(USAGE, &["cannot be read and written by this user", "chown"]).await;
    }
    fs::set_permissions(&member.data_dir, fs::Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_overwrites_nothing_and_makes_no_even_group() {
    let group = Group::found().await;
    let folder = group.folder().to_str().unwrap();
    let key = fs::read(group.members[0].data_dir.join("member.key")).unwrap();
    synod(["init", "--members", "3", "--dir", folder]).await.refused(1, &["exists already and is never overwritten"]);
    assert_eq!(fs::read(group.members[0].data_dir.join("member.key")).unwrap(), key);
    let elsewhere = group.folder().join("elsewhere");
    let elsewhere = elsewhere.to_str().unwrap();
    synod(["init", "--members", "4", "--dir", elsewhere]).await.refused(USAGE, &["members = 4", "3, 5 or 7"]);
    synod(["init", "--base-port", "65500", "--dir", elsewhere]).await.refused(USAGE, &["--base-port 65500", "65433"]);
    synod(["init", "--name", "a b", "--dir", elsewhere]).await.refused(USAGE, &["name = \"a b\"", "1 to 64 letters"]);
    assert!(!fs::exists(elsewhere).unwrap());
    let made = synod(["init", "--members", "5", "--dir", elsewhere, "--output", "json"]).await.json();
    assert_eq!(made["members"].as_array().map(Vec::len), Some(5));
    assert!(made["members"][4]["config"].as_str().is_some_and(|path| fs::exists(path).unwrap()));
    assert!(matches!(made["genesis"], Value::String(_)));
}
