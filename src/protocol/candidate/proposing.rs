//! What a candidate does by itself: it proposes when it is the lowest of all it knows, gives up, and makes the genesis.

use std::collections::BTreeSet;

use super::{CANDIDATE_SILENCE, Candidate, CandidateVerdict};
use crate::types::{Candidacy, Commitment, CommonSettings, Digest, Genesis, GenesisMember, MemberId, Rule, limits};

/// Why a candidate that is bound to nothing proposes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hindrance {
    /// So many that two groups could be made of them.
    Crowded,
    /// So many are missing.
    Few(usize),
    /// That one is to propose.
    NotLowest(MemberId),
    /// That one was found and has not said yet who it is: it may know of a group.
    Unmet(MemberId),
    /// The second knows the first, which is lower.
    Yields(MemberId, MemberId),
    /// The first has promised the second, which is lower.
    Bound(MemberId, MemberId),
    /// What they say of themselves makes no genesis.
    Unusable(String),
}

impl Candidate {
    /// What it is to be bound to next, if anything changes.
    pub(super) fn initiative(&mut self) -> Option<Commitment> {
        if self.verdict.is_some() {
            return None;
        }
        match &self.commitment {
            Commitment::Free => self.proposal().ok().map(Commitment::Proposed),
            Commitment::Proposed(_) if self.is_crowded() => Some(Commitment::Free),
            Commitment::Proposed(genesis) if self.is_complete(genesis) && self.is_undisputed() => {
                Some(Commitment::Made(genesis.clone()))
            }
            Commitment::Proposed(genesis) => self.gives_up(genesis).then_some(Commitment::Free),
            Commitment::Promised(genesis) => self.forsakes(genesis).then_some(Commitment::Free),
            Commitment::Made(genesis) => {
                let genesis = genesis.clone();
                self.end(CandidateVerdict::Founded(genesis));
                None
            }
        }
    }

    /// G1: all promises make it, the proposer's own included.
    fn is_complete(&self, genesis: &Genesis) -> bool {
        let promised = 1 + genesis.members.iter().filter(|member| self.promised.contains(&member.id)).count();
        let needed = if self.settings.sabotage.upholds(Rule::G1All) {
            genesis.members.len()
        } else {
            genesis.members.len() / 2 + 1
        };
        promised >= needed
    }

    /// G1: nobody said that there is a group of this name, and nothing else since, and nobody else may be about to: none is
    /// made beside it.
    fn is_undisputed(&self) -> bool {
        let asked = self.now >= self.not_before && self.unmet().is_none();
        asked && self.known.iter().all(|(_, peer)| peer.claims.is_none())
    }

    /// One that was found and has not said yet who it is: it may know of a group.
    pub(super) fn unmet(&self) -> Option<MemberId> {
        self.known.iter().find(|(_, peer)| !peer.met && !peer.counts(self.now)).map(|(id, _)| *id)
    }

    /// Whether the own proposal, which not all have promised, is to be dropped.
    fn gives_up(&self, genesis: &Genesis) -> bool {
        let mine = &genesis.members[0];
        let other = genesis.members.len() != self.settings.expect
            || CommonSettings::of(genesis) != self.settings.common
            || !are_among(&mine.addresses, &self.settings.addresses);
        let lower = self.known.counted(self.now).any(|id| id < self.settings.me) || self.yields().is_some();
        other || lower || genesis.members[1..].iter().any(|member| self.is_lost(member))
    }

    /// A member of the own proposal that was too long silent, differs, listens elsewhere by now, or has promised somebody
    /// lower.
    fn is_lost(&self, member: &GenesisMember) -> bool {
        let patient = self.now.since(self.since) < CANDIDATE_SILENCE;
        let Some(peer) = self.known.get(&member.id) else { return !patient };
        let moved = |said: &Candidacy| !are_among(&member.addresses, &said.addresses);
        let moved = peer.candidacy.as_ref().is_some_and(moved);
        let bound = !self.promised.contains(&member.id) && self.bound_to_lower(&member.id).is_some();
        peer.differs() || moved || bound || !(peer.counts(self.now) || patient)
    }

    /// The lower candidate that has this one's promise.
    fn bound_to_lower(&self, id: &MemberId) -> Option<MemberId> {
        let promise = self.known.get(id)?.candidacy.as_ref()?.promise?;
        (promise.proposer < self.settings.me).then_some(promise.proposer)
    }

    /// A promise is never given up by the one who gave it.
    fn forsakes(&self, genesis: &Genesis) -> bool {
        let proposer = self.known.get(&genesis.members[0].id);
        let silent = proposer.is_none_or(|peer| !peer.counts(self.now));
        !self.settings.sabotage.upholds(Rule::G1Release) && silent && self.now.since(self.since) > CANDIDATE_SILENCE
    }

    /// The genesis that it proposes now.
    pub(super) fn proposal(&mut self) -> Result<Genesis, Hindrance> {
        let set = self.founders()?;
        let mut genesis = self.genesis(&set);
        self.mistake(&genesis).map_or(Ok(()), |mistake| Err(Hindrance::Unusable(mistake)))?;
        self.drawn += 1;
        genesis.nonce = self.draw();
        Ok(genesis)
    }

    /// What keeps it from proposing.
    pub(super) fn hindrance(&self) -> Option<Hindrance> {
        match self.founders() {
            Err(hindrance) => Some(hindrance),
            Ok(set) => self.mistake(&self.genesis(&set)).map(Hindrance::Unusable),
        }
    }

    /// What keeps the lowest N of those it knows from being the members of a genesis, whoever is to propose it.
    pub(super) fn mistake_of_lowest(&self) -> Option<String> {
        let counted = self.counted();
        if counted.len() < self.settings.expect {
            return None;
        }
        self.mistake(&self.genesis(&counted.into_iter().take(self.settings.expect).collect()))
    }

    fn mistake(&self, genesis: &Genesis) -> Option<String> {
        let without = genesis.members.iter().find(|member| member.addresses.is_empty());
        let Some(without) = without.map(|member| member.id) else {
            return genesis.check().err().map(|bad| bad.to_string());
        };
        let (_, addresses) = self.said_by(&without);
        let mut others = genesis.members.iter().filter(|member| member.id != without);
        let other = others.find(|member| self.said_by(&member.id).1.iter().any(|one| addresses.contains(one)));
        let other = other.map(|member| self.person(member.id).to_string()).unwrap_or_default();
        let without = self.person(without);
        Some(format!(
            "{without} has no address of its own: {other} announces the same ({}); set mesh.announce on both to the addresses \
             at which the others reach them",
            addresses.join(", ")
        ))
    }

    /// G1: the lowest N of those it knows, if it is the lowest of all.
    fn founders(&self) -> Result<BTreeSet<MemberId>, Hindrance> {
        let counted = self.counted();
        if self.is_crowded() {
            return Err(Hindrance::Crowded);
        }
        let lowest = *counted.first().expect("it counts itself");
        if lowest != self.settings.me {
            return Err(Hindrance::NotLowest(lowest));
        }
        if counted.len() < self.settings.expect {
            return Err(Hindrance::Few(self.settings.expect - counted.len()));
        }
        if let Some(id) = self.unmet() {
            return Err(Hindrance::Unmet(id));
        }
        if let Some(yields) = self.yields() {
            return Err(Hindrance::Yields(yields.lower, yields.told_by));
        }
        let set: BTreeSet<MemberId> = counted.into_iter().take(self.settings.expect).collect();
        match set.iter().find_map(|id| Some((*id, self.bound_to_lower(id)?))) {
            Some((id, lower)) => Err(Hindrance::Bound(id, lower)),
            None => Ok(set),
        }
    }

    /// The name and the addresses of one that counts, by its own word.
    fn said_by(&self, id: &MemberId) -> (&str, &[String]) {
        match self.known.get(id).and_then(|peer| peer.candidacy.as_ref()) {
            Some(candidacy) if *id != self.settings.me => (&candidacy.name, &candidacy.addresses),
            _ => (&self.settings.name, &self.settings.addresses),
        }
    }

    /// The genesis of these, in the order of their keys, with a nonce of nothing but zeros. An address that two of them have
    /// leads to neither for sure, as that of a bridge within each machine, and is left out.
    fn genesis(&self, set: &BTreeSet<MemberId>) -> Genesis {
        let mut members: Vec<GenesisMember> = Vec::with_capacity(set.len());
        let shared = |id: &MemberId, address: &String| {
            set.iter().any(|other| other != id && self.said_by(other).1.contains(address))
        };
        for id in set {
            let (name, addresses) = self.said_by(id);
            let name = unique_name(name, id, &members);
            let addresses = addresses.iter().filter(|address| !shared(id, address)).cloned().collect();
            members.push(GenesisMember { name, id: *id, addresses });
        }
        let CommonSettings { model, rules_version, limits, voters_target } = self.settings.common;
        let name = self.settings.cluster.clone();
        Genesis { name, nonce: [0; 16], model, rules_version, members, limits, voters_target }
    }

    /// 16 bytes that nobody has drawn before.
    fn draw(&self) -> [u8; 16] {
        let drawn = [&self.settings.seed[..], &self.drawn.to_be_bytes()].concat();
        let digest = Digest::of("candidate", &drawn).0;
        digest[..16].try_into().expect("a digest has 32 bytes")
    }
}

/// Whether a member of a genesis has addresses, and all of them are among those that it says to have, in whatever order.
pub(super) fn are_among(written: &[String], said: &[String]) -> bool {
    !written.is_empty() && written.iter().all(|address| said.contains(address))
}

/// A name that none of these has: a part of the key is put behind it, or the key in its place.
fn unique_name(name: &str, id: &MemberId, members: &[GenesisMember]) -> String {
    let is_free = |name: &String| members.iter().all(|member| member.name != *name);
    let short = id.short();
    let kept = name.len().min(limits::NAME_BYTES_MAX - short.len() - 1);
    let suffixed = format!("{}-{short}", &name[..kept]);
    [name.to_owned(), suffixed].into_iter().find(is_free).unwrap_or_else(|| id.to_string())
}
