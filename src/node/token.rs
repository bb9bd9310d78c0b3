//! The token that requests over TCP must carry.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::geteuid;

/// Reads the file: one line, which only this user may read. The error names the file and what to do.
pub fn read(path: &Path) -> Result<String, String> {
    read_for(path, geteuid().as_raw())
}

/// The same for the user that it is meant for.
pub fn read_for(path: &Path, user: u32) -> Result<String, String> {
    let wrong = |what: String| format!("api.token_file = \"{}\": {what}", path.display());
    let metadata = fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if is_too_open(mode, metadata.uid(), user) {
        return Err(wrong(format!("has mode {mode:04o}, others than its owner may read it; run `chmod 600` on it")));
    }
    let content = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let token = content.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("expected one line of printable characters without spaces".to_owned()));
    }
    Ok(token.to_owned())
}

/// Whether others may have to do with the file than the user it is meant for. A file of somebody else's reaches that user by
/// its group: so the files of an orchestrator (a secret under `fsGroup`) and of a service manager (`LoadCredential`).
fn is_too_open(mode: u32, owner: u32, user: u32) -> bool {
    let group = if owner == user { 0o070 } else { 0 };
    mode & (group | 0o007) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_may_read_what_is_somebody_elses() {
        assert!(is_too_open(0o640, 1000, 1000) && is_too_open(0o660, 1000, 1000));
        assert!(!is_too_open(0o440, 0, 1000), "a secret under fsGroup");
        assert!(is_too_open(0o444, 0, 1000) && is_too_open(0o601, 1000, 1000) && is_too_open(0o606, 0, 1000));
        assert!(!is_too_open(0o600, 1000, 1000) && !is_too_open(0o400, 0, 1000));
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
