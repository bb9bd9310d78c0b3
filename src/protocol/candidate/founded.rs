//! What members of a founded group say to candidates: that there is a group, and to those that its genesis names and that
//! still wait for it, the genesis.

use crate::types::{CandidacyFrame, CandidacyMessage, CandidacyRefusal, ClusterId, Genesis, MemberId};

/// A member's group, as far as candidates hear of it.
#[derive(Clone, Debug)]
pub struct FoundedGroup {
    /// The member that speaks.
    pub me: MemberId,
    /// The group's genesis.
    pub genesis: Genesis,
}

/// What a member answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundedAnswer {
    /// To be said.
    pub frame: CandidacyFrame,
    /// The asker says that it is of another group of the same name: to be said loudly, on both sides. They never merge.
    pub other_group: Option<ClusterId>,
}

impl FoundedGroup {
    /// What a member says to a key that it does not know, so that two groups of one name that meet notice.
    pub fn greeting(&self) -> CandidacyFrame {
        self.frame(CandidacyMessage::Founded(self.genesis.cluster()))
    }

    /// The answer to somebody that asks.
    pub fn answer(&self, from: MemberId, asked: &CandidacyFrame) -> FoundedAnswer {
        if asked.cluster != self.genesis.name {
            let (theirs, ours) = (asked.cluster.clone(), self.genesis.name.clone());
            let refusal = CandidacyRefusal::OtherName { theirs, ours };
            return FoundedAnswer { frame: self.frame(CandidacyMessage::Refused(refusal)), other_group: None };
        }
        let cluster = self.genesis.cluster();
        let names = |id: &MemberId| self.genesis.members.iter().any(|member| member.id == *id);
        let waits = match &asked.message {
            CandidacyMessage::Here(candidacy) => candidacy.promise.is_some_and(|promise| promise.cluster == cluster),
            CandidacyMessage::Promised(promised) => *promised == cluster,
            // It made that genesis, and its disk has lost it.
            CandidacyMessage::Propose(genesis) => genesis.cluster() == cluster,
            _ => false,
        };
        let message = if waits && names(&from) && names(&self.me) {
            CandidacyMessage::Made(self.genesis.clone())
        } else {
            CandidacyMessage::Founded(cluster)
        };
        FoundedAnswer { frame: self.frame(message), other_group: self.other_group(asked) }
    }

    /// The other group of the same name that somebody says, in an ask or an answer, to be of.
    pub fn other_group(&self, heard: &CandidacyFrame) -> Option<ClusterId> {
        let said = match &heard.message {
            CandidacyMessage::Founded(cluster) | CandidacyMessage::Refused(CandidacyRefusal::Exists(cluster)) => {
                *cluster
            }
            CandidacyMessage::Made(genesis) => genesis.cluster(),
            _ => return None,
        };
        (heard.cluster == self.genesis.name && said != self.genesis.cluster()).then_some(said)
    }

    fn frame(&self, message: CandidacyMessage) -> CandidacyFrame {
        CandidacyFrame::new(&self.genesis.name, 0, message)
    }
}
