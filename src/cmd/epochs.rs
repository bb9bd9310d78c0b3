//! `synod epochs`: every epoch with who voted in it, and its proof, which is checked here.

use serde_json::Value;

use super::exit::Failure;
use super::output::{Output, table};
use super::sidecar::{self, SidecarArguments};
use super::status::cell;
use crate::node::epoch_proof::{EpochProof, ProvenEpoch};
use crate::types::MemberId;

/// Runs the command. With `--output json` the document is what `synod verify` checks.
pub fn run(arguments: &SidecarArguments, output: Output) -> Result<(), Failure> {
    let document = sidecar::ask(arguments, "/v1/epochs")?;
    let proof = EpochProof::of_document(document.to_string().as_bytes()).map_err(Failure::failed)?;
    output.print(&document, || text(&document, &proof));
    if proof.is_whole() { Ok(()) } else { Err(Failure::failed(proof.mistakes.join("\n"))) }
}

fn text(document: &Value, proof: &EpochProof) -> String {
    let stated = document["epochs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |epoch: &Value| {
        let proven = proof.epochs.iter().find(|proven| epoch["epoch"] == proven.configuration.epoch.0);
        [
            cell(&epoch["epoch"]),
            cell(&epoch["position"]),
            cell(&epoch["slot"]),
            epoch["voters"].as_array().into_iter().flatten().map(voter).collect::<Vec<_>>().join(" "),
            proven.map_or_else(|| "NOT PROVEN".to_owned(), certificate),
        ]
    };
    let heading = ["EPOCH", "POSITION", "SLOT", "VOTERS", "CERTIFICATE"];
    format!("group {} ({})\n{}", proof.genesis.name, proof.genesis.cluster(), table(heading, stated.iter().map(row)))
}

fn voter(voter: &Value) -> String {
    if voter["name"].is_string() { cell(&voter["name"]) } else { cell(voter).chars().take(8).collect() }
}

fn certificate(proven: &ProvenEpoch) -> String {
    match &proven.certificate {
        None => "ok: the cluster id".to_owned(),
        Some(signers) => {
            let signed_by: Vec<String> = signers.members.iter().map(MemberId::short).collect();
            format!("ok: signed by {} of {} ({})", signed_by.len(), signers.quorum.1, signed_by.join(" "))
        }
    }
}
