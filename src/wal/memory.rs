//! Files in memory that lose what was not synced, rot, fail and fill up on demand: for tests and the simulator.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::{Files, LogFile, ReadFiles};

/// What survives a crash does so in whole sectors of this many bytes.
const SECTOR_BYTES: u64 = 512;

/// A folder in memory. Clones share it: one clone goes to the log, another stays with whoever plays the world. Names are
/// durable at once, contents when they are synced. Nothing in it is random and nothing runs beside it.
#[derive(Clone, Default)]
pub struct MemoryFiles {
    disk: Arc<Mutex<Disk>>,
}

/// A write that no sync has made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsynced<'a> {
    /// The file.
    pub name: &'a str,
    /// Where it begins.
    pub offset: u64,
    /// Its bytes.
    pub length: usize,
}

/// What is left of an unsynced write after a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    Nothing,
    /// All of it.
    All,
    /// So many bytes from its beginning.
    Leading(usize),
    /// These of the sectors of 512 bytes that it touches, by number from its first; sectors not named are lost.
    Sectors(Vec<bool>),
}

impl Survival {
    /// Bytes of the write that are left.
    pub fn bytes_left(&self, write: &Unsynced<'_>) -> usize {
        surviving(self, write.offset, write.length).iter().map(|(start, end)| end - start).sum()
    }
}

impl MemoryFiles {
    /// An empty folder without limits.
    pub fn new() -> MemoryFiles {
        MemoryFiles::default()
    }

    /// A copy that shares nothing with this one.
    pub fn fork(&self) -> MemoryFiles {
        MemoryFiles { disk: Arc::new(Mutex::new(self.lock().clone())) }
    }

    /// All files together hold at most so many bytes; `None` lifts the limit. What is there stays.
    pub fn limit(&self, bytes: Option<u64>) {
        self.lock().limit = bytes;
    }

    /// The machine stops: of every unsynced write only what `choose` says is left. It is asked once per write, files in
    /// the order of their names, writes in the order in which they were made. Also lifts [`halt_after`](Self::halt_after)
    /// and forgets spares that were made but not reported. Whoever has a file open must be dropped before or after.
    pub fn crash(&self, mut choose: impl FnMut(&Unsynced<'_>) -> Survival) {
        let mut disk = self.lock();
        disk.changes_left = None;
        disk.prepared.clear();
        let Disk { names, files, .. } = &mut *disk;
        for (name, number) in names {
            files.get_mut(number).expect("a name names a file").crash(name, &mut choose);
        }
    }

    /// Turns one bit of the byte at `offset` over: bit `offset % 8`. Twice is never.
    pub fn flip_bit(&self, name: &str, offset: u64) {
        let mut byte = [0];
        self.lock().named(name).read(&mut byte, offset);
        self.damage(name, offset, &[byte[0] ^ 1 << (offset % 8)]);
    }

    /// Puts other bytes there, durably.
    pub fn damage(&self, name: &str, offset: u64, bytes: &[u8]) {
        let mut disk = self.lock();
        let file = disk.named(name);
        file.size = file.size.max(offset + bytes.len() as u64);
        file.put(bytes, offset);
    }

    /// The file is gone.
    pub fn lose(&self, name: &str) {
        let mut disk = self.lock();
        let number = disk.names.remove(name).expect("the file exists");
        disk.files.remove(&number);
    }

    /// Names of all files, sorted.
    pub fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }

    /// What is in a file now, synced or not.
    pub fn contents(&self, name: &str) -> Vec<u8> {
        let mut disk = self.lock();
        let file = disk.named(name);
        let mut bytes = vec![0; file.size as usize];
        file.read(&mut bytes, 0);
        bytes
    }

    /// The next write to a file fails and writes nothing.
    pub fn fail_next_write(&self) {
        self.lock().fail_write = true;
    }

    /// The next sync of a file fails and makes nothing durable.
    pub fn fail_next_sync(&self) {
        self.lock().fail_sync = true;
    }

    /// After so many more changes (writes, syncs, and new, renamed, removed or cut files) every change fails, as if the
    /// process had ended there. Until the next [`crash`](Self::crash).
    pub fn halt_after(&self, changes: u64) {
        self.lock().changes_left = Some(changes);
    }

    /// How many syncs of files have succeeded.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files for MemoryFiles {
    type File = MemoryFile;
    type Reader = MemoryFiles;

    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn open(&mut self, name: &str) -> io::Result<MemoryFile> {
        let number = self.lock().number(name)?;
        Ok(MemoryFile { files: self.clone(), number })
    }

    fn create(&mut self, name: &str, size: u64) -> io::Result<MemoryFile> {
        let number = self.lock().create(name, size)?;
        Ok(MemoryFile { files: self.clone(), number })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.lock();
        disk.change()?;
        let number = disk.number(from)?;
        disk.names.remove(from);
        if let Some(replaced) = disk.names.insert(to.to_owned(), number) {
            disk.files.remove(&replaced);
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut disk = self.lock();
        disk.change()?;
        let number = disk.number(name)?;
        disk.names.remove(name);
        disk.files.remove(&number);
        Ok(())
    }

    fn prepare(&mut self, name: &str, size: u64) {
        let mut disk = self.lock();
        let made = disk.create(name, size).map(|_| ());
        disk.prepared.push_back((name.to_owned(), made.map_err(|error| error.kind())));
    }

    fn prepared(&mut self) -> Option<(String, io::Result<()>)> {
        let (name, made) = self.lock().prepared.pop_front()?;
        Some((name, made.map_err(io::Error::from)))
    }

    fn reader(&self) -> MemoryFiles {
        self.clone()
    }
}

impl ReadFiles for MemoryFiles {
    fn read_at(&self, name: &str, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let mut disk = self.lock();
        let number = disk.number(name)?;
        disk.file(number)?.read_exact(bytes, offset)
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        let mut disk = self.lock();
        let number = disk.number(name)?;
        Ok(disk.file(number)?.size)
    }
}

/// An open file in memory.
pub struct MemoryFile {
    files: MemoryFiles,
    number: u64,
}

impl LogFile for MemoryFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.files.lock();
        disk.change()?;
        if std::mem::take(&mut disk.fail_write) {
            return Err(io::Error::other("this write was told to fail"));
        }
        disk.file(self.number)?.write(bytes, offset);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.files.lock();
        disk.change()?;
        if std::mem::take(&mut disk.fail_sync) {
            return Err(io::Error::other("this sync was told to fail"));
        }
        disk.syncs += 1;
        disk.file(self.number)?.unsynced.clear();
        Ok(())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.files.lock().file(self.number)?.read_exact(bytes, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.files.lock().file(self.number)?.size)
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        let mut disk = self.files.lock();
        disk.change()?;
        let file = disk.file(self.number)?;
        file.size = size;
        file.content.truncate(size as usize);
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Disk {
    names: BTreeMap<String, u64>,
    files: BTreeMap<u64, Content>,
    next: u64,
    limit: Option<u64>,
    prepared: VecDeque<(String, Result<(), io::ErrorKind>)>,
    fail_write: bool,
    fail_sync: bool,
    changes_left: Option<u64>,
    syncs: u64,
}

impl Disk {
    fn change(&mut self) -> io::Result<()> {
        match &mut self.changes_left {
            None => Ok(()),
            Some(0) => Err(io::Error::other("the process has ended")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn create(&mut self, name: &str, size: u64) -> io::Result<u64> {
        self.change()?;
        let used: u64 = self.files.values().map(|file| file.size).sum();
        if self.limit.is_some_and(|limit| used + size > limit) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let number = self.next;
        self.next += 1;
        self.files.insert(number, Content { size, ..Content::default() });
        if let Some(replaced) = self.names.insert(name.to_owned(), number) {
            self.files.remove(&replaced);
        }
        Ok(number)
    }

    fn number(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file(&mut self, number: u64) -> io::Result<&mut Content> {
        self.files.get_mut(&number).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn named(&mut self, name: &str) -> &mut Content {
        let number = self.names.get(name).expect("the file exists");
        self.files.get_mut(number).expect("a name names a file")
    }
}

/// One file. `content` may be shorter than `size`: zeros follow, which costs nothing.
#[derive(Clone, Default)]
struct Content {
    size: u64,
    content: Vec<u8>,
    unsynced: Vec<Write>,
}

#[derive(Clone)]
struct Write {
    offset: u64,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Content {
    fn write(&mut self, bytes: &[u8], offset: u64) {
        self.size = self.size.max(offset + bytes.len() as u64);
        let mut before = vec![0; bytes.len()];
        self.read(&mut before, offset);
        self.put(bytes, offset);
        self.unsynced.push(Write { offset, before, after: bytes.to_vec() });
    }

    /// Bytes that are there; a file does not grow by it.
    fn put(&mut self, bytes: &[u8], offset: u64) {
        let start = (offset as usize).min(self.size as usize);
        let end = (start + bytes.len()).min(self.size as usize);
        if self.content.len() < end {
            self.content.resize(end, 0);
        }
        self.content[start..end].copy_from_slice(&bytes[..end - start]);
    }

    fn read(&self, bytes: &mut [u8], offset: u64) {
        let there = self.content.get(offset as usize..).unwrap_or_default();
        let length = there.len().min(bytes.len());
        bytes[..length].copy_from_slice(&there[..length]);
        bytes[length..].fill(0);
    }

    fn read_exact(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read(bytes, offset);
        Ok(())
    }

    fn crash(&mut self, name: &str, choose: &mut impl FnMut(&Unsynced<'_>) -> Survival) {
        let writes = std::mem::take(&mut self.unsynced);
        for write in writes.iter().rev() {
            self.put(&write.before, write.offset);
        }
        for write in &writes {
            let survival = choose(&Unsynced { name, offset: write.offset, length: write.after.len() });
            for (start, end) in surviving(&survival, write.offset, write.after.len()) {
                self.put(&write.after[start..end], write.offset + start as u64);
            }
        }
    }
}

/// The ranges of a write at `offset` that survive, within the write.
fn surviving(survival: &Survival, offset: u64, length: usize) -> Vec<(usize, usize)> {
    match survival {
        Survival::Nothing => vec![],
        Survival::All => vec![(0, length)],
        Survival::Leading(bytes) => vec![(0, length.min(*bytes))],
        Survival::Sectors(sectors) => {
            let first = offset / SECTOR_BYTES;
            let edge = |sector: u64| ((sector * SECTOR_BYTES).saturating_sub(offset) as usize).min(length);
            let numbered = (first..).zip(sectors).filter(|(_, survives)| **survives);
            numbered.map(|(sector, _)| (edge(sector), edge(sector + 1))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_synced_and_what_is_chosen() {
        let mut files = MemoryFiles::new();
        let mut file = files.create("a", 2048).unwrap();
        file.write_at(&[1; 1500], 0).unwrap();
        file.sync().unwrap();
        file.write_at(&[2; 1500], 100).unwrap();
        file.write_at(&[3; 10], 0).unwrap();
        let mut choices = [Survival::Sectors(vec![false, true]), Survival::Leading(4)].into_iter();
        let mut left = Vec::new();
        files.crash(|write| {
            let survival = choices.next().unwrap();
            left.push(survival.bytes_left(write));
            survival
        });
        assert_eq!(left, [512, 4]);
        let bytes = files.contents("a");
        assert_eq!(bytes[..4], [3; 4]);
        assert_eq!(bytes[4..512], [1; 508]);
        assert_eq!(bytes[512..1024], [2; 512]);
        assert_eq!(bytes[1024..1500], [1; 476]);
        assert_eq!(bytes[1500..], [0; 548]);
    }

    #[test]
    fn a_full_folder_makes_no_file() {
        let mut files = MemoryFiles::new();
        files.limit(Some(100));
        assert!(files.create("a", 60).is_ok());
        assert_eq!(files.create("b", 60).err().unwrap().kind(), io::ErrorKind::StorageFull);
        files.prepare("c", 60);
        files.limit(None);
        files.prepare("c", 60);
        assert!(files.prepared().unwrap().1.is_err());
        assert!(files.prepared().unwrap().1.is_ok());
        assert!(files.prepared().is_none());
    }
}
