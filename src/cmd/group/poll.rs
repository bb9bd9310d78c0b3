//! What each member of a group says of itself just now.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use super::member_process::MemberProcess;
use crate::api::client::{Client, Target};
use crate::cmd::status::catching_up;

/// A member that does not answer within this is not waited for.
const PATIENCE: Duration = Duration::from_millis(400);

/// How a member stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// One word, or a few, for people.
    pub state: String,
    /// Its role, if it says so.
    pub role: String,
    /// The last position it delivered.
    pub delivered: u64,
}

impl Standing {
    /// Whether it serves.
    pub fn is_ready(&self) -> bool {
        self.state == "ready"
    }
}

/// A client of a member's API over TCP.
pub fn client(member: &MemberProcess) -> Client {
    Client::new(Target::Tcp(member.settings().api.listen.to_string()))
}

/// Asks one member.
pub async fn standing(member: &mut MemberProcess, client: &Client) -> Standing {
    let answer = timeout(PATIENCE, client.get_json::<Value>("/v1/status")).await;
    let silent = |state: String| Standing { state, role: "-".to_owned(), delivered: 0 };
    match answer {
        Ok(Ok(status)) => Standing {
            state: state(&status),
            role: status["role"].as_str().unwrap_or("-").to_owned(),
            delivered: status["delivered"].as_u64().unwrap_or_default(),
        },
        Ok(Err(_)) if member.pid().is_some() => silent("starting".to_owned()),
        Ok(Err(_)) => silent(match member.exit_status() {
            Some(status) => format!("ended ({status})"),
            None => "not running".to_owned(),
        }),
        Err(_) => silent("does not answer".to_owned()),
    }
}

fn state(status: &Value) -> String {
    match catching_up(status) {
        _ if status["ready"] == true => "ready".to_owned(),
        Some(way) => format!("catching {way}"),
        None if status["leaving"] == true => "leaving".to_owned(),
        None => "not ready".to_owned(),
    }
}
