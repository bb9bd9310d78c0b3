//! Everything a member is told before it starts: its settings and the group's genesis, or all that is wrong with both. A
//! member that has joined has the genesis in its data directory; for one that founded the group, `genesis` says where it is.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use libp2p::multiaddr::{Multiaddr, Protocol};

use super::identity::Identity;
use super::settings::layers::Layers;
use super::settings::{Mistakes, Settings};
use super::{genesis_file, reach};
use crate::api::listen;
use crate::net::{Transport, listen_address};
use crate::types::{Genesis, GenesisMember, MemberId};

/// Settings and genesis that fit together.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// What this member chooses for itself.
    pub settings: Settings,
    /// What the group agreed on.
    pub genesis: Genesis,
    /// Whether the genesis is in the data directory: it came with a join, or candidates made it.
    pub joined: bool,
}

impl Configuration {
    /// Reads both. `folder` is where relative paths of the configuration file count from.
    pub fn read(layers: &Layers, folder: &Path) -> Result<Configuration, Mistakes> {
        let (named, joined) = Settings::genesis_paths(layers, folder);
        let joined = joined.filter(|path| path.exists());
        let genesis = match joined.as_ref().or(named.as_ref()) {
            Some(path) => genesis_file::read(path),
            None => Err(Mistakes(Vec::new())),
        };
        let settings = Settings::beside(layers, folder, genesis.as_ref().ok());
        match (settings, genesis) {
            (Ok(settings), Ok(genesis)) => {
                let configuration = Configuration { settings, genesis, joined: joined.is_some() };
                Mistakes::unless(configuration.mistakes_here(), || configuration)
            }
            (settings, genesis) => {
                let mistakes = |error: Option<Mistakes>| error.map(|mistakes| mistakes.0).unwrap_or_default();
                Err(Mistakes([mistakes(settings.err()), mistakes(genesis.err())].concat()))
            }
        }
    }

    /// What genesis says of a member, if it names it.
    pub fn named(&self, member: &MemberId) -> Option<&GenesisMember> {
        self.genesis.members.iter().find(|named| named.id == *member)
    }

    /// Where the mesh of a member listens. The error says what to set.
    ///
    /// A genesis that people wrote says where its members listen; one that candidates made says where they were then.
    pub fn mesh_listen(&self, member: &MemberId) -> Result<Vec<Multiaddr>, String> {
        reach::listens(&self.settings, self.named(member).filter(|_| !self.joined))
    }

    /// Mistakes that show only on the machine of the member.
    fn mistakes_here(&self) -> Vec<String> {
        let socket = listen::check_kind(&self.settings.api.socket).err().map(|error| error.to_string());
        // A start without a usable key is refused for that.
        let mesh = match Identity::load(&self.settings.data_dir) {
            Ok(identity) => self.mesh_listen(&identity.member()),
            Err(_) => Ok(self.settings.mesh_listen.clone()),
        };
        let mesh = match mesh {
            Ok(addresses) => addresses.iter().filter_map(|address| self.wrong_mesh_address(address)).collect(),
            Err(mistake) => vec![mistake],
        };
        socket.into_iter().chain(mesh).collect()
    }

    fn wrong_mesh_address(&self, address: &Multiaddr) -> Option<String> {
        let api = self.settings.api.listen;
        match listen_address(address) {
            Some((Transport::Tcp, mesh)) if meet(mesh, api) => Some(format!(
                "the mesh ({address}: mesh.listen, or genesis) and the host API (api.listen = \"{api}\") cannot share a \
                 port: set another one for either"
            )),
            Some(_) => None,
            // What mesh.listen itself says was checked when it was read.
            None => {
                // The same at this machine's own addresses.
                let here: Multiaddr =
                    std::iter::once(Protocol::Ip4(Ipv4Addr::UNSPECIFIED)).chain(address.iter().skip(1)).collect();
                Some(format!(
                    "mesh.listen is not set, and genesis gives this member {address}, which cannot be listened on: set \
                     mesh.listen = [\"{here}\"]"
                ))
            }
        }
    }
}

/// Whether two listeners would be one.
fn meet(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (any || one.ip() == other.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::founding::{Plan, Ports, found, genesis_path};

    #[test]
    fn mistakes_of_both_files_are_told_together() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("genesis.toml"), "colour = 1\n").unwrap();
        let layers = Layers::gather(Some((Path::new("synod.toml"), "taste = 1\n")), [], []);
        let mistakes = Configuration::read(&layers, directory.path()).unwrap_err().to_string();
        assert!(mistakes.contains("taste in synod.toml is no setting"), "{mistakes}");
        assert!(mistakes.contains("colour is no key of a genesis"), "{mistakes}");
        assert!(mistakes.contains("nonce is missing"), "{mistakes}");
    }

    /// A founded group's first member, with its configuration changed.
    fn changed(file: impl Fn(String) -> String, genesis: impl Fn(String) -> String) -> Result<Configuration, Mistakes> {
        let directory = tempfile::tempdir().unwrap();
        let members = (0..3).map(|index| Ports::from_base(7171, index).unwrap()).collect();
        let plan =
            Plan { directory: directory.path().to_owned(), name: "trial".to_owned(), members, settings: Vec::new() };
        let place = found(&plan).unwrap().swap_remove(0);
        let path = genesis_path(directory.path());
        std::fs::write(&path, genesis(std::fs::read_to_string(&path).unwrap())).unwrap();
        let content = file(std::fs::read_to_string(&place.config).unwrap());
        let layers = Layers::gather(Some((&place.config, &content)), [], []);
        Configuration::read(&layers, place.config.parent().unwrap())
    }

    fn same(text: String) -> String {
        text
    }

    #[test]
    fn what_contradicts_itself_is_told_before_the_start() {
        changed(same, same).unwrap();
        let told = |file: &dyn Fn(String) -> String, genesis: &dyn Fn(String) -> String, parts: &[&str]| {
            let mistakes = changed(file, genesis).unwrap_err().to_string();
            for part in parts {
                assert!(mistakes.contains(part), "{part} is missing in {mistakes}");
            }
        };
        let named = |text: String| text.replace("/ip4/127.0.0.1/tcp/7271", "/dns4/n1/tcp/7271");
        told(
            &same,
            &named,
            &["genesis gives this member /dns4/n1/tcp/7271", "mesh.listen = [\"/ip4/0.0.0.0/tcp/7271\"]"],
        );
        let one_port = |text: String| text.replace("tcp/7271", "tcp/7171");
        told(&same, &one_port, &["/ip4/127.0.0.1/tcp/7171", "api.listen = \"127.0.0.1:7171\"", "cannot share a port"]);
        let explicit = |text: String| text.replace("[mesh]", "[mesh]\nlisten = [\"/ip4/0.0.0.0/tcp/7171\"]");
        told(&explicit, &same, &["/ip4/0.0.0.0/tcp/7171", "cannot share a port"]);
        let twice = |text: String| text.replace("tcp/7272", "tcp/7271");
        told(&same, &twice, &["members `n1` and `n2` have one address"]);
        let key = |text: String| text.replace("[api]", "[api]\nsocket = \"data/member.key\"");
        told(&key, &same, &["api.socket", "member.key is there already and is no socket"]);
        let small = |text: String| text.replace("[wal]", "[wal]\nsegment_bytes = \"64KiB\"\ncolour = 1");
        told(&small, &same, &["colour", "wal.segment_bytes = \"64KiB\"", "twice the group's limits.batch_bytes_max"]);
        let explicit = |text: String| text.replace("[mesh]", "[mesh]\nlisten = [\"/ip4/0.0.0.0/tcp/7271\"]");
        changed(explicit, named).unwrap();
    }
}
