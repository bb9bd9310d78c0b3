//! Who is in the simulated group.

use ed25519_dalek::SigningKey;

use crate::types::configuration::Genesis;
use crate::types::limits::RULES_VERSION;
use crate::types::{ClusterId, ClusterLimits, Digest, FaultModelKind, GenesisMember, MemberId};

/// The members by index; people read index 0 as member 1.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its first word.
    pub genesis: Genesis,
    /// Its id.
    pub cluster: ClusterId,
    /// Digest of its one configuration.
    pub configuration: Digest,
}

impl Group {
    /// A group of so many members, the same at every call.
    pub fn new(members: usize, limits: ClusterLimits) -> Group {
        let count = members;
        let members = (0..count).map(|index| GenesisMember {
            name: format!("member-{}", index + 1),
            id: MemberId(Group::key(index).verifying_key().to_bytes()),
            addresses: Vec::new(),
        });
        let genesis = Genesis {
            name: "simulation".to_owned(),
            nonce: [0; 16],
            model: FaultModelKind::Crash,
            rules_version: RULES_VERSION,
            members: members.collect(),
            limits,
            voters_target: count as u32,
        };
        genesis.check().expect("the simulated group keeps the rules for a genesis");
        let configuration = genesis.configuration();
        Group { cluster: genesis.cluster(), configuration: configuration.digest(), genesis }
    }

    /// A member's key.
    pub fn key(index: usize) -> SigningKey {
        SigningKey::from_bytes(&[index as u8 + 1; 32])
    }

    /// Number of members, all voters.
    pub fn size(&self) -> usize {
        self.genesis.members.len()
    }

    /// Voters that make a quorum in the crash model.
    pub fn quorum(&self) -> usize {
        self.size() / 2 + 1
    }

    /// A member's id.
    pub fn id(&self, index: usize) -> MemberId {
        self.genesis.members[index].id
    }

    /// A member's index, if it is one.
    pub fn index(&self, id: &MemberId) -> Option<usize> {
        self.genesis.members.iter().position(|member| member.id == *id)
    }
}
