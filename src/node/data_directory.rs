//! The data directory: one process at a time, with an identity.

use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the lock file.
pub const LOCK_FILE: &str = "lock";
/// Longer than it takes to look whether a directory is in use.
const LOOK_MAX: Duration = Duration::from_millis(20);
/// Name of the file that says why the others refused this directory for good.
pub const REFUSED_FILE: &str = "refused";
/// Name of the file that says that its member is no member any more.
pub const DEPARTED_FILE: &str = "departed";

/// Where a member's log is in its data directory.
pub fn log_folder(data_dir: &Path) -> PathBuf {
    data_dir.join("wal")
}

/// A data directory that is ours until this is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

/// What keeps a data directory from ever being started again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// How its member came to be none any more.
    pub departed: Option<String>,
    /// Why the others refused it for good.
    pub refused: Option<String>,
}

/// Why a data directory cannot be used. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum DataDirectoryError {
    /// It is not there.
    #[error(
        "data_dir = \"{}\" does not exist: check data_dir; `synod init` makes a new group, `synod join` with a join code \
         makes a new member of one that there is (`synod invite` on a member prints a code, without one nobody gets in); a \
         lost directory is a lost identity",
        .0.display()
    )]
    Missing(PathBuf),
    /// It is something else.
    #[error("data_dir = \"{}\" is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Another process has it.
    #[error(
        "data_dir = \"{}\" is in use by {}: one process per data directory; stop that one first", path.display(),
        holder.map_or("another process".to_owned(), |holder| format!("process {holder}"))
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that wrote its number into the lock file.
        holder: Option<u32>,
    },
    /// The volume has no room.
    #[error("data_dir = \"{}\": its volume is full; free space on it and start again, nothing is lost", .0.display())]
    Full(PathBuf),
    /// Permissions do not suffice.
    #[error(
        "data_dir = \"{}\" cannot be read and written by this user: run as its owner, or `chown -R` it", .0.display()
    )]
    NotPermitted(PathBuf),
    /// The system says no.
    #[error("data_dir = \"{}\": {error}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl DataDirectory {
    /// Makes the directory if there is none, for a member to be, and locks it.
    pub fn make(path: &Path) -> Result<DataDirectory, DataDirectoryError> {
        let holders = holders(path);
        let sorted = |error| DataDirectoryError::sorted(path, error);
        fs::create_dir_all(path).map_err(sorted)?;
        holders.iter().try_for_each(|folder| sync_folder(folder)).map_err(sorted)?;
        DataDirectory::lock(path)
    }

    /// Locks the directory for this process.
    pub fn lock(path: &Path) -> Result<DataDirectory, DataDirectoryError> {
        let sorted = |error| DataDirectoryError::sorted(path, error);
        if !fs::metadata(path).map_err(sorted)?.is_dir() {
            return Err(DataDirectoryError::NotADirectory(path.to_owned()));
        }
        fs::read_dir(path).map_err(sorted)?;
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK_FILE))
            .map_err(sorted)?;
        match take(&lock, || std::thread::sleep(LOOK_MAX)) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataDirectoryError::locked(path)),
            Err(TryLockError::Error(error)) => return Err(sorted(error)),
        }
        // Also shows that the volume takes bytes at all.
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .and_then(|()| lock.sync_all())
            .map_err(sorted)?;
        Ok(DataDirectory { path: path.to_owned(), _lock: lock })
    }

    /// Fails if a process has the directory just now. Changes nothing.
    pub fn check_unused(path: &Path) -> Result<(), DataDirectoryError> {
        fs::read_dir(path).map_err(|error| DataDirectoryError::sorted(path, error))?;
        // Without a lock file nobody ever had it.
        let Ok(lock) = File::open(path.join(LOCK_FILE)) else { return Ok(()) };
        match lock.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Err(DataDirectoryError::locked(path)),
            _ => Ok(()),
        }
    }

    /// The process that last locked the directory, if that is known.
    pub fn holder(path: &Path) -> Option<u32> {
        fs::read_to_string(path.join(LOCK_FILE)).ok()?.trim().parse().ok()
    }

    /// How the member of a directory came to be none any more, and why the others refused the directory for good, as far as
    /// either happened. Needs no lock.
    pub fn marks(path: &Path) -> io::Result<Marks> {
        let words = |file: &str| match fs::read_to_string(path.join(file)) {
            Ok(words) => Ok(Some(words.trim_end().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        Ok(Marks { departed: words(DEPARTED_FILE)?, refused: words(REFUSED_FILE)? })
    }

    /// Why the others refused this directory for good, if they have.
    pub fn refused(&self) -> Result<Option<String>, DataDirectoryError> {
        Ok(self.own_marks()?.refused)
    }

    /// Writes down, durably, that the others refused this directory for good.
    pub fn mark_refused(&self, words: &str) -> io::Result<()> {
        self.store(REFUSED_FILE, format!("{words}\n"))
    }

    /// How its member came to be none any more, if it did.
    pub fn departed(&self) -> Result<Option<String>, DataDirectoryError> {
        Ok(self.own_marks()?.departed)
    }

    /// Writes down, durably, that its member has left or was removed.
    pub fn mark_departed(&self, words: &str) -> io::Result<()> {
        self.store(DEPARTED_FILE, format!("{words}\n"))
    }

    /// Writes a file, durably: the whole of it, or what there was before.
    pub fn store(&self, name: &str, content: impl AsRef<[u8]>) -> io::Result<()> {
        let (path, unfinished) = (self.path.join(name), self.path.join(format!("{name}.new")));
        let written = File::create(&unfinished).and_then(|mut file| {
            file.write_all(content.as_ref())?;
            file.sync_all()
        });
        written.map_err(|error| naming(&unfinished, error))?;
        fs::rename(&unfinished, &path).map_err(|error| naming(&path, error))?;
        self.sync().map_err(|error| naming(&self.path, error))
    }

    /// Makes durable which files are in it, by their names.
    pub fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn own_marks(&self) -> Result<Marks, DataDirectoryError> {
        DataDirectory::marks(&self.path).map_err(|error| DataDirectoryError::sorted(&self.path, error))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The same error, with the file that it is about.
fn naming(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The folders whose entries lead to `path`, up to the innermost that is there before it is made: until they are synced,
/// what is made in them may be gone after a crash, with everything in it.
fn holders(path: &Path) -> Vec<PathBuf> {
    let mut holders = Vec::new();
    for folder in path.ancestors().skip(1) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        holders.push(folder.to_owned());
        if folder.exists() {
            break;
        }
    }
    holders
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder) {
        Ok(folder) => folder.sync_all(),
        // Who may not read a folder did not make what is in it: whoever did has seen to that.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes the lock, at the second attempt if need be: whoever only looks ([`DataDirectory::check_unused`]) has it for a moment.
fn take(lock: &File, pause: impl FnOnce()) -> Result<(), TryLockError> {
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => {
            pause();
            lock.try_lock()
        }
        outcome => outcome,
    }
}

impl DataDirectoryError {
    fn locked(path: &Path) -> DataDirectoryError {
        DataDirectoryError::Locked { path: path.to_owned(), holder: DataDirectory::holder(path) }
    }

    fn sorted(path: &Path, error: io::Error) -> DataDirectoryError {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => DataDirectoryError::Missing(path),
            io::ErrorKind::NotADirectory => DataDirectoryError::NotADirectory(path),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DataDirectoryError::Full(path),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                DataDirectoryError::NotPermitted(path)
            }
            _ => DataDirectoryError::Io { path, error },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_names_the_holder() {
        let directory = tempfile::tempdir().unwrap();
        let held = DataDirectory::lock(directory.path()).unwrap();
        let refused = DataDirectory::lock(directory.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        assert!(matches!(DataDirectory::check_unused(directory.path()), Err(DataDirectoryError::Locked { .. })));
        drop(held);
        DataDirectory::check_unused(directory.path()).unwrap();
        DataDirectory::lock(directory.path()).unwrap();
    }

    #[test]
    fn who_only_looks_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(LOCK_FILE);
        let (looking, lock) = (File::create(&path).unwrap(), File::open(&path).unwrap());
        looking.try_lock_shared().unwrap();
        assert!(matches!(take(&lock, || ()), Err(TryLockError::WouldBlock)));
        take(&lock, || drop(looking)).unwrap();
    }

    #[test]
    fn a_refusal_stays() {
        let directory = tempfile::tempdir().unwrap();
        let held = DataDirectory::lock(directory.path()).unwrap();
        assert_eq!(held.refused().unwrap(), None);
        held.mark_refused("stale_disk: it is old").unwrap();
        drop(held);
        let held = DataDirectory::lock(directory.path()).unwrap();
        assert_eq!(held.refused().unwrap().as_deref(), Some("stale_disk: it is old"));
        assert_eq!(held.departed().unwrap(), None);
        held.mark_departed("it left").unwrap();
        assert_eq!(held.departed().unwrap().as_deref(), Some("it left"));
    }

    #[test]
    fn a_file_is_whole_or_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let held = DataDirectory::make(&directory.path().join("new/data")).unwrap();
        held.store("a", "one").unwrap();
        // As after a crash in the middle of writing.
        fs::write(held.path().join("a.new"), "tw").unwrap();
        assert_eq!(fs::read_to_string(held.path().join("a")).unwrap(), "one");
        held.store("a", "two").unwrap();
        assert_eq!(fs::read_to_string(held.path().join("a")).unwrap(), "two");
        assert!(!held.path().join("a.new").exists());
    }

    #[test]
    fn every_folder_that_leads_to_a_new_directory_is_synced() {
        let directory = tempfile::tempdir().unwrap();
        let (there, new) = (directory.path().to_owned(), directory.path().join("new"));
        assert_eq!(holders(&new.join("data")), [new.clone(), there.clone()]);
        assert_eq!(holders(&new), std::slice::from_ref(&there));
        fs::create_dir(&new).unwrap();
        assert_eq!(holders(&new), [there], "whoever made it may have died before it was synced");
        assert_eq!(holders(Path::new("no such/data")), [Path::new("no such"), Path::new(".")]);
        assert_eq!(holders(Path::new("/")), [] as [&Path; 0]);
    }

    #[test]
    fn what_is_no_directory_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("nothing");
        assert!(matches!(DataDirectory::lock(&missing), Err(DataDirectoryError::Missing(_))));
        std::fs::write(&missing, "file").unwrap();
        assert!(matches!(DataDirectory::lock(&missing), Err(DataDirectoryError::NotADirectory(_))));
    }
}
