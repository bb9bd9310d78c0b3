//! Entries: what a slot decides, and the chain they form.
//!
//! ```text
//! entry = CBOR [ hlc, body ]
//!   body = [ 0, [ [ * batch reference ] ] ]     batches, in the order of their delivery
//!        | [ 1, [ epoch end ] ]                 the end of the epoch, see `epoch.rs`
//!
//! chain   h_0 ◀── h_1 ◀── h_2 ◀── …             h_0 is the cluster id; h_s commits to everything up to slot s
//!
//! h_s = digest, under the domain `slot`, of
//!          0   32   h_(s-1)
//!         32   32   cluster id
//!         64    8   s, big endian
//!         72   32   digest of the entry's bytes under the domain `entry`
//! ```

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::batch::BatchRef;
use super::epoch::EpochEnd;
use super::ids::{ClusterId, Digest, Slot};
use super::time::Hlc;

/// What a slot decides. Open: further kinds get further numbers.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum EntryBody {
    /// Batches, in the order of their delivery; never empty.
    #[n(0)]
    Batches(#[n(0)] Vec<BatchRef>),
    /// The end of the epoch, and what follows it.
    #[n(1)]
    EpochEnd(#[n(0)] EpochEnd),
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Entry {
    /// Clock reading of its first message.
    #[n(0)]
    pub hlc: Hlc,
    /// What it decides.
    #[n(1)]
    pub body: EntryBody,
}

/// Why bytes are not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an entry: {0}")]
pub struct NotAnEntry(pub String);

impl Entry {
    /// The batches it orders.
    pub fn batches(&self) -> &[BatchRef] {
        match &self.body {
            EntryBody::Batches(batches) => batches,
            EntryBody::EpochEnd(_) => &[],
        }
    }

    /// The end of the epoch, if it is one.
    pub fn epoch_end(&self) -> Option<&EpochEnd> {
        match &self.body {
            EntryBody::Batches(_) => None,
            EntryBody::EpochEnd(end) => Some(end),
        }
    }

    /// Its canonical bytes.
    pub fn encode(&self) -> Bytes {
        Bytes::from(minicbor::to_vec(self).expect("memory is writable"))
    }

    /// Admits bytes from a peer or the log: decoded, nothing left over, canonical.
    pub fn admit(bytes: &[u8]) -> Result<Entry, NotAnEntry> {
        let entry: Entry = minicbor::decode(bytes).map_err(|error| NotAnEntry(error.to_string()))?;
        if entry.encode() != bytes {
            return Err(NotAnEntry("not the canonical encoding".to_owned()));
        }
        Ok(entry)
    }
}

/// h_s: the digest of slot `slot`, whose entry has these bytes, on the chain that ends in `parent`.
pub fn chain_digest(cluster: &ClusterId, parent: &Digest, slot: Slot, entry: &[u8]) -> Digest {
    let mut bytes = [0; 32 + 32 + 8 + 32];
    bytes[..32].copy_from_slice(&parent.0);
    bytes[32..64].copy_from_slice(&cluster.0);
    bytes[64..72].copy_from_slice(&slot.0.to_be_bytes());
    bytes[72..].copy_from_slice(&Digest::of("entry", entry).0);
    Digest::of("slot", &bytes)
}
