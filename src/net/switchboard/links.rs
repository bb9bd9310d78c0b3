//! Connections on their way to a link, links that come up and go down, and silence on them.

use std::sync::Arc;
use std::time::Instant;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, ping};
use tokio::sync::mpsc;
use tracing::{debug, info};

use super::{ROUND, Switchboard};
use crate::driver::Input;
use crate::net::attempt::{Attempt, Verdict};
use crate::net::choice::{Choice, Connection};
use crate::net::link::Link;
use crate::net::listen_address;
use crate::net::pair::End;
use crate::net::streams::StreamOutcome;
use crate::types::peer::Refusal;
use crate::types::{MemberId, StartNonce, limits};

impl Switchboard {
    /// A connection that may become a link gets its task.
    pub(super) fn attempt(&mut self, id: ConnectionId, member: MemberId, dialled: bool) {
        let Some(transport) = self.swarm.behaviour().streams.transport(id) else {
            // It has closed.
            return;
        };
        let (streams, receiver) = mpsc::channel(2);
        let attempt = Attempt {
            connection: id,
            transport,
            member,
            came_as_member: self.swarm.behaviour().streams.came_as_member(id),
            shared: self.shared.clone(),
            intake: self.intake.clone(),
            events: self.events.0.clone(),
        };
        let task = tokio::spawn(attempt.run(receiver)).abort_handle();
        let (streams, begun, since) = (Some(streams), false, Instant::now());
        let connection =
            Connection { member, dialled, streams, begun, task, offer: None, link: None, since, heard: since };
        self.connections.insert(id, connection);
    }

    /// One of the two streams of a link has opened, or has not.
    pub(super) fn hand_over(&mut self, id: ConnectionId, member: MemberId, outcome: StreamOutcome) {
        if self.connections.get(id).is_none() && self.is_used(id) {
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

    /// Whether a connection is needed for anything but a link.
    fn is_used(&self, id: ConnectionId) -> bool {
        self.doorkeeper.uses(id) || self.inquiry.keeper.uses(id)
    }

    /// Who dialled only to knock, or to ask, has no link on the way.
    pub(super) fn forget_attempt(&mut self, id: ConnectionId) {
        let only_that = self.connections.get(id).is_some_and(|connection| !connection.dialled && !connection.begun);
        if only_that && let Some(connection) = self.connections.remove(id) {
            connection.task.abort();
        }
    }

    /// Closes a connection that neither a link nor the door needs.
    pub(super) fn close_unused(&mut self, id: ConnectionId) {
        if self.connections.get(id).is_none() && !self.is_used(id) {
            self.swarm.close_connection(id);
        }
    }

    /// Its task ends by itself, and says how: perhaps it has read why the peer closed.
    pub(super) fn closed(&mut self, id: ConnectionId, reason: String) {
        if let Some(connection) = self.connections.get_mut(id) {
            (connection.streams, connection.offer) = (None, None);
            if let Some(link) = &connection.link {
                link.take_down();
                link.give_up(reason);
            }
        }
        self.doorkeeper.closed(id);
        self.inquiry.closed(id, "the connection closed");
        self.note_listeners();
    }

    /// Judges what is offered by the connections to a member.
    pub(super) fn decide(&mut self, member: MemberId) {
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
    pub(super) fn choose(&self, link: &Link) -> Choice {
        let member = &link.peer.member;
        match self.shared.known.peer(member) {
            None => Choice::Refuse(self.shared.known.refusal(member)),
            // It was gone for a moment: what was counted and linked then is no more.
            Some(peer) if !Arc::ptr_eq(&peer, &link.peer) => Choice::Leave,
            Some(_) => self.connections.judge(link, Instant::now()),
        }
    }

    pub(super) fn take(&mut self, id: ConnectionId, link: &Arc<Link>) {
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
        self.dialler.linked(&link.peer.member, link.transport, Instant::now());
        before.into_iter().for_each(|(id, _)| self.cut(id, End::Left));
    }

    /// Ends a connection from here, without a word.
    pub(super) fn cut(&mut self, id: ConnectionId, end: End) {
        if let Some(connection) = self.connections.get(id) {
            connection.task.abort();
            self.end(id, end);
        }
    }

    pub(super) fn end(&mut self, id: ConnectionId, end: End) {
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
        let is_replaced = linked && self.shared.known.peer(&member).is_some_and(|peer| peer.link().is_some());
        if !is_replaced {
            self.dialler.over(&member, since, &end, now);
        }
        self.tell_refusal(member, end);
        self.decide(member);
    }

    pub(super) fn log_end(&self, member: &MemberId, linked: bool, end: &End) {
        let peer = self.shared.known.label(member);
        if linked {
            info!(peer, reason = ?end, "link down");
        } else {
            debug!(peer, reason = ?end, "no link");
        }
    }

    /// The driver hears which members refuse us.
    pub(super) fn tell_refusal(&self, peer: MemberId, end: End) {
        if let End::Refused { by_them: Some(reason), .. } = end
            && self.shared.known.contains(&peer)
        {
            // A driver that has ended needs no news.
            let _ = self.intake.inbox.push(Input::Refused { peer, reason: *reason }, None);
        }
    }

    /// The driver refuses a process. Its verdict comes late: the link may be another process's by now.
    pub(super) fn refuse_process(&self, peer: MemberId, nonce: StartNonce, refusal: Refusal) {
        let link = self.shared.known.peer(&peer).and_then(|peer| peer.link());
        if let Some(link) = link.filter(|link| link.hello.nonce == nonce) {
            link.turn_away(refusal);
        }
    }

    pub(super) fn pinged(&mut self, ping: ping::Event) {
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

    /// An address of this machine is gone, and with it what came and went by it. Nobody else would tell.
    pub(super) fn address_gone(&mut self, address: &Multiaddr) {
        self.doubt_until = Some(Instant::now() + 2 * limits::LINK_SILENCE_MAX);
        let Some((_, socket)) = listen_address(address) else { return };
        for id in self.swarm.behaviour().streams.with_own_address(socket.ip()) {
            self.cut(id, End::Lost(format!("the address {} is gone from this machine", socket.ip())));
        }
    }

    /// Closes links whose pings are not answered: a frozen peer, a cut cable.
    pub(super) fn round(&mut self, now: Instant) {
        if now < self.next_round {
            return;
        }
        // Was it we who were frozen? Then nobody had a chance to answer yet.
        let paused = now > self.next_round + 2 * ROUND;
        self.next_round = now + ROUND;
        self.publish_discovery();
        if paused {
            self.connections.forgive(now);
        }
        self.doubt_until.take_if(|until| now > *until);
        for (silence_max, doubtful) in [(limits::LINK_SILENCE_MAX, false), (limits::LINK_DOUBT, true)] {
            for id in self.connections.silent(now, silence_max) {
                if !doubtful || self.doubt_until.is_some() && !self.has_address_of(id) {
                    self.cut(id, End::Lost(format!("no answer for {silence_max:?}")));
                }
            }
        }
        // What has a task ends with it.
        for id in self.swarm.behaviour().streams.strangers_older_than(limits::STRANGER_CONNECTION_MAX, now) {
            if self.connections.get(id).is_none() {
                self.swarm.close_connection(id);
            }
        }
    }

    /// Whether our own address on a connection is known, and still ours.
    fn has_address_of(&self, id: ConnectionId) -> bool {
        let Some(own) = self.swarm.behaviour().streams.own_address(id) else { return false };
        let listens = self.shared.listen.all();
        listens.iter().filter_map(listen_address).any(|(_, socket)| socket.ip() == own)
    }
}
