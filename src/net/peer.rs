//! The other members, as the mesh knows them: one [`Peer`] each for as long as it is on the roster, and in it the link, if
//! any.

use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

use super::figures::{Counters, PeerFigures};
use super::link::Link;
use crate::types::MemberId;

/// One other member.
pub(super) struct Peer {
    pub member: MemberId,
    pub peer_id: PeerId,
    pub counters: Counters,
    name: RwLock<String>,
    link: RwLock<Option<Arc<Link>>>,
    /// What was last in the way of a link.
    trouble: Mutex<Option<String>>,
}

impl Peer {
    pub fn new(member: MemberId, name: String, peer_id: PeerId) -> Peer {
        let (counters, link, trouble) = (Counters::default(), RwLock::new(None), Mutex::new(None));
        Peer { member, peer_id, counters, name: RwLock::new(name), link, trouble }
    }

    /// For logs: name and the beginning of the key.
    pub fn label(&self) -> String {
        format!("{} ({})", self.name(), self.member.short())
    }

    /// Its name for people; empty if it is not known.
    pub fn name(&self) -> String {
        self.name.read().expect("nobody panics with the name in hand").clone()
    }

    pub fn set_name(&self, name: &str) {
        name.clone_into(&mut self.name.write().expect("nobody panics with the name in hand"));
    }

    /// The link, if it is up.
    pub fn link(&self) -> Option<Arc<Link>> {
        let link = self.link.read().expect("nobody panics with the link in hand");
        link.as_ref().filter(|link| link.is_up()).cloned()
    }

    pub fn set_link(&self, link: Arc<Link>) {
        *self.link.write().expect("nobody panics with the link in hand") = Some(link);
    }

    /// Forgets the link, and what is queued on it, if it is the one on this connection.
    pub fn clear_link(&self, connection: ConnectionId) {
        let mut link = self.link.write().expect("nobody panics with the link in hand");
        link.take_if(|link| link.connection == connection);
    }

    pub fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().expect("nobody panics with trouble in hand") = trouble;
    }

    /// Queues a message, if there is a link and room.
    pub fn send(&self, bulk: bool, message: Bytes) {
        if let Some(link) = self.link()
            && !link.send(bulk, message)
        {
            self.counters.dropped.add(1);
        }
    }

    pub fn figures(&self) -> PeerFigures {
        let link = self.link();
        let (urgent_queue_bytes, bulk_queue_bytes) = link.as_ref().map_or((0, 0), |link| link.queue_bytes());
        let counters = &self.counters;
        PeerFigures {
            peer: self.member,
            name: self.name(),
            linked: link.is_some(),
            transport: link.as_ref().map(|link| link.transport),
            trouble: self.trouble.lock().expect("nobody panics with trouble in hand").clone(),
            round_trip: Some(counters.round_trip_micros.value())
                .filter(|&micros| micros > 0)
                .map(Duration::from_micros),
            links: counters.links.value(),
            frames_in: counters.frames_in.value(),
            frames_out: counters.frames_out.value(),
            bytes_in: counters.bytes_in.value(),
            bytes_out: counters.bytes_out.value(),
            dropped: counters.dropped.value(),
            urgent_queue_bytes,
            bulk_queue_bytes,
        }
    }
}
