//! Who this member is: `member.key` in its data directory.
//!
//! ```text
//! # comment lines
//! synod-member-key 1
//! member <64 hexadecimal digits: the ed25519 public key, the member's id>
//! secret <64 hexadecimal digits: the ed25519 secret key>
//! ```
//!
//! The file has mode 0600 and is never written again. A lost directory is a lost identity.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;

use super::random;
use crate::types::{Digest, MemberId};

/// Name of the file in the data directory.
pub const KEY_FILE: &str = "member.key";
const FORMAT: &str = "synod-member-key 1";

/// A member's key.
#[derive(Clone)]
pub struct Identity {
    key: SigningKey,
}

/// Why there is no usable key. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is none.
    #[error(
        "{} is missing: this directory has no identity. `synod init` makes a new group, `synod join` a new member of one \
         that there is; a lost key cannot be replaced, the member has to come back as a new one",
        .0.display()
    )]
    Missing(PathBuf),
    /// Others can read it.
    #[error("{} has mode {mode:04o}: others than its owner may read it; run `chmod 600` on it", path.display())]
    WidePermissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is no key file.
    #[error("{} is not a key file: {reason}; restore the original, it cannot be made again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// The system says no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl Identity {
    /// Draws a new one.
    pub fn draw() -> io::Result<Identity> {
        Ok(Identity { key: SigningKey::from_bytes(&random::bytes()?) })
    }

    /// The member's id.
    pub fn member(&self) -> MemberId {
        MemberId(self.key.verifying_key().to_bytes())
    }

    /// The key, for what this member signs.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The secret, for the mesh's handshake.
    pub fn secret(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// Writes the key into a data directory: the whole of it, or nothing. Never overwrites one.
    pub fn store(&self, data_dir: &Path) -> Result<(), IdentityError> {
        let path = data_dir.join(KEY_FILE);
        let failed = |error| IdentityError::Io { path: path.clone(), error };
        let text = format!(
            "# Secret key of a Synod member. Whoever has it is that member: never start a copy of it.\n\
             {FORMAT}\nmember {}\nsecret {}\n",
            self.member(),
            Digest(self.secret())
        );
        let unfinished = data_dir.join(format!("{KEY_FILE}.new"));
        // What a crash in the middle of this left was nobody's key yet.
        let _ = fs::remove_file(&unfinished);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        if path.exists() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        fs::rename(&unfinished, &path).map_err(failed)?;
        File::open(data_dir).and_then(|directory| directory.sync_all()).map_err(failed)
    }

    /// Reads the key of a data directory.
    pub fn load(data_dir: &Path) -> Result<Identity, IdentityError> {
        let path = data_dir.join(KEY_FILE);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => IdentityError::Missing(path.clone()),
            _ => IdentityError::Io { path: path.clone(), error },
        };
        let mode = fs::metadata(&path).map_err(failed)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::WidePermissions { path, mode });
        }
        let text = fs::read_to_string(&path).map_err(failed)?;
        Identity::parse(&text).map_err(|reason| IdentityError::Malformed { path, reason })
    }

    fn parse(text: &str) -> Result<Identity, &'static str> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        if lines.next() != Some(FORMAT) {
            return Err("its first line is not `synod-member-key 1`");
        }
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.trim().parse::<MemberId>().ok();
        let member = field("member ").ok_or("its second line is not `member` and 64 hexadecimal digits")?;
        let secret = field("secret ").ok_or("its third line is not `secret` and 64 hexadecimal digits")?;
        if lines.next().is_some() {
            return Err("it has more than three lines");
        }
        let identity = Identity { key: SigningKey::from_bytes(&secret.0) };
        if identity.member() == member { Ok(identity) } else { Err("the secret is not that member's") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let identity = Identity::draw().unwrap();
        identity.store(directory.path()).unwrap();
        assert_eq!(Identity::load(directory.path()).unwrap().member(), identity.member());
        fs::write(directory.path().join("member.key.new"), "half a key of anoth").unwrap();
        let again = Identity::draw().unwrap().store(directory.path());
        assert!(matches!(again, Err(IdentityError::Io { error, .. }) if error.kind() == io::ErrorKind::AlreadyExists));
        assert_eq!(Identity::load(directory.path()).unwrap().member(), identity.member());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        Identity::draw().unwrap().store(directory.path()).unwrap();
        let path = directory.path().join(KEY_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = Identity::load(directory.path()).err().unwrap();
        assert!(matches!(refused, IdentityError::WidePermissions { mode: 0o640, .. }), "{refused}");
    }

    #[test]
    fn damage_to_a_key_is_told() {
        let identity = Identity::draw().unwrap();
        let whole = format!("{FORMAT}\nmember {}\nsecret {}\n", identity.member(), Digest(identity.secret()));
        assert!(Identity::parse(&whole).is_ok());
        let other = Identity::draw().unwrap().member().to_string();
        for broken in [
            String::new(),
            whole.replace(" 1", " 2"),
            whole.replace(&identity.member().to_string(), &other),
            whole[..whole.len() - 2].to_owned(),
            format!("{whole}more\n"),
        ] {
            assert!(Identity::parse(&broken).is_err(), "{broken}");
        }
    }
}
