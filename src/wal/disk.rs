//! The real files: a folder, positional reads and writes, and one thread that makes spares.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use super::direct::Direct;
use super::files::{Files, LogFile, ReadFiles};
use super::spares::UNFINISHED;
use crate::types::limits;

/// Zeros are written in pieces of this many bytes.
const ZEROS_BYTES: usize = 1 << 20;
/// After a failed attempt to make a spare the next one waits this long: a full disk is not asked without pause.
const PREPARE_PAUSE: Duration = Duration::from_secs(1);

/// A folder on disk. Dropping it ends the thread that makes spares.
pub struct DiskFiles {
    folder: PathBuf,
    worker: Option<Worker>,
}

impl DiskFiles {
    /// The log in this folder. Nothing is touched yet; the folder is made when the first file is.
    pub fn new(folder: impl Into<PathBuf>) -> DiskFiles {
        DiskFiles { folder: folder.into(), worker: None }
    }
}

impl Files for DiskFiles {
    type File = DiskFile;
    type Reader = DiskReader;

    fn list(&mut self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            // A name that is not text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn open(&mut self, name: &str) -> io::Result<DiskFile> {
        open_to_write(&self.folder.join(name))
    }

    fn create(&mut self, name: &str, size: u64) -> io::Result<DiskFile> {
        make_zeros(&self.folder, name, size, &AtomicBool::new(false))?;
        self.open(name)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.folder.join(from), self.folder.join(to))?;
        sync_folder(&self.folder)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.folder.join(name))?;
        sync_folder(&self.folder)
    }

    fn prepare(&mut self, name: &str, size: u64) {
        let worker = self.worker.get_or_insert_with(|| Worker::start(self.folder.clone()));
        worker.ask(name.to_owned(), size);
    }

    fn prepared(&mut self) -> Option<(String, io::Result<()>)> {
        self.worker.as_ref()?.done.try_recv().ok()
    }

    fn reader(&self) -> DiskReader {
        // With a cache of its own: a name whose file was replaced since is opened anew.
        DiskReader { folder: self.folder.clone(), open: Arc::default() }
    }
}

/// An open segment.
pub struct DiskFile {
    file: File,
    /// For what is appended, where the file system has it.
    direct: Option<Direct>,
}

impl LogFile for DiskFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match &mut self.direct {
            Some(direct) => direct.append(bytes, offset, &self.file),
            None => self.file.write_all_at(bytes, offset),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        self.direct = None; // the last block may not be whole from here on
        self.file.set_len(size)
    }
}

/// Reads segments by name and keeps the files open. The lock is held for a look-up, never for a read.
#[derive(Clone)]
pub struct DiskReader {
    folder: PathBuf,
    open: Arc<RwLock<BTreeMap<String, Arc<File>>>>,
}

impl DiskReader {
    fn file(&self, name: &str) -> io::Result<Arc<File>> {
        if let Some(file) = self.open.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(file.clone());
        }
        let file = Arc::new(File::open(self.folder.join(name))?);
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= limits::READER_FILES {
            open.pop_first();
        }
        open.insert(name.to_owned(), file.clone());
        Ok(file)
    }
}

impl ReadFiles for DiskReader {
    fn read_at(&self, name: &str, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file(name)?.read_exact_at(bytes, offset)
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        Ok(self.file(name)?.metadata()?.len())
    }
}

/// The thread that makes spares, one after the other. It ends when it is dropped, in the middle of a file if need be.
struct Worker {
    orders: Option<Sender<(String, u64)>>,
    done: Receiver<(String, io::Result<()>)>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(folder: PathBuf) -> Worker {
        let (orders, inbox) = mpsc::channel();
        let (outbox, done) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("wal-spares".to_owned())
            .spawn(move || make_spares(&folder, &inbox, &outbox, &stopped));
        // Without the thread the inbox is gone: every order then reports a failure.
        Worker { orders: Some(orders), done, stop, thread: thread.ok() }
    }

    fn ask(&mut self, name: String, size: u64) {
        let orders = self.orders.as_ref().expect("taken only by drop");
        if let Err(mpsc::SendError((name, _))) = orders.send((name, size)) {
            let (outbox, done) = mpsc::channel();
            let error = io::Error::other("the thread that makes spare segments could not be started");
            outbox.send((name, Err(error))).expect("its receiver is the next line's");
            self.done = done;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic of the thread was reported by the thread.
            let _ = thread.join();
        }
    }
}

fn make_spares(
    folder: &Path,
    inbox: &Receiver<(String, u64)>,
    outbox: &Sender<(String, io::Result<()>)>,
    stop: &AtomicBool,
) {
    let mut failed = false;
    while let Ok((name, size)) = inbox.recv() {
        if failed && !stop.load(Ordering::Relaxed) {
            std::thread::park_timeout(PREPARE_PAUSE);
        }
        let made = make_zeros(folder, &name, size, stop);
        failed = made.is_err();
        if outbox.send((name, made)).is_err() {
            return;
        }
    }
}

/// Writes a file of zeros under another name and renames it when it is durable: a spare is whole, or not there.
fn make_zeros(folder: &Path, name: &str, size: u64, stop: &AtomicBool) -> io::Result<()> {
    make_folder(folder)?;
    let unfinished = folder.join(format!("{name}{UNFINISHED}"));
    let made = write_zeros(&unfinished, size, stop)
        .and_then(|()| fs::rename(&unfinished, folder.join(name)))
        .and_then(|()| sync_folder(folder));
    if made.is_err() {
        // Room taken by a half-made file would keep a full disk full; that it is perhaps not there is fine.
        let _ = fs::remove_file(&unfinished);
    }
    made
}

fn write_zeros(path: &Path, size: u64, stop: &AtomicBool) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    let zeros = vec![0; ZEROS_BYTES];
    let mut offset = 0;
    while offset < size {
        if stop.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped"));
        }
        let piece = (size - offset).min(ZEROS_BYTES as u64);
        file.write_all_at(&zeros[..piece as usize], offset)?;
        offset += piece;
    }
    file.sync_all()
}

fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => Ok(()),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn open_to_write(path: &Path) -> io::Result<DiskFile> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    Ok(DiskFile { file, direct: Direct::open(path)? })
}
