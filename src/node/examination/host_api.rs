//! What the host API needs of the file system: its token, and a place for its socket.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::{AccessFlags, access, geteuid};

use super::Finding;
use crate::api::listen;
use crate::node::settings::Api;
use crate::node::token;

const TOKEN: &str = "api.token_file";
const SOCKET: &str = "api.socket";

/// Looks at the token, if there is to be one. The member is of the user that has its directory, or else of this one; whether it
/// runs says whether it could read it.
pub fn token(api: &Api, data_dir: Option<&Path>, runs: bool) -> Option<Finding> {
    let path = api.token_file.as_deref()?;
    let owner = data_dir.and_then(|data_dir| fs::metadata(data_dir).ok()).map(|metadata| metadata.uid());
    let user = owner.unwrap_or(geteuid().as_raw());
    Some(judge_token(path, user, runs))
}

fn judge_token(path: &Path, user: u32, runs: bool) -> Finding {
    let advice =
        format!("without its token the member does not start: see that user {user} may read the file, and nobody else");
    match token::read_for(path, user) {
        Ok(_) if hidden(path, user) => {
            let what = format!("{} is not readable by user {user}, who has the data directory", path.display());
            Finding::fail(TOKEN, what, advice)
        }
        Ok(_) => Finding::ok(TOKEN, format!("{} holds a token that nobody else may read", path.display())),
        Err(reason) if runs => {
            Finding::warn(TOKEN, reason, "its member runs; if it is to start again, it must be able to read the file")
        }
        Err(reason) => Finding::fail(TOKEN, reason, advice),
    }
}

/// Whether somebody else's file shows nothing to the group, either. Root reads everything.
fn hidden(path: &Path, user: u32) -> bool {
    let closed = |metadata: fs::Metadata| metadata.uid() != user && metadata.permissions().mode() & 0o040 == 0;
    user != 0 && fs::metadata(path).is_ok_and(closed)
}

/// Looks at the place of the socket of a member that does not run.
pub async fn socket(api: &Api, data_dir: Option<&Path>) -> Option<Finding> {
    let path = &api.socket;
    if let Err(error) = listen::check(path).await {
        return Some(Finding::fail(SOCKET, error.to_string(), "until then the member does not start"));
    }
    let folder = match path.parent() {
        // What there is to say of the data directory is said of that.
        Some(folder) if data_dir == Some(folder) => return None,
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let access = access(folder, AccessFlags::W_OK | AccessFlags::X_OK).map_err(io::Error::from);
    Some(match access {
        Ok(()) => Finding::ok(SOCKET, format!("{} can be made", path.display())),
        Err(error) => Finding::fail(
            SOCKET,
            format!("{} cannot be made: {}: {error}", path.display(), folder.display()),
            "make that folder, for the member's user alone; or leave api.socket out: then it is in data_dir",
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use super::super::State;
    use super::*;

    fn api(folder: &Path) -> Api {
        Api {
            listen: "127.0.0.1:0".parse().unwrap(),
            socket: folder.join("synod.sock"),
            token_file: Some(folder.join("token")),
            publish_timeout: Duration::from_secs(10),
        }
    }

    #[test]
    fn a_token_that_the_member_cannot_use_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (api, path) = (api(folder.path()), folder.path().join("token"));
        let told = |runs| token(&api, Some(folder.path()), runs).unwrap();
        assert_eq!((told(false).state, told(true).state), (State::Fail, State::Warn), "there is none");
        fs::write(&path, "secret-1\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(told(false).what.contains("mode 0644"));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(told(false).state, State::Ok);
        let other = fs::metadata(&path).unwrap().uid() + 1;
        assert!(judge_token(&path, other, false).what.contains(&format!("not readable by user {other}")));
        fs::set_permissions(&path, Permissions::from_mode(0o440)).unwrap();
        assert_eq!(judge_token(&path, other, false).state, State::Ok, "by its group");
        assert_eq!(token(&Api { token_file: None, ..api }, None, false), None);
    }

    #[tokio::test]
    async fn a_socket_that_cannot_be_made_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut api = api(folder.path());
        assert_eq!(socket(&api, Some(folder.path())).await, None);
        assert_eq!(socket(&api, None).await.unwrap().state, State::Ok);
        let _served = UnixListener::bind(&api.socket).unwrap();
        let used = socket(&api, Some(folder.path())).await.unwrap();
        assert!(used.state == State::Fail && used.what.contains("in use by another process"), "{used:?}");
        api.socket = folder.path().join("run/synod.sock");
        let missing = socket(&api, Some(folder.path())).await.unwrap();
        assert!(missing.state == State::Fail && missing.advice.unwrap().contains("make that folder"));
    }
}
