//! Every address at which somebody of the group may be: its name resolved, and its door knocked at. A few at a time, and
//! not for long: what was not tried is said.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use libp2p::identity::Keypair;
use libp2p::multiaddr::{Multiaddr, Protocol};
use tokio::time::timeout;

use super::Finding;
use super::disk::milliseconds;
use crate::net::door::knock;
use crate::types::{ClusterId, Contact, DoorMessage, DoorRefusal, Epoch, Genesis, MemberId, Standing, Told, limits};

/// One knock, from the dial to the answer.
const KNOCK_MAX: Duration = Duration::from_secs(6);
/// All of them: after this nothing more is tried.
const KNOCKS_MAX: Duration = Duration::from_secs(45);
/// A name that is not resolved by then is told so.
const RESOLVE_MAX: Duration = Duration::from_secs(3);

/// A place where a member may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// Where.
    pub address: Multiaddr,
    /// Whose it is said to be; none if the source does not say.
    pub member: Option<MemberId>,
    /// The name of that member, for people.
    pub name: String,
    /// Who says so.
    pub sources: Vec<&'static str>,
}

/// What a knock came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody answered, after this long.
    Answered(MemberId, DoorMessage, Duration),
    /// Nobody did, for this reason.
    Silent(String),
    /// The time was over before.
    NotTried,
}

/// All doors that are known, each address of a member once.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    doors: Vec<Door>,
    unreadable: Vec<Finding>,
}

impl Doors {
    /// Adds what the genesis says of those that founded the group.
    pub fn add_genesis(&mut self, genesis: &Genesis) {
        for member in &genesis.members {
            self.add(Some(member.id), &member.name, &member.addresses, "genesis");
        }
    }

    /// Adds what the door told of the others.
    pub fn add_contacts(&mut self, contacts: &[Contact]) {
        for contact in contacts {
            self.add(Some(contact.id), &contact.name, &contact.addresses, "contacts.json");
        }
    }

    /// Adds addresses, by somebody's word.
    pub fn add(&mut self, member: Option<MemberId>, name: &str, addresses: &[String], source: &'static str) {
        for text in addresses {
            match text.parse::<Multiaddr>() {
                Ok(address) => self.add_one(Door { address, member, name: name.to_owned(), sources: vec![source] }),
                Err(error) => {
                    let advice = format!("correct it where it comes from ({source})");
                    self.unreadable.push(Finding::warn(format!("reach {name}"), format!("`{text}`: {error}"), advice));
                }
            }
        }
    }

    fn add_one(&mut self, door: Door) {
        let same = |known: &&mut Door| known.address == door.address && known.member == door.member;
        if let Some(known) = self.doors.iter_mut().find(same) {
            known.sources.extend(door.sources);
            known.sources.dedup();
        } else if self.doors.len() < limits::EXAMINED_DOORS_MAX {
            self.doors.push(door);
        }
    }

    /// Leaves those of one member out.
    pub fn without(mut self, member: Option<MemberId>) -> Doors {
        self.doors.retain(|door| member.is_none() || door.member != member);
        self
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.doors.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.doors.is_empty()
    }

    /// Resolves every name, and knocks everywhere. `tell` hears how many doors have been tried.
    pub async fn examine(&self, key: &Keypair, cluster: ClusterId, tell: impl FnMut(usize)) -> Vec<Finding> {
        let mut findings = self.unreadable.clone();
        findings.extend(self.names().await);
        let outcomes = self.knock(key, cluster, tell).await;
        findings.extend(self.doors.iter().zip(&outcomes).map(|(door, outcome)| judge(door, outcome, cluster)));
        findings.extend(standing(&outcomes));
        findings.extend(alone(&outcomes));
        findings
    }

    async fn knock(&self, key: &Keypair, cluster: ClusterId, mut tell: impl FnMut(usize)) -> Vec<Outcome> {
        let began = Instant::now();
        let knocks = self.doors.iter().map(async |door| match began.elapsed() {
            elapsed if elapsed >= KNOCKS_MAX => Outcome::NotTried,
            _ => knock_once(key, &door.address, cluster).await,
        });
        let mut knocks = stream::iter(knocks).buffered(limits::EXAMINED_AT_A_TIME);
        let mut outcomes = Vec::with_capacity(self.doors.len());
        while let Some(outcome) = knocks.next().await {
            outcomes.push(outcome);
            tell(outcomes.len());
        }
        outcomes
    }

    /// What the system's resolver says of each name, once.
    async fn names(&self) -> Vec<Finding> {
        let mut names: BTreeMap<String, u16> = BTreeMap::new();
        for door in &self.doors {
            let mut parts = door.address.iter();
            if let (
                Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)),
                Some(Protocol::Tcp(port) | Protocol::Udp(port)),
            ) = (parts.next(), parts.next())
            {
                names.insert(name.into_owned(), port);
            }
        }
        let looked_up = names.into_iter().map(async |(name, port)| {
            let found = timeout(RESOLVE_MAX, tokio::net::lookup_host((name.as_str(), port))).await;
            let found = match found {
                Ok(Ok(addresses)) => Ok(addresses.map(|address| address.ip()).collect()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {} s", RESOLVE_MAX.as_secs())),
            };
            resolved(&name, found)
        });
        stream::iter(looked_up).buffered(limits::EXAMINED_AT_A_TIME).collect().await
    }
}

async fn knock_once(key: &Keypair, address: &Multiaddr, cluster: ClusterId) -> Outcome {
    let began = Instant::now();
    // Nothing follows the last epoch there can be: the shortest answer, and it names the newest one.
    let question = DoorMessage::Ask { have: Some(Epoch(u64::MAX)) };
    match timeout(KNOCK_MAX, knock(key, address, cluster, question)).await {
        Ok(Ok((member, answer))) => Outcome::Answered(member, answer, began.elapsed()),
        // A reason may repeat where.
        Ok(Err(no_answer)) => Outcome::Silent(no_answer.reason.replace(&format!("at {address}: "), "")),
        Err(_) => Outcome::Silent(format!("no answer within {} s", KNOCK_MAX.as_secs())),
    }
}

fn resolved(name: &str, found: Result<Vec<IpAddr>, String>) -> Finding {
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

fn judge(door: &Door, outcome: &Outcome, cluster: ClusterId) -> Finding {
    let check = format!("reach {}", door.name);
    let from = format!("{} (by {})", door.address, door.sources.join(", "));
    let (member, answer, took) = match outcome {
        Outcome::Answered(member, answer, took) => (member, answer, took),
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
        DoorMessage::Refused(DoorRefusal::Cluster { ours: theirs, .. }) => Finding::fail(
            check,
            format!("{from} is of another group: {}, this one is of {}", theirs.short(), cluster.short()),
            "one of the two has the wrong genesis, or the address is another group's: compare `synod config check` on both",
        ),
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

/// What the group says of the key that knocked, if it knows it.
fn standing(outcomes: &[Outcome]) -> Option<Finding> {
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

/// Whether anybody was reached at all.
fn alone(outcomes: &[Outcome]) -> Option<Finding> {
    let reached = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Answered(..)));
    (!outcomes.is_empty() && !reached).then(|| {
        let advice =
            "start the others; if they run, it is this machine's network: see its addresses, routes and firewall";
        Finding::fail("reach", "nobody answers at any address that is known", advice)
    })
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    const N1: MemberId = MemberId([1; 32]);
    const N2: MemberId = MemberId([2; 32]);

    fn cluster(number: u8) -> ClusterId {
        crate::types::Digest([number; 32])
    }

    fn doors() -> Doors {
        let mut doors = Doors::default();
        doors.add(Some(N1), "n1", &["/ip4/10.0.0.1/tcp/7271".to_owned()], "genesis");
        doors
    }

    fn told(standing: Standing) -> DoorMessage {
        let (links, contacts) = (Vec::new(), Vec::new());
        DoorMessage::Tell(Told { genesis: None, from: Epoch(3), links, established: Epoch(3), standing, contacts })
    }

    #[test]
    fn an_address_is_known_once_with_all_who_name_it() {
        let mut doors = doors();
        let addresses =
            ["/ip4/10.0.0.1/tcp/7271".to_owned(), "/ip4/10.0.0.9/tcp/7271".to_owned(), "nowhere".to_owned()];
        doors.add(Some(N1), "n1", &addresses, "members");
        doors.add(Some(N2), "n2", &addresses[1..2], "members");
        assert_eq!((doors.len(), doors.unreadable.len()), (3, 1));
        assert_eq!(doors.doors[0].sources, ["genesis", "members"]);
        assert_eq!(doors.without(Some(N1)).len(), 1);
    }

    #[test]
    fn what_answers_is_compared_with_what_is_expected() {
        let door = &doors().doors[0];
        let judged = |member, message| judge(door, &Outcome::Answered(member, message, Duration::ZERO), cluster(1));
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
        assert_eq!(judge(door, &Outcome::NotTried, cluster(1)).state, State::Warn);
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
        let door = &doors().doors[0];
        let silent = judge(door, &Outcome::Silent("Connection refused".to_owned()), cluster(1));
        assert!(silent.state == State::Warn && silent.advice.unwrap().contains("start that member"));
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
        assert_eq!(alone(&[]), None);
        assert_eq!(alone(&[silent.clone(), silent.clone()]).unwrap().state, State::Fail);
        assert_eq!(alone(&[silent, Outcome::Answered(N1, told(Standing::Voter), Duration::ZERO)]), None);
    }

    #[test]
    fn names_tell_what_they_gave() {
        let found = ["10.0.0.2", "10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(resolved("n1", Ok(found)).what, "10.0.0.1, 10.0.0.2");
        assert_eq!(resolved("n1", Ok(Vec::new())).state, State::Warn);
        assert!(resolved("n1", Err("no such host".to_owned())).what.contains("no such host"));
    }

    #[tokio::test]
    async fn a_door_that_is_shut_is_told_with_the_reason() {
        let shut = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut doors = Doors::default();
        doors.add(Some(N1), "n1", &[format!("/ip4/127.0.0.1/tcp/{shut}")], "genesis");
        let mut tried = 0;
        let findings = doors.examine(&Keypair::generate_ed25519(), cluster(1), |count| tried = count).await;
        let states: Vec<(&str, State)> =
            findings.iter().map(|finding| (finding.check.as_str(), finding.state)).collect();
        assert_eq!((states, tried), (vec![("reach n1", State::Warn), ("reach", State::Fail)], 1));
        assert!(findings[0].what.contains("refused"), "{findings:?}");
    }
}
