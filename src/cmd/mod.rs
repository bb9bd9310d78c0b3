//! Floor 6: the command line. Chooses and starts; each command is a file of its own.

pub mod bench;
pub mod config;
pub mod demo;
pub mod dev;
pub mod doctor;
pub mod drain;
pub mod epochs;
pub mod exit;
pub mod group;
pub mod init;
pub mod invite;
pub mod leave;
pub mod members;
pub mod output;
pub mod publish;
pub mod remove;
pub mod run;
pub mod settings_arguments;
pub mod sidecar;
pub mod sim;
pub mod status;
pub mod tail;
pub mod verify;
pub mod version;
pub mod voters;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use exit::{Exit, Failure};
use output::Output;

/// The same messages, in the same order, at every instance of a service.
#[derive(Debug, Parser)]
#[command(name = "synod", version, after_long_help = Exit::help(), after_help = "`--help` also lists the exit codes.")]
struct CommandLine {
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value = "text")]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run a member: the sidecar of one instance of a service
    Run(run::RunArguments),
    /// Join a group by a code that `synod invite` printed on a member, and run that member
    Join(run::JoinArguments),
    /// Make a group: keys, genesis and one commented configuration per member
    Init(init::InitArguments),
    /// Run a whole group on this machine, for trying and for tests
    Dev(dev::DevArguments),
    /// Tell a story with a real group: publish from all, kill the leader, restart it, compare what all delivered; then let
    /// a fourth member join and the first leave, and compare again
    Demo,
    /// Measure this machine: delivery, silence after a kill, recovery, memory, simulation
    Bench(bench::BenchArguments),
    /// Publish a message and print its place in the order
    Publish(publish::PublishArguments),
    /// Print the messages in their order, and go on as they come
    Tail(tail::TailArguments),
    /// Show a member: role, head, links
    Status(status::StatusArguments),
    /// Show the members of the group, and who reaches whom
    Members(sidecar::SidecarArguments),
    /// Show every epoch with its voters and its proof, which is checked
    Epochs(sidecar::SidecarArguments),
    /// Make a join code, for one member
    Invite(invite::InviteArguments),
    /// Let this member finish what it accepted and accept nothing more, before it is stopped
    Drain(drain::DrainArguments),
    /// Let this member leave the group, for good; waits until it may go
    Leave(leave::LeaveArguments),
    /// Remove another member for good; what it accepted and is not ordered yet may be lost
    Remove(remove::RemoveArguments),
    /// Show who votes, or choose how many shall
    Voters(voters::VotersArguments),
    /// Check, print or explain the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Check offline: a data directory, or what `epochs --output json` printed
    Verify(verify::VerifyArguments),
    /// Simulate groups with faults drawn from seeds, and judge every step
    Sim(sim::SimArguments),
    /// Examine a member and what is around it, running or not: configuration, files, disk, clock, ports, quorum, and who is
    /// reached where and why not; each with what to do. Ends with 1 if anything fails
    Doctor(doctor::DoctorArguments),
    /// Print the versions this binary speaks
    Version,
    #[command(flatten)]
    NotThereYet(NotThereYet),
}

/// Commands that are planned. They say so, and take any argument, so that nobody mistakes them for a success.
#[derive(Debug, clap::Subcommand)]
enum NotThereYet {
    /// Not there yet: cursors
    #[command(hide = true)]
    Cursor(AnyArguments),
    /// Not there yet: replay a log into a state machine
    #[command(hide = true)]
    Replay(AnyArguments),
    /// Not there yet: take a snapshot
    #[command(hide = true)]
    Snapshot(AnyArguments),
    /// Not there yet: restore from a snapshot
    #[command(hide = true)]
    Restore(AnyArguments),
}

#[derive(Debug, clap::Args)]
struct AnyArguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _arguments: Vec<OsString>,
}

impl NotThereYet {
    fn name(&self) -> &'static str {
        match self {
            NotThereYet::Cursor(_) => "cursor",
            NotThereYet::Replay(_) => "replay",
            NotThereYet::Snapshot(_) => "snapshot",
            NotThereYet::Restore(_) => "restore",
        }
    }

    /// How things are without it.
    fn meanwhile(&self) -> &'static str {
        match self {
            NotThereYet::Cursor(_) => "store the position with your state, and read on after it",
            NotThereYet::Replay(_) => "read the order with `synod tail --after 0`",
            NotThereYet::Snapshot(_) | NotThereYet::Restore(_) => {
                "the log is kept whole, and a member that was down catches up from its peers"
            }
        }
    }
}

/// Reads the command line, runs the command, and tells how it ended.
pub fn main() -> ExitCode {
    let CommandLine { output, command } = CommandLine::parse();
    match run(command, output) {
        Ok(()) => Exit::Success.into(),
        Err(failure) => {
            match output {
                _ if failure.message.is_empty() => {}
                Output::Text => eprintln!("synod: {}", failure.message),
                Output::Json => eprintln!("{}", json!({ "error": failure.message, "exit": failure.exit as u8 })),
            }
            failure.exit.into()
        }
    }
}

fn run(command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Run(arguments) => run::run(&arguments, output),
        Command::Join(arguments) => run::join(&arguments, output),
        Command::Init(arguments) => init::run(&arguments, output),
        Command::Dev(arguments) => dev::run(&arguments, output),
        Command::Demo => demo::run(output),
        Command::Bench(arguments) => bench::run(&arguments, output),
        Command::Publish(arguments) => publish::run(&arguments, output),
        Command::Tail(arguments) => tail::run(&arguments, output),
        Command::Status(arguments) => status::run(&arguments, output),
        Command::Members(arguments) => members::run(&arguments, output),
        Command::Epochs(arguments) => epochs::run(&arguments, output),
        Command::Invite(arguments) => invite::run(&arguments, output),
        Command::Drain(arguments) => drain::run(&arguments, output),
        Command::Leave(arguments) => leave::run(&arguments, output),
        Command::Remove(arguments) => remove::run(&arguments, output),
        Command::Voters(arguments) => voters::run(&arguments, output),
        Command::Config(command) => config::run(command, output),
        Command::Verify(arguments) => verify::run(&arguments, output),
        Command::Sim(arguments) => sim::run(&arguments, output),
        Command::Doctor(arguments) => doctor::run(&arguments, output),
        Command::Version => {
            version::run(output);
            Ok(())
        }
        Command::NotThereYet(command) => {
            let (name, meanwhile) = (command.name(), command.meanwhile());
            Err(Failure::new(Exit::NotThereYet, format!("not there yet: {name}; {meanwhile}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn what_is_planned_takes_any_argument() {
        let parsed = CommandLine::try_parse_from(["synod", "restore", "--from", "x", "y"]).unwrap();
        assert!(matches!(parsed.command, Command::NotThereYet(command) if command.name() == "restore"));
    }
}
