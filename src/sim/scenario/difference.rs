//! How what a scenario printed differs from what was recorded: whether something went wrong, or only came at another time.

use std::collections::{BTreeMap, BTreeSet};

use super::script;

/// A difference between two outputs of one scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// There is none.
    None,
    /// The same deeds come sooner or later, or show other figures.
    Shifted,
    /// A checker sees a violation; a member stops or refuses another, or does not; a position holds another message.
    /// Which of these.
    Broken(String),
}

impl Difference {
    /// Compares the texts of a scenario.
    pub fn between(recorded: &str, played: &str) -> Difference {
        let [recorded, played] = [recorded, played].map(output);
        if recorded == played {
            return Difference::None;
        }
        Gist::of(&recorded).breach(&Gist::of(&played)).map_or(Difference::Shifted, Difference::Broken)
    }
}

fn output(text: &str) -> Vec<String> {
    script::read(text).into_iter().flat_map(|block| block.output).collect()
}

/// What an output says, whatever the moments.
struct Gist<'a> {
    /// Violations, panics, and who stopped or refused whom.
    troubles: BTreeSet<&'a str>,
    /// The messages that were said to stand at each position.
    places: BTreeMap<u64, BTreeSet<&'a str>>,
}

impl<'a> Gist<'a> {
    fn of(lines: &'a [String]) -> Gist<'a> {
        let troubles = lines.iter().filter_map(|line| trouble(line)).collect();
        let mut places = BTreeMap::<u64, BTreeSet<&str>>::new();
        for (position, message) in lines.iter().flat_map(|line| places_in(line)) {
            places.entry(position).or_default().insert(message);
        }
        Gist { troubles, places }
    }

    /// What breaks with this in what was played. A message may be missing on either side: it may come later.
    fn breach(&self, played: &Gist<'_>) -> Option<String> {
        let new = played.troubles.difference(&self.troubles).max().map(|trouble| (*trouble).to_owned());
        let moved = || {
            let mut both = self.places.iter().filter_map(|(place, was)| Some((place, was, played.places.get(place)?)));
            let (position, was, is) = both.find(|(_, was, is)| was != is)?;
            Some(format!("position {position} holds {is:?} and not {was:?}"))
        };
        let gone = || self.troubles.difference(&played.troubles).next().map(|trouble| format!("no longer: {trouble}"));
        new.or_else(moved).or_else(gone)
    }
}

/// What a line tells of trouble, without the slots and digests in it.
fn trouble(line: &str) -> Option<&str> {
    if line.starts_with("VIOLATED") || line.starts_with("panicked") {
        return Some(line);
    }
    let (head, _) = line.split_once(": ")?;
    let told = head.ends_with(" stops") || head.ends_with(" cannot start") || head.contains(" refuses ");
    told.then_some(head)
}

/// The positions of which a line says what stands there: `1 delivers 4..5: d e`, or `4: d at 1 2`.
fn places_in(line: &str) -> Vec<(u64, &str)> {
    let Some((head, told)) = line.split_once(": ") else { return Vec::new() };
    if let Some((_, places)) = head.split_once(" delivers ") {
        let (first, last) = places.split_once("..").unwrap_or((places, places));
        let (Ok(first), Ok(last)) = (first.parse(), last.parse::<u64>()) else { return Vec::new() };
        let messages: Vec<(u64, &str)> = (first..).zip(told.split(' ')).collect();
        // Otherwise it tells how many they are, or how long.
        return if messages.last().is_some_and(|(place, _)| *place == last) { messages } else { Vec::new() };
    }
    match (head.parse(), told.rsplit_once(" at ")) {
        (Ok(position), Some((message, _))) => vec![(position, message)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(recorded: &str, played: &str) -> Difference {
        let text = |output: &str| format!("members 3\n----\n{output}\n");
        Difference::between(&text(recorded), &text(played))
    }

    #[test]
    fn another_moment_is_told_from_another_course() {
        let recorded = "1 enters 0.0\n1 delivers 1: a\n1 delivers 2: b\n2: b at 1 2\n3 stops: vote 3@0.0 h1";
        assert_eq!(difference(recorded, recorded), Difference::None);
        for shifted in [
            "1 delivers 1..2: a b\n2: b at 1\n3 stops: vote 3@0.0 h1",
            "1 enters 0.1\n1 delivers 1: a\n3 stops: vote 4@0.1 h2",
            "1 delivers 1..9: 9 messages\n1 delivers 1: 64 bytes\n3 stops: vote 3@0.0 h1",
        ] {
            assert_eq!(difference(recorded, shifted), Difference::Shifted, "{shifted}");
        }
        for broken in [
            "1 enters 0.0\n1 delivers 1: a\n1 delivers 2: b\n2: b at 1 2",
            "1 delivers 1: b\n1 delivers 2: a\n3 stops: vote 3@0.0 h1",
            "1 delivers 1: a\n2: c at 1 2\n3 stops: vote 3@0.0 h1",
            "1 delivers 1: a\n3 stops: vote 3@0.0 h1\nVIOLATED R4: twice",
            "1 delivers 1: a\n3 stops: vote 3@0.0 h1\npanicked: at",
        ] {
            assert!(matches!(difference(recorded, broken), Difference::Broken(_)), "{broken}");
        }
    }
}
