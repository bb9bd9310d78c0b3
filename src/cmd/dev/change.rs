//! `synod dev add` and `synod dev remove`: a running development group gets a member, or lets one leave.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::control::{self, Wish};
use crate::api::client::{Client, Target};
use crate::cmd::exit::Failure;
use crate::cmd::group::scratch::Scratch;
use crate::cmd::group::{self, newcomer, roster};
use crate::cmd::leave;
use crate::cmd::output::{Output, Progress};
use crate::cmd::sidecar;
use crate::cmd::status::words;

/// How to change the group.
#[derive(Debug, clap::Subcommand)]
pub enum DevChange {
    /// A further member joins the group that runs
    Add {
        #[command(flatten)]
        place: Place,
    },
    /// A member leaves the group that runs; its process ends, and its folder goes
    Remove {
        #[command(flatten)]
        place: Place,
        /// Its name [default: the one that was added last]
        name: Option<String>,
    },
}

/// Which group.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// Directory of the group [default: that of the one `dev` that runs on a temporary directory]
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
}

/// One member by the roster.
#[derive(Debug, Clone, Deserialize)]
struct Listed {
    name: String,
    pid: Option<u32>,
    api: String,
}

/// A new member is ready within this, or the command stops waiting; the member does not.
const JOIN_MAX: Duration = Duration::from_secs(120);
/// A member that has left ends within this.
const END_MAX: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Runs the command.
pub fn run(change: &DevChange, output: Output) -> Result<(), Failure> {
    sidecar::block_on(async {
        match change {
            DevChange::Add { place } => add(&place.directory().await?, output).await,
            DevChange::Remove { place, name } => remove(&place.directory().await?, name.as_deref(), output).await,
        }
    })
}

impl Place {
    /// The directory of a group whose `dev` runs.
    async fn directory(&self) -> Result<PathBuf, Failure> {
        if let Some(directory) = &self.data_dir {
            let nobody = format!("no `synod dev` runs on {}; start it with --data-dir", directory.display());
            return if runs(directory).await { Ok(directory.clone()) } else { Err(Failure::failed(nobody)) };
        }
        let mut running = Vec::new();
        for directory in Scratch::all("dev") {
            if runs(&directory).await {
                running.push(directory);
            }
        }
        match running.len() {
            1 => Ok(running.remove(0)),
            0 => Err(Failure::failed(
                "no `synod dev` runs on a temporary directory; start one, or name the directory of yours by --data-dir",
            )),
            _ => {
                let named = running.iter().map(|directory| format!("\n  {}", directory.display()));
                let named = named.collect::<String>();
                Err(Failure::usage(format!("several `synod dev` run; choose one by --data-dir:{named}")))
            }
        }
    }
}

async fn runs(directory: &Path) -> bool {
    tokio::net::UnixStream::connect(control::path(directory)).await.is_ok()
}

async fn add(directory: &Path, output: Output) -> Result<(), Failure> {
    let code = newcomer::invite(&ready_member(directory, None).await?).await?;
    let added = control::ask(directory, &Wish::Add { code }).await?;
    let name = added["name"].as_str().unwrap_or_default();
    let member = listed(directory)?.into_iter().find(|member| member.name == name);
    let member =
        member.ok_or_else(|| Failure::failed(format!("{name} is not in {}", roster::path(directory).display())))?;
    let mut progress = Progress::new(output);
    let deadline = Instant::now() + JOIN_MAX;
    loop {
        let status = client(&member).get_json::<Value>("/v1/status").await;
        if status.as_ref().is_ok_and(|status| status["ready"] == true) {
            break;
        }
        progress.tell(&match status {
            Ok(status) => words(&status["reasons"], "; "),
            Err(_) => format!("{name} to join"),
        });
        if Instant::now() >= deadline {
            let log = directory.join(name).join("synod.log");
            return Err(Failure::failed(format!("{name} is started and not ready yet; see {}", log.display())));
        }
        sleep(LOOK_INTERVAL).await;
    }
    output.print(&added, || format!("{name} has joined; its API is at {}", member.api));
    Ok(())
}

async fn remove(directory: &Path, name: Option<&str>, output: Output) -> Result<(), Failure> {
    let member = chosen(directory, name)?;
    let name = &member.name;
    if member.pid.is_some() {
        let mut progress = Progress::new(output);
        leave::leave(&client(&member), None, |waits_for| progress.tell(waits_for)).await?;
    } else {
        // Whether it is a member still only the others can tell: its folder is its key and what it accepted.
        let others = ready_member(directory, Some(name)).await?;
        let members = sidecar::document(&others, "/v1/members").await?;
        if members["members"].as_array().into_iter().flatten().any(|member| member["name"] == name.as_str()) {
            return Err(Failure::failed(format!(
                "{name} does not run, and is a member still: start it (`synod run --config {}`) and let it leave, or \
                 `synod remove {name}` on another member first",
                directory.join(name).join("synod.toml").display()
            )));
        }
    }
    let deadline = Instant::now() + END_MAX;
    let forgotten = loop {
        match control::ask(directory, &Wish::Forget { name: name.clone() }).await {
            Err(_) if Instant::now() < deadline => sleep(LOOK_INTERVAL).await,
            answer => break answer?,
        }
    };
    output.print(&forgotten, || format!("{name} has left, and its folder is removed"));
    Ok(())
}

/// The member of that name, or the one that was added last.
fn chosen(directory: &Path, name: Option<&str>) -> Result<Listed, Failure> {
    let members = listed(directory)?;
    let names = members.iter().map(|member| member.name.clone()).collect::<Vec<_>>().join(", ");
    match name {
        Some(name) => {
            let member = members.into_iter().find(|member| member.name == name);
            member.ok_or_else(|| Failure::usage(format!("nobody is `{name}`; the group has {names}")))
        }
        None => {
            let genesis = group::genesis_names(directory)?;
            let added = members.into_iter().rfind(|member| !genesis.contains(&member.name));
            added.ok_or_else(|| Failure::usage(format!("nobody was added; name the member that is to leave: {names}")))
        }
    }
}

fn listed(directory: &Path) -> Result<Vec<Listed>, Failure> {
    let path = roster::path(directory);
    let unusable = |error: &dyn std::fmt::Display| Failure::failed(format!("{}: {error}", path.display()));
    let content = std::fs::read(&path).map_err(|error| unusable(&error))?;
    serde_json::from_slice(&content).map_err(|error| unusable(&error))
}

/// A client of a member that is ready, and is not that one.
async fn ready_member(directory: &Path, but: Option<&str>) -> Result<Client, Failure> {
    for member in listed(directory)? {
        let client = client(&member);
        if member.pid.is_some() && but != Some(&member.name) && client.get("/readyz").await.is_ok() {
            return Ok(client);
        }
    }
    Err(Failure::failed("no member of the group is ready; wait until one is, or see its synod.log"))
}

fn client(member: &Listed) -> Client {
    Client::new(Target::Tcp(member.api.trim_start_matches("http://").to_owned()))
}
