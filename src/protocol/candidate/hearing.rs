//! What a candidate answers to what it hears. Everything is decided by what its disk holds; where that has to change first,
//! the same words are heard again afterwards.

use super::known::{Peer, Word};
use super::proposing::are_among;
use super::{CANDIDATE_SILENCE, Candidate, CandidateVerdict, FoundedGroup, Yield, wrong_addresses};
use crate::types::{
    Candidacy, CandidacyFrame, CandidacyMessage, CandidacyRefusal, ClusterId, Commitment, CommonSettings, Genesis,
    MemberId, Promise, Rule,
};

/// What comes of something that was heard.
pub(super) enum Hearing {
    /// That is the answer, if it was an ask.
    Answer(CandidacyMessage),
    /// The disk has to hold this first.
    Write(Commitment),
}

fn refuse(refusal: CandidacyRefusal) -> Hearing {
    Hearing::Answer(CandidacyMessage::Refused(refusal))
}

impl Candidate {
    pub(super) fn hear(&mut self, from: MemberId, frame: &CandidacyFrame) -> Hearing {
        if from == self.settings.me {
            return refuse(CandidacyRefusal::TwoProcesses);
        }
        if let Commitment::Made(genesis) = &self.commitment {
            let group = FoundedGroup { me: self.settings.me, genesis: genesis.clone() };
            return Hearing::Answer(group.answer(from, frame).frame.message);
        }
        if let Some(CandidateVerdict::Exists { cluster, .. }) = &self.verdict {
            return refuse(CandidacyRefusal::Exists(*cluster));
        }
        if frame.cluster != self.settings.cluster {
            let (theirs, ours) = (frame.cluster.clone(), self.settings.cluster.clone());
            return self.differs(from, CandidacyRefusal::OtherName { theirs, ours });
        }
        match &frame.message {
            CandidacyMessage::Here(candidacy) => self.hear_candidacy(from, frame.expect, candidacy),
            CandidacyMessage::Propose(genesis) => self.hear_proposal(from, frame.expect, genesis),
            CandidacyMessage::Promised(cluster) => {
                let promise = Promise { proposer: self.settings.me, cluster: *cluster };
                self.hear_promise(from, Some(promise));
                let now = self.now;
                self.known.meet(from, now).promises(promise, now);
                Hearing::Answer(self.here())
            }
            CandidacyMessage::Refused(refusal) => self.hear_refusal(from, refusal),
            CandidacyMessage::Made(genesis) => self.hear_founded(from, genesis.cluster()),
            CandidacyMessage::Founded(cluster) => self.hear_founded(from, *cluster),
            CandidacyMessage::Released(cluster) => self.hear_release(from, *cluster),
        }
    }

    /// What a key is told next.
    pub(super) fn word(&self, id: &MemberId, peer: &Peer) -> Word {
        if let Some(cluster) = peer.holds {
            return Word::Released(cluster);
        }
        match (&self.commitment, self.bound) {
            (Commitment::Made(_), Some(bound)) if self.names(id) => Word::Made(bound.cluster),
            (Commitment::Proposed(_), Some(bound)) if self.names(id) && !self.promised.contains(id) => {
                Word::Propose(bound.cluster)
            }
            (Commitment::Promised(_), Some(bound)) if bound.proposer == *id => Word::Here(Some(bound.cluster)),
            _ => Word::Here(None),
        }
    }

    pub(super) fn ask(&self, word: Word) -> CandidacyMessage {
        let genesis = || self.commitment.genesis().expect("such a word is of a genesis").clone();
        match word {
            Word::Here(_) => self.here(),
            Word::Propose(_) => CandidacyMessage::Propose(genesis()),
            Word::Released(cluster) => CandidacyMessage::Released(cluster),
            Word::Made(_) => CandidacyMessage::Made(genesis()),
        }
    }

    /// The key is not one of those started for this group, and hears why.
    fn differs(&mut self, from: MemberId, refusal: CandidacyRefusal) -> Hearing {
        self.known.meet(from, self.now).refused = Some(refusal.clone());
        refuse(refusal)
    }

    fn hear_candidacy(&mut self, from: MemberId, expect: u32, candidacy: &Candidacy) -> Hearing {
        self.hear_promise(from, candidacy.promise);
        let (ours, now) = (self.settings.common, self.now);
        let peer = self.known.meet(from, now);
        let doubled = peer.says(candidacy, now);
        // G1: who waits for a release gets it, whatever else it says.
        let released = peer.holds.map(|cluster| Hearing::Answer(CandidacyMessage::Released(cluster)));
        let theirs = candidacy.settings;
        let differs = if let Some(refusal) = self.other_expect(expect) {
            refusal
        } else if theirs != ours {
            CandidacyRefusal::OtherSettings { theirs, ours }
        } else if let Some(mistake) = wrong_addresses(&candidacy.addresses, self.settings.is_address) {
            CandidacyRefusal::Unusable(mistake)
        } else if doubled {
            CandidacyRefusal::TwoProcesses
        } else {
            self.known.meet(from, now).fits(now);
            return released.unwrap_or_else(|| Hearing::Answer(self.here()));
        };
        let refused = self.differs(from, differs);
        released.unwrap_or(refused)
    }

    fn other_expect(&self, theirs: u32) -> Option<CandidacyRefusal> {
        let ours = self.settings.expect as u32;
        (theirs != ours).then_some(CandidacyRefusal::OtherExpect { theirs, ours })
    }

    /// A promise to us counts if it is of the present proposal; else it is to be released.
    fn hear_promise(&mut self, from: MemberId, promise: Option<Promise>) {
        let promise = promise.filter(|promise| promise.proposer == self.settings.me);
        let proposes = matches!(self.commitment, Commitment::Proposed(_));
        let counts = proposes && promise.is_some() && promise == self.bound;
        if counts {
            self.promised.insert(from);
        }
        let holds = promise.filter(|_| !counts).map(|promise| promise.cluster);
        self.known.meet(from, self.now).holds = holds;
    }

    fn hear_proposal(&mut self, from: MemberId, expect: u32, genesis: &Genesis) -> Hearing {
        if let Commitment::Promised(promised) = &self.commitment
            && promised == genesis
        {
            return Hearing::Answer(CandidacyMessage::Promised(genesis.cluster()));
        }
        if let Some(refusal) = self.other_expect(expect).or_else(|| self.objection(from, genesis)) {
            return refuse(refusal);
        }
        // Who has not said yet who it is hears who we are, and is asked.
        let now = self.now;
        if !self.known.meet(from, now).counts(now) {
            return Hearing::Answer(self.here());
        }
        match &self.commitment {
            Commitment::Free => Hearing::Write(Commitment::Promised(genesis.clone())),
            // G1: a lower candidate proposes, so the own proposal is given up.
            Commitment::Proposed(_) => Hearing::Write(Commitment::Free),
            Commitment::Promised(_) if !self.settings.sabotage.upholds(Rule::G1Single) => {
                Hearing::Write(Commitment::Promised(genesis.clone()))
            }
            // G1: one promise at a time.
            Commitment::Promised(_) | Commitment::Made(_) => Hearing::Answer(self.here()),
        }
    }

    /// Why a proposal gets no promise, but for a promise that stands.
    fn objection(&self, from: MemberId, genesis: &Genesis) -> Option<CandidacyRefusal> {
        let (theirs, ours) = (CommonSettings::of(genesis), self.settings.common);
        if theirs != ours {
            return Some(CandidacyRefusal::OtherSettings { theirs, ours });
        }
        if matches!(self.known.get(&from), Some(Peer { refused: Some(CandidacyRefusal::TwoProcesses), .. })) {
            return Some(CandidacyRefusal::TwoProcesses);
        }
        if self.is_crowded() {
            let (known, expect) = (self.counted().len() as u32, self.settings.expect as u32);
            return Some(CandidacyRefusal::Crowded { known, expect });
        }
        if let Some(lower) = self.known.counted(self.now).find(|id| *id < from) {
            return Some(CandidacyRefusal::Lower(lower));
        }
        self.flaw(from, genesis).map(CandidacyRefusal::Unusable)
    }

    /// What is wrong with a genesis that is proposed.
    fn flaw(&self, from: MemberId, genesis: &Genesis) -> Option<String> {
        let members = &genesis.members;
        let me = members.iter().find(|member| member.id == self.settings.me);
        if genesis.name != self.settings.cluster || members.len() != self.settings.expect {
            return Some("the genesis is of another name, or of another number of members".to_owned());
        }
        if members[0].id != from || !members.is_sorted_by(|one, next| one.id < next.id) {
            return Some("the members of the genesis are not sorted by key, its proposer first".to_owned());
        }
        if me.is_none_or(|me| !are_among(&me.addresses, &self.settings.addresses)) {
            return Some("the genesis does not have this candidate as it is now".to_owned());
        }
        let wrong = members.iter().find_map(|member| wrong_addresses(&member.addresses, self.settings.is_address));
        wrong.or_else(|| genesis.check().err().map(|bad| bad.to_string()))
    }

    fn hear_refusal(&mut self, from: MemberId, refusal: &CandidacyRefusal) -> Hearing {
        match refusal {
            // By hearsay: enough to stop, and no proof that what is promised here is made.
            CandidacyRefusal::Exists(cluster) if self.promise().is_none_or(|promise| promise.cluster != *cluster) => {
                return self.hear_founded(from, *cluster);
            }
            // G1: by the word of a member of its set. Nobody else was asked for a promise.
            CandidacyRefusal::Lower(lower) if *lower < self.settings.me && self.proposes_to(&from) => {
                self.yields = Some(Yield { until: self.now + CANDIDATE_SILENCE, lower: *lower, told_by: from });
            }
            _ => {}
        }
        let now = self.now;
        self.known.meet(from, now).refuses(refusal, now);
        Hearing::Answer(self.here())
    }

    /// Whether the own proposal has that key, and it counts.
    fn proposes_to(&self, id: &MemberId) -> bool {
        let counts = self.known.get(id).is_some_and(|peer| peer.counts(self.now));
        counts && self.names(id) && matches!(self.commitment, Commitment::Proposed(_))
    }

    /// G1: only the proposer releases.
    fn hear_release(&mut self, from: MemberId, cluster: ClusterId) -> Hearing {
        let promised = matches!(self.commitment, Commitment::Promised(_));
        if promised && self.bound == Some(Promise { proposer: from, cluster }) {
            // It answers that once, and not who it is: nothing is proposed without it before it has said so.
            let now = self.now;
            let proposer = self.known.meet(from, now);
            proposer.met &= proposer.counts(now);
            return Hearing::Write(Commitment::Free);
        }
        Hearing::Answer(self.here())
    }

    /// A group of this name is founded. One that its genesis names says so of what is promised here: then all have promised.
    /// From anybody else's word nothing is made. Another group ends this candidacy, unless it is bound to a genesis that does
    /// not name who says so: others may rely on what it is bound to, so it stays, and people are told.
    fn hear_founded(&mut self, from: MemberId, cluster: ClusterId) -> Hearing {
        let other = self.promise().is_none_or(|promise| promise.cluster != cluster);
        if other && (self.promise().is_none() || self.names(&from)) {
            self.end(CandidateVerdict::Exists { cluster, told_by: from });
            return refuse(CandidacyRefusal::Exists(cluster));
        }
        if other {
            self.known.meet(from, self.now).claims = Some(cluster);
        }
        match &self.commitment {
            Commitment::Proposed(genesis) | Commitment::Promised(genesis) if !other && self.names(&from) => {
                Hearing::Write(Commitment::Made(genesis.clone()))
            }
            _ => Hearing::Answer(self.here()),
        }
    }
}
