//! The doctor, beside members that are well, that are down, and that cannot start.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use super::harness::member::Member;
use super::harness::program::{command, to_its_end};
use super::harness::{Group, synod, until};

/// What the machine is measured by: nothing that a test could demand of it.
const MEASURED: &[&str] = &["disk", "disk sync", "log sync"];

/// What one examination came to.
#[derive(Debug)]
struct Examination {
    code: Option<i32>,
    findings: Vec<Value>,
    worst: Value,
}

impl Examination {
    async fn by(arguments: &[&str]) -> Examination {
        let mut command = command();
        command.args(["doctor", "--output", "json"].iter().chain(arguments));
        Examination::with(command).await
    }

    async fn with(command: Command) -> Examination {
        let ended = to_its_end(command, "").await;
        let mut document: Value =
            serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        let Value::Array(findings) = document["findings"].take() else { panic!("no findings: {ended:?}") };
        Examination { code: ended.code, findings, worst: document["worst"].take() }
    }

    async fn of(member: &Member) -> Examination {
        Examination::by(&["--config", member.config.to_str().unwrap()]).await
    }

    /// The findings of one check.
    fn of_check(&self, check: &str) -> Vec<&Value> {
        self.findings.iter().filter(|finding| finding["check"] == check).collect()
    }

    /// One check stands like this, and says all of it.
    fn says(&self, check: &str, state: &str, what: &str, advice: &str) {
        let fits = |finding: &&Value| {
            let part = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
            finding["state"] == state && part("what").contains(what) && part("advice").contains(advice)
        };
        let found = self.of_check(check);
        assert!(found.iter().any(fits), "{check}: {state}, `{what}`, `{advice}` is not among {:#?}", self.findings);
    }

    /// Everything that is not well, apart from what is measured.
    fn unwell(&self) -> Vec<&Value> {
        let counts = |finding: &&Value| !MEASURED.iter().any(|check| finding["check"] == *check);
        self.findings.iter().filter(|finding| finding["state"] != "ok").filter(counts).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_examined_while_it_is_well_and_while_members_are_down() {
    let mut group = Group::start().await;
    let well = until("all is well", async || {
        let examination = Examination::of(&group.members[0]).await;
        assert_eq!(examination.code, Some(0), "{examination:#?}");
        examination.unwell().is_empty().then_some(examination)
    })
    .await;
    let pid = format!("process {}", group.members[0].pid());
    well.says("configuration", "ok", "group `trial`", "");
    well.says("member.key", "ok", "mode 0600", "");
    well.says("lock", "ok", &pid, "");
    well.says("log", "ok", "names and headers are whole", "");
    well.says("port api.listen tcp", "ok", &pid, "");
    well.says("port mesh.listen tcp", "ok", &pid, "");
    well.says("sidecar", "ok", "answers: n1", "");
    well.says("quorum", "ok", "3 of 3 voters in touch, 2 needed", "");
    well.says("clock", "ok", "ahead of the voters' median", "");
    well.says("link n2", "ok", "up", "");
    for name in ["reach n1", "reach n2", "reach n3"] {
        well.says(name, "ok", "(by genesis, members) answers within", "");
    }
    assert!(
        fs::read_dir(&group.members[0].data_dir)
            .unwrap()
            .flatten()
            .all(|entry| { !entry.file_name().to_string_lossy().contains("probe") })
    );
    let people = synod(["doctor", "--config", group.members[1].config.to_str().unwrap()]).await;
    assert!(people.code == Some(0) && people.stdout.contains("ok    quorum"), "{people:?}");
    assert!(people.stderr.contains("waiting for: answers at"), "{people:?}");

    let elsewhere = Examination::by(&["--api", &group.members[0].api.to_string()]).await;
    elsewhere.says("configuration", "ok", "not examined", "");
    elsewhere.says("reach n3", "ok", "answers within", "");
    assert!(elsewhere.of_check("member.key").is_empty());
    let (socket, config) = (group.members[0].socket.to_str().unwrap(), group.members[1].config.to_str().unwrap());
    let other = Examination::by(&["--api", socket, "--config", config]).await;
    other.says("identity", "fail", "the sidecar that answers is", "of one and the same member");

    group.members[2].kill();
    until("the third is missing", async || {
        let status = group.members[0].try_status().await?;
        (status["ready"] == true && status["quorum"]["linked"] == 2).then_some(())
    })
    .await;
    let one_down = Examination::of(&group.members[0]).await;
    assert_eq!((one_down.code, &one_down.worst), (Some(0), &json!("warn")), "{one_down:#?}");
    one_down.says("quorum", "warn", "missing: n3 (last heard", "start n3");
    one_down.says("link n3", "warn", "down", "");
    one_down.says("reach n3", "warn", "refused", "nobody listens there");
    let from_there = Examination::of(&group.members[2]).await;
    assert_eq!((from_there.code, &from_there.worst), (Some(0), &json!("warn")), "{from_there:#?}");
    from_there.says("sidecar", "warn", "does not run", "synod run");
    from_there.says("lock", "ok", "no process has the directory", "");
    from_there.says("port mesh.listen tcp", "ok", "is free", "");
    from_there.says("standing", "ok", "this member votes", "");
    from_there.says("clock", "ok", "not compared", "");
    from_there.says("reach n1", "ok", "answers within", "");
    assert!(from_there.of_check("reach n3").is_empty(), "nobody is at its own door");

    group.members[1].kill();
    until("the second is missing, too", async || {
        (group.members[0].try_status().await?["quorum"]["linked"] == 1).then_some(())
    })
    .await;
    let alone = Examination::of(&group.members[0]).await;
    assert_eq!((alone.code, &alone.worst), (Some(1), &json!("fail")), "{alone:#?}");
    alone.says("quorum", "fail", "1 of 3 voters in touch, 2 needed", "nothing is ordered until one more is in touch");
    alone.says("ready", "fail", "no quorum", "");
    group.start_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_is_not_the_sidecars_is_told_from_one_that_is_well() {
    let mut group = Group::found().await;
    let config = group.members[0].config.clone();
    let (text, data_dir) = (fs::read_to_string(&config).unwrap(), group.members[0].data_dir.clone());
    group.members[0].start();
    let status = until("it says how it stands", async || group.members[0].try_status().await).await;
    assert_eq!(status["data_dir"], json!(data_dir));
    // As where a service manager sets SYNOD_DATA_DIR.
    let elsewhere = config.with_file_name("elsewhere.toml");
    fs::write(&elsewhere, text.replace("data_dir = \"data\"", "data_dir = \"none\"")).unwrap();
    let told = Examination::by(&["--config", elsewhere.to_str().unwrap()]).await;
    let advice = format!("--data-dir {}", data_dir.display());
    told.says("data directory", "warn", "neither is examined", &advice);
    for check in ["lock", "member.key", "log", "disk"] {
        assert!(told.of_check(check).is_empty(), "{told:#?}");
    }
    // The flags that it was started with lie over the file.
    let place = data_dir.to_str().unwrap();
    let told = Examination::by(&["--config", elsewhere.to_str().unwrap(), "--data-dir", place]).await;
    told.says("lock", "ok", "has the directory", "");
    // Where nothing is said the defaults are not taken for its configuration.
    let nowhere = tempfile::tempdir().unwrap();
    let mut command = command();
    command.args(["doctor", "--output", "json"]).current_dir(nowhere.path());
    command.env("SYNOD_API_LISTEN", group.members[0].api.to_string());
    let told = Examination::with(command).await;
    told.says("data directory", "warn", "neither is examined", &advice);
    told.says("sidecar", "ok", "answers", "");
    assert!(told.of_check("configuration").is_empty(), "{told:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_without_a_group_hears_whom_its_sources_lead_to() {
    let mut group = Group::fresh(4, 3, None).await;
    group.members[0].start();
    let status = until("the first waits", async || {
        group.members[0].try_status().await.filter(|status| status["role"] == "candidate")
    })
    .await;
    assert_eq!(status["data_dir"], json!(group.members[0].data_dir));
    let elsewhere = group.members[0].config.with_file_name("elsewhere.toml");
    let text = fs::read_to_string(&group.members[0].config).unwrap();
    fs::write(&elsewhere, text.replace("data_dir = \"data\"", "data_dir = \"none\"")).unwrap();
    let told = Examination::by(&["--config", elsewhere.to_str().unwrap()]).await;
    let advice = format!("--data-dir {}", group.members[0].data_dir.display());
    told.says("data directory", "warn", "neither is examined", &advice);
    assert!(told.of_check("member.key").is_empty(), "{told:#?}");

    let waiting = Examination::of(&group.members[3]).await;
    assert_eq!((waiting.code, &waiting.worst), (Some(0), &json!("warn")), "{waiting:#?}");
    waiting.says("reach others", "ok", "somebody there has no group yet", "");
    waiting.says("reach others", "warn", "refused", "nobody listens there");
    waiting.says("clock", "ok", "not compared", "");
    group.members[1..3].iter_mut().for_each(Member::start);
    for member in &mut group.members[..3] {
        member.ready().await;
    }
    let founded = Examination::of(&group.members[3]).await;
    founded.says("reach others", "warn", "this machine is of none yet", "synod invite");
    assert_eq!(founded.of_check("reach others").len(), 3, "{founded:#?}");

    // Whose genesis cannot be read is of a group all the same.
    fs::create_dir_all(&group.members[3].data_dir).unwrap();
    fs::write(group.members[3].data_dir.join("genesis.toml"), "name = 1\n").unwrap();
    let damaged = Examination::of(&group.members[3]).await;
    damaged.says("configuration", "fail", "genesis.toml", "");
    damaged.says("reach", "warn", "nobody knows which group is meant", "correct the genesis");
    assert!(damaged.of_check("reach others").is_empty(), "{damaged:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_a_member_from_starting_is_told_with_what_to_do() {
    let mut group = Group::found().await;
    let taken = [group.members[0].api, group.members[0].mesh];
    let held = taken.map(|address| TcpListener::bind(address).unwrap());
    let key = group.members[0].data_dir.join("member.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let told = Examination::of(&group.members[0]).await;
    assert_eq!((told.code, &told.worst), (Some(1), &json!("fail")), "{told:#?}");
    let us = format!("process {}", std::process::id());
    told.says("port api.listen tcp", "fail", &us, "set another one (api.listen)");
    told.says("member.key", "fail", "mode 0640", "chmod 600");
    told.says("reach", "fail", "nobody answers", "firewall");
    told.says("log", "ok", "never started", "");
    drop(held);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    // Which of the founders it is, and so where its mesh listens, is told by its key.
    let held = TcpListener::bind(group.members[0].mesh).unwrap();
    Examination::of(&group.members[0]).await.says("port mesh.listen tcp", "fail", &us, "mesh.listen");
    drop(held);

    group.members[1].edit(|text| text.replace("[wal]", "[wal]\ntypo = 1").replace("4MiB", "2KiB"));
    group.edit_genesis(|text| text.replace("model = \"crash\"", "model = \"crush\""));
    let mistaken = Examination::of(&group.members[1]).await;
    assert_eq!(mistaken.code, Some(1));
    for part in ["typo", "wal.segment_bytes = \"2KiB\"", "model = \"crush\""] {
        mistaken.says("configuration", "fail", part, "synod config check");
    }
    mistaken.says("member.key", "ok", "mode 0600", "");
    group.edit_genesis(|text| text.replace("model = \"crush\"", "model = \"crash\""));

    let token = group.members[2].config.with_file_name("token");
    fs::write(&token, "secret-1\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    group.members[2].edit(|text| {
        text.replace("# token_file = \"\"", "token_file = \"token\"").replace("# socket = \"\"", "socket = \"run/s\"")
    });
    let closed = Examination::of(&group.members[2]).await;
    closed.says("api.token_file", "fail", "has mode 0644", "nobody else");
    closed.says("api.socket", "fail", "run/s cannot be made", "make that folder");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(token.with_file_name("run")).unwrap();
    let open = Examination::of(&group.members[2]).await;
    open.says("api.token_file", "ok", "holds a token", "");
    open.says("api.socket", "ok", "can be made", "");
    // As where a service manager takes it away with the member.
    fs::remove_file(&token).unwrap();
    let taken = Examination::of(&group.members[2]).await;
    taken.says("api.token_file", "fail", "No such file", "nobody else");
    taken.says("sidecar", "warn", "does not run", "synod run");

    fs::write(group.members[2].data_dir.join("departed"), "this member has left its group\n").unwrap();
    Examination::of(&group.members[2]).await.says("departed", "fail", "has left its group", "synod join");
    fs::remove_dir_all(&group.members[2].data_dir).unwrap();
    let gone = Examination::of(&group.members[2]).await;
    assert_eq!(gone.code, Some(1), "{gone:#?}");
    gone.says("data directory", "fail", "does not exist", "a lost directory is a lost identity");

    let nothing = synod(["doctor", "--config", "/no/such/synod.toml"]).await;
    assert_eq!(nothing.code, Some(1), "{nothing:?}");
    assert!(
        nothing.stdout.contains("FAIL  configuration") && nothing.stdout.contains("\u{2192} --config"),
        "{nothing:?}"
    );
    assert!(nothing.stderr.contains("check"), "{nothing:?}");
    group.members[0].start();
    until("it says how it stands", async || group.members[0].try_status().await).await;
    let first = Examination::of(&group.members[0]).await;
    first.says("quorum", "fail", "1 of 3 voters in touch", "start");
}
