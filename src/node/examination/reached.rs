//! Judges what knocks, names and sources came to.

use std::net::IpAddr;

use super::Finding;
use super::disk::milliseconds;
use super::doors::{Door, KNOCKS_MAX, Outcome};
use crate::net::{Answer, Place};
use crate::types::{ClusterId, DoorMessage, DoorRefusal, Standing, Told};

pub(super) fn resolved(name: &str, found: Result<Vec<IpAddr>, String>) -> Finding {
    let check = format!("name {name}");
    let advice = "see that the name is known to this machine's resolver (`getent hosts`, /etc/resolv.conf), or write an IP \
                  address";
    match found {
        Ok(addresses) if addresses.is_empty() => Finding::warn(check, "has no address", advice),
        Ok(mut addresses) => {
            addresses.sort_unstable();
            addresses.dedup();
            Finding::ok(check, addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", "))
        }
        Err(error) => Finding::warn(check, format!("cannot be resolved: {error}"), advice),
    }
}

pub(super) fn judge(door: &Door, outcome: &Outcome, cluster: Option<ClusterId>) -> Finding {
    let check = format!("reach {}", door.name);
    let from = format!("{} (by {})", door.address, door.sources.join(", "));
    let (member, answer, took) = match outcome {
        Outcome::Answered(member, answer, took) => (member, answer, took),
        Outcome::Silent(reason) if cluster.is_none() && is_shut(reason) => {
            return Finding::ok(check, format!("{from} is reached, and somebody there has no group yet"));
        }
        Outcome::Silent(reason) => return Finding::warn(check, format!("{from}: {reason}"), mend(reason)),
        Outcome::NotTried => {
            let what = format!("{from}: not tried within {} s", KNOCKS_MAX.as_secs());
            return Finding::warn(check, what, "mend what stands above, and look again");
        }
    };
    if let Some(expected) = door.member.filter(|expected| expected != member) {
        let what = format!("{from} answers as {}, not as {}", member.short(), expected.short());
        let advice =
            "another member has taken that address: see where each of them listens (mesh.listen, `synod members`)";
        return Finding::warn(check, what, advice);
    }
    match answer {
        DoorMessage::Tell(Told { from: newest, .. }) => {
            let who = if door.member.is_none() { format!(" as {}", member.short()) } else { String::new() };
            Finding::ok(check, format!("{from} answers{who} within {}, in epoch {newest}", milliseconds(*took)))
        }
        DoorMessage::Refused(DoorRefusal::Busy) => {
            Finding::ok(check, format!("{from} answers within {}: busy", milliseconds(*took)))
        }
        DoorMessage::Refused(DoorRefusal::Cluster { ours: theirs, .. }) => match cluster {
            Some(cluster) => Finding::fail(
                check,
                format!("{from} is of another group: {}, this one is of {}", theirs.short(), cluster.short()),
                "one of the two has the wrong genesis, or the address is another group's: compare `synod config check` on both",
            ),
            None => Finding::warn(
                check,
                format!(
                    "{from} answers as {}, of group {}; this machine is of none yet",
                    member.short(),
                    theirs.short()
                ),
                "to be of that group, join it by a code of `synod invite`; nothing is founded beside a group of the same name",
            ),
        },
        DoorMessage::Refused(refusal) => {
            Finding::fail(check, format!("{from}: {refusal}"), "run the same release on all members")
        }
        DoorMessage::Ask { .. } | DoorMessage::Join { .. } => Finding::fail(
            check,
            format!("{from} answers with a question"),
            "what runs there is no member of this release: run the same release on all members",
        ),
    }
}

/// Whether somebody showed a key and hung up: whoever founds a group has no door before there is one. Who shows no key does
/// not come to closing anything.
fn is_shut(reason: &str) -> bool {
    reason.contains("closed")
}

/// What to do about a dial that failed, by what the system said of it.
pub fn mend(reason: &str) -> &'static str {
    let said = reason.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(&["refused"]) {
        "nobody listens there: start that member, or see where it listens (its mesh.listen) and what port is forwarded"
    } else if says(&["timed out", "timeout", "no answer", "silent"]) {
        "nothing comes back: see that the machine is up, and that no firewall drops the port (TCP, and UDP for QUIC)"
    } else if says(&["unreachable", "no route"]) {
        "there is no way to that network: see routes and interfaces of this machine (`ip route get`)"
    } else if says(&["resolve", "dns", "lookup", "no record"]) {
        "see that the name is known to this machine's resolver, or write an IP address"
    } else {
        "see the log of the member there: it says whom it refuses, and why"
    }
}

/// What a source said.
pub fn judge_answer(answer: &Answer) -> Finding {
    let check = format!("source {}", answer.name);
    let finds: Vec<String> = answer.finds.iter().map(Place::to_string).collect();
    let gives = if finds.is_empty() { "gives nothing".to_owned() } else { format!("gives {}", finds.join(", ")) };
    match &answer.trouble {
        Some(trouble) => {
            let advice = "correct the source in the configuration (discovery), or see to the network that it asks";
            Finding::warn(check, format!("{trouble}; {gives}"), advice)
        }
        None => Finding::ok(check, gives),
    }
}

/// What the group says of the key that knocked, if it knows it.
pub(super) fn standing(outcomes: &[Outcome]) -> Option<Finding> {
    let told = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Answered(_, DoorMessage::Tell(told), _) => Some(told),
        _ => None,
    });
    let newest = told.max_by_key(|told| told.established)?;
    let former =
        "start it no more; to come back, join with a new data directory, by a code of `synod invite` on a member";
    match newest.standing {
        Standing::Voter => Some(Finding::ok("standing", "by the group's word this member votes")),
        Standing::Learner => Some(Finding::ok("standing", "by the group's word this member is a learner")),
        Standing::Left => Some(Finding::fail("standing", "by the group's word this member has left", former)),
        Standing::Removed => Some(Finding::fail("standing", "by the group's word this member was removed", former)),
        Standing::Stranger => None,
    }
}

/// Whether anybody was reached at all. Whoever is to found a group may be the first.
pub(super) fn alone(outcomes: &[Outcome], cluster: Option<ClusterId>) -> Option<Finding> {
    let reached = |outcome: &Outcome| match outcome {
        Outcome::Answered(..) => true,
        Outcome::Silent(reason) => cluster.is_none() && is_shut(reason),
        Outcome::NotTried => false,
    };
    (!outcomes.is_empty() && !outcomes.iter().any(reached)).then(|| {
        let advice =
            "start the others; if they run, it is this machine's network: see its addresses, routes and firewall";
        let state = if cluster.is_some() { Finding::fail } else { Finding::warn };
        state("reach", "nobody answers at any address that is known", advice)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::State;
    use super::*;
    use crate::types::{Epoch, MemberId};

    const N1: MemberId = MemberId([1; 32]);
    const N2: MemberId = MemberId([2; 32]);

    fn cluster(number: u8) -> ClusterId {
        crate::types::Digest([number; 32])
    }

    fn door() -> Door {
        let address = "/ip4/10.0.0.1/tcp/7271".parse().unwrap();
        Door { address, member: Some(N1), name: "n1".to_owned(), sources: vec!["genesis"] }
    }

    fn told(standing: Standing) -> DoorMessage {
        let (links, contacts) = (Vec::new(), Vec::new());
        DoorMessage::Tell(Told { genesis: None, from: Epoch(3), links, established: Epoch(3), standing, contacts })
    }

    #[test]
    fn what_answers_is_compared_with_what_is_expected() {
        let door = &door();
        let group = Some(cluster(1));
        let judged = |member, message| judge(door, &Outcome::Answered(member, message, Duration::ZERO), group);
        let reached = judged(N1, told(Standing::Stranger));
        assert_eq!(reached.what, "/ip4/10.0.0.1/tcp/7271 (by genesis) answers within 0.0 ms, in epoch 3");
        let other = judged(N2, told(Standing::Stranger));
        assert!(other.state == State::Warn && other.what.contains("answers as 02020202, not as 01010101"));
        let (theirs, ours) = (cluster(1), cluster(2));
        let foreign = judged(N1, DoorMessage::Refused(DoorRefusal::Cluster { theirs, ours }));
        assert!(foreign.state == State::Fail && foreign.what.contains("another group: 02020202"), "{foreign:?}");
        assert_eq!(judged(N1, DoorMessage::Refused(DoorRefusal::Busy)).state, State::Ok);
        let version = judged(N1, DoorMessage::Refused(DoorRefusal::Version { theirs: 1, ours: 2 }));
        assert!(version.advice.unwrap().contains("same release"));
        assert_eq!(judge(door, &Outcome::NotTried, group).state, State::Warn);
    }

    #[test]
    fn each_kind_of_silence_has_its_advice() {
        for (reason, advice) in [
            ("Connection refused (os error 111)", "nobody listens there"),
            ("Timeout has been reached", "firewall"),
            ("it is silent", "firewall"),
            ("Network is unreachable (os error 101)", "routes"),
            ("failed to lookup address", "resolver"),
            ("something else", "see the log"),
        ] {
            assert!(mend(reason).contains(advice), "{reason}");
        }
        let door = &door();
        let silent = judge(door, &Outcome::Silent("Connection refused".to_owned()), Some(cluster(1)));
        assert!(silent.state == State::Warn && silent.advice.unwrap().contains("start that member"));
    }

    #[test]
    fn who_has_no_group_yet_hears_who_is_there() {
        let door = &door();
        let (theirs, ours) = (cluster(0), cluster(2));
        let group = Outcome::Answered(N1, DoorMessage::Refused(DoorRefusal::Cluster { theirs, ours }), Duration::ZERO);
        let member = judge(door, &group, None);
        assert!(member.state == State::Warn && member.what.contains("of group 02020202"), "{member:?}");
        assert!(member.advice.unwrap().contains("synod invite"));
        for reason in ["closed without an answer", "00000001/1: connection is closed"] {
            let shut = Outcome::Silent(reason.to_owned());
            let states = [judge(door, &shut, None).state, judge(door, &shut, Some(cluster(1))).state];
            assert_eq!(states, [State::Ok, State::Warn], "{reason}");
        }
        let refused = judge(door, &Outcome::Silent("Connection refused (os error 111)".to_owned()), None);
        assert_eq!(refused.state, State::Warn);
    }

    #[test]
    fn who_was_removed_hears_it() {
        let answered = |standing| vec![Outcome::Answered(N1, told(standing), Duration::ZERO)];
        assert_eq!(standing(&answered(Standing::Stranger)), None);
        assert_eq!(standing(&answered(Standing::Voter)).unwrap().state, State::Ok);
        assert_eq!(standing(&answered(Standing::Removed)).unwrap().state, State::Fail);
    }

    #[test]
    fn to_reach_nobody_is_worse_than_not_to_reach_one() {
        let silent = Outcome::Silent("x".to_owned());
        let group = Some(cluster(1));
        assert_eq!(alone(&[], group), None);
        assert_eq!(alone(&[silent.clone(), silent.clone()], group).unwrap().state, State::Fail);
        assert_eq!(alone(std::slice::from_ref(&silent), None).unwrap().state, State::Warn, "the others may come later");
        assert_eq!(alone(&[silent, Outcome::Answered(N1, told(Standing::Voter), Duration::ZERO)], group), None);
        assert_eq!(alone(&[Outcome::Silent("connection is closed".to_owned())], None), None);
    }

    #[test]
    fn a_source_tells_what_it_gives_and_why_not_all() {
        let finds = vec!["10.0.0.1:7271".parse().unwrap()];
        let answer = Answer { name: "dns", finds, trouble: None };
        assert_eq!(judge_answer(&answer), Finding::ok("source dns", "gives /ip4/10.0.0.1/tcp/7271"));
        let troubled =
            judge_answer(&Answer { name: "dns", finds: Vec::new(), trouble: Some("no such name".to_owned()) });
        assert!(troubled.state == State::Warn && troubled.what == "no such name; gives nothing");
    }

    #[test]
    fn names_tell_what_they_gave() {
        let found = ["10.0.0.2", "10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(resolved("n1", Ok(found)).what, "10.0.0.1, 10.0.0.2");
        assert_eq!(resolved("n1", Ok(Vec::new())).state, State::Warn);
        assert!(resolved("n1", Err("no such host".to_owned())).what.contains("no such host"));
    }
}
