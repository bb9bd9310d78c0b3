//! After the faults: what has still to happen before the group can be called healed.

use super::check::{self, Fate};
use super::machines::Phase;
use super::world::World;
use crate::types::{MemberId, MessageId, Outcome, Readiness, Standing};

impl World {
    /// What has still to happen; empty when nothing has.
    pub(super) fn unfinished(&self) -> Vec<String> {
        let membership = &self.stage.agreement.order.membership;
        let stays = |member: &usize| membership.member(&self.stage.group.id(*member)).is_some();
        let (live, departed): (Vec<usize>, Vec<usize>) = self.members().into_iter().partition(stays);
        let (sequence, promises) = (&self.stage.sequence, &self.stage.promises);
        let lost = |member: usize, id: &MessageId| self.is_lost(member, id);
        let mut missing = check::unfinished(self.now, &live, lost, sequence, promises);
        for member in &live {
            if !self.stage.nodes[*member].runs() {
                missing.push(format!("member {} does not run", member + 1));
            }
            missing.extend(self.unready(*member));
        }
        // Whom it dials tells it. Who dials nobody that is left hears nothing of the group any more.
        let dials = |member: usize| {
            (0..self.size()).any(|peer| self.stage.nodes[peer].runs() && self.stage.dials(member, peer))
        };
        let unaware = departed.into_iter().filter(|member| dials(*member));
        missing.extend(unaware.map(|member| format!("member {} is none any more and goes on", member + 1)));
        let knocking = (0..self.size()).filter(|machine| self.machines[*machine].secret.is_some());
        missing.extend(knocking.map(|machine| format!("machine {} still knocks", machine + 1)));
        for ticket in &self.farewells {
            let fate = promises.fate(*ticket);
            if !matches!(fate, Fate::Answered(Outcome::Ordered { .. })) {
                missing.push(format!("publish {} after the faults: {fate:?}", ticket.0));
            }
        }
        missing.extend(self.unsettled(&live));
        missing
    }

    /// Whether a message, though accepted, may be gone: with its disk, or because its member was removed.
    pub(super) fn is_lost(&self, member: usize, id: &MessageId) -> bool {
        let membership = &self.stage.agreement.order.membership;
        let key = self.stage.group.id(member);
        let standing = membership.departure(&key).or_else(|| membership.member(&key)?.leaving);
        let left = self.machines[member].phase == Phase::Gone && standing == Some(Standing::Left);
        let damaged = self.rotten[member].as_ref().is_some_and(|damage| damage.excuses(id));
        damaged || standing == Some(Standing::Removed) || (self.is_ended(member) && !left)
    }

    /// What a member that runs says is in its way. A clock that jumped stays wrong, and is no obstacle to the order; who is
    /// about to go says so, too.
    fn unready(&self, member: usize) -> Option<String> {
        if self.machines[member].leaving || self.machines[member].dismissed {
            return None;
        }
        let Readiness::NotReady(reasons) = self.stage.nodes[member].driver()?.replica().snapshot().readiness else {
            return None;
        };
        let reasons: Vec<String> = reasons.into_iter().filter(|reason| !reason.contains("clock")).collect();
        (!reasons.is_empty()).then(|| format!("member {} is not ready: {}", member + 1, reasons.join(", ")))
    }

    /// What the membership still owes: due ends of the epoch, learners that say they are ready, leaves, suspicions.
    fn unsettled(&self, live: &[usize]) -> Vec<String> {
        let mut missing = Vec::new();
        let (membership, epochs) = (&self.stage.agreement.order.membership, &self.stage.agreement.epochs);
        let runs = |id: &MemberId| self.stage.group.index(id).is_some_and(|index| self.stage.nodes[index].runs());
        let newest = epochs.newest();
        if !newest.established {
            missing.push(format!("epoch {} is not established", newest.configuration.epoch));
        }
        if membership.is_due(runs) {
            missing.push(format!("the end of epoch {} is due", newest.configuration.epoch));
        }
        for member in live {
            let id = self.stage.group.id(*member);
            let Some(state) = membership.member(&id) else { continue };
            let votes = membership.votes(&id);
            if !votes && state.leaving.is_none() && !state.is_ready() && !self.machines[*member].leaving {
                missing.push(format!("learner {} is not ready in the order", member + 1));
            }
            let may_leave = self.machines[*member].leaving && (!votes || membership.could_let_go(&id, runs));
            if may_leave {
                missing.push(format!("member {} waits to leave", member + 1));
            }
        }
        let soon = self.plan.timing.replace_after < super::world::PATIENCE / 2;
        let silent = newest.configuration.voters.iter().filter(|voter| !runs(voter));
        for voter in silent.filter(|_| soon) {
            let speaks = |by: &&MemberId| runs(by) && membership.lane_is_open(by);
            let mut speaking = newest.configuration.voters.iter().filter(speaks);
            if let Some(by) = speaking.find(|by| !membership.is_suspected(voter, by)) {
                let [voter, by] = [voter, by].map(|id| self.stage.group.tell(id));
                missing.push(format!("voter {voter} is silent, and {by} does not suspect it"));
            }
        }
        missing
    }
}
