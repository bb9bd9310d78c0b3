//! What must hold of candidates, whatever happens: judged by what disks hold and what leaves, never by what a candidate
//! believes.

use std::collections::{BTreeMap, BTreeSet};

use super::machine::is_address;
use super::telling::tell;
use crate::sim::check::Violation;
use crate::types::{CandidacyFrame, CandidacyMessage, ClusterId, Commitment, Genesis, GenesisMember, MemberId};

/// Everything that disks ever held.
#[derive(Debug, Default)]
pub struct Vows {
    /// What each disk holds now.
    disks: BTreeMap<MemberId, Commitment>,
    /// Disks that are gone.
    lost: BTreeSet<MemberId>,
    /// Geneses that their proposers' disks held, and whether these gave them up.
    proposed: BTreeMap<ClusterId, bool>,
    /// Who has promised what on its disk.
    promised: BTreeMap<ClusterId, BTreeSet<MemberId>>,
    /// Geneses that are made.
    made: BTreeMap<ClusterId, Genesis>,
    /// Every key that was started as a candidate.
    keys: BTreeSet<MemberId>,
}

type Kept = Result<(), Violation>;

fn broken(text: String) -> Kept {
    Err(Violation::new("G1", text))
}

impl Vows {
    /// A candidate starts.
    pub fn started(&mut self, id: MemberId) {
        self.keys.insert(id);
        self.disks.entry(id).or_insert(Commitment::Free);
    }

    /// A disk is gone, with its key.
    pub fn lost(&mut self, id: MemberId) {
        self.lost.insert(id);
    }

    /// Geneses that are made.
    pub fn made(&self) -> impl Iterator<Item = &Genesis> {
        self.made.values()
    }

    /// Whether a disk is gone.
    pub fn is_lost(&self, id: &MemberId) -> bool {
        self.lost.contains(id)
    }

    /// What a disk holds.
    pub fn holds(&self, id: &MemberId) -> &Commitment {
        self.disks.get(id).unwrap_or(&Commitment::Free)
    }

    /// A disk holds something else from now on.
    pub fn durable(&mut self, id: MemberId, next: &Commitment) -> Kept {
        let before = self.holds(&id).clone();
        if before == *next {
            return Ok(());
        }
        match (&before, next) {
            (Commitment::Free, Commitment::Proposed(genesis)) => self.proposes(id, genesis)?,
            (Commitment::Free, Commitment::Promised(genesis)) => self.promises(id, genesis)?,
            (Commitment::Proposed(genesis), Commitment::Free) => {
                self.proposed.insert(genesis.cluster(), true);
            }
            (Commitment::Promised(genesis), Commitment::Free) => self.is_released(id, genesis)?,
            (Commitment::Proposed(genesis), Commitment::Made(made)) if genesis == made => self.makes(made)?,
            (Commitment::Promised(genesis), Commitment::Made(made)) if genesis == made => {
                if !self.made.contains_key(&made.cluster()) {
                    return broken(format!("{} has a genesis that nobody has made", tell(&id)));
                }
            }
            _ => return broken(format!("{} binds itself twice: {} and {}", tell(&id), name(&before), name(next))),
        }
        self.disks.insert(id, next.clone());
        Ok(())
    }

    fn proposes(&mut self, id: MemberId, genesis: &Genesis) -> Kept {
        if genesis.members[0].id != id || genesis.check().is_err() {
            return broken(format!("{} proposes what is no genesis of its own", tell(&id)));
        }
        if self.proposed.insert(genesis.cluster(), false).is_some() {
            return broken(format!("{} proposes one genesis twice", tell(&id)));
        }
        self.promised.entry(genesis.cluster()).or_default().insert(id);
        Ok(())
    }

    fn promises(&mut self, id: MemberId, genesis: &Genesis) -> Kept {
        if !self.proposed.contains_key(&genesis.cluster()) || genesis.members.iter().all(|member| member.id != id) {
            return broken(format!("{} promises what nobody has proposed to it", tell(&id)));
        }
        let wrong = |member: &&GenesisMember| {
            member.addresses.is_empty() || !member.addresses.iter().all(|address| is_address(address))
        };
        if let Some(member) = genesis.members.iter().find(wrong) {
            return broken(format!("{} promises a genesis in which nobody reaches {}", tell(&id), tell(&member.id)));
        }
        self.promised.entry(genesis.cluster()).or_default().insert(id);
        Ok(())
    }

    /// Only its proposer releases a promise, and it has given up the genesis before.
    fn is_released(&self, id: MemberId, genesis: &Genesis) -> Kept {
        match self.proposed.get(&genesis.cluster()) {
            Some(true) => Ok(()),
            _ => broken(format!("{} drops its promise to {}", tell(&id), tell(&genesis.members[0].id))),
        }
    }

    /// All have promised it, and no other that is made has a member of it: so there is one for fewer than 2N candidates.
    fn makes(&mut self, genesis: &Genesis) -> Kept {
        let promised = self.promised.get(&genesis.cluster());
        if let Some(missing) =
            genesis.members.iter().find(|member| promised.is_none_or(|all| !all.contains(&member.id)))
        {
            return broken(format!("a genesis is made that {} has not promised", tell(&missing.id)));
        }
        for other in self.made.values() {
            let shared = genesis.members.iter().find(|one| other.members.iter().any(|member| member.id == one.id));
            if let Some(shared) = shared {
                return broken(format!("two geneses are made with {}", tell(&shared.id)));
            }
        }
        self.made.insert(genesis.cluster(), genesis.clone());
        Ok(())
    }

    /// Something leaves: the disk holds what it says.
    pub fn says(&self, id: MemberId, frame: &CandidacyFrame) -> Kept {
        let holds = self.holds(&id);
        let bound = holds.promise().map(|promise| promise.cluster);
        let open = matches!(holds, Commitment::Proposed(_) | Commitment::Promised(_));
        let kept = match &frame.message {
            CandidacyMessage::Here(candidacy) => {
                candidacy.promise.is_none_or(|promise| open && bound == Some(promise.cluster))
            }
            CandidacyMessage::Propose(genesis) => *holds == Commitment::Proposed(genesis.clone()),
            CandidacyMessage::Promised(cluster) => open && bound == Some(*cluster),
            CandidacyMessage::Made(genesis) => *holds == Commitment::Made(genesis.clone()),
            CandidacyMessage::Founded(cluster) => matches!(holds, Commitment::Made(_)) && bound == Some(*cluster),
            CandidacyMessage::Released(cluster) => self.proposed.get(cluster) == Some(&true),
            CandidacyMessage::Refused(_) => true,
        };
        if kept { Ok(()) } else { broken(format!("{} says what its disk does not hold", tell(&id))) }
    }

    /// A candidate becomes a member.
    pub fn founded(&self, id: MemberId, genesis: &Genesis) -> Kept {
        if *self.holds(&id) == Commitment::Made(genesis.clone()) {
            return Ok(());
        }
        broken(format!("{} starts as a member, and its disk does not hold the genesis", tell(&id)))
    }

    /// A candidate stops, because this group exists.
    pub fn exists(&self, id: MemberId, cluster: &ClusterId) -> Kept {
        if self.made.contains_key(cluster) {
            return Ok(());
        }
        broken(format!("{} stops for a group that is not there", tell(&id)))
    }
}

fn name(commitment: &Commitment) -> String {
    match commitment {
        Commitment::Free => "nothing".to_owned(),
        Commitment::Proposed(_) => "an own proposal".to_owned(),
        Commitment::Promised(genesis) => format!("a promise to {}", tell(&genesis.members[0].id)),
        Commitment::Made(_) => "a genesis".to_owned(),
    }
}
