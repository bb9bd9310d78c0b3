//! Founding a group: keys, genesis and one configuration per member, in one directory. Nothing is ever overwritten.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::identity::{Identity, IdentityError};
use super::settings::Mistakes;
use super::{configuration_file, genesis_file, random};
use crate::types::limits::{CRASH_GROUP_SIZES, RULES_VERSION};
use crate::types::{ClusterLimits, FaultModelKind, Genesis, GenesisMember, MemberId};

/// What to found.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where: made if it does not exist.
    pub directory: PathBuf,
    /// The group's name.
    pub name: String,
    /// What each member listens on, in leader order.
    pub members: Vec<Ports>,
    /// Further settings of every member: (key, text).
    pub settings: Vec<(&'static str, String)>,
}

/// Ports of one member on 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The host API.
    pub api: u16,
    /// The mesh.
    pub mesh: u16,
}

/// How far the mesh's ports are from the API's when both follow from one base port.
pub const MESH_PORT_OFFSET: u16 = 100;

impl Ports {
    /// The API of member `index` (from 0) at `base + index`, its mesh 100 above. None if they exceed 65535.
    pub fn from_base(base: u16, index: u16) -> Option<Ports> {
        let api = base.checked_add(index)?;
        Some(Ports { api, mesh: api.checked_add(MESH_PORT_OFFSET)? })
    }
}

/// A member of a group that lives in one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name in genesis.
    pub name: String,
    /// Its id.
    pub member: MemberId,
    /// Its configuration file.
    pub config: PathBuf,
}

/// Why nothing, or not everything, was made.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    /// There is something already.
    #[error("{} exists already and is never overwritten: name another directory, or remove it", .0.display())]
    Exists(PathBuf),
    /// The plan makes no usable group.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
    /// No key could be written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The system says no.
    #[error("{}: {error}", path.display())]
    Io {
        /// What was to be read or written.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The genesis of a group in one directory.
pub fn genesis_path(directory: &Path) -> PathBuf {
    directory.join(genesis_file::GENESIS_FILE)
}

/// The configuration of a member of a group in one directory.
pub fn config_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(name).join("synod.toml")
}

/// Makes the group: `genesis.toml`, and per member `n1/synod.toml` and `n1/data/member.key`.
pub fn found(plan: &Plan) -> Result<Vec<Place>, FoundingError> {
    if !CRASH_GROUP_SIZES.contains(&plan.members.len()) {
        let count = plan.members.len();
        return Err(Mistakes(vec![format!(
            "members = {count}: a group has 3, 5 or 7 members (an even number tolerates no more than the odd one below \
             it), or 1 for trying out"
        )])
        .into());
    }
    let names: Vec<String> = (1..=plan.members.len()).map(|number| format!("n{number}")).collect();
    for path in names.iter().map(|name| plan.directory.join(name)).chain([genesis_path(&plan.directory)]) {
        if path.exists() {
            return Err(FoundingError::Exists(path));
        }
    }
    let identities: Vec<Identity> = names.iter().map(|_| draw()).collect::<Result<_, _>>()?;
    let genesis = genesis(plan, &names, &identities)?;
    let text = genesis_file::write(&genesis);
    // What is written must be what everybody reads; what nobody could read is refused before anything is made.
    assert_eq!(genesis_file::parse(&text)?, genesis, "a genesis reads as it was written");
    let mut made = Vec::new();
    write(plan, &names, &identities, &text, &mut made).inspect_err(|_| {
        // Half a group would stand in the way of the next attempt. Its keys were never used.
        made.iter().for_each(|folder| drop(fs::remove_dir_all(folder)));
    })?;
    Ok(places(&plan.directory, &genesis))
}

fn genesis(plan: &Plan, names: &[String], identities: &[Identity]) -> Result<Genesis, FoundingError> {
    let members = names.iter().zip(identities).zip(&plan.members).map(|((name, identity), ports)| GenesisMember {
        name: name.clone(),
        id: identity.member(),
        addresses: mesh_addresses(ports.mesh).into(),
    });
    Ok(Genesis {
        name: plan.name.clone(),
        nonce: random::bytes().map_err(no_randomness)?,
        model: FaultModelKind::Crash,
        rules_version: RULES_VERSION,
        members: members.collect(),
        limits: ClusterLimits::default(),
        voters_target: plan.members.len() as u32,
    })
}

/// Writes everything; the genesis comes last, so that a group with one is whole. Folders made are added to `made`.
fn write(
    plan: &Plan,
    names: &[String],
    identities: &[Identity],
    genesis: &str,
    made: &mut Vec<PathBuf>,
) -> Result<(), FoundingError> {
    fs::create_dir_all(&plan.directory).map_err(|error| failed(&plan.directory, error))?;
    for ((name, identity), ports) in names.iter().zip(identities).zip(&plan.members) {
        let folder = plan.directory.join(name);
        fs::create_dir(&folder).map_err(|error| failed(&folder, error))?;
        made.push(folder);
        write_member(plan, name, identity, *ports)?;
    }
    write_new(&genesis_path(&plan.directory), genesis)
}

/// The members of a group that was founded in a directory.
pub fn places(directory: &Path, genesis: &Genesis) -> Vec<Place> {
    let place = |member: &GenesisMember| Place {
        name: member.name.clone(),
        member: member.id,
        config: config_path(directory, &member.name),
    };
    genesis.members.iter().map(place).collect()
}

fn mesh_addresses(port: u16) -> [String; 2] {
    [format!("/ip4/127.0.0.1/tcp/{port}"), format!("/ip4/127.0.0.1/udp/{port}/quic-v1")]
}

fn draw() -> Result<Identity, FoundingError> {
    Identity::draw().map_err(no_randomness)
}

fn write_member(plan: &Plan, name: &str, identity: &Identity, ports: Ports) -> Result<(), FoundingError> {
    let data_dir = plan.directory.join(name).join("data");
    fs::create_dir(&data_dir).map_err(|error| failed(&data_dir, error))?;
    identity.store(&data_dir)?;
    let mut values = vec![
        ("data_dir", "data".to_owned()),
        ("genesis", "../genesis.toml".to_owned()),
        ("api.listen", format!("127.0.0.1:{}", ports.api)),
        // They know each other from the genesis.
        ("discovery.mdns", "false".to_owned()),
    ];
    values.extend(plan.settings.iter().cloned());
    let text = configuration_file::write(&values);
    write_new(&config_path(&plan.directory, name), &format!("# Member {name}: {}\n{text}", identity.member()))
}

fn write_new(path: &Path, text: &str) -> Result<(), FoundingError> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| failed(path, error))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| {
        // Half a file would stand in the way of the next attempt.
        let _ = fs::remove_file(path);
        failed(path, error)
    })
}

fn failed(path: &Path, error: io::Error) -> FoundingError {
    match error.kind() {
        io::ErrorKind::AlreadyExists => FoundingError::Exists(path.to_owned()),
        _ => FoundingError::Io { path: path.to_owned(), error },
    }
}

fn no_randomness(error: io::Error) -> FoundingError {
    FoundingError::Io { path: "/dev/urandom".into(), error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::settings::Settings;
    use crate::node::settings::layers::Layers;

    fn plan(directory: &Path, members: u16) -> Plan {
        let members = (0..members).map(|index| Ports::from_base(7171, index).unwrap()).collect();
        Plan { directory: directory.to_owned(), name: "trial".to_owned(), members, settings: Vec::new() }
    }

    #[test]
    fn a_founded_group_can_be_read_and_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let places = found(&plan(directory.path(), 3)).unwrap();
        let genesis = genesis_file::read(&genesis_path(directory.path())).unwrap();
        for (place, member) in places.iter().zip(&genesis.members) {
            let content = fs::read_to_string(&place.config).unwrap();
            let folder = place.config.parent().unwrap();
            let layers = Layers::gather(Some((&place.config, &content)), [], []);
            let settings = Settings::from_layers(&layers, folder).unwrap();
            assert_eq!(Identity::load(&settings.data_dir).unwrap().member(), member.id);
            assert_eq!(genesis_file::read(&settings.genesis).unwrap(), genesis);
        }
        assert!(matches!(found(&plan(directory.path(), 3)), Err(FoundingError::Exists(_))));
    }

    #[test]
    fn what_makes_no_group_is_refused_before_anything_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let even = plan(directory.path(), 4);
        let unnamed = Plan { name: "a b".to_owned(), ..plan(directory.path(), 3) };
        let mut one_port = plan(directory.path(), 3);
        one_port.members[1] = one_port.members[0];
        for refused in [even, unnamed, one_port] {
            assert!(matches!(found(&refused), Err(FoundingError::Mistakes(_))), "{refused:?}");
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn half_a_group_is_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        // It leads nowhere, so nothing seems to be there until a folder is to be made.
        let obstacle = directory.path().join("n2");
        std::os::unix::fs::symlink("nowhere", &obstacle).unwrap();
        assert!(matches!(found(&plan(directory.path(), 3)), Err(FoundingError::Exists(path)) if path == obstacle));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "only what was there before");
        fs::remove_file(obstacle).unwrap();
        found(&plan(directory.path(), 3)).unwrap();
    }
}
