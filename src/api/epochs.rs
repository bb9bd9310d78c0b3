//! `GET /v1/epochs`: every epoch with its proof. Whoever trusts the cluster id can check the document without asking
//! anybody; `synod verify` reads it.
//!
//! ```text
//! { "cluster":  the cluster id, hexadecimal: the digest of the genesis
//!   "genesis":  base64 of the genesis' canonical CBOR
//!   "epoch":    the present epoch
//!   "epochs": [ every epoch from 0 on, each:
//!     { "epoch", "began": position, "slot", "voters": [ids, in leader order], "voters_target", "quorum",
//!       "configuration": digest of the configuration, hexadecimal
//!       "established": whether anything is known to be decided in it
//!       and from epoch 1 on:
//!       "link":        base64 of the CBOR of the epoch link that proves it (parent, entry, certificate)
//!       "parent":      of the link: the chain that the entry extends, hexadecimal
//!       "entry":       of the link: base64 of the entry's canonical CBOR
//!       "certificate": of the link: { "round": { "epoch", "view" }, "slot", "digest": hexadecimal,
//!                                     "signatures": [ { "voter": id, "signature": base64 } ] } } ] }
//! ```
//!
//! The link is all that a proof needs; `parent`, `entry` and `certificate` are the same, taken apart for people.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use warp::http::StatusCode;
use warp::reply::Response;

use crate::types::{Certificate, EpochLink, EpochSnapshot, MembershipSnapshot};

use super::problem::Problem;
use super::{Api, reply, status};

/// Every epoch, with its proof.
pub(super) fn epochs(api: &Api) -> Result<Response, Box<Problem>> {
    let snapshot = status::observed(api)?.snapshot;
    let membership = &snapshot.membership;
    let document = json!({
        "cluster": snapshot.cluster,
        "genesis": STANDARD.encode(api.host.genesis.encode()),
        "epoch": membership.configuration.epoch.0,
        "epochs": membership.epochs.iter().map(|epoch| row(epoch, membership)).collect::<Vec<_>>(),
    });
    Ok(reply(StatusCode::OK, &document))
}

fn row(epoch: &EpochSnapshot, membership: &MembershipSnapshot) -> Value {
    let configuration = &epoch.configuration;
    let mut row = json!({
        "epoch": configuration.epoch.0,
        "began": epoch.began.0,
        "slot": epoch.slot.0,
        "voters": configuration.voters,
        "voters_target": configuration.voters_target,
        "quorum": configuration.quorum(),
        "configuration": configuration.digest(),
        "established": configuration.epoch <= membership.established,
    });
    if let Some(link) = &epoch.proof {
        add_proof(&mut row, link);
    }
    row
}

fn add_proof(row: &mut Value, link: &EpochLink) {
    row["link"] = json!(STANDARD.encode(minicbor::to_vec(link).expect("memory is writable")));
    row["parent"] = json!(link.parent);
    row["entry"] = json!(STANDARD.encode(&link.entry));
    row["certificate"] = certificate(&link.certificate);
}

fn certificate(certificate: &Certificate) -> Value {
    let Certificate { tip, votes } = certificate;
    let signatures: Vec<Value> = votes
        .iter()
        .map(|(voter, signature)| json!({"voter": voter, "signature": STANDARD.encode(signature.0)}))
        .collect();
    json!({
        "round": {"epoch": tip.round.epoch.0, "view": tip.round.view.0},
        "slot": tip.slot.0,
        "digest": tip.digest,
        "signatures": signatures,
    })
}
