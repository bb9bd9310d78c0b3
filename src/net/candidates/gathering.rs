//! The task that owns the swarm while there is no group yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use libp2p::swarm::{ConnectionId, DialError, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, ping};
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use super::{CandidateEvent, Command, Shared};
use crate::net::candidacy::{Happening, Inquiry};
use crate::net::finding::Stand;
use crate::net::identity::{member_of_peer, peer_of};
use crate::net::outcome::Outcome;
use crate::net::source::Place;
use crate::net::streams::{Opened, StreamEvent, ip_of};
use crate::net::switchboard::{dial_in_turn, why_not_reached, without_peer};
use crate::net::transport::{Behaviour, BehaviourEvent};
use crate::net::{SwarmOwner, listen_address};
use crate::types::{CandidacyFrame, CandidacyMessage, Contact, MemberId, limits};

/// The task that owns the swarm of candidates.
pub(super) struct Gathering {
    me: MemberId,
    swarm: Swarm<Behaviour>,
    inquiry: Inquiry,
    shared: Arc<Shared>,
    events: mpsc::UnboundedSender<CandidateEvent>,
    /// Where keys said that they are, or are said to be; at most [`limits::CANDIDATES_MAX`] keys.
    contacts: BTreeMap<MemberId, Vec<Multiaddr>>,
    /// The same keys, the one that was told of longest ago first.
    recent: VecDeque<MemberId>,
    /// Keys that were told as found; bounded as well.
    found: BTreeSet<MemberId>,
    /// Where else to look for some of them, however much is said since.
    directed: BTreeMap<MemberId, Vec<Multiaddr>>,
}

impl Gathering {
    pub fn new(
        me: MemberId,
        swarm: Swarm<Behaviour>,
        inquiry: Inquiry,
        shared: Arc<Shared>,
        events: mpsc::UnboundedSender<CandidateEvent>,
    ) -> Gathering {
        let (contacts, recent, found) = (BTreeMap::new(), VecDeque::new(), BTreeSet::new());
        let directed = BTreeMap::new();
        Gathering { me, swarm, inquiry, shared, events, contacts, recent, found, directed }
    }

    pub async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let reply = loop {
            self.look_around();
            let due = self.inquiry.finder.next_due().unwrap_or_else(|| Instant::now() + limits::CANDIDATE_PAUSE_MAX);
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    None => break None,
                    Some(Command::Stop(reply)) => break Some(reply),
                    Some(Command::Ask { to, frame }) => self.ask(to, *frame),
                    Some(Command::Answer { to, frame }) => {
                        if self.inquiry.keeper.answer(&to, *frame).is_some() {
                            debug!(to = %to.short(), "its question waits no longer");
                        }
                    }
                    Some(Command::Direct(contacts)) => self.direct(contacts),
                },
                happening = self.inquiry.next() => self.handle_happening(happening),
                event = self.swarm.select_next_some() => self.handle_swarm(event),
                () = sleep_until(due.into()) => {}
            }
        };
        self.inquiry.keeper.close();
        drop(self.swarm);
        if let Some(reply) = reply {
            // Whoever asked may have given up waiting.
            let _ = reply.send(());
        }
    }

    fn look_around(&mut self) {
        let now = Instant::now();
        if self.inquiry.finder.next_due().is_none_or(|due| due > now) {
            return;
        }
        let own = self.shared.listen.all();
        let streams = &self.swarm.behaviour().streams;
        let connected = |member: &MemberId| peer_of(member).is_some_and(|peer| streams.newest_to(&peer).is_some());
        let reached = self.contacts.iter().filter(|(member, _)| connected(member));
        let reached: BTreeMap<Multiaddr, MemberId> =
            reached.flat_map(|(member, all)| all.iter().map(|address| (address.clone(), *member))).collect();
        let (me, found) = (self.me, &self.found);
        self.inquiry.dial(&mut self.swarm, now, |address, key, _| match key {
            Some(key) if *key == me => Stand::Ourselves,
            _ if own.contains(address) => Stand::Ourselves,
            // It is asked where it is said to be.
            Some(key) if found.contains(key) => Stand::Member(*key),
            _ => reached.get(address).map_or(Stand::Nobody, |member| Stand::Linked(*member)),
        });
        self.publish();
    }

    fn handle_happening(&mut self, happening: Happening) {
        match happening {
            Happening::Told((source, news)) => {
                if let Some(trouble) = &news.trouble {
                    info!(source, found = news.finds.len(), trouble, "a source does not tell all");
                }
                let fresh = self.inquiry.finder.learn(source, news, Instant::now());
                self.learn(fresh);
            }
            Happening::Asked { member, frame, reply } => {
                self.inquiry.keeper.asked(&member, reply);
                if let CandidacyMessage::Here(candidacy) = &frame.message {
                    let addresses = candidacy.addresses.iter().filter_map(|text| text.parse().ok()).collect();
                    self.meet(member, addresses);
                }
                self.tell(CandidateEvent::Asked { from: member, frame });
            }
            Happening::Unread { member, reason } => {
                debug!(peer = %member.short(), reason, "a question cannot be read");
                self.tell(CandidateEvent::Unread { from: member, reason });
            }
            Happening::Heard { member } => self.inquiry.keeper.heard(&member),
            Happening::Answered { connection } => self.inquiry.keeper.answered(connection),
            Happening::Said { member, answer, .. } => {
                self.inquiry.keeper.said(&member);
                self.tell(match answer {
                    Ok(frame) => CandidateEvent::Answered { from: member, frame },
                    Err(reason) => {
                        debug!(peer = %member.short(), reason, "a candidate does not answer");
                        CandidateEvent::Unanswered { from: member, reason }
                    }
                });
            }
        }
        self.publish();
    }

    fn connected(&mut self, id: ConnectionId, peer: PeerId, dialled: Option<Multiaddr>) {
        let member = member_of_peer(&peer).expect("others are not admitted");
        self.inquiry.finder.answered(id, member, Outcome::Candidate(member), Instant::now());
        if self.inquiry.keeper.uses(id) {
            // It was dialled for a question.
            self.swarm.behaviour_mut().streams.ask(peer, id);
        }
        self.meet(member, dialled.into_iter().collect());
        self.publish();
    }

    fn not_reached(&mut self, id: ConnectionId, error: &DialError) {
        let (why, now) = (why_not_reached(error), Instant::now());
        match error {
            DialError::LocalPeerId { .. } => self.inquiry.finder.ourselves(id, now),
            _ => self.inquiry.finder.unreached(id, why.clone(), now),
        };
        self.inquiry.closed(id, &why);
        self.publish();
    }

    fn ask(&mut self, to: MemberId, frame: CandidacyFrame) {
        let unanswered = |this: &Gathering, reason: &str| {
            this.tell(CandidateEvent::Unanswered { from: to, reason: reason.to_owned() });
        };
        let Some(peer) = peer_of(&to).filter(|_| !self.inquiry.keeper.knocks_at(&to) && to != self.me) else {
            return unanswered(self, "it is being asked already");
        };
        if let Some(id) = self.swarm.behaviour().streams.newest_to(&peer) {
            return self.inquiry.ask(&mut self.swarm, (id, peer), to, frame);
        }
        let addresses = self.addresses(&to);
        if addresses.is_empty() {
            return unanswered(self, "no address of it is known");
        }
        let dial = dial_in_turn(peer, addresses);
        let id = dial.connection_id();
        match self.swarm.dial(dial) {
            Ok(()) => self.inquiry.keeper.knocks(to, id, frame),
            Err(error) => {
                debug!(peer = %to.short(), %error, "not dialled");
                unanswered(self, &error.to_string());
            }
        }
    }

    /// Everywhere a key may be, what was said last of it first.
    fn addresses(&self, member: &MemberId) -> Vec<Multiaddr> {
        let mut addresses = self.contacts.get(member).cloned().unwrap_or_default();
        let directed = self.directed.get(member).cloned().unwrap_or_default();
        for address in directed.into_iter().chain(self.inquiry.finder.addresses(member)) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    fn direct(&mut self, contacts: Vec<Contact>) {
        self.directed.clear();
        for contact in contacts {
            let addresses = contact.addresses.iter().filter_map(|text| text.parse().ok()).collect();
            self.directed.insert(contact.id, addresses);
            self.meet(contact.id, Vec::new());
        }
    }

    fn learn(&mut self, places: Vec<Place>) {
        for place in places {
            if let Some(key) = place.key {
                self.meet(key, vec![place.address]);
            }
        }
    }

    /// A key, and where it may be: it can be asked from now on.
    fn meet(&mut self, member: MemberId, addresses: Vec<Multiaddr>) {
        if member == self.me {
            return;
        }
        let known = self.contacts.entry(member).or_default();
        for address in addresses {
            known.retain(|before| *before != address);
            known.insert(0, address);
        }
        known.truncate(limits::HINTS_MAX);
        self.recent.retain(|before| *before != member);
        self.recent.push_back(member);
        if self.recent.len() > limits::CANDIDATES_MAX
            && let Some(oldest) = self.recent.pop_front()
        {
            self.contacts.remove(&oldest);
            self.found.remove(&oldest);
        }
        if self.found.insert(member) {
            self.tell(CandidateEvent::Found(member));
        }
    }

    fn close(&mut self, connection: ConnectionId) {
        // One that is closed already is no news.
        let _ = self.swarm.close_connection(connection);
    }

    fn tell(&self, event: CandidateEvent) {
        // Whoever listened may be gone; then this task is about to end.
        let _ = self.events.send(event);
    }

    fn publish(&self) {
        let mut figures = self.shared.figures.lock().expect("nobody panics with the figures in hand");
        figures.sources = self.inquiry.finder.figures();
    }
}

impl SwarmOwner for Gathering {
    fn swarm(&mut self) -> &mut Swarm<Behaviour> {
        &mut self.swarm
    }

    fn handle_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Streams(StreamEvent { connection, peer, opened })) => {
                let member = member_of_peer(&peer).expect("others are not admitted");
                match opened {
                    Opened::Asked(stream) => self.inquiry.hear(connection, member, true, stream),
                    Opened::Ask(stream) => self.inquiry.opened(connection, stream),
                    // There are no links yet, and no door.
                    Opened::Pair(_) | Opened::Knock(_) | Opened::Door(_) => {}
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(event)) => {
                let fresh = self.inquiry.finder.hear_neighbours(event, Instant::now());
                self.learn(fresh);
                self.publish();
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                connection_id, info, ..
            })) => {
                if let Some(ip) = ip_of(&info.observed_addr) {
                    self.swarm.behaviour_mut().streams.seen_from(connection_id, ip);
                }
            }
            // A frozen peer, a cut cable, or somebody who is elsewhere by now: questions would get lost there.
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { connection, result: Err(error), .. })) => {
                debug!(%error, "a connection is not answered on any more");
                self.close(connection);
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let dialled = endpoint.is_dialer().then(|| without_peer(endpoint.get_remote_address()));
                self.connected(connection_id, peer_id, dialled);
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => {
                self.inquiry.closed(connection_id, "the connection closed");
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.not_reached(connection_id, &error);
            }
            SwarmEvent::NewListenAddr { address, .. } => self.shared.listen.add(address),
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.shared.listen.forget(&address);
                let of_this =
                    |(_, socket): (_, SocketAddr)| self.swarm.behaviour().streams.with_own_address(socket.ip());
                listen_address(&address).map(of_this).into_iter().flatten().for_each(|id| self.close(id));
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                warn!(?addresses, ?reason, "this candidate listens here no more");
                addresses.iter().for_each(|address| self.shared.listen.forget(address));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::transport::ListenerId;
    use tokio::time::timeout;

    use super::super::{CandidateMeshSettings, gathering};
    use super::*;
    use crate::net::Transport;
    use crate::net::source::Sources;
    use crate::net::tests::{LEADER_TIMEOUT, PATIENCE, Seat, own_address};

    /// Nobody turns it yet.
    async fn waiting(seat: &Seat) -> Gathering {
        let settings = CandidateMeshSettings {
            keypair: seat.key.clone(),
            listen: vec![seat.address.clone()],
            sources: Sources::default(),
            leader_timeout: LEADER_TIMEOUT,
            cluster: "trial".to_owned(),
            expect: 2,
        };
        gathering(settings, Arc::default(), mpsc::unbounded_channel().0).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_dialled_from_an_address_that_is_gone_is_closed() {
        let (stays, moves) = (Seat::draw(), Seat::draw());
        let (_commands, receiver) = mpsc::unbounded_channel();
        tokio::spawn(waiting(&stays).await.run(receiver));
        let mut one = waiting(&moves).await;
        one.swarm.dial(stays.address.clone()).unwrap();
        let own = loop {
            let event =
                timeout(PATIENCE, one.swarm.select_next_some()).await.expect("it is told by which address it came");
            assert!(!matches!(event, SwarmEvent::ConnectionClosed { .. }), "{event:?}");
            one.handle_swarm(event);
            let streams = &one.swarm.behaviour().streams;
            if let Some(own) = streams.connections().first().and_then(|id| streams.own_address(*id)) {
                break own;
            }
        };
        let address = Transport::Tcp.multiaddress(SocketAddr::new(own, 1));
        one.handle_swarm(SwarmEvent::ExpiredListenAddr { listener_id: ListenerId::next(), address });
        loop {
            let event = timeout(PATIENCE, one.swarm.select_next_some()).await.expect("it is closed");
            if let SwarmEvent::ConnectionClosed { cause, .. } = event {
                assert!(cause.is_none(), "not because it was idle: {cause:?}");
                break;
            }
        }
    }

    #[tokio::test]
    async fn what_is_said_last_is_tried_first_and_a_direction_is_kept() {
        let (other, fresh) = (Seat::draw().id, own_address());
        let mut one = waiting(&Seat::draw()).await;
        let directed: Vec<Multiaddr> = (0..limits::HINTS_MAX).map(|_| own_address()).collect();
        let addresses = directed.iter().map(ToString::to_string).collect();
        let contact = Contact { id: other, name: String::new(), addresses };
        one.direct(vec![contact.clone()]);
        one.meet(other, vec![fresh.clone()]);
        one.direct(vec![contact]);
        assert_eq!(one.addresses(&other), [vec![fresh], directed.clone()].concat());
        (0..limits::HINTS_MAX).for_each(|_| one.meet(other, vec![own_address()]));
        assert!(one.addresses(&other).ends_with(&directed), "whatever else is said");
        one.direct(Vec::new());
        assert_eq!(one.addresses(&other).len(), limits::HINTS_MAX);
    }
}
