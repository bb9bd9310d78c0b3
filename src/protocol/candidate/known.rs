//! The keys that a candidate knows: what they say of themselves, whether they count, and when they are asked next.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ASK_INTERVAL, CANDIDATE_SILENCE};
use crate::types::{Candidacy, CandidacyRefusal, ClusterId, Instant, MemberId, Promise, StartNonce, limits};

/// A key that is not heard is asked this often.
const SILENT_INTERVAL: Duration = Duration::from_secs(1);
/// A key that differs is asked this often: somebody has to mend its settings.
const DIFFERING_INTERVAL: Duration = CANDIDATE_SILENCE;
/// An ask of which nobody says what became of it is over.
const ASK_OVER: Duration = limits::CANDIDACY_TIMEOUT.saturating_mul(2);

/// What a key is told next. A new word goes at once, the same one again after a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Who we are; to our proposer also that we have promised.
    Here(Option<ClusterId>),
    /// The own proposal.
    Propose(ClusterId),
    /// What it promised is given up.
    Released(ClusterId),
    /// The genesis is made.
    Made(ClusterId),
}

/// One key.
#[derive(Debug)]
pub(super) struct Peer {
    /// The newest that it said of itself, whether it fits or not.
    pub candidacy: Option<Candidacy>,
    /// When it last said something that fits.
    pub heard: Option<Instant>,
    /// Why it is refused here.
    pub refused: Option<CandidacyRefusal>,
    /// Why it refuses what it was last told.
    pub refuses: Option<CandidacyRefusal>,
    /// It holds a promise to us of what is given up.
    pub holds: Option<ClusterId>,
    /// It answered, or did not, at least once.
    pub met: bool,
    /// Why nothing is heard of it, since it last said anything.
    pub silence: Option<String>,
    /// The other group of this name that it said there is, if it has not said since that it is a candidate.
    pub claims: Option<ClusterId>,
    processes: Processes,
    asked: Option<Instant>,
    ask_at: Instant,
    said: Option<Word>,
}

impl Peer {
    fn new(now: Instant) -> Peer {
        Peer {
            candidacy: None,
            heard: None,
            refused: None,
            refuses: None,
            holds: None,
            met: false,
            silence: None,
            claims: None,
            processes: Processes::default(),
            asked: None,
            ask_at: now,
            said: None,
        }
    }

    /// It is one of those that are started for this group, and it lives.
    pub fn counts(&self, now: Instant) -> bool {
        !self.differs() && self.heard.is_some_and(|heard| now.since(heard) < CANDIDATE_SILENCE)
    }

    /// It is refused, or refuses us, until somebody changes that.
    pub fn differs(&self) -> bool {
        let lasting = |refusal: &CandidacyRefusal| {
            use CandidacyRefusal::{OtherExpect, OtherName, OtherSettings, Version};
            matches!(refusal, OtherName { .. } | OtherExpect { .. } | OtherSettings { .. } | Version { .. })
        };
        self.refused.is_some() || self.refuses.as_ref().is_some_and(lasting)
    }

    /// It says who it is. True if two processes seem to speak with its key.
    pub fn says(&mut self, candidacy: &Candidacy, now: Instant) -> bool {
        self.candidacy = Some(candidacy.clone());
        (self.silence, self.claims) = (None, None);
        self.processes.hear(candidacy.nonce, now)
    }

    /// What it says fits.
    pub fn fits(&mut self, now: Instant) {
        self.heard = Some(now);
        self.refused = None;
        if self.differs() {
            self.refuses = None;
        }
    }

    /// It has promised something.
    pub fn promises(&mut self, promise: Promise, now: Instant) {
        self.refuses = None;
        if let Some(candidacy) = &mut self.candidacy {
            candidacy.promise = Some(promise);
            self.heard = Some(now);
        }
    }

    /// It says no; unless that lasts, it lives and may say yes another time.
    pub fn refuses(&mut self, refusal: &CandidacyRefusal, now: Instant) {
        self.refuses = Some(refusal.clone());
        if self.candidacy.is_some() && !self.differs() {
            self.heard = Some(now);
        }
    }

    fn pace(&self, now: Instant) -> Duration {
        match (self.differs(), self.counts(now)) {
            (true, _) => DIFFERING_INTERVAL,
            (false, true) => ASK_INTERVAL,
            (false, false) => SILENT_INTERVAL,
        }
    }
}

/// The processes that speak with one key: one that is heard again after a later one was is no earlier process of the same
/// candidate, but another one, on a copy of its data directory.
#[derive(Debug, Default)]
struct Processes {
    newest: Option<StartNonce>,
    earlier: Option<StartNonce>,
    doubled: Option<Instant>,
}

impl Processes {
    fn hear(&mut self, nonce: StartNonce, now: Instant) -> bool {
        if self.newest != Some(nonce) {
            if self.earlier == Some(nonce) {
                self.doubled = Some(now);
            }
            self.earlier = self.newest.replace(nonce);
        }
        self.doubled.is_some_and(|doubled| now.since(doubled) < CANDIDATE_SILENCE)
    }
}

/// Every key.
#[derive(Debug, Default)]
pub(super) struct Known {
    peers: BTreeMap<MemberId, Peer>,
}

impl Known {
    /// A key is found, perhaps again: it is asked soon.
    pub fn find(&mut self, id: MemberId, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.ask_at = peer.ask_at.min(now + ASK_INTERVAL);
            return;
        }
        self.make_room(now);
        self.peers.insert(id, Peer::new(now));
    }

    /// The key, which is known from now on.
    pub fn meet(&mut self, id: MemberId, now: Instant) -> &mut Peer {
        if !self.peers.contains_key(&id) {
            self.find(id, now);
        }
        self.peers.get_mut(&id).expect("it was found")
    }

    /// The key, if it is known.
    pub fn get(&self, id: &MemberId) -> Option<&Peer> {
        self.peers.get(id)
    }

    /// Every key.
    pub fn iter(&self) -> impl Iterator<Item = (&MemberId, &Peer)> {
        self.peers.iter()
    }

    /// The keys that count, in order.
    pub fn counted(&self, now: Instant) -> impl Iterator<Item = MemberId> {
        self.peers.iter().filter(move |(_, peer)| peer.counts(now)).map(|(id, _)| *id)
    }

    /// A key that counts says something.
    pub fn lives(&mut self, id: &MemberId, now: Instant) {
        if let Some(peer) = self.peers.get_mut(id).filter(|peer| peer.counts(now)) {
            peer.heard = Some(now);
        }
    }

    /// An ask is over, for that reason without an answer.
    pub fn answered(&mut self, id: &MemberId, unanswered: Option<String>) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.asked = None;
            peer.met = true;
            peer.silence = unanswered;
        }
    }

    /// Whom to tell its word now; they count as asked.
    pub fn due(&mut self, now: Instant, words: &BTreeMap<MemberId, Word>) -> Vec<MemberId> {
        let mut due = Vec::new();
        for (id, peer) in &mut self.peers {
            if peer.asked.is_some_and(|asked| now.since(asked) >= ASK_OVER) {
                peer.asked = None;
                peer.met = true;
            }
            let word = words[id];
            if peer.asked.is_some() || (now < peer.ask_at && peer.said == Some(word)) {
                continue;
            }
            peer.asked = Some(now);
            peer.ask_at = now + peer.pace(now);
            peer.said = Some(word);
            due.push(*id);
        }
        due
    }

    /// When somebody is asked next, or falls silent.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let moments = self.peers.values().flat_map(|peer| {
            let ask = peer.asked.map_or(peer.ask_at, |asked| asked + ASK_OVER);
            let silence = peer.heard.map(|heard| heard + CANDIDATE_SILENCE).filter(|silence| *silence > now);
            [Some(ask), silence].into_iter().flatten()
        });
        moments.min()
    }

    /// Beyond the bound one that does not count is forgotten, if there is any, rather one that tells of no group, and of these
    /// the one that is silent longest; who promised something is found again by its own word.
    fn make_room(&mut self, now: Instant) {
        if self.peers.len() < limits::CANDIDATES_MAX {
            return;
        }
        let worth = |peer: &Peer| (peer.counts(now), peer.claims.is_some(), peer.heard);
        let silent = self.peers.iter().min_by_key(|(_, peer)| worth(peer)).map(|(id, _)| *id);
        silent.and_then(|id| self.peers.remove(&id)).expect("the bound is above zero");
    }
}
