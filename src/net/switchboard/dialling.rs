//! Dials for links, and why one reaches nobody.

use std::num::NonZeroU8;
use std::time::Instant;

use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};
use tracing::{debug, info};

use super::Switchboard;
use crate::net::dial::Failed;
use crate::net::identity::member_of_peer;
use crate::net::transport::Transport;

impl Switchboard {
    /// Dials whom the roster wants dialled and who has neither a link, unless it is one over QUIC, nor a connection that may
    /// become one.
    pub(super) fn dial(&mut self) {
        if self.stop.is_some() {
            return;
        }
        let now = Instant::now();
        for member in self.dialler.due(now, |member| self.connections.reach_well(member)) {
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

    pub(super) fn not_reached(&mut self, id: ConnectionId, error: &DialError) {
        if self.found_nobody(id, error) {
            return;
        }
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
        match self.dialler.failed(&member, trouble, is_refused(error), Instant::now()) {
            None | Some(Failed::GoesOn) => {}
            Some(Failed::Over { trouble, fresh }) => {
                if fresh {
                    info!(peer = peer.label(), trouble, "not reached");
                } else {
                    debug!(peer = peer.label(), trouble, "not reached");
                }
                peer.set_trouble(Some(trouble));
            }
            Some(Failed::StaysQuic { trouble, fresh }) => {
                if fresh {
                    info!(peer = peer.label(), trouble, "not reached over TCP, the link goes over QUIC");
                } else {
                    debug!(peer = peer.label(), trouble, "not reached over TCP");
                }
            }
        }
    }
}

/// From a port of its own: with the listening port two dials can meet in the middle as one.
fn dial(peer_id: PeerId, addresses: Vec<Multiaddr>) -> DialOpts {
    DialOpts::peer_id(peer_id).condition(PeerCondition::Always).addresses(addresses).allocate_new_port().build()
}

/// The same over both transports: QUIC where the first address of TCP has failed.
pub(in crate::net) fn dial_in_turn(peer_id: PeerId, mut addresses: Vec<Multiaddr>) -> DialOpts {
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
pub(in crate::net) fn why_not_reached(error: &DialError) -> String {
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

/// Whether the system at every address that was tried says that nobody listens.
fn is_refused(error: &DialError) -> bool {
    matches!(error, DialError::Transport(tried) if tried.iter().all(|(_, error)| refused(error)))
}

fn refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let Some(io) = error.downcast_ref::<std::io::Error>() else {
        return error.source().is_some_and(refused);
    };
    // What an error of input and output wraps is no source of it.
    io.kind() == std::io::ErrorKind::ConnectionRefused || io.get_ref().is_some_and(|wrapped| refused(wrapped))
}

fn cause(mut error: &dyn std::error::Error) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// An address as it was given: dials carry the key in it.
pub(in crate::net) fn without_peer(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}
