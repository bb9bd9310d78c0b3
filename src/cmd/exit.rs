//! Exit codes, in one table.

use std::fmt;
use std::process::ExitCode;

/// How a command ends. The numbers are part of what scripts rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, and the answer is yes.
    Success = 0,
    /// Failed, or the answer is no.
    Failure = 1,
    /// The command line or the configuration cannot be used; nothing was started.
    Usage = 2,
    /// Simulation: after the faults stopped there was no progress.
    Stalled = 3,
    /// Simulation: members disagree, or a promise was broken.
    Diverged = 4,
    /// Simulation: a member stopped by itself.
    Crashed = 5,
    /// Simulation: something that the seeds should have tried never happened.
    Uncovered = 6,
    /// Simulation: the removal of a safety rule was noticed by nothing.
    Unnoticed = 7,
    /// Simulation: one seed took two courses.
    Undetermined = 8,
    /// The command is planned and not there yet.
    NotThereYet = 9,
    /// This build cannot do that; another feature is needed.
    Unable = 64,
    /// Nobody answers, the group can admit nobody just now, or another process has the data directory: the same command may do
    /// later.
    Unavailable = 69,
    /// A bug: something that must hold did not.
    Bug = 70,
    /// The member has left its group or was removed: it is not started again.
    Departed = 71,
    /// Members contradict each other: this one stopped before it could break a promise, or what they proved shows it.
    Contradiction = 72,
    /// The member cannot come back under this identity.
    IdentityLost = 73,
    /// A write or a sync of the log failed.
    DiskFailed = 74,
    /// A publish, or a change of the membership, was sent and its answer did not come: it is perhaps ordered.
    OutcomeUnknown = 75,
    /// There is a group, and its door does not let this key in, now or later: the join code is unknown, used, expired or of another group,
    /// or what answers is not the group.
    NotAdmitted = 77,
}

impl Exit {
    /// Every code with its meaning, for the help.
    pub const TABLE: &[(Exit, &str)] = &[
        (Exit::Success, "done"),
        (
            Exit::Failure,
            "failed, or the answer is no (verify: not whole; doctor: a check failed; demo: the members differ)",
        ),
        (Exit::Usage, "the command line or the configuration cannot be used; nothing was started"),
        (Exit::Stalled, "sim: no progress after the faults stopped"),
        (Exit::Diverged, "sim: a promise was broken"),
        (Exit::Crashed, "sim: a member stopped by itself"),
        (Exit::Uncovered, "sim: a row of the coverage table is empty"),
        (Exit::Unnoticed, "sim: the removal of a safety rule was noticed by nothing"),
        (Exit::Undetermined, "sim: one seed took two courses"),
        (Exit::NotThereYet, "the command is not there yet"),
        (Exit::Unable, "this build cannot do that; build with the feature it names"),
        (
            Exit::Unavailable,
            "no sidecar answers; run, join: another process has the data directory; join: no member answers, or the group \
             admits nobody just now (no_quorum, busy): try again later",
        ),
        (Exit::Bug, "a bug: something that must hold did not; please report it"),
        (Exit::Departed, "run: this member has left or was removed, and is not started again under this identity"),
        (
            Exit::Contradiction,
            "members contradict each other: stopped before a promise is broken (verify: an epoch has two ends); keep all logs",
        ),
        (Exit::IdentityLost, "this member cannot come back under its identity (damaged, old or copied log)"),
        (Exit::DiskFailed, "a write or a sync of the log failed; what was promised stands on the disk"),
        (Exit::OutcomeUnknown, "no answer came: the message, or the change, is perhaps ordered; it was not repeated"),
        (
            Exit::NotAdmitted,
            "join: the group's door does not let this key in, for good; run with bootstrap.expect: there is a group of that \
             name already; the message says why",
        ),
    ];

    /// Ends of a member after which the same start would end in the same way, or do harm: somebody has to see to it first.
    pub const FINAL: &[Exit] = &[
        Exit::Usage,
        Exit::Unable,
        Exit::Departed,
        Exit::Contradiction,
        Exit::IdentityLost,
        Exit::DiskFailed,
        Exit::NotAdmitted,
    ];

    /// The table as it stands in the help.
    pub fn help() -> String {
        let line = |(exit, meaning): &(Exit, &str)| {
            let mark = if Exit::FINAL.contains(exit) { '!' } else { ' ' };
            format!("  {:>2}{mark} {meaning}\n", *exit as u8)
        };
        let lines: String = Exit::TABLE.iter().map(line).collect();
        format!("Exit codes (! is final: who starts members by itself, starts this one no more):\n{lines}")
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// A command that did not succeed: how it ends, and what to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How it ends.
    pub exit: Exit,
    /// For people: what, which limit, what to do. Empty if that has been told already.
    pub message: String,
}

impl Failure {
    /// A failure with its message.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Failure {
        Failure { exit, message: message.to_string() }
    }

    /// A failure whose reason has been told.
    pub fn told(exit: Exit) -> Failure {
        Failure { exit, message: String::new() }
    }

    /// The command did not do what it was asked.
    pub fn failed(message: impl fmt::Display) -> Failure {
        Failure::new(Exit::Failure, message)
    }

    /// The command line or the configuration cannot be used.
    pub fn usage(message: impl fmt::Display) -> Failure {
        Failure::new(Exit::Usage, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_told_once_and_in_order() {
        let codes: Vec<u8> = Exit::TABLE.iter().map(|(exit, _)| *exit as u8).collect();
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]), "{codes:?}");
    }

    #[test]
    fn systemd_restarts_no_member_whose_end_is_final() {
        let unit = include_str!("../../config/systemd/synod.service");
        let last: Vec<String> = Exit::FINAL.iter().map(|exit| (*exit as u8).to_string()).collect();
        let line = format!("RestartPreventExitStatus={}", last.join(" "));
        assert!(unit.lines().any(|other| other == line), "the unit lacks: {line}");
    }
}
