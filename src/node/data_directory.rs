//! The data directory: one process at a time, with an identity.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Name of the lock file.
const LOCK_FILE: &str = "lock";

/// A data directory that is ours until this is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

/// Why a data directory cannot be used. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum DataDirectoryError {
    /// It is not there.
    #[error(
        "data_dir = \"{}\" does not exist: check data_dir, or make new members with `synod init`; a lost directory is a \
         lost identity",
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
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read = lock.read_to_string(&mut text);
                let holder = read.ok().and_then(|_| text.trim().parse().ok());
                return Err(DataDirectoryError::Locked { path: path.to_owned(), holder });
            }
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

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl DataDirectoryError {
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
        drop(held);
        DataDirectory::lock(directory.path()).unwrap();
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
