//! What a script's operators do: join codes, joins, leaves, removals; and words at doors.

use std::time::Duration;

use super::links::LATENCY;
use super::player::{Event, Player, Understood};
use crate::driver::Input;
use crate::sim::clock::Moment;
use crate::sim::door::{Words, tell};
use crate::sim::forgery::{forged_chain, stranger};
use crate::sim::node::Life;
use crate::types::epoch::verify_chain;
use crate::types::join_code::{SECRET_BYTES, secret_digest};
use crate::types::{
    ClusterLimits, Command, Contact, Digest, DoorMessage, Epoch, EpochLink, Record, Standing, Told, WallTime,
};

/// How long operators wait.
const PATIENCE: Duration = Duration::from_secs(60);

impl Player {
    pub(super) fn invite(&mut self, word: &str, code: &str, lasts: Duration) -> Understood<()> {
        let member = self.running(word)?;
        let now = self.now;
        let wall = self.stage()?.nodes[member].shell.lock().clock.read(now).wall;
        let expires = WallTime(wall.0 + lasts.as_nanos() as u64);
        self.order(member, Command::Invite { secret: secret_digest(&secret(code)), expires })
    }

    /// A machine without a process knocks; when it is let in its process starts.
    pub(super) fn join(&mut self, machine: &str, code: &str, door: &str) -> Understood<()> {
        let (machine, door) = (self.member(machine)?, self.running(door)?);
        let stage = self.stage()?;
        if stage.nodes[machine].runs() {
            return Err(format!("machine {} runs", machine + 1));
        }
        let Contact { name, addresses, .. } = stage.group.contact(machine, stage.nodes[machine].moves);
        let message = DoorMessage::Join { secret: secret(code), name, addresses };
        self.carry(self.now, Words { from: machine, to: door, message, answers: None });
        Ok(())
    }

    pub(super) fn leave(&mut self, word: &str) -> Understood<()> {
        let member = self.running(word)?;
        let now = self.now;
        self.stage()?.leave(member, now);
        self.wake_at(member, now)
    }

    pub(super) fn remove(&mut self, word: &str, asked: &str) -> Understood<()> {
        let (member, asked) = (self.member(word)?, self.running(asked)?);
        let member = self.stage()?.group.id(member);
        self.order(asked, Command::RemoveIntent { member })
    }

    pub(super) fn configure(&mut self, count: u64, asked: &str) -> Understood<()> {
        let asked = self.running(asked)?;
        self.order(asked, Command::Configure { voters_target: Some(count as u32), limits: None })
    }

    pub(super) fn limit(&mut self, bytes: u64, asked: &str) -> Understood<()> {
        let asked = self.running(asked)?;
        let limits = ClusterLimits { message_bytes_max: bytes, ..ClusterLimits::default() };
        self.order(asked, Command::Configure { voters_target: None, limits: Some(limits) })
    }

    fn order(&mut self, member: usize, command: Command) -> Understood<()> {
        let now = self.now;
        self.stage()?.order(member, now, command, PATIENCE);
        self.wake_at(member, now)
    }

    /// It is under another address: from its next start on, or from now on if it runs.
    pub(super) fn relocate(&mut self, word: &str) -> Understood<()> {
        let member = self.member(word)?;
        let node = &mut self.stage()?.nodes[member];
        node.moves += 1;
        let addresses = vec![node.address()];
        self.push(member, Input::Moved { addresses })
    }

    /// Its disk is gone.
    pub(super) fn lose(&mut self, member: usize) -> Understood<()> {
        self.kill(member)?;
        self.stage()?.nodes[member].life = Life::Ended("its disk is lost".to_owned());
        Ok(())
    }

    /// A false chain, told at a door.
    pub(super) fn tell_forged(&mut self, direction: &str, signers: &str) -> Understood<()> {
        let (Some(from), Some(to)) = self.direction(direction)? else { return Err("of one direction".to_owned()) };
        let (ends, link) = forged(self, signers)?;
        let told = Told {
            genesis: None,
            from: ends,
            links: vec![link],
            established: ends.next(),
            standing: Standing::Learner,
            contacts: Vec::new(),
        };
        self.carry(self.now, Words { from, to, message: DoorMessage::Tell(told), answers: None });
        Ok(())
    }

    /// What gossip brings of an epoch.
    pub(super) fn announce(&mut self, direction: &str, epoch: u64, forged_by: Option<&str>) -> Understood<()> {
        let (Some(from), Some(to)) = self.direction(direction)? else { return Err("of one direction".to_owned()) };
        let link = forged_by.map(|signers| forged(self, signers)).transpose()?.map(|(_, link)| Box::new(link));
        let from = self.stage()?.group.id(from);
        self.push(to, Input::Announced { from, epoch: Some(Epoch(epoch)), link })
    }

    /// Gossip brings the newest epoch that somebody knows, and its proof.
    pub(super) fn announce_head(&mut self, direction: &str) -> Understood<()> {
        let (Some(from), Some(to)) = self.direction(direction)? else { return Err("of one direction".to_owned()) };
        let stage = self.stage()?;
        let (id, head) = (stage.group.id(from), stage.nodes[from].shell.lock().roster.head.clone());
        let head = head.ok_or_else(|| format!("member {} knows no epoch but the first", from + 1))?;
        self.push(to, Input::Announced { from: id, epoch: Some(head.epoch), link: Some(Box::new(head.link)) })
    }

    /// A key asks for the chain of epochs.
    pub(super) fn ask(&mut self, direction: &str) -> Understood<()> {
        let (Some(from), Some(to)) = self.direction(direction)? else { return Err("of one direction".to_owned()) };
        let message = DoorMessage::Ask { have: None };
        self.carry(self.now, Words { from, to, message, answers: None });
        Ok(())
    }

    pub(super) fn say_at_door(&mut self, from: usize, to: usize, at: Moment, message: DoorMessage) {
        let answers = self.knocks.remove(&(to, from));
        let linked = self.pair(from, to).open;
        let known = self.stage.as_ref().is_some_and(|stage| stage.address_known(from, to));
        if answers.is_some() || linked || known {
            self.carry(at, Words { from, to, message, answers });
        }
    }

    fn carry(&mut self, at: Moment, words: Words) {
        let (from, to) = (words.from, words.to);
        let cut = self.pair(from, to).cut || self.silent.contains(&(from, to));
        if !cut && self.filter_of(from, to, "door").is_none() {
            self.at(at + LATENCY, Event::Words(Box::new(words)));
        }
    }

    pub(super) fn hear_at_door(&mut self, words: Words) -> Understood<()> {
        let Words { from, to, message, answers } = words;
        let (runs, start) = (self.stage()?.nodes[to].runs(), self.stage()?.nodes[to].starts);
        let knocker = self.stage()?.nodes[from].starts;
        if (!runs && answers.is_none()) || answers.is_some_and(|knocked| knocked != start) {
            return Ok(());
        }
        let words = self.named(&tell(&message));
        self.say(format!("door {}->{}: {words}", from + 1, to + 1));
        if runs {
            if answers.is_none() {
                self.knocks.insert((from, to), knocker);
            }
            let from = self.stage()?.group.id(from);
            return self.push(to, Input::Door { from, message });
        }
        match message {
            DoorMessage::Tell(Told {
                genesis: Some(_),
                contacts,
                standing: Standing::Voter | Standing::Learner,
                ..
            }) => {
                self.stage()?.nodes[to].contacts = contacts;
                self.start(to)
            }
            _ => Ok(()),
        }
    }

    /// The epochs as the disks have them.
    pub(super) fn show_epochs(&mut self) -> Understood<()> {
        let stage = self.stage()?;
        let epochs = (0..).map_while(|epoch| stage.agreement.epochs.at(Epoch(epoch)));
        let lines: Vec<String> = epochs
            .map(|epoch| {
                let voters: Vec<String> =
                    epoch.configuration.voters.iter().map(|voter| stage.group.tell(voter)).collect();
                let established = if epoch.established { "established" } else { "not established" };
                let (number, target) = (epoch.configuration.epoch, epoch.configuration.voters_target);
                format!("epoch {number} after slot {}: {} of {target} · {established}", epoch.base, voters.join(" "))
            })
            .collect();
        lines.into_iter().for_each(|line| self.say(line));
        Ok(())
    }

    /// Checks the chain of epochs on a member's disk by nothing but the genesis.
    pub(super) fn verify(&mut self, member: usize) -> Understood<()> {
        let stage = self.stage()?;
        let read = |location| stage.nodes[member].read(location);
        let placed = stage.storage(member).placed().iter().filter(|placed| placed.kind == EPOCH);
        let links = placed.filter_map(|placed| match Record::read(EPOCH, &read(&placed.location)?) {
            Ok(Record::Epoch(link)) => Some(link),
            _ => None,
        });
        let mut chain: Vec<EpochLink> = Vec::new();
        for link in links {
            if link.certificate.tip.round.epoch.0 == chain.len() as u64 {
                chain.push(link);
            }
        }
        let told = match verify_chain(&stage.group.genesis, &chain) {
            Ok(configurations) => {
                let signers: Vec<usize> = chain.iter().map(|link| link.certificate.votes.len()).collect();
                format!("{}: epoch {} is proven, signed by {signers:?}", member + 1, configurations.len() - 1)
            }
            Err(error) => format!("{}: {error}", member + 1),
        };
        self.say(told);
        Ok(())
    }

    /// What a member says of the membership.
    pub(super) fn show_membership(&mut self, member: usize) -> Understood<()> {
        let stage = self.stage()?;
        let Some(driver) = stage.nodes[member].driver() else {
            self.say(format!("{}: down", member + 1));
            return Ok(());
        };
        let snapshot = driver.replica().snapshot();
        let membership = &snapshot.membership;
        let members: Vec<String> = membership
            .members
            .iter()
            .map(|one| {
                let mut told = stage.group.tell(&one.id);
                told += if one.votes { " votes" } else { " learns" };
                told += if one.ready { ", ready" } else { "" };
                told += &one.leaving.map_or(String::new(), |standing| format!(", {standing:?}").to_lowercase());
                let by: Vec<String> = one.suspected_by.iter().map(|by| stage.group.tell(by)).collect();
                if by.is_empty() { told } else { format!("{told}, suspected by {}", by.join(" and ")) }
            })
            .collect();
        let mut members = members;
        members.sort();
        let (epoch, established) = (membership.configuration.epoch, membership.established);
        let waits = snapshot.waits_for.iter().map(|waits| format!(" · waits: {waits}")).collect::<String>();
        let text = format!("{}: epoch {epoch}, established {established}: {}{waits}", member + 1, members.join("; "));
        let text = self.named(&text);
        self.say(text);
        Ok(())
    }
}

/// An end of the newest epoch that no quorum signed: `unsigned` names voters that did not, `strangers` signed it themselves.
pub(super) fn forged(player: &mut Player, signers: &str) -> Understood<(Epoch, EpochLink)> {
    let signed = match signers {
        "unsigned" => false,
        "strangers" => true,
        _ => return Err("forged unsigned or forged strangers".to_owned()),
    };
    let newest = &player.stage()?.agreement.epochs.newest().configuration;
    Ok((newest.epoch, forged_chain(newest, &[1, 2, 3].map(stranger), signed)))
}

/// The kind of records that prove an epoch.
const EPOCH: u8 = 8;

/// The secret of a join code of that name.
fn secret(code: &str) -> [u8; SECRET_BYTES] {
    let digest = Digest::of("scenario", code.as_bytes());
    digest.0[..SECRET_BYTES].try_into().expect("a digest is longer")
}
