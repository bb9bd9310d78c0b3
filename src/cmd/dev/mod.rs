//! `synod dev`: a whole group on this machine, for trying and for tests.
//!
//! | file | duty |
//! |---|---|
//! | `mod` | the group and its loop |
//! | `view` | what it shows |
//! | `control` | the socket by which it is told to start a further member, or to forget one |
//! | `change` | `dev add` and `dev remove` |

mod change;
mod control;
mod view;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::exit::Failure;
use super::group::member_process::MemberProcess;
use super::group::scratch::Scratch;
use super::group::{self, newcomer, poll, ports, roster};
use super::output::{Output, print_line};
use super::{init, sidecar};
use crate::api::client::Client;
use crate::node::data_directory::DataDirectory;
use crate::node::founding::{Ports, config_path};
use change::DevChange;
use control::{Control, Wish};
use view::View;

/// Which group.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DevArguments {
    #[command(subcommand)]
    change: Option<DevChange>,
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

/// Further members get the next free number, and ports by it; beyond so many numbers in use there is something wrong.
const NUMBERS_TRIED: u16 = 16;

/// Runs the command: the group until Ctrl-C or SIGTERM, or a change of one that runs.
pub fn run(arguments: &DevArguments, output: Output) -> Result<(), Failure> {
    if let Some(change) = &arguments.change {
        return change::run(change, output);
    }
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
    sidecar::block_on(Dev { directory, members, clients: HashMap::new(), roster: Value::Null, output }.run())
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
    let port = base_port(&members);
    if let (Some(asked), Some(port)) = (arguments.base_port, port)
        && asked != port
    {
        return Err(Failure::usage(format!(
            "--base-port {asked}: the group in this directory begins at {port}; leave the flag out, or name another \
             directory"
        )));
    }
    Ok(members)
}

/// The port that follows from a member's name and port.
fn base_port(members: &[MemberProcess]) -> Option<u16> {
    let base = |member: &MemberProcess| member.settings().api.listen.port().checked_sub(number(member.name())? - 1);
    members.iter().find_map(base)
}

/// The number in a name that `init` and `dev` give.
fn number(name: &str) -> Option<u16> {
    name.strip_prefix('n')?.parse().ok().filter(|number| *number > 0)
}

struct Dev {
    directory: PathBuf,
    members: Vec<MemberProcess>,
    clients: HashMap<String, Client>,
    roster: Value,
    output: Output,
}

impl Dev {
    async fn run(mut self) -> Result<(), Failure> {
        let unheard = |error| Failure::failed(format!("signals cannot be heard: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(unheard)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(unheard)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(unheard)?;
        let mut control = Control::listen(&self.directory)
            .map_err(|error| Failure::failed(format!("{}: {error}", control::path(&self.directory).display())))?;
        for member in &mut self.members {
            member.start()?;
        }
        self.write_roster()?;
        self.greet();
        let mut view = View::new(self.output);
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = hangup.recv() => break,
                (wish, answer) = control.next() => {
                    // Who asked may be gone; what was done shows in the table.
                    let _ = answer.send(self.fulfil(wish).map_err(|failure| failure.message));
                }
                _ = look.tick() => {
                    view.show(self.rows().await);
                    self.write_roster()?;
                }
            }
        }
        view.finish();
        let killed = group::stop(&mut self.members).await;
        self.write_roster()?;
        if killed.is_empty() { Ok(()) } else { Err(Failure::failed(killed.join("; "))) }
    }

    /// Each member, and how it stands.
    async fn rows(&mut self) -> Vec<view::Row> {
        let mut rows = Vec::new();
        for member in &mut self.members {
            let client = self.clients.entry(member.name().to_owned()).or_insert_with(|| poll::client(member));
            let standing = poll::standing(member, client).await;
            let (name, api) = (member.name().to_owned(), member.settings().api.listen);
            rows.push(view::Row { name, api, standing });
        }
        rows
    }

    fn fulfil(&mut self, wish: Wish) -> Result<Value, Failure> {
        match wish {
            Wish::Add { code } => self.add(&code),
            Wish::Forget { name } => self.forget(&name),
        }
    }

    /// Starts a further member, which joins by that code.
    fn add(&mut self, code: &str) -> Result<Value, Failure> {
        let (name, ip, ports) = self.next_place()?;
        let mut member = newcomer::prepare(&self.directory, &name, ip, ports)?.joining(code);
        member.start()?;
        let added = json!({
            "name": name,
            "api": format!("http://{}", member.settings().api.listen),
            "config": member.config(),
        });
        self.members.push(member);
        self.write_roster()?;
        Ok(added)
    }

    /// The next number whose folder and ports are free.
    fn next_place(&self) -> Result<(String, IpAddr, Ports), Failure> {
        let first = self.members.first().ok_or_else(|| Failure::failed("the group has no member"))?;
        let ip = first.settings().api.listen.ip();
        let base = base_port(&self.members).unwrap_or(BASE_PORT);
        let last = self.members.iter().filter_map(|member| number(member.name())).max().unwrap_or_default();
        let place = |number: u16| {
            let name = format!("n{number}");
            let ports = Ports::from_base(base, number - 1).filter(|pair| ports::are_free(ip, *pair))?;
            let unused = !config_path(&self.directory, &name).parent().is_some_and(Path::exists);
            unused.then_some((name, ip, ports))
        };
        let numbers = last + 1..=last.saturating_add(NUMBERS_TRIED);
        numbers.clone().find_map(place).ok_or_else(|| {
            Failure::failed(format!(
                "no further member: of n{} to n{} each has a folder already, or its ports are in use",
                numbers.start(),
                numbers.end()
            ))
        })
    }

    /// Forgets a member whose process has ended, and removes its folder.
    fn forget(&mut self, name: &str) -> Result<Value, Failure> {
        let index = self.members.iter().position(|member| member.name() == name);
        let index = index.ok_or_else(|| Failure::failed(format!("nobody is `{name}`")))?;
        if let Some(pid) = self.members[index].serving_pid() {
            return Err(Failure::failed(format!("{name} still runs (process {pid})")));
        }
        let folder = self.members.remove(index).folder().to_owned();
        self.clients.remove(name);
        self.write_roster()?;
        std::fs::remove_dir_all(&folder)
            .map_err(|error| Failure::failed(format!("{} cannot be removed: {error}", folder.display())))?;
        Ok(json!({ "name": name, "removed": folder }))
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
        print_line(&format!("A group of {} in {}. Ctrl-C ends it.", self.members.len(), self.directory.display()));
        let Some(first) = self.members.first().map(MemberProcess::settings) else { return };
        if self.members.len() == 1 {
            print_line("One member tolerates nothing: if it stops, everything stops.");
        }
        print_line(&format!("  publish:  curl -d hello 'http://{}/v1/messages?topic=orders'", first.api.listen));
        print_line(&format!("  read:     curl 'http://{}/v1/messages'", first.api.listen));
        print_line(&format!("  scripts:  {}", roster::path(&self.directory).display()));
        print_line("  change:   synod dev add, synod dev remove");
        print_line("  events:   synod.log in each member's directory\n");
    }
}
