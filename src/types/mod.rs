//! Floor 0: the vocabulary every other floor speaks. Ids, positions, messages, limits, time, and the bytes they have on
//! the wire and in the log (CBOR, by derive, indexed fields). Nothing here does input or output.

pub mod batch;
pub mod configuration;
pub mod entry;
pub mod host;
pub mod ids;
pub mod limits;
pub mod message;
pub mod peer;
pub mod record;
pub mod rule;
pub mod statement;
pub mod text;
pub mod time;

pub use batch::{Batch, BatchHeader, BatchId, BatchRef, LaneHead};
pub use configuration::{ClusterLimits, Configuration, FaultModelKind, Genesis, GenesisMember};
pub use entry::{Entry, EntryBody, chain_digest};
pub use host::{Ack, Delivered, Outcome, PeerSnapshot, Publish, Readiness, Rejection, Role, Snapshot, Ticket};
pub use ids::{
    BatchNumber, ClusterId, Digest, Epoch, Incarnation, MemberId, MessageId, MessageNumber, Position, Slot, StartNonce,
    View,
};
pub use message::{Message, MessageKind};
pub use peer::{Hello, PeerMessage, Refusal};
pub use record::{Location, Record};
pub use rule::{Rule, Sabotage};
pub use statement::{Claim, Round, Tip, Vote};
pub use time::{Hlc, Instant, Now, WallTime};
