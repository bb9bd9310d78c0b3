//! The flags of a member's settings, made from their table, and the gathering of all layers.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::exit::Failure;
use crate::node::configuration::Configuration;
use crate::node::settings::layers::{Layers, Origin};
use crate::node::settings::{Settings, table};

/// Where the configuration is and which flags lie over it.
#[derive(Debug, Clone, Default)]
pub struct SettingsArguments {
    config: Option<PathBuf>,
    flags: Vec<(&'static str, String)>,
}

/// The file used when none is named, if it exists.
const DEFAULT_FILE: &str = "synod.toml";

/// What was gathered: the layers, and from where relative paths of the file count.
pub struct Gathered {
    /// Every value with its origin.
    pub layers: Layers,
    /// Folder of the file, or the working directory.
    pub folder: PathBuf,
}

impl SettingsArguments {
    /// Only the file of that path, or the default one, and the environment.
    pub fn without_flags(config: Option<PathBuf>) -> SettingsArguments {
        SettingsArguments { config, flags: Vec::new() }
    }

    /// Whether it is said which configuration counts: by `--config` or its variable, or by flags.
    pub fn are_given(&self) -> bool {
        self.config.is_some() || !self.flags.is_empty()
    }

    /// Whether anybody gave that setting: file, variable or flag.
    pub fn give(&self, key: &'static str) -> bool {
        self.gather().is_ok_and(|gathered| gathered.layers.value(key).origin != Origin::Default)
    }

    /// The file: the one that is named, else the default one if it is there.
    pub fn file(&self) -> Option<PathBuf> {
        let default = || Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists());
        self.config.clone().or_else(default)
    }

    /// Reads the file and lays environment and flags over it.
    pub fn gather(&self) -> Result<Gathered, Failure> {
        let path = self.file();
        let content = match &path {
            Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
                Failure::usage(format!(
                    "configuration {} cannot be read: {error}; `synod init` makes one, --config names one",
                    path.display()
                ))
            })?),
            None => None,
        };
        let file = path.as_deref().zip(content.as_deref());
        let layers = Layers::gather(file, environment(), self.flags.iter().cloned());
        let folder = path.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
        Ok(Gathered { layers, folder })
    }

    /// Reads settings and genesis, or tells every mistake in both.
    pub fn configuration(&self) -> Result<Configuration, Failure> {
        let gathered = self.gather()?;
        Configuration::read(&gathered.layers, &gathered.folder).map_err(Failure::usage)
    }

    /// What a start is told, or every mistake in it. Who joins, or founds a group with others, has no genesis yet: the settings
    /// are all there is to be read.
    pub fn for_start(&self, joins: bool) -> Result<Settings, Failure> {
        let gathered = self.gather()?;
        if joins || !gathered.layers.value("bootstrap.expect").text.is_empty() {
            return self.settings();
        }
        Ok(self.configuration()?.settings)
    }

    /// Reads every setting, or tells every mistake.
    pub fn settings(&self) -> Result<Settings, Failure> {
        let gathered = self.gather()?;
        Settings::from_layers(&gathered.layers, &gathered.folder).map_err(Failure::usage)
    }
}

/// The environment, without variables that are not text: no setting has such a value.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

impl FromArgMatches for SettingsArguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut arguments = SettingsArguments::default();
        arguments.update_from_arg_matches(matches)?;
        Ok(arguments)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.config = matches.get_one::<PathBuf>("config").cloned();
        self.flags = table::SETTINGS
            .iter()
            .filter_map(|setting| Some((setting.key, matches.get_one::<String>(setting.key)?.clone())))
            .collect();
        Ok(())
    }
}

impl Args for SettingsArguments {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .env("SYNOD_CONFIG")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Configuration of this member [default: synod.toml in the working directory, if it is there]");
        table::SETTINGS.iter().fold(command.arg(config), |command, setting| {
            let default =
                if setting.default.is_empty() { String::new() } else { format!(" [default: {}]", setting.default) };
            command.arg(
                Arg::new(setting.key)
                    .long(setting.flag())
                    .value_name("VALUE")
                    .help_heading("Settings (file < environment < flag)")
                    .help(format!("{} [env: {}]{default}", setting.meaning, setting.variable())),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
