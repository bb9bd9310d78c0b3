//! Judges what a sidecar says of the others: links, who reaches whom, refusals, and what its sources gave.

use serde_json::Value;

use super::sidecar::Documents;
use crate::cmd::status::cell;
use crate::node::examination::Finding;
use crate::node::examination::doors::mend;

/// Every judgement of the ways to the others.
pub fn judge(documents: &Documents) -> Vec<Finding> {
    let mut peers: Vec<&Value> = list(&documents.status["peers"]).iter().collect();
    peers.sort_by_key(|peer| cell(&peer["name"]));
    let mut findings: Vec<Finding> = peers.into_iter().filter_map(|peer| link(peer, documents)).collect();
    findings.extend(not_reached(documents));
    findings.extend(suspected(documents));
    findings.extend(refusals(&documents.status["links"]));
    findings.extend(sources(&documents.status["links"]["discovery"]));
    findings.extend(foreign_groups(&documents.status["links"]["discovery"]));
    findings
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The link to one other member; none where none is needed: learners have no links to each other.
fn link(peer: &Value, documents: &Documents) -> Option<Finding> {
    let check = format!("link {}", cell(&peer["name"]));
    let figures = list(&documents.status["links"]["peers"]).iter().find(|link| link["member"] == peer["member"]);
    let figures = figures.unwrap_or(&Value::Null);
    let trouble = figures["trouble"].as_str();
    if peer["linked"] == true {
        return Some(up(check, peer, figures, trouble));
    }
    let member = documents.members().iter().find(|member| member["id"] == peer["member"]);
    let learns = member.is_some_and(|member| member["role"] == "learner");
    if learns && documents.status["role"] == "learner" {
        return None;
    }
    let advice = trouble.map_or("see that it runs, and what its log says of this member", advice);
    let heard = match peer["last_heard_ms"].as_f64() {
        Some(milliseconds) => format!("down; last heard {:.0} s ago", milliseconds / 1000.0),
        None => "down; never heard since this member's start".to_owned(),
    };
    let what = trouble.map_or_else(|| heard.clone(), |trouble| format!("{heard}; {trouble}"));
    Some(Finding::warn(check, what, advice))
}

fn up(check: String, peer: &Value, figures: &Value, trouble: Option<&str>) -> Finding {
    let by = figures["transport"].as_str().map(|transport| format!(" by {transport}")).unwrap_or_default();
    let round_trip = figures["round_trip_ms"].as_f64().map(|ms| format!(", round trip {ms:.1} ms")).unwrap_or_default();
    let what = format!("up{by}{round_trip}");
    if let Some(trouble) = trouble {
        // Another process of that member came, and was refused.
        return Finding::warn(check, format!("{what}; since it came up: {trouble}"), advice(trouble));
    }
    // Nothing is known of one that has not said yet how it stands.
    if peer["links_back"] == false && !peer["view"].is_null() {
        let advice = "what this member sends may not arrive: look again in a moment, and at that member's log";
        return Finding::warn(check, format!("{what}, and that member reports none to this one"), advice);
    }
    Finding::ok(check, what)
}

/// What to do about what was in the way of a link.
fn advice(trouble: &str) -> &'static str {
    let says = |word: &str| trouble.contains(word);
    if says("stale_disk") {
        "an older copy of that member's directory was started: start the newest one, and no copy of it"
    } else if says("two_processes") {
        "two processes have one key: stop the copy"
    } else if says("foreign_cluster") || says("another group") {
        "it belongs to another group: compare genesis.toml on both machines"
    } else if says("protocol version") {
        "run the same release on all members"
    } else if says("another key") {
        "another member has taken that address: see where each of them listens (mesh.listen, `synod members`)"
    } else if says("refuses us") || says("refused by us") {
        "the reason stands in the refusal; the logs of both members say more"
    } else {
        mend(trouble)
    }
}

/// Pairs that are both in touch with this member, and not with each other.
fn not_reached(documents: &Documents) -> Option<Finding> {
    let members = documents.members();
    let near = |member: &&Value| member["linked"] == true && member["leaving"].is_null();
    let mut pairs = Vec::new();
    for from in members.iter().filter(near) {
        let Some(reached) = documents.members["reachability"][cell(&from["id"])].as_array() else { continue };
        let apart = members.iter().filter(near).filter(|to| to["id"] != from["id"] && !reached.contains(&to["id"]));
        // Learners have no links to each other.
        let apart = apart.filter(|to| from["role"] == "voter" || to["role"] == "voter");
        pairs.extend(apart.map(|to| format!("{} does not reach {}", cell(&from["name"]), cell(&to["name"]))));
    }
    (!pairs.is_empty()).then(|| {
        let advice =
            "look again in a moment; if it stays, run `synod doctor` on those machines: addresses, routes, firewalls";
        Finding::warn("reachability", pairs.join("; "), advice)
    })
}

fn suspected(documents: &Documents) -> Vec<Finding> {
    let suspected = documents.members().iter().filter(|member| !list(&member["suspected_by"]).is_empty());
    let told = |member: &Value| {
        let name = cell(&member["name"]);
        let what = format!("{name} is suspected by {} voters", list(&member["suspected_by"]).len());
        let advice = format!(
            "start {name}; if it is lost for good, let another member join (`synod invite`), and `synod remove {name}`"
        );
        Finding::warn("membership", what, advice)
    };
    suspected.map(told).collect()
}

/// Refusals that tell of a mistake somewhere. Keys that are no members, or none any more, come by themselves.
fn refusals(links: &Value) -> Option<Finding> {
    let count = |side: &str, reason: &str| links[side][reason].as_u64().unwrap_or_default();
    let told: Vec<String> = ["version", "cluster", "configuration", "stale_disk", "two_processes", "malformed"]
        .iter()
        .filter_map(|reason| match (count("refused", reason), count("refused_by_others", reason)) {
            (0, 0) => None,
            (ours, theirs) => Some(format!("{reason}: {ours} by this member, {theirs} of it")),
        })
        .collect();
    (!told.is_empty()).then(|| {
        let advice = "the log of this member names each with its reason and what to do; the counts run from its start";
        Finding::warn("refusals", told.join("; "), advice)
    })
}

/// What each source of addresses gave, and what became of these.
fn sources(discovery: &Value) -> Vec<Finding> {
    list(&discovery["sources"]).iter().map(source).collect()
}

fn source(source: &Value) -> Finding {
    let check = format!("source {}", cell(&source["name"]));
    let found = |address: &Value| format!("{} ({})", cell(&address["address"]), cell(&address["says"]));
    let addresses: Vec<String> = list(&source["addresses"]).iter().map(found).collect();
    let gives = match addresses.is_empty() {
        true => "gives nothing".to_owned(),
        false => format!("gives {}", addresses.join(", ")),
    };
    let outcome = |word: &str| list(&source["addresses"]).iter().any(|address| address["outcome"] == word);
    if let Some(trouble) = source["trouble"].as_str() {
        let advice = "correct the source in the configuration (discovery), or see to the network it asks; a group works \
                      without it while its members know each other";
        return Finding::warn(check, format!("{trouble}; {gives}"), advice);
    }
    if outcome("unreachable") {
        let advice = "the reason stands behind the address: start that member, or take the address out of the source";
        return Finding::warn(check, gives, advice);
    }
    if outcome("other_group") {
        let advice = "the source leads to members of another group: give each group its own names and networks, or mind that \
                      this one is not meant";
        return Finding::warn(check, gives, advice);
    }
    Finding::ok(check, gives)
}

/// Another group under the same name is what must not be overlooked.
fn foreign_groups(discovery: &Value) -> Vec<Finding> {
    let told = |group: &Value| {
        let what = format!(
            "another group of the name `{}` ({}) is at {}",
            cell(&group["name"]),
            cell(&group["cluster"]),
            cell(&group["place"])
        );
        let advice = "they never merge: keep one of the two, stop the other, and let its members join with new data \
                      directories; or give one of them another name and other sources";
        Finding::fail("two groups", what, advice)
    };
    list(&discovery["foreign_groups"]).iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::node::examination::State;

    fn documents(peer: Value, figures: Value) -> Documents {
        let status = json!({ "role": "follower", "peers": [peer], "links": { "peers": [figures] } });
        let members = json!({ "members": [{ "id": "a7", "role": "learner" }] });
        Documents { status, members }
    }

    fn only(documents: &Documents) -> Finding {
        let findings = judge(documents);
        assert_eq!(findings.len(), 1, "{findings:?}");
        findings.into_iter().next().unwrap()
    }

    #[test]
    fn a_link_is_told_with_its_trouble_and_what_to_do() {
        let peer = |linked: bool, back: bool| json!({ "name": "n2", "member": "a7", "linked": linked, "links_back": back, "view": 1 });
        let figures =
            |trouble: Value| json!({ "member": "a7", "trouble": trouble, "round_trip_ms": 0.42, "transport": "quic" });
        let up = only(&documents(peer(true, true), figures(Value::Null)));
        assert_eq!((up.state, up.what.as_str()), (State::Ok, "up by quic, round trip 0.4 ms"));
        let one_way = only(&documents(peer(true, false), figures(Value::Null)));
        assert!(one_way.state == State::Warn && one_way.what.contains("reports none"));
        for (trouble, advice) in [
            ("refuses us: stale_disk: it is old", "older copy"),
            ("at /ip4/10.0.0.2/tcp/7271: Connection refused (os error 111)", "nobody listens there"),
            ("at /ip4/10.0.0.2/tcp/7271 answers 3f, another key", "taken that address"),
            ("refuses us: not_a_member", "the logs of both"),
        ] {
            let down = only(&documents(peer(false, false), figures(trouble.into())));
            assert!(down.state == State::Warn && down.what.contains(trouble), "{down:?}");
            assert!(down.advice.as_ref().unwrap().contains(advice), "{down:?}");
        }
    }

    #[test]
    fn learners_need_no_link_to_each_other() {
        let peer = json!({ "name": "n2", "member": "a7", "linked": false });
        let mut documents = documents(peer, Value::Null);
        assert_eq!(judge(&documents).len(), 1);
        documents.status["role"] = "learner".into();
        assert!(judge(&documents).is_empty());
    }

    #[test]
    fn who_does_not_reach_whom_is_told() {
        let member = |id: &str| json!({ "id": id, "name": id, "role": "voter", "linked": id != "d", "leaving": null });
        let members = json!({
            "members": [member("a"), member("b"), member("c"), member("d")],
            "reachability": { "a": ["b", "c"], "b": ["a", "c"], "c": ["a"] },
        });
        let told = not_reached(&Documents { status: Value::Null, members }).unwrap();
        assert_eq!(told.what, "c does not reach b", "who is down for us is told elsewhere");
    }

    #[test]
    fn refusals_that_tell_of_a_mistake_are_told() {
        assert_eq!(refusals(&json!({ "refused": { "not_a_member": 9 }, "refused_by_others": {} })), None);
        let told = refusals(&json!({ "refused": { "cluster": 2 }, "refused_by_others": { "stale_disk": 1 } })).unwrap();
        assert_eq!(told.what, "cluster: 2 by this member, 0 of it; stale_disk: 0 by this member, 1 of it");
    }

    #[test]
    fn sources_tell_what_they_gave_and_what_is_there() {
        let source_of = |trouble: Value, outcome: &str| {
            let address = json!({ "address": "/ip4/10.0.0.2/tcp/1", "outcome": outcome, "says": "what is there" });
            source(&json!({ "name": "dns", "trouble": trouble, "addresses": [address] }))
        };
        let well = source_of(Value::Null, "linked");
        assert_eq!((well.state, well.what.as_str()), (State::Ok, "gives /ip4/10.0.0.2/tcp/1 (what is there)"));
        assert_eq!(source_of(Value::Null, "unreachable").state, State::Warn);
        assert_eq!(source_of(Value::Null, "other_group").state, State::Warn);
        let mute = source_of("no such name".into(), "linked");
        assert!(mute.state == State::Warn && mute.what.starts_with("no such name; gives /ip4"), "{mute:?}");
        assert_eq!(source(&json!({ "name": "mdns", "trouble": null, "addresses": [] })).what, "gives nothing");
        assert!(sources(&Value::Null).is_empty());
    }

    #[test]
    fn another_group_of_our_name_is_a_failure() {
        let foreign = json!({ "name": "shop", "cluster": "3f9a", "member": "a7", "place": "/ip4/10.0.0.9/tcp/1" });
        let told = foreign_groups(&json!({ "foreign_groups": [foreign] }));
        assert!(told[0].state == State::Fail && told[0].what.contains("`shop` (3f9a) is at /ip4/10.0.0.9"), "{told:?}");
        assert!(foreign_groups(&Value::Null).is_empty());
    }

    #[test]
    fn a_suspected_member_is_named() {
        let members =
            json!({ "members": [{ "name": "n3", "suspected_by": ["x", "y"] }, { "name": "n1", "suspected_by": [] }] });
        let told = suspected(&Documents { status: Value::Null, members });
        assert!(told.len() == 1 && told[0].what == "n3 is suspected by 2 voters");
    }
}
