//! Whom the mesh knows just now. Only the switchboard changes it; the driver's thread looks up whom it sends to.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, RwLock, RwLockReadGuard};

use libp2p::{Multiaddr, PeerId};
use tracing::{debug, warn};

use super::figures::PeerFigures;
use super::identity::peer_of;
use super::peer::Peer;
use crate::types::peer::Refusal;
use crate::types::{MemberId, Roster, RosterMember, Standing, limits};

/// The roster in force.
#[derive(Default)]
pub(super) struct Known {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    peers: BTreeMap<MemberId, Arc<Peer>>,
    /// In the order of the roster.
    order: Vec<MemberId>,
    former: BTreeMap<MemberId, Standing>,
}

/// What a new roster asks of the switchboard.
pub(super) struct Change {
    /// Who is on the roster no longer.
    pub gone: Vec<Arc<Peer>>,
    /// Where everybody is found.
    pub targets: BTreeMap<MemberId, Target>,
    /// Everybody's libp2p name.
    pub peer_ids: HashSet<PeerId>,
}

/// Where a member is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// What of its addresses can be read.
    pub addresses: Vec<Multiaddr>,
    /// Whether it is to be dialled for a link.
    pub dial: bool,
}

impl Known {
    /// Whoever stays keeps its link and its counters.
    pub fn learn(&self, me: &MemberId, roster: &Roster) -> Change {
        let mut state = self.state.write().expect("nobody panics with the roster in hand");
        let mut before = std::mem::take(&mut state.peers);
        state.order.clear();
        let mut targets = BTreeMap::new();
        for member in roster.members.iter().filter(|member| member.id != *me) {
            let Some(peer_id) = peer_of(&member.id) else {
                // The order admits such a key, and nobody can ever show it.
                warn!(member = %member.id.short(), "a member's id is no ed25519 public key; it cannot be linked");
                continue;
            };
            let new = || Arc::new(Peer::new(member.id, member.name.clone(), peer_id));
            let peer = before.remove(&member.id).unwrap_or_else(new);
            peer.set_name(&member.name);
            if state.peers.insert(member.id, peer).is_none() {
                state.order.push(member.id);
            }
            targets.insert(member.id, Target { addresses: addresses(member), dial: member.dial });
        }
        state.former = roster.former.iter().copied().collect();
        let peer_ids = state.peers.values().map(|peer| peer.peer_id).collect();
        Change { gone: before.into_values().collect(), targets, peer_ids }
    }

    /// A member; none if the roster does not name it.
    pub fn peer(&self, member: &MemberId) -> Option<Arc<Peer>> {
        self.state().peers.get(member).cloned()
    }

    pub fn contains(&self, member: &MemberId) -> bool {
        self.state().peers.contains_key(member)
    }

    /// Why a key that is not on the roster gets no link.
    pub fn refusal(&self, stranger: &MemberId) -> Refusal {
        match self.state().former.get(stranger) {
            Some(standing) => Refusal::Departed { id: *stranger, standing: *standing },
            None => Refusal::NotAMember(*stranger),
        }
    }

    /// For logs: a member's name, and the beginning of the key.
    pub fn label(&self, member: &MemberId) -> String {
        let state = self.state();
        match state.peers.get(member) {
            Some(peer) => peer.label(),
            None if state.former.contains_key(member) => format!("former member {}", member.short()),
            None => format!("stranger {}", member.short()),
        }
    }

    pub fn figures(&self) -> Vec<PeerFigures> {
        let state = self.state();
        state.order.iter().map(|member| state.peers[member].figures()).collect()
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("nobody panics with the roster in hand")
    }
}

/// The addresses that can be read; members write them, and nobody else has to be able to.
fn addresses(member: &RosterMember) -> Vec<Multiaddr> {
    let mut addresses = Vec::new();
    for text in member.addresses.iter().take(limits::ADDRESSES_MAX) {
        match text.parse::<Multiaddr>() {
            Ok(address) if !addresses.contains(&address) => addresses.push(address),
            Ok(_) => {}
            Err(error) => debug!(member = %member.id.short(), %error, "an address of a member cannot be read"),
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::super::identity::member_of;
    use super::*;

    fn member(id: MemberId, name: &str, addresses: &[&str]) -> RosterMember {
        RosterMember {
            id,
            name: name.to_owned(),
            addresses: addresses.iter().map(ToString::to_string).collect(),
            dial: name != "c",
        }
    }

    #[test]
    fn who_stays_is_the_same_peer_and_who_goes_is_told() {
        let [me, one, two] = std::array::from_fn(|_| member_of(&Keypair::generate_ed25519()).unwrap());
        let known = Known::default();
        let address = "/ip4/127.0.0.1/tcp/1";
        let members =
            vec![member(me, "a", &[]), member(one, "b", &[address, address, "nowhere"]), member(two, "c", &[])];
        let change = known.learn(&me, &Roster { members, ..Roster::default() });
        let target = Target { addresses: vec![address.parse().unwrap()], dial: true };
        assert_eq!(change.targets.get(&one), Some(&target), "what can be read, once");
        assert_eq!(change.targets.keys().collect::<HashSet<_>>(), HashSet::from([&one, &two]));
        assert_eq!((change.gone.len(), change.peer_ids.len()), (0, 2));
        let before = known.peer(&one).unwrap();
        let former = vec![(two, Standing::Removed)];
        let change = known.learn(&me, &Roster { members: vec![member(one, "B", &[])], former, head: None });
        assert_eq!(change.gone.iter().map(|peer| peer.member).collect::<Vec<_>>(), [two]);
        assert!(Arc::ptr_eq(&before, &known.peer(&one).unwrap()) && before.name() == "B");
        assert_eq!(known.refusal(&two), Refusal::Departed { id: two, standing: Standing::Removed });
        assert_eq!(known.refusal(&me), Refusal::NotAMember(me));
        assert!(known.label(&two).starts_with("former member") && known.label(&me).starts_with("stranger"));
    }

    #[test]
    fn an_id_that_is_no_key_is_passed_over() {
        let bad = (0..=255u8).map(|byte| MemberId([byte; 32])).find(|id| peer_of(id).is_none()).unwrap();
        let known = Known::default();
        let change =
            known.learn(&MemberId([0; 32]), &Roster { members: vec![member(bad, "a", &[])], ..Roster::default() });
        assert!(change.targets.is_empty() && !known.contains(&bad) && known.figures().is_empty());
    }
}
