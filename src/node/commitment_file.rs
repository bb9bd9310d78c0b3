//! What a candidate is bound to, in its data directory, until there is a genesis (rule G1).

use std::fs;
use std::io;
use std::path::PathBuf;

use super::data_directory::DataDirectory;
use crate::types::commitment::NotACommitment;
use crate::types::{Commitment, CommitmentRecord};

/// Its name in the data directory.
pub const COMMITMENT_FILE: &str = "candidacy";

/// Why what a candidate is bound to is not known.
#[derive(Debug, thiserror::Error)]
pub enum CommitmentError {
    /// The file cannot be written.
    #[error(
        "what this candidate is bound to by now cannot be written: {0}; nobody was told of it: see to the disk, and start it \
         again with this data directory, from which it goes on"
    )]
    Unwritten(io::Error),
    /// The file cannot be read.
    #[error("{}: {error}; a candidate goes on only when it knows what it has promised", path.display())]
    Unread {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is as another release wrote it.
    #[error(
        "{}: written by another release: {error}. What this candidate has promised stands: run that release until there is a \
         group",
        path.display()
    )]
    OtherRelease {
        /// Which.
        path: PathBuf,
        /// Which version.
        error: NotACommitment,
    },
    /// The file is damaged.
    #[error(
        "{}: {error}. What this candidate has promised is lost, so this data directory takes part in no genesis any more: stop \
         the member, and start it again with an empty data directory",
        path.display()
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        error: NotACommitment,
    },
    /// It was made for a group of another name.
    #[error(
        "{}: this data directory is a candidate for the group `{theirs}`, and `cluster` says `{ours}`: set cluster = \"{theirs}\", \
         or start with an empty data directory",
        path.display()
    )]
    OtherGroup {
        /// Which.
        path: PathBuf,
        /// The name in the file.
        theirs: String,
        /// The name in the settings.
        ours: String,
    },
}

/// Reads what a candidate for that group is bound to.
pub fn read(directory: &DataDirectory, cluster: &str) -> Result<Commitment, CommitmentError> {
    match standing(directory)? {
        Some(record) if record.cluster != cluster => {
            let path = directory.path().join(COMMITMENT_FILE);
            Err(CommitmentError::OtherGroup { path, theirs: record.cluster, ours: cluster.to_owned() })
        }
        record => Ok(record.map_or(Commitment::Free, |record| record.commitment)),
    }
}

/// Reads the record of a candidate that is bound to something; durable, as far as it is read.
pub fn standing(directory: &DataDirectory) -> Result<Option<CommitmentRecord>, CommitmentError> {
    let path = directory.path().join(COMMITMENT_FILE);
    // G1: whoever wrote it may have died before the folder was synced, and what is read here is about to be told.
    let bytes = match directory.sync().and_then(|()| fs::read(&path)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CommitmentError::Unread { path, error }),
    };
    match CommitmentRecord::admit(&bytes) {
        Ok(record) => Ok(Some(record).filter(|record| record.commitment != Commitment::Free)),
        Err(error @ NotACommitment::OtherVersion(_)) => Err(CommitmentError::OtherRelease { path, error }),
        Err(error @ NotACommitment::Damaged(_)) => Err(CommitmentError::Damaged { path, error }),
    }
}

/// Writes it, durably, in place of what there was.
pub fn write(directory: &DataDirectory, record: &CommitmentRecord) -> Result<(), CommitmentError> {
    directory.store(COMMITMENT_FILE, record.encode()).map_err(CommitmentError::Unwritten)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown};

    use nix::unistd::{Uid, geteuid, setfsuid};

    use super::*;
    use crate::types::{ClusterLimits, FaultModelKind, Genesis, limits};

    fn genesis() -> Genesis {
        Genesis {
            name: "shop".to_owned(),
            nonce: [1; 16],
            model: FaultModelKind::Crash,
            rules_version: limits::RULES_VERSION,
            members: Vec::new(),
            limits: ClusterLimits::default(),
            voters_target: 3,
        }
    }

    fn record() -> CommitmentRecord {
        let (cluster, commitment) = ("shop".to_owned(), Commitment::Promised(genesis()));
        CommitmentRecord { version: limits::PROTOCOL_VERSION, cluster, commitment }
    }

    #[test]
    fn a_promise_is_read_back_and_damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::lock(folder.path()).unwrap();
        assert_eq!(read(&directory, "shop").unwrap(), Commitment::Free);
        let record = record();
        let promised = record.commitment.clone();
        write(&directory, &record).unwrap();
        assert_eq!(read(&directory, "shop").unwrap(), promised);
        let other = read(&directory, "shed").unwrap_err().to_string();
        assert!(other.contains("set cluster = \"shop\""), "{other}");
        let later = CommitmentRecord { version: limits::PROTOCOL_VERSION + 1, ..record };
        write(&directory, &later).unwrap();
        let told = read(&directory, "shop").unwrap_err().to_string();
        assert!(told.contains("written by another release") && told.contains("run that release"), "{told}");
        let path = folder.path().join(COMMITMENT_FILE);
        let mut bytes = fs::read(&path).unwrap();
        bytes[9] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(read(&directory, "shop"), Err(CommitmentError::Damaged { .. })));
    }

    /// Its file can be read, and its folder cannot be opened to be synced.
    #[test]
    fn a_promise_that_may_not_be_durable_is_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::lock(folder.path()).unwrap();
        write(&directory, &record()).unwrap();
        let us = geteuid();
        // The user of this thread: root could open any folder.
        let user = if us.is_root() { Uid::from_raw(65534) } else { us };
        for path in [folder.path().to_owned(), folder.path().join(COMMITMENT_FILE)] {
            if chown(path, Some(user.as_raw()), None).is_err() {
                eprintln!("NOT TRIED: root has no other users here");
                return;
            }
        }
        let as_user = |mode| {
            fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            setfsuid(user);
            let told = standing(&directory);
            setfsuid(us);
            told
        };
        assert_eq!(as_user(0o700).unwrap(), Some(record()));
        assert!(matches!(as_user(0o300), Err(CommitmentError::Unread { .. })));
        // To be removed, it has to be listed.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    }
}
