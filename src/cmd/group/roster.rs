//! `members.json`: who runs where, for scripts.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::{Value, json};

use super::member_process::MemberProcess;
use crate::cmd::exit::Failure;

/// The file in the group's directory.
pub fn path(directory: &Path) -> PathBuf {
    directory.join("members.json")
}

/// What stands in it. `pid` is null while nobody serves the member.
pub fn document(members: &mut [MemberProcess]) -> Value {
    members
        .iter_mut()
        .map(|member| {
            json!({
                "name": member.name(),
                "member": member.member(),
                "pid": member.serving_pid(),
                "api": format!("http://{}", member.settings().api.listen),
                "socket": member.settings().api.socket,
                "data_dir": member.settings().data_dir,
                "config": member.config(),
            })
        })
        .collect()
}

/// The members that stand in it, in its order; none if there is no roster.
pub fn names(directory: &Path) -> Result<Option<Vec<String>>, Failure> {
    let path = path(directory);
    let content = match fs::read(&path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::usage(format!("{} cannot be read: {error}", path.display()))),
    };
    let members: Vec<Named> = serde_json::from_slice(&content)
        .map_err(|error| Failure::usage(format!("{} is no roster of a group: {error}", path.display())))?;
    Ok(Some(members.into_iter().map(|member| member.name).collect()))
}

#[derive(serde::Deserialize)]
struct Named {
    name: String,
}

/// Writes it so that a reader sees the old or the new whole.
pub fn write(directory: &Path, document: &Value) -> io::Result<()> {
    let unfinished = directory.join("members.json.unfinished");
    let mut file = fs::File::create(&unfinished)?;
    writeln!(file, "{document:#}")?;
    file.sync_all()?;
    fs::rename(unfinished, path(directory))
}
