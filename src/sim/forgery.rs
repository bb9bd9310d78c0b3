//! Chains of epochs that no quorum ever decided, as anybody can make them who knows the cluster id.

use ed25519_dalek::SigningKey;

use super::group::Group;
use crate::types::{
    Certificate, Configuration, Digest, Entry, EntryBody, EpochEnd, EpochLink, Hlc, MemberId, Round, Seal, SealBytes,
    Slot, Tip, View, chain_digest,
};

/// A key that the group does not know.
pub(super) fn stranger(number: usize) -> SigningKey {
    Group::key(200 + number)
}

/// An end of the epoch of `before` that hands all votes to strangers; signed by these strangers, or by nobody, under the
/// names of a quorum of the voters.
pub(super) fn forged_chain(before: &Configuration, strangers: &[SigningKey], signed: bool) -> EpochLink {
    let id = |key: &SigningKey| MemberId(key.verifying_key().to_bytes());
    let next = Configuration {
        epoch: before.epoch.next(),
        voters: strangers.iter().map(id).collect(),
        voters_target: strangers.len() as u32,
        ..before.clone()
    };
    let digest = next.digest();
    let entry = Entry { hlc: Hlc(1 << 62), body: EntryBody::EpochEnd(EpochEnd { next }) }.encode();
    let (parent, slot) = (Digest::of("forgery", b"nothing"), Slot(1 << 20));
    let round = Round { epoch: before.epoch, view: View(0) };
    let tip = Tip { round, slot, digest: chain_digest(&before.cluster, &parent, slot, &entry) };
    let mut votes: Vec<(MemberId, SealBytes)> = if signed {
        strangers.iter().map(|key| (id(key), Seal::sign(key, before, &tip, digest).signature)).collect()
    } else {
        before.voters.iter().take(before.quorum()).map(|voter| (*voter, SealBytes([7; 64]))).collect()
    };
    votes.sort_unstable();
    EpochLink { parent, entry, certificate: Certificate { tip, votes } }
}
