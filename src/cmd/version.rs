//! `synod version`: what this binary speaks.

use serde_json::json;

use super::output::Output;
use crate::types::limits::{PROTOCOL_VERSION, RULES_VERSION};

/// Runs the command.
pub fn run(output: Output) {
    let version = env!("CARGO_PKG_VERSION");
    let document = json!({ "version": version, "protocol_version": PROTOCOL_VERSION, "rules_version": RULES_VERSION });
    output.print(&document, || format!("synod {version}, peer protocol {PROTOCOL_VERSION}, rules {RULES_VERSION}"));
}
