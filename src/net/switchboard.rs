//! The one task that owns the swarm: dials members, gives every connection its task, and decides which connection of a
//! pair is the link. Everybody else sends it events and commands.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, Swarm, SwarmEvent};
use libp2p::{PeerId, ping};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use super::attempt::{Attempt, Verdict};
use super::dial::Dialling;
use super::identity::member_of_peer;
use super::link::{Intake, Link};
use super::pair::End;
use super::peer::Peer;
use super::streams::{StreamEvent, StreamOutcome};
use super::transport::{Behaviour, BehaviourEvent};
use super::{Command, Shared};
use crate::driver::Input;
use crate::types::peer::{Hello, Refusal};
use crate::types::{MemberId, limits};

/// Silence is looked for this often.
const ROUND: Duration = Duration::from_millis(500);

/// What connections' tasks tell.
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
    connections: HashMap<ConnectionId, Connection>,
    dialling: BTreeMap<MemberId, Dialling>,
    /// The last refusal of each peer that was logged: ours, and theirs.
    logged: HashMap<MemberId, (Option<Refusal>, Option<Refusal>)>,
    next_round: Instant,
    stop: Option<(oneshot::Sender<()>, Instant)>,
}

/// A connection whose task runs.
struct Connection {
    member: MemberId,
    dialled: bool,
    /// Until it closes.
    streams: Option<mpsc::Sender<StreamOutcome>>,
    task: AbortHandle,
    offer: Option<(Arc<Link>, oneshot::Sender<Verdict>)>,
    link: Option<Arc<Link>>,
    /// When it was established, or its last ping was answered.
    heard: Instant,
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
            connections: HashMap::new(),
            dialling: shared.peers.keys().map(|member| (*member, Dialling::new(now))).collect(),
            logged: HashMap::new(),
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
        for connection in self.connections.values() {
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
            Some(Command::Refuse { peer, refusal }) => self.refuse_link(peer, refusal),
            Some(Command::Dial { peer }) => {
                if let Some(dialling) = self.dialling.get_mut(&peer) {
                    dialling.due = Instant::now();
                }
            }
            Some(Command::Stop { reply }) => self.begin_to_stop(reply),
        }
        ControlFlow::Continue(())
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Claimed { link, reply } => {
                let member = link.peer.member;
                // A connection that closed meanwhile has no claim; its task hears it from the dropped reply.
                if let Some(connection) = self.connections.get_mut(&link.connection) {
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
                let connection = self.connections.get(&connection);
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
            self.dial_ended(id);
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
        if let Some(connection) = self.connections.get_mut(&id) {
            (connection.streams, connection.offer) = (None, None);
            if let Some(link) = &connection.link {
                link.take_down();
                link.give_up(reason);
            }
        }
    }

    /// Judges what is offered by the connections to a member.
    fn decide(&mut self, member: MemberId) {
        while let Some(id) = self.next_offer(member) {
            let connection = self.connections.get_mut(&id).expect("offered a moment ago");
            let (link, reply) = connection.offer.take().expect("offered a moment ago");
            let verdict = match link.peer.link() {
                None => self.being_refused(&link).map_or(Verdict::Take, Verdict::Refuse),
                Some(current) => self.compare(&current, &link),
            };
            if matches!(verdict, Verdict::Take) {
                self.take(id, &link);
            }
            // A task that gave up waiting reports its end.
            let _ = reply.send(verdict);
        }
    }

    /// The next connection to be judged. While one that we dialled is still on its way, one that they dialled waits:
    /// where both dialled, the connection dialled by the smaller id, which is the one that chooses, stays.
    fn next_offer(&self, member: MemberId) -> Option<ConnectionId> {
        let ours = || self.connections.iter().filter(|(_, connection)| connection.member == member);
        let offered = || ours().filter(|(_, connection)| connection.offer.is_some());
        let chooses = self.shared.member < member;
        let coming = ours().any(|(_, connection)| connection.dialled && connection.is_coming());
        if let Some((id, _)) = offered().find(|(_, connection)| connection.dialled) {
            return Some(*id);
        }
        offered().next().filter(|_| !(chooses && coming)).map(|(id, _)| *id)
    }

    /// What the same process is being told on another connection.
    fn being_refused(&self, offered: &Link) -> Option<Refusal> {
        let others = self.connections.values().filter_map(|connection| connection.link.as_ref());
        let same = others.filter(|other| {
            other.peer.member == offered.peer.member
                && (other.hello.incarnation, other.hello.nonce) == (offered.hello.incarnation, offered.hello.nonce)
        });
        same.filter_map(|other| other.refusal()).next()
    }

    /// A member that has a link comes by another connection (rule I1).
    fn compare(&mut self, current: &Arc<Link>, offered: &Arc<Link>) -> Verdict {
        let (known, says) = (&current.hello, &offered.hello);
        let member = offered.peer.member;
        if says.nonce == known.nonce && says.incarnation == known.incarnation {
            // The same process. The smaller id has chosen already; the larger one learns of a new choice.
            return if self.shared.member < member { Verdict::Leave } else { Verdict::Take };
        }
        if says.incarnation == known.incarnation {
            let refusal = Refusal::TwoProcesses(member);
            current.take_down();
            current.refuse(refusal.clone());
            return Verdict::Refuse(refusal);
        }
        if says.incarnation < known.incarnation {
            return Verdict::Refuse(Refusal::StaleDisk {
                says: format!("incarnation {}", says.incarnation),
                said: format!("incarnation {}", known.incarnation),
            });
        }
        Verdict::Take
    }

    fn take(&mut self, id: ConnectionId, link: &Arc<Link>) {
        let others = self.connections.iter().filter(|(_, other)| other.member == link.peer.member);
        // One that is down already is saying its last words.
        let before: Vec<(ConnectionId, Arc<Link>)> = others
            .filter_map(|(id, other)| Some((*id, other.link.clone()?)))
            .filter(|(_, link)| link.is_up())
            .collect();
        before.iter().for_each(|(_, link)| link.take_down());
        let connection = self.connections.get_mut(&id).expect("its offer was taken a moment ago");
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
        if let Some(connection) = self.connections.get(&id) {
            connection.task.abort();
            self.end(id, end);
        }
    }

    fn end(&mut self, id: ConnectionId, end: End) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        self.swarm.close_connection(id);
        let since = connection.link.as_ref().and_then(|link| link.up_since());
        if let Some(link) = &connection.link {
            link.take_down();
            link.peer.clear_link(id);
        }
        self.report(&connection, &end);
        self.dial_again(connection.member, since, &end);
        self.decide(connection.member);
    }

    fn report(&mut self, connection: &Connection, end: &End) {
        let totals = &self.shared.totals;
        let refusals = match end {
            End::Malformed(text) => {
                totals.malformed.add(1);
                (Some(Refusal::Malformed(text.clone())), None)
            }
            End::Truncated => {
                totals.truncated.add(1);
                (None, None)
            }
            End::Refused { by_us, by_them } => (by_us.as_deref().cloned(), by_them.as_deref().cloned()),
            End::Lost(_) | End::Closed | End::Left | End::Finished => (None, None),
        };
        let label = self.label(connection.member);
        if connection.link.is_some() {
            info!(peer = label, reason = ?end, "link down");
            if refusals == (None, None) {
                // It was a good one: the next refusal is news.
                self.logged.remove(&connection.member);
            }
        } else {
            debug!(peer = label, reason = ?end, "no link");
        }
        let by_them = refusals.1.clone();
        self.count_and_log(connection.member, label, refusals);
        if let Some(reason) = by_them.filter(|_| self.shared.peers.contains_key(&connection.member)) {
            // A driver that has ended needs no news.
            let _ = self.intake.inbox.push(Input::Refused { peer: connection.member, reason }, None);
        }
    }

    fn count_and_log(&mut self, member: MemberId, label: String, refusals: (Option<Refusal>, Option<Refusal>)) {
        let (by_us, by_them) = refusals;
        if self.logged.len() >= limits::STRANGERS_REMEMBERED && !self.logged.contains_key(&member) {
            self.logged.clear();
        }
        if let Some((refusal, peer)) = by_them.as_ref().or(by_us.as_ref()).zip(self.shared.peers.get(&member)) {
            let who = if by_them.is_some() { "refuses us" } else { "refused" };
            peer.set_trouble(Some(format!("{who}: {refusal}")));
        }
        if let Some(refusal) = by_us {
            self.shared.totals.refused.count(&refusal);
            if self.logged.entry(member).or_default().0.replace(refusal.clone()).as_ref() != Some(&refusal) {
                warn!(peer = label, reason = %refusal, "refused a peer");
            }
        }
        if let Some(refusal) = by_them {
            self.shared.totals.refused_by_others.count(&refusal);
            if self.logged.entry(member).or_default().1.replace(refusal.clone()).as_ref() != Some(&refusal) {
                warn!(peer = label, says_of_us = %refusal, "a peer refuses us");
            }
        }
    }

    fn refuse_link(&mut self, peer: MemberId, refusal: Refusal) {
        let link = self.shared.peers.get(&peer).and_then(|peer| peer.link());
        // A link that the driver has not heard of is not the one it judged: perhaps the right process has come back.
        if let Some(link) = link.filter(|link| link.is_known()) {
            link.take_down();
            link.refuse(refusal);
        }
    }

    /// Dials every member that has neither a link nor a connection that may become one.
    fn dial(&mut self) {
        if self.stop.is_some() {
            return;
        }
        let now = Instant::now();
        for peer in self.shared.peers.values() {
            let dialling = self.dialling.get_mut(&peer.member).expect("every peer has one");
            let busy = dialling.running.is_some() || dialling.due > now;
            if busy || self.connections.values().any(|connection| connection.member == peer.member) {
                continue;
            }
            let addresses = peer.addresses();
            if addresses.is_empty() {
                dialling.failed(now);
                continue;
            }
            // From a port of its own: with the listening port two dials can meet in the middle as one.
            let dial = DialOpts::peer_id(peer.peer_id)
                .condition(PeerCondition::Always)
                .addresses(addresses)
                .allocate_new_port()
                .build();
            let id = dial.connection_id();
            match self.swarm.dial(dial) {
                Ok(()) => dialling.running = Some(id),
                Err(error) => {
                    debug!(peer = peer.label(), %error, "not dialled");
                    dialling.failed(now);
                }
            }
        }
    }

    fn dial_again(&mut self, member: MemberId, since: Option<Instant>, end: &End) {
        let now = Instant::now();
        let Some(dialling) = self.dialling.get_mut(&member) else {
            return;
        };
        match (end, since) {
            (End::Refused { .. } | End::Malformed(_), _) => dialling.refused(now),
            (_, Some(since)) => dialling.lost(since, now),
            (_, None) => dialling.failed(now),
        }
    }

    fn not_reached(&mut self, id: ConnectionId, error: &DialError) {
        let Some(member) = self.dial_ended(id) else {
            return;
        };
        let trouble = match error {
            DialError::WrongPeerId { obtained, address } => {
                let found = member_of_peer(obtained).map_or_else(|| obtained.to_string(), |found| found.to_string());
                format!("at {address} answers {found}, another key")
            }
            error => error.to_string(),
        };
        let dialling = self.dialling.get_mut(&member).expect("every peer has one");
        let peer = &self.shared.peers[&member];
        if dialling.is_fresh() {
            info!(peer = peer.label(), trouble, "not reached");
        } else {
            debug!(peer = peer.label(), trouble, "not reached");
        }
        peer.set_trouble(Some(trouble));
        dialling.failed(Instant::now());
    }

    fn dial_ended(&mut self, id: ConnectionId) -> Option<MemberId> {
        let (member, dialling) = self.dialling.iter_mut().find(|(_, dialling)| dialling.running == Some(id))?;
        dialling.running = None;
        Some(*member)
    }

    fn pinged(&mut self, ping: ping::Event) {
        let Ok(round_trip) = ping.result else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(&ping.connection) {
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
        let mut silent = Vec::new();
        for (id, connection) in &mut self.connections {
            if paused {
                connection.heard = now;
            } else if connection.link.is_some() && now > connection.heard + limits::LINK_SILENCE_MAX {
                silent.push(*id);
            }
        }
        for id in silent {
            self.cut(id, End::Lost(format!("no answer for {:?}", limits::LINK_SILENCE_MAX)));
        }
    }

    fn deadline(&self) -> Instant {
        let due = self.dialling.iter().filter(|(member, dialling)| {
            dialling.running.is_none() && !self.connections.values().any(|other| other.member == **member)
        });
        let due = due.map(|(_, dialling)| dialling.due).min().filter(|_| self.stop.is_none());
        due.into_iter().fold(self.next_round, Instant::min)
    }

    fn begin_to_stop(&mut self, reply: oneshot::Sender<()>) {
        self.stop = Some((reply, Instant::now() + 2 * limits::FAREWELL_TIMEOUT));
        let unused = self.connections.iter().filter(|(_, connection)| connection.link.is_none());
        let unused: Vec<ConnectionId> = unused.map(|(id, _)| *id).collect();
        unused.into_iter().for_each(|id| self.cut(id, End::Finished));
        self.connections.values().filter_map(|connection| connection.link.as_ref()).for_each(|link| link.finish());
    }

    /// Whether everything queued is written and every connection closed, or it took too long.
    fn stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|(_, deadline)| {
            let closed = self.connections.is_empty() && self.swarm.connected_peers().next().is_none();
            closed || Instant::now() > *deadline
        })
    }

    fn label(&self, member: MemberId) -> String {
        self.shared
            .peers
            .get(&member)
            .map_or_else(|| format!("stranger {}", member.short()), |peer: &Arc<Peer>| peer.label())
    }
}

impl Connection {
    /// Whether it may still be offered.
    fn is_coming(&self) -> bool {
        self.link.is_none() && self.offer.is_none() && !self.task.is_finished()
    }
}
