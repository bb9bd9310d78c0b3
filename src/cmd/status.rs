//! `synod status`: one member, as it sees itself.

use serde_json::Value;

use super::exit::Failure;
use super::output::{Output, table};
use super::sidecar::{self, SidecarArguments};

/// Runs the command.
pub fn run(arguments: &SidecarArguments, output: Output) -> Result<(), Failure> {
    let status = sidecar::ask(arguments, "/v1/status")?;
    output.print(&status, || text(&status));
    Ok(())
}

fn text(status: &Value) -> String {
    let ready = match status["ready"].as_bool() {
        Some(true) => "ready".to_owned(),
        _ => format!("not ready: {}", words(&status["reasons"], "; ")),
    };
    let facts = [
        ("member", format!("{} ({})", cell(&status["name"]), cell(&status["member"]))),
        ("group", cell(&status["cluster"])),
        ("state", ready),
        ("role", format!("{} in view {}.{}", cell(&status["role"]), cell(&status["epoch"]), cell(&status["view"]))),
        ("leader", cell(&status["leader_name"])),
        ("head", format!("{} (delivered {})", cell(&status["head"]), cell(&status["delivered"]))),
        ("slots", format!("{} decided, {} behind", cell(&status["slot_decided"]), cell(&status["slot_lag"]))),
        ("start", format!("incarnation {}", cell(&status["incarnation"]))),
        (
            "disk",
            format!(
                "{} segments, {} bytes, last sync {} ms",
                cell(&status["disk"]["segments"]),
                cell(&status["disk"]["log_bytes"]),
                cell(&status["disk"]["sync_last_ms"])
            ),
        ),
    ];
    let facts: String = facts.iter().map(|(name, value)| format!("{name:<8}{value}\n")).collect();
    format!("{facts}\n{}{}", peers(status), troubles(status))
}

fn peers(status: &Value) -> String {
    let heading = ["PEER", "LINK", "BACK", "HEARD MS", "ROUND TRIP MS", "SLOT", "BEHIND"];
    let links = status["links"]["peers"].as_array().cloned().unwrap_or_default();
    let row = |peer: &Value| {
        let link = links.iter().find(|link| link["member"] == peer["member"]).unwrap_or(&Value::Null);
        [
            cell(&peer["name"]),
            up(&peer["linked"]),
            up(&peer["links_back"]),
            cell(&peer["last_heard_ms"]),
            cell(&link["round_trip_ms"]),
            cell(&peer["slot_decided"]),
            cell(&peer["slot_lag"]),
        ]
    };
    let rows = status["peers"].as_array().into_iter().flatten().map(row);
    table(heading, rows)
}

/// What was in the way of links, a line each; empty if nothing was.
fn troubles(status: &Value) -> String {
    let links = status["links"]["peers"].as_array().into_iter().flatten();
    let troubled = links.filter(|link| !link["trouble"].is_null());
    troubled.map(|link| format!("trouble with {}: {}\n", cell(&link["name"]), cell(&link["trouble"]))).collect()
}

/// A value for people: text without quotes, nothing as a dash.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Up or down.
pub fn up(value: &Value) -> String {
    if value.as_bool() == Some(true) { "up".to_owned() } else { "DOWN".to_owned() }
}

/// The texts of a list, joined.
pub fn words(values: &Value, separator: &str) -> String {
    values.as_array().into_iter().flatten().map(cell).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_in_the_way_of_a_link_is_told() {
        let status = |trouble: Value| {
            json!({
                "ready": true,
                "peers": [{"name": "n2", "member": "a7", "linked": false}],
                "links": {"peers": [{"name": "n2", "member": "a7", "trouble": trouble}]},
            })
        };
        let told = text(&status("refuses us: stale_disk".into()));
        assert!(told.ends_with("\ntrouble with n2: refuses us: stale_disk\n"), "{told}");
        assert!(!text(&status(Value::Null)).contains("trouble"));
    }
}
