//! `synod epochs`: every epoch with who voted in it, and its proof, which is checked here.

use serde_json::Value;

use super::exit::Failure;
use super::output::{Output, table};
use super::sidecar::{self, SidecarArguments};
use super::status::cell;
use crate::node::epoch_proof::EpochProof;
use crate::types::MemberId;
use crate::types::ids::short;

/// Runs the command. With `--output json` the document is what `synod verify` checks.
pub fn run(arguments: &SidecarArguments, output: Output) -> Result<(), Failure> {
    let client = arguments.client()?;
    let (document, members) = sidecar::block_on(async {
        let document = sidecar::document(&client, "/v1/epochs").await?;
        Ok((document, sidecar::document(&client, "/v1/members").await?))
    })?;
    let proof = EpochProof::of_document(document.to_string().as_bytes()).map_err(Failure::failed)?;
    output.print(&document, || text(&document, &members, &proof));
    if proof.is_whole() { Ok(()) } else { Err(Failure::failed(proof.mistakes.join("\n"))) }
}

fn text(document: &Value, members: &Value, proof: &EpochProof) -> String {
    let members = members["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    // Who is no member any more is told by the beginning of its id.
    let name = |id: &str| match members.iter().find(|member| member["id"] == id) {
        Some(member) => cell(&member["name"]),
        None => short(id).to_owned(),
    };
    let names = |ids: &[MemberId]| ids.iter().map(|id| name(&id.to_string())).collect::<Vec<_>>().join(" ");
    let stated = document["epochs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |epoch: &Value| {
        let proven = proof.epochs.iter().find(|proven| epoch["epoch"] == proven.configuration.epoch.0);
        let voters = epoch["voters"].as_array().into_iter().flatten().map(|id| name(id.as_str().unwrap_or_default()));
        [
            cell(&epoch["epoch"]),
            cell(&epoch["began"]),
            cell(&epoch["slot"]),
            voters.collect::<Vec<_>>().join(" "),
            if epoch["established"] == true { "yes" } else { "NOT YET" }.to_owned(),
            match proven.map(|proven| &proven.certificate) {
                None => "NOT PROVEN".to_owned(),
                Some(None) => "ok: the cluster id".to_owned(),
                Some(Some(signers)) => {
                    format!(
                        "ok: {} of {} signed ({})",
                        signers.members.len(),
                        signers.quorum.1,
                        names(&signers.members)
                    )
                }
            },
        ]
    };
    let heading = ["EPOCH", "POSITION", "SLOT", "VOTERS", "ESTABLISHED", "CERTIFICATE"];
    format!("group {} ({})\n{}", proof.genesis.name, proof.genesis.cluster(), table(heading, stated.iter().map(row)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::node::epoch_proof::tests::{chain, genesis, id};

    #[test]
    fn each_epoch_is_told_with_who_signed() {
        let proof = EpochProof::check(genesis(), chain());
        let epoch = |number: u64| json!({ "epoch": number, "began": number * 10, "slot": 4, "voters": [id(2), id(5)] });
        let members = json!({ "members": [{ "id": id(2), "name": "two" }] });
        let told = text(&json!({ "epochs": [epoch(0), epoch(1), epoch(4)] }), &members, &proof);
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[2].contains("ok: the cluster id"), "{told}");
        assert!(lines[3].contains(&format!("two {}", id(5).short())) && lines[3].contains("ok: 2 of 3"), "{told}");
        assert!(lines[4].contains("NOT PROVEN"), "{told}");
    }
}
