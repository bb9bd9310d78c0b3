//! A directory for a group that is not meant to last.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cmd::exit::Failure;
use crate::node::random;

/// A directory of its own, removed with all its content when this is dropped, unless it is kept.
pub struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    /// Makes one in the system's place for temporary files.
    pub fn make(purpose: &str) -> Result<Scratch, Failure> {
        let make = || {
            let number = u64::from_be_bytes(random::bytes()?);
            let path = std::env::temp_dir().join(format!("{}{number:016x}", prefix(purpose)));
            fs::create_dir(&path)?;
            path.canonicalize()
        };
        let path = make().map_err(|error: std::io::Error| {
            Failure::failed(format!("no directory can be made in {}: {error}", std::env::temp_dir().display()))
        })?;
        Ok(Scratch { path, keep: false })
    }

    /// Every directory made for that purpose that is still there, by whomever.
    pub fn all(purpose: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return Vec::new() };
        let named = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(&prefix(purpose));
        entries.flatten().filter(named).map(|entry| entry.path()).collect()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it where it is, for whoever wants to know what happened.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

fn prefix(purpose: &str) -> String {
    format!("synod-{purpose}-")
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed stays in the place for temporary files.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
