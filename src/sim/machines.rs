//! What each machine is to the group, and how many of them may be lost.

use std::time::Duration;

use super::clock::Moment;
use super::node::Life;
use super::world::World;
use crate::types::join_code::SECRET_BYTES;
use crate::types::{Configuration, Epoch, MemberId};

/// Nobody takes for alive whose disk was lost so long ago.
const UNNOTICED: Duration = Duration::from_secs(8);

/// One machine of the random world.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    /// What it is.
    pub phase: Phase,
    /// The secret of the join code that it knocks with.
    pub secret: Option<[u8; SECRET_BYTES]>,
    /// Whose doors its join code names.
    pub doors: Vec<usize>,
    /// Nothing that is said to it before its next knock arrives: it crashed.
    pub deaf: bool,
    /// It was told to leave.
    pub leaving: bool,
    /// An operator wanted it removed.
    pub dismissed: bool,
    /// When its disk was damaged or lost.
    pub struck: Option<Moment>,
    /// The newest epoch that it knew when it fell asleep.
    pub slept: Option<Epoch>,
}

/// What a machine is to the group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has no key that the group knows.
    #[default]
    Spare,
    /// It has the genesis, and a process if it does not happen to be down.
    Member,
    /// It has left, was removed, or lost its disk.
    Gone,
}

impl World {
    /// Machines that are members, or believe it, and may run.
    pub(super) fn members(&self) -> Vec<usize> {
        (0..self.size()).filter(|machine| self.is_member(*machine)).collect()
    }

    pub(super) fn is_member(&self, machine: usize) -> bool {
        self.machines[machine].phase == Phase::Member && !self.is_ended(machine)
    }

    pub(super) fn is_ended(&self, machine: usize) -> bool {
        matches!(self.stage.nodes[machine].life, Life::Ended(_))
    }

    /// A member that runs, drawn; none if nobody does.
    pub(super) fn running(&mut self) -> Option<usize> {
        let running: Vec<usize> =
            self.members().into_iter().filter(|member| self.stage.nodes[*member].runs()).collect();
        (!running.is_empty()).then(|| running[self.random.index(running.len())])
    }

    /// A machine nobody has used yet, the lowest.
    pub(super) fn spare(&self) -> Option<usize> {
        let is_spare = |machine: &usize| {
            let machine = &self.machines[*machine];
            machine.phase == Phase::Spare && machine.secret.is_none()
        };
        (0..self.size()).find(is_spare)
    }

    /// A machine ends for good.
    pub(super) fn retire(&mut self, member: usize, reason: &str) {
        self.machines[member].phase = Phase::Gone;
        self.draining[member] = false;
        self.stage.end(member, self.now, reason.to_owned());
        self.unlink(member);
    }

    /// Whether a member's disk may be damaged or lost: of the voters of every epoch that may still decide something, f at
    /// most ever are. More could lose what the group decided, or stop it.
    pub(super) fn may_lose(&self, member: usize) -> bool {
        // Who has moved is found by nobody until the order says where it is.
        self.members().into_iter().all(|member| self.is_settled(member))
            && self.deciding().into_iter().all(|configuration| self.spares(configuration, member))
            && self.next_spares(member)
    }

    /// Configurations that may decide something, or soon: of the newest epoch, of the one before it until that is
    /// established, and whatever leaders proposed.
    fn deciding(&self) -> Vec<&Configuration> {
        let epochs = &self.stage.agreement.epochs;
        let newest = &epochs.newest().configuration;
        let mut deciding = vec![newest];
        if !epochs.newest().established {
            let before = Epoch(newest.epoch.0 - 1);
            deciding.extend(epochs.at(before).map(|epoch| &epoch.configuration));
        }
        deciding.extend(self.stage.ends_proposed.iter().filter(|end| end.epoch == newest.epoch.next()));
        deciding
    }

    /// Whether these voters can do without a member, if it is one of them.
    fn spares(&self, configuration: &Configuration, member: usize) -> bool {
        let index = |voter: &MemberId| self.stage.group.index(voter).expect("voters are machines");
        let voters: Vec<usize> = configuration.voters.iter().map(index).collect();
        let lost = voters.iter().filter(|voter| **voter != member && self.is_fragile(**voter)).count();
        !voters.contains(&member) || lost + configuration.quorum() < voters.len()
    }

    /// Whether a next epoch can do without a member that is lost now: for a while a leader takes it for alive, and may end the
    /// epoch with it.
    fn next_spares(&self, member: usize) -> bool {
        let newest = &self.stage.agreement.epochs.newest().configuration;
        let steady =
            self.now.since(self.retargeted) >= UNNOTICED && newest.voters.len() <= newest.voters_target as usize;
        let smallest = if steady { newest.voters.len() } else { newest.voters.len().min(3) };
        let votes = |machine: &usize| self.stage.agreement.epochs.votes(*machine, newest.epoch);
        let lately = |machine: &usize| self.machines[*machine].struck.is_some_and(|at| self.now.since(at) < UNNOTICED);
        let others = (0..self.size()).filter(|machine| *machine != member);
        let lost = others.filter(|machine| self.is_fragile(*machine) && (votes(machine) || lately(machine))).count();
        lost < (smallest - 1) / 2
    }

    fn is_fragile(&self, member: usize) -> bool {
        self.rotten[member].is_some() || self.is_ended(member)
    }

    /// Whether a member finds somebody at an address that it knew last.
    pub(super) fn knows_anybody(&self, member: usize) -> bool {
        self.known(member) > 0
    }

    fn known(&self, member: usize) -> usize {
        let found = |peer: &usize| *peer != member && self.stage.address_known(member, *peer);
        self.members().iter().filter(|peer| found(peer)).count()
    }

    /// A member may move if everybody else is where the order says, and it knows two of them: else nobody might ever find it.
    pub(super) fn may_move(&self, member: usize) -> bool {
        let others: Vec<usize> = self.members().into_iter().filter(|other| *other != member).collect();
        others.iter().all(|other| self.is_settled(*other)) && self.known(member) >= others.len().clamp(1, 2)
    }

    /// Whether a member is where the order says, if it is in the order.
    fn is_settled(&self, member: usize) -> bool {
        let known = self.stage.agreement.order.membership.member(&self.stage.group.id(member));
        known.is_none_or(|known| known.addresses == [self.stage.nodes[member].address()])
    }

    /// The newest epoch that a member's host saw.
    pub(super) fn epoch_seen(&self, member: usize) -> Epoch {
        let rows = self.stage.sequence.rows(member);
        let last = rows.checked_sub(1).map(|row| &self.stage.agreement.order.rows[row]);
        last.map_or(Epoch(0), |row| row.epoch)
    }

    /// Gives whoever knows nobody any more the addresses of the others, as its operator would.
    pub(super) fn rescue(&mut self, member: usize) {
        let others = self.members().into_iter().filter(|other| *other != member);
        let contacts =
            others.map(|machine| self.stage.group.contact(machine, self.stage.nodes[machine].moves)).collect();
        self.stage.nodes[member].contacts = contacts;
        if self.stage.nodes[member].runs() {
            self.die(member);
            self.restart_after(member, Duration::from_millis(50));
        }
    }
}
