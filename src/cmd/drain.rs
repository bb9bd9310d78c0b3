//! `synod drain`: a member finishes, before it is stopped.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::exit::{Exit, Failure};
use super::output::Output;
use super::sidecar::{self, SidecarArguments};
use super::status::words;
use crate::api::client::Client;
use crate::types::text::{duration, duration_text};

/// How to drain.
#[derive(Debug, clap::Args)]
pub struct DrainArguments {
    #[command(flatten)]
    sidecar: SidecarArguments,
    /// Give up waiting after this; the member goes on draining
    #[arg(long, value_parser = duration, default_value = "30s")]
    timeout: Duration,
    /// Begin after this: a service that is told to stop at the same moment may publish its last until then
    #[arg(long, value_parser = duration, default_value = "0s")]
    after: Duration,
}

/// Runs the command; it ends when everything the member accepted is ordered and on its disk, and another one leads.
pub fn run(arguments: &DrainArguments, output: Output) -> Result<(), Failure> {
    let client = arguments.sidecar.client()?;
    let answer = sidecar::block_on(drain(&client, arguments))?;
    output.print(&answer, || match answer["drained"] == true {
        true => "drained: nothing that was accepted is open, and the process can be stopped".to_owned(),
        false => format!("not drained yet, and still draining; waiting for: {}", words(&answer["waits_for"], "; ")),
    });
    if answer["drained"] == true { Ok(()) } else { Err(Failure::told(Exit::Failure)) }
}

async fn drain(client: &Client, arguments: &DrainArguments) -> Result<Value, Failure> {
    sleep(arguments.after).await;
    let wish = json!({ "timeout": duration_text(arguments.timeout) });
    let patience = arguments.timeout.saturating_add(sidecar::ANSWER_MAX);
    let answer = timeout(patience, client.change(Method::POST, "/v1/drain", &wish)).await;
    answer.map_err(|_| Failure::new(Exit::Unavailable, sidecar::silent(client, patience)))?.map_err(sidecar::failure)
}
