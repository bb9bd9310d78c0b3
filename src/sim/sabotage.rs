//! What notices that a rule is gone: for each rule with a switch, scenarios and seeds that fail without it.

use std::io::{self, Write};

use super::campaign::campaign;
use super::command::{Conclusion, sabotage};
use super::scenario::{self, Difference};
use super::world::Verdict;
use crate::types::{Rule, Sabotage};

/// What is switched off at a time: each rule alone, and those together that cover for each other (with one of W1 and the
/// checksums' chain gone the other still keeps an old frame from coming back).
fn removals() -> Vec<Vec<Rule>> {
    let mut removals: Vec<Vec<Rule>> = Rule::ALL.iter().map(|rule| vec![*rule]).collect();
    removals.push(vec![Rule::W1, Rule::Chain]);
    removals
}

/// The rules that are in none of these removals.
fn rules_outside(noticed: &[Vec<Rule>]) -> Vec<&'static str> {
    let outside = |rule: &&Rule| !noticed.iter().any(|removal| removal.contains(rule));
    Rule::ALL.iter().filter(outside).map(|rule| rule.name()).collect()
}

fn name(removal: &[Rule]) -> String {
    removal.iter().map(|rule| rule.name()).collect::<Vec<_>>().join("+")
}

/// Seeds that fail.
#[derive(Default)]
struct Failures {
    count: u64,
    /// The lowest of them, and how it fails.
    first: Option<(u64, String)>,
}

/// Lets so many seeds run, or as many as it takes until one fails.
fn failures(seeds: u64, jobs: usize, sabotage: &Sabotage, all: bool) -> Failures {
    let mut failures = Failures::default();
    campaign(0..seeds, jobs, sabotage, |report| {
        if report.verdict != Verdict::Passed {
            failures.count += 1;
            if failures.first.as_ref().is_none_or(|(seed, _)| report.seed < *seed) {
                failures.first = Some((report.seed, report.verdict.text()));
            }
        }
        all || failures.count == 0
    });
    failures
}

/// The first few names, and how many more there are.
fn named(scenarios: &[(String, String)]) -> String {
    let (shown, more) = scenarios.split_at(scenarios.len().min(SCENARIOS_SHOWN));
    let rest = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    let names: Vec<&str> = shown.iter().map(|(name, _)| name.as_str()).collect();
    format!("{}{rest}", names.join(" "))
}

/// The beginning of how something fails.
fn shown(text: &str) -> String {
    text.chars().take(TEXT_SHOWN).collect()
}

/// Scenarios named in a row.
const SCENARIOS_SHOWN: usize = 3;
/// Characters shown of how something fails.
const TEXT_SHOWN: usize = 160;

/// Prints for each rule which scenarios and how many of `seeds` seeds notice its removal. A scenario notices it by a
/// violation, a stop or another order; those in which only moments or figures differ are counted beside. Fails if nothing
/// notices one.
pub fn report(seeds: u64, jobs: usize, out: &mut (dyn Write + Send)) -> io::Result<Conclusion> {
    if sabotage(&[Rule::R7]).is_none() {
        writeln!(out, "this build upholds every rule; build with --features sabotage for this report")?;
        return Ok(Conclusion::Unable);
    }
    writeln!(out, "{:<16} {:>6} of {seeds}  shifted  scenarios that break", "without", "seeds")?;
    let mut noticed: Vec<Vec<Rule>> = Vec::new();
    for removal in removals() {
        let sabotage = sabotage(&removal).expect("this build can");
        let (mut broken, mut shifted) = (Vec::new(), 0);
        for (scenario, difference) in scenario::differences(&sabotage) {
            match difference {
                Difference::None => {}
                Difference::Shifted => shifted += 1,
                Difference::Broken(how) => broken.push((scenario, how)),
            }
        }
        let failures = failures(seeds, jobs, &sabotage, true);
        writeln!(out, "{:<16} {:>6}     {shifted:>7}  {}", name(&removal), failures.count, named(&broken))?;
        if let Some((seed, text)) = failures.first {
            writeln!(out, "{:<16} seed {seed}: {}", "", shown(&text))?;
        }
        if let Some((scenario, how)) = broken.first() {
            writeln!(out, "{:<16} {scenario}: {}", "", shown(how))?;
        }
        out.flush()?;
        if failures.count > 0 || !broken.is_empty() {
            noticed.push(removal);
        }
    }
    let unnoticed = rules_outside(&noticed);
    if unnoticed.is_empty() {
        writeln!(out, "every removal is noticed")?;
        return Ok(Conclusion::Passed);
    }
    writeln!(out, "noticed by nothing: {}", unnoticed.join(" "))?;
    Ok(Conclusion::Unnoticed)
}

#[cfg(all(test, feature = "sabotage"))]
mod tests {
    use super::*;
    use crate::sim::candidates::gather;

    /// A rule that no scenario needs is shown by one of so many seeds.
    const SEEDS: u64 = 200;

    fn noticed_by(removal: &[Rule]) -> Option<String> {
        let sabotage = Sabotage::of(removal);
        let broken = scenario::differences(&sabotage).find_map(|(scenario, difference)| match difference {
            Difference::Broken(how) => Some(format!("{scenario}: {}", shown(&how))),
            Difference::None | Difference::Shifted => None,
        });
        broken.or_else(|| {
            let (seed, text) = failures(SEEDS, 2, &sabotage, false).first?;
            Some(format!("seed {seed}: {}", shown(&text)))
        })
    }

    /// What candidates promise needs more than one witness: scenarios and seeds both.
    #[test]
    fn without_any_part_of_g1_a_scenario_and_a_seed_fail() {
        for rule in [Rule::G1Durable, Rule::G1Single, Rule::G1Release, Rule::G1All, Rule::G1Recorded] {
            let sabotage = Sabotage::of(&[rule]);
            let mut differences = scenario::differences(&sabotage);
            let broken = differences.find(|(_, difference)| matches!(difference, Difference::Broken(_)));
            let seed = (0..SEEDS).find(|seed| gather(*seed, &sabotage).verdict != Verdict::Passed);
            println!("without {rule:<12} {broken:?}, seed {seed:?}");
            assert!(broken.is_some() && seed.is_some(), "without {rule}: {broken:?}, seed {seed:?}");
        }
    }

    /// The report in short: the first scenario or seed that notices. Rules that cover for each other are tried together
    /// first, and alone only if nothing notices that.
    #[test]
    fn without_any_one_rule_a_scenario_or_a_seed_fails() {
        let mut noticed: Vec<Vec<Rule>> = Vec::new();
        for removal in removals().into_iter().rev() {
            if removal.iter().all(|rule| noticed.iter().any(|earlier| earlier.contains(rule))) {
                continue;
            }
            let by = noticed_by(&removal);
            println!("without {:<12} {}", name(&removal), by.as_deref().unwrap_or("nothing fails"));
            noticed.extend(by.map(|_| removal));
        }
        assert_eq!(rules_outside(&noticed), Vec::<&str>::new(), "their removal is noticed by nothing");
    }
}
