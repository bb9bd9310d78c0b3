//! Changes of a member's state, for the log of events.

use crate::driver::LogFigures;
use crate::types::{MemberId, Readiness, Role, Round, Snapshot};

/// Remembers what was told last.
pub struct StateLog {
    names: Vec<(MemberId, String)>,
    standing: Option<(Round, Role)>,
    ready: Option<bool>,
    disk_full: bool,
}

impl StateLog {
    /// With the members' names.
    pub fn new(names: Vec<(MemberId, String)>) -> StateLog {
        StateLog { names, standing: None, ready: None, disk_full: false }
    }

    /// Tells what changed since the last look.
    pub fn look(&mut self, snapshot: &Snapshot, log: &LogFigures) {
        let standing = (snapshot.round, snapshot.role);
        if self.standing.replace(standing) != Some(standing) {
            tracing::info!(round = %snapshot.round, leader = self.name(&snapshot.leader), role = ?snapshot.role, "standing");
        }
        let ready = snapshot.readiness == Readiness::Ready;
        if self.ready.replace(ready) != Some(ready) {
            match &snapshot.readiness {
                Readiness::Ready => tracing::info!(position = %snapshot.delivered, "ready"),
                Readiness::NotReady(reasons) => tracing::info!(reasons = reasons.join("; "), "not ready"),
            }
        }
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

    fn name(&self, member: &MemberId) -> &str {
        self.names.iter().find(|(id, _)| id == member).map_or("?", |(_, name)| name)
    }
}
