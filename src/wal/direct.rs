//! Writing past the page cache. A turn is written once and read back, if ever, long after: the cache only makes the sync
//! search for what is dirty. It saves about a quarter of a sync's processor time, and with it some of its waiting.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::types::limits::WRITE_BUFFER_BYTES_KEPT;

/// What is written directly begins and ends at multiples of this, in the file and in memory.
const BLOCK_BYTES: usize = 4096;

/// A file that is appended to, in whole blocks: a write repeats what stands in its first block before it, and fills up
/// its last block with zeros, which is what stands there in a file that was zero-filled.
pub(super) struct Direct {
    file: File,
    /// What stands in the file from the beginning of the last block written up to its end.
    tail: Vec<u8>,
    /// Where the last write ended; none before the first.
    end: Option<u64>,
    /// For one write: some more than it takes, so that it can begin where a block may.
    room: Vec<u8>,
}

impl Direct {
    /// None where the file system takes no direct writes (some in memory do not), or the file is not made of blocks.
    pub fn open(path: &Path) -> io::Result<Option<Direct>> {
        let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(None),
            opened => opened?,
        };
        let whole = file.metadata()?.len().is_multiple_of(BLOCK_BYTES as u64);
        Ok(whole.then(|| Direct { file, tail: Vec::new(), end: None, room: Vec::new() }))
    }

    /// Appends `bytes` at `offset`, which is where the last write ended. `cached` reads the same file.
    pub fn append(&mut self, bytes: &[u8], offset: u64, cached: &File) -> io::Result<()> {
        let before = offset as usize % BLOCK_BYTES;
        let start = offset - before as u64;
        if self.end != Some(offset) {
            self.tail.resize(before, 0);
            cached.read_exact_at(&mut self.tail, start)?;
        }
        let end = before + bytes.len();
        let blocks = end.next_multiple_of(BLOCK_BYTES);
        self.room.resize(self.room.len().max(blocks + BLOCK_BYTES), 0);
        let from = self.room.as_ptr().align_offset(BLOCK_BYTES);
        let room = &mut self.room[from..from + blocks];
        room[..before].copy_from_slice(&self.tail);
        room[before..end].copy_from_slice(bytes);
        room[end..].fill(0);
        self.file.write_all_at(room, start)?;
        self.tail.clear();
        self.tail.extend_from_slice(&room[end - end % BLOCK_BYTES..end]);
        self.end = Some(offset + bytes.len() as u64);
        self.room.truncate(WRITE_BUFFER_BYTES_KEPT);
        self.room.shrink_to(WRITE_BUFFER_BYTES_KEPT);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn appends_of_any_length_stand_where_they_belong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let size = 16 * BLOCK_BYTES;
        fs::write(&path, vec![0; size]).unwrap();
        let Some(mut direct) = Direct::open(&path).unwrap() else {
            eprintln!("this file system takes no direct writes");
            return;
        };
        let cached = File::open(&path).unwrap();
        let mut expected = Vec::new();
        for (number, length) in [128, 1, 4095, 4096, 3968, 8192, 5, 20_000, 0, 77].into_iter().enumerate() {
            let bytes = vec![number as u8 + 1; length];
            direct.append(&bytes, expected.len() as u64, &cached).unwrap();
            expected.extend_from_slice(&bytes);
            // As a later start does, whose first write follows what another process wrote.
            if number % 3 == 2 {
                direct = Direct::open(&path).unwrap().unwrap();
            }
            let mut whole = expected.clone();
            whole.resize(size, 0);
            assert!(fs::read(&path).unwrap() == whole, "after {} bytes", expected.len());
        }
    }

    #[test]
    fn a_file_that_is_not_made_of_blocks_is_left_to_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, vec![0; BLOCK_BYTES + 1]).unwrap();
        assert!(Direct::open(&path).unwrap().is_none());
    }
}
