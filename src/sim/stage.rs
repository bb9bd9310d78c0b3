//! The members of one simulated group with everything that watches them. Who plays the world (the random one, or a
//! scenario) moves time, carries messages and breaks things; the stage runs the drivers and judges what they do.

use bytes::Bytes;

use super::chart::Chart;
use super::check::{Agreement, Promises, Sequence, Statements, Storage, Violation, Witness};
use super::clock::{Clock, Moment};
use super::coverage::Coverage;
use super::group::Group;
use super::node::{Ending, Life, Node, Settings};
use super::random::Random;
use super::shell::{Death, Effect, Temper};
use crate::driver::{Input, Serve};
use crate::types::peer::{ChainEntry, DecidedSlot, Envelope, Refusal};
use crate::types::{
    Ack, Batch, Delivered, Digest, Incarnation, Location, Message, Outcome, PeerMessage, Publish, Record, Rejection,
    Ticket,
};
use crate::wal::{MemoryFiles, Survival, Unsynced};
use std::sync::Arc;
use std::time::Duration;

/// Something a member did that the world has to act on.
#[derive(Debug)]
pub enum Act {
    /// A message left.
    Send {
        /// To whom, by index.
        to: usize,
        /// What.
        envelope: Arc<Envelope>,
    },
    /// A peer was refused.
    Refuse {
        /// Who, by index.
        peer: usize,
        /// Why.
        reason: Refusal,
    },
    /// Slots are to be read for somebody.
    Serve(Serve),
}

/// A turn or a start as the world sees it: when each act happened, and how it ended.
pub struct Scene {
    /// What the world has to act on, in order.
    pub acts: Vec<(Moment, Act)>,
    /// How it ended.
    pub ending: Ending,
}

/// Members and watchers.
pub struct Stage {
    /// Who they are.
    pub group: Group,
    /// The members.
    pub nodes: Vec<Node>,
    /// The last steps.
    pub chart: Chart,
    /// What happened.
    pub coverage: Coverage,
    /// What publishers were told.
    pub promises: Promises,
    /// What hosts got.
    pub sequence: Sequence,
    /// What disks say about votes.
    pub agreement: Agreement,
    /// What members did, in words, if anybody wants to know.
    pub notices: Option<Vec<(Moment, usize, String)>>,
    /// Members whose process ended by itself: it was drained, or it stopped.
    exiting: Vec<bool>,
    storages: Vec<Storage>,
    statements: Statements,
    settings: Settings,
    trace: blake3::Hasher,
}

impl Stage {
    /// A group that was never started; each member with its clock and disk.
    pub fn new(group: Group, settings: Settings, members: Vec<(Clock, Temper)>, seed: u64) -> Stage {
        let nodes = members.into_iter().enumerate().map(|(index, (clock, temper))| {
            Node::new(Group::key(index), clock, temper, Random::new(seed, 1000 + index as u64))
        });
        let size = group.size();
        Stage {
            nodes: nodes.collect(),
            chart: Chart::new(size),
            coverage: Coverage::default(),
            promises: Promises::new(size),
            sequence: Sequence::new(&group),
            agreement: Agreement::new(&group),
            notices: None,
            exiting: vec![false; size],
            storages: (0..size).map(|_| Storage::new(&settings.sabotage)).collect(),
            statements: Statements::new(&group),
            settings,
            trace: blake3::Hasher::new(),
            group,
        }
    }

    /// What is durable on a member's disk.
    pub fn storage(&self, member: usize) -> &Storage {
        &self.storages[member]
    }

    /// Digest of everything that happened, in order, with its contents: two runs that differ in one byte of a disk, a
    /// message, a delivery or an answer have two digests.
    pub fn trace(&self) -> Digest {
        Digest(*self.trace.finalize().as_bytes())
    }

    /// Adds a step to that digest.
    pub fn follow(&mut self, at: Moment, member: usize, what: u64) {
        self.trace.update(&at.0.to_le_bytes());
        self.trace.update(&[member as u8]);
        self.trace.update(&what.to_le_bytes());
    }

    /// Adds a step to that digest, and what it was about.
    fn follow_with(&mut self, at: Moment, member: usize, what: u64, about: &[&[u8]]) {
        self.follow(at, member, what);
        for bytes in about {
            self.trace.update(&(bytes.len() as u64).to_le_bytes());
            self.trace.update(bytes);
        }
    }

    /// Starts a member's process.
    pub fn start(&mut self, member: usize, at: Moment) -> Result<Scene, Violation> {
        self.sequence.restarted(member);
        self.follow(at, member, 1);
        let ending = self.nodes[member].start(at, &self.settings);
        self.exiting[member] = ending.is_exit();
        self.chart.note(at, member, format!("starts, incarnation {}", self.nodes[member].starts));
        if let Some(driver) = self.nodes[member].driver() {
            self.coverage.torn_tails += u64::from(driver.recovered().torn.is_some());
        }
        let acts = self.judge(member)?;
        Ok(Scene { acts, ending })
    }

    /// One turn of a member's driver.
    pub fn turn(&mut self, member: usize, at: Moment) -> Result<Scene, Violation> {
        let ending = self.nodes[member].turn(at);
        self.exiting[member] = ending.is_exit();
        let acts = self.judge(member)?;
        Ok(Scene { acts, ending })
    }

    /// A member's process is gone; its machine goes on, and so does what the process left to it.
    pub fn kill(&mut self, member: usize, at: Moment) {
        self.follow(at, member, 7);
        let exits = std::mem::take(&mut self.exiting[member]);
        self.chart.note(at, member, if exits { "exits" } else { "is killed" });
        self.collect_counters(member);
        self.nodes[member].kill();
        self.coverage.crashes += u64::from(!exits);
        self.coverage.kills += u64::from(!exits);
        self.promises.orphan(member);
    }

    /// A member's machine is gone; of each unsynced write that much survives.
    pub fn crash(&mut self, member: usize, at: Moment, mut choose: impl FnMut(&Unsynced<'_>) -> Survival) {
        self.follow(at, member, 2);
        self.chart.note(at, member, "loses its machine");
        self.collect_counters(member);
        let mut torn = 0;
        self.nodes[member].crash(|write| {
            let survival = choose(write);
            torn += u64::from((1..write.length).contains(&survival.bytes_left(write)));
            survival
        });
        let exits = std::mem::take(&mut self.exiting[member]);
        self.coverage.crashes += u64::from(!exits);
        self.coverage.torn_writes += torn;
        self.promises.orphan(member);
    }

    /// A member stops for good.
    pub fn end(&mut self, member: usize, at: Moment, reason: String) {
        self.kill(member, at);
        self.chart.note(at, member, format!("ends: {reason}"));
        self.nodes[member].life = Life::Ended(reason);
    }

    /// A scenario gives a member that is down another disk. Nothing of it is known until it is read.
    pub fn replace_disk(&mut self, member: usize, files: MemoryFiles) {
        self.nodes[member].files = files;
        self.storages[member] = Storage::new(&self.settings.sabotage);
        self.agreement.forget(member);
    }

    /// A host publishes a body (from [`Promises`]) at a running member.
    pub fn publish(&mut self, member: usize, at: Moment, ack: Ack, body: Bytes, patience: Duration) -> Ticket {
        let message = Message {
            kind: crate::types::MessageKind::Application,
            topic: "simulation".to_owned(),
            content_type: None,
            body,
        };
        let node = &self.nodes[member];
        let deadline = at + patience;
        let start = node.starts;
        let ticket = self.promises.published(member, start, ack, message.clone(), deadline);
        let deadline = node.shell.lock().clock.read(deadline).instant;
        node.push(Input::Publish(Publish { ticket, ack, message, deadline }));
        self.coverage.published += 1;
        ticket
    }

    /// The answer to a request for decided slots, read from the member's log; none if nothing of it can be read.
    pub fn read_slots(&self, member: usize, request: &Serve) -> Option<Arc<Envelope>> {
        let node = &self.nodes[member];
        let mut slots = Vec::new();
        for slot in &request.slots {
            let Some(slot) = read_slot(node, slot) else { break };
            slots.push(slot);
        }
        if slots.is_empty() {
            return None;
        }
        let message = PeerMessage::Decided { mark: request.mark, slots };
        Some(Arc::new(Envelope { epoch: crate::types::Epoch(0), configuration: self.group.configuration, message }))
    }

    /// Says something to whoever wants to know.
    pub fn notice(&mut self, at: Moment, member: usize, words: impl FnOnce() -> String) {
        if let Some(notices) = &mut self.notices {
            notices.push((at, member, words()));
        }
    }

    /// Adds up what replicas count, when a process ends or the simulation does.
    pub fn collect_counters(&mut self, member: usize) {
        let coverage = &mut self.coverage;
        {
            let mut shell = self.nodes[member].shell.lock();
            coverage.slow_syncs += std::mem::take(&mut shell.slow_syncs);
            coverage.failed_syncs += std::mem::take(&mut shell.failed_syncs);
        }
        let Some(driver) = self.nodes[member].driver() else { return };
        let counters = driver.replica().counters();
        coverage.barred += counters.barred;
        coverage.adoptions += counters.adoptions;
        coverage.adoptions_of_several += counters.adoptions_of_several;
        coverage.slots_by_catchup += counters.slots_by_catchup;
        coverage.resignations += counters.resignations;
        coverage.rot_repaired += counters.repairs;
    }

    /// Judges everything a member did in a turn or a start, in order.
    fn judge(&mut self, member: usize) -> Result<Vec<(Moment, Act)>, Violation> {
        let mut acts = Vec::new();
        let mut said: Option<Arc<Envelope>> = None;
        for (at, effect) in self.nodes[member].effects() {
            match effect {
                Effect::Durable { file, offset, bytes } => {
                    self.follow_with(at, member, 3, &[file.as_bytes(), &offset.to_le_bytes(), &bytes]);
                    let node = &self.nodes[member];
                    let found = self.storages[member].durable(&file, offset, &bytes, |name| node.contents(name));
                    self.durable(member, at, found)?;
                }
                Effect::Settled { file, contents } => {
                    self.follow_with(at, member, 8, &[file.as_bytes(), &contents]);
                    let found = self.storages[member].settled(&file, &contents);
                    self.durable(member, at, found)?;
                }
                Effect::Send { to, envelope } => {
                    // What goes to several members at once is encoded once.
                    let again = said.as_ref().is_some_and(|said| Arc::ptr_eq(said, &envelope));
                    let bytes = if again { Bytes::new() } else { envelope.encode() };
                    self.follow_with(at, member, 4, &[&to.0, &bytes]);
                    said = Some(envelope.clone());
                    self.sent(member, &envelope)?;
                    if let Some(to) = self.group.index(&to) {
                        acts.push((at, Act::Send { to, envelope }));
                    }
                }
                Effect::Refuse { peer, nonce, reason } => {
                    let whom = [&peer.0[..], &nonce.0.to_le_bytes()].concat();
                    self.follow_with(at, member, 9, &[&whom, reason.to_string().as_bytes()]);
                    self.chart.note(at, member, format!("refuses {}: {reason}", peer.short()));
                    if let Some(peer) = self.group.index(&peer).filter(|peer| self.nodes[*peer].nonce() == nonce) {
                        acts.push((at, Act::Refuse { peer, reason }));
                    }
                }
                Effect::Door { .. } => {}
                Effect::Serve(request) => acts.push((at, Act::Serve(request))),
                Effect::Deliver(batches) => {
                    for delivered in &batches {
                        self.delivered(member, at, delivered)?;
                    }
                }
                Effect::Answer(outcomes) => {
                    for (ticket, outcome) in &outcomes {
                        self.answered(member, at, *ticket, outcome)?;
                    }
                }
            }
        }
        self.greets(member)?;
        Ok(acts)
    }

    /// What hellos of new links say from now on: nobody may have heard it yet, but somebody soon will.
    fn greets(&self, member: usize) -> Result<(), Violation> {
        let shell = self.nodes[member].shell.lock();
        match shell.hello.as_ref().filter(|_| !shell.dead) {
            Some(hello) => self.statements.greets(member, hello, &self.agreement),
            None => Ok(()),
        }
    }

    /// Records became durable: each is judged by what every disk holds by now.
    fn durable(
        &mut self,
        member: usize,
        at: Moment,
        found: Result<Vec<(Location, Record)>, String>,
    ) -> Result<(), Violation> {
        let found = found.map_err(|text| Violation::new("log", format!("member {}: {text}", member + 1)))?;
        for (_, record) in found {
            if let Record::Voter(voter) = &record
                && self.agreement.voter(member).is_none_or(|earlier| earlier.round < voter.round)
            {
                self.chart.note(at, member, format!("enters {}", voter.round));
                self.notice(at, member, || format!("{} enters {}", member + 1, voter.round));
                self.statements.enters(member, voter.round, &self.agreement)?;
                self.coverage.views_entered += u64::from(voter.round.view.0 > 0);
            }
            self.agreement.durable(member, &record)?;
        }
        Ok(())
    }

    fn sent(&mut self, member: usize, envelope: &Envelope) -> Result<(), Violation> {
        let message = &envelope.message;
        let coverage = &mut self.coverage;
        match message {
            PeerMessage::FetchBatches { .. } => coverage.fetches_of_batches += 1,
            PeerMessage::FetchLane { .. } => coverage.fetches_of_lanes += 1,
            PeerMessage::FetchChain { .. } => coverage.fetches_of_chains += 1,
            PeerMessage::FetchDecided { .. } => coverage.fetches_of_decided += 1,
            _ => {}
        }
        self.statements.sent(member, message, &mut self.agreement, &self.storages[member])
    }

    fn delivered(&mut self, member: usize, at: Moment, delivered: &Delivered) -> Result<(), Violation> {
        let read;
        let bytes: &[u8] = match &delivered.bytes {
            Some(bytes) => bytes,
            None => {
                read = self.nodes[member].read(&delivered.location).unwrap_or_default();
                &read
            }
        };
        let place = [delivered.first.0, delivered.slot.0, delivered.hlc.0].map(u64::to_le_bytes);
        self.follow_with(at, member, 5, &[place.as_flattened(), bytes]);
        let head = self.sequence.head();
        let witness = Witness { agreement: &self.agreement, storage: &self.storages[member] };
        self.sequence.delivered(member, delivered, bytes, &witness, &mut self.promises)?;
        self.notice(at, member, || tell_delivered(member, delivered, bytes));
        if self.sequence.head() > head {
            self.coverage.ordered += delivered.count;
            self.note_early(delivered, bytes);
        }
        Ok(())
    }

    /// A batch that its origin sent early and then lost in a crash was ordered all the same.
    fn note_early(&mut self, delivered: &Delivered, bytes: &[u8]) {
        let Some(header) = delivered.header() else { return };
        let origin = self.group.index(&header.origin).expect("checked when it was delivered");
        let lost = !self.storages[origin].holds_batch(&Digest::of("batch", bytes));
        let later: Incarnation = self.agreement.incarnation(origin);
        if lost && (later > header.incarnation || !self.nodes[origin].runs()) {
            self.coverage.early_batches_ordered += 1;
        }
    }

    fn answered(&mut self, member: usize, at: Moment, ticket: Ticket, outcome: &Outcome) -> Result<(), Violation> {
        self.follow_with(at, member, 6, &[&ticket.0.to_le_bytes(), format!("{outcome:?}").as_bytes()]);
        let coverage = &mut self.coverage;
        match outcome {
            Outcome::Accepted { id } => {
                coverage.answered_accepted += 1;
                if !self.storages[member].holds_message(id) {
                    let text = format!("member {} accepted {id}, which is not on its disk", member + 1);
                    return Err(Violation::new("R7", text));
                }
            }
            Outcome::Ordered { .. } => coverage.answered_ordered += 1,
            Outcome::Rejected(Rejection::DiskFull(_)) => coverage.refused_disk_full += 1,
            Outcome::WithoutEffect { .. } | Outcome::Left => {}
            Outcome::Rejected(_) => coverage.answered_rejected += 1,
            Outcome::OutcomeUnknown { .. } => coverage.answered_unknown += 1,
        }
        if self.notices.is_some() {
            let said = Promises::says(&self.promises.message(ticket).body);
            self.notice(at, member, || format!("{} answers {said}: {}", member + 1, tell_outcome(outcome)));
        }
        self.sequence.told(member, outcome)?;
        self.promises.answered(member, self.nodes[member].starts, ticket, outcome)
    }
}

/// Messages of one batch that are told one by one.
const TOLD_MAX: u64 = 6;

fn tell_delivered(member: usize, delivered: &Delivered, bytes: &[u8]) -> String {
    let last = delivered.first.0 + delivered.count - 1;
    let place = match delivered.count {
        1 => format!("{} delivers {}", member + 1, delivered.first),
        _ => format!("{} delivers {}..{last}", member + 1, delivered.first),
    };
    match crate::types::batch::messages(bytes) {
        Ok(messages) if delivered.count <= TOLD_MAX => {
            let said: Vec<String> = messages.iter().map(|message| Promises::says(&message.body)).collect();
            format!("{place}: {}", said.join(" "))
        }
        _ => format!("{place}: {} messages", delivered.count),
    }
}

fn tell_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted { .. } => "accepted".to_owned(),
        Outcome::Ordered { position, .. } => format!("ordered at {position}"),
        Outcome::Rejected(reason) => format!("rejected: {reason}"),
        Outcome::OutcomeUnknown { .. } => "outcome unknown".to_owned(),
        Outcome::WithoutEffect { reason } => format!("without effect: {reason}"),
        Outcome::Left => "left".to_owned(),
    }
}

fn read_slot(node: &Node, slot: &crate::driver::ServeSlot) -> Option<DecidedSlot> {
    let bytes = node.read(&slot.entry)?;
    let record = crate::types::record::EntryRecord::read(&bytes).ok()?;
    let entry = crate::types::Entry::admit(&record.entry).ok()?;
    let batches = slot.batches.iter().map(|batch| Batch::admit(node.read(batch)?.into()).ok());
    Some(DecidedSlot {
        entry: ChainEntry { slot: record.slot, parent: record.parent, entry: (entry, record.entry) },
        batches: batches.collect::<Option<Vec<Batch>>>()?,
        certificate: slot.certificate.clone(),
    })
}

/// Draws what survives of unsynced writes in one crash: mostly nothing or everything, else parts of each write.
pub fn tear(random: &mut Random) -> impl FnMut(&Unsynced<'_>) -> Survival + '_ {
    let manner = random.weighted(&[(4, 0), (3, 1), (4, 2), (4, 3)]);
    move |write| match manner {
        0 => Survival::Nothing,
        1 => Survival::All,
        2 => Survival::Leading(random.index(write.length + 1)),
        _ => Survival::Sectors((0..write.length / 512 + 2).map(|_| random.chance(600)).collect()),
    }
}

/// Why a member that was told to die did so, for the coverage table.
pub fn count_death(coverage: &mut Coverage, death: Death) {
    match death {
        Death::None => {}
        Death::Effects(_) | Death::InSync => coverage.crashes_inside_turn += 1,
        Death::SyncAfterSend => {
            coverage.crashes_inside_turn += 1;
            coverage.crashes_before_sync += 1;
        }
        Death::AfterSync => {
            coverage.crashes_inside_turn += 1;
            coverage.crashes_after_sync += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::node::Settings;
    use crate::types::{ClusterLimits, Sabotage, Timing};

    /// The digest of a group of one that orders one message.
    fn ordering(text: &str) -> Digest {
        let group = Group::new(1, ClusterLimits::default());
        let temper = Temper {
            sync: Duration::from_millis(1),
            exact: true,
            stall_every: 0,
            stall: Duration::ZERO,
            failing: false,
        };
        let settings = Settings {
            genesis: group.genesis.clone(),
            timing: Timing::default(),
            sabotage: Sabotage::NONE,
            segment_bytes: 1 << 20,
        };
        let mut stage = Stage::new(group, settings, vec![(Clock::new(0, 0), temper)], 0);
        stage.start(0, Moment(0)).unwrap();
        let body = stage.promises.text(text);
        let start = Moment::at(Duration::from_millis(10));
        stage.publish(0, start, Ack::Ordered, body, Duration::from_secs(10));
        for turn in 0..40 {
            stage.turn(0, start + Duration::from_millis(10 * turn)).unwrap();
        }
        assert_eq!(stage.sequence.position(0).0, 1, "it is ordered");
        stage.trace()
    }

    #[test]
    fn runs_that_differ_in_contents_alone_have_two_digests() {
        assert_eq!(ordering("one"), ordering("one"));
        assert_ne!(ordering("one"), ordering("two"));
    }
}
