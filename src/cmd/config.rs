//! `synod config check | default | show`.

use serde_json::{Map, Value, json};

use super::exit::Failure;
use super::output::{Output, print_line};
use super::settings_arguments::SettingsArguments;
use crate::node::genesis_file::GENESIS_FILE;
use crate::node::settings::{Bootstrap, Mistakes};
use crate::node::{configuration_file, settings::table};

/// What to do with the configuration.
#[derive(Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// Read configuration and genesis as `run` would, and tell every mistake at once
    Check(SettingsArguments),
    /// Print a commented configuration with every setting at its default
    Default,
    /// Print every setting as `run` would use it, and where it comes from
    Show(SettingsArguments),
}

/// Runs the command.
pub fn run(command: ConfigCommand, output: Output) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check(arguments) => check(&arguments, output),
        ConfigCommand::Default => {
            default(output);
            Ok(())
        }
        ConfigCommand::Show(arguments) => show(&arguments, output),
    }
}

fn check(arguments: &SettingsArguments, output: Output) -> Result<(), Failure> {
    if let Some(bootstrap) = founds(arguments)? {
        let document = json!({
            "usable": true,
            "group": bootstrap.cluster,
            "cluster": null,
            "expect": bootstrap.expect,
        });
        output.print(&document, || {
            format!("usable: there is no genesis; founds group `{}` as one of {}", bootstrap.cluster, bootstrap.expect)
        });
        return Ok(());
    }
    let genesis = arguments.configuration()?.genesis;
    let document = json!({
        "usable": true,
        "group": genesis.name,
        "cluster": genesis.cluster(),
        "members": genesis.members.iter().map(|member| &member.name).collect::<Vec<_>>(),
    });
    output.print(&document, || {
        format!(
            "usable: group `{}` ({}) with {} members",
            genesis.name,
            genesis.cluster().short(),
            genesis.members.len()
        )
    });
    Ok(())
}

/// The group that would be founded, if there is no genesis yet.
fn founds(arguments: &SettingsArguments) -> Result<Option<Bootstrap>, Failure> {
    let settings = arguments.for_start(false)?;
    let there_is_one =
        [settings.genesis.clone(), settings.data_dir.join(GENESIS_FILE)].iter().any(|path| path.exists());
    Ok(settings.bootstrap.filter(|_| !there_is_one))
}

fn default(output: Output) {
    match output {
        Output::Text => print_line(configuration_file::write(&[]).trim_end()),
        Output::Json => {
            let settings: Map<String, Value> =
                table::SETTINGS.iter().map(|setting| (setting.key.to_owned(), setting.default.into())).collect();
            print_line(&Value::from(settings).to_string());
        }
    }
}

fn show(arguments: &SettingsArguments, output: Output) -> Result<(), Failure> {
    let gathered = arguments.gather()?;
    let values: Vec<_> = table::SETTINGS.iter().map(|setting| (setting, gathered.layers.value(setting.key))).collect();
    let document: Map<String, Value> = values
        .iter()
        .map(|(setting, given)| {
            (setting.key.to_owned(), json!({ "value": given.text, "origin": given.origin.to_string() }))
        })
        .collect();
    output.print(&Value::from(document), || {
        let rows = values
            .iter()
            .map(|(setting, given)| [setting.key.to_owned(), given.text.clone(), given.origin.to_string()]);
        super::output::table(["SETTING", "VALUE", "FROM"], rows)
    });
    Mistakes::unless(gathered.layers.mistakes().to_vec(), || ()).map_err(Failure::usage)
}
