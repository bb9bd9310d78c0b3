//! The Unix socket's file.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Longest path of a Unix socket, in bytes: what the system's address has room for, less the final zero.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why there is no Unix socket.
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
    /// The system refuses it.
    #[error("the socket {path} cannot be made: {error}")]
    Refused {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Listens on a Unix socket that only this user may open (mode 0600). A socket left by an earlier process is replaced in
/// one step; the lock on the data directory is what keeps two living processes apart.
pub fn unix_socket(path: &Path) -> Result<UnixListener, NoSocket> {
    let bytes = path.as_os_str().as_bytes().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        return Err(NoSocket::PathTooLong { path: path.to_owned(), bytes });
    }
    bind(path).map_err(|error| NoSocket::Refused { path: path.to_owned(), error })
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let fresh = fresh_path(path);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
    fs::rename(&fresh, path)?;
    Ok(listener)
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
        drop(unix_socket(&path).unwrap());
        let _listener = unix_socket(&path).unwrap();
        tokio::net::UnixStream::connect(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn the_longest_path_can_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let rest = SOCKET_PATH_BYTES_MAX - folder.path().as_os_str().len() - 1;
        let path = folder.path().join("s".repeat(rest));
        let _listener = unix_socket(&path).unwrap();
        tokio::net::UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_refused_by_name() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(120)));
        let refusal = unix_socket(&path).unwrap_err().to_string();
        assert!(refusal.contains("125 bytes, the system allows 107"), "{refusal}");
    }
}
