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
    /// The file cannot be read or written.
    #[error("{}: {error}; a candidate goes on only when it knows what it has promised", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
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

/// Reads what the candidate is bound to: nothing, if there is no file.
pub fn read(directory: &DataDirectory, cluster: &str) -> Result<Commitment, CommitmentError> {
    let path = directory.path().join(COMMITMENT_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Commitment::Free),
        Err(error) => return Err(CommitmentError::Io { path, error }),
    };
    let record = match CommitmentRecord::admit(&bytes) {
        Ok(record) => record,
        Err(error) => return Err(CommitmentError::Damaged { path, error }),
    };
    if record.cluster != cluster && record.commitment != Commitment::Free {
        return Err(CommitmentError::OtherGroup { path, theirs: record.cluster, ours: cluster.to_owned() });
    }
    Ok(record.commitment)
}

/// Writes it, durably, in place of what there was.
pub fn write(directory: &DataDirectory, record: &CommitmentRecord) -> Result<(), CommitmentError> {
    directory
        .store(COMMITMENT_FILE, record.encode())
        .map_err(|error| CommitmentError::Io { path: directory.path().join(COMMITMENT_FILE), error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClusterLimits, FaultModelKind, Genesis, limits};

    #[test]
    fn a_promise_is_read_back_and_damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::lock(folder.path()).unwrap();
        assert_eq!(read(&directory, "shop").unwrap(), Commitment::Free);
        let genesis = Genesis {
            name: "shop".to_owned(),
            nonce: [1; 16],
            model: FaultModelKind::Crash,
            rules_version: limits::RULES_VERSION,
            members: Vec::new(),
            limits: ClusterLimits::default(),
            voters_target: 3,
        };
        let promised = Commitment::Promised(genesis);
        let cluster = "shop".to_owned();
        let record = CommitmentRecord { version: limits::PROTOCOL_VERSION, cluster, commitment: promised.clone() };
        write(&directory, &record).unwrap();
        assert_eq!(read(&directory, "shop").unwrap(), promised);
        let other = read(&directory, "shed").unwrap_err().to_string();
        assert!(other.contains("set cluster = \"shop\""), "{other}");
        let path = folder.path().join(COMMITMENT_FILE);
        let mut bytes = fs::read(&path).unwrap();
        bytes[9] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(read(&directory, "shop"), Err(CommitmentError::Damaged { .. })));
    }
}
