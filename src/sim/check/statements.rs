//! What members say, compared with their disks: durable before sent (rule R7 and the table of §8).

use std::collections::BTreeMap;

use super::{Agreement, Storage, Violation};
use crate::sim::group::Group;
use crate::types::peer::Status;
use crate::types::{Claim, Hello, Incarnation, PeerMessage, Round, Tip, View};

/// What was said so far, as far as later words must agree with it.
pub struct Statements {
    group: Group,
    /// Rule V6: the base of a view is fixed.
    bases: BTreeMap<Round, Claim>,
    /// The highest view each member complained about, in any of its lives.
    complaints: Vec<Option<View>>,
}

impl Statements {
    /// Nobody has said anything.
    pub fn new(group: &Group) -> Statements {
        let complaints = vec![None; group.size()];
        Statements { group: group.clone(), bases: BTreeMap::new(), complaints }
    }

    /// A message leaves a member that runs with this incarnation.
    pub fn sent(
        &mut self,
        member: usize,
        message: &PeerMessage,
        agreement: &mut Agreement,
        storage: &Storage,
    ) -> Result<(), Violation> {
        let incarnation = agreement.incarnation(member);
        if incarnation == Incarnation(0) {
            return Err(said("L2", member, message, "before its incarnation was durable"));
        }
        match message {
            PeerMessage::Vote(vote) if !agreement.has_voted(member, &vote.tip) => {
                Err(said("R7", member, message, "which is not on its disk"))
            }
            PeerMessage::Claim { round, claim } => {
                self.entered(member, message, *round, agreement)?;
                if agreement.highest(member) < *claim {
                    return Err(said("R7", member, message, "above its durable votes"));
                }
                Ok(())
            }
            PeerMessage::NewView { round, base } => {
                self.entered(member, message, *round, agreement)?;
                let fixed = *self.bases.entry(*round).or_insert(*base);
                if fixed == *base {
                    Ok(())
                } else {
                    Err(said("V6", member, message, "after another base of that view"))
                }
            }
            PeerMessage::Proposal { round, .. } if self.leads(member, *round) => {
                self.entered(member, message, *round, agreement)?;
                let recorded = agreement.voter(member).map(|voter| voter.incarnation);
                if recorded == Some(incarnation) { Ok(()) } else { Err(said("L1", member, message, "barred")) }
            }
            PeerMessage::Batch(batch) => agreement.sealed(batch),
            PeerMessage::Status(status) => self.status(member, message, status, agreement, storage),
            PeerMessage::Heartbeat { decided, .. } | PeerMessage::Decided { mark: decided, .. } => {
                self.decided(member, message, decided, agreement)
            }
            _ => Ok(()),
        }
    }

    /// What a member's hellos say from now on: its durable incarnation, no vote above its durable ones (rule I1), and
    /// nothing for decided that is not.
    pub fn greets(&self, member: usize, hello: &Hello, agreement: &Agreement) -> Result<(), Violation> {
        let fails =
            |rule, how: &str| Err(Violation::new(rule, format!("member {} greets {how}: {hello:?}", member + 1)));
        if hello.incarnation != agreement.incarnation(member) {
            return fails("L2", "with an incarnation that is not on its disk");
        }
        if hello.highest_vote > agreement.highest(member) {
            return fails("R7", "with a vote that is not on its disk");
        }
        if agreement.digest(hello.decided.slot) != Some(hello.decided.digest) {
            return fails("agreement", DECIDED_BY_NOBODY);
        }
        Ok(())
    }

    /// Rule V1: a member enters a view only by q complaints, a resignation, or because a voter is there already.
    pub fn enters(&self, member: usize, round: Round, agreement: &Agreement) -> Result<(), Violation> {
        let Some(below) = round.view.0.checked_sub(1).map(View) else { return Ok(()) };
        let complained = self.complaints.iter().filter(|view| **view >= Some(below)).count();
        let own = usize::from(self.complaints[member] < Some(below));
        let allowed = complained + own >= self.group.quorum()
            || self.leads(member, Round { view: below, ..round })
            || agreement.anybody_entered(round, member);
        if allowed {
            return Ok(());
        }
        let text =
            format!("member {} entered {round}; {complained} complain about {below}, nobody resigned", member + 1);
        Err(Violation::new("V1", text))
    }

    fn leads(&self, member: usize, round: Round) -> bool {
        member as u64 == round.view.0 % self.group.size() as u64
    }

    fn entered(
        &self,
        member: usize,
        message: &PeerMessage,
        round: Round,
        agreement: &Agreement,
    ) -> Result<(), Violation> {
        let durable = agreement.voter(member).map(|voter| voter.round);
        if durable >= Some(round) { Ok(()) } else { Err(said("L1", member, message, "of a round it has not recorded")) }
    }

    fn decided(&self, member: usize, message: &PeerMessage, tip: &Tip, agreement: &Agreement) -> Result<(), Violation> {
        let known = agreement.digest(tip.slot) == Some(tip.digest);
        if known { Ok(()) } else { Err(said("agreement", member, message, DECIDED_BY_NOBODY)) }
    }

    fn status(
        &mut self,
        member: usize,
        message: &PeerMessage,
        status: &Status,
        agreement: &Agreement,
        storage: &Storage,
    ) -> Result<(), Violation> {
        if status.incarnation != agreement.incarnation(member) {
            return Err(said("L2", member, message, "of an incarnation that is not on its disk"));
        }
        self.entered(member, message, status.round, agreement)?;
        if let Some(view) = status.complaint {
            self.complaints[member] = self.complaints[member].max(Some(view));
        }
        self.decided(member, message, &status.decided, agreement)?;
        for (origin, head) in &status.lanes {
            if head.batch.number.0 > 0 && !storage.holds_batch(&head.digest) {
                let lane = self.group.index(origin).map_or(0, |index| index + 1);
                return Err(said("R7", member, message, &format!("with a lane head of {lane} not on its disk")));
            }
        }
        Ok(())
    }
}

const DECIDED_BY_NOBODY: &str = "naming for decided what no quorum's disks decided";

fn said(rule: &'static str, member: usize, message: &PeerMessage, how: &str) -> Violation {
    Violation::new(rule, format!("member {} sent a {} {how}: {message:?}", member + 1, message.name()))
}
