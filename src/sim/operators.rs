//! Operators of the random world: they invite, let go, remove and reconfigure; machines move, sleep and lose their disks.

use std::time::Duration;

use super::door::Words;
use super::forgery::{forged_chain, stranger};
use super::machines::Phase;
use super::plan::Deed;
use super::world::{Event, World};
use crate::types::join_code::{SECRET_BYTES, secret_digest};
use crate::types::{Command, DoorMessage, Outcome, Standing, Ticket, Told, WallTime};

/// Why an operator asked for a command, and what follows from the answer.
#[derive(Clone, Debug)]
pub(super) enum Errand {
    /// The machine gets the join code when the invite is ordered.
    Invite { machine: usize, secret: [u8; SECRET_BYTES] },
    /// The member asked leaves.
    Leave(usize),
    /// Nothing.
    None,
}

/// How long an operator waits for a command.
const PATIENCE: Duration = Duration::from_secs(8);
/// A join code lasts so long; clocks of this world jump by an hour.
const CODE_LASTS: Duration = Duration::from_secs(3 * 3600);

impl World {
    /// An operator does something, and there will be more.
    pub(super) fn operate(&mut self) {
        if self.healed {
            return;
        }
        let deeds = self.plan.deeds.clone();
        let deed: Deed = self.random.weighted(&deeds);
        self.perform(deed);
        let gap = self.random.around(self.plan.deed_gap);
        self.after(gap, Event::Deed);
    }

    fn perform(&mut self, deed: Deed) {
        self.stage.chart.word(self.now, format!("{deed:?}"));
        match deed {
            Deed::Join => self.invite_spare(CODE_LASTS),
            Deed::Leave => self.let_leave(),
            Deed::Remove => self.remove(),
            Deed::Voters => self.change_target(),
            Deed::Move => self.relocate(),
            Deed::Sleep => self.sleep(),
            Deed::LoseDisk => self.lose_disk(),
            Deed::TwoAtOnce => self.act_together(),
            Deed::UsedCode => {
                if let Some(secret) = self.used.last().copied() {
                    self.give_spare(secret);
                }
            }
            Deed::FalseCode => {
                let secret = self.secret();
                self.give_spare(secret);
            }
            Deed::LateCode => self.invite_spare(Duration::ZERO),
            Deed::FormerKey => self.invite_former(),
            Deed::FalseChain => self.tell_false_chain(),
        }
    }

    fn secret(&mut self) -> [u8; SECRET_BYTES] {
        let mut secret = [0; SECRET_BYTES];
        secret[..8].copy_from_slice(&self.random.bits().to_le_bytes());
        secret
    }

    fn order(&mut self, member: usize, command: Command, errand: Errand) {
        let ticket = self.stage.order(member, self.now, command, PATIENCE);
        self.errands.insert(ticket, errand);
        self.wake_at(member, self.now);
    }

    fn invite_spare(&mut self, lasts: Duration) {
        if let Some(machine) = self.spare() {
            self.invite(machine, lasts);
        }
    }

    fn invite_former(&mut self) {
        let departed = |machine: &usize| {
            let standing = self.stage.agreement.order.membership.departure(&self.stage.group.id(*machine));
            standing.is_some() && self.machines[*machine].phase == Phase::Gone
        };
        if let Some(machine) = (0..self.size()).find(departed) {
            self.invite(machine, CODE_LASTS);
        }
    }

    /// Some member is asked for an invite for that machine.
    fn invite(&mut self, machine: usize, lasts: Duration) {
        let Some(member) = self.running() else { return };
        let secret = self.secret();
        let now = self.stage.nodes[member].shell.lock().clock.read(self.now).wall;
        // What lasts no time has expired by a second, so that clocks which differ by less judge it alike.
        let expires = WallTime(now.0 + lasts.as_nanos() as u64 - if lasts.is_zero() { 1_000_000_000 } else { 0 });
        self.order(
            member,
            Command::Invite { secret: secret_digest(&secret), expires },
            Errand::Invite { machine, secret },
        );
    }

    /// A machine nobody has used gets a join code that is no good.
    fn give_spare(&mut self, secret: [u8; SECRET_BYTES]) {
        if let Some(machine) = self.spare() {
            self.give_code(machine, secret);
        }
    }

    fn give_code(&mut self, machine: usize, secret: [u8; SECRET_BYTES]) {
        self.machines[machine].secret = Some(secret);
        self.machines[machine].doors = self.members();
        let delay = self.random.duration(Duration::from_millis(1), Duration::from_millis(800));
        self.after(delay, Event::Knock(machine));
    }

    /// An operator, or the machine, was answered.
    pub(super) fn answered(&mut self, ticket: Ticket, outcome: &Outcome) {
        let Some(errand) = self.errands.remove(&ticket) else { return };
        match (errand, outcome) {
            (Errand::Invite { machine, secret }, Outcome::Ordered { .. }) if self.takes_code(machine) => {
                self.give_code(machine, secret);
            }
            (Errand::Leave(member), Outcome::Rejected(_)) => self.machines[member].leaving = false,
            _ => {}
        }
    }

    fn takes_code(&self, machine: usize) -> bool {
        self.machines[machine].secret.is_none() && self.machines[machine].phase != Phase::Member
    }

    fn let_leave(&mut self) {
        let Some(member) = self.running().filter(|member| !self.machines[*member].leaving) else { return };
        self.machines[member].leaving = true;
        self.ask_to_leave(member);
    }

    /// The process is told to leave; after a restart it is told again.
    pub(super) fn ask_to_leave(&mut self, member: usize) {
        let ticket = self.stage.leave(member, self.now);
        self.errands.insert(ticket, Errand::Leave(member));
        self.wake_at(member, self.now);
    }

    /// Somebody is removed, rather one that is lost.
    fn remove(&mut self) {
        let membership = &self.stage.agreement.order.membership;
        let is_member = |machine: &usize| membership.member(&self.stage.group.id(*machine)).is_some();
        let known: Vec<usize> = (0..self.size()).filter(is_member).collect();
        let lost: Vec<usize> = known.iter().copied().filter(|machine| self.is_ended(*machine)).collect();
        let victims = if lost.is_empty() || self.random.chance(300) { known } else { lost };
        if victims.is_empty() {
            return;
        }
        let victim = victims[self.random.index(victims.len())];
        self.dismiss(victim);
    }

    fn dismiss(&mut self, victim: usize) {
        let Some(member) = self.running() else { return };
        self.machines[victim].dismissed = true;
        let command = Command::RemoveIntent { member: self.stage.group.id(victim) };
        self.order(member, command, Errand::None);
    }

    fn change_target(&mut self) {
        let Some(member) = self.running() else { return };
        let target = if self.stage.agreement.order.membership.target() == 3 { 5 } else { 3 };
        self.retargeted = self.now;
        self.order(member, Command::Configure { voters_target: Some(target), limits: None }, Errand::None);
    }

    fn relocate(&mut self) {
        let Some(member) = self.running().filter(|member| self.may_move(*member)) else { return };
        self.die(member);
        self.stage.nodes[member].moves += 1;
        let delay = self.random.duration(Duration::from_millis(5), Duration::from_millis(300));
        self.restart_after(member, delay);
    }

    fn sleep(&mut self) {
        let Some(member) = self.running() else { return };
        self.machines[member].slept = Some(self.epoch_seen(member));
        self.die(member);
        let delay = self.random.duration(Duration::from_secs(3), Duration::from_secs(16));
        self.restart_after(member, delay);
    }

    /// A disk is gone; mostly somebody removes the member, and a fresh machine joins in its place.
    fn lose_disk(&mut self) {
        let Some(member) = self.running().filter(|member| self.may_lose(*member)) else { return };
        if self.members().len() <= 1 {
            return;
        }
        self.stage.coverage.disks_lost += 1;
        self.machines[member].struck = Some(self.now);
        self.retire(member, "its disk is lost");
        if self.random.chance(500) {
            self.dismiss(member);
        }
        self.invite_spare(CODE_LASTS);
    }

    /// Two operators want things that do not go together, each of another member.
    fn act_together(&mut self) {
        let running: Vec<usize> =
            self.members().into_iter().filter(|member| self.stage.nodes[*member].runs()).collect();
        let [one, .., other] = running[..] else { return };
        self.stage.coverage.two_operators += 1;
        match self.random.below(3) {
            0 => {
                self.retargeted = self.now;
                for (member, target) in [(one, 3), (other, 5)] {
                    self.order(member, Command::Configure { voters_target: Some(target), limits: None }, Errand::None);
                }
            }
            1 => {
                let victim = running[self.random.index(running.len())];
                self.machines[victim].dismissed = true;
                for member in [one, other] {
                    let command = Command::RemoveIntent { member: self.stage.group.id(victim) };
                    self.order(member, command, Errand::None);
                }
            }
            _ => {
                // One join code for two machines.
                let secret = self.secret();
                self.give_spare(secret);
                self.give_spare(secret);
                let expires = WallTime(u64::MAX);
                self.order(one, Command::Invite { secret: secret_digest(&secret), expires }, Errand::None);
                self.order(other, Command::Invite { secret: secret_digest(&secret), expires }, Errand::None);
            }
        }
    }

    /// Somebody tells a member at its door that an epoch has ended that has not.
    fn tell_false_chain(&mut self) {
        let Some(to) = self.running() else { return };
        let Some(from) = (0..self.size()).find(|machine| !self.stage.nodes[*machine].runs()) else { return };
        let newest = &self.stage.agreement.epochs.newest().configuration;
        let signed = self.random.chance(500);
        let strangers = [stranger(1), stranger(2), stranger(3)];
        let link = forged_chain(newest, &strangers, signed);
        let told = Told {
            genesis: None,
            from: newest.epoch,
            links: vec![link],
            established: newest.epoch.next(),
            standing: Standing::Learner,
            contacts: Vec::new(),
        };
        self.stage.coverage.chains_forged += 1;
        let words = Words { from, to, message: DoorMessage::Tell(told), answers: None };
        self.at(self.now, Event::Words(Box::new(words)));
    }
}
