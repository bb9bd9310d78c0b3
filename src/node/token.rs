//! The token that requests over TCP must carry.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::geteuid;

/// Reads the file: one line, which only this user may read, or which root lets one group read. The error names the file and
/// what to do.
pub fn read(path: &Path) -> Result<String, String> {
    read_for(path, geteuid().as_raw())
}

/// The same for a client, which only shows it: root may show anybody's.
pub fn read_to_show(path: &Path) -> Result<String, String> {
    let user = geteuid().as_raw();
    let owner = fs::metadata(path).map_or(user, |metadata| metadata.uid());
    read_for(path, shows_as(user, owner))
}

/// For whom a file of that owner has to be meant, so that this user may show it.
fn shows_as(user: u32, owner: u32) -> u32 {
    if user == ROOT { owner } else { user }
}

/// The same for the user that it is meant for.
pub fn read_for(path: &Path, user: u32) -> Result<String, String> {
    let wrong = |what: String| format!("api.token_file = \"{}\": {what}", path.display());
    let metadata = fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if let Some(objection) = objection(mode, metadata.uid(), user) {
        return Err(wrong(objection));
    }
    let content = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let token = content.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("expected one line of printable characters without spaces".to_owned()));
    }
    Ok(token.to_owned())
}

const ROOT: u32 = 0;

/// What lets others have to do with the file than root and the user it is meant for. A file of root's may reach that user by
/// its group, to be read: so the files of an orchestrator (a secret under `fsGroup`) and of a service manager
/// (`LoadCredential`).
fn objection(mode: u32, owner: u32, user: u32) -> Option<String> {
    if owner != user && owner != ROOT {
        return Some(format!("is of user {owner}; give it to user {user} with mode 0600, or to root with mode 0440"));
    }
    let closed = if owner == ROOT { 0o037 } else { 0o077 };
    let wanted = if owner == user { "600" } else { "440" };
    (mode & closed != 0).then(|| format!("has mode {mode:04o}, which lets others in; run `chmod {wanted}` on it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_may_read_what_is_roots_and_nothing_else() {
        let taken = |mode, owner, user| objection(mode, owner, user).is_none();
        assert!(taken(0o440, 0, 1000), "a secret under fsGroup, a credential");
        assert!(taken(0o440, 0, 0) && taken(0o640, 0, 1000) && taken(0o400, 0, 1000) && taken(0o600, 1000, 1000));
        for (owner, user, modes) in [
            (1000, 1000, &[0o640, 0o660, 0o601][..]),
            (0, 1000, &[0o444, 0o606, 0o460, 0o420, 0o450]),
            (0, 0, &[0o460]),
            (1001, 1000, &[0o440, 0o600]),
            (1001, 0, &[0o600]),
        ] {
            for mode in modes {
                assert!(!taken(*mode, owner, user), "mode {mode:04o} of user {owner}, for user {user}");
            }
        }
        assert!(objection(0o444, 0, 1000).unwrap().contains("chmod 440"));
        assert!(objection(0o440, 1001, 1000).unwrap().contains("give it to user 1000"));
    }

    #[test]
    fn root_shows_the_token_of_anybody_and_nobody_else_does() {
        assert_eq!((shows_as(0, 1000), shows_as(1000, 1001), shows_as(1000, 0)), (1000, 1000, 1000));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "secret-1\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        // Root may have no other users, in a namespace of its own.
        if geteuid().is_root() && std::os::unix::fs::chown(&path, Some(1000), None).is_ok() {
            assert!(read(&path).unwrap_err().contains("is of user 1000"));
        }
        assert_eq!(read_to_show(&path).unwrap(), "secret-1");
    }

    #[test]
    fn a_token_is_one_line_that_only_its_owner_reads() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "secret-1\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&path).unwrap_err().contains("mode 0644"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&path).unwrap(), "secret-1");
        fs::write(&path, "two words").unwrap();
        assert!(read(&path).is_err());
    }
}
