//! What `synod doctor` looks at beside a member, whether it runs or not: its directory, its disk, its ports, and the ways
//! to the others. Each look gives *findings*; nothing of the member is changed by any.
//!
//! | file | looks at |
//! |---|---|
//! | `directory` | the data directory, its key, its marks, its log at a glance |
//! | `disk` | room on the volume, and what one write of the log takes there |
//! | `host_api` | the token, and the place of the socket |
//! | `ports` | whether the member's addresses can be listened on |
//! | `holders` | which process has a port, as far as `/proc` tells |
//! | `doors`, `reached` | every address that is known: its name, and who answers there |

pub mod directory;
pub mod disk;
pub mod doors;
pub mod holders;
pub mod host_api;
pub mod ports;
pub mod reached;

use serde_json::{Value, json};

/// What one check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, in a word or two; the name of a member may follow.
    pub check: String,
    /// How it stands.
    pub state: State,
    /// What was found, for people.
    pub what: String,
    /// What to do; none where nothing is to be done.
    pub advice: Option<String>,
}

/// How a check stands, from well to ill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    Ok,
    /// The member works, or would; somebody should look at it.
    Warn,
    /// It keeps this member from working, or will.
    Fail,
}

impl Finding {
    /// As it should be.
    pub fn ok(check: impl Into<String>, what: impl Into<String>) -> Finding {
        Finding { check: check.into(), state: State::Ok, what: what.into(), advice: None }
    }

    /// To be looked at, with what to do.
    pub fn warn(check: impl Into<String>, what: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { check: check.into(), state: State::Warn, what: what.into(), advice: Some(advice.into()) }
    }

    /// To be mended, with what to do.
    pub fn fail(check: impl Into<String>, what: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { check: check.into(), state: State::Fail, what: what.into(), advice: Some(advice.into()) }
    }

    /// The finding for scripts.
    pub fn document(&self) -> Value {
        json!({ "check": self.check, "state": self.state.name(), "what": self.what, "advice": self.advice })
    }
}

impl State {
    /// Its name for scripts.
    pub fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "fail",
        }
    }
}

/// The worst of all; well, if there is none.
pub fn worst(findings: &[Finding]) -> State {
    findings.iter().map(|finding| finding.state).max().unwrap_or(State::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_counts() {
        let (ok, warn, fail) = (Finding::ok("a", "b"), Finding::warn("a", "b", "c"), Finding::fail("a", "b", "c"));
        assert_eq!(worst(&[]), State::Ok);
        assert_eq!(worst(&[ok.clone(), warn.clone()]), State::Warn);
        assert_eq!(worst(&[fail.clone(), warn, ok.clone()]), State::Fail);
        assert_eq!(ok.document()["advice"], Value::Null);
        assert_eq!(fail.document(), json!({ "check": "a", "state": "fail", "what": "b", "advice": "c" }));
    }
}
