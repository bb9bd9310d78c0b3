//! Records of the log for subscribers. They are there before the log is open, so they may ask too early.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::delivery::RecordReader;
use crate::types::Location;
use crate::wal::{DiskFiles, Reader};

/// Reads the log, once it is open. Clones share it.
#[derive(Clone, Default)]
pub struct LogReader {
    reader: Arc<OnceLock<Reader<DiskFiles>>>,
}

impl LogReader {
    /// From now on this log is read. Only the first call counts.
    pub fn open(&self, reader: Reader<DiskFiles>) {
        // A second log would be a second driver, which there is not.
        let _ = self.reader.set(reader);
    }

    /// The payload at a location; the error is for people.
    pub fn payload(&self, location: Location) -> Result<Vec<u8>, String> {
        let reader = self.reader.get().ok_or("the log is still being read; try again when /startupz says so")?;
        reader.read(location).map_err(|error| error.to_string())
    }
}

impl RecordReader for LogReader {
    fn read(&self, location: Location) -> Result<Bytes, String> {
        self.payload(location).map(Bytes::from)
    }
}
