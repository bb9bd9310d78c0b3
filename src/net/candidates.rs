//! A mesh before there is a group: candidates find each other through the sources and ask each other, and nothing else
//! (rule G1). Who drives a candidate says what is asked and what is answered; here it is carried.
//!
//! Every key that can be asked is told once it is found: because somebody answered at an address, because it connected, or
//! because a source named it. A question goes over any connection there is, or to the addresses that are known of the key,
//! and ends in exactly one answer or none. What is open falls idle by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::{ConnectionId, DialError, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;
use tracing::{debug, info};

use super::candidacy::{Happening, Inquiry};
use super::figures::DiscoveryFigures;
use super::finding::{Outcome, Patience, Stand};
use super::identity::{member_of, member_of_peer, peer_of};
use super::source::{self, Place, Sources};
use super::streams::{Opened, StreamEvent};
use super::switchboard::{dial_in_turn, why_not_reached, without_peer};
use super::transport::{self, Behaviour, BehaviourEvent, SwarmSettings};
use super::{MeshError, is_loopback_only, listen};
use crate::types::{CandidacyFrame, CandidacyMessage, Contact, MemberId, limits};

/// What a mesh of candidates needs.
pub struct CandidateMeshSettings {
    /// Our key, an ed25519 one.
    pub keypair: Keypair,
    /// Where to listen, as for [`super::MeshSettings`].
    pub listen: Vec<Multiaddr>,
    /// Who tells where others may be.
    pub sources: Sources,
    /// As for [`super::MeshSettings`].
    pub leader_timeout: Duration,
    /// Name of the group that is to be.
    pub cluster: String,
    /// How many found it.
    pub expect: u32,
}

/// What happens between candidates.
#[derive(Debug)]
pub enum CandidateEvent {
    /// A key that can be asked.
    Found(MemberId),
    /// A key asks, and waits for [`CandidateMesh::answer`]; a further question of it takes the place of one that waits.
    Asked {
        /// Who.
        from: MemberId,
        /// What.
        frame: CandidacyFrame,
    },
    /// The answer to our question.
    Answered {
        /// Whose.
        from: MemberId,
        /// What.
        frame: CandidacyFrame,
    },
    /// Our question got no answer.
    Unanswered {
        /// Whose it would have been.
        from: MemberId,
    },
}

/// The mesh, from outside. It ends with this, or by [`CandidateMesh::stop`].
pub struct CandidateMesh {
    commands: mpsc::UnboundedSender<Command>,
    events: mpsc::UnboundedReceiver<CandidateEvent>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    listen: Mutex<Vec<Multiaddr>>,
    figures: Mutex<DiscoveryFigures>,
}

/// Questions answer what was found or heard, and both are bounded: so the channel needs no bound.
enum Command {
    Ask { to: MemberId, frame: Box<CandidacyFrame> },
    Answer { to: MemberId, frame: Box<CandidacyFrame> },
    Direct(Vec<Contact>),
    Stop(oneshot::Sender<()>),
}

impl CandidateMesh {
    /// Listens on every address and starts the sources. Needs a tokio runtime.
    pub async fn start(settings: CandidateMeshSettings) -> Result<CandidateMesh, MeshError> {
        let me = member_of(&settings.keypair).ok_or_else(|| MeshError::Key("it is not an ed25519 key".to_owned()))?;
        settings.listen.iter().try_for_each(transport::probe)?;
        let mdns = settings.sources.mdns && !is_loopback_only(&settings.listen);
        let plain = SwarmSettings::plain(settings.leader_timeout, limits::CANDIDATES_MAX);
        let mut swarm = transport::swarm(&settings.keypair, SwarmSettings { mdns, ..plain })?;
        let shared = Arc::new(Shared::default());
        listen(&mut swarm, &settings.listen, |address| shared.add_listen_address(address)).await?;
        let pause = limits::CANDIDATE_PAUSE_MAX;
        let patience = Patience { stranger: pause, unreached: pause };
        let mut inquiry = Inquiry::start(&settings.sources, patience, (settings.cluster, settings.expect));
        if settings.sources.mdns && !swarm.behaviour().mdns.is_enabled() {
            inquiry.finder.trouble(source::MDNS, transport::no_mdns(mdns));
        }
        let (commands, receiver) = mpsc::unbounded_channel();
        let (events, told) = mpsc::unbounded_channel();
        let gathering = Gathering {
            me,
            swarm,
            inquiry,
            shared: shared.clone(),
            events,
            contacts: BTreeMap::new(),
            recent: VecDeque::new(),
            found: BTreeSet::new(),
        };
        tokio::spawn(gathering.run(receiver));
        Ok(CandidateMesh { commands, events: told, shared })
    }

    /// Where we listen, per interface.
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.shared.listen.lock().expect("nobody panics with addresses in hand").clone()
    }

    /// Asks a key, and never waits. While a question to it is under way, a further one is unanswered at once.
    pub fn ask(&self, to: MemberId, frame: CandidacyFrame) {
        self.command(Command::Ask { to, frame: Box::new(frame) });
    }

    /// Answers the question of a key, if it still waits for one. Never waits.
    pub fn answer(&self, to: MemberId, frame: CandidacyFrame) {
        self.command(Command::Answer { to, frame: Box::new(frame) });
    }

    /// Further addresses of keys.
    pub fn direct(&self, contacts: Vec<Contact>) {
        self.command(Command::Direct(contacts));
    }

    /// What happens next; never returns once the mesh has ended. Cancel safe.
    pub async fn next(&mut self) -> CandidateEvent {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// How others are found.
    pub fn figures(&self) -> DiscoveryFigures {
        self.shared.figures.lock().expect("nobody panics with the figures in hand").clone()
    }

    /// Closes everything; nothing listens when this returns.
    pub async fn stop(self) {
        let (reply, stopped) = oneshot::channel();
        self.command(Command::Stop(reply));
        // An error means that it had stopped already.
        let _ = stopped.await;
    }

    fn command(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

impl Shared {
    fn add_listen_address(&self, address: Multiaddr) {
        let mut listen = self.listen.lock().expect("nobody panics with addresses in hand");
        if !listen.contains(&address) {
            listen.push(address);
        }
    }
}

/// The task that owns the swarm of candidates.
struct Gathering {
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
}

impl Gathering {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
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
        let own = self.shared.listen.lock().expect("nobody panics with addresses in hand").clone();
        let streams = &self.swarm.behaviour().streams;
        let connected = |member: &MemberId| peer_of(member).is_some_and(|peer| streams.any_to(&peer).is_some());
        let reached = self.contacts.iter().filter(|(member, _)| connected(member));
        let reached: BTreeMap<Multiaddr, MemberId> =
            reached.flat_map(|(member, all)| all.iter().map(|address| (address.clone(), *member))).collect();
        let (me, found) = (self.me, &self.found);
        self.inquiry.dial(&mut self.swarm, now, |address, key| match key {
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
            Happening::Heard { member } => self.inquiry.keeper.heard(&member),
            Happening::Answered { connection } => self.inquiry.keeper.answered(connection),
            Happening::Said { member, answer, .. } => {
                self.inquiry.keeper.said(&member);
                self.tell(match answer {
                    Ok(frame) => CandidateEvent::Answered { from: member, frame },
                    Err(reason) => {
                        debug!(peer = %member.short(), reason, "a candidate does not answer");
                        CandidateEvent::Unanswered { from: member }
                    }
                });
            }
        }
        self.publish();
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
            SwarmEvent::NewListenAddr { address, .. } => self.shared.add_listen_address(address),
            _ => {}
        }
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
        let unanswered = |this: &Gathering| this.tell(CandidateEvent::Unanswered { from: to });
        let Some(peer) = peer_of(&to).filter(|_| !self.inquiry.keeper.knocks_at(&to) && to != self.me) else {
            return unanswered(self);
        };
        if let Some(id) = self.swarm.behaviour().streams.any_to(&peer) {
            return self.inquiry.ask(&mut self.swarm, (id, peer), to, frame);
        }
        let mut addresses = self.contacts.get(&to).cloned().unwrap_or_default();
        let found = self.inquiry.finder.addresses(&to);
        addresses.extend(found.into_iter().filter(|address| !addresses.contains(address)).collect::<Vec<_>>());
        if addresses.is_empty() {
            return unanswered(self);
        }
        let dial = dial_in_turn(peer, addresses);
        let id = dial.connection_id();
        match self.swarm.dial(dial) {
            Ok(()) => self.inquiry.keeper.knocks(to, id, frame),
            Err(error) => {
                debug!(peer = %to.short(), %error, "not dialled");
                unanswered(self);
            }
        }
    }

    fn direct(&mut self, contacts: Vec<Contact>) {
        for contact in contacts {
            let addresses = contact.addresses.iter().filter_map(|text| text.parse().ok()).collect();
            self.meet(contact.id, addresses);
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

    fn tell(&self, event: CandidateEvent) {
        // Whoever listened may be gone; then this task is about to end.
        let _ = self.events.send(event);
    }

    fn publish(&self) {
        let mut figures = self.shared.figures.lock().expect("nobody panics with the figures in hand");
        figures.sources = self.inquiry.finder.figures();
    }
}
