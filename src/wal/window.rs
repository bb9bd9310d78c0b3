//! Reads one file after the other from front to back, in large pieces.

use super::error::OpenError;
use super::files::ReadFiles;

/// A piece; longer only where one frame is.
const PIECE_BYTES: u64 = 1 << 20;

/// A piece of a file, in a buffer that is used again and again.
pub(super) struct Window<R> {
    reader: R,
    name: String,
    size: u64,
    buffer: Vec<u8>,
    /// Offset of the buffer's first byte in the file, and bytes that are filled.
    start: u64,
    filled: usize,
}

impl<R: ReadFiles> Window<R> {
    pub fn new(reader: R) -> Window<R> {
        Window { reader, name: String::new(), size: 0, buffer: Vec::new(), start: 0, filled: 0 }
    }

    /// Turns to a file of which `size` bytes may be read.
    pub fn turn_to(&mut self, name: String, size: u64) {
        (self.name, self.size, self.start, self.filled) = (name, size, 0, 0);
    }

    /// `length` bytes from `offset` on, which must lie inside the file.
    #[inline]
    pub fn bytes(&mut self, offset: u64, length: usize) -> Result<&[u8], OpenError> {
        let inside = offset.checked_sub(self.start).is_some_and(|from| from + length as u64 <= self.filled as u64);
        if !inside {
            self.fill(offset, length)?;
        }
        let from = (offset - self.start) as usize;
        Ok(&self.buffer[from..from + length])
    }

    #[cold]
    fn fill(&mut self, offset: u64, length: usize) -> Result<(), OpenError> {
        assert!(offset + length as u64 <= self.size, "only what is inside the file is asked for");
        let piece = (self.size - offset).min(PIECE_BYTES.max(length as u64)) as usize;
        if self.buffer.len() < piece {
            self.buffer.resize(piece, 0);
        }
        self.filled = 0;
        let read = self.reader.read_at(&self.name, &mut self.buffer[..piece], offset);
        read.map_err(|error| OpenError::Read { name: self.name.clone(), offset, error })?;
        (self.start, self.filled) = (offset, piece);
        Ok(())
    }
}
