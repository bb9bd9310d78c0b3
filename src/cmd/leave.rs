//! `synod leave`: this member leaves the group, for good.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::exit::{Exit, Failure};
use super::output::{Output, Progress};
use super::sidecar::{self, SidecarArguments};
use super::status::words;
use crate::api::client::Client;
use crate::types::text::{duration, duration_text};

/// How to leave.
#[derive(Debug, clap::Args)]
pub struct LeaveArguments {
    #[command(flatten)]
    sidecar: SidecarArguments,
    /// Give up waiting after this; the member goes on leaving [default: wait as long as it takes]
    #[arg(long, value_parser = duration)]
    timeout: Option<Duration>,
}

const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// A status takes no longer than this, or the sidecar stands still.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// Runs the command; it ends when the member may go, and then its process ends by itself.
pub fn run(arguments: &LeaveArguments, output: Output) -> Result<(), Failure> {
    let client = arguments.sidecar.client()?;
    let mut progress = Progress::new(output);
    let answer = sidecar::block_on(leave(&client, arguments.timeout, |waits_for| progress.tell(waits_for)))?;
    output.print(&answer, || match answer["left"] == true {
        true => "left: nothing of this member is missing, and its process ends".to_owned(),
        false => format!("not left yet, and still leaving; waiting for: {}", words(&answer["waits_for"], "; ")),
    });
    if answer["left"] == true { Ok(()) } else { Err(Failure::told(Exit::Failure)) }
}

/// Lets a member leave, and says again and again what it waits for.
pub async fn leave(client: &Client, timeout: Option<Duration>, mut tell: impl FnMut(&str)) -> Result<Value, Failure> {
    let wish = timeout.map_or(json!({}), |timeout| json!({ "timeout": duration_text(timeout) }));
    let mut answer = Box::pin(client.change(Method::POST, "/v1/leave", &wish));
    let patience = timeout.map_or(Duration::MAX, |timeout| timeout.saturating_add(sidecar::ANSWER_MAX));
    let mut silent_for = Duration::ZERO;
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            answer = &mut answer => return answer.map_err(sidecar::change_failure),
            _ = look.tick() => {
                // Its answer to this may come late or never; the answer to the leave says how it ends.
                let look = tokio::time::timeout(LOOK_MAX, client.get_json::<Value>("/v1/status"));
                match look.await {
                    Ok(Ok(status)) => {
                        silent_for = Duration::ZERO;
                        tell(&words(&status["waits_for"], "; "));
                    }
                    Ok(Err(_)) => {}
                    Err(_) => {
                        silent_for += LOOK_MAX;
                        tell(&sidecar::silent(client, silent_for));
                        if silent_for >= patience {
                            return Err(Failure::new(Exit::Unavailable, sidecar::silent(client, silent_for)));
                        }
                    }
                }
            }
        }
    }
}
