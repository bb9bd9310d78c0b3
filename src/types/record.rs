//! What the log holds: one kind byte and a payload per record.
//!
//! ```text
//! kind  record       payload
//!  1    incarnation  CBOR [ incarnation, start nonce ]
//!  2    batch        the batch's bytes, unchanged
//!  3    entry        slot: 8 bytes, big endian │ parent: 32 bytes │ the entry's bytes, unchanged
//!  4    voter        CBOR [ round, configuration digest, claim, incarnation ]
//!  5    vote         CBOR [ tip, incarnation ]
//!  6    decided      CBOR tip
//!  7    genesis      the genesis' bytes, unchanged
//!  8    epoch        CBOR epoch link
//! ```

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::epoch::EpochLink;
use super::ids::{Digest, Incarnation, Slot, StartNonce};
use super::statement::{Claim, Round, Tip};

/// Where a record's payload stands in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// Number of the segment.
    pub segment: u64,
    /// Offset of the payload's first byte in the segment's file.
    pub offset: u32,
    /// Bytes of the payload.
    pub length: u32,
}

/// One durable record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A start of this member.
    Incarnation(Started),
    /// A batch's bytes.
    Batch(Bytes),
    /// An entry of some chain.
    Entry(EntryRecord),
    /// A round entered: what must survive a crash for safety (rule L1).
    Voter(Voter),
    /// One vote.
    Vote(Voted),
    /// How far the order is known to be decided.
    Decided(Tip),
    /// The group's genesis; the first record of every log.
    Genesis(Bytes),
    /// The proof of an epoch; before the decided mark that ends the one before it.
    Epoch(EpochLink),
}

/// A start of this member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Started {
    /// Its new incarnation.
    #[n(0)]
    pub incarnation: Incarnation,
    /// The nonce drawn for it.
    #[n(1)]
    pub nonce: StartNonce,
}

/// An entry with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRecord {
    /// Its slot.
    pub slot: Slot,
    /// The chain it extends.
    pub parent: Digest,
    /// Its canonical bytes.
    pub entry: Bytes,
}

/// The voter record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Voter {
    /// The round entered.
    #[n(0)]
    pub round: Round,
    /// Digest of that epoch's configuration.
    #[n(1)]
    pub configuration: Digest,
    /// The highest vote so far.
    #[n(2)]
    pub claim: Claim,
    /// The incarnation that entered it.
    #[n(3)]
    pub incarnation: Incarnation,
}

/// A vote, and the incarnation that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Voted {
    /// What was voted for.
    #[n(0)]
    pub tip: Tip,
    /// By which incarnation.
    #[n(1)]
    pub incarnation: Incarnation,
}

/// Why a frame of the log is not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record of kind {kind}: {reason}")]
pub struct NotARecord {
    /// The kind byte.
    pub kind: u8,
    /// What is wrong.
    pub reason: String,
}

impl Record {
    /// The kind byte.
    pub fn kind(&self) -> u8 {
        match self {
            Record::Incarnation(_) => 1,
            Record::Batch(_) => 2,
            Record::Entry(_) => 3,
            Record::Voter(_) => 4,
            Record::Vote(_) => 5,
            Record::Decided(_) => 6,
            Record::Genesis(_) => 7,
            Record::Epoch(_) => 8,
        }
    }

    /// The payload.
    pub fn payload(&self) -> Bytes {
        match self {
            Record::Incarnation(started) => cbor(started),
            Record::Batch(bytes) | Record::Genesis(bytes) => bytes.clone(),
            Record::Entry(record) => {
                let mut bytes = Vec::with_capacity(ENTRY_PREFIX_BYTES + record.entry.len());
                bytes.extend_from_slice(&record.slot.0.to_be_bytes());
                bytes.extend_from_slice(&record.parent.0);
                bytes.extend_from_slice(&record.entry);
                Bytes::from(bytes)
            }
            Record::Voter(voter) => cbor(voter),
            Record::Vote(voted) => cbor(voted),
            Record::Decided(tip) => cbor(tip),
            Record::Epoch(link) => cbor(link),
        }
    }

    /// Reads one back.
    pub fn read(kind: u8, payload: &[u8]) -> Result<Record, NotARecord> {
        Ok(match kind {
            1 => Record::Incarnation(uncbor(kind, payload)?),
            2 => Record::Batch(Bytes::copy_from_slice(payload)),
            3 => Record::Entry(EntryRecord::read(payload)?),
            4 => Record::Voter(uncbor(kind, payload)?),
            5 => Record::Vote(uncbor(kind, payload)?),
            6 => Record::Decided(uncbor(kind, payload)?),
            7 => Record::Genesis(Bytes::copy_from_slice(payload)),
            8 => Record::Epoch(uncbor(kind, payload)?),
            _ => return Err(NotARecord { kind, reason: "no such kind in this version".to_owned() }),
        })
    }
}

/// Slot and parent digest stand before an entry's bytes.
const ENTRY_PREFIX_BYTES: usize = 8 + 32;

impl EntryRecord {
    /// Reads the payload of a record of kind entry.
    pub fn read(payload: &[u8]) -> Result<EntryRecord, NotARecord> {
        let (prefix, entry) = payload
            .split_at_checked(ENTRY_PREFIX_BYTES)
            .ok_or_else(|| NotARecord { kind: 3, reason: "too short for a slot and a digest".to_owned() })?;
        let (slot, parent) = prefix.split_at(8);
        Ok(EntryRecord {
            slot: Slot(u64::from_be_bytes(slot.try_into().expect("split at 8"))),
            parent: Digest(parent.try_into().expect("the prefix is 8 + 32 bytes")),
            entry: Bytes::copy_from_slice(entry),
        })
    }
}

fn cbor(value: &impl Encode<()>) -> Bytes {
    Bytes::from(minicbor::to_vec(value).expect("memory is writable"))
}

fn uncbor<T: for<'b> Decode<'b, ()>>(kind: u8, payload: &[u8]) -> Result<T, NotARecord> {
    minicbor::decode(payload).map_err(|error| NotARecord { kind, reason: error.to_string() })
}
