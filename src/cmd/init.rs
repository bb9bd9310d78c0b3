//! `synod init`: keys, genesis and one commented configuration per member.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::exit::Failure;
use super::output::Output;
use crate::node::founding::{self, FoundingError, MESH_PORT_OFFSET, Plan, Ports};

/// What to make.
#[derive(Debug, clap::Args)]
pub struct InitArguments {
    /// Members of the group: 3, 5 or 7, or 1 for trying out
    #[arg(long, default_value_t = 3)]
    members: u16,
    /// Directory to make the group in; nothing in it is overwritten
    #[arg(long)]
    dir: PathBuf,
    /// The group's name
    #[arg(long, default_value = "synod")]
    name: String,
    /// Member i serves its API at this port + i - 1, its mesh 100 above that
    #[arg(long, default_value_t = 7171)]
    base_port: u16,
}

/// Runs the command.
pub fn run(arguments: &InitArguments, output: Output) -> Result<(), Failure> {
    let plan = Plan {
        directory: arguments.dir.clone(),
        name: arguments.name.clone(),
        members: ports(arguments.base_port, arguments.members)?,
        settings: Vec::new(),
    };
    let places = founding::found(&plan).map_err(failure)?;
    let genesis = founding::genesis_path(&arguments.dir);
    let members: Vec<Value> = places
        .iter()
        .map(|place| json!({ "name": place.name, "member": place.member, "config": place.config }))
        .collect();
    output.print(&json!({ "genesis": genesis, "members": members }), || {
        let starts = places.iter().map(|place| format!("  synod run --config {}\n", place.config.display()));
        let warning = if places.len() == 1 { "A group of one tolerates nothing: it is for trying out.\n" } else { "" };
        format!(
            "Made a group of {} in {}. {warning}Start each member with\n{}\
             To use several machines, set the addresses in {} before the first start, and copy it and one member's \
             directory to each.",
            places.len(),
            arguments.dir.display(),
            starts.collect::<String>(),
            genesis.display()
        )
    });
    Ok(())
}

/// Ports of that many members from one base port.
pub fn ports(base: u16, members: u16) -> Result<Vec<Ports>, Failure> {
    let ports: Option<Vec<Ports>> = (0..members).map(|index| Ports::from_base(base, index)).collect();
    ports.filter(|_| base > 0).ok_or_else(|| {
        Failure::usage(format!(
            "--base-port {base} must be between 1 and {}: the mesh uses ports {MESH_PORT_OFFSET} above the API's",
            u16::MAX - MESH_PORT_OFFSET - members.saturating_sub(1)
        ))
    })
}

/// How a group that could not be founded ends the command.
pub fn failure(error: FoundingError) -> Failure {
    match error {
        FoundingError::Mistakes(_) => Failure::usage(error),
        _ => Failure::failed(error),
    }
}
