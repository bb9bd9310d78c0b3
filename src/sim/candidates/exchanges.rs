//! What goes between machines: asks, answers, what sources tell; judged as it leaves, and lost now and then.

use std::time::Duration;

use super::gathering::{Course, Event, Gathering};
use super::machine::{Process, owner};
use super::telling::{describe, members, plain, tell};
use crate::codec::{CANDIDACY_HEADER_BYTES, admit_candidacy, candidacy_frame};
use crate::protocol::CandidateInput;
use crate::sim::check::Violation;
use crate::types::limits::CANDIDACY_TIMEOUT;
use crate::types::{CandidacyFrame, CandidacyMessage, CandidacyRefusal, ClusterId, MemberId};

/// A source tells a machine so often who is there.
const DISCOVERY: Duration = Duration::from_secs(2);

impl Gathering {
    /// A source tells who is there: a candidate is to ask them, a member says whose group it is.
    pub(super) fn discover(&mut self, index: usize, start: u64) -> Course {
        self.after(DISCOVERY, Event::Discover(index, start));
        for other in 0..self.machines.len() {
            let there = other != index && self.machines[other].runs() && self.reach(index, other);
            if !there || self.random.chance(self.manner.unseen) {
                continue;
            }
            let id = self.machines[other].id(other);
            match &self.machines[index].process {
                Process::Candidate(_) => self.step(index, CandidateInput::Found(id))?,
                Process::Member(group) if group.genesis.members.iter().all(|member| member.id != id) => {
                    let greeting = group.greeting();
                    self.send_ask(index, id, greeting)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn ask_arrives(&mut self, from: usize, to: usize, exchange: u64, frame: CandidacyFrame) -> Course {
        let asker = self.machines[from].id(from);
        match &self.machines[to].process {
            Process::Candidate(_) => {
                self.machines[to].asks.insert(asker, exchange);
                self.step(to, CandidateInput::Asked { from: asker, frame })
            }
            Process::Member(group) => {
                let answer = group.answer(asker, &frame);
                if let Some(other) = answer.other_group {
                    self.meets_another(to, &other);
                }
                self.machines[to].asks.insert(asker, exchange);
                self.send_answer(to, asker, answer.frame)
            }
            Process::Down | Process::Stopped(_) => Ok(()),
        }
    }

    pub(super) fn answer_arrives(&mut self, from: MemberId, to: usize, frame: CandidacyFrame) -> Course {
        let Process::Member(group) = &self.machines[to].process else {
            return self.step(to, CandidateInput::Answered { from, frame });
        };
        if let Some(other) = group.other_group(&frame) {
            self.meets_another(to, &other);
        }
        Ok(())
    }

    /// Two groups of one name have met: said loudly on both sides.
    fn meets_another(&mut self, index: usize, cluster: &ClusterId) {
        let named = self.vows.made().find(|genesis| genesis.cluster() == *cluster).map(members).unwrap_or_default();
        if self.note_once(index, format!("meets another group of its name: {named}")) {
            self.coverage.groups_of_one_name_met += 1;
        }
    }

    pub(super) fn send_ask(&mut self, from: usize, to: MemberId, frame: CandidacyFrame) -> Course {
        let frame = self.pass(from, &to, frame)?;
        self.exchanges += 1;
        let exchange = self.exchanges;
        self.machines[from].asked.insert(to, exchange);
        let target = owner(&to).map(|(index, _)| index).filter(|index| {
            let there = *index < self.machines.len() && self.machines[*index].id(*index) == to;
            there && self.machines[*index].runs()
        });
        let latency = self.delay();
        let Some(target) = target else {
            self.after(latency * 2, Event::NoAnswer { from: to, to: from, exchange });
            return Ok(());
        };
        self.after(CANDIDACY_TIMEOUT, Event::NoAnswer { from: to, to: from, exchange });
        if !self.random.chance(self.manner.lost) && !self.blocked.contains(&(from, target)) {
            self.after(latency, Event::Ask { from, to: target, exchange, frame });
        }
        Ok(())
    }

    pub(super) fn send_answer(&mut self, from: usize, to: MemberId, frame: CandidacyFrame) -> Course {
        let frame = self.pass(from, &to, frame)?;
        let Some(exchange) = self.machines[from].asks.remove(&to) else { return Ok(()) };
        let Some((target, _)) = owner(&to) else { return Ok(()) };
        let lost = self.blocked.contains(&(from, target)) || self.random.chance(self.manner.lost);
        if !lost {
            let (latency, id) = (self.delay(), self.machines[from].id(from));
            self.after(latency, Event::Answer { from: id, to: target, exchange, frame });
        }
        Ok(())
    }

    /// What leaves is judged and goes through its bytes.
    fn pass(&mut self, from: usize, to: &MemberId, frame: CandidacyFrame) -> Result<CandidacyFrame, Violation> {
        let id = self.machines[from].id(from);
        let bytes = candidacy_frame(&frame).expect("what candidates say fits into a frame");
        self.trace.update(&self.now.0.to_le_bytes());
        self.trace.update(&to.0);
        self.trace.update(&bytes);
        self.chart.note(self.now, from, format!("to {}: {}", tell(to), describe(&frame)));
        if let CandidacyMessage::Refused(refusal) = &frame.message {
            self.refuses(from, to, refusal);
        }
        self.vows.says(id, &frame)?;
        let admitted = admit_candidacy(&bytes[CANDIDACY_HEADER_BYTES..]);
        assert_eq!(admitted.as_ref(), Ok(&frame), "what is said is heard");
        Ok(frame)
    }

    fn refuses(&mut self, from: usize, to: &MemberId, refusal: &CandidacyRefusal) {
        let row = match refusal {
            CandidacyRefusal::Crowded { .. } => &mut self.coverage.candidates_refused_crowded,
            CandidacyRefusal::OtherSettings { .. } | CandidacyRefusal::OtherExpect { .. } => {
                &mut self.coverage.candidates_refused_differing
            }
            CandidacyRefusal::Lower(_) => &mut self.coverage.proposals_refused_lower,
            _ => return,
        };
        *row += 1;
        let text = plain(&refusal.to_string(), &self.ids());
        self.note_once(from, format!("refuses {}: {text}", tell(to)));
    }
}
