//! The token that requests over TCP must carry.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Reads the file: one line, readable by its owner only. The error names the file and what to do.
pub fn read(path: &Path) -> Result<String, String> {
    let wrong = |what: String| format!("api.token_file = \"{}\": {what}", path.display());
    let metadata = fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(wrong(format!("has mode {mode:04o}, others than its owner may read it; run `chmod 600` on it")));
    }
    let content = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let token = content.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("expected one line of printable characters without spaces".to_owned()));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
