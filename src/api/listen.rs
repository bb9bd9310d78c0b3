//! The Unix socket's file.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Longest path of a Unix socket, in bytes: what the system's address has room for, less the final zero.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// While a socket is made its path ends in this.
const FRESH: &str = ".new";

/// Why there is no Unix socket.
#[derive(Debug, thiserror::Error)]
pub enum NoSocket {
    /// The system cannot name it.
    #[error(
        "the socket path {path} has {bytes} bytes, the system allows {}; choose a shorter data_dir or socket path",
        SOCKET_PATH_BYTES_MAX - FRESH.len()
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
    if bytes + FRESH.len() > SOCKET_PATH_BYTES_MAX {
        return Err(NoSocket::PathTooLong { path: path.to_owned(), bytes });
    }
    bind(path).map_err(|error| NoSocket::Refused { path: path.to_owned(), error })
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(FRESH);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
    fs::rename(&fresh, path)?;
    Ok(listener)
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
    async fn a_path_that_is_too_long_is_refused_by_name() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(120)));
        let refusal = unix_socket(&path).unwrap_err().to_string();
        assert!(refusal.contains("125 bytes, the system allows 103"), "{refusal}");
    }
}
