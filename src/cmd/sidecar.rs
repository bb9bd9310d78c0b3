//! Which sidecar a command speaks to, and how a refusal or a silence ends the command.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use tokio::time::timeout;

use super::exit::{Exit, Failure};
use super::settings_arguments::SettingsArguments;
use crate::api::client::{Client, ClientError, Target};
use crate::node::token;

/// How the sidecar is spoken to.
#[derive(Debug, clap::Args)]
pub struct ApiArguments {
    /// The sidecar: http://127.0.0.1:7171, or the path of its socket [default: the socket of the configuration at hand
    /// (--config, else synod.toml here, else data/synod.sock) if there is one, else its api.listen]
    #[arg(long, env = "SYNOD_API", value_name = "ADDRESS")]
    api: Option<String>,
    /// File with the token for requests over TCP [default: api.token_file of the configuration]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Where the sidecar is.
#[derive(Debug, clap::Args)]
pub struct SidecarArguments {
    #[command(flatten)]
    api: ApiArguments,
    /// Configuration of the sidecar [default: synod.toml in the working directory, if it is there]
    #[arg(long, env = "SYNOD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl SidecarArguments {
    /// A client of that sidecar. Nothing is connected yet.
    pub fn client(&self) -> Result<Client, Failure> {
        self.api.client(&SettingsArguments::without_flags(self.config.clone()))
    }
}

impl ApiArguments {
    /// A client of the sidecar with these settings, unless it is said where else one is. Nothing is connected yet.
    pub fn client(&self, settings: &SettingsArguments) -> Result<Client, Failure> {
        let (target, token_file) = match &self.api {
            Some(text) => (text.parse::<Target>().map_err(Failure::usage)?, self.token_file.clone()),
            None => self.configured(settings)?,
        };
        let client = Client::new(target.clone());
        match (target, token_file) {
            (Target::Tcp(_), Some(path)) => Ok(client.with_token(&token::read_to_show(&path).map_err(Failure::usage)?)),
            _ => Ok(client),
        }
    }

    /// Whether it is said where the sidecar is, by `--api` or its variable.
    pub fn names_sidecar(&self) -> bool {
        self.api.is_some()
    }

    fn configured(&self, settings: &SettingsArguments) -> Result<(Target, Option<PathBuf>), Failure> {
        let api = settings.settings()?.api;
        let target = if api.socket.exists() { Target::Unix(api.socket) } else { Target::Tcp(api.listen.to_string()) };
        // A service manager may take that of the configuration away with its member: then nobody is there to be shown it.
        Ok((target, self.token_file.clone().or(api.token_file.filter(|path| path.exists()))))
    }
}

/// A sidecar says how it stands within this time, or it stands still.
pub const ANSWER_MAX: Duration = Duration::from_secs(10);
/// A change is ordered, or refused, within its `api.publish_timeout`; beyond this the sidecar stands still.
const CHANGE_MAX: Duration = Duration::from_secs(120);

/// Asks the sidecar for a document about itself.
pub fn ask(arguments: &SidecarArguments, path: &str) -> Result<Value, Failure> {
    let client = arguments.client()?;
    block_on(document(&client, path))
}

/// A document that a sidecar gives about itself.
pub async fn document(client: &Client, path: &str) -> Result<Value, Failure> {
    let answer = timeout(ANSWER_MAX, client.get_json(path)).await;
    answer.map_err(|_| Failure::new(Exit::Unavailable, silent(client, ANSWER_MAX)))?.map_err(failure)
}

/// Asks for a change of the membership, and waits until it is ordered.
pub async fn change(client: &Client, method: Method, path: &str, document: &Value) -> Result<Value, Failure> {
    let answer = timeout(CHANGE_MAX, client.change(method, path, document)).await;
    answer.map_err(|_| unknown(silent(client, CHANGE_MAX)))?.map_err(change_failure)
}

/// What is said of a sidecar that does not answer.
pub fn silent(client: &Client, longest: Duration) -> String {
    format!("{} does not answer within {} s: its process may be paused", client.target(), longest.as_secs())
}

/// Runs a command that speaks to sidecars.
pub fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
    runtime.block_on(command)
}

/// How a request for a change ends the command.
pub fn change_failure(error: ClientError) -> Failure {
    match &error {
        ClientError::Refused(problem) if problem.outcome.as_deref() == Some("outcome_unknown") => unknown(error),
        ClientError::Broken { .. } => unknown(error),
        _ => failure(error),
    }
}

fn unknown(error: impl std::fmt::Display) -> Failure {
    let advice = "the change is perhaps ordered, now or later; `synod members` and `synod epochs` show whether it is";
    Failure::new(Exit::OutcomeUnknown, format!("{error}\n{advice}"))
}

/// How a request that only asks ends the command.
pub fn failure(error: ClientError) -> Failure {
    let exit = match &error {
        ClientError::Unreachable { .. } | ClientError::Broken { .. } => Exit::Unavailable,
        ClientError::Refused(_) | ClientError::Unexpected { .. } => Exit::Failure,
    };
    Failure::new(exit, error)
}
