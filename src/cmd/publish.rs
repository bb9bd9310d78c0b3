//! `synod publish`: messages, one after another. A message whose answer did not come is perhaps ordered, and is never
//! sent again.

use std::io::{BufRead, Read};

use bytes::Bytes;
use serde_json::{Value, json};

use super::exit::{Exit, Failure};
use super::output::Output;
use super::sidecar::{self, SidecarArguments};
use crate::api::client::{Client, Receipt};
use crate::types::Ack;

/// What to publish.
#[derive(Debug, clap::Args)]
pub struct PublishArguments {
    #[command(flatten)]
    sidecar: SidecarArguments,
    /// The message [default: all of standard input]
    message: Option<String>,
    /// Publish each line of standard input as a message of its own
    #[arg(long, conflicts_with = "message")]
    lines: bool,
    /// Topic of the message
    #[arg(long, default_value = "messages")]
    topic: String,
    /// Content type [default: text/plain for an argument or lines, application/octet-stream for standard input]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// What to wait for: its place in the order, or that it is durable at this member and will get one
    #[arg(long, value_enum, default_value = "ordered")]
    ack: AckArgument,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum AckArgument {
    Ordered,
    Accepted,
}

const TEXT: &str = "text/plain; charset=utf-8";

/// Runs the command.
pub fn run(arguments: &PublishArguments, output: Output) -> Result<(), Failure> {
    let client = arguments.sidecar.client()?;
    let unreadable = |error: std::io::Error| Failure::failed(format!("standard input cannot be read: {error}"));
    sidecar::block_on(async {
        if let Some(message) = &arguments.message {
            return arguments.publish(&client, message.clone().into(), Some(TEXT), output).await;
        }
        if !arguments.lines {
            let mut body = Vec::new();
            std::io::stdin().read_to_end(&mut body).map_err(unreadable)?;
            return arguments.publish(&client, body.into(), None, output).await;
        }
        for (index, line) in std::io::stdin().lock().lines().enumerate() {
            let line = line.map_err(unreadable)?;
            arguments.publish(&client, line.into(), Some(TEXT), output).await.map_err(|failure| {
                let message = format!("line {}: {}\n{index} lines before it are published", index + 1, failure.message);
                Failure { exit: failure.exit, message }
            })?;
        }
        Ok(())
    })
}

impl PublishArguments {
    async fn publish(
        &self,
        client: &Client,
        body: Bytes,
        content_type: Option<&str>,
        output: Output,
    ) -> Result<(), Failure> {
        let ack = match self.ack {
            AckArgument::Ordered => Ack::Ordered,
            AckArgument::Accepted => Ack::Accepted,
        };
        let content_type = self.content_type.as_deref().or(content_type);
        let receipt = client.publish(&self.topic, content_type, ack, body).await.map_err(|error| {
            if error.is_rejected() {
                return sidecar::failure(error);
            }
            Failure::new(
                Exit::OutcomeUnknown,
                format!(
                    "{error}\nthe message is perhaps ordered, and was not sent again; `synod tail` shows whether it is"
                ),
            )
        })?;
        output.print(&document(&receipt), || match &receipt {
            Receipt::Ordered { position, .. } => format!("ordered at position {position}"),
            Receipt::Accepted { id } => format!("accepted as {id}"),
        });
        Ok(())
    }
}

fn document(receipt: &Receipt) -> Value {
    match receipt {
        Receipt::Ordered { position, epoch, hlc, duplicate } => {
            json!({ "ack": "ordered", "position": position, "epoch": epoch, "hlc": hlc, "duplicate": duplicate })
        }
        Receipt::Accepted { id } => json!({ "ack": "accepted", "id": id }),
    }
}
