//! Many seeds on several threads. A simulation lives on one thread and shares nothing, so the threads change nothing
//! about what a seed means.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};

use super::candidates::gather;
use super::coverage::Coverage;
use super::world::{Verdict, World};
use crate::types::{Digest, Sabotage};

/// What became of one seed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// How it ended.
    pub verdict: Verdict,
    /// Digest of everything that happened: the same seed gives the same.
    pub trace: Digest,
    /// What happened, counted.
    pub coverage: Coverage,
    /// The last steps as a message sequence chart, if it did not pass.
    pub chart: Option<String>,
}

/// Lets one seed run: its group, and its candidates for another one.
pub fn simulate(seed: u64, sabotage: &Sabotage) -> Report {
    let mut report = simulate_group(seed, sabotage);
    let candidates = gather(seed, sabotage);
    report.coverage.add(&candidates.coverage);
    report.trace = Digest::of("simulation", [report.trace.0, candidates.trace.0].as_flattened());
    if report.verdict == Verdict::Passed {
        (report.verdict, report.chart) = (candidates.verdict, candidates.chart);
    }
    report
}

fn simulate_group(seed: u64, sabotage: &Sabotage) -> Report {
    let mut world = World::new(seed, sabotage.clone());
    let verdict = guarded(|| world.run()).unwrap_or_else(|panicked| Verdict::Crashed(format!("panicked: {panicked}")));
    let finished = guarded(|| world.finish());
    let chart = (verdict != Verdict::Passed).then(|| {
        let drawn = guarded(|| world.stage.chart.draw());
        drawn.unwrap_or_else(|panicked| format!("no chart: {panicked}"))
    });
    let verdict = match (verdict, finished) {
        (Verdict::Passed, Err(panicked)) => Verdict::Crashed(format!("panicked at the end: {panicked}")),
        (verdict, _) => verdict,
    };
    Report { seed, verdict, trace: world.stage.trace(), coverage: world.stage.coverage.clone(), chart }
}

/// Lets every seed of a range run, on so many threads, until `enough` says so of a report; `each` sees every report as
/// it comes.
pub fn campaign(
    seeds: std::ops::Range<u64>,
    jobs: usize,
    sabotage: &Sabotage,
    each: impl FnMut(Report) -> bool + Send,
) {
    let next = AtomicU64::new(seeds.start);
    let each = Mutex::new(each);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let report = simulate(seed, sabotage);
                    let mut each = each.lock().expect("whoever looks at reports does not panic");
                    if !each(report) {
                        next.store(seeds.end, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

thread_local! {
    /// Where a panic of this thread's simulation is written; none outside of a simulation.
    static PANICKED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs something of a simulation; a panic becomes its text.
pub(super) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_quietly();
    PANICKED.set(Some(String::new()));
    let outcome = panic::catch_unwind(AssertUnwindSafe(run));
    let text = PANICKED.take().unwrap_or_default();
    outcome.map_err(|_| text)
}

/// Panics inside a simulation are verdicts, not output.
fn catch_quietly() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let simulated =
                PANICKED.with_borrow_mut(|text| text.as_mut().map(|text| *text = info.to_string()).is_some());
            if !simulated {
                usual(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_takes_the_same_course() {
        for seed in [3, 11] {
            let (once, again) = (simulate(seed, &Sabotage::NONE), simulate(seed, &Sabotage::NONE));
            assert_eq!((once.trace, &once.coverage), (again.trace, &again.coverage), "seed {seed}");
        }
        assert_ne!(simulate(3, &Sabotage::NONE).trace, simulate(11, &Sabotage::NONE).trace);
    }

    #[test]
    fn a_short_campaign_passes() {
        let mut reports = Vec::new();
        campaign(0..24, 2, &Sabotage::NONE, |report| {
            reports.push(report);
            true
        });
        assert_eq!(reports.len(), 24);
        let failed: Vec<_> = reports.iter().filter(|report| report.verdict != Verdict::Passed).collect();
        assert!(failed.is_empty(), "{failed:#?}");
    }

    #[test]
    fn a_panic_inside_a_simulation_is_a_text() {
        let text = guarded(|| -> () { panic!("on purpose") }).unwrap_err();
        assert!(text.contains("on purpose"), "{text}");
    }
}
