//! What the host API needs of the file system: its token, and a place for its socket.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::{AccessFlags, access, getegid, geteuid};

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
    let directory = data_dir.and_then(|data_dir| fs::metadata(data_dir).ok());
    let of_directory = directory.map(|metadata| Reader { user: metadata.uid(), group: metadata.gid() });
    let reader = of_directory.unwrap_or_else(|| Reader { user: geteuid().as_raw(), group: getegid().as_raw() });
    Some(judge_token(path, reader, runs))
}

/// Who is to read the token.
#[derive(Clone, Copy)]
struct Reader {
    user: u32,
    group: u32,
}

fn judge_token(path: &Path, reader: Reader, runs: bool) -> Finding {
    let way = token::read_for(path, reader.user).and_then(|_| {
        let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
        Ok(Way::of(metadata.permissions().mode(), metadata.uid(), metadata.gid(), reader))
    });
    let is_to_come = path.starts_with(CREDENTIALS) && !path.exists();
    match way {
        Err(_) if is_to_come && !runs => {
            let what = format!("{} is not there yet: the service manager puts it there with the start", path.display());
            Finding::ok(TOKEN, what)
        }
        way => judge_way(path, reader, way, runs),
    }
}

fn judge_way(path: &Path, reader: Reader, way: Result<Way, String>, runs: bool) -> Finding {
    let (user, file) = (reader.user, path.display());
    let ill = |what: String| match runs {
        true => {
            Finding::warn(TOKEN, what, "its member runs; if it is to start again, it must be able to read the file")
        }
        false => Finding::fail(
            TOKEN,
            what,
            format!(
                "without its token the member does not start: see that user {user} may read the file, and nobody else"
            ),
        ),
    };
    match way {
        Ok(Way::Own) => Finding::ok(TOKEN, format!("{file} holds a token that nobody else may read")),
        Ok(Way::Group(group)) if group == reader.group => {
            Finding::ok(TOKEN, format!("{file} holds a token that root lets group {group} read, the member's"))
        }
        Ok(Way::Group(group)) => {
            let what = format!("{file} is readable by group {group}, and the member's group may be another");
            match runs {
                true => Finding::ok(TOKEN, what),
                false => Finding::warn(TOKEN, what, format!("see that user {user} is of group {group}")),
            }
        }
        Ok(Way::Closed) => ill(format!("{file} is not readable by user {user}, who has the data directory")),
        Err(reason) => ill(reason),
    }
}

/// Where a service manager puts what it hands to a service that it starts.
const CREDENTIALS: &str = "/run/credentials";

/// By what a user may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As its owner, or as root, who reads everything.
    Own,
    /// As one of this group.
    Group(u32),
    /// By nothing.
    Closed,
}

impl Way {
    fn of(mode: u32, owner: u32, group: u32, reader: Reader) -> Way {
        if reader.user == 0 || reader.user == owner {
            Way::Own
        } else if mode & 0o040 != 0 {
            Way::Group(group)
        } else {
            Way::Closed
        }
    }
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
        assert_eq!(token(&Api { token_file: None, ..api.clone() }, None, false), None);
        let handed = Api { token_file: Some("/run/credentials/none.service/token".into()), ..api };
        let told = |runs| token(&handed, Some(folder.path()), runs).unwrap();
        assert_eq!((told(false).state, told(true).state), (State::Ok, State::Warn), "it comes with the start");
    }

    #[test]
    fn by_what_the_member_may_read_its_token_is_told() {
        let (reader, root) = (Reader { user: 1000, group: 1001 }, Reader { user: 0, group: 0 });
        assert_eq!(Way::of(0o600, 1000, 7, reader), Way::Own);
        assert_eq!(Way::of(0o400, 0, 7, root), Way::Own);
        assert_eq!(Way::of(0o440, 0, 7, reader), Way::Group(7));
        assert_eq!(Way::of(0o400, 0, 7, reader), Way::Closed);
        let told = |way, runs| judge_way(Path::new("token"), reader, Ok(way), runs);
        let states = |way| [told(way, false).state, told(way, true).state];
        assert_eq!(states(Way::Own), [State::Ok, State::Ok]);
        assert_eq!(states(Way::Group(1001)), [State::Ok, State::Ok]);
        assert_eq!(states(Way::Group(7)), [State::Warn, State::Ok], "one that runs could read it");
        assert!(told(Way::Group(7), true).what.contains("group 7, and the member's group may be another"));
        assert_eq!(states(Way::Closed), [State::Fail, State::Warn]);
        assert!(told(Way::Closed, false).what.contains("not readable by user 1000"));
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
