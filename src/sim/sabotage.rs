//! What notices that a rule is gone: for each rule with a switch, scenarios and seeds that fail without it.

use std::io::{self, Write};

use super::campaign::campaign;
use super::command::{Conclusion, sabotage};
use super::scenario;
use super::world::Verdict;
use crate::types::Rule;

/// What is switched off at a time: each rule alone, and those together that cover for each other (with one of W1 and the
/// checksums' chain gone the other still keeps an old frame from coming back).
fn removals() -> Vec<Vec<Rule>> {
    let mut removals: Vec<Vec<Rule>> = Rule::ALL.iter().map(|rule| vec![*rule]).collect();
    removals.push(vec![Rule::W1, Rule::Chain]);
    removals
}

/// The first few names, and how many more there are.
fn named(scenarios: &[String]) -> String {
    let shown = scenarios.len().min(SCENARIOS_SHOWN);
    let more = scenarios.len() - shown;
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{rest}", scenarios[..shown].join(" "))
}

/// Scenarios named in a row.
const SCENARIOS_SHOWN: usize = 3;

/// Prints for each rule which scenarios and how many of `seeds` seeds notice its removal. Fails if nothing notices one.
pub fn report(seeds: u64, jobs: usize, out: &mut (dyn Write + Send)) -> io::Result<Conclusion> {
    if sabotage(&[Rule::R7]).is_none() {
        writeln!(out, "this build upholds every rule; build with --features sabotage for this report")?;
        return Ok(Conclusion::Unable);
    }
    writeln!(out, "{:<16} {:>6} of {seeds}  scenarios", "without", "seeds")?;
    let mut noticed: Vec<Vec<Rule>> = Vec::new();
    let removals = removals();
    for removal in &removals {
        let sabotage = sabotage(removal).expect("this build can");
        let scenarios = scenario::failing(&sabotage);
        let mut failed = 0;
        let mut first: Option<(u64, String)> = None;
        campaign(0..seeds, jobs, &sabotage, |report| {
            if report.verdict != Verdict::Passed {
                failed += 1;
                if first.as_ref().is_none_or(|(seed, _)| report.seed < *seed) {
                    first = Some((report.seed, report.verdict.text()));
                }
            }
            true
        });
        let names: Vec<&str> = removal.iter().map(|rule| rule.name()).collect();
        writeln!(out, "{:<16} {failed:>6}     {}", names.join("+"), named(&scenarios))?;
        if let Some((seed, text)) = first {
            let text: String = text.chars().take(160).collect();
            writeln!(out, "{:<16} seed {seed}: {text}", "")?;
        }
        out.flush()?;
        if failed > 0 || !scenarios.is_empty() {
            noticed.push(removal.clone());
        }
    }
    let unnoticed: Vec<&str> = Rule::ALL
        .iter()
        .filter(|rule| !noticed.iter().any(|removal| removal.contains(rule)))
        .map(|rule| rule.name())
        .collect();
    if unnoticed.is_empty() {
        writeln!(out, "every removal is noticed")?;
        return Ok(Conclusion::Passed);
    }
    writeln!(out, "noticed by nothing: {}", unnoticed.join(" "))?;
    Ok(Conclusion::Unnoticed)
}
