//! What the sources tell, and what becomes of it: which addresses are dialled without knowing who is there, and when again.
//! Judges and remembers only.
//!
//! Whatever a source tells costs a bounded number of dials: so many addresses of each source count, few of them are dialled
//! at a time, and each again only after a pause that doubles.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, mdns};

use super::identity::member_of_peer;
use super::outcome::Outcome;
use super::source::{MDNS, News, Place};
use crate::types::{MemberId, limits};

/// One source, for the status.
#[derive(Clone, Debug)]
pub struct SourceFigures {
    /// What it is called in the settings.
    pub name: &'static str,
    /// Addresses it told of, those that it does not tell any more included.
    pub finds: u64,
    /// Why it does not tell all it could.
    pub trouble: Option<String>,
    /// What it tells at present.
    pub addresses: Vec<FoundAddress>,
}

/// One address that a source tells.
#[derive(Clone, Debug)]
pub struct FoundAddress {
    /// Where.
    pub address: Multiaddr,
    /// Whose the source says it is.
    pub key: Option<MemberId>,
    /// What is there.
    pub outcome: Outcome,
}

impl FoundAddress {
    /// Whether that key is there, or is said to be.
    pub fn is_of(&self, member: &MemberId) -> bool {
        let found = match &self.outcome {
            Outcome::Linked(key) | Outcome::Member(key) | Outcome::Unknown(key) | Outcome::Candidate(key) => Some(key),
            Outcome::NotAMember { key, .. } => Some(key),
            _ => None,
        };
        self.key.as_ref() == Some(member) || found == Some(member)
    }
}

/// Who is at an address, as far as that is known without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    Ourselves,
    Linked(MemberId),
    Member(MemberId),
    Nobody,
}

/// The longest pauses.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    pub stranger: Duration,
    pub unreached: Duration,
}

/// All sources, and the addresses they tell.
pub(super) struct Finder {
    patience: Patience,
    sources: BTreeMap<&'static str, Told>,
    /// Addresses that any source tells.
    spots: BTreeMap<Multiaddr, Spot>,
    /// What the local network tells at present.
    neighbours: BTreeSet<Place>,
    /// When any spot is to be looked at.
    next_due: Option<Instant>,
}

#[derive(Default)]
struct Told {
    finds: Vec<Place>,
    total: u64,
    trouble: Option<String>,
}

struct Spot {
    /// Whose it is said to be.
    key: Option<MemberId>,
    /// Who answered there last.
    answered: Option<MemberId>,
    outcome: Outcome,
    due: Instant,
    pauses: u32,
    /// The connection on which it is being asked.
    running: Option<ConnectionId>,
}

/// A member is looked at again after this: it may have lost its link.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

impl Finder {
    pub fn new(patience: Patience) -> Finder {
        let (sources, spots, neighbours) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Finder { patience, sources, spots, neighbours, next_due: None }
    }

    /// What a source tells at present, in place of what it told before. Gives what is new of it.
    pub fn learn(&mut self, source: &'static str, mut news: News, now: Instant) -> Vec<Place> {
        let told = self.sources.entry(source).or_default();
        if news.finds.len() > limits::SOURCE_ADDRESSES_MAX {
            let passed_over = news.finds.len() - limits::SOURCE_ADDRESSES_MAX;
            let words = format!("{passed_over} addresses more than the {} that count", limits::SOURCE_ADDRESSES_MAX);
            news.finds.truncate(limits::SOURCE_ADDRESSES_MAX);
            news.trouble = Some(news.trouble.map_or(words.clone(), |trouble| format!("{trouble}; {words}")));
        }
        let fresh: Vec<Place> = news.finds.iter().filter(|place| !told.finds.contains(place)).cloned().collect();
        told.total += fresh.len() as u64;
        (told.finds, told.trouble) = (news.finds, news.trouble);
        self.gather(now);
        fresh
    }

    /// What the local network tells.
    pub fn hear_neighbours(&mut self, event: mdns::Event, now: Instant) -> Vec<Place> {
        let place = |(peer, address)| {
            let address = Place::of(&address)?.address;
            Some(Place { key: Some(member_of_peer(&peer)?), address })
        };
        match event {
            mdns::Event::Discovered(list) => {
                let room = (limits::SOURCE_ADDRESSES_MAX + 1).saturating_sub(self.neighbours.len());
                self.neighbours.extend(list.into_iter().filter_map(place).take(room));
            }
            mdns::Event::Expired(list) => list.into_iter().filter_map(place).for_each(|place| {
                self.neighbours.remove(&place);
            }),
        }
        self.learn(MDNS, News { finds: self.neighbours.iter().cloned().collect(), trouble: None }, now)
    }

    /// A source that tells nothing, and why.
    pub fn trouble(&mut self, source: &'static str, trouble: String) {
        self.sources.entry(source).or_default().trouble = Some(trouble);
    }

    /// Where a key is said to be, or was.
    pub fn addresses(&self, member: &MemberId) -> Vec<Multiaddr> {
        let of_member = |spot: &Spot| spot.key == Some(*member) || spot.answered == Some(*member);
        self.spots.iter().filter(|(_, spot)| of_member(spot)).map(|(address, _)| address.clone()).collect()
    }

    /// When to look again.
    pub fn next_due(&self) -> Option<Instant> {
        self.next_due
    }

    /// Which addresses to dial now.
    pub fn due(&mut self, now: Instant, stands: impl Fn(&Multiaddr, Option<&MemberId>) -> Stand) -> Vec<Place> {
        if self.next_due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        let mut running = self.spots.values().filter(|spot| spot.running.is_some()).count();
        let mut due = Vec::new();
        for (address, spot) in &mut self.spots {
            if spot.running.is_some() || spot.due > now {
                continue;
            }
            let outcome = match stands(address, spot.key.as_ref()) {
                Stand::Nobody if running < limits::UNKNOWN_DIALS_MAX => {
                    running += 1;
                    due.push(Place { key: spot.key, address: address.clone() });
                    continue;
                }
                Stand::Nobody => continue,
                Stand::Ourselves => Outcome::Ourselves,
                Stand::Linked(member) => Outcome::Linked(member),
                Stand::Member(member) => Outcome::Member(member),
            };
            (spot.outcome, spot.due) = (outcome, now + LOOK_PAUSE);
        }
        self.look_ahead(now);
        due
    }

    /// An address is dialled.
    pub fn began(&mut self, address: &Multiaddr, id: ConnectionId) {
        if let Some(spot) = self.spots.get_mut(address) {
            spot.running = Some(id);
        }
    }

    /// The address that is asked on a connection.
    pub fn asked_on(&self, id: ConnectionId) -> Option<Multiaddr> {
        self.spots.iter().find(|(_, spot)| spot.running == Some(id)).map(|(address, _)| address.clone())
    }

    /// Somebody answered at the address that is asked on a connection; none if there is none.
    pub fn answered(&mut self, id: ConnectionId, by: MemberId, outcome: Outcome, now: Instant) -> Option<Multiaddr> {
        let stranger = self.patience.stranger;
        let address = self.over(id, outcome, stranger, now)?;
        self.spots.get_mut(&address).expect("it was there a moment ago").answered = Some(by);
        Some(address)
    }

    /// Nobody answered at the address that is asked on a connection, or it cannot be dialled.
    pub fn unreached(&mut self, id: ConnectionId, why: String, now: Instant) -> Option<Multiaddr> {
        self.over(id, Outcome::Unreachable(why), self.patience.unreached, now)
    }

    /// We answered ourselves.
    pub fn ourselves(&mut self, id: ConnectionId, now: Instant) -> Option<Multiaddr> {
        self.over(id, Outcome::Ourselves, self.patience.stranger, now)
    }

    /// What there is to tell.
    pub fn figures(&self) -> Vec<SourceFigures> {
        let found = |place: &Place| FoundAddress {
            address: place.address.clone(),
            key: place.key,
            outcome: self.spots.get(&place.address).map_or(Outcome::Waiting, |spot| spot.outcome.clone()),
        };
        let source = |(name, told): (&&'static str, &Told)| SourceFigures {
            name,
            finds: told.total,
            trouble: told.trouble.clone(),
            addresses: told.finds.iter().map(found).collect(),
        };
        self.sources.iter().map(source).collect()
    }

    /// The spots that any source tells; what is known of them stays.
    fn gather(&mut self, now: Instant) {
        let mut before = std::mem::take(&mut self.spots);
        for place in self.sources.values().flat_map(|told| &told.finds) {
            let spot = self.spots.entry(place.address.clone()).or_insert_with(|| {
                before.remove(&place.address).unwrap_or(Spot {
                    key: None,
                    answered: None,
                    outcome: Outcome::Waiting,
                    due: now,
                    pauses: 0,
                    running: None,
                })
            });
            if place.key.is_some() && spot.key != place.key {
                (spot.key, spot.due, spot.pauses) = (place.key, now, 0);
            }
        }
        // What is being asked is not forgotten before it is over; the next news drop it.
        let running = before.into_iter().filter(|(_, spot)| spot.running.is_some());
        self.spots.extend(running);
        self.look_ahead(now);
    }

    fn over(&mut self, id: ConnectionId, outcome: Outcome, most: Duration, now: Instant) -> Option<Multiaddr> {
        let (address, spot) = self.spots.iter_mut().find(|(_, spot)| spot.running == Some(id))?;
        let pause = limits::UNKNOWN_PAUSE_MIN.saturating_mul(1 << spot.pauses.min(16)).min(most);
        (spot.running, spot.outcome) = (None, outcome);
        (spot.due, spot.pauses) = (now + pause, spot.pauses.saturating_add(1));
        let address = address.clone();
        self.look_ahead(now);
        Some(address)
    }

    /// Where there is no room, whoever is due waits for somebody to be over.
    fn look_ahead(&mut self, now: Instant) {
        let idle = || self.spots.values().filter(|spot| spot.running.is_none());
        let full = self.spots.values().filter(|spot| spot.running.is_some()).count() >= limits::UNKNOWN_DIALS_MAX;
        self.next_due = idle().filter(|spot| !full || spot.due > now).map(|spot| spot.due).min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { stranger: limits::STRANGER_PAUSE_MAX, unreached: limits::UNREACHED_PAUSE_MAX };

    fn place(number: usize) -> Place {
        format!("10.0.{}.{}:7", number / 250, number % 250 + 1).parse().unwrap()
    }

    fn places(count: usize) -> News {
        News { finds: (0..count).map(place).collect(), trouble: None }
    }

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    fn nobody(_: &Multiaddr, _: Option<&MemberId>) -> Stand {
        Stand::Nobody
    }

    /// Dials what is due, and counts.
    fn dialled(finder: &mut Finder, now: Instant) -> Vec<Place> {
        let due = finder.due(now, nobody);
        due.iter().enumerate().for_each(|(number, place)| finder.began(&place.address, id(number)));
        due
    }

    #[test]
    fn a_flood_of_finds_costs_few_dials() {
        let now = Instant::now();
        let mut finder = Finder::new(PATIENCE);
        assert_eq!(finder.learn("file", places(5000), now).len(), limits::SOURCE_ADDRESSES_MAX);
        let figures = finder.figures().remove(0);
        assert_eq!((figures.addresses.len(), figures.finds), (limits::SOURCE_ADDRESSES_MAX, 64));
        assert!(figures.trouble.unwrap().starts_with("4936 addresses more"));
        assert_eq!(dialled(&mut finder, now).len(), limits::UNKNOWN_DIALS_MAX);
        assert_eq!((dialled(&mut finder, now).len(), finder.next_due()), (0, None), "no more at a time");
        assert!(finder.unreached(id(0), "refused".to_owned(), now).is_some());
        assert_eq!(finder.due(now, nobody).len(), 1);
    }

    #[test]
    fn an_address_is_asked_again_at_doubling_pauses() {
        for (most, strange) in [(limits::STRANGER_PAUSE_MAX, true), (limits::UNREACHED_PAUSE_MAX, false)] {
            let mut now = Instant::now();
            let mut finder = Finder::new(PATIENCE);
            finder.learn("dns", places(1), now);
            let mut pauses = Vec::new();
            for _ in 0..12 {
                assert_eq!(dialled(&mut finder, now).len(), 1);
                let key = MemberId([1; 32]);
                let over = match strange {
                    true => finder.answered(id(0), key, Outcome::NotAMember { key, why: String::new() }, now),
                    false => finder.unreached(id(0), String::new(), now),
                };
                assert_eq!(over, Some(place(0).address));
                assert!(finder.due(now, nobody).is_empty());
                pauses.push(finder.next_due().unwrap() - now);
                now = finder.next_due().unwrap();
            }
            assert_eq!(pauses[..3], [1, 2, 4].map(Duration::from_secs));
            assert_eq!(pauses[11], most);
        }
    }

    #[test]
    fn who_is_known_there_is_not_asked() {
        let now = Instant::now();
        let [linked, member] = [1, 2].map(|byte| MemberId([byte; 32]));
        let mut finder = Finder::new(PATIENCE);
        let mut news = places(4);
        (news.finds[0].key, news.finds[1].key) = (Some(linked), Some(member));
        assert_eq!(finder.learn("addresses", news.clone(), now).len(), 4);
        assert_eq!(finder.learn("addresses", news.clone(), now), [], "that is not new");
        let own = news.finds[2].address.clone();
        let due = finder.due(now, |address, key| match key {
            Some(key) if *key == linked => Stand::Linked(linked),
            Some(key) => Stand::Member(*key),
            None if *address == own => Stand::Ourselves,
            None => Stand::Nobody,
        });
        assert_eq!(due, news.finds[3..]);
        let words: Vec<&str> = finder.figures()[0].addresses.iter().map(|found| found.outcome.word()).collect();
        assert_eq!(words, ["linked", "member", "ourselves", "waiting"]);
        assert_eq!(finder.addresses(&member), [news.finds[1].address.clone()]);
    }

    #[test]
    fn what_no_source_tells_any_more_is_forgotten_when_it_is_over() {
        let now = Instant::now();
        let mut finder = Finder::new(PATIENCE);
        finder.learn("dns", places(2), now);
        assert_eq!(dialled(&mut finder, now).len(), 2);
        finder.learn("dns", News::default(), now);
        assert_eq!(finder.asked_on(id(1)), Some(place(1).address));
        finder.unreached(id(0), String::new(), now);
        finder.unreached(id(1), String::new(), now);
        finder.learn("dns", News::default(), now);
        assert_eq!((finder.spots.len(), finder.figures()[0].finds), (0, 2));
    }

    #[test]
    fn neighbours_come_and_go() {
        let now = Instant::now();
        let mut finder = Finder::new(PATIENCE);
        let peer = libp2p::identity::Keypair::generate_ed25519().public().to_peer_id();
        let list = vec![(peer, place(0).address), (peer, "/ip4/1.2.3.4/tcp/1/ws".parse().unwrap())];
        let fresh = finder.hear_neighbours(mdns::Event::Discovered(list.clone()), now);
        assert_eq!(fresh, [Place { key: member_of_peer(&peer), address: place(0).address }]);
        finder.hear_neighbours(mdns::Event::Expired(list), now);
        assert!(finder.figures()[0].addresses.is_empty());
    }
}
