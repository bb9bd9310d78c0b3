//! The one task that owns the swarm: dials members, gives every connection its task, makes one connection of a pair the
//! link, and lets the doorkeeper's guests in. Everybody else sends it events and commands.

use std::num::NonZeroU8;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Stream, ping};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use super::attempt::{Attempt, Verdict};
use super::choice::{Choice, Connection, Connections};
use super::dial::{Dialler, Failed};
use super::door::Exchange;
use super::doorkeeper::Doorkeeper;
use super::identity::{member_of_peer, peer_of};
use super::link::{Intake, Link};
use super::pair::End;
use super::refusals::Refusals;
use super::streams::{Opened, StreamEvent, StreamOutcome};
use super::transport::{Behaviour, BehaviourEvent, Transport};
use super::{Command, Shared};
use crate::driver::Input;
use crate::types::peer::Refusal;
use crate::types::{DoorMessage, MemberId, Roster, StartNonce, limits};

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

/// The owner of the swarm.
pub(super) struct Switchboard {
    swarm: Swarm<Behaviour>,
    shared: Arc<Shared>,
    roster: watch::Receiver<Roster>,
    intake: Intake,
    commands: mpsc::UnboundedReceiver<Command>,
    events: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
    connections: Connections,
    dialler: Dialler,
    doorkeeper: Doorkeeper,
    refusals: Refusals,
    next_round: Instant,
    stop: Option<(oneshot::Sender<()>, Instant)>,
}

impl Switchboard {
    pub fn new(
        swarm: Swarm<Behaviour>,
        shared: Arc<Shared>,
        roster: watch::Receiver<Roster>,
        intake: Intake,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Switchboard {
        let now = Instant::now();
        let mut switchboard = Switchboard {
            swarm,
            roster,
            intake,
            commands,
            events: mpsc::unbounded_channel(),
            connections: Connections::new(shared.member),
            dialler: Dialler::default(),
            doorkeeper: Doorkeeper::new(now),
            refusals: Refusals::new(shared.clone(), now),
            next_round: now + ROUND,
            stop: None,
            shared,
        };
        switchboard.look_at_roster();
        switchboard
    }

    /// Runs until it is told to stop, or nobody is left to tell it.
    pub async fn run(mut self) {
        loop {
            self.dial();
            let deadline = self.deadline();
            // Tasks come first: what a connection said last counts before that it closed, and a knock before its answer.
            // Then the roster: what the driver says next may be about somebody new.
            let flow = tokio::select! {
                biased;
                event = self.events.1.recv() => { self.handle_event(event.expect("we hold a sender")); ControlFlow::Continue(()) }
                () = changed(&mut self.roster) => { self.look_at_roster(); ControlFlow::Continue(()) }
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
        self.doorkeeper.close();
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

    fn handle_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Streams(StreamEvent { connection, peer, opened })) => {
                let member = member_of_peer(&peer).expect("others are not admitted");
                match opened {
                    Opened::Pair(outcome) => self.hand_over(connection, member, outcome),
                    Opened::Knock(stream) => self.hear_knock(connection, member, stream),
                    Opened::Door(stream) => self.say_knock(connection, stream),
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

    /// A new roster: who goes hears why, who comes is dialled.
    fn look_at_roster(&mut self) {
        let roster = self.roster.borrow_and_update().clone();
        let change = self.shared.known.learn(&self.shared.member, &roster);
        self.swarm.behaviour_mut().streams.set_members(change.peer_ids);
        self.dialler.direct(change.targets, Instant::now());
        for peer in change.gone {
            // A connection that is no link yet is refused when it has greeted.
            if let Some(link) = peer.link() {
                link.turn_away(self.shared.known.refusal(&peer.member));
            }
        }
    }

    fn connected(&mut self, peer_id: PeerId, id: ConnectionId, endpoint: ConnectedPoint) {
        let member = member_of_peer(&peer_id).expect("others are not admitted");
        if let ConnectedPoint::Dialer { address, .. } = &endpoint {
            self.dialler.reached(&member, without_peer(address));
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

    /// A connection that may become a link gets its task.
    fn attempt(&mut self, id: ConnectionId, member: MemberId, dialled: bool) {
        let Some(transport) = self.swarm.behaviour().streams.transport(id) else {
            // It has closed.
            return;
        };
        let (streams, receiver) = mpsc::channel(2);
        let attempt = Attempt {
            connection: id,
            transport,
            member,
            shared: self.shared.clone(),
            intake: self.intake.clone(),
            events: self.events.0.clone(),
        };
        let task = tokio::spawn(attempt.run(receiver)).abort_handle();
        let (streams, begun, heard) = (Some(streams), false, Instant::now());
        let connection = Connection { member, dialled, streams, begun, task, offer: None, link: None, heard };
        self.connections.insert(id, connection);
    }

    /// One of the two streams of a link has opened, or has not.
    fn hand_over(&mut self, id: ConnectionId, member: MemberId, outcome: StreamOutcome) {
        if self.connections.get(id).is_none() && self.doorkeeper.uses(id) {
            // After a knock it wants a link as well.
            self.attempt(id, member, false);
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.begun = true;
        if let Some(streams) = &connection.streams {
            // The channel holds both streams; a task that has ended takes none.
            let _ = streams.try_send(outcome);
        }
    }

    fn hear_knock(&mut self, id: ConnectionId, member: MemberId, stream: Stream) {
        let (stranger, now) = (!self.shared.known.contains(&member), Instant::now());
        if self.stop.is_some() || !self.doorkeeper.admits(&member, stranger, now) {
            let cluster = self.shared.hello.borrow().cluster;
            tokio::spawn(Exchange::turn_away(stream, cluster));
            return;
        }
        // Who dialled only to knock has no link on the way.
        let only_knocks = self.connections.get(id).is_some_and(|connection| !connection.dialled && !connection.begun);
        if only_knocks && let Some(connection) = self.connections.remove(id) {
            connection.task.abort();
        }
        let task = tokio::spawn(self.exchange(id, member).hear(stream)).abort_handle();
        self.doorkeeper.hears(member, stranger, id, task);
    }

    /// The driver says something at a door: an answer, or a knock.
    fn say_at_door(&mut self, to: MemberId, message: DoorMessage) {
        let Some(message) = self.doorkeeper.answer(&to, message) else { return };
        if self.stop.is_some() || self.doorkeeper.knocks_at(&to) {
            debug!(peer = self.shared.known.label(&to), "not said at its door: what was said last is not answered yet");
            return;
        }
        let Some(peer_id) = peer_of(&to) else { return };
        let linked = self.shared.known.peer(&to).and_then(|peer| peer.link());
        let addresses = self.dialler.addresses(&to);
        if let Some(link) = linked {
            self.knock_on(link.connection, to, peer_id, message);
        } else if !addresses.is_empty() {
            let dial = dial_in_turn(peer_id, addresses);
            let id = dial.connection_id();
            match self.swarm.dial(dial) {
                Ok(()) => self.doorkeeper.knocks(to, id, message),
                Err(error) => debug!(peer = self.shared.known.label(&to), %error, "its door is not dialled"),
            }
        } else if let Some(id) = self.connections.any_to(&to) {
            self.knock_on(id, to, peer_id, message);
        } else {
            debug!(peer = self.shared.known.label(&to), "not said at its door: nobody knows where that is");
        }
    }

    fn knock_on(&mut self, id: ConnectionId, to: MemberId, peer_id: PeerId, message: DoorMessage) {
        self.swarm.behaviour_mut().streams.knock(peer_id, id);
        self.doorkeeper.knocks(to, id, message);
    }

    /// The stream for our knock has opened, or has not.
    fn say_knock(&mut self, id: ConnectionId, stream: Result<Stream, String>) {
        match stream {
            Ok(stream) => {
                if let Some((member, message)) = self.doorkeeper.opened(id) {
                    let task = tokio::spawn(self.exchange(id, member).say(stream, message)).abort_handle();
                    self.doorkeeper.says(&member, task);
                }
            }
            Err(reason) => {
                if let Some(member) = self.doorkeeper.closed(id) {
                    debug!(peer = self.shared.known.label(&member), reason, "its door does not open");
                }
                self.close_unused(id);
            }
        }
    }

    fn exchange(&self, connection: ConnectionId, member: MemberId) -> Exchange {
        let (shared, intake, events) = (self.shared.clone(), self.intake.clone(), self.events.0.clone());
        Exchange { connection, member, shared, intake, events }
    }

    /// Closes a connection that neither a link nor the door needs.
    fn close_unused(&mut self, id: ConnectionId) {
        if self.connections.get(id).is_none() && !self.doorkeeper.uses(id) {
            self.swarm.close_connection(id);
        }
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
        self.doorkeeper.closed(id);
    }

    /// Judges what is offered by the connections to a member.
    fn decide(&mut self, member: MemberId) {
        while let Some((id, (link, reply))) = self.connections.next_offer(&member) {
            let verdict = match self.choose(&link) {
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

    /// The roster may have changed since the peer was greeted.
    fn choose(&self, link: &Link) -> Choice {
        let member = &link.peer.member;
        match self.shared.known.peer(member) {
            None => Choice::Refuse(self.shared.known.refusal(member)),
            // It was gone for a moment: what was counted and linked then is no more.
            Some(peer) if !Arc::ptr_eq(&peer, &link.peer) => Choice::Leave,
            Some(_) => self.connections.judge(link),
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
            transport = %link.transport,
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
        self.close_unused(id);
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
        let peer = self.shared.known.label(member);
        if linked {
            info!(peer, reason = ?end, "link down");
        } else {
            debug!(peer, reason = ?end, "no link");
        }
    }

    /// The driver hears which members refuse us.
    fn tell_refusal(&self, peer: MemberId, end: End) {
        if let End::Refused { by_them: Some(reason), .. } = end
            && self.shared.known.contains(&peer)
        {
            // A driver that has ended needs no news.
            let _ = self.intake.inbox.push(Input::Refused { peer, reason: *reason }, None);
        }
    }

    /// The driver refuses a process. Its verdict comes late: the link may be another process's by now.
    fn refuse_process(&self, peer: MemberId, nonce: StartNonce, refusal: Refusal) {
        let link = self.shared.known.peer(&peer).and_then(|peer| peer.link());
        if let Some(link) = link.filter(|link| link.hello.nonce == nonce) {
            link.turn_away(refusal);
        }
    }

    /// Dials whom the roster wants dialled and who has neither a link nor a connection that may become one.
    fn dial(&mut self) {
        if self.stop.is_some() {
            return;
        }
        let now = Instant::now();
        for member in self.dialler.due(now, |member| self.connections.reach(member)) {
            let peer = self.shared.known.peer(&member).expect("who is dialled is on the roster");
            let addresses = self.dialler.turn(&member);
            if addresses.is_empty() {
                self.dialler.nowhere(&member, now);
                continue;
            }
            let dial = dial(peer.peer_id, addresses);
            let id = dial.connection_id();
            match self.swarm.dial(dial) {
                Ok(()) => self.dialler.began(&member, id),
                Err(error) => {
                    debug!(peer = peer.label(), %error, "not dialled");
                    self.dialler.nowhere(&member, now);
                }
            }
        }
    }

    fn not_reached(&mut self, id: ConnectionId, error: &DialError) {
        let trouble = why_not_reached(error);
        if let Some(member) = self.doorkeeper.closed(id) {
            debug!(peer = self.shared.known.label(&member), trouble, "its door is not reached");
        }
        let Some(member) = self.dialler.ended(id) else {
            return;
        };
        let Some(peer) = self.shared.known.peer(&member) else {
            return;
        };
        match self.dialler.failed(&member, trouble, Instant::now()) {
            None | Some(Failed::GoesOn) => {}
            Some(Failed::Over { trouble, fresh }) => {
                if fresh {
                    info!(peer = peer.label(), trouble, "not reached");
                } else {
                    debug!(peer = peer.label(), trouble, "not reached");
                }
                peer.set_trouble(Some(trouble));
            }
        }
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
        self.doorkeeper.close();
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

/// Returns when there is a new roster; never, once the driver has ended.
async fn changed(roster: &mut watch::Receiver<Roster>) {
    if roster.changed().await.is_err() {
        std::future::pending().await
    }
}

/// From a port of its own: with the listening port two dials can meet in the middle as one.
fn dial(peer_id: PeerId, addresses: Vec<Multiaddr>) -> DialOpts {
    DialOpts::peer_id(peer_id).condition(PeerCondition::Always).addresses(addresses).allocate_new_port().build()
}

/// The same over both transports: QUIC where the first address of TCP has failed.
fn dial_in_turn(peer_id: PeerId, mut addresses: Vec<Multiaddr>) -> DialOpts {
    addresses.sort_by_key(Transport::of);
    let tcp = addresses.iter().filter(|address| Transport::of(address) == Transport::Tcp).count();
    let at_once = u8::try_from(tcp).ok().and_then(NonZeroU8::new).unwrap_or(NonZeroU8::MIN);
    DialOpts::peer_id(peer_id)
        .condition(PeerCondition::Always)
        .addresses(addresses)
        .allocate_new_port()
        .override_dial_concurrency_factor(at_once)
        .build()
}

/// In one line, for people: the address, and what is wrong at the bottom of all layers.
pub(super) fn why_not_reached(error: &DialError) -> String {
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
