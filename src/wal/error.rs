//! What can go wrong, by whose fault, and what became of the log.

use std::io;

use crate::types::Digest;

use super::Location;
use super::segment::FORMAT_VERSION;
use super::{RECORD_PAYLOAD_BYTES_MAX, RULES_VERSION};

/// The one who replays the log refuses a record: it verifies, but makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// The log was not opened. Its records are as they were.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting is out of its bounds.
    #[error("`{field}` is {value}, but must be between {min} and {max}: correct the setting")]
    Setting {
        /// The setting.
        field: &'static str,
        /// What it was set to.
        value: u64,
        /// The least it may be.
        min: u64,
        /// The most it may be.
        max: u64,
    },
    /// The data directory belongs to another member or another group.
    #[error(
        "segment {segment} belongs to another member or group (owner {found:?}, expected {expected:?}): \
         use the data directory that belongs to this key and genesis"
    )]
    Owner {
        /// The segment.
        segment: u64,
        /// The owner that its header names.
        found: Digest,
        /// The owner that opened it.
        expected: Digest,
    },
    /// Another version of the format.
    #[error(
        "segment {segment} has format version {found}, this program reads {}: use the program that wrote it",
        FORMAT_VERSION
    )]
    Format {
        /// The segment.
        segment: u64,
        /// The version that its header names.
        found: u32,
    },
    /// Records of other rules.
    #[error(
        "segment {segment} has rules version {found}, this program knows {}: use the program that wrote it",
        RULES_VERSION
    )]
    Rules {
        /// The segment.
        segment: u64,
        /// The version that its header names.
        found: u32,
    },
    /// Nothing names the log's owner.
    #[error("no segment has a header that verifies: this is no log, or all of it is damaged")]
    NoHeader,
    /// The folder could not be listed.
    #[error("the log's folder cannot be read: {0}; check that it exists and may be read")]
    Folder(#[source] io::Error),
    /// A file could not be read.
    #[error("`{name}` cannot be read at offset {offset}: {error}; check permissions and disk")]
    Read {
        /// The file.
        name: String,
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// A file could not be made, changed or synced.
    #[error("`{name}` cannot be {what}: {error}; check permissions, disk and free space")]
    Write {
        /// The file.
        name: String,
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The one who replays refuses a record.
    #[error("record of kind {kind} in segment {} at offset {} is refused: {reason}", location.segment, location.offset)]
    Refused {
        /// The record.
        location: Location,
        /// Its kind.
        kind: u8,
        /// Why.
        reason: Refused,
    },
}

/// An append or a sync failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The caller's record is too long. Nothing changed.
    #[error(
        "a record of {bytes} bytes does not fit: at most {max} in segments of this size (and {RECORD_PAYLOAD_BYTES_MAX} in any)"
    )]
    TooLong {
        /// Bytes of the payload.
        bytes: usize,
        /// The most that is possible.
        max: usize,
    },
    /// No room is left and no segment can be made. Nothing changed; it may succeed later.
    #[error("the log is full and no new segment can be made: {reason}; free some space")]
    Full {
        /// Why not.
        reason: String,
    },
    /// A segment could not be written or synced. What of the current turn is durable is unknown, and every further call
    /// returns this same error: the process has to end, and start again.
    #[error("`{name}` cannot be {what}: {reason}; nothing more is written to this log")]
    Failed {
        /// The file.
        name: String,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        reason: String,
    },
}

/// A record could not be read. The log is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No record verifies there: it is damaged, not written yet, or the location is none of this log's.
    #[error("no whole record of {} bytes in segment {} at offset {}", .0.length, .0.segment, .0.offset)]
    Damaged(Location),
    /// The file could not be read.
    #[error("segment {} cannot be read at offset {}: {error}", location.segment, location.offset)]
    Read {
        /// The record.
        location: Location,
        /// Why.
        #[source]
        error: io::Error,
    },
}
