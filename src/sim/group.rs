//! Who is in the simulated group: machines, each with a key of its own. The first ones found the group, the others may
//! join it. People read machine 0 as member 1.

use ed25519_dalek::SigningKey;

use crate::types::configuration::Genesis;
use crate::types::limits::RULES_VERSION;
use crate::types::{ClusterId, ClusterLimits, Contact, FaultModelKind, GenesisMember, MemberId};

/// Everybody who is, or may become, a member.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its first word.
    pub genesis: Genesis,
    /// Its id.
    pub cluster: ClusterId,
    ids: Vec<MemberId>,
}

impl Group {
    /// A group of so many founders, all voters, and so many machines in all; the same at every call.
    pub fn new(founders: usize, machines: usize, limits: ClusterLimits) -> Group {
        let ids: Vec<MemberId> =
            (0..machines).map(|index| MemberId(Group::key(index).verifying_key().to_bytes())).collect();
        let members = (0..founders).map(|index| GenesisMember {
            name: Group::name(index),
            id: ids[index],
            addresses: vec![Group::address(index, 0)],
        });
        let genesis = Genesis {
            name: "simulation".to_owned(),
            nonce: [0; 16],
            model: FaultModelKind::Crash,
            rules_version: RULES_VERSION,
            members: members.collect(),
            limits,
            voters_target: founders as u32,
        };
        genesis.check().expect("the simulated group keeps the rules for a genesis");
        Group { cluster: genesis.cluster(), genesis, ids }
    }

    /// A machine's key.
    pub fn key(index: usize) -> SigningKey {
        SigningKey::from_bytes(&[index as u8 + 1; 32])
    }

    /// A machine's name for people.
    pub fn name(index: usize) -> String {
        format!("member-{}", index + 1)
    }

    /// Where a machine's mesh listens after so many moves.
    pub fn address(index: usize, moves: u64) -> String {
        format!("/ip4/10.0.{}.{}/tcp/7271", moves, index + 1)
    }

    /// What members say at their doors of a machine that moved so often.
    pub fn contact(&self, index: usize, moves: u64) -> Contact {
        Contact { id: self.ids[index], name: Group::name(index), addresses: vec![Group::address(index, moves)] }
    }

    /// Number of founders.
    pub fn founders(&self) -> usize {
        self.genesis.members.len()
    }

    /// Number of machines.
    pub fn size(&self) -> usize {
        self.ids.len()
    }

    /// A machine's id.
    pub fn id(&self, index: usize) -> MemberId {
        self.ids[index]
    }

    /// The machine with this id, if there is one.
    pub fn index(&self, id: &MemberId) -> Option<usize> {
        self.ids.iter().position(|known| known == id)
    }

    /// An id as people read it.
    pub fn tell(&self, id: &MemberId) -> String {
        self.index(id).map_or_else(|| id.short(), |index| (index + 1).to_string())
    }
}
