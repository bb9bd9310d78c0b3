//! The one task that owns the swarm: dials members, gives every connection its task, makes one connection of a pair the
//! link, and lets the doorkeeper's guests in. Everybody else sends it events and commands.

mod dialling;
mod finding;
mod gossip;
mod knocking;
mod links;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::swarm::{ConnectionId, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;
use tracing::{debug, warn};

pub(super) use dialling::{dial_in_turn, why_not_reached, without_peer};

use super::announcing::Announcer;
use super::attempt::Verdict;
use super::candidacy::Inquiry;
use super::choice::Connections;
use super::dial::Dialler;
use super::doorkeeper::{Bounds, Doorkeeper};
use super::identity::member_of_peer;
use super::link::{Intake, Link};
use super::pair::End;
use super::refusals::Refusals;
use super::streams::{Opened, StreamEvent};
use super::transport::{Behaviour, BehaviourEvent};
use super::{Command, Founded, Shared, SwarmOwner};
use crate::types::{DoorMessage, MemberId, Roster, limits};

/// Silence is looked for this often.
const ROUND: Duration = Duration::from_millis(500);

/// What connections' tasks, and those of exchanges at the door, tell: each of them at most one of every kind, so the channel
/// needs no bound of its own.
pub(super) enum Event {
    /// Greeted, and offered as the link of its pair.
    Claimed {
        /// The link it would be.
        link: Arc<Link>,
        /// Where the answer goes.
        reply: oneshot::Sender<Verdict>,
    },
    /// Over.
    Ended {
        /// Which.
        connection: ConnectionId,
        /// Why.
        end: End,
    },
    /// The driver is about to hear a knock.
    Asked {
        /// Whose.
        member: MemberId,
        /// Where the answer goes.
        reply: oneshot::Sender<DoorMessage>,
    },
    /// A knock of theirs waits no longer: its answer is known, or there is none.
    Heard {
        /// Whose.
        member: MemberId,
    },
    /// And the answer is given.
    Answered {
        /// On which connection.
        connection: ConnectionId,
    },
    /// A knock of ours is over.
    Said {
        /// At whose door.
        member: MemberId,
        /// On which connection.
        connection: ConnectionId,
    },
}

/// What a switchboard is made of.
pub(super) struct Parts {
    pub swarm: Swarm<Behaviour>,
    pub inquiry: Inquiry,
    pub announcer: Announcer,
    pub announced: Vec<Multiaddr>,
    pub founded: Founded,
    pub roster: watch::Receiver<Roster>,
    pub intake: Intake,
}

/// The owner of the swarm.
pub(super) struct Switchboard {
    swarm: Swarm<Behaviour>,
    inquiry: Inquiry,
    announcer: Announcer,
    /// Where the others are told to reach us, if the settings say so.
    announced: Vec<Multiaddr>,
    founded: Founded,
    shared: Arc<Shared>,
    roster: watch::Receiver<Roster>,
    intake: Intake,
    commands: mpsc::UnboundedReceiver<Command>,
    events: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
    connections: Connections,
    dialler: Dialler,
    doorkeeper: Doorkeeper<DoorMessage>,
    refusals: Refusals,
    next_round: Instant,
    /// Our addresses have changed: connections from the old ones may be dead without a word.
    doubt_until: Option<Instant>,
    stop: Option<(oneshot::Sender<()>, Instant)>,
}

impl Switchboard {
    pub fn new(parts: Parts, shared: Arc<Shared>, commands: mpsc::UnboundedReceiver<Command>) -> Switchboard {
        let Parts { swarm, inquiry, announcer, announced, founded, roster, intake } = parts;
        let now = Instant::now();
        let mut switchboard = Switchboard {
            swarm,
            inquiry,
            announcer,
            announced,
            founded,
            roster,
            intake,
            commands,
            events: mpsc::unbounded_channel(),
            connections: Connections::new(shared.member),
            dialler: Dialler::default(),
            doorkeeper: Doorkeeper::new(Bounds::DOOR, now),
            refusals: Refusals::new(shared.clone(), now),
            next_round: now + ROUND,
            doubt_until: None,
            stop: None,
            shared,
        };
        switchboard.look_at_roster();
        switchboard.publish_discovery();
        switchboard
    }

    /// Runs until it is told to stop, or nobody is left to tell it.
    pub async fn run(mut self) {
        while self.turn().await.is_continue() && !self.stopped() {}
        for connection in self.connections.iter() {
            connection.task.abort();
            connection.link.iter().for_each(|link| link.take_down());
        }
        self.doorkeeper.close();
        self.inquiry.keeper.close();
        if let Some((reply, _)) = self.stop {
            drop(self.swarm);
            // Whoever asked may have given up waiting.
            let _ = reply.send(());
        }
    }

    /// Does what is due, then takes the next thing that happens.
    async fn turn(&mut self) -> ControlFlow<()> {
        self.dial();
        self.look_around();
        self.announce();
        let deadline = self.deadline();
        // Tasks come first: what a connection said last counts before that it closed, and a knock before its answer.
        // Then the roster: what the driver says next may be about somebody new.
        tokio::select! {
            biased;
            event = self.events.1.recv() => self.handle_event(event.expect("we hold a sender")),
            () = changed(&mut self.roster) => self.look_at_roster(),
            command = self.commands.recv() => return self.handle_command(command),
            happening = self.inquiry.next() => self.handle_happening(happening),
            event = self.swarm.select_next_some() => self.handle_swarm(event),
            () = sleep_until(deadline.into()) => self.round(Instant::now()),
        }
        ControlFlow::Continue(())
    }

    fn handle_command(&mut self, command: Option<Command>) -> ControlFlow<()> {
        match command {
            None => return ControlFlow::Break(()),
            Some(Command::Refuse { peer, nonce, refusal }) => self.refuse_process(peer, nonce, refusal),
            Some(Command::Door { to, message }) => self.say_at_door(to, *message),
            Some(Command::Stop { reply }) => self.begin_to_stop(reply),
        }
        ControlFlow::Continue(())
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Claimed { link, reply } => {
                let member = link.peer.member;
                // A connection that closed meanwhile has no claim; its task hears it from the dropped reply.
                if let Some(connection) = self.connections.get_mut(link.connection) {
                    connection.offer = Some((link, reply));
                    self.decide(member);
                }
            }
            Event::Ended { connection, end } => self.end(connection, end),
            Event::Asked { member, reply } => self.doorkeeper.asked(&member, reply),
            Event::Heard { member } => self.doorkeeper.heard(&member),
            // Whoever knocked closes its connection when it has read; what stays falls idle.
            Event::Answered { connection } => self.doorkeeper.answered(connection),
            Event::Said { member, connection } => {
                self.doorkeeper.said(&member);
                self.close_unused(connection);
            }
        }
    }

    /// A new roster: who goes hears why, who comes is dialled.
    fn look_at_roster(&mut self) {
        let roster = self.roster.borrow_and_update().clone();
        let change = self.shared.known.learn(&self.shared.member, &roster);
        if let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() {
            gossip.set_members(change.peer_ids.clone());
        }
        self.swarm.behaviour_mut().streams.set_members(change.peer_ids);
        self.announcer.keep(|member| self.shared.known.contains(member));
        self.announcer.set_head(roster.head, Instant::now());
        let (now, members): (_, Vec<MemberId>) = (Instant::now(), change.targets.keys().copied().collect());
        self.dialler.direct(change.targets, now);
        for member in members {
            // A source may have told of it before it was a member.
            let found = self.inquiry.finder.addresses(&member);
            found.into_iter().for_each(|address| self.dialler.hint(&member, address, now));
        }
        for peer in change.gone {
            // A connection that is no link yet is refused when it has greeted.
            if let Some(link) = peer.link() {
                link.turn_away(self.shared.known.refusal(&peer.member));
            }
            let others = self.swarm.behaviour().streams.all_to(&peer.peer_id);
            others.into_iter().for_each(|id| self.close_unused(id));
        }
    }

    fn connected(&mut self, peer_id: PeerId, id: ConnectionId, endpoint: ConnectedPoint) {
        if self.stop.is_some() {
            // Who has just seen its link end dials at once.
            return self.close_unused(id);
        }
        let member = member_of_peer(&peer_id).expect("others are not admitted");
        if let ConnectedPoint::Dialer { address, .. } = &endpoint {
            self.dialler.reached(&member, without_peer(address));
        }
        if self.found(id, peer_id, member, &endpoint) {
            return;
        }
        if self.doorkeeper.uses(id) {
            // We dialled it to knock, and for nothing else.
            self.swarm.behaviour_mut().streams.knock(peer_id, id);
            return;
        }
        let dialled = endpoint.is_dialer();
        if dialled {
            self.swarm.behaviour_mut().streams.open(peer_id, id);
            self.dialler.ended(id);
        }
        self.attempt(id, member, dialled);
    }

    fn deadline(&self) -> Instant {
        let dial = self.dialler.next_due(|member| self.connections.reach_well(member));
        let due = [dial, self.inquiry.finder.next_due(), self.announcer.next_due()].into_iter().flatten().min();
        due.filter(|_| self.stop.is_none()).map_or(self.next_round, |due| due.min(self.next_round))
    }

    fn begin_to_stop(&mut self, reply: oneshot::Sender<()>) {
        self.stop = Some((reply, Instant::now() + 2 * limits::FAREWELL_TIMEOUT));
        self.connections.unused().into_iter().for_each(|id| self.cut(id, End::Finished));
        self.doorkeeper.close();
        self.inquiry.keeper.close();
        let open = self.swarm.behaviour().streams.connections();
        open.into_iter().for_each(|id| self.close_unused(id));
        self.connections.links().for_each(|link| link.finish());
    }

    /// Whether everything queued is written and every connection closed, or it took too long.
    fn stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|(_, deadline)| {
            let closed = self.connections.is_empty() && self.swarm.connected_peers().next().is_none();
            closed || Instant::now() > *deadline
        })
    }
}

impl SwarmOwner for Switchboard {
    fn swarm(&mut self) -> &mut Swarm<Behaviour> {
        &mut self.swarm
    }

    fn handle_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Streams(StreamEvent { connection, peer, opened })) => {
                let member = member_of_peer(&peer).expect("others are not admitted");
                match opened {
                    Opened::Pair(outcome) => self.hand_over(connection, member, outcome),
                    Opened::Knock(stream) => self.hear_knock(connection, member, stream),
                    Opened::Door(stream) => self.say_knock(connection, stream),
                    Opened::Asked(stream) => self.hear_question(connection, member, stream),
                    Opened::Ask(stream) => self.inquiry.opened(connection, stream),
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping)) => self.pinged(ping),
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(event)) => self.gossiped(event),
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(event)) => self.hear_neighbours(event),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                connection_id,
                peer_id,
                info,
            })) => self.identified(connection_id, peer_id, info),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.connected(peer_id, connection_id, endpoint);
            }
            SwarmEvent::ConnectionClosed { connection_id, cause, .. } => {
                let reason = cause.map_or_else(|| "closed".to_owned(), |cause| cause.to_string());
                self.closed(connection_id, reason);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => self.not_reached(connection_id, &error),
            SwarmEvent::NewListenAddr { address, .. } => {
                self.shared.listen.add(address);
                self.note_addresses();
                // There may be a way now where there was none.
                self.dialler.hurry(Instant::now());
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.shared.listen.forget(&address);
                self.note_addresses();
                self.address_gone(&address);
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                warn!(?addresses, ?reason, "the mesh listens here no more");
                addresses.iter().for_each(|address| self.shared.listen.forget(address));
                self.note_addresses();
            }
            SwarmEvent::ListenerError { error, .. } => debug!(%error, "a connection could not be taken"),
            _ => {}
        }
    }
}

/// Returns when there is a new roster; never, once the driver has ended.
async fn changed(roster: &mut watch::Receiver<Roster>) {
    if roster.changed().await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests;
