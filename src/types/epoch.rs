//! The end of an epoch and its proof: votes on it are signed, and q of them are the certificate of the next epoch. The
//! certificates chain from the cluster id, so that anybody can check them who knows nothing else (rule E3).
//!
//! ```text
//! epoch end   = [ next: configuration ]
//! seal        = [ next: digest, signature: bytes .size 64 ]
//! certificate = [ tip, [ * [ voter: id, signature: bytes .size 64 ] ] ]
//! epoch link  = CBOR [ parent: digest, entry: bytes, certificate ]
//!
//! signed      = digest, under the domain `epoch end`, of CBOR
//!               [ cluster id, configuration: digest, tip, next: digest ]
//!
//! genesis ──▶ link 0 ──▶ link 1 ──▶ …      link e proves epoch e + 1: its entry ends epoch e, and a quorum of the
//!                                          voters of epoch e signed it
//! ```

use bytes::Bytes;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use minicbor::{Decode, Encode};

use super::configuration::{Configuration, Genesis};
use super::entry::{Entry, EntryBody, chain_digest};
use super::ids::{Digest, Epoch, MemberId};
use super::message::bytes_field;
use super::statement::Tip;

/// What an entry of this kind decides: the configuration of the next epoch.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct EpochEnd {
    /// From the next slot on.
    #[n(0)]
    pub next: Configuration,
}

/// An ed25519 signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct SealBytes(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 64]);

/// What makes a vote on an epoch's end provable to those who were not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Seal {
    /// Digest of the next configuration.
    #[n(0)]
    pub next: Digest,
    /// The voter's signature.
    #[n(1)]
    pub signature: SealBytes,
}

impl Seal {
    /// Signs a vote on the end of the epoch of `configuration`.
    pub fn sign(key: &SigningKey, configuration: &Configuration, tip: &Tip, next: Digest) -> Seal {
        let signature = key.sign(&signed(configuration, tip, next).0);
        Seal { next, signature: SealBytes(signature.to_bytes()) }
    }

    /// Whether `voter` signed this vote. Weak keys and malleable signatures are refused.
    pub fn verify(&self, voter: &MemberId, configuration: &Configuration, tip: &Tip) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&voter.0) else { return false };
        let signature = Signature::from_bytes(&self.signature.0);
        key.verify_strict(&signed(configuration, tip, self.next).0, &signature).is_ok()
    }
}

fn signed(configuration: &Configuration, tip: &Tip, next: Digest) -> Digest {
    #[derive(Encode)]
    #[cbor(array)]
    struct Signed<'a> {
        #[n(0)]
        cluster: Digest,
        #[n(1)]
        configuration: Digest,
        #[n(2)]
        tip: &'a Tip,
        #[n(3)]
        next: Digest,
    }
    let signed = Signed { cluster: configuration.cluster, configuration: configuration.digest(), tip, next };
    Digest::of("epoch end", &minicbor::to_vec(signed).expect("memory is writable"))
}

/// Equal signed votes of a quorum on an epoch's end.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Certificate {
    /// Round, slot and chain that they voted for.
    #[n(0)]
    pub tip: Tip,
    /// The voters, in the order of their ids, with their signatures.
    #[n(1)]
    pub votes: Vec<(MemberId, SealBytes)>,
}

/// One link of the chain of epochs: the end of one, which is the proof of the next.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct EpochLink {
    /// The chain that the entry extends.
    #[n(0)]
    pub parent: Digest,
    /// The entry's canonical bytes.
    #[cbor(n(1), with = "bytes_field")]
    pub entry: Bytes,
    /// Who signed it.
    #[n(2)]
    pub certificate: Certificate,
}

/// Why a link does not prove an epoch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLink {
    /// Its entry does not end an epoch.
    #[error("the entry that should end epoch {0} does not: {1}")]
    NotAnEnd(Epoch, String),
    /// The next configuration is not the next one of this group.
    #[error("what follows epoch {0} is not epoch {next} of this group", next = .0.next())]
    NotNext(Epoch),
    /// The certificate is about something else.
    #[error("the certificate of the end of epoch {0} is about another entry")]
    OtherEntry(Epoch),
    /// A signer is no voter, signed twice, or did not sign.
    #[error("the end of epoch {0} has a signature of {id} that does not count: {1}", id = .2.short())]
    BadVote(Epoch, &'static str, MemberId),
    /// Too few signatures.
    #[error("the end of epoch {0} has {1} signatures, a quorum is {2}")]
    NoQuorum(Epoch, usize, usize),
}

impl EpochLink {
    /// The configuration that this link proves, checked against the one before it.
    pub fn verify(&self, before: &Configuration) -> Result<Configuration, BadLink> {
        let next = self.next(before.epoch)?;
        if next.cluster != before.cluster || next.epoch != before.epoch.next() || next.model != before.model {
            return Err(BadLink::NotNext(before.epoch));
        }
        let tip = self.certificate.tip;
        if tip.round.epoch != before.epoch
            || chain_digest(&before.cluster, &self.parent, tip.slot, &self.entry) != tip.digest
        {
            return Err(BadLink::OtherEntry(before.epoch));
        }
        let digest = next.digest();
        let mut last: Option<MemberId> = None;
        for (voter, signature) in &self.certificate.votes {
            let bad = |why| Err(BadLink::BadVote(before.epoch, why, *voter));
            if last.is_some_and(|last| last >= *voter) {
                return bad("the voters are not in order");
            }
            last = Some(*voter);
            if !before.voters.contains(voter) {
                return bad("it is no voter of that epoch");
            }
            if !(Seal { next: digest, signature: *signature }).verify(voter, before, &tip) {
                return bad("it is not valid");
            }
        }
        let quorum = before.quorum();
        if self.certificate.votes.len() < quorum {
            return Err(BadLink::NoQuorum(before.epoch, self.certificate.votes.len(), quorum));
        }
        Ok(next)
    }

    /// The configuration it names, unchecked.
    pub fn next(&self, ends: Epoch) -> Result<Configuration, BadLink> {
        let entry = Entry::admit(&self.entry).map_err(|error| BadLink::NotAnEnd(ends, error.to_string()))?;
        match entry.body {
            EntryBody::EpochEnd(end) => Ok(end.next),
            EntryBody::Batches(_) => Err(BadLink::NotAnEnd(ends, "it orders batches".to_owned())),
        }
    }
}

/// Checks a whole chain from the genesis on; the configurations of all its epochs.
pub fn verify_chain(genesis: &Genesis, links: &[EpochLink]) -> Result<Vec<Configuration>, BadLink> {
    let mut configurations = vec![genesis.configuration()];
    for link in links {
        let next = link.verify(configurations.last().expect("there is the first"))?;
        configurations.push(next);
    }
    Ok(configurations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::configuration::{ClusterLimits, FaultModelKind, GenesisMember};
    use crate::types::statement::Round;
    use crate::types::{Hlc, Slot, View};

    fn key(number: u8) -> SigningKey {
        SigningKey::from_bytes(&[number; 32])
    }

    fn id(number: u8) -> MemberId {
        MemberId(key(number).verifying_key().to_bytes())
    }

    fn genesis() -> Genesis {
        let member = |number| GenesisMember { name: format!("n{number}"), id: id(number), addresses: Vec::new() };
        Genesis {
            name: "test".to_owned(),
            nonce: [7; 16],
            model: FaultModelKind::Crash,
            rules_version: 0,
            members: (1..=3).map(member).collect(),
            limits: ClusterLimits::default(),
            voters_target: 3,
        }
    }

    /// The end of `before`, signed by these.
    fn link(before: &Configuration, voters: Vec<MemberId>, signers: &[u8]) -> EpochLink {
        let next = Configuration { epoch: before.epoch.next(), voters, ..before.clone() };
        let digest = next.digest();
        let entry = Entry { hlc: Hlc(5), body: EntryBody::EpochEnd(EpochEnd { next }) }.encode();
        let (parent, slot) = (Digest([9; 32]), Slot(4));
        let round = Round { epoch: before.epoch, view: View(2) };
        let tip = Tip { round, slot, digest: chain_digest(&before.cluster, &parent, slot, &entry) };
        let mut votes: Vec<_> = signers
            .iter()
            .map(|number| (id(*number), Seal::sign(&key(*number), before, &tip, digest).signature))
            .collect();
        votes.sort_unstable();
        EpochLink { parent, entry, certificate: Certificate { tip, votes } }
    }

    #[test]
    fn a_chain_of_epochs_is_checked_from_the_cluster_id() {
        let genesis = genesis();
        let first = genesis.configuration();
        let one = link(&first, vec![id(1), id(2), id(4)], &[1, 3]);
        let second = one.verify(&first).unwrap();
        let two = link(&second, vec![id(1), id(5), id(4)], &[2, 4]);
        let chain = verify_chain(&genesis, &[one.clone(), two.clone()]).unwrap();
        assert_eq!(chain.len(), 3);
        assert!(verify_chain(&genesis, &[two]).is_err(), "a link cannot be left out");
        let other = Genesis { nonce: [8; 16], ..genesis };
        assert!(verify_chain(&other, &[one]).is_err(), "another group's chain");
    }

    #[test]
    fn a_forged_link_is_refused() {
        let first = genesis().configuration();
        let voters = vec![id(1), id(2), id(4)];
        let good = link(&first, voters.clone(), &[1, 2]);
        assert!(good.verify(&first).is_ok());
        assert_eq!(link(&first, voters.clone(), &[1]).verify(&first), Err(BadLink::NoQuorum(Epoch(0), 1, 2)));
        assert!(
            matches!(link(&first, voters.clone(), &[1, 4]).verify(&first), Err(BadLink::BadVote(..))),
            "a stranger"
        );
        let mut twice = good.clone();
        twice.certificate.votes[1] = twice.certificate.votes[0];
        assert!(matches!(twice.verify(&first), Err(BadLink::BadVote(..))));
        let mut changed = good.clone();
        changed.entry = link(&first, vec![id(1), id(2), id(5)], &[1, 2]).entry;
        assert_eq!(changed.verify(&first), Err(BadLink::OtherEntry(Epoch(0))));
        let mut other_view = good.clone();
        other_view.certificate.tip.round.view = View(3);
        assert!(matches!(other_view.verify(&first), Err(BadLink::BadVote(..))), "a certificate is of one view");
        let mut flipped = good;
        flipped.certificate.votes[0].1.0[3] ^= 1;
        assert!(matches!(flipped.verify(&first), Err(BadLink::BadVote(..))));
        let skipping = Configuration { epoch: Epoch(1), ..first.clone() };
        assert_eq!(link(&skipping, voters, &[1, 2]).verify(&first), Err(BadLink::NotNext(Epoch(0))));
    }
}
