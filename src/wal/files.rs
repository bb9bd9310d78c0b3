//! What the log needs of a file system. [`DiskFiles`](super::DiskFiles) is the real one;
//! [`MemoryFiles`](super::MemoryFiles) can crash, rot and fill up.

use std::io;

/// The folder that holds one member's log. Names are file names inside it.
pub trait Files: Send + 'static {
    /// An open file.
    type File: LogFile;
    /// Reads files by name, from any thread.
    type Reader: ReadFiles;

    /// Names in the folder, sorted. A folder that does not exist is an error of kind `NotFound`.
    fn list(&mut self) -> io::Result<Vec<String>>;

    /// Opens an existing file for reading and writing.
    fn open(&mut self, name: &str) -> io::Result<Self::File>;

    /// Makes a file of `size` zero bytes; file and folder are synced. Leaves nothing behind when it fails.
    fn create(&mut self, name: &str, size: u64) -> io::Result<Self::File>;

    /// Renames a file and syncs the folder.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file and syncs the folder.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Asks for what [`create`](Files::create) does, in the background; never waits for the zeros.
    fn prepare(&mut self, name: &str, size: u64);

    /// Name and outcome of the oldest finished `prepare` that was not reported yet.
    fn prepared(&mut self) -> Option<(String, io::Result<()>)>;

    /// For readers on other threads.
    fn reader(&self) -> Self::Reader;
}

/// An open file of the log; only its writer has one.
pub trait LogFile: Send + 'static {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes durable what was written (`fdatasync`).
    fn sync(&mut self) -> io::Result<()>;

    /// Fills `bytes` from `offset`; a file that ends before is an error of kind `UnexpectedEof`.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Bytes in the file.
    fn size(&self) -> io::Result<u64>;

    /// Drops everything from `size` on.
    fn truncate(&mut self, size: u64) -> io::Result<()>;
}

/// Reads files by name; clones share what they cache.
pub trait ReadFiles: Clone + Send + Sync + 'static {
    /// Fills `bytes` from `offset`; a file that ends before is an error of kind `UnexpectedEof`.
    fn read_at(&self, name: &str, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Bytes in the file.
    fn size(&self, name: &str) -> io::Result<u64>;
}
