//! What a script asks to be shown.

use super::player::{Event, Player, Understood};
use crate::sim::check::Promises;
use crate::sim::judge::tell_event;
use crate::types::{Outcome, Position};

/// Kinds of records, from 1 on.
pub(super) const RECORDS: [&str; 8] = ["incarnation", "batch", "entry", "voter", "vote", "decided", "genesis", "epoch"];

impl Player {
    pub(super) fn watch(&mut self, kinds: &[&str]) -> Understood<()> {
        self.watched = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        Ok(())
    }

    pub(super) fn show(&mut self, member: usize) -> Understood<()> {
        let stage = self.stage()?;
        let Some(driver) = stage.nodes[member].driver() else {
            self.say(format!("{}: down", member + 1));
            return Ok(());
        };
        let replica = driver.replica();
        let snapshot = replica.snapshot();
        let index = |id| stage.group.index(id).map_or(0, |index| index + 1);
        let leads = if replica.is_leading() { "leads" } else { "follows" };
        let linked: Vec<String> =
            snapshot.peers.iter().filter(|peer| peer.linked).map(|peer| index(&peer.member).to_string()).collect();
        let text = format!(
            "{}: {leads} {} of {} · slot {} · position {} · unordered {} · linked to {}",
            member + 1,
            snapshot.round,
            index(&snapshot.leader),
            snapshot.slot_decided,
            stage.sequence.position(member),
            snapshot.lane_unordered.0,
            linked.join(" ")
        );
        self.say(text);
        Ok(())
    }

    /// Who delivered what: every message with its position, and the members that have it.
    pub(super) fn show_order(&mut self) -> Understood<()> {
        let stage = self.stage()?;
        let mut lines = Vec::new();
        let messages = stage.promises.order().into_iter().map(|(position, body)| (position, Promises::says(body)));
        let rows = stage.agreement.order.rows.iter().filter(|row| row.first <= stage.sequence.head());
        let events = rows.filter_map(|row| Some((row.first, tell_event(&stage.group, &row.what)?)));
        let mut order: Vec<(Position, String)> = messages.chain(events).collect();
        order.sort();
        for (position, told) in order {
            let having: Vec<String> = (0..stage.group.size())
                .filter(|member| stage.sequence.position(*member) >= position)
                .map(|member| (member + 1).to_string())
                .collect();
            lines.push(format!("{position}: {told} at {}", having.join(" ")));
        }
        lines.into_iter().for_each(|line| self.say(line));
        Ok(())
    }

    /// How many messages have a position, and who has all of them. (Every reading of the clock was above the one before:
    /// the checkers see to that.)
    pub(super) fn count_order(&mut self) -> Understood<()> {
        let stage = self.stage()?;
        let head = stage.sequence.head();
        let having: Vec<String> = (0..stage.group.size())
            .filter(|member| stage.sequence.position(*member) == head)
            .map(|member| (member + 1).to_string())
            .collect();
        let slots = stage.agreement.order.largest_slot();
        self.say(format!("{head} messages at {}, up to {slots} in one slot", having.join(" ")));
        Ok(())
    }

    /// How publishers were answered, by kind.
    pub(super) fn show_answers(&mut self) -> Understood<()> {
        let promises = &self.stage()?.promises;
        let ordered = promises.answers(|outcome| matches!(outcome, Outcome::Ordered { .. }));
        let accepted = promises.answers(|outcome| matches!(outcome, Outcome::Accepted { .. }));
        let rejected = promises.answers(|outcome| matches!(outcome, Outcome::Rejected(_)));
        let unknown = promises.answers(|outcome| matches!(outcome, Outcome::OutcomeUnknown { .. }));
        self.say(format!("{ordered} ordered · {accepted} accepted · {rejected} rejected · {unknown} unknown"));
        Ok(())
    }

    pub(super) fn hush(&mut self, quiet: bool) -> Understood<()> {
        self.quiet = quiet;
        Ok(())
    }

    pub(super) fn count(&mut self, word: &str, names: &[&str]) -> Understood<()> {
        let member = self.running(word)?;
        let driver = self.stage()?.nodes[member].driver().ok_or("it does not run")?;
        let rows = driver.replica().counters().rows();
        let mut shown = Vec::new();
        for name in names {
            let row = rows.iter().find(|row| row.0 == *name).ok_or(format!("no counter {name}"))?;
            shown.push(format!("{name} {}", row.1));
        }
        self.say(format!("{word}: {}", shown.join(" · ")));
        Ok(())
    }

    pub(super) fn show_log(&mut self, word: &str) -> Understood<()> {
        let member = self.running(word)?;
        let driver = self.stage()?.nodes[member].driver().ok_or("it does not run")?;
        let recovered = driver.recovered();
        let torn = recovered.torn.map_or("whole".to_owned(), |_| "a torn tail was cut".to_owned());
        let incarnation = driver.replica().incarnation();
        self.say(format!("{word}: incarnation {incarnation} · {torn}"));
        Ok(())
    }

    /// The newest durable records of a member's log.
    pub(super) fn show_records(&mut self, word: &str, count: usize) -> Understood<()> {
        let member = self.member(word)?;
        let placed = self.stage()?.storage(member).placed();
        let newest = &placed[placed.len().saturating_sub(count)..];
        let kinds: Vec<&str> = newest.iter().map(|placed| RECORDS[usize::from(placed.kind) - 1]).collect();
        self.say(format!("{word}: {}", kinds.join(" ")));
        Ok(())
    }

    pub(super) fn say(&mut self, line: impl Into<String>) {
        self.out.push((None, line.into()));
    }

    /// Ids as member numbers, and digests as names in the order of their coming: recorded output survives a change of
    /// what is hashed.
    pub(super) fn named(&mut self, text: &str) -> String {
        let named = |word: &str| {
            let (word, mark) = word.split_at(word.trim_end_matches([',', ':', ';']).len());
            self.named_word(word) + mark
        };
        text.split(' ').map(named).collect::<Vec<String>>().join(" ")
    }

    fn named_word(&mut self, word: &str) -> String {
        let Some(stage) = &self.stage else { return word.to_owned() };
        for index in 0..stage.group.size() {
            let short = stage.group.id(index).short();
            let rest = word.strip_prefix(&short).or_else(|| word.strip_prefix(&short[..4]));
            if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with(['/', ':'])) {
                return format!("{}{rest}", index + 1);
            }
        }
        if word.len() != 8 || !word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return word.to_owned();
        }
        let known = self.digests.iter().position(|digest| digest == word).unwrap_or_else(|| {
            self.digests.push(word.to_owned());
            self.digests.len() - 1
        });
        format!("h{}", known + 1)
    }

    pub(super) fn collect(&mut self) {
        let notices = self.stage.as_mut().and_then(|stage| stage.notices.as_mut()).map(std::mem::take);
        if !self.quiet {
            notices.into_iter().flatten().for_each(|(at, member, words)| self.at(at, Event::Say(member, words)));
        }
    }
}
