//! What happens among candidates, in words: for scenarios and for charts.

use super::machine::owner;
use crate::types::{CandidacyFrame, CandidacyMessage, Commitment, Genesis, MemberId};

/// A key as people read it: the machine, with a stroke for each disk it has lost before.
pub fn tell(id: &MemberId) -> String {
    match owner(id) {
        Some((index, disks_lost)) => format!("{}{}", index + 1, "'".repeat(disks_lost as usize)),
        None => id.short(),
    }
}

/// Who founds a group.
pub fn members(genesis: &Genesis) -> String {
    genesis.members.iter().map(|member| tell(&member.id)).collect::<Vec<_>>().join(" ")
}

/// Their names for people, as the genesis has them.
pub fn names(genesis: &Genesis) -> String {
    genesis.members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>().join(" ")
}

/// Texts of candidates with keys as people read them.
pub fn plain(text: &str, ids: &[MemberId]) -> String {
    ids.iter().fold(text.to_owned(), |text, id| text.replace(&id.short(), &tell(id)))
}

/// A change of what a disk holds.
pub fn change(before: &Commitment, next: &Commitment) -> Option<String> {
    let proposer = |genesis: &Genesis| tell(&genesis.members[0].id);
    match (before, next) {
        (_, Commitment::Proposed(genesis)) => Some(format!("proposes {}", members(genesis))),
        (_, Commitment::Promised(genesis)) => Some(format!("promises {}", proposer(genesis))),
        (Commitment::Proposed(_), Commitment::Made(genesis)) => {
            Some(format!("makes the group of {}", members(genesis)))
        }
        (_, Commitment::Made(genesis)) => Some(format!("has the genesis of {}", members(genesis))),
        (Commitment::Proposed(_), Commitment::Free) => Some("gives up its proposal".to_owned()),
        (Commitment::Promised(genesis), Commitment::Free) => Some(format!("is released by {}", proposer(genesis))),
        (Commitment::Made(_) | Commitment::Free, Commitment::Free) => None,
    }
}

/// A frame in a few words.
pub fn describe(frame: &CandidacyFrame) -> String {
    match &frame.message {
        CandidacyMessage::Here(candidacy) => match candidacy.promise {
            Some(promise) => format!("here, promised {} to {}", promise.cluster.short(), tell(&promise.proposer)),
            None => format!("here, knows {}", candidacy.knows),
        },
        CandidacyMessage::Propose(genesis) => format!("propose {}: {}", genesis.cluster().short(), members(genesis)),
        CandidacyMessage::Promised(cluster) => format!("promised {}", cluster.short()),
        CandidacyMessage::Refused(refusal) => format!("refused: {refusal}"),
        CandidacyMessage::Made(genesis) => format!("made {}", genesis.cluster().short()),
        CandidacyMessage::Released(cluster) => format!("released {}", cluster.short()),
        CandidacyMessage::Founded(cluster) => format!("founded {}", cluster.short()),
    }
}
