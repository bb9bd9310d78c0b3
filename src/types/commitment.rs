//! What a candidate must not forget: the one small record it keeps until it has a genesis (rule G1).
//!
//! ```text
//! commitment record = record: CBOR │ digest of the record under the domain `commitment`: 32 bytes
//!   record     = [ version, cluster name: text, commitment ]
//!   commitment = [ 0: free, [ ] ], [ 1: proposed, [ genesis ] ], [ 2: promised, [ genesis ] ], [ 3: made, [ genesis ] ]
//! ```
//!
//! The record takes the place of the one before it as a whole, or not at all. The digest finds what a disk changed: a
//! promise read back wrong could be given twice.

use bytes::{Bytes, BytesMut};
use minicbor::{Decode, Decoder, Encode};

use super::candidacy::{Promise, check_genesis};
use super::command::check_name;
use super::configuration::Genesis;
use super::ids::Digest;
use super::limits;

/// What a candidate is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Commitment {
    /// Nothing: it may propose, or promise.
    #[n(0)]
    Free,
    /// Its own proposal, which is its own promise.
    #[n(1)]
    Proposed(#[n(0)] Genesis),
    /// Another's proposal.
    #[n(2)]
    Promised(#[n(0)] Genesis),
    /// The genesis of its group: every member has promised it.
    #[n(3)]
    Made(#[n(0)] Genesis),
}

impl Commitment {
    /// The genesis it is about.
    pub fn genesis(&self) -> Option<&Genesis> {
        match self {
            Commitment::Free => None,
            Commitment::Proposed(genesis) | Commitment::Promised(genesis) | Commitment::Made(genesis) => Some(genesis),
        }
    }

    /// Who proposed that genesis, and the id of the group that it makes.
    pub fn promise(&self) -> Option<Promise> {
        let genesis = self.genesis()?;
        Some(Promise { proposer: genesis.members.first()?.id, cluster: genesis.cluster() })
    }
}

/// A commitment as it stands on disk.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct CommitmentRecord {
    /// [`super::limits::PROTOCOL_VERSION`].
    #[n(0)]
    pub version: u32,
    /// The name of the group that is to be.
    #[n(1)]
    pub cluster: String,
    /// What the candidate is bound to.
    #[n(2)]
    pub commitment: Commitment,
}

/// Why bytes are no commitment record of this release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotACommitment {
    /// They are as another release wrote them.
    #[error("a record of protocol version {0}; this release knows {ours}", ours = limits::PROTOCOL_VERSION)]
    OtherVersion(u32),
    /// They are not as anybody wrote them.
    #[error("no record of a candidate: {0}")]
    Damaged(String),
}

const DIGEST_BYTES: usize = 32;

impl CommitmentRecord {
    /// Its bytes, with their digest.
    pub fn encode(&self) -> Bytes {
        let record = minicbor::to_vec(self).expect("memory is writable");
        let digest = Digest::of("commitment", &record);
        let mut bytes = BytesMut::from(&record[..]);
        bytes.extend_from_slice(&digest.0);
        bytes.freeze()
    }

    /// Admits bytes from a disk: as they were written, and within their bounds.
    pub fn admit(bytes: &[u8]) -> Result<CommitmentRecord, NotACommitment> {
        let refused = |text: &str| NotACommitment::Damaged(text.to_owned());
        let at = bytes.len().checked_sub(DIGEST_BYTES).ok_or_else(|| refused("it is too short"))?;
        let (record, digest) = bytes.split_at(at);
        if Digest::of("commitment", record).0 != digest {
            return Err(refused("its digest does not fit: the disk changed it"));
        }
        // Another version may say anything behind its number.
        if let Some(version) = version_of(record).filter(|version| *version != limits::PROTOCOL_VERSION) {
            return Err(NotACommitment::OtherVersion(version));
        }
        let read: CommitmentRecord = minicbor::decode(record).map_err(|error| refused(&error.to_string()))?;
        if read.encode() != bytes {
            return Err(refused("not the canonical encoding"));
        }
        check_name(&read.cluster).map_err(|error| NotACommitment::Damaged(error.0))?;
        read.commitment.genesis().map_or(Ok(()), check_genesis).map_err(NotACommitment::Damaged)?;
        Ok(read)
    }
}

fn version_of(record: &[u8]) -> Option<u32> {
    let mut decoder = Decoder::new(record);
    decoder.array().ok()?;
    decoder.u32().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_a_turned_bit_is_found() {
        let cluster = "shop".to_owned();
        let record = CommitmentRecord { version: limits::PROTOCOL_VERSION, cluster, commitment: Commitment::Free };
        let bytes = record.encode();
        assert_eq!(CommitmentRecord::admit(&bytes), Ok(record));
        for bit in 0..bytes.len() * 8 {
            let mut turned = bytes.to_vec();
            turned[bit / 8] ^= 1 << (bit % 8);
            assert!(CommitmentRecord::admit(&turned).is_err(), "bit {bit}");
        }
        assert!(CommitmentRecord::admit(&bytes[..20]).is_err());
    }

    #[test]
    fn what_another_release_wrote_is_told_from_damage() {
        let record = minicbor::to_vec((limits::PROTOCOL_VERSION + 1, "something else")).unwrap();
        let bytes = [&record[..], &Digest::of("commitment", &record).0].concat();
        let other = NotACommitment::OtherVersion(limits::PROTOCOL_VERSION + 1);
        assert_eq!(CommitmentRecord::admit(&bytes), Err(other));
        let cut = [&record[..2], &Digest::of("commitment", &record).0].concat();
        assert!(matches!(CommitmentRecord::admit(&cut), Err(NotACommitment::Damaged(_))), "its digest does not fit");
    }
}
