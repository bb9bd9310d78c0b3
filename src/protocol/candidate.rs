//! A candidate for a group that is not founded yet (rule G1): a sans-IO machine of its own, beside the replica.
//! [`Candidate::step`] takes inputs any number of times, then one [`Candidate::ready`] hands out what is to be done. It ends
//! with a verdict: the genesis, with which an ordinary member starts, or that there is a group of this name already.
//!
//! A candidate says only what its disk holds: it changes its mind in one place ([`Candidate::write`]), one record at a time,
//! and what it hears meanwhile waits until that record is durable.
//!
//! | file | duty |
//! |---|---|
//! | `known` | the other candidates: who is heard, who differs, what is said to whom next |
//! | `hearing` | what is answered |
//! | `proposing` | what it does by itself: propose, give up, make |
//! | `waiting` | what people are told meanwhile |
//! | `founded` | what members of a founded group answer |

mod founded;
mod hearing;
mod known;
mod proposing;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub use founded::{FoundedAnswer, FoundedGroup};
use hearing::Hearing;
use known::{Known, Word};
pub use waiting::{Claim, Waiting, WaitingCandidate, WaitingPhase};

use crate::types::{
    Candidacy, CandidacyFrame, CandidacyMessage, ClusterId, Commitment, CommitmentRecord, CommonSettings, Contact,
    Genesis, Instant, MemberId, Promise, Rule, Sabotage, StartNonce, limits,
};

/// A candidate that was not heard for so long is not counted.
pub const CANDIDATE_SILENCE: Duration = Duration::from_secs(5);
/// Each candidate that is heard is asked this often.
const ASK_INTERVAL: Duration = Duration::from_millis(500);

const _: () = assert!(CANDIDATE_SILENCE.as_millis() > 2 * limits::CANDIDACY_TIMEOUT.as_millis());
const _: () = assert!(ASK_INTERVAL.as_millis() * 4 <= CANDIDATE_SILENCE.as_millis());

/// What a candidate is started with.
#[derive(Clone, Debug)]
pub struct CandidateSettings {
    /// Its key.
    pub me: MemberId,
    /// Its name for people; the genesis has it, with a part of the key behind it if another candidate has the same.
    pub name: String,
    /// Where its mesh listens, for the genesis: at least one that no other candidate has.
    pub addresses: Vec<String>,
    /// Whether a text is an address at which a mesh can be dialled, as such an address is written: what a genesis says of its
    /// members has to be read again.
    pub is_address: fn(&str) -> bool,
    /// The name of the group that is to be.
    pub cluster: String,
    /// How many found it: all that are started with it.
    pub expect: usize,
    /// The cluster-wide settings.
    pub common: CommonSettings,
    /// Drawn at this start.
    pub nonce: StartNonce,
    /// Drawn at this start; each genesis that is proposed takes its own nonce from it.
    pub seed: [u8; 32],
    /// Rules switched off.
    pub sabotage: Sabotage,
}

impl CandidateSettings {
    /// What is wrong with them; empty if they can be used.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = self.common.mistakes(self.expect);
        if self.addresses.is_empty() {
            mistakes.push("no address: the other members could not reach this one".to_owned());
        }
        mistakes.extend(wrong_addresses(&self.addresses, self.is_address));
        mistakes
    }
}

/// What is wrong with the addresses that somebody says to have.
fn wrong_addresses(addresses: &[String], is_address: fn(&str) -> bool) -> Option<String> {
    if addresses.is_empty() {
        return Some("without an address nobody reaches it".to_owned());
    }
    let wrong = addresses.iter().find(|address| !is_address(address))?;
    Some(format!("`{wrong}` is no address of a mesh; set mesh.announce to addresses at which the others reach it"))
}

/// Why a candidate cannot go on from the record it finds. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCandidate {
    /// It is bound to another group.
    #[error(
        "this data directory belongs to a candidate for the group named `{was}`, and it is started for `{is}`: start it for \
         the first, or with a new data directory"
    )]
    OtherCluster {
        /// Its record's.
        was: String,
        /// Its settings'.
        is: String,
    },
    /// The record is another candidate's.
    #[error(
        "the record in this data directory is another candidate's, this one's key is {0}: a data directory is never put \
         together from parts; start with a new one"
    )]
    NotMine(MemberId),
}

/// What happens to a candidate.
#[derive(Clone, Debug)]
pub enum CandidateInput {
    /// A key that can be asked was found.
    Found(MemberId),
    /// It asks. Each ask gets one answer; a further one of the same key takes the place of one that waits for its answer.
    Asked {
        /// Who.
        from: MemberId,
        /// What.
        frame: CandidacyFrame,
    },
    /// It answers what it was asked.
    Answered {
        /// Who.
        from: MemberId,
        /// What.
        frame: CandidacyFrame,
    },
    /// What it was asked has no answer: nobody is there, or takes too long, or says what is no frame.
    Unanswered {
        /// Who.
        from: MemberId,
        /// Why, for people.
        reason: String,
    },
    /// It asked, and what it said is no frame of this version.
    Unread {
        /// Who.
        from: MemberId,
        /// Why, for people.
        reason: String,
    },
    /// Its mesh listens elsewhere from now on: as a start with other [`CandidateSettings::addresses`].
    Moved(Vec<String>),
    /// The record that was handed out last is durable.
    Durable,
    /// Time has passed.
    Tick,
}

/// What is to be done. Asks and answers say nothing that is not durable yet; they may leave at once.
#[derive(Clone, Debug, Default)]
pub struct CandidateReady {
    /// To take the place of the record before it, durably; then comes [`CandidateInput::Durable`]. None is handed out before.
    pub record: Option<CommitmentRecord>,
    /// To be asked: at most one for a key until that is [`CandidateInput::Answered`] or [`CandidateInput::Unanswered`].
    pub asks: Vec<(MemberId, CandidacyFrame)>,
    /// Answers to who asked.
    pub answers: Vec<(MemberId, CandidacyFrame)>,
    /// How the candidacy ends; once. What is asked and answered beside it still leaves.
    pub verdict: Option<CandidateVerdict>,
}

/// How a candidacy ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CandidateVerdict {
    /// All have promised: this is the genesis of this member's group. It is durable in the record.
    Founded(Genesis),
    /// There is a group of this name already.
    Exists {
        /// Its id.
        cluster: ClusterId,
        /// Who says so.
        told_by: MemberId,
    },
}

/// Why a candidate that could propose waits for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Yield {
    /// Until then.
    until: Instant,
    /// Who is to propose.
    lower: MemberId,
    /// Who knows that one.
    told_by: MemberId,
}

/// Something that was heard.
struct Heard {
    at: Instant,
    from: MemberId,
    frame: CandidacyFrame,
    /// It waits for an answer.
    asked: bool,
}

/// One candidate.
pub struct Candidate {
    settings: CandidateSettings,
    now: Instant,
    /// By the disk.
    commitment: Commitment,
    /// Who proposed the genesis of it, and that group's id.
    bound: Option<Promise>,
    /// Handed out and not durable yet.
    writing: Option<Commitment>,
    known: Known,
    /// Who promised the own proposal, by its own word.
    promised: BTreeSet<MemberId>,
    /// Since when that proposal is waited for, in this process.
    since: Instant,
    /// No genesis is made before: what an earlier process was told is forgotten, and sources get some time to find whom to ask.
    not_before: Instant,
    /// Somebody lower is to propose, by the word of a member of the own proposal that knows it.
    yields: Option<Yield>,
    /// Geneses drawn in this process.
    drawn: u64,
    /// What was heard and is not settled: no more than one ask and one answer of a key, and nothing that is older than a
    /// question may be.
    heard: VecDeque<Heard>,
    verdict: Option<CandidateVerdict>,
    out: CandidateReady,
}

impl Candidate {
    /// A candidate that starts, with what an earlier process of it left.
    pub fn new(
        settings: CandidateSettings,
        restored: Option<CommitmentRecord>,
        now: Instant,
    ) -> Result<Candidate, BadCandidate> {
        let not_before = if restored.is_some() { now + CANDIDATE_SILENCE } else { now };
        let commitment = match restored {
            None => Commitment::Free,
            Some(record) if record.cluster != settings.cluster && record.commitment != Commitment::Free => {
                return Err(BadCandidate::OtherCluster { was: record.cluster, is: settings.cluster });
            }
            Some(record) => record.commitment,
        };
        let mut known = Known::default();
        if let Some(genesis) = commitment.genesis() {
            let names_me = genesis.members.iter().any(|member| member.id == settings.me);
            let proposer = genesis.members.first().map(|member| member.id);
            let mine = matches!(commitment, Commitment::Proposed(_)) == (proposer == Some(settings.me));
            if !names_me || !(mine || matches!(commitment, Commitment::Made(_))) {
                return Err(BadCandidate::NotMine(settings.me));
            }
            let others = genesis.members.iter().filter(|member| member.id != settings.me);
            others.for_each(|member| known.find(member.id, now));
        }
        let mut candidate = Candidate {
            settings,
            now,
            bound: commitment.promise(),
            commitment,
            writing: None,
            known,
            promised: BTreeSet::new(),
            since: now,
            not_before,
            yields: None,
            drawn: 0,
            heard: VecDeque::new(),
            verdict: None,
            out: CandidateReady::default(),
        };
        candidate.go_on();
        Ok(candidate)
    }

    /// Takes what happened.
    pub fn step(&mut self, input: CandidateInput, now: Instant) {
        self.now = self.now.max(now);
        // The disk took long. It is said again by whoever still means it.
        self.heard.retain(|heard| self.now.since(heard.at) < limits::CANDIDACY_TIMEOUT);
        match input {
            CandidateInput::Found(id) if id != self.settings.me => self.known.find(id, self.now),
            CandidateInput::Found(_) | CandidateInput::Tick => {}
            CandidateInput::Asked { from, frame } => self.queue(from, frame, true),
            CandidateInput::Answered { from, frame } => {
                self.known.answered(&from, None);
                self.queue(from, frame, false);
            }
            CandidateInput::Unanswered { from, reason } => self.known.answered(&from, Some(reason)),
            CandidateInput::Unread { from, .. } if from == self.settings.me => {}
            CandidateInput::Unread { from, reason } => self.known.meet(from, self.now).silence = Some(reason),
            CandidateInput::Moved(addresses) => self.settings.addresses = addresses,
            CandidateInput::Durable => {
                if let Some(commitment) = self.writing.take() {
                    self.commit(commitment);
                }
            }
        }
        self.go_on();
    }

    /// What is to be done now.
    pub fn ready(&mut self) -> CandidateReady {
        let words: BTreeMap<MemberId, Word> = self.known.iter().map(|(id, peer)| (*id, self.word(id, peer))).collect();
        let due = self.known.due(self.now, &words);
        let asks: Vec<_> = due.into_iter().map(|id| (id, self.frame(self.ask(words[&id])))).collect();
        self.out.asks.extend(asks);
        std::mem::take(&mut self.out)
    }

    /// When time alone makes a difference; before that nothing is due unless something happens.
    pub fn next_timeout(&self) -> Instant {
        let yields = self.yields.map(|yields| yields.until);
        let patience = [self.since + CANDIDATE_SILENCE, self.not_before].into_iter().chain(yields);
        let later = patience.filter(|moment| *moment > self.now);
        later.chain(self.known.next_timeout(self.now)).min().unwrap_or(self.now + CANDIDATE_SILENCE)
    }

    /// Where those are found that it is bound to: a genesis that it promised names them.
    pub fn contacts(&self) -> Vec<Contact> {
        let members = self.commitment.genesis().into_iter().flat_map(|genesis| &genesis.members);
        let others = members.filter(|member| member.id != self.settings.me);
        let contact = |id, name: &String, addresses: &Vec<String>| Contact {
            id,
            name: name.clone(),
            addresses: addresses.clone(),
        };
        others.map(|member| contact(member.id, &member.name, &member.addresses)).collect()
    }

    /// What is heard while the disk works waits for it. Whoever says it lives.
    fn queue(&mut self, from: MemberId, frame: CandidacyFrame, asked: bool) {
        if self.writing.is_some() {
            self.known.lives(&from, self.now);
        }
        self.heard.retain(|before| (before.from, before.asked) != (from, asked));
        self.heard.push_back(Heard { at: self.now, from, frame, asked });
    }

    /// Settles what was heard, one thing after the other, and does what is due; stops while a record is being written.
    fn go_on(&mut self) {
        while self.writing.is_none() {
            let Some(heard) = self.heard.pop_front() else {
                let Some(next) = self.initiative() else { break };
                self.write(next);
                continue;
            };
            match self.hear(heard.from, &heard.frame) {
                Hearing::Write(commitment) => {
                    self.heard.push_front(heard);
                    self.write(commitment);
                }
                Hearing::Answer(message) if heard.asked => {
                    let answer = self.frame(message);
                    self.out.answers.push((heard.from, answer));
                }
                Hearing::Answer(_) => {}
            }
        }
    }

    /// Binds itself to something else, as soon as the disk has it.
    fn write(&mut self, commitment: Commitment) {
        let sabotage = &self.settings.sabotage;
        let early = match &commitment {
            Commitment::Promised(_) => !sabotage.upholds(Rule::G1Durable),
            Commitment::Made(_) => !sabotage.upholds(Rule::G1Recorded),
            Commitment::Free | Commitment::Proposed(_) => false,
        };
        self.out.record = Some(CommitmentRecord {
            version: limits::PROTOCOL_VERSION,
            cluster: self.settings.cluster.clone(),
            commitment: commitment.clone(),
        });
        match early {
            true => self.commit(commitment),
            false => self.writing = Some(commitment),
        }
    }

    /// The disk has it.
    fn commit(&mut self, commitment: Commitment) {
        self.promised.clear();
        self.since = self.now;
        self.bound = commitment.promise();
        self.commitment = commitment;
    }

    /// The promise that others are shown: an own proposal is one, a genesis that is made is none any more.
    fn promise(&self) -> Option<Promise> {
        self.bound.filter(|_| !matches!(self.commitment, Commitment::Made(_)))
    }

    /// Whether the genesis it is bound to names that key.
    fn names(&self, id: &MemberId) -> bool {
        self.commitment.genesis().is_some_and(|genesis| genesis.members.iter().any(|member| member.id == *id))
    }

    fn end(&mut self, verdict: CandidateVerdict) {
        if self.verdict.is_none() {
            self.out.verdict = Some(verdict.clone());
            self.verdict = Some(verdict);
        }
    }

    fn frame(&self, message: CandidacyMessage) -> CandidacyFrame {
        let founded = matches!(message, CandidacyMessage::Made(_) | CandidacyMessage::Founded(_));
        let expect = if founded { 0 } else { self.settings.expect as u32 };
        CandidacyFrame::new(&self.settings.cluster, expect, message)
    }

    /// Who this is and where it stands, by the disk.
    fn here(&self) -> CandidacyMessage {
        CandidacyMessage::Here(Candidacy {
            settings: self.settings.common,
            name: self.settings.name.clone(),
            addresses: self.settings.addresses.clone(),
            nonce: self.settings.nonce,
            promise: self.promise(),
            knows: self.counted().len() as u32,
        })
    }

    /// Everybody that counts, itself included, from the lowest key to the highest.
    fn counted(&self) -> BTreeSet<MemberId> {
        self.known.counted(self.now).chain([self.settings.me]).collect()
    }

    /// For whom it waits although it could propose.
    fn yields(&self) -> Option<Yield> {
        self.yields.filter(|yields| self.now < yields.until)
    }

    /// So many that two groups could be made of them.
    fn is_crowded(&self) -> bool {
        self.counted().len() >= 2 * self.settings.expect
    }
}
