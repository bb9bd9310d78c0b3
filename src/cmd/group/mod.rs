//! A whole group on this machine, one child process per member: what `dev`, `demo` and `bench` share.

pub mod load;
pub mod member_process;
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
    let settings = vec![("wal.segment_bytes", SEGMENT_BYTES.to_owned())];
    let plan = Plan { directory: directory.to_owned(), name: name.to_owned(), members, settings };
    founding::found(&plan).map_err(super::init::failure)?.into_iter().map(MemberProcess::of).collect()
}

/// Prepares the members of a group that was founded in this directory, or says that there is none.
pub fn resume(directory: &Path) -> Result<Option<Vec<MemberProcess>>, Failure> {
    let path = founding::genesis_path(directory);
    if !path.exists() {
        return Ok(None);
    }
    let genesis = genesis_file::read(&path).map_err(Failure::usage)?;
    founding::places(directory, &genesis).into_iter().map(MemberProcess::of).collect::<Result<_, _>>().map(Some)
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
