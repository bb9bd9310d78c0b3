//! Waiting for facts about a group, each within a bound.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::member_process::MemberProcess;
use super::poll;
use crate::api::client::Client;
use crate::cmd::exit::Failure;
use crate::cmd::sidecar;

const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(25);
/// A head that does not move for this long is the last one.
const QUIET: Duration = Duration::from_millis(300);

/// Waits until something is so.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        sleep_before(deadline, what).await?;
    }
    Ok(())
}

/// Waits until every member is ready. One that ends meanwhile is told.
pub async fn ready(members: &mut [MemberProcess], clients: &[Client]) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    for (member, client) in members.iter_mut().zip(clients) {
        ready_before(member, client, deadline).await?;
    }
    Ok(())
}

/// Waits until a member is ready, for a time of the caller's choice.
pub async fn ready_within(member: &mut MemberProcess, client: &Client, patience: Duration) -> Result<(), Failure> {
    ready_before(member, client, Instant::now() + patience).await
}

async fn ready_before(member: &mut MemberProcess, client: &Client, deadline: Instant) -> Result<(), Failure> {
    while !poll::standing(member, client).await.is_ready() {
        if let Some(status) = member.exit_status() {
            let log = member.log_path();
            return Err(Failure::failed(format!("{} ended ({status}); see {}", member.name(), log.display())));
        }
        sleep_before(deadline, &format!("{} is ready", member.name())).await?;
    }
    Ok(())
}

/// Waits until all members have delivered the same, and nothing more comes. Gives the last position.
pub async fn same_head(members: &mut [MemberProcess], clients: &[Client]) -> Result<u64, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut since: Option<(u64, Instant)> = None;
    loop {
        let mut heads = Vec::new();
        for (member, client) in members.iter_mut().zip(clients) {
            heads.push(poll::standing(member, client).await.delivered);
        }
        let head = heads[0];
        let same = heads.iter().all(|other| *other == head);
        match since {
            Some((last, at)) if same && last == head => {
                if at.elapsed() >= QUIET {
                    return Ok(head);
                }
            }
            _ => since = same.then(|| (head, Instant::now())),
        }
        sleep_before(deadline, &format!("all members have the same head (now {heads:?})")).await?;
    }
}

/// Which member leads, as the first that answers says.
pub async fn leader(members: &[MemberProcess], clients: &[Client]) -> Result<usize, Failure> {
    let status: Value = clients[0].get_json("/v1/status").await.map_err(sidecar::failure)?;
    let named =
        members.iter().position(|member| member.member().is_some_and(|member| status["leader"] == member.to_string()));
    named.ok_or_else(|| Failure::failed(format!("nobody leads: {}", status["leader"])))
}

async fn sleep_before(deadline: Instant, what: &str) -> Result<(), Failure> {
    if Instant::now() >= deadline {
        return Err(Failure::failed(format!("waited in vain until {what}")));
    }
    sleep(LOOK_INTERVAL).await;
    Ok(())
}
