//! Floor 0: the vocabulary every other floor speaks. Ids, positions, messages, limits, time, and the bytes they have on
//! the wire and in the log. Nothing here does input or output.
//!
//! # Bytes
//!
//! They are CBOR, by derive, with definite lengths and the shortest integers; each file draws its own, in this notation:
//!
//! ```text
//! [ a, b, c ]       an array of a struct's fields, in the order of their numbers; / null: perhaps none
//! [ a, b, ( c ) ]   the last field is left out of the array if it is none
//! [ * a ]           an array of any number of these
//! [ n, [ a, b ] ]   case number n of a choice, with its fields; n alone where no case has any
//! counters, times   unsigned integers
//! digests, ids      byte strings of 32 bytes
//! ```
//!
//! `frozen.txt` holds an example of each, which a test compares.

pub mod announcement;
pub mod batch;
pub mod candidacy;
pub mod command;
pub mod commitment;
pub mod configuration;
pub mod door;
pub mod entry;
pub mod epoch;
#[cfg(test)]
mod frozen;
pub mod host;
pub mod ids;
pub mod input;
pub mod join_code;
pub mod limits;
pub mod message;
pub mod peer;
pub mod record;
pub mod rule;
pub mod settings;
pub mod statement;
pub mod text;
pub mod time;

pub use announcement::{Announcement, AnnouncementMessage, EpochHead, NotAnAnnouncement, Presence};
pub use batch::{Batch, BatchHeader, BatchId, BatchRef, LaneHead};
pub use candidacy::{Candidacy, CandidacyFrame, CandidacyMessage, CandidacyRefusal, Promise};
pub use command::Command;
pub use commitment::{Commitment, CommitmentRecord};
pub use configuration::{ClusterLimits, CommonSettings, Configuration, FaultModelKind, Genesis, GenesisMember};
pub use door::{Contact, DoorFrame, DoorMessage, DoorRefusal, Standing, Told};
pub use entry::{Entry, EntryBody, chain_digest};
pub use epoch::{Certificate, EpochEnd, EpochLink, Seal, SealBytes};
pub use host::{
    Ack, Delivered, DeliveredKind, EpochSnapshot, MemberSnapshot, MembershipSnapshot, Outcome, PeerSnapshot, Publish,
    Readiness, Rejection, Role, Snapshot, Ticket,
};
pub use ids::{
    BatchNumber, ClusterId, Digest, Epoch, Incarnation, MemberId, MessageId, MessageNumber, Position, Slot, StartNonce,
    View,
};
pub use input::{Input, Roster, RosterMember, Serve, ServeSlot};
pub use join_code::JoinCode;
pub use message::{Message, MessageKind};
pub use peer::{Hello, PeerMessage, Refusal};
pub use record::{Location, Record};
pub use rule::{Rule, Sabotage};
pub use settings::Timing;
pub use statement::{Claim, Round, Tip, Vote};
pub use time::{Hlc, Instant, Now, WallTime};
