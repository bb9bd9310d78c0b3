//! What was found at an address that a source tells.

use std::fmt;

use crate::types::{ClusterId, MemberId};

/// What is at an address, as far as it was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not asked yet.
    Waiting,
    /// We are.
    Ourselves,
    /// A member that there is a link to.
    Linked(MemberId),
    /// A member that is dialled as every member is.
    Member(MemberId),
    /// One that says it is of our group, which does not know it here; its door is asked.
    Unknown(MemberId),
    /// A candidate for a group of our name.
    Candidate(MemberId),
    /// A member of another group.
    OtherGroup {
        /// Its name.
        name: String,
        /// Its id, where it is of our name.
        cluster: Option<ClusterId>,
    },
    /// Somebody who is no member, and why that was said.
    NotAMember {
        /// Who.
        key: MemberId,
        /// What it answered.
        why: String,
    },
    /// Nobody whom we could reach.
    Unreachable(String),
}

impl Outcome {
    /// In one word, for scripts.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Waiting => "waiting",
            Outcome::Ourselves => "ourselves",
            Outcome::Linked(_) => "linked",
            Outcome::Member(_) => "member",
            Outcome::Unknown(_) => "unknown_member",
            Outcome::Candidate(_) => "candidate",
            Outcome::OtherGroup { .. } => "other_group",
            Outcome::NotAMember { .. } => "not_a_member",
            Outcome::Unreachable(_) => "unreachable",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Waiting => f.write_str("not asked yet"),
            Outcome::Ourselves => f.write_str("this member itself"),
            Outcome::Linked(key) => write!(f, "member {}, linked", key.short()),
            Outcome::Member(key) => write!(f, "member {}, not linked", key.short()),
            Outcome::Unknown(key) => {
                write!(f, "{} says it is a member of this group, but is not known here", key.short())
            }
            Outcome::Candidate(key) => write!(f, "candidate {}", key.short()),
            Outcome::OtherGroup { name, cluster: None } => write!(f, "a member of another group, `{name}`"),
            Outcome::OtherGroup { name, cluster: Some(id) } => {
                write!(f, "a member of another group of the same name, `{name}`, with the id {id}")
            }
            Outcome::NotAMember { key, why } => write!(f, "{} is no member: {why}", key.short()),
            Outcome::Unreachable(why) => write!(f, "not reached: {why}"),
        }
    }
}
