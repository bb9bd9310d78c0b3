//! What people are told while a candidate waits: who is here, for whom it waits and what to do about it.

use std::fmt;

use serde::Serialize;

use super::Candidate;
use super::known::Peer;
use super::proposing::Hindrance;
use crate::types::{CandidacyRefusal, ClusterId, Commitment, Genesis, MemberId, limits};

/// Candidates that the text names. More than these make two groups of any size.
const NAMED_MAX: usize = 2 * limits::CANDIDATES_EXPECTED_MAX;
/// Keys that do not count, or that say there is a group, of which the text tells why.
const LEFT_OUT_NAMED_MAX: usize = 4;

/// A candidacy at one moment. Its text is one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// The name of the group that is to be.
    pub cluster: String,
    /// How many found it.
    pub expect: usize,
    /// Everybody that counts, this one included, in the order of the keys.
    pub candidates: Vec<WaitingCandidate>,
    /// What it waits for.
    #[serde(flatten)]
    pub phase: WaitingPhase,
    /// Keys that do not count, because they refuse us or we refuse them: why. Those of groups of another name are left out.
    pub refused: Vec<(WaitingCandidate, String)>,
    /// Keys that do not count, because nothing that can be read comes from them: why.
    pub silent: Vec<(WaitingCandidate, String)>,
    /// Keys that say there is a group of this name already, which a candidate that is bound does not take from them.
    pub claims: Vec<Claim>,
}

/// Somebody's word that there is a group of this name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// Who says so.
    pub told_by: MemberId,
    /// The id of that group.
    pub group: ClusterId,
}

/// A candidate, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaitingCandidate {
    /// Its key.
    pub id: MemberId,
    /// Its name, if it said one.
    pub name: String,
}

/// What a candidate waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum WaitingPhase {
    /// More candidates.
    Gathers {
        /// How many.
        more: usize,
    },
    /// Fewer candidates: these could make two groups.
    Crowded,
    /// A proposal of the candidate with the lowest key.
    Awaits {
        /// Who proposes.
        proposer: WaitingCandidate,
        /// How many candidates that one knows, as it says.
        knows: u32,
        /// It is bound to what this one proposes.
        bound: Option<WaitingCandidate>,
    },
    /// Something that passes by itself, or that the text says.
    Held {
        /// What.
        reason: String,
    },
    /// Promises of its own proposal.
    Proposes {
        /// Its id, if it is made.
        group: ClusterId,
        /// Who has not promised, and why not, as far as it said.
        missing: Vec<(WaitingCandidate, Option<String>)>,
        /// What holds it up, beside claims, once all have promised.
        held: Option<String>,
    },
    /// The word of the proposer to which it is bound.
    Promised {
        /// Its id, if it is made.
        group: ClusterId,
        /// Who proposed it, and alone can release it.
        proposer: WaitingCandidate,
        /// It is not heard.
        silent: bool,
        /// Seconds since its last word to this process, if there was one.
        heard_before: Option<u64>,
    },
    /// Nothing: the genesis is made.
    Made {
        /// Its id.
        group: ClusterId,
    },
    /// Nothing: there is a group of this name already.
    Exists {
        /// Its id.
        group: ClusterId,
        /// Who says so.
        told_by: MemberId,
    },
}

impl Candidate {
    /// What it waits for, for status and logs.
    pub fn waiting(&self) -> Waiting {
        let candidates = self.counted().into_iter().map(|id| self.person(id)).collect();
        let refused = self.known.iter().filter_map(|(id, peer)| Some((self.person(*id), dispute(peer)?)));
        let mute = |peer: &Peer| peer.silence.clone().filter(|_| !peer.counts(self.now) && dispute(peer).is_none());
        let silent = self.known.iter().filter_map(|(id, peer)| Some((self.person(*id), mute(peer)?)));
        let claim = |(id, peer): (&MemberId, &Peer)| Some(Claim { told_by: *id, group: peer.claims? });
        Waiting {
            cluster: self.settings.cluster.clone(),
            expect: self.settings.expect,
            candidates,
            phase: self.phase(),
            refused: refused.collect(),
            silent: silent.collect(),
            claims: self.known.iter().filter_map(claim).collect(),
        }
    }

    pub(super) fn person(&self, id: MemberId) -> WaitingCandidate {
        let said = self.known.get(&id).and_then(|peer| peer.candidacy.as_ref()).map(|candidacy| &candidacy.name);
        let members = self.commitment.genesis().into_iter().flat_map(|genesis| &genesis.members);
        let written = members.filter(|member| member.id == id).map(|member| &member.name).next();
        let mine = (id == self.settings.me).then_some(&self.settings.name);
        WaitingCandidate { id, name: mine.or(said).or(written).cloned().unwrap_or_default() }
    }

    fn phase(&self) -> WaitingPhase {
        if let Some(super::CandidateVerdict::Exists { cluster, told_by }) = &self.verdict {
            return WaitingPhase::Exists { group: *cluster, told_by: *told_by };
        }
        match &self.commitment {
            Commitment::Made(genesis) => WaitingPhase::Made { group: genesis.cluster() },
            Commitment::Proposed(genesis) => {
                WaitingPhase::Proposes { group: genesis.cluster(), missing: self.missing(genesis), held: self.held() }
            }
            Commitment::Promised(genesis) => {
                let proposer = genesis.members[0].id;
                let peer = self.known.get(&proposer);
                let silent = peer.is_none_or(|peer| !peer.counts(self.now));
                let heard = peer.and_then(|peer| peer.heard).map(|heard| self.now.since(heard).as_secs());
                let (group, proposer) = (genesis.cluster(), self.person(proposer));
                WaitingPhase::Promised { group, proposer, silent, heard_before: heard }
            }
            Commitment::Free => self.phase_of_free(),
        }
    }

    fn phase_of_free(&self) -> WaitingPhase {
        let held = |reason: String| WaitingPhase::Held { reason };
        let hindrance = self.hindrance();
        if let Some(Hindrance::NotLowest(_)) = hindrance
            && let Some(mistake) = self.mistake_of_lowest()
        {
            return held(mistake);
        }
        match hindrance {
            None => held("proposes in a moment".to_owned()),
            Some(Hindrance::Crowded) => WaitingPhase::Crowded,
            Some(Hindrance::Few(more)) => WaitingPhase::Gathers { more },
            Some(Hindrance::NotLowest(id)) => {
                let more = self.settings.expect.saturating_sub(self.counted().len());
                if more > 0 {
                    return WaitingPhase::Gathers { more };
                }
                let candidacy = self.known.get(&id).and_then(|peer| peer.candidacy.as_ref());
                let bound = candidacy.and_then(|it| it.promise).filter(|promise| promise.proposer != id);
                WaitingPhase::Awaits {
                    proposer: self.person(id),
                    knows: candidacy.map_or(0, |it| it.knows),
                    bound: bound.map(|promise| self.person(promise.proposer)),
                }
            }
            Some(Hindrance::Unmet(id)) => held(unmet(&id)),
            Some(Hindrance::Yields(lower, told_by)) => held(format!(
                "{} knows a candidate with a lower key, {}, which is to propose",
                self.person(told_by),
                self.person(lower)
            )),
            Some(Hindrance::Bound(id, lower)) => held(format!(
                "{} has promised what {} proposes; {}",
                self.person(id),
                self.person(lower),
                remedy(&self.person(lower).to_string())
            )),
            Some(Hindrance::Unusable(mistake)) => held(mistake),
        }
    }

    /// What holds a genesis up that all have promised, beside claims.
    fn held(&self) -> Option<String> {
        let again = || "this candidate was started again, and asks anew whether there is a group".to_owned();
        self.unmet().as_ref().map(unmet).or_else(|| (self.now < self.not_before).then(again))
    }

    fn missing(&self, genesis: &Genesis) -> Vec<(WaitingCandidate, Option<String>)> {
        let others = genesis.members.iter().filter(|member| member.id != self.settings.me);
        let open = others.filter(|member| !self.promised.contains(&member.id));
        let reason = |peer: &Peer| {
            let bound = || {
                let promise = peer.candidacy.as_ref()?.promise?;
                let to_other = promise.cluster != genesis.cluster();
                to_other.then(|| format!("it has promised what {} proposes", self.person(promise.proposer)))
            };
            peer.refuses.as_ref().map(CandidacyRefusal::to_string).or_else(bound)
        };
        open.map(|member| (self.person(member.id), self.known.get(&member.id).and_then(reason))).collect()
    }
}

/// Why a key does not count, but for those that want nothing of us: another name.
fn dispute(peer: &Peer) -> Option<String> {
    let refusal = peer.refused.as_ref().or(peer.refuses.as_ref().filter(|_| peer.differs()))?;
    (!matches!(refusal, CandidacyRefusal::OtherName { .. })).then(|| refusal.to_string())
}

/// Why one that was found is waited for.
fn unmet(id: &MemberId) -> String {
    format!("{} was found and has not answered yet", id.short())
}

/// What to do about a proposer that is gone.
fn remedy(proposer: &str) -> String {
    format!(
        "start {proposer} again with its data directory; if that is lost for good and no candidate has become a member, \
         empty the data directories of all candidates and start them again"
    )
}

impl fmt::Display for WaitingCandidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.as_str() {
            "" => f.write_str(&self.id.short()),
            name => write!(f, "{name} ({})", self.id.short()),
        }
    }
}

/// The first of them, and how many more there are.
fn listed<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let mut items = items.into_iter();
    let named: Vec<String> = items.by_ref().take(NAMED_MAX).map(|item| item.to_string()).collect();
    match items.count() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// Why keys do not count: a few of them, and how many more there are.
fn write_left_out(f: &mut fmt::Formatter<'_>, keys: &[(WaitingCandidate, String)], words: &str) -> fmt::Result {
    let (named, more) = keys.split_at(keys.len().min(LEFT_OUT_NAMED_MAX));
    named.iter().try_for_each(|(candidate, reason)| write!(f, "; {candidate} {words}: {reason}"))?;
    if more.is_empty() { Ok(()) } else { write!(f, "; and so for {} more", more.len()) }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (known, expect) = (self.candidates.len(), self.expect);
        write!(
            f,
            "{known} of {expect} candidates for group `{}` are here: {}; ",
            self.cluster,
            listed(&self.candidates)
        )?;
        write!(f, "{}", self.phase)?;
        for Claim { told_by, group } in self.claims.iter().take(LEFT_OUT_NAMED_MAX) {
            let (holds, again) = match self.phase {
                WaitingPhase::Proposes { .. } => (", and nothing is made beside it", "start this candidate again"),
                // Whether anything is made is for the proposer to say.
                _ => ("", "start the proposer again if it says so, too"),
            };
            write!(
                f,
                "; {} says that there is a group of this name already, {group}{holds}: if that is so, stop all candidates, and \
                 join that group by a code, each with an empty data directory; else stop that one, and {again}",
                told_by.short()
            )?;
        }
        write_left_out(f, &self.refused, "does not count")?;
        write_left_out(f, &self.silent, "does not answer")
    }
}

impl fmt::Display for WaitingPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitingPhase::Gathers { more } => write!(f, "waits for {more} more"),
            WaitingPhase::Crowded => f.write_str(
                "crowded: so many could make two groups, so none is made; stop some of them, or start all that are meant with \
                 one --bootstrap-expect, the number of them all",
            ),
            WaitingPhase::Awaits { proposer, bound: Some(bound), .. } => {
                write!(f, "{proposer} is to propose, but has promised what {bound} proposes; {}", remedy(&bound.to_string()))
            }
            WaitingPhase::Awaits { proposer, knows, bound: None } => {
                write!(f, "{proposer} is to propose, and knows {knows}")
            }
            WaitingPhase::Held { reason } => f.write_str(reason),
            WaitingPhase::Proposes { group, missing, held } if missing.is_empty() => {
                write!(f, "proposes group {}; all have promised", group.short())?;
                held.iter().try_for_each(|held| write!(f, "; {held}"))
            }
            WaitingPhase::Proposes { group, missing, .. } => {
                let each = missing.iter().map(|(candidate, reason)| match reason {
                    Some(reason) => format!("{candidate}, which says {reason}"),
                    None => candidate.to_string(),
                });
                write!(f, "proposes group {}; waits for the promise of {}", group.short(), listed(each))
            }
            WaitingPhase::Promised { group, proposer, silent, heard_before } => {
                write!(f, "has promised group {} to {proposer}", group.short())?;
                match (silent, heard_before) {
                    (false, _) => f.write_str(" and waits for its word"),
                    (true, Some(seconds)) => write!(f, ", which was not heard for {seconds} s: {}", remedy("it")),
                    (true, None) => write!(f, ", which is not heard: {}", remedy("it")),
                }
            }
            WaitingPhase::Made { group } => write!(f, "the group is made, its id is {group}"),
            WaitingPhase::Exists { group, told_by } => {
                write!(f, "{}, as {} says", CandidacyRefusal::Exists(*group), told_by.short())
            }
        }
    }
}
