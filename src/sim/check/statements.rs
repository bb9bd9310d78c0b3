//! What members say, compared with their disks: durable before sent (rule R7 and the table of §8).

use std::collections::BTreeMap;

use super::{Agreement, Storage, Violation};
use crate::sim::group::Group;
use crate::types::peer::{Envelope, Status};
use crate::types::{
    Claim, DoorMessage, Epoch, Hello, Incarnation, MemberId, PeerMessage, Round, Standing, Tip, Told, View, Vote,
};

/// What was said so far, as far as later words must agree with it.
pub struct Statements {
    group: Group,
    /// Rule V6: the base of a view is fixed.
    bases: BTreeMap<Round, Claim>,
    /// The highest view of each epoch that each member complained about, in any of its lives.
    complaints: BTreeMap<(Epoch, usize), View>,
}

impl Statements {
    /// Nobody has said anything.
    pub fn new(group: &Group) -> Statements {
        Statements { group: group.clone(), bases: BTreeMap::new(), complaints: BTreeMap::new() }
    }

    /// A message leaves a member that runs with this incarnation.
    pub fn sent(
        &mut self,
        member: usize,
        envelope: &Envelope,
        agreement: &mut Agreement,
        storage: &Storage,
    ) -> Result<(), Violation> {
        let message = &envelope.message;
        let incarnation = agreement.incarnation(member);
        if incarnation == Incarnation(0) {
            return Err(said("L2", member, message, "before its incarnation was durable"));
        }
        if agreement.epochs.at(envelope.epoch).is_none_or(|epoch| epoch.digest != envelope.configuration) {
            return Err(said("E1", member, message, &format!("of epoch {}, which nobody decided so", envelope.epoch)));
        }
        match message {
            PeerMessage::Vote(vote) => vouched(member, message, vote, agreement),
            PeerMessage::Claim { round, claim } => {
                self.entered(member, message, *round, agreement)?;
                if claim.is_some_and(|claim| claim.round.epoch != round.epoch) {
                    return Err(said("E1", member, message, "of another epoch"));
                }
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
            PeerMessage::Proposal { round, entry } if agreement.epochs.leads(member, *round) => {
                self.entered(member, message, *round, agreement)?;
                if let Some(end) = entry.entry.0.epoch_end()
                    && end.next.epoch != round.epoch.next()
                {
                    return Err(said("E1", member, message, "that ends another epoch than that of its view"));
                }
                let recorded = agreement.voter(member).map(|voter| voter.incarnation);
                if recorded == Some(incarnation) { Ok(()) } else { Err(said("L1", member, message, "barred")) }
            }
            PeerMessage::Batch(batch) => agreement.sealed(batch),
            PeerMessage::Epochs { from, links } => {
                let checked = agreement.check_chain(*from, links);
                checked.map_err(|text| said("E3", member, message, &format!("with a false chain: {text}")))
            }
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
        match hello.highest_vote {
            // After damage: what it voted in earlier epochs is void. A vote of this start may be newer than the hello.
            Some(first) if first.slot.0 == 0 => {
                let epoch = first.round.epoch;
                let valid = agreement.voted_before(member).is_some_and(|vote| vote.round.epoch >= epoch);
                if valid || agreement.epochs.at(epoch).is_none() {
                    return fails("I1", "as if all of its votes were void");
                }
            }
            vote if vote > agreement.highest(member) => return fails("R7", "with a vote that is not on its disk"),
            _ => {}
        }
        if agreement.digest(hello.decided.slot) != Some(hello.decided.digest) {
            return fails("agreement", DECIDED_BY_NOBODY);
        }
        Ok(())
    }

    /// Rule V1: a member enters a view only by q complaints, a resignation, or because a voter is there already.
    pub fn enters(&self, member: usize, round: Round, agreement: &Agreement) -> Result<(), Violation> {
        let Some(below) = round.view.0.checked_sub(1).map(View) else { return Ok(()) };
        let epochs = &agreement.epochs;
        let Some(epoch) = epochs.at(round.epoch).filter(|_| epochs.votes(member, round.epoch)) else { return Ok(()) };
        let complains = |voter: &usize| {
            *voter == member || self.complaints.get(&(round.epoch, *voter)).is_some_and(|view| *view >= below)
        };
        let complained =
            (0..self.group.size()).filter(|voter| epochs.votes(*voter, round.epoch)).filter(complains).count();
        let allowed = complained >= epoch.configuration.quorum()
            || epochs.leads(member, Round { view: below, ..round })
            || agreement.anybody_entered(round, member);
        if allowed {
            return Ok(());
        }
        let text =
            format!("member {} entered {round}; {complained} complain about {below}, nobody resigned", member + 1);
        Err(Violation::new("V1", text))
    }

    /// Words at a door: a chain that is told is the one that disks decided, and so is what is said of the key that is told.
    pub fn told(
        &self,
        member: usize,
        to: &MemberId,
        message: &DoorMessage,
        agreement: &mut Agreement,
    ) -> Result<(), Violation> {
        let DoorMessage::Tell(Told { genesis, from, links, established, standing, .. }) = message else {
            return Ok(());
        };
        let fails =
            |rule, text: String| Err(Violation::new(rule, format!("member {} tells at a door {text}", member + 1)));
        if let Err(text) = agreement.check_chain(*from, links) {
            return fails("E3", format!("a false chain: {text}"));
        }
        if genesis.as_ref().is_some_and(|genesis| *genesis != self.group.genesis.encode()) {
            return fails("E3", "another genesis".to_owned());
        }
        if agreement.epochs.at(*established).is_none_or(|epoch| !epoch.established) {
            return fails("E2", format!("that epoch {established} is established, in which nothing was decided"));
        }
        let departed = agreement.order.membership.departure(to);
        if matches!(standing, Standing::Left | Standing::Removed) && departed != Some(*standing) {
            return fails(
                "membership",
                format!("{} that it is {standing:?}, and the order has {departed:?}", to.short()),
            );
        }
        Ok(())
    }

    fn entered(
        &self,
        member: usize,
        message: &PeerMessage,
        round: Round,
        agreement: &Agreement,
    ) -> Result<(), Violation> {
        if !agreement.epochs.votes(member, round.epoch) {
            return Ok(()); // who does not vote has no record of its rounds
        }
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
            let complained = self.complaints.entry((status.round.epoch, member)).or_default();
            *complained = view.max(*complained);
        }
        self.decided(member, message, &status.decided, agreement)?;
        if agreement.epochs.at(status.established).is_none_or(|epoch| !epoch.established) {
            return Err(said("E2", member, message, "naming for established what is not"));
        }
        for (origin, head) in &status.lanes {
            if head.batch.number.0 > 0 && !storage.holds_batch(&head.digest) {
                let lane = self.group.index(origin).map_or(0, |index| index + 1);
                return Err(said("R7", member, message, &format!("with a lane head of {lane} not on its disk")));
            }
        }
        Ok(())
    }
}

/// A vote that leaves is on its voter's disk; one on the end of an epoch is signed (rule E3).
fn vouched(member: usize, message: &PeerMessage, vote: &Vote, agreement: &Agreement) -> Result<(), Violation> {
    if !agreement.has_voted(member, &vote.tip) {
        return Err(said("R7", member, message, "which is not on its disk"));
    }
    let end = agreement.entry(&vote.tip.digest).and_then(|entry| entry.epoch_end());
    let Some(end) = end.filter(|end| end.next.epoch == vote.tip.round.epoch.next()) else { return Ok(()) };
    let signed = vote.seal.is_some_and(|seal| {
        let epoch = agreement.epochs.at(vote.tip.round.epoch);
        let voter = MemberId(Group::key(member).verifying_key().to_bytes());
        seal.next == end.next.digest()
            && epoch.is_some_and(|epoch| seal.verify(&voter, &epoch.configuration, &vote.tip))
    });
    if signed { Ok(()) } else { Err(said("E3", member, message, "on the end of an epoch without its signature")) }
}

const DECIDED_BY_NOBODY: &str = "naming for decided what no quorum's disks decided";

fn said(rule: &'static str, member: usize, message: &PeerMessage, how: &str) -> Violation {
    Violation::new(rule, format!("member {} sent a {} {how}: {message:?}", member + 1, message.name()))
}
