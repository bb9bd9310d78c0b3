//! One member's files: the log's own in-memory files, with every write and sync counted as an effect and timed.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::shell::{Effect, ShellHandle};
use crate::wal::{Files, LogFile, MemoryFile, MemoryFiles};

/// The folder of one member.
pub struct Disk {
    files: MemoryFiles,
    shell: ShellHandle,
    /// Files that were renamed: a handle keeps the name it was opened with.
    names: Names,
}

type Names = Arc<Mutex<BTreeMap<String, String>>>;

/// An open file of it.
pub struct DiskHandle {
    file: MemoryFile,
    shell: ShellHandle,
    name: String,
    names: Names,
    /// Written and not synced.
    written: Vec<(u64, Vec<u8>)>,
    /// It was there before, and this process has not written to it.
    untouched: bool,
}

impl Disk {
    /// The folder as a new process finds it.
    pub fn new(files: MemoryFiles, shell: ShellHandle) -> Disk {
        Disk { files, shell, names: Names::default() }
    }

    fn handle(&self, name: &str, file: MemoryFile, untouched: bool) -> DiskHandle {
        let (shell, names) = (self.shell.clone(), self.names.clone());
        DiskHandle { file, shell, name: name.to_owned(), names, written: Vec::new(), untouched }
    }

    fn note_full(&self, error: Option<&io::Error>) {
        if error.is_some_and(|error| error.kind() == io::ErrorKind::StorageFull) {
            self.shell.lock().full = true;
        }
    }
}

impl Files for Disk {
    type File = DiskHandle;
    type Reader = <MemoryFiles as Files>::Reader;

    fn list(&mut self) -> io::Result<Vec<String>> {
        self.files.list()
    }

    fn open(&mut self, name: &str) -> io::Result<DiskHandle> {
        let file = self.files.open(name)?;
        Ok(self.handle(name, file, true))
    }

    fn create(&mut self, name: &str, size: u64) -> io::Result<DiskHandle> {
        self.shell.lock().writes()?;
        let created = self.files.create(name, size);
        self.note_full(created.as_ref().err());
        Ok(self.handle(name, created?, false))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.shell.lock().writes()?;
        self.files.rename(from, to)?;
        self.names.lock().expect("nothing panics while it holds this").insert(from.to_owned(), to.to_owned());
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.shell.lock().writes()?;
        self.files.remove(name)
    }

    fn prepare(&mut self, name: &str, size: u64) {
        self.files.prepare(name, size);
    }

    fn prepared(&mut self) -> Option<(String, io::Result<()>)> {
        let (name, made) = self.files.prepared()?;
        self.note_full(made.as_ref().err());
        Some((name, made))
    }

    fn reader(&self) -> Self::Reader {
        self.files.reader()
    }
}

impl LogFile for DiskHandle {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.shell.lock().writes()?;
        self.file.write_at(bytes, offset)?;
        self.written.push((offset, bytes.to_vec()));
        self.untouched = false;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut shell = self.shell.lock();
        shell.syncs()?;
        self.file.sync()?;
        let names = self.names.lock().expect("nothing panics while it holds this");
        let file = names.get(&self.name).unwrap_or(&self.name);
        if std::mem::take(&mut self.untouched) {
            let mut contents = vec![0; self.file.size()? as usize];
            self.file.read_at(&mut contents, 0)?;
            shell.note(Effect::Settled { file: file.clone(), contents });
        }
        for (offset, bytes) in self.written.drain(..) {
            shell.note(Effect::Durable { file: file.clone(), offset, bytes });
        }
        Ok(())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(bytes, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        self.shell.lock().writes()?;
        self.file.truncate(size)
    }
}
