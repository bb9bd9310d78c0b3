//! What the sidecar says of itself; or that nobody answers, and what that means.

use std::path::Path;

use serde_json::Value;
use tokio::time::timeout;

use super::DoctorArguments;
use super::situation::Situation;
use crate::api::client::{Client, ClientError, Target};
use crate::cmd::sidecar::{ANSWER_MAX, silent};
use crate::cmd::status::cell;
use crate::node::examination::Finding;
use crate::types::ClusterId;

/// What came of asking.
#[derive(Default)]
pub struct Heard {
    /// Whether it answers.
    pub findings: Vec<Finding>,
    /// What it said, if it did.
    pub documents: Option<Documents>,
    /// Whether anything came back, be it that it is not ready to say more.
    pub answers: bool,
}

/// What a sidecar says of itself.
pub struct Documents {
    /// `GET /v1/status`.
    pub status: Value,
    /// `GET /v1/members`; null if it has no group yet.
    pub members: Value,
}

impl Documents {
    /// Every member, with its addresses.
    pub fn members(&self) -> &[Value] {
        self.members["members"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// The group it is of.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.status["cluster"].as_str()?.parse().ok()
    }

    /// Where its key and its log are, if it says so.
    pub fn data_dir(&self) -> Option<&Path> {
        self.status["data_dir"].as_str().map(Path::new)
    }

    /// Whether it waits for a group.
    pub fn is_candidate(&self) -> bool {
        self.status["member"].is_null() || self.status["cluster"].is_null()
    }
}

const CHECK: &str = "sidecar";

/// Asks for what it says of itself.
pub async fn hear(arguments: &DoctorArguments, situation: &Situation) -> Heard {
    let client = match arguments.api.client(&arguments.settings) {
        Ok(client) => client,
        // The settings cannot be used; it may run all the same, on those it was started with.
        Err(failure) => match situation.data_dir.as_ref().map(|data_dir| data_dir.join("synod.sock")) {
            Some(socket) if socket.exists() => Client::new(Target::Unix(socket)),
            _ => {
                let what = format!("not looked for: {}", failure.message.lines().next().unwrap_or_default());
                let advice = "correct the configuration, or say by --api where the sidecar is";
                return Heard { findings: vec![Finding::warn(CHECK, what, advice)], ..Heard::default() };
            }
        },
    };
    let status = match asked(&client, "/v1/status").await {
        Ok(status) => status,
        Err(no) => {
            let answers = matches!(no, NotHeard::Error(ClientError::Refused(_)));
            let finding = not_heard(&client, no, arguments.api.names_sidecar());
            return Heard { findings: vec![finding], documents: None, answers };
        }
    };
    let mut findings = vec![answers(&client, &status)];
    let members = match asked(&client, "/v1/members").await {
        Ok(members) => members,
        Err(_) if status["cluster"].is_null() => Value::Null,
        Err(no) => {
            let what = format!("it does not say who the members are: {}", no.reason(&client));
            findings.push(Finding::warn("members", what, "ask again; see the sidecar's log"));
            Value::Null
        }
    };
    Heard { findings, documents: Some(Documents { status, members }), answers: true }
}

/// Why there is no document.
enum NotHeard {
    Late,
    Error(ClientError),
}

impl NotHeard {
    fn reason(&self, client: &Client) -> String {
        match self {
            NotHeard::Late => silent(client, ANSWER_MAX),
            NotHeard::Error(error) => error.to_string(),
        }
    }
}

async fn asked(client: &Client, path: &str) -> Result<Value, NotHeard> {
    let answer = timeout(ANSWER_MAX, client.get_json(path)).await;
    answer.map_err(|_| NotHeard::Late)?.map_err(NotHeard::Error)
}

fn answers(client: &Client, status: &Value) -> Finding {
    let (theirs, ours) = (cell(&status["version"]), env!("CARGO_PKG_VERSION"));
    // A member to be has no name in a group yet.
    let who = if status["name"].is_null() { &status["role"] } else { &status["name"] };
    let what = format!("{} answers: {}", client.target(), cell(who));
    if theirs == ours {
        return Finding::ok(CHECK, what);
    }
    let what = format!("{what}; it is version {theirs}, this program is {ours}");
    Finding::warn(CHECK, what, "run the same release for both: what this program does not know it cannot judge")
}

/// `named`: it was said that it is there, so it should be.
fn not_heard(client: &Client, no: NotHeard, named: bool) -> Finding {
    let reason = no.reason(client);
    match no {
        NotHeard::Late => Finding::fail(CHECK, reason, "look at its process: a paused one goes on with `kill -CONT`"),
        NotHeard::Error(ClientError::Unreachable { .. }) if named => {
            Finding::fail(CHECK, reason, "start it, or correct --api (SYNOD_API)")
        }
        NotHeard::Error(ClientError::Unreachable { .. }) => {
            let what = format!("does not run, or listens elsewhere: {reason}");
            Finding::warn(CHECK, what, "start it with `synod run`; what follows was looked at without it")
        }
        NotHeard::Error(ClientError::Refused(problem)) if problem.status == 401 => {
            Finding::fail(CHECK, reason, "give its token by --token-file, or ask at its Unix socket, which needs none")
        }
        NotHeard::Error(ClientError::Refused(problem)) if problem.retryable => {
            Finding::warn(CHECK, format!("{} answers: {}", client.target(), problem.detail), problem.advice.clone())
        }
        NotHeard::Error(ClientError::Refused(problem)) => Finding::fail(CHECK, reason, problem.advice.clone()),
        NotHeard::Error(_) => {
            Finding::fail(CHECK, reason, "see that a sidecar of this release listens there, and its log")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::node::examination::State;

    fn client() -> Client {
        Client::new(Target::Tcp("127.0.0.1:7171".to_owned()))
    }

    fn unreachable() -> NotHeard {
        let error = std::io::ErrorKind::ConnectionRefused.into();
        NotHeard::Error(ClientError::Unreachable { target: Target::Tcp("127.0.0.1:7171".to_owned()), error })
    }

    #[test]
    fn a_member_that_does_not_run_is_no_failure_unless_it_was_said_to() {
        assert_eq!(not_heard(&client(), unreachable(), false).state, State::Warn);
        assert_eq!(not_heard(&client(), unreachable(), true).state, State::Fail);
        let late = not_heard(&client(), NotHeard::Late, false);
        assert!(late.state == State::Fail && late.what.contains("may be paused"));
    }

    #[test]
    fn another_release_is_told() {
        let status = |version: &str| json!({ "version": version, "name": "n1" });
        assert_eq!(answers(&client(), &status(env!("CARGO_PKG_VERSION"))).state, State::Ok);
        assert_eq!(answers(&client(), &status("99.0")).state, State::Warn);
    }

    #[test]
    fn who_has_no_group_is_told_from_a_member() {
        let documents = |status| Documents { status, members: Value::Null };
        assert!(documents(json!({ "role": "candidate" })).is_candidate());
        assert!(!documents(json!({ "member": "a", "cluster": "b" })).is_candidate());
    }
}
