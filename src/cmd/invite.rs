//! `synod invite`: a join code, for one machine to join the group.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::exit::Failure;
use super::output::Output;
use super::sidecar::{self, SidecarArguments};
use super::status::cell;
use crate::types::text::{duration, duration_text};

/// How to invite.
#[derive(Debug, clap::Args)]
pub struct InviteArguments {
    #[command(flatten)]
    sidecar: SidecarArguments,
    /// How long the join code may be used
    #[arg(long, default_value = "1h", value_parser = duration)]
    ttl: Duration,
}

/// Runs the command. Only the code goes to standard output, so that a script can carry it on.
pub fn run(arguments: &InviteArguments, output: Output) -> Result<(), Failure> {
    let client = arguments.sidecar.client()?;
    let wish = json!({ "ttl": duration_text(arguments.ttl) });
    let invite: Value = sidecar::block_on(sidecar::change(&client, Method::POST, "/v1/invites", &wish))?;
    output.print(&invite, || cell(&invite["code"]));
    if output == Output::Text {
        eprintln!(
            "for one member, until {}; on its machine: synod join {}…, or synod join - where others could read the command line",
            cell(&invite["expires"]),
            cell(&invite["code"]).chars().take(CODE_SHOWN).collect::<String>()
        );
    }
    Ok(())
}

/// Of the code in the advice; the whole one stands above it.
const CODE_SHOWN: usize = 16;
