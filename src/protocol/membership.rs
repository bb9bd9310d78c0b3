//! The membership at one point of the chain: derived state (rule D1), moved on by commands and by the ends of epochs, and
//! by nothing else (rules E4, E5, E6).

use std::collections::BTreeMap;

use crate::types::{
    ClusterLimits, Command, Configuration, Digest, Epoch, Genesis, Incarnation, LaneHead, MemberId, Position, Rule,
    Sabotage, Standing, WallTime, limits,
};

/// Lane heads of the members whose lanes are open.
pub(crate) type Heads = BTreeMap<MemberId, LaneHead>;

/// Who belongs to the group, who votes, and what is on its way to change that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    /// Of the epoch at this point.
    pub configuration: Configuration,
    /// What the next epoch has of it.
    pub voters_target: u32,
    pub limits: ClusterLimits,
    pub members: BTreeMap<MemberId, Member>,
    /// Keys that were members: an id is never used again.
    pub former: BTreeMap<MemberId, Standing>,
    /// Open invites by the digest of their secret.
    pub invites: BTreeMap<Digest, Invite>,
    /// Used invites, and by whom.
    pub used: BTreeMap<Digest, MemberId>,
    /// Standing suspicions: of whom, by whom, and their places in the order of commands.
    suspicions: BTreeMap<(MemberId, MemberId), u64>,
    /// Commands that had an effect so far.
    commands: u64,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub name: String,
    pub addresses: Vec<String>,
    /// When it became a member.
    pub since: Epoch,
    pub joined: Position,
    /// It said that it may vote (rule E5).
    pub ready: Option<Ready>,
    /// A voter's lane is closed, and it keeps its vote until another one takes it.
    pub closed: Option<Closed>,
}

/// A learner's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    pub incarnation: Incarnation,
    place: u64,
}

/// Why and when a lane was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub standing: Standing,
    place: u64,
}

/// An invite that nobody has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Invite {
    pub expires: WallTime,
    place: u64,
}

/// What a command does to lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneChange {
    None,
    Opened(MemberId),
    Closed(MemberId),
}

impl Membership {
    /// Epoch 0.
    pub fn new(genesis: &Genesis) -> Membership {
        let configuration = genesis.configuration();
        let member = |member: &crate::types::GenesisMember| Member {
            name: member.name.clone(),
            addresses: member.addresses.clone(),
            since: Epoch(0),
            joined: Position(0),
            ready: None,
            closed: None,
        };
        Membership {
            voters_target: configuration.voters_target,
            limits: configuration.limits,
            configuration,
            members: genesis.members.iter().map(|named| (named.id, member(named))).collect(),
            former: BTreeMap::new(),
            invites: BTreeMap::new(),
            used: BTreeMap::new(),
            suspicions: BTreeMap::new(),
            commands: 0,
        }
    }

    pub fn votes(&self, member: &MemberId) -> bool {
        self.configuration.voters.contains(member)
    }

    /// What a key is to the group.
    pub fn standing(&self, member: &MemberId) -> Standing {
        match self.members.get(member) {
            Some(_) if self.votes(member) => Standing::Voter,
            Some(_) => Standing::Learner,
            None => self.former.get(member).copied().unwrap_or(Standing::Stranger),
        }
    }

    /// Whether this member may go on sealing batches.
    pub fn is_open(&self, member: &MemberId) -> bool {
        self.members.get(member).is_some_and(|member| member.closed.is_none())
    }

    /// Voters that suspect this one.
    pub fn suspected_by(&self, member: &MemberId) -> impl Iterator<Item = &MemberId> {
        self.suspicions.keys().filter(move |(of, _)| of == member).map(|(_, by)| by)
    }

    pub fn suspects(&self, by: &MemberId, member: &MemberId) -> bool {
        self.suspicions.contains_key(&(*member, *by))
    }

    /// Takes one command, sealed by `by` in that incarnation; an error says why it has no effect.
    pub fn apply(
        &mut self,
        command: &Command,
        by: &MemberId,
        incarnation: Incarnation,
        at: Position,
        heads: &Heads,
    ) -> Result<LaneChange, &'static str> {
        self.commands += 1;
        let place = self.commands;
        let change = match command {
            Command::Invite { secret, expires } => self.invite(*secret, Invite { expires: *expires, place }),
            Command::JoinIntent { member, name, addresses, invite } => {
                let joining = Member {
                    name: name.clone(),
                    addresses: addresses.clone(),
                    since: self.configuration.epoch,
                    joined: at,
                    ready: None,
                    closed: None,
                };
                self.join(member, joining, invite)
            }
            Command::LeaveIntent if !self.may_leave(by, heads, |_| true) => Err("no learner is ready to take its vote"),
            Command::LeaveIntent => self.close(by, Closed { standing: Standing::Left, place }),
            Command::RemoveIntent { member } => self.close(member, Closed { standing: Standing::Removed, place }),
            Command::Configure { voters_target, limits } => self.configure(*voters_target, *limits),
            Command::Suspect { member } => self.suspect(member, by, place),
            Command::Unsuspect { member } => self
                .suspicions
                .remove(&(*member, *by))
                .map(|_| LaneChange::None)
                .ok_or("it does not suspect that member"),
            Command::Ready { .. } => self.declare_ready(by, Ready { incarnation, place }),
            Command::Move { addresses } => self.relocate(by, addresses),
        };
        if change.is_err() {
            self.commands -= 1;
        }
        change
    }

    fn invite(&mut self, secret: Digest, invite: Invite) -> Result<LaneChange, &'static str> {
        if self.invites.contains_key(&secret) || self.used.contains_key(&secret) {
            return Err("there is such an invite");
        }
        if self.invites.len() >= limits::INVITES_MAX {
            let oldest = self.invites.iter().min_by_key(|(_, invite)| invite.place).map(|(secret, _)| *secret);
            self.invites.remove(&oldest.expect("there are invites"));
        }
        self.invites.insert(secret, invite);
        Ok(LaneChange::None)
    }

    /// An invite is used once, first in order wins; an id is never used again.
    fn join(&mut self, member: &MemberId, joining: Member, invite: &Digest) -> Result<LaneChange, &'static str> {
        if self.members.contains_key(member) {
            return Err("it is a member");
        }
        if self.former.contains_key(member) {
            return Err("it was a member before");
        }
        if self.members.len() >= limits::MEMBERS_MAX {
            return Err("the group has as many members as it may have");
        }
        if self.members.values().any(|other| other.name == joining.name) {
            return Err("another member has that name");
        }
        if self.invites.remove(invite).is_none() {
            return Err("the invite is unknown or used");
        }
        self.used.insert(*invite, *member);
        self.members.insert(*member, joining);
        Ok(LaneChange::Opened(*member))
    }

    /// A learner is gone at once, a voter with the end of an epoch that lets it go.
    fn close(&mut self, member: &MemberId, closed: Closed) -> Result<LaneChange, &'static str> {
        let votes = self.votes(member);
        let mut others = self.members.iter().filter(|(id, _)| *id != member);
        if !others.any(|(_, other)| other.closed.is_none()) {
            return Err("nobody else is left who could order anything");
        }
        let known = self.members.get_mut(member).ok_or("it is no member")?;
        match known.closed {
            Some(_) if closed.standing == Standing::Left => return Err("it is leaving already"),
            Some(earlier) if earlier.standing == closed.standing => return Err("it is removed already"),
            _ => {}
        }
        let first = known.closed.is_none();
        known.closed = Some(closed);
        if !votes {
            self.depart(member, closed.standing);
        }
        Ok(if first { LaneChange::Closed(*member) } else { LaneChange::None })
    }

    fn depart(&mut self, member: &MemberId, standing: Standing) {
        self.members.remove(member);
        self.former.insert(*member, standing);
    }

    fn configure(&mut self, target: Option<u32>, limits: Option<ClusterLimits>) -> Result<LaneChange, &'static str> {
        if target.is_some_and(|target| !limits::VOTERS_TARGETS.contains(&target)) {
            return Err("3, 5 or 7 members vote");
        }
        if limits.is_some_and(|limits| !limits.mistakes().is_empty()) {
            return Err("the limits contradict each other");
        }
        let (target, limits) = (target.unwrap_or(self.voters_target), limits.unwrap_or(self.limits));
        if (target, limits) == (self.voters_target, self.limits) {
            return Err("it is so already");
        }
        (self.voters_target, self.limits) = (target, limits);
        Ok(LaneChange::None)
    }

    fn suspect(&mut self, member: &MemberId, by: &MemberId, place: u64) -> Result<LaneChange, &'static str> {
        if member == by || !self.votes(member) || !self.votes(by) {
            return Err("voters suspect other voters");
        }
        if self.suspects(by, member) {
            return Err("it suspects that member already");
        }
        self.suspicions.insert((*member, *by), place);
        Ok(LaneChange::None)
    }

    fn declare_ready(&mut self, by: &MemberId, ready: Ready) -> Result<LaneChange, &'static str> {
        if self.votes(by) {
            return Err("it votes already");
        }
        let member = self.members.get_mut(by).ok_or("it is no member")?;
        if member.ready.is_some_and(|earlier| earlier.incarnation == ready.incarnation) {
            return Err("it has said so in this incarnation");
        }
        member.ready = Some(ready);
        Ok(LaneChange::None)
    }

    fn relocate(&mut self, by: &MemberId, addresses: &[String]) -> Result<LaneChange, &'static str> {
        let member = self.members.get_mut(by).ok_or("it is no member")?;
        if member.addresses == addresses {
            return Err("it is there already");
        }
        member.addresses = addresses.to_vec();
        Ok(LaneChange::None)
    }

    /// The epoch ends: whoever was to go is gone, suspicions end, and new voters begin anew.
    pub fn end_epoch(&mut self, next: &Configuration, sabotage: &Sabotage) {
        let before = std::mem::replace(&mut self.configuration, next.clone());
        for voter in before.voters.iter().filter(|voter| !next.voters.contains(voter)) {
            let closed = self.members.get(voter).and_then(|member| member.closed);
            match closed {
                Some(closed) => self.depart(voter, closed.standing),
                // E4: the vote goes, the membership stays.
                None if sabotage.upholds(Rule::E4) => {}
                None => self.depart(voter, Standing::Removed),
            }
        }
        for voter in &next.voters {
            if let Some(member) = self.members.get_mut(voter) {
                member.ready = None;
            }
        }
        self.suspicions.clear();
    }

    /// Whether a member may vote when its time comes (rule E5).
    pub fn is_ready(&self, member: &MemberId, heads: &Heads) -> bool {
        let (Some(known), Some(head)) = (self.members.get(member), heads.get(member)) else { return false };
        known.closed.is_none() && known.ready.is_some_and(|ready| ready.incarnation == head.batch.incarnation)
    }

    /// Voters that are to go, in the order of the commands that say so.
    fn goers(&self) -> Vec<MemberId> {
        let quorum = self.configuration.quorum();
        let mut goers: Vec<(u64, MemberId)> = Vec::new();
        for voter in &self.configuration.voters {
            if let Some(closed) = self.members.get(voter).and_then(|member| member.closed) {
                goers.push((closed.place, *voter));
                continue;
            }
            let mut places: Vec<u64> =
                self.suspicions.iter().filter(|((of, _), _)| of == voter).map(|(_, place)| *place).collect();
            places.sort_unstable();
            if let Some(place) = places.get(quorum - 1) {
                goers.push((*place, *voter));
            }
        }
        goers.sort_unstable();
        goers.into_iter().map(|(_, voter)| voter).collect()
    }

    /// Learners that may vote, in the order of their words.
    fn ready_learners(&self, heads: &Heads, sabotage: &Sabotage) -> Vec<MemberId> {
        let mut ready: Vec<(u64, MemberId)> = self
            .members
            .iter()
            .filter(|(id, _)| !self.votes(id))
            .filter(|(id, _)| self.is_ready(id, heads) || !sabotage.upholds(Rule::E5))
            .map(|(id, member)| (member.ready.map_or(u64::MAX, |ready| ready.place), *id))
            .collect();
        ready.sort_unstable();
        ready.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether anything here could make the end of the epoch due; cheap.
    pub fn is_unsettled(&self) -> bool {
        self.voters_target as usize != self.configuration.voters.len()
            || !self.suspicions.is_empty()
            || self.members.values().any(|member| member.closed.is_some())
    }

    /// Rule E6: the voters of the next epoch, if one is due: as many go and come as can, in the order of their commands.
    /// `usable` says which joining voters may be counted on.
    pub fn due(&self, heads: &Heads, sabotage: &Sabotage, usable: impl Fn(&MemberId) -> bool) -> Option<Vec<MemberId>> {
        if !self.is_unsettled() {
            return None;
        }
        let goers = self.goers();
        let mut ready = self.ready_learners(heads, sabotage);
        ready.retain(usable);
        let target = self.voters_target as usize;
        let now = &self.configuration.voters;
        (0..=goers.len()).rev().find_map(|going| {
            let mut next: Vec<MemberId> = now.iter().filter(|voter| !goers[..going].contains(voter)).copied().collect();
            next.truncate(target);
            let stay = next.len();
            next.extend(ready.iter().take(target - stay));
            while next.len() > stay && !self.is_size(next.len()) {
                next.pop();
            }
            (self.is_size(next.len()) && next != *now).then_some(next)
        })
    }

    /// Odd, and smaller than now only where that is wanted.
    fn is_size(&self, size: usize) -> bool {
        size % 2 == 1 && (size >= self.configuration.voters.len() || size == self.voters_target as usize)
    }

    /// The configuration that ends this epoch with these voters; the proposer comes first if it stays.
    pub fn next(&self, mut voters: Vec<MemberId>, proposer: &MemberId) -> Configuration {
        if let Some(place) = voters.iter().position(|voter| voter == proposer && self.votes(voter)) {
            voters[..=place].rotate_right(1);
        }
        Configuration {
            epoch: self.configuration.epoch.next(),
            voters,
            voters_target: self.voters_target,
            limits: self.limits,
            ..self.configuration.clone()
        }
    }

    /// Rule E5: whether an epoch may end this way here.
    pub fn check_end(&self, next: &Configuration, heads: &Heads, sabotage: &Sabotage) -> Result<(), &'static str> {
        if *next != self.next(next.voters.clone(), &MemberId([0; 32])) {
            return Err("the next configuration changes more than it may (E5)");
        }
        let now = &self.configuration.voters;
        let mut seen = next.voters.clone();
        seen.sort_unstable();
        seen.dedup();
        if seen.len() != next.voters.len() || !self.is_size(next.voters.len()) {
            return Err("the number of voters is not one that may follow (E5)");
        }
        if next.voters.len() > now.len().max(self.voters_target as usize) {
            return Err("more would vote than are to (E5)");
        }
        let joins = |voter: &&MemberId| !now.contains(voter);
        if sabotage.upholds(Rule::E5) && !next.voters.iter().filter(joins).all(|voter| self.is_ready(voter, heads)) {
            return Err("a joining voter is not ready (E5)");
        }
        let goers = self.goers();
        let stay: Vec<&MemberId> =
            now.iter().filter(|voter| next.voters.contains(voter) || !goers.contains(voter)).collect();
        let beyond = stay.iter().skip(self.voters_target as usize);
        let dropped = |voter: &&&MemberId| !next.voters.contains(voter);
        if stay.iter().filter(dropped).any(|voter| !beyond.clone().any(|other| other == voter)) {
            return Err("a voter would go without a reason (E5)");
        }
        Ok(())
    }

    /// Whether a member could go if it said so now: a learner if another lane is open, a voter if an epoch without it may
    /// follow with learners that are `usable` (rule E4).
    pub fn may_leave(&self, member: &MemberId, heads: &Heads, usable: impl Fn(&MemberId) -> bool) -> bool {
        if !self.votes(member) {
            return self.members.iter().any(|(id, other)| id != member && other.closed.is_none());
        }
        let mut after = self.clone();
        let closed = Closed { standing: Standing::Left, place: u64::MAX };
        let Some(known) = after.members.get_mut(member) else { return false };
        known.closed.get_or_insert(closed);
        after.due(heads, &Sabotage::NONE, usable).is_some_and(|next| !next.contains(member))
    }

    /// What stands in the way of a change that somebody waits for, for people.
    pub fn waits_for(&self, heads: &Heads) -> Vec<String> {
        let names = |members: &[MemberId]| {
            let names = members.iter().map(|id| self.members.get(id).map_or(id.short(), |member| member.name.clone()));
            names.collect::<Vec<_>>().join(", ")
        };
        let goers = self.goers();
        let due = self.due(heads, &Sabotage::NONE, |_| true);
        let stuck: Vec<MemberId> =
            goers.into_iter().filter(|goer| due.as_ref().is_none_or(|next| next.contains(goer))).collect();
        let mut waits = Vec::new();
        let (now, target) = (self.configuration.voters.len(), self.voters_target as usize);
        if !stuck.is_empty() {
            waits.push(format!(
                "{} to give its vote: a learner must be ready to take it (`synod invite` on a member, `synod join` on a new \
                 machine), or fewer must vote (`synod voters`)",
                names(&stuck)
            ));
        } else if due.is_none() && now < target {
            let ready = self.ready_learners(heads, &Sabotage::NONE);
            let missing = (now + 2).min(target) - now - ready.len().min(1);
            waits.push(format!(
                "{missing} more ready learner{} to vote: {now} of {target} vote, {} ready",
                if missing == 1 { "" } else { "s" },
                ready.len()
            ));
        }
        waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{FaultModelKind, GenesisMember};

    fn id(number: u8) -> MemberId {
        MemberId([number; 32])
    }

    fn group(size: u8) -> (Membership, Heads) {
        let member = |number| GenesisMember { name: format!("n{number}"), id: id(number), addresses: Vec::new() };
        let genesis = Genesis {
            name: "test".to_owned(),
            nonce: [0; 16],
            model: FaultModelKind::Crash,
            rules_version: 0,
            members: (1..=size).map(member).collect(),
            limits: ClusterLimits::default(),
            voters_target: u32::from(size),
        };
        (Membership::new(&genesis), (1..=size).map(|number| (id(number), head(1))).collect())
    }

    fn head(incarnation: u64) -> LaneHead {
        let mut head = LaneHead::START;
        head.batch.incarnation = Incarnation(incarnation);
        head
    }

    /// Applies a command of member `by`; lane heads follow.
    fn order(state: &mut (Membership, Heads), by: u8, command: Command) -> Result<(), &'static str> {
        let (membership, heads) = state;
        let change = membership.apply(&command, &id(by), Incarnation(1), Position(1), heads)?;
        match change {
            LaneChange::None => {}
            LaneChange::Opened(member) => drop(heads.insert(member, head(1))),
            LaneChange::Closed(member) => drop(heads.remove(&member)),
        }
        Ok(())
    }

    fn join(state: &mut (Membership, Heads), number: u8) {
        let secret = Digest([number; 32]);
        order(state, 1, Command::Invite { secret, expires: WallTime(9) }).unwrap();
        let name = format!("n{number}");
        order(state, 1, Command::JoinIntent { member: id(number), name, addresses: Vec::new(), invite: secret })
            .unwrap();
    }

    fn ready(state: &mut (Membership, Heads), number: u8) {
        order(state, number, Command::Ready { slot: crate::types::Slot(1), digest: Digest::ZERO }).unwrap();
    }

    fn due(state: &(Membership, Heads)) -> Option<Vec<u8>> {
        let due = state.0.due(&state.1, &Sabotage::NONE, |_| true)?;
        let next = state.0.next(due.clone(), &id(1));
        assert_eq!(state.0.check_end(&next, &state.1, &Sabotage::NONE), Ok(()), "what is due is valid");
        Some(due.iter().map(|voter| voter.0[0]).collect())
    }

    fn check(state: &(Membership, Heads), voters: &[u8]) -> Result<(), &'static str> {
        let next = state.0.next(voters.iter().map(|number| id(*number)).collect(), &id(1));
        state.0.check_end(&next, &state.1, &Sabotage::NONE)
    }

    fn configure(state: &mut (Membership, Heads), target: u32) -> Result<(), &'static str> {
        order(state, 1, Command::Configure { voters_target: Some(target), limits: None })
    }

    #[test]
    fn an_invite_is_used_once_and_a_key_never_again() {
        let mut state = group(3);
        join(&mut state, 4);
        let again = |member: u8, secret: u8, name: &str| Command::JoinIntent {
            member: id(member),
            name: name.to_owned(),
            addresses: Vec::new(),
            invite: Digest([secret; 32]),
        };
        assert!(order(&mut state, 2, again(5, 4, "n5")).is_err(), "used");
        assert!(order(&mut state, 2, again(5, 9, "n5")).is_err(), "unknown");
        assert!(order(&mut state, 2, again(4, 4, "n4")).is_err(), "a member");
        order(&mut state, 1, Command::Invite { secret: Digest([5; 32]), expires: WallTime(9) }).unwrap();
        assert!(order(&mut state, 2, again(5, 5, "n4")).is_err(), "the name is taken");
        order(&mut state, 4, Command::LeaveIntent).unwrap();
        assert_eq!(state.0.standing(&id(4)), Standing::Left);
        assert!(order(&mut state, 2, again(4, 5, "n4")).is_err(), "an id is never used again");
        assert_eq!(order(&mut state, 2, again(5, 5, "n4")), Ok(()), "a name may be");
    }

    #[test]
    fn three_become_five_only_with_two_that_are_ready() {
        let mut state = group(3);
        configure(&mut state, 5).unwrap();
        assert!(configure(&mut state, 5).is_err(), "it is so already");
        assert!(configure(&mut state, 4).is_err());
        join(&mut state, 4);
        ready(&mut state, 4);
        assert_eq!(due(&state), None, "a fourth waits for a fifth");
        join(&mut state, 5);
        assert_eq!(due(&state), None, "it is not ready");
        assert!(check(&state, &[1, 2, 3, 4, 5]).is_err());
        ready(&mut state, 5);
        assert_eq!(due(&state), Some(vec![1, 2, 3, 4, 5]));
        state.1.insert(id(5), head(2));
        assert_eq!(due(&state), None, "its word was of an earlier incarnation");
    }

    #[test]
    fn three_never_become_two() {
        let mut state = group(3);
        assert!(order(&mut state, 3, Command::LeaveIntent).is_err(), "nobody could take its vote");
        order(&mut state, 1, Command::RemoveIntent { member: id(3) }).unwrap();
        assert_eq!((due(&state), state.0.votes(&id(3)), state.0.is_open(&id(3))), (None, true, false));
        join(&mut state, 4);
        ready(&mut state, 4);
        assert_eq!(due(&state), Some(vec![1, 2, 4]));
        assert!(order(&mut state, 2, Command::LeaveIntent).is_err(), "the one that is ready goes for the removed one");
        assert!(check(&state, &[1, 4, 3]).is_err(), "2 has no reason to go");
        assert!(check(&state, &[1, 2]).is_err() && check(&state, &[1]).is_err() && check(&state, &[1, 2, 2]).is_err());
        let next = state.0.next(vec![id(1), id(2), id(4)], &id(2));
        assert_eq!(next.voters, [id(2), id(1), id(4)], "the proposer comes first");
        state.0.end_epoch(&next, &Sabotage::NONE);
        assert_eq!(state.0.standing(&id(3)), Standing::Removed);
        assert!(!state.0.is_unsettled());
    }

    #[test]
    fn a_quorum_of_others_makes_a_voter_suspected() {
        let mut state = group(3);
        join(&mut state, 4);
        ready(&mut state, 4);
        order(&mut state, 1, Command::Suspect { member: id(3) }).unwrap();
        assert!(order(&mut state, 1, Command::Suspect { member: id(3) }).is_err());
        assert!(order(&mut state, 4, Command::Suspect { member: id(3) }).is_err(), "a learner's suspicion");
        assert!(order(&mut state, 3, Command::Suspect { member: id(3) }).is_err(), "of itself");
        assert_eq!(due(&state), None);
        order(&mut state, 2, Command::Suspect { member: id(3) }).unwrap();
        assert_eq!(due(&state), Some(vec![1, 2, 4]));
        order(&mut state, 2, Command::Unsuspect { member: id(3) }).unwrap();
        assert_eq!(due(&state), None);
        order(&mut state, 2, Command::Suspect { member: id(3) }).unwrap();
        let next = state.0.next(vec![id(1), id(2), id(4)], &id(1));
        state.0.end_epoch(&next, &Sabotage::NONE);
        assert_eq!(
            (state.0.standing(&id(3)), state.0.is_open(&id(3))),
            (Standing::Learner, true),
            "E4: it stays a member"
        );
        assert_eq!(state.0.suspected_by(&id(3)).count(), 0, "suspicions end with the epoch");
    }

    #[test]
    fn a_lowered_target_takes_votes_from_the_end_of_the_list() {
        let mut state = group(5);
        configure(&mut state, 3).unwrap();
        assert_eq!(due(&state), Some(vec![1, 2, 3]));
        assert!(check(&state, &[1, 2, 5]).is_err());
        order(&mut state, 1, Command::RemoveIntent { member: id(2) }).unwrap();
        assert_eq!(due(&state), Some(vec![1, 3, 4]));
        assert!(check(&state, &[1, 3, 5]).is_err());
    }

    #[test]
    fn several_go_and_come_at_once() {
        let mut state = group(3);
        join(&mut state, 4);
        join(&mut state, 5);
        ready(&mut state, 5);
        ready(&mut state, 4);
        order(&mut state, 2, Command::LeaveIntent).unwrap();
        order(&mut state, 1, Command::RemoveIntent { member: id(1) }).unwrap();
        assert_eq!(due(&state), Some(vec![3, 5, 4]), "in the order of their words");
        let one = state.0.due(&state.1, &Sabotage::NONE, |learner| *learner == id(4)).unwrap();
        assert_eq!(one, [id(1), id(3), id(4)], "with one learner the first that said so goes");
        assert_eq!(check(&state, &[3, 4, 5]), Ok(()), "others may be counted on by others");
        let changes = Configuration { rules_version: 9, ..state.0.next(vec![id(3), id(5), id(4)], &id(3)) };
        assert!(state.0.check_end(&changes, &state.1, &Sabotage::NONE).is_err());
    }
}
