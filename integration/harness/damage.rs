//! Logs of stopped members, looked into and damaged.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use synod::types::{Location, Record, Slot};
use synod::wal::{DiskFiles, Recovered, Refused, Replay, Rot, inspect};

/// A log, as far as it can be read.
pub struct Logged {
    folder: PathBuf,
    /// Every record, in the order of the log.
    pub records: Vec<(Location, Record)>,
    /// The log's own figures.
    pub recovered: Recovered,
}

impl Replay for Logged {
    fn record(&mut self, location: Location, kind: u8, payload: &[u8]) -> Result<(), Refused> {
        let record = Record::read(kind, payload).map_err(|error| Refused(error.to_string()))?;
        self.records.push((location, record));
        Ok(())
    }

    fn rot(&mut self, _: &Rot) {
        // It is among the figures.
    }
}

impl Logged {
    /// Reads the log of a member that does not run.
    pub fn read(folder: &Path) -> Logged {
        let mut logged = Logged { folder: folder.to_owned(), records: Vec::new(), recovered: Recovered::default() };
        logged.recovered = inspect(DiskFiles::new(folder), &mut logged).unwrap();
        logged
    }

    /// How far the log says the order is decided.
    pub fn decided(&self) -> Slot {
        let marks = self.records.iter().filter_map(|(_, record)| match record {
            Record::Decided(tip) => Some(tip.slot),
            _ => None,
        });
        marks.max().unwrap_or_default()
    }

    /// The last record that fits.
    pub fn last(&self, fits: impl Fn(&Record) -> bool) -> Location {
        self.records.iter().rfind(|(_, record)| fits(record)).expect("there is such a record").0
    }

    /// The first record that fits.
    pub fn first(&self, fits: impl Fn(&Record) -> bool) -> Location {
        self.records.iter().find(|(_, record)| fits(record)).expect("there is such a record").0
    }

    /// Flips one bit in the middle of a record's payload. That is rot, and not a torn tail, if a later start of the member
    /// has named the end of the segment.
    pub fn flip_a_bit(&self, at: Location) {
        let file = self.segment(at.segment);
        let offset = u64::from(at.offset + at.length / 2);
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0b100], offset).unwrap();
        file.sync_all().unwrap();
    }

    /// Writes the beginning of a turn whose sync never returned behind the end of the log: a whole frame's worth of
    /// bytes that do not verify there, and zeros, and bytes again, as sectors arrive in any order.
    pub fn tear_the_tail(&self) {
        let last = self.records.last().expect("the log is not empty").0;
        let file = self.segment(last.segment);
        let (mut bytes, mut end) = (vec![0; file.metadata().unwrap().len() as usize], 0);
        file.read_exact_at(&mut bytes, 0).unwrap();
        // The end is behind the last byte that is not zero, but a checksum may end in zeros.
        for (index, byte) in bytes.iter().enumerate().rev() {
            if *byte != 0 {
                end = index + 4;
                break;
            }
        }
        let frame = bytes[last.offset as usize - 5..(last.offset + last.length) as usize + 2].to_vec();
        for (offset, torn) in [(end, &frame[..]), (end + frame.len() + 700, &frame[..frame.len() / 2])] {
            file.write_all_at(torn, offset as u64).unwrap();
        }
        file.sync_all().unwrap();
    }

    fn segment(&self, number: u64) -> File {
        File::options().read(true).write(true).open(self.folder.join(format!("{number:020}.wal"))).unwrap()
    }
}
