//! `synod status`: one member, as it sees itself.

use serde_json::Value;

use super::exit::Failure;
use super::output::{Output, table};
use super::sidecar::{self, SidecarArguments};

/// What to show.
#[derive(Debug, clap::Args)]
pub struct StatusArguments {
    #[command(flatten)]
    sidecar: SidecarArguments,
    /// Ask this one thing only; the exit code is 0 if it is so. For supervisors that run a command as their probe
    #[arg(long, value_enum)]
    probe: Option<Probe>,
}

/// What a supervisor may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Probe {
    /// The process answers, and its loop turns
    Livez,
    /// It serves, has caught up, and is in touch with a quorum
    Readyz,
    /// Its start is finished: the log is read
    Startupz,
}

impl Probe {
    fn path(self) -> &'static str {
        match self {
            Probe::Livez => "/livez",
            Probe::Readyz => "/readyz",
            Probe::Startupz => "/startupz",
        }
    }
}

/// Runs the command.
pub fn run(arguments: &StatusArguments, output: Output) -> Result<(), Failure> {
    if let Some(probe) = arguments.probe {
        let answer = sidecar::ask(&arguments.sidecar, probe.path())?;
        output.print(&answer, || cell(&answer["status"]));
        return Ok(());
    }
    let status = sidecar::ask(&arguments.sidecar, "/v1/status")?;
    output.print(&status, || text(&status));
    Ok(())
}

fn text(status: &Value) -> String {
    if status["role"] == "candidate" {
        return candidate(status);
    }
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
    let facts = facts.into_iter().chain(membership(status));
    let facts: String = facts.map(|(name, value)| format!("{name:<8}{value}\n")).collect();
    format!("{facts}\n{}{}{}", peers(status), troubles(status), foreign_groups(status))
}

/// One that has no group yet: who is here, what is waited for, and what the sources say.
fn candidate(status: &Value) -> String {
    let candidacy = &status["candidacy"];
    let named = |candidate: &Value| match candidate["name"].as_str() {
        None | Some("") => cell(&candidate["id"]),
        Some(name) => format!("{name} ({})", cell(&candidate["id"])),
    };
    let here: Vec<&Value> = candidacy["candidates"].as_array().into_iter().flatten().collect();
    let count = format!("{} of {}", here.len(), cell(&candidacy["expect"]));
    let mut facts = vec![
        ("role", format!("candidate for group `{}`, which is not founded yet", cell(&status["group"]))),
        ("state", format!("not ready: {}", words(&status["reasons"], "; "))),
        ("here", count),
    ];
    facts.extend(here.into_iter().map(|candidate| ("", named(candidate))));
    for (name, list) in [("left out", "refused"), ("silent", "silent")] {
        let pairs = candidacy[list].as_array().into_iter().flatten();
        facts.extend(pairs.map(|pair| (name, format!("{}: {}", named(&pair[0]), cell(&pair[1])))));
    }
    let claims = candidacy["claims"].as_array().into_iter().flatten();
    facts.extend(
        claims.map(|claim| ("claims", format!("{}: group {}", cell(&claim["told_by"]), cell(&claim["group"])))),
    );
    facts.extend(status["links"]["discovery"]["sources"].as_array().into_iter().flatten().map(source));
    facts.into_iter().map(|(name, value)| format!("{name:<10}{value}\n")).collect()
}

fn source(source: &Value) -> (&'static str, String) {
    let addresses = source["addresses"].as_array().into_iter().flatten();
    let mut told: Vec<String> =
        addresses.map(|found| format!("{} ({})", cell(&found["address"]), cell(&found["says"]))).collect();
    told.extend(source["error"].as_str().map(str::to_owned));
    let told = if told.is_empty() { "nothing yet".to_owned() } else { told.join(", ") };
    ("source", format!("{}: {told}", cell(&source["name"])))
}

/// What there is to say of its way in or out, and of the voters.
fn membership(status: &Value) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    facts.extend(catching_up(status).map(|way| ("catches", way)));
    let missing: Vec<String> =
        status["quorum"]["missing"].as_array().into_iter().flatten().map(|voter| cell(&voter["name"])).collect();
    if !missing.is_empty() {
        let (linked, needed) = (cell(&status["quorum"]["linked"]), cell(&status["quorum"]["needed"]));
        facts.push(("voters", format!("{linked} in touch, {needed} needed; missing: {}", missing.join(", "))));
    }
    facts.extend(status["warnings"].as_array().into_iter().flatten().map(|warning| ("warning", cell(warning))));
    if status["leaving"] == true {
        facts.push(("leaving", "yes, for good".to_owned()));
    }
    let waits_for = words(&status["waits_for"], "; ");
    if !waits_for.is_empty() {
        facts.push(("waits", format!("for {waits_for}")));
    }
    facts
}

/// How far a member is that catches up, if it does.
pub fn catching_up(status: &Value) -> Option<String> {
    let way = status["catching_up"].as_object()?;
    let slot = |name: &str| way.get(name).and_then(Value::as_u64).unwrap_or_default();
    let (from, at, to) = (slot("from_slot"), slot("slot"), slot("to_slot"));
    let percent = 100 * at.saturating_sub(from) / to.saturating_sub(from).max(1);
    Some(format!("up: {} %, slot {at} of {to}", percent.min(100)))
}

fn peers(status: &Value) -> String {
    let heading = ["PEER", "LINK", "BACK", "BY", "HEARD MS", "ROUND TRIP MS", "SLOT", "BEHIND"];
    let links = status["links"]["peers"].as_array().cloned().unwrap_or_default();
    let row = |peer: &Value| {
        let link = links.iter().find(|link| link["member"] == peer["member"]).unwrap_or(&Value::Null);
        [
            cell(&peer["name"]),
            up(&peer["linked"]),
            up(&peer["links_back"]),
            cell(&link["transport"]),
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

/// Other groups of our name, a line each.
fn foreign_groups(status: &Value) -> String {
    let groups = status["links"]["discovery"]["foreign_groups"].as_array().into_iter().flatten();
    let line = |group: &Value| {
        format!(
            "another group of the same name, with the id {} (met: {}): stop one of them, or give it another name; they \
             never merge\n",
            cell(&group["cluster"]),
            cell(&group["address"])
        )
    };
    groups.map(line).collect()
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
    fn the_way_of_a_member_is_told() {
        let told = text(&json!({
            "catching_up": {"from_slot": 100, "slot": 150, "to_slot": 300},
            "quorum": {"needed": 2, "linked": 1, "missing": [{"name": "n2"}, {"name": "n3"}]},
            "leaving": true,
            "waits_for": ["a ready learner"],
            "warnings": ["set mesh.announce"],
        }));
        for line in [
            "up: 25 %, slot 150 of 300",
            "1 in touch, 2 needed; missing: n2, n3",
            "leaving",
            "for a ready learner",
            "warning set mesh.announce",
        ] {
            assert!(told.contains(line), "{line} is missing in\n{told}");
        }
    }

    #[test]
    fn a_candidate_has_rows_of_its_own() {
        let person = |id: &str, name: &str| json!({"id": id, "name": name});
        let address = json!({"address": "/ip4/10.0.0.2/tcp/7271", "says": "nobody is there"});
        let told = text(&json!({
            "role": "candidate",
            "ready": false,
            "group": "shop",
            "reasons": ["waits for 1 more"],
            "candidacy": {
                "expect": 3,
                "candidates": [person("a1", "n1"), person("a2", "")],
                "refused": [[person("a3", "n3"), "crowded"]],
                "silent": [[person("a4", ""), "nobody is there"]],
                "claims": [{"told_by": "a5", "group": "09ab"}],
            },
            "links": {"discovery": {"sources": [{"name": "file", "addresses": [address], "error": null}]}},
        }));
        for line in [
            "role      candidate for group `shop`, which is not founded yet",
            "state     not ready: waits for 1 more",
            "here      2 of 3\n          n1 (a1)\n          a2\n",
            "left out  n3 (a3): crowded",
            "silent    a4: nobody is there",
            "claims    a5: group 09ab",
            "source    file: /ip4/10.0.0.2/tcp/7271 (nobody is there)",
        ] {
            assert!(told.contains(line), "{line} is missing in\n{told}");
        }
        assert!(!told.contains("PEER") && !told.contains(" - "), "no empty rows:\n{told}");
    }

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

    #[test]
    fn another_group_of_the_same_name_is_told() {
        let group = json!({"name": "trial", "cluster": "09ab", "address": "/ip4/10.0.0.7/tcp/1"});
        let told = text(&json!({"links": {"discovery": {"foreign_groups": [group]}}}));
        assert!(told.contains("another group of the same name, with the id 09ab (met: /ip4/10.0.0.7/tcp/1)"), "{told}");
    }
}
