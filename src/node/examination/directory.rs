//! The data directory, looked at without a lock and without a change: whether it can be used, by whom it is, and what it
//! says of its member.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::unistd::{AccessFlags, access};

use super::Finding;
use super::disk::size;
use super::holders::process_name;
use crate::driver::log_owner;
use crate::node::commitment_file::COMMITMENT_FILE;
use crate::node::contacts_file::{self, CONTACTS_FILE};
use crate::node::data_directory::{
    DEPARTED_FILE, DataDirectory, DataDirectoryError, LOCK_FILE, Marks, REFUSED_FILE, log_folder,
};
use crate::node::genesis_file::GENESIS_FILE;
use crate::node::identity::{Identity, IdentityError, KEY_FILE};
use crate::types::{ClusterId, Contact, Digest, MemberId};
use crate::wal::{DiskFiles, Glance, OpenError, glance};

/// A file that is dated further ahead than this was written under another clock.
const AHEAD_MAX: Duration = Duration::from_secs(2);

/// What is looked at, and what is known of it already.
pub struct Place<'a> {
    /// The data directory.
    pub data_dir: &'a Path,
    /// The group whose genesis there is.
    pub cluster: Option<ClusterId>,
    /// Whether the member of this directory answers.
    pub answers: bool,
    /// Whether the member is to found a group with others: its directory and its key are made at its first start.
    pub founds: bool,
}

/// What the directory gave.
pub struct Examined {
    /// What was found.
    pub findings: Vec<Finding>,
    /// Whether it is a directory that this user may read and write.
    pub usable: bool,
    /// Its key, if that can be used.
    pub identity: Option<Identity>,
    /// Where its member was told that the others are.
    pub contacts: Vec<Contact>,
    /// Whether a process has it, and which one as far as that is known.
    pub held: Option<Held>,
}

/// A process has the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its number, as it wrote it down.
    pub process: Option<u32>,
}

/// Looks at everything in the directory.
pub fn examine(place: &Place) -> Examined {
    let access = access(place.data_dir, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK);
    let finding = directory(place, fs::metadata(place.data_dir), access.map_err(io::Error::from));
    let usable = fs::metadata(place.data_dir).is_ok_and(|metadata| metadata.is_dir()) && access.is_ok();
    let mut examined = Examined { findings: vec![finding], usable, identity: None, contacts: Vec::new(), held: None };
    if usable {
        examined.look_inside(place);
    }
    examined
}

impl Examined {
    fn look_inside(&mut self, place: &Place) {
        let (held, finding) = lock(place);
        self.held = held;
        self.findings.push(finding);
        match Identity::load(place.data_dir) {
            Ok(identity) => {
                self.findings.push(Finding::ok(KEY_FILE, format!("mode 0600, member {}", identity.member())));
                self.identity = Some(identity);
            }
            Err(IdentityError::Missing(_)) if place.founds => {
                self.findings.push(Finding::ok(KEY_FILE, "none yet: it is drawn at the first start"));
            }
            Err(error) => self.findings.push(no_key(&error)),
        }
        // One that runs could read what it needed.
        self.findings.extend(owners(place.data_dir).filter(|_| !place.answers));
        self.findings.extend(marks(place.data_dir, DataDirectory::marks(place.data_dir)));
        match contacts_file::read(place.data_dir) {
            Ok(contacts) => self.contacts = contacts,
            Err(error) => {
                let what = format!("{}: {}", error.path.display(), error.reason);
                let advice = "remove it if those that the genesis names still are where they were, or restore it";
                self.findings.push(Finding::fail("contacts", what, advice));
            }
        }
        let member = self.identity.as_ref().map(Identity::member);
        let owner = place.cluster.as_ref().zip(member.as_ref()).map(|(cluster, member)| log_owner(cluster, member));
        let folder = log_folder(place.data_dir);
        self.findings.push(log(glance(DiskFiles::new(&folder)), owner));
        self.findings.extend(dated(newest(&folder), SystemTime::now()));
    }
}

const DIRECTORY: &str = "data directory";

/// What stands there, and whether this user may use it.
fn directory(place: &Place, metadata: io::Result<Metadata>, access: io::Result<()>) -> Finding {
    let path = place.data_dir.display();
    let metadata = match metadata {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound && place.founds => {
            return Finding::ok(DIRECTORY, format!("{path} does not exist yet: it is made at the first start"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let advice = "check data_dir; `synod init` makes a new group, `synod join` with a join code a new member of one \
                          that there is; a lost directory is a lost identity, which never comes back";
            return Finding::fail(DIRECTORY, format!("{path} does not exist"), advice);
        }
        Err(error) => {
            return Finding::fail(
                DIRECTORY,
                format!("{path}: {error}"),
                "see to the path; run this as the member's user",
            );
        }
    };
    if !metadata.is_dir() {
        let advice = "set data_dir to the directory of this member's key and log";
        return Finding::fail(DIRECTORY, format!("{path} is no directory"), advice);
    }
    let (mode, owner) = (metadata.permissions().mode() & 0o7777, metadata.uid());
    let what = format!("{path}, mode {mode:04o}, of user {owner}");
    match access {
        Err(error) if place.answers => Finding::warn(
            DIRECTORY,
            format!("{what}: {error}; its files are not examined"),
            "its member runs; to have the files examined, run this as the same user",
        ),
        Err(error) => Finding::fail(
            DIRECTORY,
            format!("{what}: cannot be read and written by this user: {error}"),
            "run as its owner, or `chown -R` it to the user that the member runs as",
        ),
        Ok(()) if mode & 0o002 != 0 => Finding::warn(
            DIRECTORY,
            what,
            format!("everybody on this machine may replace the key and the log: `chmod o-w {path}`"),
        ),
        Ok(()) => Finding::ok(DIRECTORY, what),
    }
}

/// What to say where the sidecar that answers has another directory than the configuration names: nothing that is in the
/// latter is the member's, and to find it well, or missing, would mean nothing.
pub fn elsewhere(named: &Path, used: &Path) -> Option<Finding> {
    let place = |path: &Path| fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    let differ = match (place(named), place(used)) {
        (Ok(named), Ok(used)) => named != used,
        _ => named != used,
    };
    differ.then(|| {
        let (named, used) = (named.display(), used.display());
        let what = format!("the sidecar uses {used}, the configuration here names {named}: neither is examined");
        let advice = format!(
            "give this command the file, the flags and the environment that the sidecar was started with, at least --data-dir \
             {used}: a service manager may set what no file says"
        );
        Finding::warn(DIRECTORY, what, advice)
    })
}

/// What a member keeps in its directory beside its log.
const KEPT: &[&str] = &[KEY_FILE, LOCK_FILE, GENESIS_FILE, CONTACTS_FILE, COMMITMENT_FILE, DEPARTED_FILE, REFUSED_FILE];

/// Files of another user than the directory's, who may not be able to read or write them.
fn owners(data_dir: &Path) -> Option<Finding> {
    let owner = fs::metadata(data_dir).ok()?.uid();
    let kept = kept(data_dir).into_iter();
    strangers(data_dir, owner, kept.filter_map(|path| Some((fs::metadata(&path).ok()?.uid(), path))))
}

/// The files that a member uses. What else is there is not its own: a volume has a `lost+found` of root's.
fn kept(data_dir: &Path) -> Vec<PathBuf> {
    let log = log_folder(data_dir);
    let segments = fs::read_dir(&log).into_iter().flatten().flatten().map(|entry| entry.path());
    let segments = segments.filter(|path| path.is_file()).collect::<Vec<_>>();
    let named = KEPT.iter().map(|name| data_dir.join(name)).chain([log]);
    named.filter(|path| path.exists()).chain(segments).collect()
}

fn strangers(data_dir: &Path, owner: u32, files: impl Iterator<Item = (u32, PathBuf)>) -> Option<Finding> {
    let mut others = files.filter(|(user, _)| *user != owner);
    let (user, path) = others.next()?;
    let more = match others.count() {
        0 => String::new(),
        count => format!(", and {count} more are not the directory's user's"),
    };
    let what = format!("{} is of user {user}, the directory of user {owner}{more}", path.display());
    let advice = format!("`chown -R {owner} {}`, if that is the user the member runs as", data_dir.display());
    Some(Finding::fail("owner", what, advice))
}

const LOCK: &str = "lock";

fn lock(place: &Place) -> (Option<Held>, Finding) {
    match DataDirectory::check_unused(place.data_dir) {
        Ok(()) if place.answers => {
            let advice = "the sidecar that answers uses another directory than this configuration names: give this command \
                          the configuration that it was started with";
            (None, Finding::fail(LOCK, "no process has the directory, though its member answers", advice))
        }
        Ok(()) => (None, Finding::ok(LOCK, "no process has the directory")),
        Err(DataDirectoryError::Locked { holder, .. }) => {
            (Some(Held { process: holder }), held(holder, holder.and_then(process_name), place.answers))
        }
        Err(error) => (None, Finding::fail(LOCK, error.to_string(), "run this as the directory's owner")),
    }
}

fn held(holder: Option<u32>, name: Option<String>, answers: bool) -> Finding {
    let who = match (holder, name) {
        (Some(process), Some(name)) => format!("process {process} ({name})"),
        (Some(process), None) => format!("a process that calls itself {process}, which is none here"),
        (None, _) => "a process that has not told its number".to_owned(),
    };
    if answers {
        return Finding::ok(LOCK, format!("{who} has the directory"));
    }
    let advice = "one process at a time: if that one is this member, it starts, or hangs, or listens elsewhere than this \
                  configuration says (see its log); if it is anything else, stop it";
    Finding::fail(LOCK, format!("{who} has the directory, and no sidecar answers"), advice)
}

fn no_key(error: &IdentityError) -> Finding {
    let (what, advice) = match error {
        IdentityError::Missing(path) => (
            format!("{} is missing", path.display()),
            "`synod init` makes a new group, `synod join` a new member of one that there is; a lost key cannot be replaced"
                .to_owned(),
        ),
        IdentityError::WidePermissions { path, mode } => (
            format!("{} has mode {mode:04o}: others than its owner may read it", path.display()),
            format!("`chmod 600 {}`; who has read it can pose as this member", path.display()),
        ),
        IdentityError::Malformed { path, reason } => (
            format!("{} is no key file: {reason}", path.display()),
            "restore the original; it cannot be made again".to_owned(),
        ),
        IdentityError::Io { path, error } => {
            (format!("{}: {error}", path.display()), "run as its owner; the file belongs to the member's user".to_owned())
        }
    };
    Finding::fail(KEY_FILE, what, advice)
}

fn marks(data_dir: &Path, marks: io::Result<Marks>) -> Vec<Finding> {
    let anew = "this directory is never started again: to come back, `synod join` with a new data directory, by a code of \
                `synod invite` on a member";
    match marks {
        Ok(Marks { departed, refused }) => {
            let departed = departed.map(|words| Finding::fail("departed", words, anew));
            let refused = refused.map(|words| {
                let advice = "start the member on its newest directory; if that is lost, so is this identity: join with a \
                              new one, by a code of `synod invite` on a member";
                Finding::fail("refused", words, advice)
            });
            departed.into_iter().chain(refused).collect()
        }
        Err(error) => {
            let what = format!("the marks in {} cannot be read: {error}", data_dir.display());
            vec![Finding::fail("departed", what, "run this as the directory's owner")]
        }
    }
}

const LOG: &str = "log";

/// Judges a glance at the log. `owner` is whose it must be.
fn log(glance: Result<Glance, OpenError>, owner: Option<Digest>) -> Finding {
    let glance = match glance {
        Ok(glance) => glance,
        Err(OpenError::Folder(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Finding::ok(LOG, "none yet: this member was never started");
        }
        Err(error) => {
            return Finding::fail(
                LOG,
                error.to_string(),
                "`synod verify` on the stopped member's directory reads all of it",
            );
        }
    };
    if glance.segments == 0 && glance.troubles.is_empty() {
        return Finding::ok(LOG, "none yet: this member has just been started for the first time");
    }
    let plural = if glance.segments == 1 { "" } else { "s" };
    let what = format!("{} in {} segment{plural}", size(glance.bytes), glance.segments);
    if !glance.troubles.is_empty() {
        let advice = "keep the directory as it is, and look at all of the log with `synod verify` while the member is \
                      stopped; what is decided is repaired from the others at the next start";
        return Finding::fail(LOG, format!("{what}; {}", glance.troubles.join("; ")), advice);
    }
    match (owner, glance.owner) {
        (Some(owner), Some(found)) if owner != found => Finding::fail(
            LOG,
            format!("{what}, of another member or another group than key and genesis"),
            "use the directory that belongs to this key and this genesis",
        ),
        _ => Finding::ok(LOG, format!("{what}; names and headers are whole (`synod verify` reads all of it)")),
    }
}

/// The newest file of the log, with its date.
fn newest(folder: &Path) -> Option<(PathBuf, SystemTime)> {
    let dated = |entry: fs::DirEntry| Some((entry.path(), entry.metadata().ok()?.modified().ok()?));
    fs::read_dir(folder).ok()?.flatten().filter_map(dated).max_by_key(|(_, date)| *date)
}

/// A log from the future tells of a clock that went back.
fn dated(newest: Option<(PathBuf, SystemTime)>, now: SystemTime) -> Option<Finding> {
    let (path, date) = newest?;
    let ahead = date.duration_since(now).ok().filter(|ahead| *ahead > AHEAD_MAX)?;
    let what = format!("{} is dated {} s ahead of this machine's clock", path.display(), ahead.as_secs());
    Some(Finding::warn(
        "clock of the log",
        what,
        "the clock went back since: see that it is kept (NTP), and set it right",
    ))
}

/// What to say where the key of the directory is another's than the member that answers.
pub fn other_member(key: &MemberId, answers: &str) -> Finding {
    let what = format!("the key in data_dir is of member {key}, the sidecar that answers is {answers}");
    Finding::fail("identity", what, "give --api and --config of one and the same member")
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn who_has_the_directory_is_told() {
        let running = held(Some(7), Some("synod".to_owned()), true);
        assert_eq!((running.state, running.what.as_str()), (State::Ok, "process 7 (synod) has the directory"));
        let silent = held(Some(7), None, false);
        assert_eq!(silent.state, State::Fail);
        assert!(silent.what.contains("calls itself 7") && silent.advice.unwrap().contains("stop it"));
    }

    #[test]
    fn another_directory_than_the_sidecars_is_not_examined() {
        let folder = tempfile::tempdir().unwrap();
        let (used, link) = (folder.path().join("used"), folder.path().join("link"));
        fs::create_dir(&used).unwrap();
        std::os::unix::fs::symlink(&used, &link).unwrap();
        assert_eq!(elsewhere(&used, &used), None);
        assert_eq!(elsewhere(&link, &used), None, "two names of one directory");
        let told = elsewhere(Path::new("data"), &used).unwrap();
        assert_eq!(told.state, State::Warn);
        assert!(told.advice.unwrap().contains(&format!("--data-dir {}", used.display())));
    }

    #[test]
    fn files_of_another_user_than_the_directory_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let log = log_folder(folder.path());
        for made in [folder.path().join("lost+found"), log.join("lost+found")] {
            fs::create_dir_all(made).unwrap();
        }
        for written in [folder.path().join(KEY_FILE), folder.path().join("else"), log.join("1.wal")] {
            fs::write(written, "").unwrap();
        }
        assert_eq!(kept(folder.path()), [folder.path().join(KEY_FILE), log.clone(), log.join("1.wal")]);
        assert_eq!(owners(folder.path()), None);
        let files = [("member.key", 0), ("lock", 7), ("1.wal", 0)].map(|(name, user)| (user, PathBuf::from(name)));
        let told = strangers(Path::new("d"), 7, files.into_iter()).unwrap();
        assert_eq!(
            (told.state, told.what.as_str()),
            (
                State::Fail,
                "member.key is of user 0, the directory of user 7, and 1 more are not the directory's user's"
            )
        );
        assert!(told.advice.unwrap().contains("chown -R 7 d"));
    }

    #[test]
    fn marks_are_final() {
        let told = marks(Path::new("d"), Ok(Marks { departed: Some("it left".to_owned()), refused: None }));
        assert_eq!((told.len(), told[0].state, told[0].what.as_str()), (1, State::Fail, "it left"));
        assert!(marks(Path::new("d"), Ok(Marks::default())).is_empty());
    }

    #[test]
    fn a_log_of_somebody_else_is_told_from_a_damaged_one() {
        let whole = || Glance { segments: 2, bytes: 4 << 20, owner: Some(Digest([1; 32])), troubles: Vec::new() };
        assert_eq!(log(Ok(whole()), Some(Digest([1; 32]))).state, State::Ok);
        assert_eq!(log(Ok(whole()), None).state, State::Ok, "nobody knows whose it must be");
        let foreign = log(Ok(whole()), Some(Digest([2; 32])));
        assert!(foreign.state == State::Fail && foreign.what.contains("another member"), "{foreign:?}");
        let damaged = log(Ok(Glance { troubles: vec!["segment 2 is missing".to_owned()], ..whole() }), None);
        assert!(damaged.what.contains("segment 2 is missing") && damaged.advice.unwrap().contains("synod verify"));
        let none = log(Err(OpenError::Folder(io::ErrorKind::NotFound.into())), None);
        assert_eq!(none.state, State::Ok);
    }

    #[test]
    fn a_log_from_the_future_tells_of_the_clock() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let at = |seconds| Some((PathBuf::from("1.wal"), SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)));
        assert_eq!(dated(at(1001), now), None);
        assert_eq!(dated(at(10), now), None);
        assert!(dated(at(1100), now).unwrap().what.contains("100 s ahead"));
    }

    #[test]
    fn an_empty_and_a_missing_directory_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let examined = examine(&Place { data_dir: folder.path(), cluster: None, answers: false, founds: false });
        let states: Vec<(&str, State)> =
            examined.findings.iter().map(|finding| (finding.check.as_str(), finding.state)).collect();
        assert_eq!(states, [(DIRECTORY, State::Ok), (LOCK, State::Ok), (KEY_FILE, State::Fail), (LOG, State::Ok)]);
        let gone = examine(&Place { data_dir: &folder.path().join("x"), cluster: None, answers: false, founds: false });
        assert!(gone.findings.len() == 1 && gone.findings[0].what.contains("does not exist"));
        for fresh in [folder.path(), &folder.path().join("x")] {
            let examined = examine(&Place { data_dir: fresh, cluster: None, answers: false, founds: true });
            assert_eq!(super::super::worst(&examined.findings), State::Ok, "{:?}", examined.findings);
        }
    }

    #[test]
    fn who_may_use_the_directory_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let told = |mode: u32, access: io::Result<()>, answers: bool| {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            let place = Place { data_dir: folder.path(), cluster: None, answers, founds: false };
            directory(&place, fs::metadata(folder.path()), access)
        };
        let denied = || Err(io::ErrorKind::PermissionDenied.into());
        assert_eq!(told(0o750, Ok(()), false).state, State::Ok);
        let wide = told(0o777, Ok(()), false);
        assert!(wide.state == State::Warn && wide.advice.unwrap().contains("chmod o-w"));
        assert_eq!(told(0o700, denied(), false).state, State::Fail);
        assert_eq!(told(0o700, denied(), true).state, State::Warn, "the member itself may");
    }
}
