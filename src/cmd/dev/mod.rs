//! `synod dev`: a whole group on this machine, for trying and for tests.

mod view;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::exit::Failure;
use super::group::member_process::MemberProcess;
use super::group::scratch::Scratch;
use super::group::{self, poll, ports, roster};
use super::output::{Output, print_line};
use super::{init, sidecar};
use crate::api::client::Client;
use crate::node::data_directory::DataDirectory;
use view::View;

/// Which group.
#[derive(Debug, clap::Args)]
pub struct DevArguments {
    /// Members of a new group: 3, 5 or 7, or 1, which tolerates nothing [default: 3]
    #[arg(long)]
    members: Option<u16>,
    /// Directory of the group, made if it is not there; started again on it, the same group goes on [default: a
    /// temporary one, removed at the end]
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// Member i of a new group serves its API at this port + i - 1, its mesh 100 above that; all on 127.0.0.1
    /// [default: 7171]
    #[arg(long, value_name = "PORT")]
    base_port: Option<u16>,
}

const MEMBERS: u16 = 3;
const BASE_PORT: u16 = 7171;
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Runs the command until Ctrl-C or SIGTERM.
pub fn run(arguments: &DevArguments, output: Output) -> Result<(), Failure> {
    let scratch = match arguments.data_dir {
        None => Some(Scratch::make("dev")?),
        Some(_) => None,
    };
    let directory = match (&arguments.data_dir, &scratch) {
        (Some(directory), _) => make(directory)?,
        (None, Some(scratch)) => scratch.path().to_owned(),
        (None, None) => unreachable!("without a directory a temporary one is made"),
    };
    let _held =
        DataDirectory::lock(&directory).map_err(|error| Failure::usage(format!("a group's directory: {error}")))?;
    let members = match group::resume(&directory)? {
        Some(members) => same_group(arguments, members)?,
        None => {
            let base = arguments.base_port.unwrap_or(BASE_PORT);
            let count = arguments.members.unwrap_or(MEMBERS);
            group::found(&directory, "dev", init::ports(base, count)?)?
        }
    };
    ports::check_free(&members)?;
    sidecar::block_on(Dev { directory, members, roster: Value::Null, output }.run())
}

/// Makes the directory if need be, and names it absolutely: scripts read the paths from elsewhere.
fn make(directory: &Path) -> Result<PathBuf, Failure> {
    std::fs::create_dir_all(directory)
        .and_then(|()| directory.canonicalize())
        .map_err(|error| Failure::usage(format!("--data-dir {}: {error}", directory.display())))
}

/// A group that exists has the size and the ports it was made with.
fn same_group(arguments: &DevArguments, members: Vec<MemberProcess>) -> Result<Vec<MemberProcess>, Failure> {
    let count = members.len();
    if let Some(asked) = arguments.members
        && usize::from(asked) != count
    {
        return Err(Failure::usage(format!(
            "--members {asked}: the group in this directory has {count}; leave the flag out, or name another directory"
        )));
    }
    let port = members.first().map_or(0, |member| member.settings().api.listen.port());
    if let Some(asked) = arguments.base_port
        && asked != port
    {
        return Err(Failure::usage(format!(
            "--base-port {asked}: the group in this directory begins at {port}; leave the flag out, or name another \
             directory"
        )));
    }
    Ok(members)
}

struct Dev {
    directory: PathBuf,
    members: Vec<MemberProcess>,
    roster: Value,
    output: Output,
}

impl Dev {
    async fn run(mut self) -> Result<(), Failure> {
        let unheard = |error| Failure::failed(format!("signals cannot be heard: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(unheard)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(unheard)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(unheard)?;
        for member in &mut self.members {
            member.start()?;
        }
        self.write_roster()?;
        self.greet();
        let clients: Vec<Client> = self.members.iter().map(poll::client).collect();
        let mut view = View::new(self.output, &self.members);
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = hangup.recv() => break,
                _ = look.tick() => {}
            }
            let mut standings = Vec::new();
            for (member, client) in self.members.iter_mut().zip(&clients) {
                standings.push(poll::standing(member, client).await);
            }
            view.show(standings);
            self.write_roster()?;
        }
        view.finish();
        let killed = group::stop(&mut self.members).await;
        self.write_roster()?;
        if killed.is_empty() { Ok(()) } else { Err(Failure::failed(killed.join("; "))) }
    }

    fn write_roster(&mut self) -> Result<(), Failure> {
        let document = roster::document(&mut self.members);
        if document != self.roster {
            roster::write(&self.directory, &document)
                .map_err(|error| Failure::failed(format!("{}: {error}", roster::path(&self.directory).display())))?;
            self.roster = document;
        }
        Ok(())
    }

    fn greet(&self) {
        if self.output == Output::Json {
            return;
        }
        let first = self.members.first().expect("a group has a member").settings();
        print_line(&format!("A group of {} in {}. Ctrl-C ends it.", self.members.len(), self.directory.display()));
        if self.members.len() == 1 {
            print_line("One member tolerates nothing: if it stops, everything stops.");
        }
        print_line(&format!("  publish:  curl -d hello 'http://{}/v1/messages?topic=orders'", first.api.listen));
        print_line(&format!("  read:     curl 'http://{}/v1/messages'", first.api.listen));
        print_line(&format!("  scripts:  {}", roster::path(&self.directory).display()));
        print_line("  events:   synod.log in each member's directory\n");
    }
}
