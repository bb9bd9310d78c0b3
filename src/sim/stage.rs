//! The members of one simulated group with everything that watches them. Who plays the world (the random one, or a
//! scenario) moves time, carries messages and breaks things; the stage runs the drivers and judges what they do.

use bytes::Bytes;

use super::chart::Chart;
use super::check::{Agreement, Promises, Sequence, Statements, Storage, Violation, Wish};
use super::clock::{Clock, Moment};
use super::coverage::Coverage;
use super::group::Group;
use super::node::{Ending, Life, Node, Settings};
use super::random::Random;
use super::shell::{Death, Temper};
use crate::driver::{Input, Serve};
use crate::types::peer::{ChainEntry, DecidedSlot, Envelope, Refusal};
use crate::types::{
    Ack, Batch, Command, Configuration, Digest, DoorMessage, Epoch, Message, Outcome, PeerMessage, Publish, Ticket,
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
    /// Words at a door.
    Door {
        /// Whose, by index.
        to: usize,
        /// What.
        message: DoorMessage,
    },
    /// An operator was answered.
    Answer {
        /// On which wish.
        ticket: Ticket,
        /// What.
        outcome: Outcome,
    },
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
    /// Ends of epochs that leaders proposed.
    pub ends_proposed: Vec<Configuration>,
    /// Members whose process ended by itself: it was drained, or it stopped.
    pub(super) exiting: Vec<bool>,
    pub(super) storages: Vec<Storage>,
    pub(super) statements: Statements,
    settings: Settings,
    trace: blake3::Hasher,
}

impl Stage {
    /// A group that was never started; each member with its clock and disk.
    pub fn new(group: Group, settings: Settings, members: Vec<(Clock, Temper)>, seed: u64) -> Stage {
        let nodes = members
            .into_iter()
            .enumerate()
            .map(|(index, (clock, temper))| Node::new(index, clock, temper, Random::new(seed, 1000 + index as u64)));
        let size = group.size();
        Stage {
            nodes: nodes.collect(),
            chart: Chart::new(size),
            coverage: Coverage::default(),
            promises: Promises::new(size),
            sequence: Sequence::new(&group),
            agreement: Agreement::new(&group),
            notices: None,
            ends_proposed: Vec::new(),
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
    pub(super) fn follow_with(&mut self, at: Moment, member: usize, what: u64, about: &[&[u8]]) {
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
        let ticket = self.promises.asked(member, node.starts, Wish::Publish(ack, message.clone()), deadline);
        let deadline = node.shell.lock().clock.read(deadline).instant;
        node.push(Input::Publish(Publish { ticket, ack, message, deadline }));
        self.coverage.published += 1;
        ticket
    }

    /// An operator wants a running member to have a command ordered.
    pub fn order(&mut self, member: usize, at: Moment, command: Command, patience: Duration) -> Ticket {
        let node = &self.nodes[member];
        let deadline = at + patience;
        let ticket = self.promises.asked(member, node.starts, Wish::Command(command.clone()), deadline);
        let deadline = node.shell.lock().clock.read(deadline).instant;
        node.push(Input::Command { ticket, command, deadline });
        ticket
    }

    /// An operator wants a running member to leave.
    pub fn leave(&mut self, member: usize, at: Moment) -> Ticket {
        let ticket = self.promises.asked(member, self.nodes[member].starts, Wish::Leave, at);
        self.nodes[member].push(Input::Leave { ticket });
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
        let (epoch, configuration) = self.present(member);
        Some(Arc::new(Envelope { epoch, configuration, message }))
    }

    /// The epoch that a running member is in, and the digest of its configuration, as its hellos say.
    pub fn present(&self, member: usize) -> (Epoch, Digest) {
        let shell = self.nodes[member].shell.lock();
        let hello = shell.hello.as_ref().map(|hello| (hello.epoch, hello.configuration));
        hello.unwrap_or_else(|| (Epoch(0), self.group.genesis.configuration().digest()))
    }

    /// Whether a member dials another where that is now.
    pub fn dials(&self, caller: usize, called: usize) -> bool {
        let (id, address) = (self.group.id(called), self.nodes[called].address());
        let shell = self.nodes[caller].shell.lock();
        shell.roster.members.iter().any(|known| known.id == id && known.dial && known.addresses.contains(&address))
    }

    /// Why a member lets another by no means in, if so.
    pub fn refuses(&self, member: usize, peer: usize) -> Option<Refusal> {
        let (key, shell) = (self.group.id(peer), self.nodes[member].shell.lock());
        if shell.roster.members.iter().any(|known| known.id == key) {
            return None;
        }
        let departed = shell.roster.former.iter().find(|(id, _)| *id == key);
        Some(match departed {
            Some((id, standing)) => Refusal::Departed { id: *id, standing: *standing },
            None => Refusal::NotAMember(key),
        })
    }

    /// Whether a member has, or last had, the address of a machine where that is now: from the order, or told at a door.
    pub fn address_known(&self, member: usize, peer: usize) -> bool {
        let (id, address) = (self.group.id(peer), self.nodes[peer].address());
        let node = &self.nodes[member];
        let shell = node.shell.lock();
        shell.roster.members.iter().any(|known| known.id == id && known.addresses.contains(&address))
            || node.contacts.iter().any(|contact| contact.id == id && contact.addresses.contains(&address))
    }

    /// Says something to whoever wants to know.
    pub fn notice(&mut self, at: Moment, member: usize, words: impl FnOnce() -> String) {
        if let Some(notices) = &mut self.notices {
            notices.push((at, member, words()));
        }
    }

    /// Counts what is known of the epochs at the end.
    pub fn count_epochs(&mut self) {
        let (agreement, coverage) = (&self.agreement, &mut self.coverage);
        let order = &agreement.order;
        coverage.lanes_closed += order.lanes_closed;
        coverage.ordered_of_replaced += order.ordered_of_replaced;
        let without = |is: fn(&Command) -> bool| {
            order.commands.iter().filter(|decided| !decided.has_effect && is(&decided.command)).count() as u64
        };
        coverage.leaves_without_effect += without(|command| *command == Command::LeaveIntent);
        coverage.joins_without_effect += without(|command| matches!(command, Command::JoinIntent { .. }));
        let ends = (1..).map(|epoch| (agreement.epochs.at(Epoch(epoch - 1)), agreement.epochs.at(Epoch(epoch))));
        for (before, after) in ends.map_while(|(before, after)| before.zip(after)) {
            coverage.epochs_established += u64::from(after.established);
            let (old, new) = (&before.configuration.voters, &after.configuration.voters);
            let gone = old.iter().filter(|voter| !new.contains(voter)).count();
            let come = new.iter().filter(|voter| !old.contains(voter)).count();
            coverage.voters_replaced += gone.min(come) as u64;
            coverage.epochs_larger += u64::from(new.len() > old.len());
            coverage.epochs_smaller += u64::from(new.len() < old.len());
            coverage.several_in_one += u64::from(gone.max(come) > 1);
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
        let group = Group::new(1, 1, ClusterLimits::default());
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
