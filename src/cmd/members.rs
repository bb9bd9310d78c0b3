//! `synod members`: the agreed membership, with what one member knows of each, and who reaches whom.

use serde_json::Value;

use super::exit::Failure;
use super::output::{Output, columns, table};
use super::sidecar::{self, SidecarArguments};
use super::status::{cell, up, words};
use crate::types::ids::short;

/// Runs the command.
pub fn run(arguments: &SidecarArguments, output: Output) -> Result<(), Failure> {
    let members = sidecar::ask(arguments, "/v1/members")?;
    output.print(&members, || text(&members));
    Ok(())
}

fn text(document: &Value) -> String {
    let mut members = document["members"].as_array().cloned().unwrap_or_default();
    // As they came: those of the genesis by name, the others in the order of their joining.
    members.sort_by_key(|member| (member["joined"].as_u64(), cell(&member["name"])));
    let heading =
        ["NAME", "ID", "ROLE", "INCARNATION", "SINCE EPOCH", "STATE", "LINK", "LAST SEEN", "BEHIND", "ADDRESSES"];
    let mut text = table(heading, members.iter().map(row));
    let voters = members.iter().filter(|member| member["role"] == "voter").count();
    text += &format!(
        "\nepoch {}: {voters} vote, {} shall, a quorum is {}\n",
        cell(&document["epoch"]),
        cell(&document["voters_target"]),
        cell(&document["quorum"])
    );
    let waits_for = words(&document["waits_for"], "; ");
    if !waits_for.is_empty() {
        text += &format!("waiting for: {waits_for}\n");
    }
    text + "\n" + &reachability(document, &members)
}

fn row(member: &Value) -> [String; 10] {
    let own = member["self"] == true;
    [
        cell(&member["name"]),
        short(&cell(&member["id"])).to_owned(),
        if member["leader"] == true { "leader".to_owned() } else { cell(&member["role"]) },
        cell(&member["incarnation"]),
        cell(&member["since_epoch"]),
        state(member),
        if own { "self".to_owned() } else { up(&member["linked"]) },
        seen(member),
        cell(&member["slot_lag"]),
        words(&member["addresses"], " "),
    ]
}

/// Where it stands on its way in or out.
fn state(member: &Value) -> String {
    let suspected_by = member["suspected_by"].as_array().map_or(0, Vec::len);
    match (member["leaving"].as_str(), suspected_by) {
        (Some(how), _) => how.to_owned(),
        (None, 1..) => format!("suspected by {suspected_by}"),
        (None, 0) if member["role"] == "voter" => "votes".to_owned(),
        (None, 0) if member["ready"] == true => "may vote".to_owned(),
        (None, 0) => "catching up".to_owned(),
    }
}

fn seen(member: &Value) -> String {
    match member["last_seen"].as_f64() {
        _ if member["self"] == true => "-".to_owned(),
        Some(seconds) => format!("{seconds:.1} s ago"),
        None => "never".to_owned(),
    }
}

/// Who says that it has a link to whom: a row for each member that reports.
fn reachability(document: &Value, members: &[Value]) -> String {
    let heading: Vec<String> =
        std::iter::once("REACHES".to_owned()).chain(members.iter().map(|member| cell(&member["name"]))).collect();
    let row = |from: &Value| {
        let reported = document["reachability"][cell(&from["id"])].as_array();
        let mark = |to: &Value| match reported {
            _ if from["id"] == to["id"] => "\u{b7}".to_owned(),
            None => "?".to_owned(),
            Some(links) if links.contains(&to["id"]) => "yes".to_owned(),
            Some(_) if from["role"] == "learner" && to["role"] == "learner" => "-".to_owned(),
            Some(_) => "NO".to_owned(),
        };
        std::iter::once(cell(&from["name"])).chain(members.iter().map(mark)).collect()
    };
    columns(std::iter::once(heading).chain(members.iter().map(row)).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_told_with_their_way_and_who_reaches_whom() {
        let member = |name: &str, role: &str| {
            json!({ "name": name, "id": format!("{name}0000000000"), "role": role, "self": name == "a",
                    "ready": true, "linked": name == "b", "last_seen": 1.25, "suspected_by": [], "slot_lag": 3 })
        };
        let mut leaving = member("d", "voter");
        leaving["leaving"] = "removed".into();
        let mut late = member("e", "learner");
        late["ready"] = false.into();
        let document = json!({
            "epoch": 2, "voters_target": 3, "quorum": 2, "waits_for": ["a fifth member"],
            "members": [member("a", "voter"), member("b", "voter"), member("c", "learner"), leaving, late],
            "reachability": { "a0000000000": ["b0000000000"], "c0000000000": ["a0000000000"] },
        });
        let told = text(&document);
        for part in [
            "a0000000",
            "1.2 s ago",
            "may vote",
            "removed",
            "catching up",
            "epoch 2: 3 vote, 3 shall",
            "a fifth member",
        ] {
            assert!(told.contains(part), "{part} is missing in\n{told}");
        }
        let matrix: Vec<&str> = told.lines().skip_while(|line| !line.starts_with("REACHES")).collect();
        assert_eq!(matrix[1].split_whitespace().collect::<Vec<_>>(), ["a", "\u{b7}", "yes", "NO", "NO", "NO"]);
        assert_eq!(matrix[2].split_whitespace().collect::<Vec<_>>(), ["b", "?", "\u{b7}", "?", "?", "?"]);
        assert_eq!(matrix[3].split_whitespace().collect::<Vec<_>>(), ["c", "yes", "NO", "\u{b7}", "NO", "-"]);
    }
}
