//! What members say to each other: the hello, then envelopes.
//!
//! ```text
//! hello    = CBOR [ version, cluster id, epoch, configuration digest, incarnation, start nonce,
//!                   highest vote: claim, decided: tip, sealed: lane head ]
//! envelope = CBOR [ epoch, configuration digest, message ]
//!
//! message   0  batch          [ 0, [ batch: bytes ] ]
//!           1  proposal       [ 1, [ round, chain entry ] ]
//!           2  vote           [ 2, [ vote ] ]
//!           3  claim          [ 3, [ round, ( claim ) ] ]
//!           4  new-view       [ 4, [ round, ( base: claim ) ] ]
//!           5  status         [ 5, [ status ] ]
//!           6  heartbeat      [ 6, [ round, decided: tip, slowest sync in microseconds ] ]
//!           7  fetch-batches  [ 7, [ decided: slot, [ * batch reference ] ] ]
//!           8  fetch-lane     [ 8, [ origin: id, after: lane head ] ]
//!           9  fetch-chain    [ 9, [ slot, digest, above: slot ] ]
//!          10  chain          [ 10, [ [ * chain entry ] ] ]
//!          11  fetch-decided  [ 11, [ after: slot, digest, through: slot, waits: bool ] ]
//!          12  decided        [ 12, [ mark: tip, [ * decided slot ] ] ]
//!          13  epochs         [ 13, [ from: epoch, [ * epoch link ] ] ]
//!
//! chain entry  = [ slot, parent: digest, entry: bytes ]
//! decided slot = [ chain entry, [ * batch: bytes ], ( certificate ) ]
//! status       = [ incarnation, counter, round, complaint: view / null, decided: tip,
//!                  lanes: [ * [ member: id, lane head ] ], links: [ * member: id ], clock, established: epoch ]
//!
//! refusal = CBOR  0  version         [ 0, [ theirs, ours ] ]
//!                 1  cluster         [ 1, [ theirs: cluster id, ours: cluster id ] ]
//!                 2  configuration   [ 2, [ epoch ] ]
//!                 3  not a member    [ 3, [ id ] ]
//!                 4  stale disk      [ 4, [ says: text, said: text ] ]
//!                 5  two processes   [ 5, [ id ] ]
//!                 6  malformed       [ 6, [ text ] ]
//!                 7  departed        [ 7, [ id, standing ] ]
//! ```
//!
//! Batches and entries stand as byte strings: what their digests cover, unchanged, and canonical. Of an envelope around
//! them no digest is made, so it is admitted in any encoding that decodes to the end.

use bytes::Bytes;
use minicbor::{Decode, Decoder, Encode};

use super::batch::{Batch, BatchRef, LaneHead};
use super::door::Standing;
use super::entry::Entry;
use super::epoch::{Certificate, EpochLink};
use super::ids::{ClusterId, Digest, Epoch, Incarnation, MemberId, Slot, StartNonce, View};
use super::message::bytes_field;
use super::statement::{Claim, Round, Tip, Vote};
use super::time::WallTime;

/// The first frame of every stream, both ways.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Hello {
    /// [`super::limits::PROTOCOL_VERSION`].
    #[n(0)]
    pub version: u32,
    /// The group.
    #[n(1)]
    pub cluster: ClusterId,
    /// The epoch the sender is in.
    #[n(2)]
    pub epoch: Epoch,
    /// Digest of that epoch's configuration.
    #[n(3)]
    pub configuration: Digest,
    /// The sender's incarnation.
    #[n(4)]
    pub incarnation: Incarnation,
    /// Drawn at its start.
    #[n(5)]
    pub nonce: StartNonce,
    /// Its highest durable vote; after damage, perhaps slot 0 of an epoch's first view: all that it voted before is void.
    #[n(6)]
    pub highest_vote: Claim,
    /// How far it knows the order to be decided.
    #[n(7)]
    pub decided: Tip,
    /// The last batch of its own lane, as far as it sealed it.
    #[n(8)]
    pub sealed: LaneHead,
}

/// Why a peer is refused. The text goes to the peer and into the log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Refusal {
    /// It speaks another version of the peer protocol.
    #[n(0)]
    #[error("protocol version {theirs} is not ours ({ours}); run the same release on all members")]
    Version {
        /// What it speaks.
        #[n(0)]
        theirs: u32,
        /// What we speak.
        #[n(1)]
        ours: u32,
    },
    /// It belongs to another group.
    #[n(1)]
    #[error("it belongs to group {}, this is group {}; check genesis.toml on both", theirs.short(), ours.short())]
    Cluster {
        /// Its group.
        #[n(0)]
        theirs: ClusterId,
        /// Ours.
        #[n(1)]
        ours: ClusterId,
    },
    /// Same epoch, another configuration.
    #[n(2)]
    #[error("its configuration of epoch {epoch} differs from ours; genesis.toml must be the same on all members")]
    Configuration {
        /// The epoch.
        #[n(0)]
        epoch: Epoch,
    },
    /// Its key is not a member's.
    #[n(3)]
    #[error("key {} is not a member of this group; `synod invite` on any member prints a join code", .0.short())]
    NotAMember(#[n(0)] MemberId),
    /// Rule I1: somebody has recorded something higher of that identity.
    #[n(4)]
    #[error("stale_disk: it says {says}, but has said {said} before; this is an old or copied data directory")]
    StaleDisk {
        /// What its hello says.
        #[n(0)]
        says: String,
        /// What was heard of it.
        #[n(1)]
        said: String,
    },
    /// Rule I1: two processes with one identity.
    #[n(5)]
    #[error("two processes run with the key of member {}; stop one of them", .0.short())]
    TwoProcesses(#[n(0)] MemberId),
    /// A frame that is no message of this protocol.
    #[n(6)]
    #[error("it sent what is no message of this protocol: {0}")]
    Malformed(#[n(0)] String),
    /// It was a member, and has left or was removed.
    #[n(7)]
    #[error(
        "member {} {}; its key is never used again, a new data directory joins as a new member",
        id.short(),
        if *standing == Standing::Left { "has left the group" } else { "was removed from the group" }
    )]
    Departed {
        /// Its key.
        #[n(0)]
        id: MemberId,
        /// Left or removed.
        #[n(1)]
        standing: Standing,
    },
}

/// The newest word of a member about itself: sent when it changes, right after the hello, and repeated (rule V2).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Status {
    /// The sender's incarnation; (incarnation, counter) tells which status is newer.
    #[n(0)]
    pub incarnation: Incarnation,
    /// Rises with every status of one incarnation.
    #[n(1)]
    pub counter: u64,
    /// The round of its durable voter record.
    #[n(2)]
    pub round: Round,
    /// The view it complains about, if it does.
    #[n(3)]
    pub complaint: Option<View>,
    /// How far it knows the order to be decided.
    #[n(4)]
    pub decided: Tip,
    /// Per member, how far its lanes are held durably without a hole.
    #[n(5)]
    pub lanes: Vec<(MemberId, LaneHead)>,
    /// Members it has a link to.
    #[n(6)]
    pub links: Vec<MemberId>,
    /// Its clock when it sent this.
    #[n(7)]
    pub clock: WallTime,
    /// The newest epoch that it knows to be established (rule E2).
    #[n(8)]
    pub established: Epoch,
}

/// One message between members. Statements count only in the epoch and configuration of their [`Envelope`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum PeerMessage {
    /// A batch, from its origin or any holder. Bulk.
    #[n(0)]
    Batch(#[cbor(n(0), with = "batch_field")] Batch),
    /// The leader's entry for a slot.
    #[n(1)]
    Proposal {
        /// The round it is proposed in.
        #[n(0)]
        round: Round,
        /// Entry, slot and chain.
        #[n(1)]
        entry: ChainEntry,
    },
    /// A vote, to all voters.
    #[n(2)]
    Vote(#[n(0)] Vote),
    /// What a voter that entered a view has voted for, to that view's leader.
    #[n(3)]
    Claim {
        /// The view entered.
        #[n(0)]
        round: Round,
        /// Its highest vote.
        #[n(1)]
        claim: Claim,
    },
    /// The base of a view, fixed from now on.
    #[n(4)]
    NewView {
        /// The view.
        #[n(0)]
        round: Round,
        /// The chosen claim; none means the epoch's base.
        #[n(1)]
        base: Claim,
    },
    /// The sender's state.
    #[n(5)]
    Status(#[n(0)] Status),
    /// The leader lives; from its own loop.
    #[n(6)]
    Heartbeat {
        /// The view it leads.
        #[n(0)]
        round: Round,
        /// How far it knows the order to be decided.
        #[n(1)]
        decided: Tip,
        /// Its slowest recent sync, in microseconds (rule V4).
        #[n(2)]
        sync_micros: u64,
    },
    /// Asks for batches by digest.
    #[n(7)]
    FetchBatches {
        /// How far the asker knows the order to be decided.
        #[n(0)]
        decided: Slot,
        /// What it lacks.
        #[n(1)]
        batches: Vec<BatchRef>,
    },
    /// Asks for what follows in a member's lanes.
    #[n(8)]
    FetchLane {
        /// Whose lanes.
        #[n(0)]
        origin: MemberId,
        /// What the asker holds without a hole.
        #[n(1)]
        after: LaneHead,
    },
    /// Asks for the undecided entries of a chain.
    #[n(9)]
    FetchChain {
        /// The chain's end.
        #[n(0)]
        slot: Slot,
        /// Its digest there.
        #[n(1)]
        digest: Digest,
        /// Entries above this slot are wanted.
        #[n(2)]
        above: Slot,
    },
    /// Undecided entries, from low to high.
    #[n(10)]
    Chain(#[n(0)] Vec<ChainEntry>),
    /// Asks for decided slots.
    #[n(11)]
    FetchDecided {
        /// Slots above this one are wanted.
        #[n(0)]
        after: Slot,
        /// The asker's chain there: with another one here there is no answer; zero if it does not have that slot yet.
        #[n(1)]
        digest: Digest,
        /// Slots up to here are wanted.
        #[n(2)]
        through: Slot,
        /// If there is none yet, the answer comes when there is one.
        #[n(3)]
        waits: bool,
    },
    /// Decided slots with their payload, from low to high. Bulk.
    #[n(12)]
    Decided {
        /// Everything up to this tip is decided; the slots below stand at or below it.
        #[n(0)]
        mark: Tip,
        /// The slots.
        #[n(1)]
        slots: Vec<DecidedSlot>,
    },
    /// The chain of epochs from where the other stands (rule E3).
    #[n(13)]
    Epochs {
        /// The epoch that the first link ends.
        #[n(0)]
        from: Epoch,
        /// The links from there on.
        #[n(1)]
        links: Vec<EpochLink>,
    },
}

/// An entry with its place in a chain.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ChainEntry {
    /// Its slot.
    #[n(0)]
    pub slot: Slot,
    /// The chain it extends.
    #[n(1)]
    pub parent: Digest,
    /// Its canonical bytes.
    #[cbor(n(2), with = "entry_field")]
    pub entry: (Entry, Bytes),
}

/// A decided slot with the batches it orders.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct DecidedSlot {
    /// The entry.
    #[n(0)]
    pub entry: ChainEntry,
    /// Its batches, in its order.
    #[cbor(n(1), with = "batches_field")]
    pub batches: Vec<Batch>,
    /// If the entry ends an epoch: who signed that.
    #[n(2)]
    pub certificate: Option<Certificate>,
}

/// Epoch and configuration digest, in every message: a statement counts in no other.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Envelope {
    /// The sender's epoch.
    #[n(0)]
    pub epoch: Epoch,
    /// Digest of its configuration.
    #[n(1)]
    pub configuration: Digest,
    /// What it says.
    #[n(2)]
    pub message: PeerMessage,
}

/// Why bytes are not a message between members.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAPeerMessage(pub String);

impl Envelope {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        Bytes::from(minicbor::to_vec(self).expect("memory is writable"))
    }

    /// Admits bytes from a peer: decoded, batches and entries canonical, nothing left over.
    pub fn admit(bytes: &[u8]) -> Result<Envelope, NotAPeerMessage> {
        let mut decoder = Decoder::new(bytes);
        let envelope = decoder.decode().map_err(|error| NotAPeerMessage(error.to_string()))?;
        if decoder.position() != bytes.len() {
            return Err(NotAPeerMessage("bytes are left over".to_owned()));
        }
        Ok(envelope)
    }
}

impl PeerMessage {
    /// Whether it carries payload and travels on the bulk stream, where votes do not wait behind it.
    pub fn is_bulk(&self) -> bool {
        matches!(self, PeerMessage::Batch(_) | PeerMessage::Decided { .. })
    }

    /// Whether it is a statement of a voter, which counts in its own epoch only (rule E1).
    pub fn is_of_epoch(&self) -> bool {
        matches!(
            self,
            PeerMessage::Proposal { .. }
                | PeerMessage::Vote(_)
                | PeerMessage::Claim { .. }
                | PeerMessage::NewView { .. }
                | PeerMessage::Heartbeat { .. }
        )
    }

    /// A word for logs and charts.
    pub fn name(&self) -> &'static str {
        match self {
            PeerMessage::Batch(_) => "batch",
            PeerMessage::Proposal { .. } => "proposal",
            PeerMessage::Vote(_) => "vote",
            PeerMessage::Claim { .. } => "claim",
            PeerMessage::NewView { .. } => "new-view",
            PeerMessage::Status(_) => "status",
            PeerMessage::Heartbeat { .. } => "heartbeat",
            PeerMessage::FetchBatches { .. } => "fetch-batches",
            PeerMessage::FetchLane { .. } => "fetch-lane",
            PeerMessage::FetchChain { .. } => "fetch-chain",
            PeerMessage::Chain(_) => "chain",
            PeerMessage::FetchDecided { .. } => "fetch-decided",
            PeerMessage::Decided { .. } => "decided",
            PeerMessage::Epochs { .. } => "epochs",
        }
    }
}

mod batch_field {
    use super::{Batch, Bytes, bytes_field};
    use minicbor::{Decoder, Encoder, decode::Error as DecodeError, encode::Error as EncodeError, encode::Write};

    pub fn encode<C, W: Write>(
        batch: &Batch,
        encoder: &mut Encoder<W>,
        context: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        bytes_field::encode(&batch.bytes, encoder, context)
    }

    pub fn decode<C>(decoder: &mut Decoder<'_>, context: &mut C) -> Result<Batch, DecodeError> {
        let bytes: Bytes = bytes_field::decode(decoder, context)?;
        Batch::admit(bytes).map_err(|error| DecodeError::message(error.to_string()))
    }
}

mod batches_field {
    use super::{Batch, batch_field};
    use minicbor::{Decoder, Encoder, decode::Error as DecodeError, encode::Error as EncodeError, encode::Write};

    pub fn encode<C, W: Write>(
        batches: &[Batch],
        encoder: &mut Encoder<W>,
        context: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        encoder.array(batches.len() as u64)?;
        batches.iter().try_for_each(|batch| batch_field::encode(batch, encoder, context))
    }

    pub fn decode<C>(decoder: &mut Decoder<'_>, context: &mut C) -> Result<Vec<Batch>, DecodeError> {
        let length = decoder.array()?.ok_or_else(|| DecodeError::message("arrays have a definite length"))?;
        (0..length).map(|_| batch_field::decode(decoder, context)).collect()
    }
}

mod entry_field {
    use super::{Bytes, Entry, bytes_field};
    use minicbor::{Decoder, Encoder, decode::Error as DecodeError, encode::Error as EncodeError, encode::Write};

    pub fn encode<C, W: Write>(
        entry: &(Entry, Bytes),
        encoder: &mut Encoder<W>,
        context: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        bytes_field::encode(&entry.1, encoder, context)
    }

    pub fn decode<C>(decoder: &mut Decoder<'_>, context: &mut C) -> Result<(Entry, Bytes), DecodeError> {
        let bytes: Bytes = bytes_field::decode(decoder, context)?;
        let entry = Entry::admit(&bytes).map_err(|error| DecodeError::message(error.to_string()))?;
        Ok((entry, bytes))
    }
}
