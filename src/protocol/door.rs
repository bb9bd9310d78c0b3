//! The door, and whom the mesh is to know (rule E3): chains of epochs for whoever names the group, a JoinIntent for who
//! brings an invite, and the roster of those who may link.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::halt::Halt;
use super::membership::Membership;
use super::model::FaultModel;
use super::peers::Peer;
use super::replica::Replica;
use crate::types::command::{check_addresses, check_name};
use crate::types::input::{Roster, RosterMember};
use crate::types::join_code::{SECRET_BYTES, secret_digest};
use crate::types::{
    Command, Configuration, Contact, DoorMessage, DoorRefusal, Epoch, EpochHead, EpochLink, Instant, MemberId,
    Rejection, Standing, Told, limits,
};

/// The same member is knocked at, or told something unasked, no more often than this.
const KNOCK_INTERVAL: Duration = Duration::from_secs(1);

/// Who has reached no voter for so long dials everybody.
const STRANDED: Duration = Duration::from_secs(5);

/// What happens at doors.
#[derive(Debug, Default)]
pub(crate) struct Doorway {
    /// The roster may have changed.
    pub changed: bool,
    /// The membership that the roster was made of.
    met: Option<Arc<Membership>>,
    /// The incarnations of all members' lanes, added up: they only rise.
    starts: u64,
    /// Where members may be found, by somebody's word.
    hints: BTreeMap<MemberId, Contact>,
    /// Keys that wait for their place in the order: with which invite, and until when.
    joining: BTreeMap<MemberId, Joining>,
    /// When each key was knocked at, or told something, last.
    knocked: BTreeMap<MemberId, Instant>,
    /// No voter that this member knows of is reached: any other member may know more.
    stranded: bool,
    /// Voters that an epoch let go: they stay linked until they know that it is established (rule E2).
    departing: BTreeMap<MemberId, Epoch>,
}

#[derive(Clone, Copy, Debug)]
struct Joining {
    secret: [u8; SECRET_BYTES],
    until: Instant,
}

impl Doorway {
    pub fn new(contacts: Vec<Contact>) -> Doorway {
        let hints = contacts.into_iter().take(limits::MEMBERS_MAX).map(|contact| (contact.id, contact)).collect();
        Doorway { changed: true, hints, ..Doorway::default() }
    }

    fn may_knock(&mut self, at: &MemberId, now: Instant) -> bool {
        if self.knocked.len() > limits::MEMBERS_MAX {
            self.knocked.retain(|_, last| now < *last + KNOCK_INTERVAL);
        }
        let last = self.knocked.get(at);
        if last.is_some_and(|last| now < *last + KNOCK_INTERVAL) || self.knocked.len() > limits::MEMBERS_MAX {
            return false;
        }
        self.knocked.insert(*at, now);
        true
    }
}

impl<M: FaultModel> Replica<M> {
    /// Somebody knocks, or answers.
    pub(crate) fn handle_door(&mut self, from: MemberId, message: DoorMessage) -> Result<(), Halt> {
        match message {
            DoorMessage::Ask { have } => {
                let told = self.told(&from, have);
                self.say(from, DoorMessage::Tell(told));
            }
            DoorMessage::Join { secret, name, addresses } => self.handle_join(from, secret, name, addresses),
            DoorMessage::Tell(told) => return self.handle_told(from, told),
            DoorMessage::Refused(reason) => tracing::debug!(peer = %from.short(), %reason, "turned away at a door"),
        }
        Ok(())
    }

    fn say(&mut self, to: MemberId, message: DoorMessage) {
        self.out.ready.door.push((to, message));
    }

    /// One of two members does not know the other: whoever is behind is told.
    pub(crate) fn knock(&mut self, at: MemberId) {
        if self.doorway.may_knock(&at, self.now.instant) {
            self.counters.knocks += 1;
            let have = Some(self.epochs.newest().epoch);
            self.say(at, DoorMessage::Ask { have });
        }
    }

    /// Somebody of this group says which epoch it knows. A proof that attaches here is taken; who knows more than this
    /// member, or is not known here, is asked at its door.
    pub(crate) fn handle_announced(
        &mut self,
        from: MemberId,
        epoch: Option<Epoch>,
        link: Option<Box<EpochLink>>,
    ) -> Result<(), Halt> {
        let newest = self.epochs.newest().epoch;
        if let Some(link) = link
            && epoch == Some(newest.next())
        {
            self.learn_epochs(from, newest, vec![*link])?;
        }
        let known = self.peers.contains_key(&from);
        let newer = epoch.map_or(!known, |epoch| epoch > self.epochs.newest().epoch);
        if newer {
            self.knock(from);
        }
        Ok(())
    }

    fn told(&self, to: &MemberId, have: Option<Epoch>) -> Told {
        let membership = &self.chain.state.membership;
        let standing = match membership.standing(to) {
            // It keeps its vote, and learns the rest when an epoch without it is established.
            Standing::Stranger if self.epochs.votes_later(to, self.configuration.epoch) => Standing::Voter,
            // E2: it is needed until the epoch without it is established.
            _ if self.doorway.departing.get(to).is_some_and(|epoch| *epoch > self.epochs.established) => {
                Standing::Voter
            }
            standing => standing,
        };
        let from = have.unwrap_or_default().min(self.epochs.newest().epoch);
        Told {
            genesis: have.is_none().then(|| self.genesis.encode()),
            from,
            links: self.epochs.after(from),
            established: self.epochs.established,
            standing,
            contacts: if standing == Standing::Stranger { Vec::new() } else { self.contacts() },
        }
    }

    fn contacts(&self) -> Vec<Contact> {
        let members = self.chain.state.membership.members.iter();
        members.map(|(id, member)| contact(*id, &member.name, &member.addresses)).collect()
    }

    fn handle_join(&mut self, from: MemberId, secret: [u8; SECRET_BYTES], name: String, addresses: Vec<String>) {
        let usable = check_name(&name).and_then(|()| check_addresses(&addresses));
        if let Err(error) = usable {
            self.say(from, DoorMessage::Refused(DoorRefusal::BadRequest(error.0)));
            return;
        }
        if let Some(answer) = self.admission(&from, &secret) {
            self.say(from, answer);
            return;
        }
        let membership = &self.chain.state.membership;
        if membership.members.values().any(|member| member.name == name) {
            let reason = format!("another member is named `{name}`; choose another name");
            self.say(from, DoorMessage::Refused(DoorRefusal::BadRequest(reason)));
            return;
        }
        if membership.members.len() >= limits::MEMBERS_MAX {
            let reason = format!("the group has {} members, which is the bound", limits::MEMBERS_MAX);
            self.say(from, DoorMessage::Refused(DoorRefusal::BadRequest(reason)));
            return;
        }
        let full = || self.disk_full.as_ref().map(|reason| format!("this member's disk is full: {reason}"));
        if let Some(reason) = self.lets_nobody_in().or_else(|| self.lacks_quorum()).or_else(full) {
            self.say(from, DoorMessage::Refused(DoorRefusal::NoQuorum(reason)));
            return;
        }
        if self.doorway.joining.len() >= limits::DOOR_WAITING_MAX && !self.doorway.joining.contains_key(&from) {
            self.say(from, DoorMessage::Refused(DoorRefusal::Busy));
            return;
        }
        let until = self.now.instant + limits::DOOR_TIMEOUT / 2;
        self.doorway.joining.insert(from, Joining { secret, until });
        // Whoever was told that it took too long asks again, and what it asked for first may be ordered still.
        if !self.is_joining(&from, &secret) {
            let invite = secret_digest(&secret);
            self.order_command(Command::JoinIntent { member: from, name, addresses, invite });
        }
    }

    /// Whose lane is closed, or about to be, orders nothing for others.
    fn lets_nobody_in(&self) -> Option<String> {
        let Rejection::Gone(how) = self.gone()? else { return None };
        Some(format!("this member {how}; knock at another one"))
    }

    /// Whether a JoinIntent of this key with this invite is on its way into the order from here.
    fn is_joining(&self, key: &MemberId, secret: &[u8; SECRET_BYTES]) -> bool {
        let digest = secret_digest(secret);
        self.is_on_its_way(
            |command| matches!(command, Command::JoinIntent { member, invite, .. } if member == key && *invite == digest),
        )
    }

    /// What a key that wants to join is told; none if it may, and is to be ordered. The expiry is judged here, by this
    /// member's clock, and nowhere else.
    fn admission(&self, key: &MemberId, secret: &[u8; SECRET_BYTES]) -> Option<DoorMessage> {
        let membership = &self.chain.state.membership;
        match membership.standing(key) {
            Standing::Voter | Standing::Learner => return Some(DoorMessage::Tell(self.told(key, None))), // again
            Standing::Left | Standing::Removed => return Some(DoorMessage::Refused(DoorRefusal::FormerMember)),
            Standing::Stranger => {}
        }
        let digest = secret_digest(secret);
        let refusal = match membership.invites.get(&digest) {
            Some(invite) if invite.expires <= self.now.wall => DoorRefusal::ExpiredInvite,
            Some(_) => return None,
            None if membership.used.contains_key(&digest) => DoorRefusal::UsedInvite,
            None => DoorRefusal::UnknownInvite,
        };
        Some(DoorMessage::Refused(refusal))
    }

    /// Answers those who wait for their place in the order.
    pub(crate) fn attend_door(&mut self) {
        if self.doorway.joining.is_empty() {
            return;
        }
        let now = self.now.instant;
        for (key, joining) in self.doorway.joining.clone() {
            let ordered = self.admission(&key, &joining.secret);
            let late = || DoorRefusal::NoQuorum("nothing was ordered in time".to_owned());
            let expired = matches!(ordered, Some(DoorMessage::Refused(DoorRefusal::ExpiredInvite)));
            let answer = match ordered {
                Some(answer) if !expired => answer, // once ordered it is in, however long that took
                _ if !self.is_joining(&key, &joining.secret) => DoorMessage::Refused(self.why_without_effect()),
                _ if now >= joining.until => DoorMessage::Refused(late()),
                _ => continue,
            };
            self.doorway.joining.remove(&key);
            self.say(key, answer);
        }
    }

    /// A JoinIntent is on its way no longer, and its key is no member.
    fn why_without_effect(&self) -> DoorRefusal {
        if let Some(gone) = self.lets_nobody_in() {
            return DoorRefusal::NoQuorum(gone); // the lane was closed before it
        }
        let reason = "another member took that name meanwhile, or the group is full; choose another name";
        DoorRefusal::BadRequest(reason.to_owned())
    }

    /// Somebody tells the chain of epochs. It proves itself; for the rest the teller must be a member.
    fn handle_told(&mut self, from: MemberId, told: Told) -> Result<(), Halt> {
        let full = told.links.len() == limits::DOOR_LINKS;
        let theirs = told.from.0.saturating_add(told.links.len() as u64);
        let before = self.epochs.newest().epoch;
        let forged = self.learn_epochs(from, told.from, told.links)?;
        let newest = self.epochs.newest().epoch;
        let trusted = self.vouches(&from);
        for contact in told.contacts.into_iter().take(limits::MEMBERS_MAX) {
            let room = self.doorway.hints.len() < 2 * limits::MEMBERS_MAX;
            // Who is no member here may name voters that nobody else has named.
            let fills = self.is_known_voter(&contact.id) && !self.doorway.hints.contains_key(&contact.id);
            let of_use = room && (trusted || fills);
            if of_use && check_addresses(&contact.addresses).is_ok() {
                self.doorway.hints.insert(contact.id, contact);
                self.doorway.changed = true;
            }
        }
        if trusted && matches!(told.standing, Standing::Left | Standing::Removed) {
            return self.handle_told_departed(from, told.standing);
        }
        if let Some(bad) = forged {
            self.say(from, DoorMessage::Refused(DoorRefusal::ForgedChain(bad.to_string())));
        } else if newest > before && full {
            self.say(from, DoorMessage::Ask { have: Some(newest) });
        } else if theirs < newest.0 && newest == before && !full {
            // It cannot know us: it is behind.
            let told = self.told(&from, Some(told.from));
            self.counters.told_at_doors += 1;
            self.say(from, DoorMessage::Tell(told));
        }
        Ok(())
    }

    /// A member says that this one has left or was removed. If the one who says so is not known to be a member, its door is
    /// asked for the proof.
    pub(crate) fn handle_told_departed(&mut self, by: MemberId, standing: Standing) -> Result<(), Halt> {
        if self.vouches(&by) {
            if standing == Standing::Left && self.is_let_go() {
                return Ok(());
            }
            return Err(Halt::Departed { standing });
        }
        self.knock(by);
        Ok(())
    }

    /// Whether this key's word about the membership counts: a member's, or that of a voter of the newest epoch. One that voted
    /// before may have been removed since.
    fn vouches(&self, key: &MemberId) -> bool {
        self.peers.contains_key(key) || self.epochs.newest().voters.contains(key)
    }

    fn is_known_voter(&self, key: &MemberId) -> bool {
        self.epochs.iter().any(|(configuration, _)| configuration.voters.contains(key))
    }

    /// The epoch that begins lets these go: they stay linked until they know that it is established (rule E2).
    pub(crate) fn depart_voters(&mut self, next: &Configuration) {
        let before = std::mem::take(&mut self.doorway.departing);
        self.doorway.departing = before.into_iter().filter(|(_, epoch)| *epoch > self.epochs.established).collect();
        for voter in &self.configuration.voters {
            if !self.chain.state.membership.members.contains_key(voter) {
                self.doorway.departing.insert(*voter, next.epoch);
                let known = self.doorway.met.as_ref().and_then(|met| met.members.get(voter));
                if let Some(member) = known {
                    self.doorway.hints.insert(*voter, contact(*voter, &member.name, &member.addresses));
                }
            }
        }
    }

    /// A member told what it knows to be established: if it was let go, its link may go, too.
    pub(crate) fn note_departed(&mut self, member: &MemberId, established: Epoch) {
        if self.doorway.departing.get(member).is_some_and(|epoch| *epoch <= established) {
            self.doorway.departing.remove(member);
            self.doorway.changed = true;
        }
    }

    /// A voter that was let go and has no link is needed no more, once the epoch without it is established: it is not dialled in
    /// vain, and learns at the door what became of it (rule E2).
    fn forget_departed(&mut self) {
        let (peers, established) = (&self.peers, self.epochs.established);
        let linked = |member: &MemberId| peers.get(member).is_some_and(|peer| peer.linked);
        self.doorway.departing.retain(|member, epoch| *epoch > established || linked(member));
    }

    /// Learners dial voters. One that reaches none, since all it knows may have lost their votes while it did not listen,
    /// dials everybody.
    fn note_stranded(&mut self) {
        let reached = self.peers.values().any(|peer| peer.linked && peer.votes);
        let since = self.peers.values().filter(|peer| peer.votes).filter_map(|peer| peer.heard).max();
        let silent = self.now.instant.since(since.unwrap_or_default().max(self.started)) >= STRANDED;
        if (silent && !reached) != self.doorway.stranded {
            self.doorway.stranded = !self.doorway.stranded;
            self.doorway.changed = true;
        }
    }

    /// Makes the roster anew where it may have changed, and meets or forgets peers.
    pub(crate) fn meet(&mut self) {
        self.note_stranded();
        let membership = &self.chain.state.membership;
        let same = self.doorway.met.as_ref().is_some_and(|met| Arc::ptr_eq(met, membership));
        let heads = self.chain.state.heads.values();
        let starts = heads.fold(0, |sum: u64, head| sum.wrapping_add(head.batch.incarnation.0));
        if same && !self.doorway.changed && self.doorway.starts == starts {
            return;
        }
        self.doorway.starts = starts;
        self.doorway.changed = false;
        self.doorway.met = Some(membership.clone());
        self.forget_departed();
        let roster = self.roster();
        let cluster = self.configuration.cluster;
        // One that is linked stays until its link is down: the mesh may see it come back without having seen it go.
        self.peers.retain(|id, peer| peer.linked || roster.members.iter().any(|member| member.id == *id));
        for member in &roster.members {
            self.peers.entry(member.id).or_insert_with(|| Peer::new(cluster));
        }
        for (id, peer) in &mut self.peers {
            peer.votes = self.configuration.voters.contains(id);
            peer.votes_since = peer.votes.then(|| peer.votes_since.unwrap_or(self.now.instant));
        }
        if self.told_roster.as_ref() != Some(&roster) {
            self.told_roster = Some(roster.clone());
            self.out.ready.roster = Some(roster);
        }
        self.described = Arc::new(self.describe_membership());
    }

    /// Members, voters of epochs that are proven beyond the decided chain, voters that were let go and do not know it, and,
    /// for one that has not caught up with the order, whoever it was told of: all that it knew may be gone.
    fn roster(&self) -> Roster {
        let membership = &self.chain.state.membership;
        let epoch = self.configuration.epoch;
        let newest = self.epochs.newest();
        let arriving = membership.standing(&self.me) == Standing::Stranger;
        let votes = self.votes() || newest.voters.contains(&self.me) || arriving || self.doorway.stranded;
        let mut known: BTreeMap<MemberId, RosterMember> = BTreeMap::new();
        let mut add = |id: MemberId, name: &str, addresses: &[String], dial: bool| {
            if id != self.me {
                let named = RosterMember { id, name: name.to_owned(), addresses: addresses.to_vec(), dial };
                known.entry(id).or_insert(named);
            }
        };
        for (id, member) in &membership.members {
            let addresses = self.whereabouts(id, &member.addresses);
            add(*id, &member.name, &addresses, votes || membership.votes(id) || newest.voters.contains(id));
        }
        if newest.epoch > epoch {
            newest.voters.iter().for_each(|voter| self.add_hinted(voter, &mut add));
        }
        self.doorway.departing.keys().for_each(|voter| self.add_hinted(voter, &mut add));
        if arriving || !self.caught_up {
            self.doorway.hints.keys().for_each(|id| self.add_hinted(id, &mut add));
        }
        let former = membership.former.iter().filter(|(id, _)| !known.contains_key(id));
        let former = former.map(|(id, standing)| (*id, *standing)).collect();
        let head = newest.epoch.0.checked_sub(1).and_then(|before| {
            let link = self.epochs.after(Epoch(before)).pop()?;
            Some(EpochHead { epoch: newest.epoch, link })
        });
        Roster { members: known.into_values().collect(), former, head }
    }

    /// Where a member is dialled: where the order has it and, until this member has caught up with the order, where the door
    /// said that it is.
    fn whereabouts(&self, id: &MemberId, ordered: &[String]) -> Vec<String> {
        let hint = self.doorway.hints.get(id).filter(|_| !self.caught_up);
        let hinted = hint.into_iter().flat_map(|hint| &hint.addresses).filter(|address| !ordered.contains(address));
        ordered.iter().chain(hinted).cloned().collect()
    }

    fn add_hinted(&self, id: &MemberId, add: &mut impl FnMut(MemberId, &str, &[String], bool)) {
        match self.doorway.hints.get(id) {
            Some(hint) => add(*id, &hint.name, &hint.addresses, true),
            None => add(*id, "", &[], true),
        }
    }
}

fn contact(id: MemberId, name: &str, addresses: &[String]) -> Contact {
    Contact { id, name: name.to_owned(), addresses: addresses.to_vec() }
}
