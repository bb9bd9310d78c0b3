//! What the sources tell, and what becomes of it: which addresses are dialled without knowing who is there, and when again.
//! Judges and remembers only.
//!
//! Whatever a source tells costs a bounded number of dials: so many addresses of each source count, few of them are dialled
//! at a time, each again only after a pause that doubles, and a source that changes its word all the time has a pace. Where
//! several sources tell one address, the first of them counts, in the order of their names.

use std::collections::BTreeMap;
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
    /// What the local network tells at present, the oldest first.
    neighbours: Vec<Place>,
    /// When any spot is to be looked at.
    next_due: Option<Instant>,
}

#[derive(Default)]
struct Told {
    finds: Vec<Place>,
    total: u64,
    trouble: Option<String>,
    pace: Pace,
}

/// The dials that a source may cause: one for each address that counts, and then so many a second.
#[derive(Default)]
struct Pace {
    /// When all that it caused is forgotten.
    even: Option<Instant>,
}

struct Spot {
    /// Which source tells it; none once no source does.
    source: Option<&'static str>,
    /// Whose it is said to be.
    key: Option<MemberId>,
    /// Who answered there last, and when.
    answered: Option<(MemberId, Instant)>,
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
        let (sources, spots, neighbours) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
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

    /// What the local network tells. A neighbour is told once for as long as it stays: where there is no room for all, the
    /// newest comes in the place of the oldest that led to nobody.
    pub fn hear_neighbours(&mut self, event: mdns::Event, now: Instant) -> Vec<Place> {
        let place = |(peer, address)| {
            let address = Place::of(&address)?.address;
            Some(Place { key: Some(member_of_peer(&peer)?), address })
        };
        let (mut fresh, mut trouble) = (Vec::new(), None);
        match event {
            mdns::Event::Discovered(list) => {
                for place in list.into_iter().filter_map(place) {
                    if self.neighbours.contains(&place) {
                        continue;
                    }
                    if self.neighbours.len() >= limits::SOURCE_ADDRESSES_MAX {
                        self.neighbours.remove(self.least_useful_neighbour());
                        trouble = Some(format!("more than the {} addresses that count", limits::SOURCE_ADDRESSES_MAX));
                    }
                    self.neighbours.push(place.clone());
                    fresh.push(place);
                }
            }
            mdns::Event::Expired(list) => list.into_iter().filter_map(place).for_each(|place| {
                self.neighbours.retain(|neighbour| *neighbour != place);
            }),
        }
        self.learn(MDNS, News { finds: self.neighbours.clone(), trouble }, now);
        fresh
    }

    /// The oldest of those that led to nobody; else of those that were not asked yet; else of all.
    fn least_useful_neighbour(&self) -> usize {
        let use_of = |place: &Place| match self.spots.get(&place.address).map(|spot| &spot.outcome) {
            Some(Outcome::Unreachable(_) | Outcome::NotAMember { .. } | Outcome::OtherGroup { .. }) => 0,
            None | Some(Outcome::Waiting) => 1,
            Some(_) => 2,
        };
        let worst = self.neighbours.iter().enumerate().min_by_key(|(_, place)| use_of(place));
        worst.map_or(0, |(index, _)| index)
    }

    /// A source that tells nothing, and why.
    pub fn trouble(&mut self, source: &'static str, trouble: String) {
        self.sources.entry(source).or_default().trouble = Some(trouble);
    }

    /// Where a key is said to be, or was.
    pub fn addresses(&self, member: &MemberId) -> Vec<Multiaddr> {
        let answers = |spot: &Spot| spot.answered.is_some_and(|(answers, _)| answers == *member);
        let of_member = |spot: &Spot| spot.key == Some(*member) || answers(spot);
        self.spots.iter().filter(|(_, spot)| of_member(spot)).map(|(address, _)| address.clone()).collect()
    }

    /// When to look again.
    pub fn next_due(&self) -> Option<Instant> {
        self.next_due
    }

    /// Which addresses to dial now: those that have waited longest. `stands` is given whose an address is said to be, and
    /// who answered there not long ago.
    pub fn due(
        &mut self,
        now: Instant,
        stands: impl Fn(&Multiaddr, Option<&MemberId>, Option<&MemberId>) -> Stand,
    ) -> Vec<Place> {
        if self.next_due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        let mut waiting = Vec::new();
        for (address, spot) in &mut self.spots {
            let (Some(source), None, true) = (spot.source, spot.running, spot.due <= now) else { continue };
            let answered = spot.answered.filter(|(_, at)| now < *at + self.patience.stranger);
            let outcome = match stands(address, spot.key.as_ref(), answered.as_ref().map(|(member, _)| member)) {
                Stand::Nobody => {
                    waiting.push((spot.due, source, Place { key: spot.key, address: address.clone() }));
                    continue;
                }
                Stand::Ourselves => Outcome::Ourselves,
                Stand::Linked(member) => Outcome::Linked(member),
                Stand::Member(member) => Outcome::Member(member),
            };
            (spot.outcome, spot.due) = (outcome, now + LOOK_PAUSE);
        }
        waiting.sort();
        let room = limits::UNKNOWN_DIALS_MAX.saturating_sub(self.running());
        let may = |(_, source, place): (Instant, &'static str, Place)| {
            self.sources.get_mut(source).is_some_and(|told| told.pace.take(now)).then_some(place)
        };
        let due = waiting.into_iter().filter_map(may).take(room).collect();
        self.look_ahead(now);
        due
    }

    fn running(&self) -> usize {
        self.spots.values().filter(|spot| spot.running.is_some()).count()
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
        self.spots.get_mut(&address).expect("it was there a moment ago").answered = Some((by, now));
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
        self.spots.values_mut().for_each(|spot| spot.source = None);
        for (source, told) in &self.sources {
            for place in &told.finds {
                let spot = self.spots.entry(place.address.clone()).or_insert_with(|| Spot::new(place.key, now));
                if spot.source.is_some() {
                    continue;
                }
                spot.source = Some(source);
                if spot.key != place.key {
                    (spot.key, spot.due, spot.pauses) = (place.key, now, 0);
                }
            }
        }
        // What is being asked is not forgotten before it is over, nor what was asked before its pause is.
        let pauses = |spot: &Spot| spot.pauses > 0 && spot.due > now;
        self.spots.retain(|_, spot| spot.source.is_some() || spot.running.is_some() || pauses(spot));
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
        let full = self.running() >= limits::UNKNOWN_DIALS_MAX;
        let waits: BTreeMap<&str, Duration> =
            self.sources.iter().map(|(source, told)| (*source, told.pace.wait(now))).collect();
        let idle = self.spots.values().filter(|spot| spot.running.is_none());
        let due = idle.filter_map(|spot| Some(spot.due.max(now + *waits.get(spot.source?)?)));
        self.next_due = due.filter(|due| !full || *due > now).min();
    }
}

impl Spot {
    fn new(key: Option<MemberId>, now: Instant) -> Spot {
        Spot { source: None, key, answered: None, outcome: Outcome::Waiting, due: now, pauses: 0, running: None }
    }
}

impl Pace {
    /// How long the next dial has to wait.
    fn wait(&self, now: Instant) -> Duration {
        let all = limits::SOURCE_DIAL_PAUSE * limits::SOURCE_ADDRESSES_MAX as u32;
        let spent = self.even.map_or(Duration::ZERO, |even| even.saturating_duration_since(now));
        (spent + limits::SOURCE_DIAL_PAUSE).saturating_sub(all)
    }

    fn take(&mut self, now: Instant) -> bool {
        let may = self.wait(now).is_zero();
        if may {
            self.even = Some(self.even.map_or(now, |even| even.max(now)) + limits::SOURCE_DIAL_PAUSE);
        }
        may
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

    fn nobody(_: &Multiaddr, _: Option<&MemberId>, _: Option<&MemberId>) -> Stand {
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
        let due = finder.due(now, |address, key, _| match key {
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
        let later = now + limits::UNKNOWN_PAUSE_MIN;
        assert_eq!((finder.spots.len(), finder.next_due(), finder.due(later, nobody)), (2, None, Vec::new()));
        finder.learn("dns", News::default(), later);
        assert_eq!((finder.spots.len(), finder.figures()[0].finds), (0, 2));
    }

    /// Dials whatever is due within a time, where nobody is.
    fn dials_within(finder: &mut Finder, from: Instant, time: Duration) -> Vec<Place> {
        let mut all = Vec::new();
        while let Some(due) = finder.next_due().filter(|due| *due < from + time) {
            let now = due.max(from);
            for (number, place) in finder.due(now, nobody).into_iter().enumerate() {
                finder.began(&place.address, id(number));
                finder.unreached(id(number), String::new(), now);
                all.push(place);
            }
        }
        all
    }

    #[test]
    fn who_waits_longest_is_dialled_first() {
        let now = Instant::now();
        let mut finder = Finder::new(PATIENCE);
        finder.learn("dns", places(50), now);
        let mut seen = std::collections::BTreeSet::new();
        let mut at = now;
        // Each dial takes as long as one to an address from which nothing comes back.
        for _ in 0..50_usize.div_ceil(limits::UNKNOWN_DIALS_MAX) {
            let due = dialled(&mut finder, at);
            at += limits::HELLO_TIMEOUT;
            (0..due.len()).for_each(|number| drop(finder.unreached(id(number), String::new(), at)));
            seen.extend(due);
        }
        assert_eq!(seen.len(), 50);
    }

    #[test]
    fn a_source_that_changes_its_word_all_the_time_has_a_pace() {
        let start = Instant::now();
        let (mut finder, mut dials) = (Finder::new(PATIENCE), Vec::new());
        const SECONDS: usize = 60;
        for second in 0..SECONDS {
            // Another list each time, and the same two again and again, by turns with one key and another.
            let key = MemberId([second as u8 % 2; 32]);
            let finds = match second % 3 {
                0 => (0..64).map(place).collect(),
                1 => (64..128).map(|number| Place { key: Some(key), ..place(number) }).collect(),
                _ => (1000 + 64 * second..1064 + 64 * second).map(place).collect(),
            };
            let now = start + Duration::from_secs(second as u64);
            finder.learn("file", News { finds, trouble: None }, now);
            dials.extend(dials_within(&mut finder, now, Duration::from_secs(1)));
        }
        let most = limits::SOURCE_ADDRESSES_MAX + 4 * SECONDS;
        assert!((most - 8..=most).contains(&dials.len()), "{}", dials.len());
        assert!(finder.spots.len() < 4 * limits::SOURCE_ADDRESSES_MAX, "{}", finder.spots.len());
        // It takes nothing from others.
        let now = start + Duration::from_secs(SECONDS as u64);
        finder.learn("dns", News { finds: vec![place(9999)], trouble: None }, now);
        assert!(dials_within(&mut finder, now, Duration::from_secs(1)).contains(&place(9999)));
    }

    #[test]
    fn an_address_told_again_waits_for_the_end_of_its_pause() {
        let mut now = Instant::now();
        let mut finder = Finder::new(PATIENCE);
        let mut dials = 0;
        for _ in 0..100 {
            for finds in [vec![place(1)], Vec::new()] {
                finder.learn("mdns", News { finds, trouble: None }, now);
                dials += dials_within(&mut finder, now, Duration::from_millis(100)).len();
                now += Duration::from_millis(100);
            }
        }
        assert!((4..=6).contains(&dials), "{dials}");
    }

    #[test]
    fn of_several_sources_the_first_one_says_whose_an_address_is() {
        let now = Instant::now();
        let mut finder = Finder::new(PATIENCE);
        let keyed = |byte| News { finds: vec![Place { key: Some(MemberId([byte; 32])), ..place(0) }], trouble: None };
        finder.learn("mdns", keyed(2), now);
        finder.learn("dns", places(1), now);
        finder.learn("file", keyed(1), now);
        assert_eq!(dialled(&mut finder, now), [place(0)]);
        finder.unreached(id(0), String::new(), now);
        finder.learn("mdns", keyed(3), now);
        assert_eq!(finder.due(now, nobody), [], "nobody else's word is a reason to dial again");
        finder.learn("dns", News::default(), now);
        assert_eq!(finder.due(now, nobody), keyed(1).finds);
    }

    #[test]
    fn who_answered_is_known_there_for_a_while() {
        let mut now = Instant::now();
        let member = MemberId([1; 32]);
        let mut finder = Finder::new(PATIENCE);
        finder.learn("dns", places(1), now);
        dialled(&mut finder, now);
        finder.answered(id(0), member, Outcome::Member(member), now);
        let linked = |_: &Multiaddr, _: Option<&MemberId>, answered: Option<&MemberId>| {
            answered.map_or(Stand::Nobody, |member| Stand::Linked(*member))
        };
        let until = now + limits::STRANGER_PAUSE_MAX;
        while now < until {
            now = finder.next_due().unwrap();
            assert_eq!(finder.due(now, linked).len(), usize::from(now >= until));
            assert_eq!(finder.figures()[0].addresses[0].outcome, Outcome::Linked(member));
        }
    }

    fn neighbour(number: usize) -> (libp2p::PeerId, Multiaddr) {
        (libp2p::identity::Keypair::generate_ed25519().public().to_peer_id(), place(number).address)
    }

    #[test]
    fn neighbours_come_and_go() {
        let now = Instant::now();
        let mut finder = Finder::new(PATIENCE);
        let (peer, address) = neighbour(0);
        let list = vec![(peer, address), (peer, "/ip4/1.2.3.4/tcp/1/ws".parse().unwrap())];
        let fresh = finder.hear_neighbours(mdns::Event::Discovered(list.clone()), now);
        assert_eq!(fresh, [Place { key: member_of_peer(&peer), address: place(0).address }]);
        assert_eq!(finder.hear_neighbours(mdns::Event::Discovered(list.clone()), now), []);
        finder.hear_neighbours(mdns::Event::Expired(list), now);
        assert!(finder.figures()[0].addresses.is_empty());
    }

    #[test]
    fn a_neighbour_is_heard_however_many_others_there_are() {
        let now = Instant::now();
        let mut finder = Finder::new(PATIENCE);
        let linked = neighbour(0);
        finder.hear_neighbours(mdns::Event::Discovered(vec![linked.clone()]), now);
        finder.due(now, |_, key, _| Stand::Linked(*key.unwrap()));
        let false_ones = (1..=2 * limits::SOURCE_ADDRESSES_MAX).map(neighbour).collect();
        finder.hear_neighbours(mdns::Event::Discovered(false_ones), now);
        let found = |finder: &Finder| -> Vec<Multiaddr> {
            finder.figures()[0].addresses.iter().map(|found| found.address.clone()).collect()
        };
        assert_eq!(found(&finder).len(), limits::SOURCE_ADDRESSES_MAX);
        assert!(finder.figures()[0].trouble.as_ref().unwrap().starts_with("more than the 64"));
        let asked = dials_within(&mut finder, now, Duration::from_millis(1));
        let late = neighbour(1000);
        let fresh = finder.hear_neighbours(mdns::Event::Discovered(vec![late.clone()]), now);
        assert_eq!(fresh.len(), 1);
        assert!(found(&finder).contains(&late.1) && found(&finder).contains(&linked.1));
        assert_eq!(asked.len(), limits::SOURCE_ADDRESSES_MAX - 1);
        let oldest = limits::SOURCE_ADDRESSES_MAX + 2;
        assert!(!found(&finder).contains(&place(oldest).address), "the oldest that led to nobody is gone");
        assert!(found(&finder).contains(&place(oldest + 1).address));
    }
}
