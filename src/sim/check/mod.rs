//! What must hold at every step, each duty in its own file. The checkers read the bytes that became durable, the
//! messages that left, and what hosts were told; never what a member believes.

mod agreement;
mod epochs;
mod membership;
mod order;
mod progress;
mod promises;
mod sequence;
mod statements;
mod storage;

use std::fmt;

pub use agreement::Agreement;
pub use epochs::Epochs;
pub use membership::Membership;
pub use order::{Order, Row, What};
pub use progress::unfinished;
pub use promises::{Fate, Promises, Wish};
pub use sequence::{Sequence, Witness};
pub use statements::Statements;
pub use storage::{Placed, Storage};

/// Something that must never happen has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise or rule.
    pub rule: &'static str,
    /// What happened.
    pub text: String,
}

impl Violation {
    /// A violation of `rule`.
    pub fn new(rule: &'static str, text: impl Into<String>) -> Violation {
        Violation { rule, text: text.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}
