//! `synod sim`: the shipped driver, log and recovery under virtual time, with faults drawn from a seed.

use std::io::Write;
use std::num::NonZero;

use serde_json::json;

use super::exit::{Exit, Failure};
use super::output::{Output, print_line};
use crate::sim::command::{self, Options, Seeds};
use crate::types::Rule;

/// What to simulate.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct SimArguments {
    /// Simulate this seed, twice, and compare both runs
    #[arg(long, group = "what", value_name = "SEED")]
    seed: Option<u64>,
    /// Simulate so many seeds, from --first on
    #[arg(long, group = "what", value_name = "COUNT")]
    seeds: Option<u64>,
    /// For each safety rule, how many of so many seeds notice that it is switched off (feature `sabotage`)
    #[arg(long, group = "what", value_name = "COUNT")]
    sabotage_report: Option<u64>,
    /// The first of --seeds
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    first: u64,
    /// Switch off this safety rule on all members; may be repeated (feature `sabotage`)
    #[arg(long = "without", value_name = "RULE", value_parser = rule)]
    without: Vec<Rule>,
    /// Threads [default: one for each processor]
    #[arg(long)]
    jobs: Option<NonZero<usize>>,
}

fn rule(text: &str) -> Result<Rule, String> {
    Rule::named(text).ok_or_else(|| {
        let names = Rule::ALL.iter().map(|rule| rule.name()).collect::<Vec<_>>();
        format!("no rule has this name; there are {}", names.join(", "))
    })
}

/// Runs the command.
pub fn run(arguments: &SimArguments, output: Output) -> Result<(), Failure> {
    let seeds = match (arguments.seed, arguments.seeds, arguments.sabotage_report) {
        (Some(seed), _, _) => Seeds::One(seed),
        (_, Some(count), _) => {
            let end = arguments.first.checked_add(count);
            Seeds::Range(arguments.first..end.ok_or_else(|| Failure::usage("--first and --seeds exceed 2^64"))?)
        }
        (_, _, count) => Seeds::SabotageReport(count.unwrap_or_default()),
    };
    let jobs = arguments.jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZero::get);
    let options = Options { seeds, jobs, sabotage: arguments.without.clone() };
    let unwritable = |error: std::io::Error| Failure::failed(format!("the report cannot be written: {error}"));
    let verdict = match output {
        Output::Text => command::run_command(&options, &mut std::io::stdout()).map_err(unwritable)?,
        Output::Json => {
            let mut report = Vec::new();
            let verdict = command::run_command(&options, &mut report).map_err(unwritable)?;
            let report = String::from_utf8_lossy(&report);
            print_line(
                &json!({ "passed": verdict == command::Exit::Passed, "exit": verdict as u8, "report": report })
                    .to_string(),
            );
            verdict
        }
    };
    std::io::stdout().flush().map_err(unwritable)?;
    match exit(verdict) {
        Exit::Success => Ok(()),
        exit => Err(Failure::told(exit)),
    }
}

fn exit(verdict: command::Exit) -> Exit {
    match verdict {
        command::Exit::Passed => Exit::Success,
        command::Exit::Stalled => Exit::Stalled,
        command::Exit::Diverged => Exit::Diverged,
        command::Exit::Crashed => Exit::Crashed,
        command::Exit::Uncovered => Exit::Uncovered,
        command::Exit::Unnoticed => Exit::Unnoticed,
        command::Exit::Undetermined => Exit::Undetermined,
        command::Exit::Unable => Exit::Unable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_simulator_and_the_table_name_the_same_codes() {
        use command::Exit::*;
        for verdict in [Passed, Stalled, Diverged, Crashed, Uncovered, Unnoticed, Undetermined, Unable] {
            assert_eq!(verdict as u8, exit(verdict) as u8);
        }
    }
}
