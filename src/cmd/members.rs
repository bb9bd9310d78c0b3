//! `synod members`: the membership, as one member sees it.

use serde_json::Value;

use super::exit::Failure;
use super::output::{Output, table};
use super::sidecar::{self, SidecarArguments};
use super::status::{cell, up};

/// Runs the command.
pub fn run(arguments: &SidecarArguments, output: Output) -> Result<(), Failure> {
    let members = sidecar::ask(arguments, "/v1/members")?;
    output.print(&members, || text(&members));
    Ok(())
}

fn text(document: &Value) -> String {
    let heading = ["NAME", "MEMBER", "ROLE", "LINK", "HEARD MS", "INCARNATION", "SLOT", "BEHIND", "ADDRESSES"];
    let row = |member: &Value| {
        let own = member["self"].as_bool() == Some(true);
        [
            cell(&member["name"]),
            cell(&member["member"]).chars().take(8).collect(),
            cell(&member["role"]),
            if own { "self".to_owned() } else { up(&member["linked"]) },
            cell(&member["last_heard_ms"]),
            cell(&member["incarnation"]),
            cell(&member["slot_decided"]),
            cell(&member["slot_lag"]),
            member["addresses"].as_array().into_iter().flatten().map(cell).collect::<Vec<_>>().join(" "),
        ]
    };
    let rows = document["members"].as_array().into_iter().flatten().map(row);
    table(heading, rows)
}
