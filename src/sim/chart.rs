//! The last steps of a simulation as a message sequence chart.
//!
//! ```text
//!         time  1         2         3
//!    12.003120  o-------->|         |         proposal 7@0.1 on 5d20c1f4 with 8139/1/4
//!    12.003544  |<--------o         |         vote 7@0.1 41ab09ff
//!    12.003544  |         o-------->|         vote 7@0.1 41ab09ff
//!    12.003910  o------------------x|         heartbeat 0.1 decided 6 (lost)
//!    12.004000  |         *         |         is killed
//!    12.510000  |         |         |         == faults are over
//! ```
//!
//! A row is an arrival: `o` sent it, the arrow's head is where it arrives, `x` where it does not. `*` is a deed of one
//! member, `==` one of the world.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;

use super::clock::Moment;
use crate::types::peer::{Envelope, PeerMessage};
use crate::types::{LaneHead, MemberId};

/// Steps kept.
const STEPS: usize = 160;
/// Width of one member's column.
const COLUMN: usize = 10;

/// One row.
#[derive(Clone, Debug)]
enum Step {
    /// A message arrives; `lost` says why it does not.
    Message { from: usize, to: usize, envelope: Arc<Envelope>, lost: Option<&'static str> },
    /// Something happens at a member.
    Note { member: usize, text: String },
    /// Something happens to the group.
    Word(String),
}

/// The last steps.
pub struct Chart {
    members: usize,
    steps: VecDeque<(Moment, Step)>,
}

impl Chart {
    /// An empty chart.
    pub fn new(members: usize) -> Chart {
        Chart { members, steps: VecDeque::with_capacity(STEPS) }
    }

    /// A message arrives, or is lost for the reason given.
    pub fn message(
        &mut self,
        at: Moment,
        from: usize,
        to: usize,
        envelope: &Arc<Envelope>,
        lost: Option<&'static str>,
    ) {
        self.push(at, Step::Message { from, to, envelope: envelope.clone(), lost });
    }

    /// Something happens at a member.
    pub fn note(&mut self, at: Moment, member: usize, text: impl Into<String>) {
        self.push(at, Step::Note { member, text: text.into() });
    }

    /// Something happens to the group.
    pub fn word(&mut self, at: Moment, text: impl Into<String>) {
        self.push(at, Step::Word(text.into()));
    }

    fn push(&mut self, at: Moment, step: Step) {
        if self.steps.len() == STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back((at, step));
    }

    /// The chart.
    pub fn draw(&self) -> String {
        let mut text = format!("{:>12}  ", "time");
        for member in 1..=self.members {
            write!(text, "{member:<COLUMN$}").expect("a String is writable");
        }
        text.push('\n');
        for (at, step) in &self.steps {
            let (line, label) = self.row(step);
            writeln!(text, "{:>12}  {line}{label}", at.to_string()).expect("a String is writable");
        }
        text
    }

    fn row(&self, step: &Step) -> (String, String) {
        let mut line: Vec<char> =
            (0..self.members * COLUMN).map(|at| if at % COLUMN == 0 { '|' } else { ' ' }).collect();
        let label = match step {
            Step::Message { from, to, envelope, lost } => {
                let (start, end) = (from * COLUMN, to * COLUMN);
                line[start.min(end) + 1..start.max(end)].fill('-');
                line[start] = 'o';
                let head = if end > start { end - 1 } else { end + 1 };
                line[head] = match lost {
                    Some(_) => 'x',
                    None if end > start => '>',
                    None => '<',
                };
                let lost = lost.map_or(String::new(), |reason| format!(" ({reason})"));
                format!("{}{lost}", describe(&envelope.message))
            }
            Step::Note { member, text } => {
                line[member * COLUMN] = '*';
                text.clone()
            }
            Step::Word(text) => format!("== {text}"),
        };
        (line.into_iter().collect(), label)
    }
}

/// A message in a few words.
pub fn describe(message: &PeerMessage) -> String {
    let claim = |claim: &crate::types::Claim| claim.map_or("none".to_owned(), |tip| tip.to_string());
    let name = message.name();
    match message {
        PeerMessage::Batch(batch) => {
            let id = batch.header.id();
            let origin = batch.header.origin.short();
            format!("{name} {origin}/{}/{} of {}", id.incarnation, id.number, batch.header.count)
        }
        PeerMessage::Proposal { round, entry } => {
            format!("{name} {}@{round} on {} with {}", entry.slot, entry.parent.short(), contents(&entry.entry.0))
        }
        PeerMessage::Vote(vote) => format!("{name} {}", vote.tip),
        PeerMessage::Claim { round, claim: tip } => format!("{name} for {round}: {}", claim(tip)),
        PeerMessage::NewView { round, base } => format!("{name} {round}: base {}", claim(base)),
        PeerMessage::Status(status) => {
            let complaint = status.complaint.map_or(String::new(), |view| format!(" complains about {view}"));
            let lanes: Vec<String> = status.lanes.iter().map(lane).collect();
            format!("{name} in {} decided {}{complaint} lanes {}", status.round, status.decided.slot, lanes.join(" "))
        }
        PeerMessage::Heartbeat { round, decided, .. } => format!("{name} {round} decided {}", decided.slot),
        PeerMessage::FetchBatches { batches, .. } => format!("{name}: {}", batches.len()),
        PeerMessage::FetchLane { origin, after } => format!("{name} of {}", lane(&(*origin, *after))),
        PeerMessage::FetchChain { slot, digest, above } => format!("{name} {slot} {} above {above}", digest.short()),
        PeerMessage::Chain(entries) => {
            let slots: Vec<String> = entries.iter().map(|entry| entry.slot.to_string()).collect();
            format!("{name} {}", slots.join(" "))
        }
        PeerMessage::FetchDecided { after, .. } => format!("{name} after {after}"),
        PeerMessage::Decided { mark, slots } => {
            let slots: Vec<String> = slots.iter().map(|slot| slot.entry.slot.to_string()).collect();
            format!("{name} {} up to {}", slots.join(" "), mark.slot)
        }
        PeerMessage::Epochs { from, links } => format!("{name} {} from {from}", links.len()),
    }
}

fn lane((member, head): &(MemberId, LaneHead)) -> String {
    format!("{}:{}/{}", &member.short()[..4], head.batch.incarnation, head.batch.number)
}

fn contents(entry: &crate::types::Entry) -> String {
    if let Some(end) = entry.epoch_end() {
        let voters: Vec<String> = end.next.voters.iter().map(|voter| voter.short()[..4].to_owned()).collect();
        return format!("the end of the epoch, then {}", voters.join(" "));
    }
    let names: Vec<String> = entry
        .batches()
        .iter()
        .map(|batch| format!("{}/{}/{}", &batch.origin.short()[..4], batch.batch.incarnation, batch.batch.number))
        .collect();
    names.join(" ")
}
