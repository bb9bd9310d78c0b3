//! What this member orders about the membership: commands of operators, and its own duties: to say that it is ready, that
//! it does not hear a voter, where it is, and that it leaves (rules E4, E5).

use std::collections::VecDeque;
use std::time::Duration;

use super::halt::Halt;
use super::model::FaultModel;
use super::replica::Replica;
use super::sealing::OwnCommand;
use crate::types::command::check_addresses;
use crate::types::{Command, Instant, MemberId, Outcome, Rejection, Standing, Ticket, limits};

/// How often this member looks whether it has something to say: what it says waits for seconds, not for messages.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// This member's part in changing the membership.
#[derive(Debug)]
pub(crate) struct Duties {
    /// Where this member can be reached; none leaves what the order says.
    addresses: Vec<String>,
    /// Commands that wait to be sealed.
    pub commands: VecDeque<OwnCommand>,
    /// The way out, if this member is on it.
    pub leaving: Option<Leaving>,
    /// It has left: nothing of it is missing.
    pub left: bool,
    /// When it is looked again whether something is to be said.
    next_look: Instant,
}

/// A member on its way out.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub stage: Stage,
    /// Who waits for it.
    tickets: Vec<Ticket>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No epoch could follow without it: publishing goes on.
    Waiting,
    /// What was accepted is sealed; nothing more is.
    Draining,
    /// The LeaveIntent is sealed: the last message of the lane.
    Sealed,
}

impl Duties {
    pub fn new(addresses: Vec<String>) -> Duties {
        Duties { addresses, commands: VecDeque::new(), leaving: None, left: false, next_look: Instant(0) }
    }
}

impl<M: FaultModel> Replica<M> {
    /// This member has left, and the process may end.
    pub fn has_left(&self) -> bool {
        self.duties.left && !self.out.is_pending()
    }

    /// An operator's command: refused where it makes no sense or cannot be followed, ordered otherwise.
    pub(crate) fn handle_command(&mut self, ticket: Ticket, command: Command, deadline: Instant) {
        match self.objection(&command) {
            Some(rejection) => self.out.ready.outcomes.push((ticket, Outcome::Rejected(rejection))),
            None => self.duties.commands.push_back(OwnCommand { command, asked: Some((ticket, deadline)) }),
        }
    }

    fn objection(&self, command: &Command) -> Option<Rejection> {
        let refuse = |code, reason: String| Some(Rejection::Membership { code, reason });
        let membership = &self.chain.state.membership;
        if let Some(gone) = self.gone() {
            return Some(gone);
        }
        match command {
            Command::RemoveIntent { member } => match membership.standing(member) {
                Standing::Stranger => {
                    return refuse("unknown_member", format!("{} is no member; see `synod members`", member.short()));
                }
                Standing::Left | Standing::Removed => {
                    return refuse("former_member", format!("{} is no member any more", member.short()));
                }
                Standing::Voter if membership.members.len() == 1 => {
                    return refuse("last_voter", "it is the only member: stop it instead".to_owned());
                }
                Standing::Voter | Standing::Learner if !membership.is_open(member) && self.was_removed(member) => {
                    return refuse(
                        "already_leaving",
                        "it is removed already, and keeps its vote until another takes it".to_owned(),
                    );
                }
                Standing::Voter | Standing::Learner => {}
            },
            Command::Configure { voters_target: Some(target), .. } if !limits::VOTERS_TARGETS.contains(target) => {
                return refuse("bad_target", format!("{target} is not a number of voters: 3, 5 or 7 vote"));
            }
            Command::Configure { voters_target: Some(target), limits: None } if *target == membership.voters_target => {
                return refuse("already_so", format!("{target} members are to vote already"));
            }
            _ => {}
        }
        if self.duties.commands.len() >= limits::COMMANDS_WAITING_MAX {
            return refuse("busy", "too many membership commands wait; try again in a moment".to_owned());
        }
        if let Some(reason) = &self.disk_full {
            return Some(Rejection::DiskFull(reason.clone()));
        }
        self.lacks_quorum().and_then(|missing| refuse("no_quorum", format!("nothing can be ordered: {missing}")))
    }

    fn was_removed(&self, member: &MemberId) -> bool {
        let known = self.chain.state.membership.members.get(member);
        known.and_then(|known| known.closed).is_some_and(|closed| closed.standing == Standing::Removed)
    }

    /// Why no quorum is heard, if none is.
    pub(crate) fn lacks_quorum(&self) -> Option<String> {
        let voters = &self.configuration.voters;
        let present = voters.iter().filter(|voter| self.hears(voter)).count();
        if present >= self.quorum {
            return None;
        }
        let missing: Vec<String> =
            voters.iter().filter(|voter| !self.hears(voter)).map(|voter| self.name(voter)).collect();
        let (all, quorum) = (voters.len(), self.quorum);
        Some(format!("{present} of {all} voters are reachable, {quorum} are needed; missing: {}", missing.join(", ")))
    }

    /// A member's name for people.
    pub(crate) fn name(&self, member: &MemberId) -> String {
        let known = self.chain.state.membership.members.get(member);
        known.map_or_else(|| member.short(), |known| format!("{} ({})", known.name, member.short()))
    }

    /// Why this member takes no messages any more, if so.
    pub(crate) fn gone(&self) -> Option<Rejection> {
        let leaving = self.duties.leaving.as_ref().is_some_and(|leaving| leaving.stage != Stage::Waiting);
        match self.standing_here() {
            _ if self.duties.left => Some(Rejection::Gone("has left the group")),
            Standing::Left => Some(Rejection::Gone("has left the group")),
            Standing::Removed => Some(Rejection::Gone("was removed from the group")),
            _ if leaving => Some(Rejection::Gone("is leaving the group")),
            _ => None,
        }
    }

    /// Whether this member's lane is closed by its own log.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.standing_here(), Standing::Left | Standing::Removed)
    }

    /// Nothing may be sealed any more: the lane is closed, or its LeaveIntent is on its way.
    pub(crate) fn sealed_its_last(&self) -> Option<Rejection> {
        let sealed = self.duties.leaving.as_ref().is_some_and(|leaving| leaving.stage == Stage::Sealed);
        let waits = self.duties.commands.iter().any(|own| own.command == Command::LeaveIntent);
        (self.is_closed() || (sealed && !waits)).then(|| self.gone()).flatten()
    }

    /// What this member is to the group by its own log. One whose lane is closed has left already, though it may still vote.
    fn standing_here(&self) -> Standing {
        let membership = &self.chain.state.membership;
        let closed = membership.members.get(&self.me).and_then(|member| member.closed);
        closed.map_or_else(|| membership.standing(&self.me), |closed| closed.standing)
    }

    /// The host wants this member to leave.
    pub(crate) fn handle_leave(&mut self, ticket: Ticket) {
        let membership = &self.chain.state.membership;
        if membership.members.len() == 1 && membership.members.contains_key(&self.me) {
            let reason = "it is the only member: nobody could take its vote; stop it instead".to_owned();
            let refused = Rejection::Membership { code: "last_voter", reason };
            self.out.ready.outcomes.push((ticket, Outcome::Rejected(refused)));
            return;
        }
        let leaving = self.leave();
        if leaving.tickets.len() < limits::COMMANDS_WAITING_MAX {
            leaving.tickets.push(ticket);
            return;
        }
        let reason = "this member is leaving already, and many wait for it; see its status".to_owned();
        let refused = Rejection::Membership { code: "already_leaving", reason };
        self.out.ready.outcomes.push((ticket, Outcome::Rejected(refused)));
    }

    fn leave(&mut self) -> &mut Leaving {
        self.schedule.changed = true;
        self.duties.next_look = Instant(0);
        self.duties.leaving.get_or_insert_with(|| Leaving { stage: Stage::Waiting, tickets: Vec::new() })
    }

    /// A LeaveIntent of an earlier start is not ordered yet: it is this member's last message still.
    pub(crate) fn resume_leaving(&mut self) {
        self.leave().stage = Stage::Sealed;
    }

    /// Whatever this member has to order by itself, and its own way out.
    pub(crate) fn attend_duties(&mut self) -> Result<(), Halt> {
        self.follow_own_standing()?;
        let idle = self.repairing.is_some() || self.lane.looks_for_hole || self.disk_full.is_some();
        if idle || self.gone().is_some() {
            self.go_on_leaving(false);
            return Ok(());
        }
        let look = self.now.instant >= self.duties.next_look;
        if look {
            self.duties.next_look = self.now.instant + LOOK_INTERVAL;
            // Who has moved may be found by nobody until it says so: that waits for no quorum.
            self.say_where();
            if self.caught_up {
                self.say_ready();
                self.judge_silence();
            }
        }
        self.go_on_leaving(look);
        Ok(())
    }

    /// Who is no member any more stops: one that left when nobody needs it, one that was removed with that reason. A voter
    /// stays until an epoch without it is established (rule E2).
    fn follow_own_standing(&mut self) -> Result<(), Halt> {
        let membership = &self.chain.state.membership;
        let standing = membership.standing(&self.me);
        let stays = self.sabotage.upholds(crate::types::Rule::E2) && self.epochs.established < self.configuration.epoch;
        match standing {
            Standing::Left | Standing::Removed if stays => Ok(()),
            Standing::Removed => Err(Halt::Departed { standing }),
            Standing::Left => {
                self.go();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Nobody needs this member any more, and it knows.
    fn go(&mut self) {
        if !self.duties.left {
            tracing::info!("this member has left the group");
            self.duties.left = true;
            let waiting = self.duties.leaving.take().map_or(Vec::new(), |leaving| leaving.tickets);
            self.out.ready.outcomes.extend(waiting.into_iter().map(|ticket| (ticket, Outcome::Left)));
        }
    }

    /// Another member says that this one has left, and perhaps decided it first. True if that is what this one waits for:
    /// its LeaveIntent, and so all of its lane, is ordered.
    pub(crate) fn is_let_go(&mut self) -> bool {
        let waits = self.duties.leaving.as_ref().is_some_and(|leaving| leaving.stage == Stage::Sealed);
        // After a restart nobody waits, and the log tells that the LeaveIntent is ordered.
        if waits || self.standing_here() == Standing::Left {
            self.go();
        }
        self.duties.left
    }

    /// E5: a learner says once in each incarnation that it holds the log.
    fn say_ready(&mut self) {
        let membership = &self.chain.state.membership;
        let Some(known) = membership.members.get(&self.me) else { return };
        let said = known.ready.is_some_and(|ready| ready.incarnation == self.incarnation);
        let near = self.chain.delivered().0 + limits::READY_SLOTS >= self.known_slot().0;
        let waits = || self.is_on_its_way(|command| matches!(command, Command::Ready { .. }));
        if membership.votes(&self.me) || said || !near || waits() {
            return;
        }
        let slot = self.chain.delivered();
        let Some(digest) = self.chain.digest_at(slot) else { return };
        self.order_command(Command::Ready { slot, digest });
    }

    /// This member can be reached elsewhere by now.
    pub(crate) fn handle_moved(&mut self, addresses: Vec<String>) {
        self.duties.addresses = addresses;
    }

    /// Who listens elsewhere now says so.
    fn say_where(&mut self) {
        let Some(known) = self.chain.state.membership.members.get(&self.me) else { return };
        let waits = || self.is_on_its_way(|command| matches!(command, Command::Move { .. }));
        let usable = !self.duties.addresses.is_empty() && check_addresses(&self.duties.addresses).is_ok();
        if !usable || known.addresses == self.duties.addresses || waits() {
            return;
        }
        let addresses = self.duties.addresses.clone();
        self.order_command(Command::Move { addresses });
    }

    /// E4: a voter says which other voters it has not heard for `replace_after`, and when it hears them again.
    fn judge_silence(&mut self) {
        if !self.votes() || self.lacks_quorum().is_some() {
            return;
        }
        let membership = self.chain.state.membership.clone();
        let now = self.now.instant;
        for voter in self.configuration.voters.clone() {
            if voter == self.me {
                continue;
            }
            let peer = self.peers.get(&voter);
            let heard =
                peer.and_then(|peer| peer.heard).max(peer.and_then(|peer| peer.votes_since)).unwrap_or_default();
            let silent = now.since(heard.max(self.started)) >= self.timing.replace_after;
            let suspects = membership.suspects(&self.me, &voter);
            let of_it = |command: &Command| match command {
                Command::Suspect { member } | Command::Unsuspect { member } => *member == voter,
                _ => false,
            };
            if silent == suspects || self.is_on_its_way(of_it) {
                continue;
            }
            if silent {
                tracing::warn!(voter = self.name(&voter), "a voter is silent; this one suspects it");
                self.counters.suspicions += 1;
                self.order_command(Command::Suspect { member: voter });
            } else if self.hears(&voter) {
                self.counters.suspicions_withdrawn += 1;
                self.order_command(Command::Unsuspect { member: voter });
            }
        }
    }

    /// E4: the LeaveIntent is sealed when an epoch could follow without this member, behind everything that it accepted. One
    /// that had no effect leaves everything as it was.
    fn go_on_leaving(&mut self, look: bool) {
        let Some(stage) = self.duties.leaving.as_ref().map(|leaving| leaving.stage) else { return };
        let state = &self.chain.state;
        let open = state.membership.is_open(&self.me);
        let next = match stage {
            Stage::Waiting if !open || !self.caught_up => stage,
            Stage::Waiting if look && self.may_leave_now() => Stage::Draining,
            Stage::Draining if self.lane.intake().0 == 0 && self.duties.commands.is_empty() => {
                self.order_command(Command::LeaveIntent);
                Stage::Sealed
            }
            // Ordered, and this member is still in: it had no effect.
            Stage::Sealed if open && !self.is_on_its_way(|command| matches!(command, Command::LeaveIntent)) => {
                self.counters.leaves_without_effect += 1;
                if self.duties.leaving.as_ref().is_some_and(|leaving| leaving.tickets.is_empty()) {
                    self.duties.leaving = None; // nobody wishes it any more
                }
                Stage::Waiting
            }
            stage => stage,
        };
        self.leave_stage(next);
    }

    /// Whether an epoch without this member could follow now, with learners that are heard.
    fn may_leave_now(&self) -> bool {
        let state = &self.chain.state;
        state.membership.may_leave(&self.me, &state.heads, |learner| self.hears(learner))
    }

    fn leave_stage(&mut self, stage: Stage) {
        if let Some(leaving) = &mut self.duties.leaving {
            leaving.stage = stage;
        }
    }

    /// What a leave of this member, or a due change of the voters, waits for; for people.
    pub(crate) fn waits_for(&self) -> Vec<String> {
        let state = &self.chain.state;
        let mut waits = state.membership.waits_for(&state.heads);
        if let Some(due) = state.membership.due(&state.heads, &self.sabotage, |_| true) {
            let silent: Vec<String> =
                due.iter().filter(|voter| !self.hears(voter)).map(|voter| self.name(voter)).collect();
            if !silent.is_empty() && self.due_end(state).is_none() {
                waits.push(format!("the next epoch: these of its voters are not heard: {}", silent.join(", ")));
            }
        }
        if let Some(leaving) = &self.duties.leaving {
            match leaving.stage {
                Stage::Waiting if !self.may_leave_now() => waits.push(
                    "leave: a learner that is ready to take this member's vote (`synod invite` on a member, `synod join` on a \
                     new machine), or fewer voters (`synod voters`)"
                        .to_owned(),
                ),
                Stage::Waiting => waits.push("leave: this member to catch up".to_owned()),
                Stage::Draining => waits.push("leave: what this member accepted to be sealed".to_owned()),
                Stage::Sealed => waits.push("leave: the LeaveIntent to be ordered, and an epoch without this voter".to_owned()),
            }
        }
        waits
    }

    pub(crate) fn order_command(&mut self, command: Command) {
        self.duties.commands.push_back(OwnCommand { command, asked: None });
    }

    /// Whether such a command of this member waits to be sealed, or to be ordered.
    pub(crate) fn is_on_its_way(&self, wanted: impl Fn(&Command) -> bool) -> bool {
        let sealed = self.lane.unordered.iter().filter_map(|own| self.lanes.held(&own.reference)?.command.as_ref());
        self.duties.commands.iter().map(|own| &own.command).chain(sealed.map(|command| &**command)).any(wanted)
    }
}
