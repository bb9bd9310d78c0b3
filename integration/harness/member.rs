//! One member: a real process, its files, and clients of it.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;
use synod::api::client::{Client, Target};

use super::program;
use super::wait::until;

/// A member of a group, running or not. Its process ends when this is dropped, and also when the tests are killed: it
/// runs with `--exit-with-parent`.
pub struct Member {
    /// Its name in genesis.
    pub name: String,
    /// Its configuration file.
    pub config: PathBuf,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Its Unix socket.
    pub socket: PathBuf,
    /// Its host API over TCP.
    pub api: SocketAddr,
    /// Where its mesh listens.
    pub mesh: SocketAddr,
    /// How the program is started: the words before its name. None: here.
    pub launcher: Vec<String>,
    process: Option<Child>,
}

/// What a process may be told.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    Kill,
    Terminate,
    Interrupt,
    Stop,
    Continue,
}

impl Signal {
    /// Sends it to a process of this test.
    pub fn send(self, pid: u32) {
        let name = match self {
            Signal::Kill => "KILL",
            Signal::Terminate => "TERM",
            Signal::Interrupt => "INT",
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
        };
        // Every shell knows `kill`; the program of that name is not on every machine.
        let command = format!("kill -s {name} {pid}");
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success(), "{command}");
    }
}

impl Member {
    /// The member that lives in that folder. Nothing is started.
    pub fn new(folder: &Path, name: &str, api: SocketAddr, mesh: SocketAddr) -> Member {
        let folder = folder.join(name);
        Member {
            name: name.to_owned(),
            config: folder.join("synod.toml"),
            data_dir: folder.join("data"),
            socket: folder.join("data/synod.sock"),
            api,
            mesh,
            launcher: Vec::new(),
            process: None,
        }
    }

    /// A second process's place with the same identity: a copy of the folder, with addresses of its own.
    pub fn copy(&self, folder: &Path, name: &str, api: SocketAddr, mesh: SocketAddr) -> Member {
        let copy = Member::new(folder, name, api, mesh);
        copy_folder(self.config.parent().expect("a file is in a folder"), &folder.join(name));
        copy.edit(|text| {
            let listens = format!("[mesh]\nlisten = [\"/ip4/{}/tcp/{}\"]", mesh.ip(), mesh.port());
            text.replace(&self.api.to_string(), &api.to_string()).replace("[mesh]", &listens)
        });
        copy
    }

    /// Gives it other addresses, in its configuration too.
    pub fn moved(&mut self, api: SocketAddr, mesh: SocketAddr) {
        let (before_api, before_mesh) = (self.api.to_string(), format!("/tcp/{}", self.mesh.port()));
        self.edit(|text| {
            text.replace(&before_api, &api.to_string()).replace(&before_mesh, &format!("/tcp/{}", mesh.port()))
        });
        (self.api, self.mesh) = (api, mesh);
    }

    /// Its log.
    pub fn wal(&self) -> PathBuf {
        self.data_dir.join("wal")
    }

    /// A client over TCP.
    pub fn client(&self) -> Client {
        Client::new(Target::Tcp(self.api.to_string()))
    }

    /// A client over the Unix socket.
    pub fn unix(&self) -> Client {
        Client::new(Target::Unix(self.socket.clone()))
    }

    /// Changes its configuration.
    pub fn edit(&self, change: impl FnOnce(String) -> String) {
        let before = fs::read_to_string(&self.config).unwrap();
        let after = change(before.clone());
        assert_ne!(before, after, "the edit changes something");
        fs::write(&self.config, after).unwrap();
    }

    /// Starts its process; what it logs goes to a file.
    pub fn start(&mut self) {
        self.start_by(program::command_by(&self.launcher));
    }

    /// Starts its process, which joins the group by that code, or goes on with joining.
    pub fn join(&mut self, code: &str) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let mut command = program::command_by(&self.launcher);
        command.args(["join", code, "--exit-with-parent", "--config"]).arg(&self.config);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(self.log_file());
        self.process = Some(command.spawn().expect("the program starts"));
    }

    /// The same; it reads the code from its standard input, which stays open.
    pub fn join_by_input(&mut self, code: &str) {
        self.join("-");
        let input = self.process.as_mut().and_then(|process| process.stdin.as_mut()).expect("it is piped");
        writeln!(input, "{code}").unwrap();
    }

    /// Starts its process by a command that ends in the program's name; arguments of `run` are added.
    pub fn start_by(&mut self, mut command: Command) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        command.args(["run", "--exit-with-parent", "--config"]).arg(&self.config);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(self.log_file());
        self.process = Some(command.spawn().expect("the program starts"));
    }

    /// Starts it, and waits until it has caught up.
    pub async fn start_and_catch_up(&mut self) {
        self.start();
        self.ready().await;
    }

    /// Waits until it is ready.
    pub async fn ready(&mut self) {
        let client = self.unix();
        until(&format!("{} is ready", self.name), async || {
            self.assert_runs();
            client.get("/readyz").await.ok().map(drop)
        })
        .await;
    }

    /// Fails if its process has ended.
    pub fn assert_runs(&mut self) {
        if let Some(process) = &mut self.process
            && let Some(status) = process.try_wait().unwrap()
        {
            panic!("{} ended by itself: {status}\n{}", self.name, self.log());
        }
    }

    /// How its process has ended by itself, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut().expect("it was started").try_wait().unwrap()?;
        self.process = None;
        Some(status)
    }

    /// Whether it was started and not seen to end.
    pub fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Kills it with SIGKILL and waits for its end.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        signal.send(self.pid());
    }

    /// Stops it by SIGTERM; it must end with exit code 0.
    pub async fn stop(&mut self) {
        self.signal(Signal::Terminate);
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// Waits until its process has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        until(&format!("{} has ended", self.name), async || self.has_ended()).await
    }

    /// Waits until its process has ended by itself, with that exit code, saying all of this.
    pub async fn refuses(&mut self, code: i32, parts: &[&str]) {
        let status = self.ended().await;
        let log = self.log();
        assert_eq!(status.code(), Some(code), "{log}");
        for part in parts {
            assert!(log.contains(part), "`{part}` is missing in: {log}");
        }
    }

    /// What it says about itself.
    pub async fn status(&self) -> Value {
        self.unix().get_json("/v1/status").await.unwrap()
    }

    /// What it says about itself, if it says anything.
    pub async fn try_status(&self) -> Option<Value> {
        self.unix().get_json("/v1/status").await.ok()
    }

    /// Waits until it is a candidate that says this of what it waits for.
    pub async fn waits(&self, words: &str) {
        until(&format!("{} waits and says {words}", self.name), async || {
            let status = self.try_status().await.filter(|status| status["role"] == "candidate")?;
            status["reasons"].to_string().contains(words).then_some(())
        })
        .await;
    }

    /// Everything its processes said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_file(&self) -> File {
        File::options().create(true).append(true).open(self.log_path()).unwrap()
    }

    fn log_path(&self) -> PathBuf {
        self.config.with_file_name("synod.log")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended by itself meanwhile.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Copies a folder with everything in it that is a file.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy_folder(&entry.path(), &target);
        } else if kind.is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
