//! What sources and members tell of addresses becomes hints for the dialler, and strangers are asked once who they are.

use std::time::Instant;

use libp2p::core::ConnectedPoint;
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{PeerId, Stream, identify, mdns};
use tracing::{debug, info, warn};

use super::Switchboard;
use super::dialling::{why_not_reached, without_peer};
use crate::driver::Input;
use crate::net::candidacy::Happening;
use crate::net::figures::ForeignGroup;
use crate::net::finding::Stand;
use crate::net::listen_address;
use crate::net::outcome::Outcome;
use crate::net::source::Place;
use crate::net::streams::ip_of;
use crate::types::{CandidacyFrame, CandidacyMessage, CandidacyRefusal, ClusterId, MemberId, limits};

impl Switchboard {
    /// A source has news, or a question of candidates goes on.
    pub(super) fn handle_happening(&mut self, happening: Happening) {
        let now = Instant::now();
        match happening {
            Happening::Told((source, news)) => {
                match &news.trouble {
                    Some(trouble) => info!(source, found = news.finds.len(), trouble, "a source does not tell all"),
                    None => debug!(source, found = news.finds.len(), "a source tells"),
                }
                let fresh = self.inquiry.finder.learn(source, news, now);
                self.take_hints(fresh);
            }
            Happening::Asked { member, frame, reply } => {
                let (answer, other_group) = (self.founded.answer)(member, &frame);
                if let Some(cluster) = other_group {
                    self.meet_foreign_group(cluster, member, None);
                }
                // A task that gave up waiting tells its end.
                let _ = reply.send(answer);
            }
            Happening::Unread { member, reason } => {
                debug!(peer = %member.short(), reason, "a question of a candidate cannot be read");
            }
            Happening::Heard { member } => self.inquiry.keeper.heard(&member),
            Happening::Answered { connection } => self.inquiry.keeper.answered(connection),
            Happening::Said { member, connection, answer } => {
                self.inquiry.keeper.said(&member);
                let outcome = self.judge_answer(member, connection, answer);
                self.inquiry.finder.answered(connection, member, outcome, now);
                self.close_unused(connection);
            }
        }
        self.publish_discovery();
    }

    pub(super) fn hear_neighbours(&mut self, event: mdns::Event) {
        let fresh = self.inquiry.finder.hear_neighbours(event, Instant::now());
        self.take_hints(fresh);
        self.publish_discovery();
    }

    /// Where it is listened says every peer; of a member that is a hint. And how we look from there.
    pub(super) fn identified(&mut self, connection: ConnectionId, peer: PeerId, info: identify::Info) {
        let member = super::member_of_peer(&peer).expect("others are not admitted");
        if let Some(ip) = ip_of(&info.observed_addr) {
            self.swarm.behaviour_mut().streams.seen_from(connection, ip);
        }
        let near = self.swarm.behaviour().streams.is_loopback(connection);
        let places = info.listen_addrs.iter().filter_map(Place::of).filter(|place| is_of_use(place, near));
        let of_member = places.map(|place| Place { key: Some(member), ..place });
        let of_member: Vec<Place> = of_member.take(limits::ADDRESSES_MAX).collect();
        self.take_hints(of_member);
        let mut figures = self.shared.discovery();
        if !figures.observed.contains(&info.observed_addr) {
            figures.observed.push(info.observed_addr);
            if figures.observed.len() > limits::HINTS_MAX {
                figures.observed.remove(0);
            }
        }
    }

    /// Addresses that are said to be a member's may be where to dial it.
    pub(super) fn take_hints(&mut self, places: Vec<Place>) {
        let now = Instant::now();
        for place in places {
            if let Some(member) = place.key.filter(|key| self.shared.known.contains(key)) {
                self.dialler.hint(&member, place.address, now);
            }
        }
    }

    /// Dials addresses that sources tell, where nobody knows who is there.
    pub(super) fn look_around(&mut self) {
        let now = Instant::now();
        if self.stop.is_some() || self.inquiry.finder.next_due().is_none_or(|due| due > now) {
            return;
        }
        let own = self.shared.listen.all();
        let (known, dialler, me) = (&self.shared.known, &self.dialler, self.shared.member);
        self.inquiry.dial(&mut self.swarm, now, |address, key, answered| {
            if key == Some(&me) || own.contains(address) {
                return Stand::Ourselves;
            }
            let member = key.or(answered).filter(|key| known.contains(key)).copied().or_else(|| dialler.owner(address));
            match member {
                Some(member) if known.peer(&member).is_some_and(|peer| peer.link().is_some()) => Stand::Linked(member),
                Some(member) => Stand::Member(member),
                None => Stand::Nobody,
            }
        });
    }

    /// Somebody answered where nobody was known. Gives whether that connection is of no more concern to others.
    pub(super) fn found(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        member: MemberId,
        endpoint: &ConnectedPoint,
    ) -> bool {
        if self.inquiry.finder.asked_on(id).is_none() {
            return false;
        }
        let now = Instant::now();
        if self.shared.known.contains(&member) {
            self.inquiry.finder.answered(id, member, Outcome::Member(member), now);
            self.dialler.hint(&member, without_peer(endpoint.get_remote_address()), now);
            if self.is_dialled(&member) && !self.connections.reach(&member) {
                return false;
            }
            // It has a link, or something that may become one; or it needs none.
            self.close_unused(id);
        } else if self.inquiry.keeper.knocks_at(&member) {
            // It is being asked at another of its addresses.
            self.inquiry.finder.answered(id, member, Outcome::Waiting, now);
            self.close_unused(id);
        } else {
            let greeting = self.founded.greeting.clone();
            self.inquiry.ask(&mut self.swarm, (id, peer), member, greeting);
        }
        true
    }

    /// Whether the roster wants a member dialled for a link.
    fn is_dialled(&self, member: &MemberId) -> bool {
        self.roster.borrow().members.iter().any(|listed| listed.id == *member && listed.dial)
    }

    /// A dial reached nobody where nobody was known. Gives whether it was such a dial.
    pub(super) fn found_nobody(&mut self, id: ConnectionId, error: &DialError) -> bool {
        let now = Instant::now();
        let address = match error {
            DialError::LocalPeerId { .. } => self.inquiry.finder.ourselves(id, now),
            _ => self.inquiry.finder.unreached(id, why_not_reached(error), now),
        };
        self.publish_discovery();
        address.is_some()
    }

    /// They ask as candidates do.
    pub(super) fn hear_question(&mut self, id: ConnectionId, member: MemberId, stream: Stream) {
        if self.stop.is_some() {
            return;
        }
        let stranger = !self.shared.known.contains(&member);
        self.inquiry.hear(id, member, stranger, stream);
        self.forget_attempt(id);
    }

    /// What an answer says of who gave it.
    fn judge_answer(&mut self, member: MemberId, id: ConnectionId, answer: Result<CandidacyFrame, String>) -> Outcome {
        let frame = match answer {
            Ok(frame) => frame,
            Err(why) => return Outcome::NotAMember { key: member, why },
        };
        if frame.cluster != self.founded.greeting.cluster {
            return Outcome::OtherGroup { name: frame.cluster, cluster: None };
        }
        let cluster = match frame.message {
            CandidacyMessage::Founded(cluster) | CandidacyMessage::Refused(CandidacyRefusal::Exists(cluster)) => {
                cluster
            }
            CandidacyMessage::Made(genesis) => genesis.cluster(),
            CandidacyMessage::Refused(refusal) => {
                return Outcome::NotAMember { key: member, why: refusal.to_string() };
            }
            _ => return Outcome::Candidate(member),
        };
        if cluster != self.shared.hello.borrow().cluster {
            let place = self.inquiry.finder.asked_on(id).map_or_else(String::new, |address| address.to_string());
            self.meet_foreign_group(cluster, member, Some(place));
            return Outcome::OtherGroup { name: frame.cluster, cluster: Some(cluster) };
        }
        // It may have joined while we did not listen; its door tells (rule E3). A driver that has ended needs no news.
        let _ = self.intake.inbox.push(Input::Announced { from: member, epoch: None, link: None }, None);
        Outcome::Unknown(member)
    }

    /// Two geneses of one name: said loudly, once of each. They never merge. Where one was met is none if it only asked us
    /// and said so.
    pub(super) fn meet_foreign_group(&mut self, cluster: ClusterId, member: MemberId, place: Option<String>) {
        let name = self.founded.greeting.cluster.clone();
        let claimed = place.is_none();
        let place = place.unwrap_or_else(|| "it asked us".to_owned());
        let group = ForeignGroup { name: name.clone(), cluster, member, place: place.clone(), claimed };
        let is_news = enter(&mut self.shared.discovery().foreign_groups, group);
        if !is_news || !self.refusals.may_tell_group(claimed, Instant::now()) {
            return;
        }
        warn!(
            group = name,
            ours = %self.shared.hello.borrow().cluster,
            theirs = %cluster,
            member = %member.short(),
            place,
            "there is another group of the same name, with another genesis. The two never merge: stop one of them, or give \
             it another name"
        );
    }

    pub(super) fn publish_discovery(&self) {
        self.shared.discovery().sources = self.inquiry.finder.figures();
    }
}

/// An address that leads nowhere from here is none: one of loopback leads to this machine.
pub(super) fn is_of_use(place: &Place, near: bool) -> bool {
    listen_address(&place.address)
        .is_none_or(|(_, socket)| !socket.ip().is_unspecified() && (near || !socket.ip().is_loopback()))
}

/// Remembers another group, and gives whether it is news. One that only said so itself takes the place of no other.
fn enter(groups: &mut Vec<ForeignGroup>, group: ForeignGroup) -> bool {
    if let Some(known) = groups.iter_mut().find(|known| known.cluster == group.cluster) {
        if known.claimed || !group.claimed {
            *known = group;
        }
        return false;
    }
    if groups.len() >= limits::FOREIGN_GROUPS_MAX {
        match groups.iter().position(|known| known.claimed) {
            Some(claimed) => drop(groups.remove(claimed)),
            None if group.claimed => return true,
            None => drop(groups.remove(0)),
        }
    }
    groups.push(group);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Digest;

    fn group(number: u8, claimed: bool) -> ForeignGroup {
        let place = if claimed { "it asked us" } else { "/ip4/10.0.0.1/tcp/1" };
        let (name, cluster, member) = ("shop".to_owned(), Digest([number; 32]), MemberId([number; 32]));
        ForeignGroup { name, cluster, member, place: place.to_owned(), claimed }
    }

    #[test]
    fn a_group_that_was_met_is_remembered_whatever_others_claim() {
        let mut groups = Vec::new();
        assert!(enter(&mut groups, group(0, true)) && !enter(&mut groups, group(0, false)));
        assert!(enter(&mut groups, group(1, false)));
        (100..200).for_each(|number| assert!(enter(&mut groups, group(number, true))));
        assert_eq!(groups.len(), limits::FOREIGN_GROUPS_MAX);
        assert!(!enter(&mut groups, group(0, true)));
        assert_eq!(groups[..2], [group(0, false), group(1, false)]);
        (2..16).for_each(|number| assert!(enter(&mut groups, group(number, false))));
        assert!(enter(&mut groups, group(200, true)) && groups.iter().all(|group| !group.claimed));
        enter(&mut groups, group(16, false));
        assert_eq!((groups.len(), &groups[15]), (limits::FOREIGN_GROUPS_MAX, &group(16, false)));
    }
}
