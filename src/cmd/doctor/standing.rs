//! Judges what a sidecar says of itself: whether it serves, and what is in the way.

use serde_json::Value;

use super::sidecar::Documents;
use crate::cmd::status::{catching_up, cell, words};
use crate::node::examination::Finding;
use crate::types::{Timing, limits, text::duration_text};

/// Every judgement of the member itself.
pub fn judge(documents: &Documents, timing: &Timing) -> Vec<Finding> {
    let status = &documents.status;
    if documents.is_candidate() {
        return vec![candidate(status)];
    }
    let mut findings = vec![ready(status), quorum(documents, timing), clock(status, timing), sync(status, timing)];
    findings.extend(disk_full(status));
    findings.push(queues(status));
    findings.extend(warnings(status));
    findings.extend(waits(status));
    findings.extend(misbehaviour(status));
    findings
}

/// One that has no group yet.
fn candidate(status: &Value) -> Finding {
    let what = format!("no group yet: {}", words(&status["reasons"], "; "));
    let advice = "see that as many members are started as each of them expects, with the same name of the group and the same \
                  limits, and that a source lets them find each other (below)";
    Finding::warn("ready", what, advice)
}

fn ready(status: &Value) -> Finding {
    let check = "ready";
    if status["ready"] == true {
        let (role, epoch, head) = (cell(&status["role"]), cell(&status["epoch"]), cell(&status["head"]));
        return Finding::ok(check, format!("{role} in epoch {epoch}, head {head}"));
    }
    let reasons = words(&status["reasons"], "; ");
    if let Some(way) = catching_up(status) {
        return Finding::warn(check, format!("{reasons} ({way})"), "wait: it catches up by itself");
    }
    if status["draining"] == true || status["leaving"] == true {
        return Finding::warn(check, reasons, "it was told to stop, or to leave; it ends by itself");
    }
    Finding::fail(check, reasons, "mend what is named here and below; a change of the leader passes within seconds")
}

/// Who is in touch, and who is missing.
fn quorum(documents: &Documents, timing: &Timing) -> Finding {
    let (check, quorum) = ("quorum", &documents.status["quorum"]);
    let count = |name: &str| quorum[name].as_u64().unwrap_or_default();
    let (linked, needed) = (count("linked"), count("needed"));
    let missing = quorum["missing"].as_array().map(Vec::as_slice).unwrap_or_default();
    let touch = format!("{linked} of {} voters in touch, {needed} needed", linked + missing.len() as u64);
    if missing.is_empty() {
        return Finding::ok(check, touch);
    }
    let names: Vec<String> = missing.iter().map(|voter| cell(&voter["name"])).collect();
    let names = names.join(", ");
    let seen: Vec<String> = missing.iter().map(|voter| seen(voter, documents)).collect();
    let what = format!("{touch}; missing: {}", seen.join(", "));
    if linked >= needed {
        let advice = format!(
            "start {names}, or see below why this member does not reach it; of a voter that is gone for good a ready learner \
             takes the vote after {} (`synod invite`, `synod join`)",
            duration_text(timing.replace_after)
        );
        return Finding::warn(check, what, advice);
    }
    let advice = format!(
        "nothing is ordered until {} in touch again: start {names}, or see below why they are not reached; everything \
         goes on where it was",
        match needed - linked {
            1 => "one more is".to_owned(),
            more => format!("{more} more are"),
        }
    );
    Finding::fail(check, what, advice)
}

fn seen(voter: &Value, documents: &Documents) -> String {
    let member = documents.members().iter().find(|member| member["id"] == voter["id"]);
    let seen = match member.and_then(|member| member["last_seen"].as_f64()) {
        Some(seconds) => format!("last heard {seconds:.0} s ago"),
        None => "never heard since this member's start".to_owned(),
    };
    format!("{} ({seen})", cell(&voter["name"]))
}

const CLOCK: &str = "clock";

fn clock(status: &Value, timing: &Timing) -> Finding {
    let offset = status["clock_offset_ms"].as_i64().unwrap_or_default();
    let (linked, needed) = (status["quorum"]["linked"].as_u64(), status["quorum"]["needed"].as_u64());
    let most = duration_text(timing.clock_drift_max);
    let set = "set this machine's clock, and keep it (NTP: `chronyc tracking`, `timedatectl`); the order does not depend on it";
    if linked < needed {
        let advice = "mend the quorum first; `date -u` on the machines tells meanwhile";
        return Finding::warn(CLOCK, "too few voters are in touch to compare it with", advice);
    }
    let what = format!("{offset} ms ahead of the voters' median, {most} are allowed");
    let (offset, most) = (u128::from(offset.unsigned_abs()), timing.clock_drift_max.as_millis());
    if offset > most {
        return Finding::fail(CLOCK, format!("{what}: this member is not ready, and does not lead"), set);
    }
    if 2 * offset > most { Finding::warn(CLOCK, what, set) } else { Finding::ok(CLOCK, what) }
}

/// Without a running member there is nobody to compare the clock with: a door tells no time. That is nobody's mistake.
pub fn clock_unknown() -> Finding {
    Finding::ok(
        CLOCK,
        "not compared while the sidecar does not answer (`timedatectl` and `chronyc tracking` tell more)",
    )
}

/// What its own syncs took since its start.
fn sync(status: &Value, timing: &Timing) -> Finding {
    let (check, disk) = ("log sync", &status["disk"]);
    let slowest = disk["sync_slowest_ms"].as_f64().unwrap_or_default();
    let what = format!("last {} ms, slowest since the start {slowest} ms", cell(&disk["sync_last_ms"]));
    if slowest < timing.leader_timeout.as_secs_f64() * 1000.0 {
        return Finding::ok(check, what);
    }
    let advice = "while it leads, so long a wait costs it the lead: find out what else writes to the disk, or raise \
                  timing.leader_timeout on all members";
    Finding::warn(check, format!("{what}, longer than timing.leader_timeout"), advice)
}

fn disk_full(status: &Value) -> Option<Finding> {
    let full = match &status["disk"]["full"] {
        Value::Null | Value::Bool(false) => return None,
        Value::Bool(true) => "no segment of the log can be made".to_owned(),
        reason => cell(reason),
    };
    let what = format!("{full}: publishes through this member are refused");
    Some(Finding::fail("disk full", what, "free space on the volume of data_dir; it goes on by itself"))
}

/// How full each queue is, in percent of its bound.
fn queues(status: &Value) -> Finding {
    let queues = &status["queues"];
    let own = [
        ("intake (messages)", &queues["intake_messages"], limits::INTAKE_MESSAGES as u64),
        ("intake (bytes)", &queues["intake_bytes"], limits::INTAKE_BYTES),
        ("own lane (batches)", &queues["lane_batches"], limits::LANE_UNORDERED_BATCHES as u64),
        ("own lane (bytes)", &queues["lane_bytes"], limits::LANE_UNORDERED_BYTES),
    ];
    let own = own.into_iter().map(|(name, value, most)| (name.to_owned(), value, most));
    let peers = status["links"]["peers"].as_array().into_iter().flatten().flat_map(|link| {
        let to = cell(&link["name"]);
        [
            (format!("urgent to {to}"), &link["urgent_queue_bytes"], limits::URGENT_QUEUE_BYTES as u64),
            (format!("bulk to {to}"), &link["bulk_queue_bytes"], limits::BULK_QUEUE_BYTES as u64),
        ]
    });
    let percent = |value: &Value, most: u64| 100 * value.as_u64().unwrap_or_default() / most;
    let mut filled: Vec<(u64, String)> =
        own.chain(peers).map(|(name, value, most)| (percent(value, most), name)).collect();
    filled.sort_unstable_by(|one, other| other.cmp(one));
    let told: Vec<String> = filled
        .iter()
        .filter(|(percent, _)| *percent >= QUEUE_WARN)
        .map(|(percent, name)| format!("{name}: {percent} %"))
        .collect();
    if told.is_empty() {
        let most = filled.first().map_or(0, |(percent, _)| *percent);
        return Finding::ok("queues", format!("at most {most} % of a bound"));
    }
    let advice = "publishes come faster than the group orders them, or a peer takes too little: see quorum, links and disks; \
                  beyond the bound publishes are refused (429, 503), and peers fetch again what was dropped";
    Finding::warn("queues", told.join(", "), advice)
}

/// A queue that is as full is told.
const QUEUE_WARN: u64 = 50;

/// What the member itself warns of.
fn warnings(status: &Value) -> Vec<Finding> {
    let warned = status["warnings"].as_array().into_iter().flatten().map(cell);
    warned.map(|what| Finding::warn("warning", what, "do as it says; the member warns until it is so")).collect()
}

/// What a leave, or a due change of the voters, waits for.
fn waits(status: &Value) -> Option<Finding> {
    let waits_for = words(&status["waits_for"], "; ");
    (!waits_for.is_empty()).then(|| {
        let advice =
            "nothing, if that comes by itself; else let a member join (`synod invite`), or lower `synod voters`";
        Finding::warn("membership", format!("waits for {waits_for}"), advice)
    })
}

fn misbehaviour(status: &Value) -> Option<Finding> {
    let count = status["misbehaviour"].as_u64().filter(|count| *count > 0)?;
    let what = format!("{count} messages of members broke a rule, and were dropped");
    let advice = "the log of this member names them: see that all run the same release, and that no key is used twice";
    Some(Finding::warn("misbehaviour", what, advice))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::node::examination::State;

    fn documents(linked: u64, missing: &[&str]) -> Documents {
        let missing: Vec<Value> = missing.iter().map(|name| json!({ "id": name, "name": name })).collect();
        let status = json!({
            "member": "n1", "cluster": "c", "ready": true, "reasons": [], "role": "leader", "clock_offset_ms": 3,
            "quorum": { "linked": linked, "needed": 2, "missing": missing },
            "disk": { "full": null, "sync_last_ms": 1.5, "sync_slowest_ms": 9.0 },
            "queues": { "intake_messages": 0, "intake_bytes": 0, "lane_batches": 0, "lane_bytes": 0 },
            "waits_for": [], "misbehaviour": 0, "catching_up": null,
        });
        let members = json!({ "members": [{ "id": "n3", "name": "n3", "last_seen": 7.2 }] });
        Documents { status, members }
    }

    fn with(change: impl FnOnce(&mut Value)) -> Documents {
        let mut documents = documents(3, &[]);
        change(&mut documents.status);
        documents
    }

    fn worst(documents: &Documents) -> Finding {
        let findings = judge(documents, &Timing::default());
        findings.into_iter().max_by_key(|finding| finding.state).unwrap()
    }

    #[test]
    fn a_member_that_is_well_gives_no_advice() {
        assert!(judge(&documents(3, &[]), &Timing::default()).iter().all(|finding| finding.advice.is_none()));
    }

    #[test]
    fn who_is_missing_is_named_with_what_that_means() {
        let one = quorum(&documents(2, &["n3"]), &Timing::default());
        assert_eq!(one.what, "2 of 3 voters in touch, 2 needed; missing: n3 (last heard 7 s ago)");
        assert!(one.state == State::Warn && one.advice.unwrap().contains("start n3"));
        let two = quorum(&documents(1, &["n2", "n3"]), &Timing::default());
        assert!(two.what.contains("n2 (never heard"), "{two:?}");
        assert!(two.state == State::Fail && two.advice.unwrap().contains("one more is in touch again: start n2, n3"));
    }

    #[test]
    fn a_clock_is_judged_by_what_is_allowed() {
        let state = |offset: i64| {
            clock(&with(|status| status["clock_offset_ms"] = offset.into()).status, &Timing::default()).state
        };
        assert_eq!(
            [state(-200), state(-300), state(501), state(500)],
            [State::Ok, State::Warn, State::Fail, State::Warn]
        );
        let alone = clock(&documents(1, &["n2", "n3"]).status, &Timing::default());
        assert!(alone.state == State::Warn && alone.what.contains("too few"));
    }

    #[test]
    fn what_keeps_it_from_serving_is_told() {
        let full = worst(&with(|status| status["disk"]["full"] = "no space".into()));
        assert!(full.state == State::Fail && full.what.starts_with("no space"), "{full:?}");
        let busy = worst(&with(|status| status["queues"]["intake_bytes"] = (60 << 20).into()));
        assert!(busy.state == State::Warn && busy.what == "intake (bytes): 93 %", "{busy:?}");
        let slow = worst(&with(|status| status["disk"]["sync_slowest_ms"] = 400.0.into()));
        assert!(slow.state == State::Warn && slow.what.contains("leader_timeout"), "{slow:?}");
        let behind = worst(&with(|status| {
            status["ready"] = false.into();
            status["reasons"] = json!(["catching up"]);
            status["catching_up"] = json!({ "from_slot": 0, "slot": 5, "to_slot": 10 });
        }));
        assert!(behind.state == State::Warn && behind.what.contains("50 %"), "{behind:?}");
        let warned = worst(&with(|status| status["warnings"] = json!(["nobody reaches it: set mesh.announce"])));
        assert!(warned.state == State::Warn && warned.what.contains("mesh.announce"), "{warned:?}");
        let unready = worst(&with(|status| {
            status["ready"] = false.into();
            status["reasons"] = json!(["no quorum: of n2 and n3"]);
        }));
        assert_eq!((unready.state, unready.what.as_str()), (State::Fail, "no quorum: of n2 and n3"));
    }

    #[test]
    fn one_without_a_group_says_what_it_waits_for() {
        let status = json!({ "role": "candidate", "ready": false, "reasons": ["1 of 3 candidates"] });
        let told = judge(&Documents { status, members: Value::Null }, &Timing::default());
        assert!(told.len() == 1 && told[0].what.contains("1 of 3 candidates"), "{told:?}");
    }
}
