//! Words at doors in the random world: a knock and its answer travel like messages, between processes, or from a machine
//! that has none yet. There the joining node is played: it knocks with its join code until it is let in.

use std::time::Duration;

use super::clock::Moment;
use super::machines::Phase;
use super::world::{Course, Event, Verdict, World};
use crate::driver::Input;
use crate::types::{Contact, DoorFrame, DoorMessage, DoorRefusal, Told, limits};

/// Words on their way to a door, or back from it.
#[derive(Clone, Debug)]
pub struct Words {
    /// Who speaks.
    pub from: usize,
    /// Whom it speaks to.
    pub to: usize,
    /// What it says.
    pub message: DoorMessage,
    /// For an answer, in which of its starts the other knocked.
    pub answers: Option<u64>,
}

/// A refused connection stays for so long: words at the door may use it.
const FAREWELL: Duration = Duration::from_secs(1);

impl World {
    /// A process says something at a door.
    pub(super) fn say_at_door(&mut self, from: usize, to: usize, at: Moment, message: DoorMessage) {
        let told = matches!(&message, DoorMessage::Tell(told) if !told.links.is_empty());
        self.stage.coverage.chains_by_door += u64::from(told);
        let answers = self.knocks.remove(&(to, from));
        if answers.is_none() && matches!(message, DoorMessage::Refused(_)) {
            return; // nobody waits for it any more, and it is no knock
        }
        let met = self.met.get(&self.pair(from, to)).is_some_and(|met| self.now.since(*met) < FAREWELL);
        let linked = self.network.session(from, to).is_some() && self.network.believes(from, to);
        if answers.is_some() || met || linked || self.stage.address_known(from, to) {
            self.carry(at, Words { from, to, message, answers });
        }
    }

    /// Lets words travel: they may be lost, and pass no broken link.
    fn carry(&mut self, at: Moment, words: Words) {
        let pair = self.pair(words.from, words.to);
        let manner = *self.network.manner(words.from, words.to);
        let lost = self.barred[pair] > 0 || manner.silent || self.random.chance(manner.lost);
        let delay = self.random.around(manner.latency * 3);
        if !lost {
            self.at(at + delay, Event::Words(Box::new(words)));
        }
    }

    /// Words arrive.
    pub(super) fn hear_at_door(&mut self, words: Words) -> Course {
        let Words { from, to, message, answers } = words;
        self.stage.chart.note(self.now, to, format!("hears {} at the door: {}", from + 1, tell(&message)));
        let message = if self.plan.coded { self.through_bytes(message) } else { message };
        let node = &self.stage.nodes[to];
        if !node.runs() {
            return if answers.is_some() { self.answer_at_door(to, from, message) } else { Ok(()) };
        }
        match answers {
            Some(start) if start != node.starts => return Ok(()),
            Some(_) => {}
            None => {
                self.knocks.insert((from, to), self.stage.nodes[from].starts);
            }
        }
        let from = self.stage.group.id(from);
        self.push(to, Input::Door { from, message });
        Ok(())
    }

    fn through_bytes(&self, message: DoorMessage) -> DoorMessage {
        let frame = DoorFrame { version: limits::PROTOCOL_VERSION, cluster: self.stage.group.cluster, message };
        DoorFrame::admit(&frame.encode()).expect("members understand each other").message
    }

    /// A machine with a join code knocks at one of the doors that it names, and again until it is answered.
    pub(super) fn knock(&mut self, machine: usize) {
        let Some(secret) = self.machines[machine].secret else { return };
        self.machines[machine].deaf = false;
        let membership = &self.stage.agreement.order.membership;
        let admits = |door: &usize| membership.lane_is_open(&self.stage.group.id(*door)) && !self.is_ended(*door);
        if !self.machines[machine].doors.iter().any(admits) {
            self.machines[machine].secret = None; // nobody is left whom the code names and who could let it in
            return;
        }
        let runs = |door: &usize| self.stage.nodes[*door].runs();
        let doors: Vec<usize> = self.machines[machine].doors.iter().copied().filter(runs).collect();
        if !doors.is_empty() {
            let door = doors[self.random.index(doors.len())];
            let Contact { name, addresses, .. } = self.stage.group.contact(machine, self.stage.nodes[machine].moves);
            let message = DoorMessage::Join { secret, name, addresses };
            self.carry(self.now, Words { from: machine, to: door, message, answers: None });
            if !self.healed && self.random.chance(150) {
                self.machines[machine].deaf = true;
                if self.random.chance(500) {
                    self.stage.nodes[machine].moves += 1;
                    self.stage.coverage.joiners_moved += 1;
                }
            }
        }
        let again = self.random.duration(Duration::from_millis(600), Duration::from_secs(3));
        self.after(again, Event::Knock(machine));
    }

    /// What a machine makes of the answer to its knock.
    fn answer_at_door(&mut self, machine: usize, door: usize, message: DoorMessage) -> Course {
        if self.machines[machine].deaf {
            self.stage.coverage.joiners_crashed += 1;
            return Ok(());
        }
        if self.machines[machine].secret.is_none() {
            return Ok(());
        }
        match message {
            DoorMessage::Tell(told) => self.admitted(machine, told),
            DoorMessage::Refused(refusal) => {
                self.turned_away(machine, door, &refusal);
                Ok(())
            }
            DoorMessage::Ask { .. } | DoorMessage::Join { .. } => Ok(()),
        }
    }

    /// It is let in: it knows the genesis and where others are, and starts.
    fn admitted(&mut self, machine: usize, told: Told) -> Course {
        let genesis = self.stage.group.genesis.encode();
        if told.genesis != Some(genesis) {
            return Err(Verdict::Crashed(format!("machine {} was let in without a genesis", machine + 1)));
        }
        self.used.extend(self.machines[machine].secret.take());
        self.stage.nodes[machine].contacts = told.contacts;
        self.machines[machine].phase = Phase::Member;
        self.stage.chart.note(self.now, machine, "is let in");
        let delay = self.random.duration(Duration::from_millis(1), Duration::from_millis(200));
        self.restart_after(machine, delay);
        Ok(())
    }

    /// It is turned away: some reasons pass, others make its code useless.
    fn turned_away(&mut self, machine: usize, door: usize, refusal: &DoorRefusal) {
        let coverage = &mut self.stage.coverage;
        let row = match refusal {
            DoorRefusal::UnknownInvite => &mut coverage.unknown_invites,
            DoorRefusal::UsedInvite => &mut coverage.used_invites,
            DoorRefusal::ExpiredInvite => &mut coverage.expired_invites,
            DoorRefusal::FormerMember => &mut coverage.former_members,
            DoorRefusal::NoQuorum(_) => &mut coverage.no_quorums,
            _ => return,
        };
        *row += 1;
        self.stage.chart.note(self.now, machine, format!("is turned away by {}: {refusal}", door + 1));
        match refusal {
            DoorRefusal::NoQuorum(_) => {}
            // Perhaps this door does not know the invite yet.
            DoorRefusal::UnknownInvite if self.random.chance(600) => {}
            _ => self.machines[machine].secret = None,
        }
    }
}

/// What is said at a door, in a few words.
pub(super) fn tell(message: &DoorMessage) -> String {
    match message {
        DoorMessage::Ask { have: None } => "asks for everything".to_owned(),
        DoorMessage::Ask { have: Some(epoch) } => format!("asks what follows epoch {epoch}"),
        DoorMessage::Join { name, .. } => format!("{name} wants to join"),
        DoorMessage::Tell(Told { from, links, established, standing, .. }) => {
            let standing = format!("standing: {standing:?}").to_lowercase();
            match links.len() {
                0 => format!("tells nothing new · established: epoch {established} · {standing}"),
                count => {
                    let last = from.0 + count as u64;
                    format!("tells epochs {}..{last} · established: epoch {established} · {standing}", from.0 + 1)
                }
            }
        }
        DoorMessage::Refused(refusal) => format!("refuses: {refusal}"),
    }
}
