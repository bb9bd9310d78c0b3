//! A whole group on this machine, one child process per member: what `dev`, `demo` and `bench` share.

pub mod load;
pub mod member_process;
pub mod network;
pub mod newcomer;
pub mod poll;
pub mod ports;
pub mod roster;
pub mod scratch;
pub mod settle;
pub mod subscriber;

use std::path::Path;

use super::exit::Failure;
use crate::node::founding::{self, Plan, Ports};
use crate::node::genesis_file;
use member_process::MemberProcess;

/// Size of a segment: a group for trying out should not write more zeros ahead than it needs.
const SEGMENT_BYTES: &str = "16MiB";

/// Founds a new group and prepares its members; none is started.
pub fn found(directory: &Path, name: &str, members: Vec<Ports>) -> Result<Vec<MemberProcess>, Failure> {
    found_with(directory, name, members, &[])
}

/// The same, with further settings of every member: (key, text).
pub fn found_with(
    directory: &Path,
    name: &str,
    members: Vec<Ports>,
    further: &[(&'static str, String)],
) -> Result<Vec<MemberProcess>, Failure> {
    let mut settings = vec![("wal.segment_bytes", SEGMENT_BYTES.to_owned())];
    settings.extend_from_slice(further);
    let plan = Plan { directory: directory.to_owned(), name: name.to_owned(), members, settings };
    let places = founding::found(&plan).map_err(super::init::failure)?;
    places.into_iter().map(|place| MemberProcess::of(&place.name, place.config)).collect()
}

/// Prepares the members of the group in this directory, or says that there is none. Its members are those of its roster, if
/// it has one, else those of its genesis.
pub fn resume(directory: &Path) -> Result<Option<Vec<MemberProcess>>, Failure> {
    if !founding::genesis_path(directory).exists() {
        return Ok(None);
    }
    let names = match roster::names(directory)? {
        Some(names) => names,
        None => genesis_names(directory)?,
    };
    let member = |name: &String| MemberProcess::of(name, founding::config_path(directory, name));
    names.iter().map(member).collect::<Result<_, _>>().map(Some)
}

/// The members that the group in this directory was founded with.
pub fn genesis_names(directory: &Path) -> Result<Vec<String>, Failure> {
    let genesis = genesis_file::read(&founding::genesis_path(directory)).map_err(Failure::usage)?;
    Ok(genesis.members.into_iter().map(|member| member.name).collect())
}

/// Asks all to stop, and waits until they have. One that does not stop in time is killed and told.
pub async fn stop(members: &mut [MemberProcess]) -> Vec<String> {
    members.iter_mut().for_each(MemberProcess::ask_to_stop);
    let mut killed = Vec::new();
    for member in members {
        if !member.ended().await {
            killed.push(format!("{} did not stop by itself and was killed", member.name()));
        }
    }
    killed
}
