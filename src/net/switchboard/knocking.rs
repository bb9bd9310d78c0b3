//! At the door: who knocks at ours, and our knocks at others'.

use libp2p::swarm::ConnectionId;
use libp2p::{PeerId, Stream};
use std::time::Instant;
use tracing::debug;

use super::Switchboard;
use super::dialling::dial_in_turn;
use crate::net::door::Exchange;
use crate::net::identity::peer_of;
use crate::types::{DoorMessage, MemberId};

impl Switchboard {
    pub(super) fn hear_knock(&mut self, id: ConnectionId, member: MemberId, stream: Stream) {
        let (stranger, now) = (!self.shared.known.contains(&member), Instant::now());
        if self.stop.is_some() || !self.doorkeeper.admits(&member, stranger, now) {
            let cluster = self.shared.hello.borrow().cluster;
            tokio::spawn(Exchange::turn_away(stream, cluster));
            return;
        }
        self.forget_attempt(id);
        let task = tokio::spawn(self.exchange(id, member).hear(stream)).abort_handle();
        self.doorkeeper.hears(member, stranger, id, task);
    }

    /// The driver says something at a door: an answer, or a knock.
    pub(super) fn say_at_door(&mut self, to: MemberId, message: DoorMessage) {
        let Some(message) = self.doorkeeper.answer(&to, message) else { return };
        if matches!(message, DoorMessage::Refused(_)) {
            return; // nobody waits for it any more, and it is no knock
        }
        if self.stop.is_some() || self.doorkeeper.knocks_at(&to) {
            debug!(peer = self.shared.known.label(&to), "not said at its door: what was said last is not answered yet");
            return;
        }
        let Some(peer_id) = peer_of(&to) else { return };
        let linked = self.shared.known.peer(&to).and_then(|peer| peer.link());
        let mut addresses = self.dialler.addresses(&to);
        if addresses.is_empty() {
            addresses = self.inquiry.finder.addresses(&to);
        }
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

    pub(super) fn knock_on(&mut self, id: ConnectionId, to: MemberId, peer_id: PeerId, message: DoorMessage) {
        self.swarm.behaviour_mut().streams.knock(peer_id, id);
        self.doorkeeper.knocks(to, id, message);
    }

    /// The stream for our knock has opened, or has not.
    pub(super) fn say_knock(&mut self, id: ConnectionId, stream: Result<Stream, String>) {
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

    pub(super) fn exchange(&self, connection: ConnectionId, member: MemberId) -> Exchange {
        let (shared, intake, events) = (self.shared.clone(), self.intake.clone(), self.events.0.clone());
        Exchange { connection, member, shared, intake, events }
    }
}
