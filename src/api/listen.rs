//! The Unix socket's file. Whatever stands where it shall stand is kept, unless it is a socket that nobody listens on.

use std::ffi::OsString;
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// Longest path of a Unix socket, in bytes: what the system's address has room for, less the final zero.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why there is no Unix socket. What stands there was left alone.
#[derive(Debug, thiserror::Error)]
pub enum NoSocket {
    /// The system cannot name it.
    #[error(
        "the socket path {path} has {bytes} bytes, the system allows {SOCKET_PATH_BYTES_MAX}; choose a shorter data_dir or \
         socket path"
    )]
    PathTooLong {
        /// Which.
        path: PathBuf,
        /// How long it is.
        bytes: usize,
    },
    /// It would take the place of something else.
    #[error("api.socket: {} is there already and is no socket; choose another path", .0.display())]
    NotASocket(PathBuf),
    /// Somebody serves there.
    #[error("api.socket: {} is in use by another process; stop that one, or choose another path", .0.display())]
    InUse(PathBuf),
    /// The system refuses it.
    #[error("api.socket: {} cannot be made: {error}", path.display())]
    Refused {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The file of a socket that was made here.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    /// Removes the file, unless another one has taken its place.
    pub fn remove(self) -> io::Result<()> {
        match standing_at(&self.path)? {
            Some(metadata) if inode(&metadata) == self.inode => fs::remove_file(&self.path),
            _ => Ok(()),
        }
    }
}

/// Listens on a Unix socket that only this user may open (mode 0600). A socket left by an earlier process is replaced in
/// one step.
pub async fn unix_socket(path: &Path) -> Result<(UnixListener, SocketFile), NoSocket> {
    check(path).await?;
    let fresh = fresh_path(path);
    check(&fresh).await?;
    bind(path, &fresh).map_err(|error| NoSocket::Refused { path: path.to_owned(), error })
}

/// Whether a socket may be made there: nothing stands there, or a socket that nobody listens on.
pub async fn check(path: &Path) -> Result<(), NoSocket> {
    check_kind(path)?;
    if !matches!(standing_at(path), Ok(Some(_))) {
        return Ok(());
    }
    match UnixStream::connect(path).await {
        // A listener with more clients than it takes just now says "try again".
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(()),
        _ => Err(NoSocket::InUse(path.to_owned())),
    }
}

/// Whether nothing but a socket stands there, as far as can be seen. Disturbs nobody.
pub fn check_kind(path: &Path) -> Result<(), NoSocket> {
    let bytes = path.as_os_str().as_bytes().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        return Err(NoSocket::PathTooLong { path: path.to_owned(), bytes });
    }
    match standing_at(path) {
        Ok(Some(metadata)) if !metadata.file_type().is_socket() => Err(NoSocket::NotASocket(path.to_owned())),
        _ => Ok(()),
    }
}

fn bind(path: &Path, fresh: &Path) -> io::Result<(UnixListener, SocketFile)> {
    if standing_at(fresh)?.is_some() {
        fs::remove_file(fresh)?;
    }
    let listener = UnixListener::bind(fresh)?;
    fs::set_permissions(fresh, Permissions::from_mode(0o600))?;
    let inode = inode(&fs::symlink_metadata(fresh)?);
    fs::rename(fresh, path)?;
    Ok((listener, SocketFile { path: path.to_owned(), inode }))
}

/// What stands at a path, not followed if it is a link.
fn standing_at(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn inode(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Where the socket is made before it takes its place: beside it, under a name of the same length, so that the longest
/// path the system allows is allowed here too.
fn fresh_path(path: &Path) -> PathBuf {
    let mut bytes = path.as_os_str().as_bytes().to_vec();
    if let Some(last) = bytes.last_mut() {
        *last = if *last == b'~' { b'_' } else { b'~' };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("synod.sock");
        drop(unix_socket(&path).await.unwrap());
        drop(std::os::unix::net::UnixListener::bind(fresh_path(&path)).unwrap());
        let _listener = unix_socket(&path).await.unwrap();
        UnixStream::connect(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("member.key");
        for kept in [path.clone(), fresh_path(&path)] {
            fs::write(&kept, "a key").unwrap();
            let refusal = unix_socket(&path).await.unwrap_err();
            assert!(matches!(&refusal, NoSocket::NotASocket(named) if *named == kept), "{refusal}");
            assert_eq!(fs::read_to_string(&kept).unwrap(), "a key");
            fs::remove_file(&kept).unwrap();
        }
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert!(matches!(unix_socket(&path).await, Err(NoSocket::NotASocket(_))));
    }

    #[tokio::test]
    async fn a_socket_that_somebody_serves_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("synod.sock");
        let (listener, _) = unix_socket(&path).await.unwrap();
        assert!(matches!(unix_socket(&path).await, Err(NoSocket::InUse(_))));
        // The question itself is a client.
        listener.accept().await.unwrap();
        let client = UnixStream::connect(&path).await.unwrap();
        listener.accept().await.unwrap();
        drop(client);
    }

    #[tokio::test]
    async fn only_the_own_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("synod.sock");
        let (listener, earlier) = unix_socket(&path).await.unwrap();
        drop(listener);
        let (_listener, later) = unix_socket(&path).await.unwrap();
        earlier.remove().unwrap();
        UnixStream::connect(&path).await.unwrap();
        later.remove().unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn the_longest_path_can_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let rest = SOCKET_PATH_BYTES_MAX - folder.path().as_os_str().len() - 1;
        let path = folder.path().join("s".repeat(rest));
        let _listener = unix_socket(&path).await.unwrap();
        UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_refused_by_name() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(120)));
        let refusal = unix_socket(&path).await.unwrap_err().to_string();
        assert!(refusal.contains("125 bytes, the system allows 107"), "{refusal}");
    }
}
