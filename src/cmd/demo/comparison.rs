//! Whether all members delivered exactly the same sequence, and everything that was acknowledged.

use std::collections::{HashMap, HashSet};

use crate::types::Position;

/// One delivered message, as a member's stream shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Its position.
    pub position: Position,
    /// Its identity.
    pub id: String,
    /// Its body; the publishers give each message another one.
    pub body: String,
    /// It tells of the membership; nobody published it.
    pub system: bool,
}

/// What publishers know.
#[derive(Debug, Default)]
pub struct Published {
    /// Every body that was sent.
    pub sent: HashSet<String>,
    /// Bodies acknowledged as ordered, with their positions.
    pub ordered: HashMap<String, Position>,
}

/// Mistakes told of one stream; one is enough to fail.
const MISTAKES_TOLD: usize = 5;

/// The digest of a whole stream: every position, id and body, each with its length before it.
pub fn digest(stream: &[Read]) -> String {
    let mut hasher = blake3::Hasher::new();
    for read in stream {
        hasher.update(&read.position.0.to_be_bytes());
        for text in [&read.id, &read.body] {
            hasher.update(&(text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// Everything that is wrong with one stream; empty if it is as promised.
pub fn mistakes(stream: &[Read], published: &Published) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut ids = HashSet::new();
    let mut places: HashMap<&str, Position> = HashMap::new();
    for (index, read) in stream.iter().enumerate() {
        let expected = Position(index as u64 + 1);
        if read.position != expected {
            mistakes.push(format!("a gap: position {} where {expected} is due", read.position));
        }
        if !ids.insert(&read.id) {
            mistakes.push(format!("a duplicate: {} again at position {}", read.id, read.position));
        }
        if read.system {
            continue;
        }
        if let Some(earlier) = places.insert(&read.body, read.position) {
            mistakes.push(format!("a duplicate: `{}` at positions {earlier} and {}", read.body, read.position));
        }
        if !published.sent.contains(&read.body) {
            mistakes.push(format!("`{}` at position {} was never published", read.body, read.position));
        }
    }
    for (body, position) in &published.ordered {
        match places.get(body.as_str()) {
            None => mistakes.push(format!("`{body}` was acknowledged at position {position} and is missing")),
            Some(place) if place != position => {
                mistakes.push(format!("`{body}` was acknowledged at position {position} and is at {place}"));
            }
            Some(_) => {}
        }
    }
    let untold = mistakes.len().saturating_sub(MISTAKES_TOLD);
    mistakes.truncate(MISTAKES_TOLD);
    mistakes.extend((untold > 0).then(|| format!("and {untold} more")));
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(bodies: &[&str]) -> Vec<Read> {
        let read = |(index, body): (usize, &&str)| Read {
            position: Position(index as u64 + 1),
            id: format!("m/1/{index}"),
            body: body.to_string(),
            system: *body == "joined",
        };
        bodies.iter().enumerate().map(read).collect()
    }

    fn published(sent: &[&str], ordered: &[(&str, u64)]) -> Published {
        Published {
            sent: sent.iter().map(|body| body.to_string()).collect(),
            ordered: ordered.iter().map(|(body, position)| (body.to_string(), Position(*position))).collect(),
        }
    }

    #[test]
    fn a_sequence_as_promised_has_no_mistakes() {
        let published = published(&["a", "b", "c", "d"], &[("a", 1), ("c", 2)]);
        assert_eq!(mistakes(&stream(&["a", "c", "b"]), &published), Vec::<String>::new());
        let changing = stream(&["a", "c", "joined", "b", "joined"]);
        assert_eq!(mistakes(&changing, &published), Vec::<String>::new(), "nobody published that somebody joined");
    }

    #[test]
    fn each_broken_promise_is_told() {
        let published = published(&["a", "b", "c"], &[("a", 1), ("b", 2)]);
        let told = |stream: &[Read]| mistakes(stream, &published).join("\n");
        assert!(told(&stream(&["a", "b", "a"])).contains("positions 1 and 3"));
        assert!(told(&stream(&["b", "a"])).contains("acknowledged at position 1 and is at 2"));
        assert!(told(&stream(&["a"])).contains("`b` was acknowledged at position 2 and is missing"));
        assert!(told(&stream(&["a", "b", "x"])).contains("never published"));
        assert!(told(&stream(&["z", "a", "b"])[1..]).contains("a gap: position 2 where 1 is due"));
    }

    #[test]
    fn digests_tell_streams_apart() {
        assert_eq!(digest(&stream(&["a", "b"])), digest(&stream(&["a", "b"])));
        assert_ne!(digest(&stream(&["a", "b"])), digest(&stream(&["b", "a"])));
    }
}
