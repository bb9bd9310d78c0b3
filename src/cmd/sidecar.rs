//! Which sidecar a command speaks to, and how a refusal or a silence ends the command.

use std::future::Future;
use std::path::PathBuf;

use super::exit::{Exit, Failure};
use super::settings_arguments::SettingsArguments;
use crate::api::client::{Client, ClientError, Target};
use crate::node::token;

/// Where the sidecar is.
#[derive(Debug, clap::Args)]
pub struct SidecarArguments {
    /// The sidecar: http://127.0.0.1:7171, or the path of its socket [default: the socket of the configuration at hand
    /// (--config, else synod.toml here, else data/synod.sock) if there is one, else its api.listen]
    #[arg(long, env = "SYNOD_API", value_name = "ADDRESS")]
    api: Option<String>,
    /// Configuration of the sidecar [default: synod.toml in the working directory, if it is there]
    #[arg(long, env = "SYNOD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// File with the token for requests over TCP [default: api.token_file of the configuration]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl SidecarArguments {
    /// A client of that sidecar. Nothing is connected yet.
    pub fn client(&self) -> Result<Client, Failure> {
        let (target, token_file) = match &self.api {
            Some(text) => (text.parse::<Target>().map_err(Failure::usage)?, self.token_file.clone()),
            None => self.configured()?,
        };
        let client = Client::new(target.clone());
        match (target, token_file) {
            (Target::Tcp(_), Some(path)) => Ok(client.with_token(&token::read(&path).map_err(Failure::usage)?)),
            _ => Ok(client),
        }
    }

    fn configured(&self) -> Result<(Target, Option<PathBuf>), Failure> {
        let api = SettingsArguments::without_flags(self.config.clone()).settings()?.api;
        let target = if api.socket.exists() { Target::Unix(api.socket) } else { Target::Tcp(api.listen.to_string()) };
        Ok((target, self.token_file.clone().or(api.token_file)))
    }
}

/// Runs a command that speaks to sidecars.
pub fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
    runtime.block_on(command)
}

/// How a request that only asks ends the command.
pub fn failure(error: ClientError) -> Failure {
    let exit = match &error {
        ClientError::Unreachable { .. } | ClientError::Broken { .. } => Exit::Unreachable,
        ClientError::Refused(_) | ClientError::Unexpected { .. } => Exit::Failure,
    };
    Failure::new(exit, error)
}

/// Whether a message whose publish ended like this is certainly not ordered.
pub fn is_certainly_not_ordered(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } => true,
        ClientError::Refused(problem) => problem.outcome.as_deref() != Some("outcome_unknown"),
        ClientError::Broken { .. } | ClientError::Unexpected { .. } => false,
    }
}
