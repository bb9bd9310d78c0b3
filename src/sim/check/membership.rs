//! Membership as the decided entries make it, written from rules E4 to E6 and from nothing else: slow and obvious. What
//! members derive is compared with it by the positions they hand out and by the ends of epochs they decide.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{
    BatchHeader, ClusterLimits, Command, Configuration, Digest, Genesis, Incarnation, MemberId, Slot, Standing, limits,
};

/// The membership at one point of the decided chain.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Of the present epoch.
    pub configuration: Configuration,
    /// How many are to vote from the next epoch on.
    voters_target: u32,
    /// What the next epoch is bound by.
    limits: ClusterLimits,
    members: BTreeMap<MemberId, Member>,
    former: BTreeMap<MemberId, Standing>,
    /// Invites that nobody has used, the oldest first.
    invites: Vec<Digest>,
    /// Invites that are used.
    used: BTreeSet<Digest>,
}

/// One member.
#[derive(Clone, Debug)]
pub struct Member {
    name: String,
    /// Where the order says that it is found.
    pub addresses: Vec<String>,
    /// Of its newest ordered lane.
    incarnation: Incarnation,
    /// In this incarnation it said that it may vote.
    ready: Option<Incarnation>,
    /// Its lane is closed; it keeps its vote until somebody takes it.
    pub leaving: Option<Standing>,
    /// Voters whose Suspects of it stand.
    suspects: BTreeSet<MemberId>,
}

impl Member {
    fn new(name: &str, addresses: &[String]) -> Member {
        let (name, addresses) = (name.to_owned(), addresses.to_vec());
        Member { name, addresses, incarnation: Incarnation(0), ready: None, leaving: None, suspects: BTreeSet::new() }
    }

    /// Rule E5: its Ready is of the incarnation of its lane head.
    pub fn is_ready(&self) -> bool {
        self.leaving.is_none() && self.ready == Some(self.incarnation)
    }
}

impl Membership {
    /// As the genesis makes it.
    pub fn new(genesis: &Genesis) -> Membership {
        let members = genesis.members.iter().map(|member| (member.id, Member::new(&member.name, &member.addresses)));
        Membership {
            configuration: genesis.configuration(),
            voters_target: genesis.voters_target,
            limits: genesis.limits,
            members: members.collect(),
            former: BTreeMap::new(),
            invites: Vec::new(),
            used: BTreeSet::new(),
        }
    }

    /// A member, if it is one.
    pub fn member(&self, id: &MemberId) -> Option<&Member> {
        self.members.get(id)
    }

    /// Everybody who is a member.
    pub fn members(&self) -> impl Iterator<Item = (&MemberId, &Member)> {
        self.members.iter()
    }

    /// How a key that was a member ceased to be one.
    pub fn departure(&self, id: &MemberId) -> Option<Standing> {
        self.former.get(id).copied()
    }

    /// Whether a member votes in the present epoch.
    pub fn votes(&self, id: &MemberId) -> bool {
        self.configuration.voters.contains(id)
    }

    /// How many are to vote.
    pub fn target(&self) -> u32 {
        self.voters_target
    }

    /// Rule H1: only a member whose lane is open has batches ordered.
    pub fn lane_is_open(&self, id: &MemberId) -> bool {
        self.members.get(id).is_some_and(|member| member.leaving.is_none())
    }

    /// A batch is ordered. If it carries a command: whether that has an effect, and with it a position. `digest_at` is the
    /// decided chain below this slot.
    pub fn order(
        &mut self,
        header: &BatchHeader,
        command: Option<&Command>,
        digest_at: impl Fn(Slot) -> Option<Digest>,
    ) -> bool {
        let origin = self.members.get_mut(&header.origin).expect("only a member's batches are ordered");
        origin.incarnation = header.incarnation;
        command.is_some_and(|command| self.follow(header, command, digest_at))
    }

    fn follow(&mut self, header: &BatchHeader, command: &Command, digest_at: impl Fn(Slot) -> Option<Digest>) -> bool {
        let by = header.origin;
        match command {
            Command::Invite { secret, .. } => self.invite(*secret),
            Command::JoinIntent { member, name, addresses, invite } => self.join(*member, name, addresses, invite),
            Command::LeaveIntent => self.leave(by),
            Command::RemoveIntent { member } => self.remove(*member),
            Command::Configure { voters_target, limits } => self.configure(*voters_target, *limits),
            Command::Suspect { member } => {
                let voters = *member != by && self.votes(&by) && self.votes(member);
                voters && self.members.get_mut(member).is_some_and(|suspected| suspected.suspects.insert(by))
            }
            Command::Unsuspect { member } => {
                self.members.get_mut(member).is_some_and(|suspected| suspected.suspects.remove(&by))
            }
            Command::Ready { slot, digest } => {
                let right = !self.votes(&by) && digest_at(*slot) == Some(*digest);
                let learner = self.members.get_mut(&by).filter(|learner| right && !learner.is_ready());
                learner.is_some_and(|learner| learner.ready.replace(header.incarnation) != Some(header.incarnation))
            }
            Command::Move { addresses } => {
                let member = self.members.get_mut(&by).expect("only a member's batches are ordered");
                std::mem::replace(&mut member.addresses, addresses.clone()) != *addresses
            }
        }
    }

    fn invite(&mut self, secret: Digest) -> bool {
        if self.invites.contains(&secret) || self.used.contains(&secret) {
            return false;
        }
        if self.invites.len() == limits::INVITES_MAX {
            self.invites.remove(0);
        }
        self.invites.push(secret);
        true
    }

    fn join(&mut self, member: MemberId, name: &str, addresses: &[String], invite: &Digest) -> bool {
        let place = self.invites.iter().position(|open| open == invite);
        let named = self.members.values().any(|other| other.name == name);
        let fresh = !named && !self.members.contains_key(&member) && !self.former.contains_key(&member);
        let Some(place) = place.filter(|_| fresh && self.members.len() < limits::MEMBERS_MAX) else { return false };
        self.used.insert(self.invites.remove(place));
        self.members.insert(member, Member::new(name, addresses));
        true
    }

    fn leave(&mut self, by: MemberId) -> bool {
        if !self.votes(&by) {
            let possible = self.is_anybody_open(&by);
            if possible {
                self.depart(by, Standing::Left);
            }
            return possible;
        }
        let possible = self.could_let_go(&by, |_| true);
        if possible {
            self.members.get_mut(&by).expect("voters are members").leaving = Some(Standing::Left);
        }
        possible
    }

    /// Whether anybody else can have something ordered.
    fn is_anybody_open(&self, but: &MemberId) -> bool {
        self.members.keys().any(|other| other != but && self.lane_is_open(other))
    }

    /// Who votes keeps its vote until somebody takes it. Somebody must be left who can order something.
    fn remove(&mut self, id: MemberId) -> bool {
        let votes = self.votes(&id);
        if !self.is_anybody_open(&id) {
            return false;
        }
        match self.members.get_mut(&id) {
            Some(member) if votes => member.leaving.replace(Standing::Removed) != Some(Standing::Removed),
            Some(_) => {
                self.depart(id, Standing::Removed);
                true
            }
            None => false,
        }
    }

    fn configure(&mut self, target: Option<u32>, bounds: Option<ClusterLimits>) -> bool {
        if target.is_some_and(|target| !limits::VOTERS_TARGETS.contains(&target)) {
            return false;
        }
        let before = (self.voters_target, self.limits);
        self.voters_target = target.unwrap_or(self.voters_target);
        self.limits = bounds.filter(|bounds| bounds.mistakes().is_empty()).unwrap_or(self.limits);
        before != (self.voters_target, self.limits)
    }

    fn depart(&mut self, id: MemberId, standing: Standing) {
        self.members.remove(&id);
        self.former.insert(id, standing);
    }

    /// The epoch ends.
    pub fn end(&mut self, next: &Configuration) -> Result<(), String> {
        self.admits(next)?;
        let before = std::mem::replace(&mut self.configuration, next.clone());
        for voter in before.voters.iter().filter(|voter| !next.voters.contains(voter)) {
            if let Some(standing) = self.members.get(voter).and_then(|member| member.leaving) {
                self.depart(*voter, standing);
            }
        }
        for (id, member) in &mut self.members {
            member.suspects.clear();
            if next.voters.contains(id) {
                member.ready = None; // whoever loses its vote again says anew that it is ready
            }
        }
        Ok(())
    }

    /// Rule E5: whether the present epoch may end in that configuration; if not, why.
    pub fn admits(&self, next: &Configuration) -> Result<(), String> {
        let expected = Configuration {
            epoch: self.configuration.epoch.next(),
            voters: next.voters.clone(),
            limits: self.limits,
            voters_target: self.voters_target,
            ..self.configuration.clone()
        };
        if *next != expected {
            return Err(format!("it is {next:?}, the order makes it {expected:?}"));
        }
        let (now, size, target) = (&self.configuration.voters, next.voters.len(), self.voters_target as usize);
        let distinct: BTreeSet<&MemberId> = next.voters.iter().collect();
        if distinct.len() < size {
            return Err("a voter is named twice".to_owned());
        }
        if size % 2 == 0 || (size < now.len() && size != target) || (size > now.len() && size > target) {
            return Err(format!("from {} voters to {size}, the target being {target}", now.len()));
        }
        for joining in next.voters.iter().filter(|id| !now.contains(id)) {
            let member = self.members.get(joining).ok_or_else(|| format!("{} is no member", joining.short()))?;
            if !member.is_ready() {
                let (said, is) = (member.ready, member.incarnation);
                return Err(format!("{} said {said:?} that it is ready, and is in {is:?}", joining.short()));
            }
        }
        if let Some(kept) = now.iter().find(|id| !next.voters.contains(id) && !self.may_go(id)) {
            return Err(format!("{} has no reason to go", kept.short()));
        }
        Ok(())
    }

    /// A voter has left, was removed, is suspected by a quorum of the others, or stands beyond a lowered target.
    fn may_go(&self, id: &MemberId) -> bool {
        let (target, voters) = (self.voters_target as usize, &self.configuration.voters);
        let beyond = target < voters.len() && voters.iter().position(|voter| voter == id) >= Some(target);
        beyond || self.members[id].leaving.is_some() || self.is_suspected_by_quorum(id)
    }

    fn is_suspected_by_quorum(&self, id: &MemberId) -> bool {
        self.members[id].suspects.len() >= self.configuration.quorum()
    }

    /// Rule E6: whether an end of the epoch is due that lets a voter go or takes a learner in, while only these can be heard.
    pub fn is_due(&self, heard: impl Fn(&MemberId) -> bool) -> bool {
        self.ends().iter().any(|next| self.is_heard(next, &heard))
    }

    /// Whether some end of the epoch could let this voter go, if it wanted to leave, and everybody who is to go before it
    /// (rule E6: in the order of their commands), while only these can be heard.
    pub fn could_let_go(&self, id: &MemberId, heard: impl Fn(&MemberId) -> bool) -> bool {
        let mut leaving = self.clone();
        leaving.members.get_mut(id).expect("voters are members").leaving = Some(Standing::Left);
        let is_goer = |id: &&MemberId| leaving.members[id].leaving.is_some() || leaving.is_suspected_by_quorum(id);
        let goers: Vec<&MemberId> = leaving.configuration.voters.iter().filter(is_goer).collect();
        let lets_go = |next: &&Configuration| !goers.iter().any(|goer| next.voters.contains(goer));
        leaving.ends().iter().filter(lets_go).any(|next| self.is_heard(next, &heard))
    }

    /// Rule E6: a quorum of the next voters is heard, and everybody who joins them.
    fn is_heard(&self, next: &Configuration, heard: impl Fn(&MemberId) -> bool) -> bool {
        let alive = next.voters.iter().filter(|id| heard(id)).count();
        alive >= next.quorum() && next.voters.iter().filter(|id| !self.votes(id)).all(heard)
    }

    /// Whether a voter's suspicion of a member stands.
    pub fn is_suspected(&self, id: &MemberId, by: &MemberId) -> bool {
        self.members.get(id).is_some_and(|member| member.suspects.contains(by))
    }

    /// Every configuration that the epoch may end in, but for the voters' order.
    fn ends(&self) -> Vec<Configuration> {
        let voters = &self.configuration.voters;
        let goers: Vec<MemberId> = voters.iter().filter(|id| self.may_go(id)).copied().collect();
        let is_comer = |id: &MemberId| !voters.contains(id) && self.members[id].is_ready();
        let comers: Vec<MemberId> = self.members.keys().filter(|id| is_comer(id)).copied().collect();
        let mut ends = Vec::new();
        for gone in subsets(&goers) {
            for come in subsets(&comers) {
                let stay = voters.iter().filter(|id| !gone.contains(id)).copied();
                let next = Configuration {
                    epoch: self.configuration.epoch.next(),
                    voters: stay.chain(come).collect(),
                    limits: self.limits,
                    voters_target: self.voters_target,
                    ..self.configuration.clone()
                };
                if next.voters != *voters && self.admits(&next).is_ok() {
                    ends.push(next);
                }
            }
        }
        ends
    }
}

/// Every choice of some of these, or of none.
fn subsets(of: &[MemberId]) -> Vec<Vec<MemberId>> {
    let chosen = |bits: u64| of.iter().enumerate().filter(move |(index, _)| bits >> index & 1 == 1).map(|(_, id)| *id);
    (0..1 << of.len()).map(|bits| chosen(bits).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::group::Group;
    use crate::types::{BatchNumber, MessageNumber, WallTime};

    /// A group of three and what machines order, one after the other.
    struct Order(Membership, Group);

    impl Order {
        fn new() -> Order {
            let group = Group::new(3, 6, ClusterLimits::default());
            Order(Membership::new(&group.genesis), group)
        }

        fn by(&mut self, machine: usize, incarnation: u64, command: &Command) -> bool {
            let header = BatchHeader {
                origin: self.1.id(machine),
                incarnation: Incarnation(incarnation),
                number: BatchNumber(1),
                first: MessageNumber(1),
                count: 1,
                parent: Digest::ZERO,
                resumes: None,
            };
            self.0.order(&header, Some(command), |_| Some(Digest::ZERO))
        }

        fn join(&mut self, machine: usize) -> bool {
            let secret = Digest::of("test", &[machine as u8]);
            self.by(0, 1, &Command::Invite { secret, expires: WallTime(0) });
            let contact = self.1.contact(machine, 0);
            let (member, name, addresses) = (contact.id, contact.name, contact.addresses);
            self.by(0, 1, &Command::JoinIntent { member, name, addresses, invite: secret })
        }

        fn ready(&mut self, machine: usize, incarnation: u64) -> bool {
            self.by(machine, incarnation, &Command::Ready { slot: Slot(0), digest: Digest::ZERO })
        }

        fn admits(&self, voters: &[usize]) -> bool {
            let next = Configuration {
                epoch: self.0.configuration.epoch.next(),
                voters: voters.iter().map(|machine| self.1.id(*machine)).collect(),
                voters_target: self.0.voters_target,
                ..self.0.configuration.clone()
            };
            self.0.admits(&next).is_ok()
        }
    }

    #[test]
    fn a_voter_goes_for_a_reason_and_comes_when_it_is_ready() {
        let mut order = Order::new();
        assert!(order.join(3) && !order.join(3), "an invite is used once");
        assert!(!order.by(2, 1, &Command::LeaveIntent), "nobody could take its vote");
        assert!(order.ready(3, 1) && !order.ready(3, 1), "it is said once");
        assert!(!order.admits(&[0, 1, 3]), "member 3 has no reason to go");
        assert!(order.by(2, 1, &Command::LeaveIntent));
        assert!(order.admits(&[0, 1, 3]) && !order.admits(&[0, 1]) && !order.admits(&[0, 1, 2, 3]));
        assert!(order.0.is_due(|_| true) && !order.0.is_due(|id| *id != order.1.id(3)), "a dead one is not counted");
        order.by(3, 2, &Command::Move { addresses: Vec::new() });
        assert!(!order.admits(&[0, 1, 3]), "its word was of an earlier incarnation");
    }

    #[test]
    fn a_key_is_never_used_again() {
        let mut order = Order::new();
        assert!(order.join(3) && order.by(3, 1, &Command::LeaveIntent), "a learner is gone at once");
        assert_eq!(order.0.departure(&order.1.id(3)), Some(Standing::Left));
        assert!(!order.join(3));
    }

    #[test]
    fn suspicions_of_a_quorum_of_the_others_let_a_voter_go() {
        let mut order = Order::new();
        let member = order.1.id(2);
        order.join(3);
        order.ready(3, 1);
        assert!(order.by(0, 1, &Command::Suspect { member }) && !order.by(3, 1, &Command::Suspect { member }));
        assert!(!order.admits(&[0, 1, 3]));
        assert!(order.by(1, 1, &Command::Suspect { member }) && order.admits(&[0, 1, 3]));
        assert!(order.by(1, 1, &Command::Unsuspect { member }) && !order.admits(&[0, 1, 3]));
    }
}
