//! `synod tail`: the order, message by message.

use serde_json::Value;

use super::exit::{Exit, Failure};
use super::output::{Output, print_line};
use super::sidecar::{self, SidecarArguments};
use super::status::cell;
use crate::api::client::query_text;

/// What to show.
#[derive(Debug, clap::Args)]
pub struct TailArguments {
    #[command(flatten)]
    sidecar: SidecarArguments,
    /// Begin after this position: a number, 0 for the start, or `latest`
    #[arg(long, default_value = "0", value_name = "POSITION")]
    after: String,
    /// Only messages of this topic; may be repeated
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// Leave out what is about the group itself: who comes and goes, and epochs
    #[arg(long)]
    no_system: bool,
    /// End after so many messages
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// End at what is there now instead of waiting for more
    #[arg(long)]
    no_follow: bool,
}

/// Runs the command.
pub fn run(arguments: &TailArguments, output: Output) -> Result<(), Failure> {
    let client = arguments.sidecar.client()?;
    sidecar::block_on(async {
        let mut lines = client.lines(&arguments.path()).await.map_err(sidecar::failure)?;
        let mut last = None;
        let mut shown = 0;
        loop {
            let line = lines.next().await.map_err(|error| interrupted(error, &last))?;
            let Some(line) = line else { break };
            let event: Value = serde_json::from_slice(&line)
                .map_err(|error| Failure::failed(format!("the sidecar sent a line that is not JSON: {error}")))?;
            last = event["position"].as_u64();
            shown += 1;
            match output {
                Output::Json => print_line(&event.to_string()),
                Output::Text => print_line(&text(&event)),
            }
        }
        let ended_early = !arguments.no_follow && arguments.limit.is_none_or(|limit| shown < limit);
        if ended_early { Err(interrupted("the sidecar stops", &last)) } else { Ok(()) }
    })
}

impl TailArguments {
    fn path(&self) -> String {
        let mut path = format!("/v1/messages?after={}&follow={}", query_text(&self.after), !self.no_follow);
        for topic in &self.topics {
            path.push_str(&format!("&topic={}", query_text(topic)));
        }
        if self.no_system {
            path.push_str("&system=false");
        }
        if let Some(limit) = self.limit {
            path.push_str(&format!("&limit={limit}"));
        }
        path
    }
}

fn interrupted(why: impl std::fmt::Display, last: &Option<u64>) -> Failure {
    let resume = last.map(|last| format!("; go on with --after {last}")).unwrap_or_default();
    Failure::new(Exit::Unavailable, format!("{why}{resume}"))
}

fn text(event: &Value) -> String {
    let data = match &event["data"] {
        Value::Null => match event["data_base64"].as_str() {
            Some(data) => format!("base64 {data}"),
            None => String::new(),
        },
        data => cell(data),
    };
    format!("{:>8}  {}  {}  {data}", cell(&event["position"]), cell(&event["time"]), cell(&event["type"]))
}
