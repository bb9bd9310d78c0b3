//! A group of members on one address, in one folder that goes when the test ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::LazyLock;

use serde_json::Value;
use synod::cmd::group::network::Network;
use tempfile::TempDir;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::address::Address;
use super::member::{Member, Signal};
use super::program::synod;
use super::wait::until;

/// Port of the first member's API; the next member has the next one.
const API_PORT: u16 = 7171;
/// Groups that run at one time: each is three processes that sync a disk.
const GROUPS_MAX: usize = 2;
/// Lines of each member's log that a failed test shows.
const LINES_SHOWN: usize = 40;

static ROOM: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(GROUPS_MAX)));

/// A group and its processes.
pub struct Group {
    /// Its members, in leader order.
    pub members: Vec<Member>,
    directory: TempDir,
    address: Address,
    _room: OwnedSemaphorePermit,
}

impl Group {
    /// Makes a group of three with small segments, so that logs have several. Nothing is started.
    pub async fn found() -> Group {
        let room = ROOM.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (directory, address) = (tempfile::tempdir().unwrap(), Address::reserve());
        let base_port = API_PORT.to_string();
        let folder = directory.path().to_str().unwrap();
        let made =
            synod(["init", "--members", "3", "--name", "trial", "--base-port", &base_port, "--dir", folder]).await;
        assert_eq!(made.code, Some(0), "{made:?}");
        let names = ["n1", "n2", "n3"];
        let members = (0..).zip(names).map(|(index, name)| {
            let ports = [API_PORT + index, API_PORT + 100 + index].map(|port| address.with_port(port));
            Member::new(directory.path(), name, ports[0], ports[1])
        });
        let members: Vec<Member> = members.collect();
        let group = Group { members, directory, address, _room: room };
        let text = group.address.text();
        group.edit_genesis(|genesis| {
            genesis.replace("127.0.0.1", &text).replace("batch_bytes_max = \"4MiB\"", "batch_bytes_max = \"2MiB\"")
        });
        for member in &group.members {
            member.edit(|config| {
                config.replace("127.0.0.1", &text).replace("# segment_bytes = \"64MiB\"", "segment_bytes = \"4MiB\"")
            });
        }
        group
    }

    /// Prepares so many fresh machines that are to found a group of `expect` together: each with a configuration, none with a
    /// key or a genesis. On this machine they are told each other's addresses; on hosts of a network they find each other by
    /// mDNS. Nothing is started.
    pub async fn fresh(count: usize, expect: usize, network: Option<&Network>) -> Group {
        let room = ROOM.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (directory, address) = (tempfile::tempdir().unwrap(), Address::reserve());
        let mut group = Group { members: Vec::new(), directory, address, _room: room };
        for index in 0..count {
            group.adopt();
            group.members[index].launcher = network.map(|network| network.on(index)).unwrap_or_default();
        }
        let meshes: Vec<String> = group.members.iter().map(|member| member.mesh.to_string()).collect();
        for member in &group.members {
            let (found_by, listen) = match network {
                Some(_) => (
                    "mdns = \"true\"".to_owned(),
                    "/ip4/0.0.0.0/tcp/7271\", \"/ip4/0.0.0.0/udp/7271/quic-v1".to_owned(),
                ),
                None => {
                    let multiaddress = |mesh: &str| format!("/ip4/{}", mesh.replace(':', "/tcp/"));
                    let others: Vec<String> = meshes.iter().map(|mesh| format!("\"{}\"", multiaddress(mesh))).collect();
                    (
                        format!("addresses = [{}]\nmdns = \"false\"", others.join(", ")),
                        multiaddress(&member.mesh.to_string()),
                    )
                }
            };
            let api = if network.is_some() { "127.0.0.1:7171".to_owned() } else { member.api.to_string() };
            let config = format!(
                "data_dir = \"data\"\nname = \"{}\"\ncluster = \"trial\"\n[api]\nlisten = \"{api}\"\n[mesh]\nlisten = \
                 [\"{listen}\"]\n[bootstrap]\nexpect = \"{expect}\"\nbatch_bytes_max = \"2MiB\"\n[discovery]\n{found_by}\n[wal]\n\
                 segment_bytes = \"4MiB\"\n",
                member.name,
            );
            fs::create_dir_all(member.config.parent().expect("a file is in a folder")).unwrap();
            fs::write(&member.config, config).unwrap();
        }
        group
    }

    /// Makes the files of another group inside this one's folder. Gives back where.
    pub async fn found_another(&self) -> PathBuf {
        let folder = self.folder().join("another");
        let made = synod(["init".as_ref(), "--dir".as_ref(), folder.as_os_str()]).await;
        assert_eq!(made.code, Some(0), "{made:?}");
        folder
    }

    /// Makes a group of three and starts it.
    pub async fn start() -> Group {
        let mut group = Group::found().await;
        group.start_all().await;
        group
    }

    /// Starts every member that does not run, and waits until all are ready.
    pub async fn start_all(&mut self) {
        self.members.iter_mut().filter(|member| !member.is_started()).for_each(Member::start);
        for index in self.everybody() {
            let (name, client) = (self.members[index].name.clone(), self.members[index].unix());
            until(&format!("{name} is ready"), async || {
                // One that ended keeps the others waiting.
                self.members.iter_mut().for_each(Member::assert_runs);
                client.get("/readyz").await.ok().map(drop)
            })
            .await;
        }
    }

    /// Kills all at once.
    pub fn kill_all(&mut self) {
        // Signals to all of them come before the first is waited for.
        self.members.iter().for_each(|member| member.signal(Signal::Kill));
        self.members.iter_mut().for_each(Member::kill);
    }

    /// Stops all by SIGTERM, at once.
    pub async fn stop_all(&mut self) {
        futures::future::join_all(self.members.iter_mut().map(Member::stop)).await;
    }

    /// Stops those that run by SIGTERM.
    pub async fn stop_all_that_run(&mut self) {
        let running = self.members.iter_mut().filter(|member| member.is_started());
        futures::future::join_all(running.map(Member::stop)).await;
    }

    /// The folder of the group.
    pub fn folder(&self) -> &Path {
        self.directory.path()
    }

    /// The genesis that all members read.
    pub fn genesis(&self) -> PathBuf {
        self.folder().join("genesis.toml")
    }

    /// Changes the genesis.
    pub fn edit_genesis(&self, change: impl FnOnce(String) -> String) {
        let before = fs::read_to_string(self.genesis()).unwrap();
        let after = change(before.clone());
        assert_ne!(before, after, "the edit changes something");
        fs::write(self.genesis(), after).unwrap();
    }

    /// Takes notice of a further member that somebody else prepared in this folder. Gives back its index.
    pub fn adopt(&mut self) -> usize {
        let index = self.members.len();
        let number = u16::try_from(index).unwrap();
        let ports = [API_PORT + number, API_PORT + 100 + number].map(|port| self.address.with_port(port));
        let member = Member::new(self.folder(), &format!("n{}", index + 1), ports[0], ports[1]);
        self.members.push(member);
        index
    }

    /// Prepares the place of a further member on this machine: its configuration, with a small log. Nothing is started; its key
    /// and its genesis come with its join. Gives back its index.
    pub fn prepare(&mut self) -> usize {
        let index = self.adopt();
        let (api, mesh) = (self.members[index].api, self.members[index].mesh);
        self.furnish(index, &api.to_string(), &format!("/ip4/{}/tcp/{}", mesh.ip(), mesh.port()));
        index
    }

    /// The same, on the host of that number.
    pub fn prepare_on(&mut self, network: &Network) -> usize {
        let index = self.adopt();
        self.members[index].launcher = network.on(index);
        self.furnish(index, "127.0.0.1:7171", "/ip4/0.0.0.0/tcp/7271");
        index
    }

    fn furnish(&self, index: usize, api: &str, listen: &str) {
        let member = &self.members[index];
        fs::create_dir_all(&member.data_dir).unwrap();
        let config = format!(
            "data_dir = \"data\"\nname = \"{}\"\n[api]\nlisten = \"{api}\"\n[mesh]\nlisten = [\"{listen}\"]\n[wal]\n\
             segment_bytes = \"4MiB\"\n[timing]\nreplace_after = \"5m\"\n",
            member.name,
        );
        fs::write(&member.config, config).unwrap();
    }

    /// A join code, made by a member.
    pub async fn invite(&self, at: usize) -> String {
        let socket = self.members[at].socket.to_str().unwrap();
        let invite = synod(["invite", "--api", socket, "--output", "json"]).await.json();
        invite["code"].as_str().unwrap_or_else(|| panic!("no code in {invite}")).to_owned()
    }

    /// A further member joins by a code of that one, and has caught up. Gives back its index.
    pub async fn join(&mut self, at: usize) -> usize {
        let index = self.prepare();
        self.let_join(index, at).await;
        index
    }

    /// The same, on the host of its number.
    pub async fn join_on(&mut self, network: &Network, at: usize) -> usize {
        let index = self.prepare_on(network);
        self.let_join(index, at).await;
        index
    }

    async fn let_join(&mut self, index: usize, at: usize) {
        let code = self.invite(at).await;
        self.members[index].join(&code);
        self.members[index].ready().await;
    }

    /// A member is removed by command at another one; until it votes no more.
    pub async fn remove(&self, index: usize, at: usize) {
        let (name, socket) = (&self.members[index].name, self.members[at].socket.to_str().unwrap());
        let removed = synod(["remove", name, "--yes", "--api", socket, "--output", "json"]).await.json();
        assert_eq!(removed["name"], **name, "{removed}");
        until(&format!("{name} votes no more"), async || (!self.votes(at).await.contains(name)).then_some(())).await;
    }

    /// A member leaves by command, and its process ends by itself.
    pub async fn leave(&mut self, index: usize) {
        let socket = self.members[index].socket.to_str().unwrap().to_owned();
        let left = synod(["leave", "--api", &socket, "--output", "json"]).await.json();
        assert_eq!(left["left"], true, "{left}");
        let status = self.members[index].ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.members[index].log());
    }

    /// Chooses how many vote, at a member, and waits until as many do.
    pub async fn voters(&self, at: usize, target: usize) {
        let socket = self.members[at].socket.to_str().unwrap();
        synod(["voters", &target.to_string(), "--api", socket, "--output", "json"]).await.json();
        until(&format!("{target} vote"), async || (self.votes(at).await.len() == target).then_some(())).await;
    }

    /// How many members there are, as that member says.
    pub async fn members_at(&self, at: usize) -> usize {
        let members: Value = self.members[at].unix().get_json("/v1/members").await.unwrap();
        members["members"].as_array().unwrap().len()
    }

    /// The names of those that vote, as that member says.
    pub async fn votes(&self, at: usize) -> Vec<String> {
        let members: Value = self.members[at].unix().get_json("/v1/members").await.unwrap();
        let voters = members["members"].as_array().unwrap().iter().filter(|member| member["role"] == "voter");
        voters.map(|member| member["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until exactly these vote, as that member says.
    pub async fn until_votes(&self, at: usize, members: &[usize]) {
        let mut wanted: Vec<&str> = members.iter().map(|index| self.members[*index].name.as_str()).collect();
        wanted.sort_unstable();
        until(&format!("{wanted:?} vote"), async || {
            let mut votes = self.votes(at).await;
            votes.sort_unstable();
            (votes == wanted).then_some(())
        })
        .await;
    }

    /// Addresses of this group that no member uses: an API's and a mesh's.
    pub fn spare_addresses(&self) -> [std::net::SocketAddr; 2] {
        [API_PORT + 50, API_PORT + 150].map(|port| self.address.with_port(port))
    }

    /// The member that leads, and says so itself.
    pub async fn leader(&self) -> usize {
        until("somebody leads", async || {
            for (index, member) in self.members.iter().enumerate().filter(|(_, member)| member.is_started()) {
                if member.try_status().await.is_some_and(|status| status["role"] == "leader" && status["ready"] == true)
                {
                    return Some(index);
                }
            }
            None
        })
        .await
    }

    /// Some member that does not lead.
    pub async fn follower(&self) -> usize {
        (self.leader().await + 1) % self.members.len()
    }

    /// All members but that one.
    pub fn others(&self, than: usize) -> Vec<usize> {
        (0..self.members.len()).filter(|index| *index != than).collect()
    }

    /// All members.
    pub fn everybody(&self) -> Vec<usize> {
        (0..self.members.len()).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for member in &self.members {
            let log = member.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
            eprintln!("---- the end of what {} said\n{}", member.name, shown.join("\n"));
        }
    }
}
