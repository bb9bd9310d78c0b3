//! The one task that owns the swarm: dials members, gives every connection its task, and makes one connection of a pair
//! the link. Everybody else sends it events and commands.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, ping};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use super::attempt::{Attempt, Verdict};
use super::choice::{Choice, Connection, Connections};
use super::dial::Dialler;
use super::identity::member_of_peer;
use super::link::{Intake, Link};
use super::pair::End;
use super::refusals::Refusals;
use super::streams::StreamEvent;
use super::transport::{Behaviour, BehaviourEvent};
use super::{Command, Shared};
use crate::driver::Input;
use crate::types::peer::{Hello, Refusal};
use crate::types::{MemberId, StartNonce, limits};

/// Silence is looked for this often.
const ROUND: Duration = Duration::from_millis(500);

/// What connections' tasks tell: each of them at most one of either kind, so the channel needs no bound of its own.
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
}

/// The owner of the swarm.
pub(super) struct Switchboard {
    swarm: Swarm<Behaviour>,
    shared: Arc<Shared>,
    hello: watch::Receiver<Hello>,
    intake: Intake,
    commands: mpsc::UnboundedReceiver<Command>,
    events: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
    connections: Connections,
    dialler: Dialler,
    refusals: Refusals,
    next_round: Instant,
    stop: Option<(oneshot::Sender<()>, Instant)>,
}

impl Switchboard {
    pub fn new(
        swarm: Swarm<Behaviour>,
        shared: Arc<Shared>,
        hello: watch::Receiver<Hello>,
        intake: Intake,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Switchboard {
        let now = Instant::now();
        Switchboard {
            swarm,
            hello,
            intake,
            commands,
            events: mpsc::unbounded_channel(),
            connections: Connections::new(shared.member),
            dialler: Dialler::new(shared.peers.keys().copied(), now),
            refusals: Refusals::new(shared.clone(), now),
            next_round: now + ROUND,
            stop: None,
            shared,
        }
    }

    /// Runs until it is told to stop, or nobody is left to tell it.
    pub async fn run(mut self) {
        loop {
            self.dial();
            let deadline = self.deadline();
            // Tasks come first: what a connection said last counts before that it closed.
            let flow = tokio::select! {
                biased;
                event = self.events.1.recv() => { self.handle_event(event.expect("we hold a sender")); ControlFlow::Continue(()) }
                command = self.commands.recv() => self.handle_command(command),
                event = self.swarm.select_next_some() => { self.handle_swarm(event); ControlFlow::Continue(()) }
                () = sleep_until(deadline.into()) => { self.round(Instant::now()); ControlFlow::Continue(()) }
            };
            if flow.is_break() || self.stopped() {
                break;
            }
        }
        for connection in self.connections.iter() {
            connection.task.abort();
            connection.link.iter().for_each(|link| link.take_down());
        }
        if let Some((reply, _)) = self.stop {
            drop(self.swarm);
            // Whoever asked may have given up waiting.
            let _ = reply.send(());
        }
    }

    fn handle_command(&mut self, command: Option<Command>) -> ControlFlow<()> {
        match command {
            None => return ControlFlow::Break(()),
            Some(Command::Refuse { peer, nonce, refusal }) => self.refuse_process(peer, nonce, refusal),
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
        }
    }

    fn handle_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Streams(StreamEvent { connection, outcome })) => {
                let connection = self.connections.get(connection);
                if let Some(streams) = connection.and_then(|connection| connection.streams.as_ref()) {
                    // The channel holds both streams; a task that has ended takes none.
                    let _ = streams.try_send(outcome);
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping)) => self.pinged(ping),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.connected(peer_id, connection_id, endpoint);
            }
            SwarmEvent::ConnectionClosed { connection_id, cause, .. } => {
                let reason = cause.map_or_else(|| "closed".to_owned(), |cause| cause.to_string());
                self.closed(connection_id, reason);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => self.not_reached(connection_id, &error),
            SwarmEvent::NewListenAddr { address, .. } => self.shared.add_listen_address(address),
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                warn!(?addresses, ?reason, "the mesh listens here no more");
            }
            SwarmEvent::ListenerError { error, .. } => debug!(%error, "a connection could not be taken"),
            _ => {}
        }
    }

    fn connected(&mut self, peer_id: PeerId, id: ConnectionId, endpoint: ConnectedPoint) {
        let member = member_of_peer(&peer_id).expect("others are not admitted");
        let dialled = endpoint.is_dialer();
        if dialled {
            self.swarm.behaviour_mut().streams.open(peer_id, id);
            self.dialler.ended(id);
        }
        let (streams, receiver) = mpsc::channel(2);
        let attempt = Attempt {
            connection: id,
            member,
            peer: self.shared.peers.get(&member).cloned(),
            chooses: self.shared.member < member,
            hello: self.hello.clone(),
            intake: self.intake.clone(),
            events: self.events.0.clone(),
        };
        let task = tokio::spawn(attempt.run(receiver)).abort_handle();
        let heard = Instant::now();
        let streams = Some(streams);
        self.connections.insert(id, Connection { member, dialled, streams, task, offer: None, link: None, heard });
    }

    /// Its task ends by itself, and says how: perhaps it has read why the peer closed.
    fn closed(&mut self, id: ConnectionId, reason: String) {
        if let Some(connection) = self.connections.get_mut(id) {
            (connection.streams, connection.offer) = (None, None);
            if let Some(link) = &connection.link {
                link.take_down();
                link.give_up(reason);
            }
        }
    }

    /// Judges what is offered by the connections to a member.
    fn decide(&mut self, member: MemberId) {
        while let Some((id, (link, reply))) = self.connections.next_offer(&member) {
            let verdict = match self.connections.judge(&link) {
                Choice::Take => {
                    self.take(id, &link);
                    Verdict::Take
                }
                Choice::Leave => Verdict::Leave,
                Choice::Refuse(refusal) => Verdict::Refuse(refusal),
                Choice::RefuseBoth(refusal) => {
                    link.peer.link().iter().for_each(|current| current.turn_away(refusal.clone()));
                    Verdict::Refuse(refusal)
                }
            };
            // A task that gave up waiting reports its end.
            let _ = reply.send(verdict);
        }
    }

    fn take(&mut self, id: ConnectionId, link: &Arc<Link>) {
        let before = self.connections.links_up(&link.peer.member);
        before.iter().for_each(|(_, link)| link.take_down());
        let connection = self.connections.get_mut(id).expect("its offer was taken a moment ago");
        connection.link = Some(link.clone());
        connection.heard = Instant::now();
        // Before the driver hears of it, so that it can answer at once.
        link.peer.set_link(link.clone());
        link.bring_up();
        link.peer.set_trouble(None);
        info!(
            peer = link.peer.label(),
            incarnation = link.hello.incarnation.0,
            dialled = connection.dialled,
            "link up"
        );
        before.into_iter().for_each(|(id, _)| self.cut(id, End::Left));
    }

    /// Ends a connection from here, without a word.
    fn cut(&mut self, id: ConnectionId, end: End) {
        if let Some(connection) = self.connections.get(id) {
            connection.task.abort();
            self.end(id, end);
        }
    }

    fn end(&mut self, id: ConnectionId, end: End) {
        let Some(connection) = self.connections.remove(id) else {
            return;
        };
        self.swarm.close_connection(id);
        let since = connection.link.as_ref().and_then(|link| link.up_since());
        if let Some(link) = &connection.link {
            link.take_down();
            link.peer.clear_link(id);
        }
        let (member, linked, now) = (connection.member, connection.link.is_some(), Instant::now());
        self.log_end(&member, linked, &end);
        self.refusals.note(member, linked, &end, now);
        self.dialler.over(&member, since, &end, now);
        self.tell_refusal(member, end);
        self.decide(member);
    }

    fn log_end(&self, member: &MemberId, linked: bool, end: &End) {
        let peer = self.shared.label(member);
        if linked {
            info!(peer, reason = ?end, "link down");
        } else {
            debug!(peer, reason = ?end, "no link");
        }
    }

    /// The driver hears which members refuse us.
    fn tell_refusal(&self, peer: MemberId, end: End) {
        if let End::Refused { by_them: Some(reason), .. } = end
            && self.shared.peers.contains_key(&peer)
        {
            // A driver that has ended needs no news.
            let _ = self.intake.inbox.push(Input::Refused { peer, reason: *reason }, None);
        }
    }

    /// The driver refuses a process. Its verdict comes late: the link may be another process's by now.
    fn refuse_process(&self, peer: MemberId, nonce: StartNonce, refusal: Refusal) {
        let link = self.shared.peers.get(&peer).and_then(|peer| peer.link());
        if let Some(link) = link.filter(|link| link.hello.nonce == nonce) {
            link.turn_away(refusal);
        }
    }

    /// Dials every member that has neither a link nor a connection that may become one.
    fn dial(&mut self) {
        if self.stop.is_some() {
            return;
        }
        let now = Instant::now();
        for member in self.dialler.due(now, |member| self.connections.reach(member)) {
            let peer = &self.shared.peers[&member];
            if peer.addresses.is_empty() {
                self.dialler.failed(&member, now);
                continue;
            }
            // From a port of its own: with the listening port two dials can meet in the middle as one.
            let dial = DialOpts::peer_id(peer.peer_id)
                .condition(PeerCondition::Always)
                .addresses(peer.addresses.clone())
                .allocate_new_port()
                .build();
            let id = dial.connection_id();
            match self.swarm.dial(dial) {
                Ok(()) => self.dialler.began(&member, id),
                Err(error) => {
                    debug!(peer = peer.label(), %error, "not dialled");
                    self.dialler.failed(&member, now);
                }
            }
        }
    }

    fn not_reached(&mut self, id: ConnectionId, error: &DialError) {
        let Some(member) = self.dialler.ended(id) else {
            return;
        };
        let trouble = why_not_reached(error);
        let peer = &self.shared.peers[&member];
        if self.dialler.failed(&member, Instant::now()) {
            info!(peer = peer.label(), trouble, "not reached");
        } else {
            debug!(peer = peer.label(), trouble, "not reached");
        }
        peer.set_trouble(Some(trouble));
    }

    fn pinged(&mut self, ping: ping::Event) {
        let Ok(round_trip) = ping.result else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(ping.connection) {
            connection.heard = Instant::now();
            if let Some(link) = &connection.link {
                let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX).max(1);
                link.peer.counters.round_trip_micros.set(micros);
            }
        }
    }

    /// Closes links whose pings are not answered: a frozen peer, a cut cable.
    fn round(&mut self, now: Instant) {
        if now < self.next_round {
            return;
        }
        // Was it we who were frozen? Then nobody had a chance to answer yet.
        let paused = now > self.next_round + 2 * ROUND;
        self.next_round = now + ROUND;
        if paused {
            self.connections.forgive(now);
        }
        for id in self.connections.silent(now, limits::LINK_SILENCE_MAX) {
            self.cut(id, End::Lost(format!("no answer for {:?}", limits::LINK_SILENCE_MAX)));
        }
    }

    fn deadline(&self) -> Instant {
        let due = self.dialler.next_due(|member| self.connections.reach(member));
        due.filter(|_| self.stop.is_none()).map_or(self.next_round, |due| due.min(self.next_round))
    }

    fn begin_to_stop(&mut self, reply: oneshot::Sender<()>) {
        self.stop = Some((reply, Instant::now() + 2 * limits::FAREWELL_TIMEOUT));
        self.connections.unused().into_iter().for_each(|id| self.cut(id, End::Finished));
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

/// In one line, for people: the address, and what is wrong at the bottom of all layers.
fn why_not_reached(error: &DialError) -> String {
    match error {
        DialError::WrongPeerId { obtained, address } => {
            let found = member_of_peer(obtained).map_or_else(|| obtained.to_string(), |found| found.to_string());
            format!("at {} answers {found}, another key", without_peer(address))
        }
        DialError::Transport(tried) => {
            let failed = tried.iter().map(|(address, error)| format!("at {}: {}", without_peer(address), cause(error)));
            failed.collect::<Vec<_>>().join("; ")
        }
        error => error.to_string(),
    }
}

fn cause(mut error: &dyn std::error::Error) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// An address as it was given: dials carry the key in it.
fn without_peer(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}
