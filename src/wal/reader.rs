//! Reads single records, from any thread.

use std::io;

use crate::types::{Digest, Sabotage};

use super::error::ReadError;
use super::files::{Files, ReadFiles};
use super::frame::{CHECKSUM_BYTES, FRAME_BYTES, HEAD_BYTES, Seal, length_of, u32_at};
use super::segment::{HEADER_BYTES, segment_name};
use super::{Location, RECORD_PAYLOAD_BYTES_MAX};

/// Reads the records of a log by their locations. Clones share open files.
pub struct Reader<F: Files> {
    files: F::Reader,
    owner: Digest,
    sabotage: Sabotage,
}

impl<F: Files> Clone for Reader<F> {
    fn clone(&self) -> Reader<F> {
        Reader { files: self.files.clone(), owner: self.owner, sabotage: self.sabotage.clone() }
    }
}

impl<F: Files> Reader<F> {
    pub(super) fn new(files: F::Reader, owner: Digest, sabotage: Sabotage) -> Reader<F> {
        Reader { files, owner, sabotage }
    }

    /// The payload, verified. A record that is appended but not yet synced is not found here (see
    /// [`Log::read`](super::Log::read)); it is refused as damaged.
    pub fn read(&self, at: Location) -> Result<Vec<u8>, ReadError> {
        let before = (HEAD_BYTES + CHECKSUM_BYTES) as u64;
        let length = at.length as usize;
        if length > RECORD_PAYLOAD_BYTES_MAX || u64::from(at.offset) < (HEADER_BYTES + HEAD_BYTES) as u64 {
            return Err(ReadError::Damaged(at));
        }
        // The checksum before the frame belongs to what the frame's own covers.
        let mut bytes = vec![0; CHECKSUM_BYTES + FRAME_BYTES + length];
        self.files.read_at(&segment_name(at.segment), &mut bytes, u64::from(at.offset) - before).map_err(|error| {
            match error.kind() {
                io::ErrorKind::UnexpectedEof => ReadError::Damaged(at),
                _ => ReadError::Read { location: at, error },
            }
        })?;
        let (previous, frame) = (u32_at(&bytes, 0), &bytes[CHECKSUM_BYTES..]);
        let seal = Seal::of(&self.owner, at.segment, &self.sabotage);
        if length_of(frame) != length || seal.verify_record(frame, previous).is_none() {
            return Err(ReadError::Damaged(at));
        }
        bytes.copy_within(CHECKSUM_BYTES + HEAD_BYTES..CHECKSUM_BYTES + HEAD_BYTES + length, 0);
        bytes.truncate(length);
        Ok(bytes)
    }
}
