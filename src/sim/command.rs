//! `synod sim`: what the command does, written to any writer. Parsing arguments is the command line's part.

use std::io::{self, Write};
use std::ops::Range;
use std::time::Instant;

use super::campaign::{Report, campaign, simulate};
use super::coverage::Coverage;
use super::world::Verdict;
use crate::types::{Rule, Sabotage};

/// What to simulate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which seeds.
    pub seeds: Seeds,
    /// Threads; one seed never uses more than one.
    pub jobs: usize,
    /// Rules switched off on all members. Only a build with the feature `sabotage` can do that.
    pub sabotage: Vec<Rule>,
}

/// Which seeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seeds {
    /// This one, twice: both runs must have the same digest.
    One(u64),
    /// All of these.
    Range(Range<u64>),
    /// For each rule, so many seeds without it.
    SabotageReport(u64),
}

/// How the command ended, the worse the later. The numbers that a process exits with are the command line's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Conclusion {
    /// Everything passed.
    Passed,
    /// A group did not go on after the faults.
    Stalled,
    /// A promise was broken.
    Diverged,
    /// A member panicked or stopped.
    Crashed,
    /// Something in the coverage table never happened.
    Uncovered,
    /// The removal of a rule was noticed by nothing.
    Unnoticed,
    /// The same seed took two courses.
    Undetermined,
    /// This build cannot do that.
    Unable,
}

/// From so many seeds on an empty row of the coverage table is a failure.
pub const COVERAGE_SEEDS: u64 = 1000;
/// So many failures are shown with their charts.
const CHARTS_MAX: usize = 3;

impl Verdict {
    /// How a command ends that saw nothing worse.
    pub fn conclusion(&self) -> Conclusion {
        match self {
            Verdict::Passed => Conclusion::Passed,
            Verdict::Stalled(_) => Conclusion::Stalled,
            Verdict::Diverged(_) => Conclusion::Diverged,
            Verdict::Crashed(_) => Conclusion::Crashed,
        }
    }

    /// One word, and for a failure what it was.
    pub fn text(&self) -> String {
        match self {
            Verdict::Passed => "passed".to_owned(),
            Verdict::Stalled(missing) => format!("stalled: {}", missing.join("; ")),
            Verdict::Diverged(violation) => format!("diverged: {violation}"),
            Verdict::Crashed(text) => format!("crashed: {text}"),
        }
    }
}

/// Runs the command. Errors are those of the writer.
pub fn run_command(options: &Options, out: &mut (dyn Write + Send)) -> io::Result<Conclusion> {
    let Some(sabotage) = sabotage(&options.sabotage) else {
        writeln!(out, "this build upholds every rule; build with --features sabotage to switch rules off")?;
        return Ok(Conclusion::Unable);
    };
    match &options.seeds {
        Seeds::One(seed) => one(*seed, &options.sabotage, &sabotage, out),
        Seeds::Range(range) => many(range.clone(), options, &sabotage, out),
        Seeds::SabotageReport(seeds) => super::sabotage::report(*seeds, options.jobs, out),
    }
}

/// These rules switched off; none if this build cannot.
pub(super) fn sabotage(rules: &[Rule]) -> Option<Sabotage> {
    #[cfg(feature = "sabotage")]
    return Some(Sabotage::of(rules));
    #[cfg(not(feature = "sabotage"))]
    rules.is_empty().then_some(Sabotage::NONE)
}

fn one(seed: u64, without: &[Rule], sabotage: &Sabotage, out: &mut dyn Write) -> io::Result<Conclusion> {
    let report = simulate(seed, sabotage);
    show(&report, without, true, out)?;
    write!(out, "{}", report.coverage)?;
    let again = simulate(seed, sabotage);
    if again.trace != report.trace {
        writeln!(out, "the second run has the digest {}: this seed takes two courses", again.trace)?;
        return Ok(Conclusion::Undetermined);
    }
    writeln!(out, "the second run has the same digest")?;
    Ok(report.verdict.conclusion())
}

fn many(
    range: Range<u64>,
    options: &Options,
    sabotage: &Sabotage,
    out: &mut (dyn Write + Send),
) -> io::Result<Conclusion> {
    let begun = Instant::now();
    let count = range.end - range.start;
    let mut coverage = Coverage::default();
    let mut failures = Vec::new();
    let mut written = Ok(());
    campaign(range, options.jobs, sabotage, |report| {
        coverage.add(&report.coverage);
        if report.verdict != Verdict::Passed {
            written = show(&report, &options.sabotage, failures.len() < CHARTS_MAX, out);
            failures.push((report.seed, report.verdict.conclusion()));
        }
        written.is_ok()
    });
    written?;
    write!(out, "{coverage}")?;
    failures.sort();
    let seconds = begun.elapsed().as_secs_f64();
    writeln!(out, "{count} seeds in {seconds:.1} s, {} passed", count - failures.len() as u64)?;
    if let Some(worst) = failures.iter().map(|(_, conclusion)| *conclusion).max() {
        let seeds: Vec<String> = failures.iter().map(|(seed, _)| seed.to_string()).collect();
        writeln!(out, "failed: {}", seeds.join(" "))?;
        return Ok(worst);
    }
    let empty = coverage.empty_rows();
    if count >= COVERAGE_SEEDS && !empty.is_empty() {
        writeln!(out, "never happened: {}", empty.join("; "))?;
        return Ok(Conclusion::Uncovered);
    }
    Ok(Conclusion::Passed)
}

fn show(report: &Report, without: &[Rule], with_chart: bool, out: &mut dyn Write) -> io::Result<()> {
    if let Some(chart) = report.chart.as_ref().filter(|_| with_chart) {
        write!(out, "{chart}")?;
    }
    writeln!(out, "seed {}: {} · digest {}", report.seed, report.verdict.text(), report.trace)?;
    if report.verdict != Verdict::Passed {
        let without: String = without.iter().map(|rule| format!(" --without {rule}")).collect();
        writeln!(out, "  again: synod sim --seed {}{without}", report.seed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seeds: Seeds, sabotage: Vec<Rule>) -> (Conclusion, String) {
        let mut out = Vec::new();
        let conclusion = run_command(&Options { seeds, jobs: 2, sabotage }, &mut out).unwrap();
        (conclusion, String::from_utf8(out).unwrap())
    }

    #[test]
    fn one_seed_runs_twice_and_shows_what_happened() {
        let (conclusion, text) = run(Seeds::One(5), Vec::new());
        assert_eq!(conclusion, Conclusion::Passed, "{text}");
        assert!(text.contains("seed 5: passed") && text.contains("the second run has the same digest"), "{text}");
        assert!(text.contains("messages ordered"), "{text}");
    }

    #[cfg(not(feature = "sabotage"))]
    #[test]
    fn a_build_that_upholds_every_rule_says_so() {
        assert_eq!(run(Seeds::One(5), vec![Rule::R7]).0, Conclusion::Unable);
        assert_eq!(run(Seeds::SabotageReport(1), Vec::new()).0, Conclusion::Unable);
    }

    #[cfg(feature = "sabotage")]
    #[test]
    fn without_a_quorum_a_failure_shows_its_seed_and_a_chart() {
        let (conclusion, text) = run(Seeds::Range(0..4), vec![Rule::Quorum]);
        assert_eq!(conclusion, Conclusion::Diverged, "{text}");
        assert!(text.contains("again: synod sim --seed") && text.contains("|"), "{text}");
    }
}
