//! One member as a child process. It ends when this process ends, in whatever way: it runs with `--exit-with-parent`,
//! and reads the end of its standard input.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::cmd::exit::Failure;
use crate::node::data_directory::DataDirectory;
use crate::node::identity::Identity;
use crate::node::settings::layers::Layers;
use crate::node::settings::table::VARIABLE_PREFIX;
use crate::node::settings::{Mistakes, Settings};
use crate::types::MemberId;

/// A member stops by itself well within this; beyond it it is killed.
const STOP_MAX: Duration = Duration::from_secs(20);

/// A member of a group on this machine, running or not.
pub struct MemberProcess {
    name: String,
    config: PathBuf,
    settings: Settings,
    code: Option<String>,
    child: Option<Child>,
    ended: Option<ExitStatus>,
}

impl MemberProcess {
    /// The member of that name and configuration, not started. Only the file counts: variables and flags of this process
    /// are not its own.
    pub fn of(name: &str, config: PathBuf) -> Result<MemberProcess, Failure> {
        let content = std::fs::read_to_string(&config)
            .map_err(|error| Failure::usage(format!("{} cannot be read: {error}", config.display())))?;
        let layers = Layers::gather(Some((&config, &content)), [], []);
        let folder = config.parent().unwrap_or(Path::new(""));
        let settings = Settings::from_layers(&layers, folder)
            .map_err(|Mistakes(mistakes)| Failure::usage(format!("{}: {}", config.display(), mistakes.join("; "))))?;
        Ok(MemberProcess { name: name.to_owned(), config, settings, code: None, child: None, ended: None })
    }

    /// The same, which joins its group by that code when it is first started.
    pub fn joining(self, code: &str) -> MemberProcess {
        MemberProcess { code: Some(code.to_owned()), ..self }
    }

    /// Its name in the group.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id; none before it has a key, which a member that joins draws at its first start.
    pub fn member(&self) -> Option<MemberId> {
        Identity::load(&self.settings.data_dir).ok().map(|identity| identity.member())
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Its folder, with everything of it.
    pub fn folder(&self) -> &Path {
        self.config.parent().expect("a file is in a folder")
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where its log of events goes.
    pub fn log_path(&self) -> PathBuf {
        self.config.with_file_name("synod.log")
    }

    /// Starts it. Its events go to the end of [`MemberProcess::log_path`].
    pub fn start(&mut self) -> Result<(), Failure> {
        let path = self.log_path();
        let log = File::options().create(true).append(true).open(&path);
        let log = log.map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
        let program = std::env::current_exe()
            .map_err(|error| Failure::failed(format!("this program cannot find its own file: {error}")))?;
        let mut command = Command::new(&program);
        let variables = std::env::vars_os().map(|(name, _)| name);
        for name in variables.filter(|name| name.to_string_lossy().starts_with(VARIABLE_PREFIX)) {
            command.env_remove(name);
        }
        let child = command
            .args(["run", "--exit-with-parent", "--config"])
            .arg(&self.config)
            .args(self.code.iter().flat_map(|code| ["--join", code]))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| Failure::failed(format!("{} cannot be started: {error}", program.display())))?;
        self.ended = None;
        self.child = Some(child);
        Ok(())
    }

    /// The number of its process, while it runs.
    pub fn pid(&mut self) -> Option<u32> {
        self.look();
        self.child.as_ref()?.id()
    }

    /// The number of whatever process serves the member: ours, or one that somebody started by hand.
    pub fn serving_pid(&mut self) -> Option<u32> {
        self.pid().or_else(|| {
            DataDirectory::check_unused(&self.settings.data_dir).err()?;
            DataDirectory::holder(&self.settings.data_dir)
        })
    }

    /// How its last process ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.look();
        self.ended
    }

    /// Kills it with SIGKILL and waits for its end.
    pub async fn kill(&mut self) -> Result<(), Failure> {
        if let Some(child) = &mut self.child {
            child.kill().await.map_err(|error| Failure::failed(format!("{} cannot be killed: {error}", self.name)))?;
        }
        self.look();
        Ok(())
    }

    /// Lets it know that it should stop: its standard input ends.
    pub fn ask_to_stop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.stdin.take());
        }
    }

    /// Waits for its end. False if it had to be killed.
    pub async fn ended(&mut self) -> bool {
        let Some(child) = &mut self.child else { return true };
        let in_time = tokio::time::timeout(STOP_MAX, child.wait()).await.is_ok();
        if !in_time {
            // It may have ended meanwhile; then there is nothing to kill.
            let _ = child.kill().await;
        }
        self.look();
        in_time
    }

    fn look(&mut self) {
        if let Some(child) = &mut self.child
            && let Ok(Some(status)) = child.try_wait()
        {
            self.ended = Some(status);
            self.child = None;
        }
    }
}
