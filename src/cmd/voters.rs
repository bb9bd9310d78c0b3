//! `synod voters`: who votes, and how many shall.

use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::exit::Failure;
use super::output::Output;
use super::sidecar::{self, SidecarArguments};
use super::status::{cell, words};
use crate::api::client::Client;

/// What to see or to change.
#[derive(Debug, clap::Args)]
pub struct VotersArguments {
    #[command(flatten)]
    sidecar: SidecarArguments,
    /// How many members shall vote: 3, 5 or 7 [default: only show who does]
    target: Option<u32>,
}

/// What is ordered shows in the member's documents within this, unless somebody else has changed it again.
const SEEN_MAX: Duration = Duration::from_secs(2);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Runs the command.
pub fn run(arguments: &VotersArguments, output: Output) -> Result<(), Failure> {
    let client = arguments.sidecar.client()?;
    sidecar::block_on(async {
        if let Some(target) = arguments.target {
            sidecar::change(&client, Method::PUT, "/v1/voters", &json!({ "target": target })).await?;
        }
        let mut voters = document(&client).await?;
        let asked = Instant::now();
        while arguments.target.is_some_and(|target| voters["target"] != target) && asked.elapsed() < SEEN_MAX {
            sleep(LOOK_INTERVAL).await;
            voters = document(&client).await?;
        }
        output.print(&voters, || text(&voters));
        Ok(())
    })
}

/// Who votes by the order, how many are to, and what a change waits for.
async fn document(client: &Client) -> Result<Value, Failure> {
    let members = sidecar::document(client, "/v1/members").await?;
    let votes = |member: &&Value| member["role"] == "voter";
    let voters: Vec<Value> = members["members"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(votes)
        .map(|member| json!({ "name": member["name"], "id": member["id"], "leader": member["leader"] }))
        .collect();
    Ok(json!({
        "epoch": members["epoch"],
        "target": members["voters_target"],
        "voters": voters,
        "waits_for": members["waits_for"],
    }))
}

fn text(document: &Value) -> String {
    let voters = document["voters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<String> = voters.iter().map(|voter| cell(&voter["name"])).collect();
    let waits_for = words(&document["waits_for"], "; ");
    let mut text = format!(
        "epoch {}: {} vote ({}), {} shall",
        cell(&document["epoch"]),
        names.len(),
        names.join(", "),
        cell(&document["target"])
    );
    if !waits_for.is_empty() {
        text += &format!("\nwaiting for: {waits_for}");
    }
    text
}
