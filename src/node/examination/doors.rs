//! Every address at which somebody of the group may be: its name resolved, and its door knocked at. A few at a time, and
//! not for long: what was not tried is said.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use libp2p::identity::Keypair;
use libp2p::multiaddr::{Multiaddr, Protocol};
use tokio::time::timeout;

use super::Finding;
use super::ports::is_here;
use super::reached::{alone, judge, resolved, standing};
use crate::net::door::knock;
use crate::net::{Answer, Place};
use crate::types::{ClusterId, Contact, Digest, DoorMessage, Epoch, Genesis, MemberId, limits};

/// One knock, from the dial to the answer.
const KNOCK_MAX: Duration = Duration::from_secs(6);
/// All of them: after this nothing more is tried.
pub(super) const KNOCKS_MAX: Duration = Duration::from_secs(45);
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

    /// Adds what a source said, which need not know whose an address is. Where this member listens itself (`listen`) is
    /// left out.
    pub fn add_answer(&mut self, answer: &Answer, listen: &[Multiaddr]) {
        for Place { key, address } in answer.finds.iter().filter(|place| !is_here(&place.address, listen)) {
            let known = self.doors.iter().find(|door| key.is_some() && door.member == *key);
            let name = known.map_or_else(|| "others".to_owned(), |door| door.name.clone());
            self.add_one(Door { address: address.clone(), member: *key, name, sources: vec![answer.name] });
        }
    }

    fn add_one(&mut self, door: Door) {
        let same =
            |known: &&mut Door| known.address == door.address && (door.member.is_none() || known.member == door.member);
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

    /// Resolves every name, and knocks everywhere. `cluster` is the group that is meant; none if it is still to be founded or
    /// joined. `tell` hears how many doors have been tried.
    pub async fn examine(&self, key: &Keypair, cluster: Option<ClusterId>, tell: impl FnMut(usize)) -> Vec<Finding> {
        let mut findings = self.unreadable.clone();
        findings.extend(self.names().await);
        let outcomes = self.knock(key, cluster, tell).await;
        findings.extend(self.doors.iter().zip(&outcomes).map(|(door, outcome)| judge(door, outcome, cluster)));
        findings.extend(standing(&outcomes));
        findings.extend(alone(&outcomes, cluster));
        findings
    }

    async fn knock(&self, key: &Keypair, cluster: Option<ClusterId>, mut tell: impl FnMut(usize)) -> Vec<Outcome> {
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

/// The group of nobody: whoever is of a group answers that it is of another one, and of which.
const NO_GROUP: ClusterId = Digest([0; 32]);

async fn knock_once(key: &Keypair, address: &Multiaddr, cluster: Option<ClusterId>) -> Outcome {
    let (began, cluster) = (Instant::now(), cluster.unwrap_or(NO_GROUP));
    // Nothing follows the last epoch there can be: the shortest answer, and it names the newest one.
    let question = DoorMessage::Ask { have: Some(Epoch(u64::MAX)) };
    match timeout(KNOCK_MAX, knock(key, address, cluster, question)).await {
        Ok(Ok((member, answer))) => Outcome::Answered(member, answer, began.elapsed()),
        // A reason may repeat where.
        Ok(Err(no_answer)) => Outcome::Silent(no_answer.reason.replace(&format!("at {address}: "), "")),
        Err(_) => Outcome::Silent(format!("no answer within {} s", KNOCK_MAX.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    const N1: MemberId = MemberId([1; 32]);
    const N2: MemberId = MemberId([2; 32]);

    fn cluster(number: u8) -> ClusterId {
        Digest([number; 32])
    }

    fn doors() -> Doors {
        let mut doors = Doors::default();
        doors.add(Some(N1), "n1", &["/ip4/10.0.0.1/tcp/7271".to_owned()], "genesis");
        doors
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
    fn what_a_source_says_is_added_to_what_is_known() {
        let mut doors = doors();
        let finds = ["10.0.0.1:7271", "10.0.0.5:7271", "127.0.0.1:7271"].map(|text| text.parse().unwrap()).to_vec();
        let listen = ["/ip4/0.0.0.0/tcp/7271".parse().unwrap()];
        doors.add_answer(&Answer { name: "dns", finds, trouble: None }, &listen);
        assert_eq!(doors.doors[0].sources, ["genesis", "dns"], "whose it is was known");
        assert_eq!((doors.len(), doors.doors[1].name.as_str(), doors.doors[1].member), (2, "others", None));
    }

    #[tokio::test]
    async fn a_door_that_is_shut_is_told_with_the_reason() {
        let shut = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut doors = Doors::default();
        doors.add(Some(N1), "n1", &[format!("/ip4/127.0.0.1/tcp/{shut}")], "genesis");
        let mut tried = 0;
        let findings = doors.examine(&Keypair::generate_ed25519(), Some(cluster(1)), |count| tried = count).await;
        let states: Vec<(&str, State)> =
            findings.iter().map(|finding| (finding.check.as_str(), finding.state)).collect();
        assert_eq!((states, tried), (vec![("reach n1", State::Warn), ("reach", State::Fail)], 1));
        assert!(findings[0].what.contains("refused"), "{findings:?}");
    }
}
