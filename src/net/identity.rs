//! Members and their libp2p names. A member is its ed25519 public key; its PeerId is that key, spelled out (keys of up
//! to 42 bytes are not hashed).

use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey, ed25519};

use crate::types::MemberId;

/// The member that holds this key pair; none if it is not an ed25519 one.
pub fn member_of(keypair: &Keypair) -> Option<MemberId> {
    member_of_key(keypair.public())
}

/// The member of that PeerId; none if it is a digest, or another kind of key.
pub fn member_of_peer(peer: &PeerId) -> Option<MemberId> {
    const IDENTITY: u64 = 0;
    let multihash: &libp2p::multihash::Multihash<64> = peer.as_ref();
    if multihash.code() != IDENTITY {
        return None;
    }
    member_of_key(PublicKey::try_decode_protobuf(multihash.digest()).ok()?)
}

/// The PeerId of a member; none if its 32 bytes are no point of the curve.
pub fn peer_of(member: &MemberId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(&member.0).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// An address of a member as one where nobody else is to be dialled: it takes no other key's answer. None if the id's 32
/// bytes are no point of the curve.
pub fn door_of(member: &MemberId, address: &str) -> Option<String> {
    Some(format!("{address}/p2p/{}", peer_of(member)?))
}

fn member_of_key(key: PublicKey) -> Option<MemberId> {
    Some(MemberId(key.try_into_ed25519().ok()?.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_peers_name_each_other() {
        let keypair = Keypair::generate_ed25519();
        let member = member_of(&keypair).unwrap();
        let peer = keypair.public().to_peer_id();
        assert_eq!(peer_of(&member), Some(peer));
        assert_eq!(member_of_peer(&peer), Some(member));
    }

    #[test]
    fn what_is_no_ed25519_key_is_nobody() {
        assert_eq!(member_of_peer(&PeerId::random()), None);
        assert!((0..=255u8).any(|byte| peer_of(&MemberId([byte; 32])).is_none()));
    }
}
