//! Commands that run to their end.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_synod");

/// Longer than any command takes.
const COMMAND_MAX: Duration = Duration::from_secs(90);

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl Ended {
    /// What a command with `--output json` printed. It must have succeeded.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// It ended with that code, and said all of this.
    pub fn refused(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is missing in: {}", self.stderr);
        }
    }
}

/// A command of the program, without the environment's settings.
pub fn command() -> Command {
    command_by(&[])
}

/// The same, started by a program that is given these words and then the program's name.
pub fn command_by(words: &[String]) -> Command {
    let mut command = match words.split_first() {
        None => Command::new(PROGRAM),
        Some((launcher, arguments)) => {
            let mut command = Command::new(launcher);
            command.args(arguments).arg(PROGRAM);
            command
        }
    };
    let settings =
        std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("SYNOD_"));
    for name in settings {
        command.env_remove(name);
    }
    command
}

/// A command of the program that may do no more than its user: root gives its privileges up.
pub fn command_without_privileges() -> Command {
    if !is_root() {
        return command();
    }
    let mut command = Command::new("setpriv");
    command.args(["--inh-caps=-all", "--bounding-set=-all", PROGRAM]);
    command
}

/// Whether these tests run as root.
fn is_root() -> bool {
    fs::metadata("/proc/self").expect("/proc is there").uid() == 0
}

/// Runs the program to its end.
pub async fn synod<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Ended {
    synod_with_input(arguments, "").await
}

/// Runs the program to its end, with text on its standard input.
pub async fn synod_with_input<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>, input: &str) -> Ended {
    let mut command = command();
    command.args(arguments);
    to_its_end(command, input).await
}

/// Runs a command to its end, with text on its standard input.
pub async fn to_its_end(command: Command, input: &str) -> Ended {
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut standard_input = child.stdin.take().expect("it is piped");
    // A command that does not read its input closes it.
    let _ = standard_input.write_all(input.as_bytes()).await;
    drop(standard_input);
    let output = timeout(COMMAND_MAX, child.wait_with_output()).await.expect("the command ends").expect("it ran");
    let text = |bytes| String::from_utf8(bytes).expect("the program speaks UTF-8");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}
