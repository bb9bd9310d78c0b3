//! Changes of a member's state, for the log of events.

use super::progress::Pursuit;
use crate::driver::LogFigures;
use crate::types::{Epoch, Instant, MemberId, Readiness, Role, Round, Snapshot};

/// Remembers what was told last.
#[derive(Debug, Default)]
pub struct StateLog {
    standing: Option<(Round, Role)>,
    epoch: Option<(Epoch, Vec<MemberId>)>,
    ready: Option<bool>,
    leaving: bool,
    waits_for: Vec<String>,
    disk_full: bool,
    pursuit: Pursuit,
}

impl StateLog {
    /// Tells what changed since the last look.
    pub fn look(&mut self, snapshot: &Snapshot, log: &LogFigures, now: Instant) {
        self.look_at_members(snapshot);
        let standing = (snapshot.round, snapshot.role);
        if self.standing.replace(standing) != Some(standing) {
            tracing::info!(round = %snapshot.round, leader = name(snapshot, &snapshot.leader), role = ?snapshot.role, "standing");
        }
        let ready = snapshot.readiness == Readiness::Ready;
        if self.ready.replace(ready) != Some(ready) {
            match &snapshot.readiness {
                Readiness::Ready => tracing::info!(position = %snapshot.delivered, "ready"),
                Readiness::NotReady(reasons) => tracing::info!(reasons = reasons.join("; "), "not ready"),
            }
        }
        self.look_at_departure(snapshot);
        let way = snapshot.catching_up.map(|(from, to)| (from, snapshot.slot_decided, to));
        self.pursuit.look(way, now);
        let full = log.disk_full.is_some();
        if std::mem::replace(&mut self.disk_full, full) != full {
            match &log.disk_full {
                Some(reason) => tracing::error!(
                    %reason,
                    "disk full: publishes are refused until there is room; reads go on, nothing is lost"
                ),
                None => tracing::info!("there is room on the disk again"),
            }
        }
    }

    fn look_at_members(&mut self, snapshot: &Snapshot) {
        let membership = &snapshot.membership;
        let epoch = membership.configuration.epoch;
        let members = membership.members.iter();
        if self.epoch.as_ref().is_some_and(|(told, ids)| {
            *told == epoch && members.clone().map(|member| member.id).eq(ids.iter().copied())
        }) {
            return;
        }
        let (mut voters, mut learners) = (Vec::new(), Vec::new());
        for member in members.clone() {
            if member.votes { &mut voters } else { &mut learners }.push(member.name.as_str());
        }
        tracing::info!(%epoch, voters = voters.join(" "), learners = learners.join(" "), "members");
        self.epoch = Some((epoch, members.map(|member| member.id).collect()));
    }

    /// What a leave waits for.
    fn look_at_departure(&mut self, snapshot: &Snapshot) {
        let leaving = std::mem::replace(&mut self.leaving, snapshot.leaving);
        if snapshot.leaving && (!leaving || self.waits_for != snapshot.waits_for) {
            tracing::info!(waits_for = snapshot.waits_for.join("; "), "leaving the group");
            self.waits_for.clone_from(&snapshot.waits_for);
        }
    }
}

/// A member's name for people, as far as the order has told it.
fn name(snapshot: &Snapshot, member: &MemberId) -> String {
    let named = snapshot.membership.members.iter().find(|known| known.id == *member);
    named.map_or_else(|| member.short(), |named| named.name.clone())
}
