//! `synod sim`: the shipped driver, log and recovery under virtual time, with faults drawn from a seed.

use std::io::Write;
use std::num::NonZero;

use serde_json::json;

use super::exit::{Exit, Failure};
use super::output::{Output, print_line};
use crate::sim::command::{self, Conclusion, Options, Seeds};
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
    let conclusion = match output {
        Output::Text => command::run_command(&options, &mut std::io::stdout()).map_err(unwritable)?,
        Output::Json => {
            let mut report = Vec::new();
            let conclusion = command::run_command(&options, &mut report).map_err(unwritable)?;
            let (passed, report) = (conclusion == Conclusion::Passed, String::from_utf8_lossy(&report));
            print_line(&json!({ "passed": passed, "exit": exit(conclusion) as u8, "report": report }).to_string());
            conclusion
        }
    };
    std::io::stdout().flush().map_err(unwritable)?;
    match exit(conclusion) {
        Exit::Success => Ok(()),
        exit => Err(Failure::told(exit)),
    }
}

fn exit(conclusion: Conclusion) -> Exit {
    match conclusion {
        Conclusion::Passed => Exit::Success,
        Conclusion::Stalled => Exit::Stalled,
        Conclusion::Diverged => Exit::Diverged,
        Conclusion::Crashed => Exit::Crashed,
        Conclusion::Uncovered => Exit::Uncovered,
        Conclusion::Unnoticed => Exit::Unnoticed,
        Conclusion::Undetermined => Exit::Undetermined,
        Conclusion::Unable => Exit::Unable,
    }
}
