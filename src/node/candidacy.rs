//! Founding a group together with others, without a file (rule G1): runs the candidate of `protocol/` on a mesh of
//! candidates, with its record in the data directory and its state on the API, until the group is made. Then the genesis is in
//! the data directory, and an ordinary member starts.

use std::fs;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::multiaddr::{Multiaddr, Protocol};
use serde_json::{Map, json};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};

use super::commitment_file::{self, CommitmentError};
use super::data_directory::DataDirectory;
use super::genesis_file::{self, GENESIS_FILE};
use super::identity::Identity;
use super::listeners::Listeners;
use super::moving::{LOOK_INTERVAL, Settling};
use super::real_time::RealTime;
use super::run::{LAST_WRITE_MAX, RunError, refuse_the_departed};
use super::service_manager::ServiceManager;
use super::settings::{Bootstrap, Mistakes, Settings};
use super::{descriptors, join, random, reach, token};
use crate::api::listen::SocketFile;
use crate::api::waiting::{self, Waiting};
use crate::api::{ApiSettings, CannotServe};
use crate::net::candidates::{CandidateEvent, CandidateMesh, CandidateMeshSettings};
use crate::net::listen_address;
use crate::protocol::{BadCandidate, Candidate, CandidateInput, CandidateSettings, CandidateVerdict};
use crate::types::{
    ClusterId, Commitment, CommitmentRecord, CommonSettings, FaultModelKind, Genesis, Instant, MemberId, Sabotage,
    StartNonce, limits,
};

/// Never waits longer for nothing: what people are told shows how long somebody was silent.
const TICK_MAX: Duration = Duration::from_secs(1);
/// The addresses of this machine are known within this time after it listens on them.
const INTERFACES_MAX: Duration = Duration::from_secs(2);
/// Between two looks at them.
const INTERFACES_PAUSE: Duration = Duration::from_millis(10);
/// What it waits for is logged no more often.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// What people are told while no source can find anybody.
const BLIND: &str = "no source can find anybody: set discovery.addresses, discovery.dns or discovery.file; discovery.mdns finds \
                     others only where the mesh listens on more than loopback";

/// Why no group was founded.
#[derive(Debug, thiserror::Error)]
pub enum CandidacyError {
    /// The data directory is a member's of a group of another name.
    #[error(
        "data_dir belongs to group `{ours}`, and `cluster` says `{wanted}`: set cluster = \"{ours}\", or start with another \
         data_dir; one directory is one member of one group"
    )]
    OtherName {
        /// The name in the genesis.
        ours: String,
        /// The name in the settings.
        wanted: String,
    },
    /// The settings name a genesis as well, and it is of others.
    #[error(
        "genesis = \"{}\" is that of group `{name}`, in which this data_dir has no part, and bootstrap.expect founds a group \
         without a file: take that file away, or set genesis to where none is, to found a group; or set data_dir to that of a \
         member that it names",
        path.display()
    )]
    OtherGenesis {
        /// The file.
        path: PathBuf,
        /// Its group.
        name: String,
    },
    /// The settings name a genesis that cannot be read: it may be of a group of this name.
    #[error(
        "a genesis is named, and bootstrap.expect founds a group without one: {}; take that file away, or set genesis to where \
         none is, to found a group; mend it, if its group is meant",
        .0.0.join("; ")
    )]
    NamedGenesis(Mistakes),
    /// The genesis that there is cannot be read.
    #[error("the genesis in data_dir cannot be used: {}", .0.0.join("; "))]
    Genesis(Mistakes),
    /// The genesis that the candidates made cannot be read.
    #[error(
        "what the candidates made is no genesis that can be used, and is not kept: {}; run the same release on all of them, and \
         if they do, please report this",
        .0.0.join("; ")
    )]
    NoGenesis(Mistakes),
    /// What it has promised is not known.
    #[error(transparent)]
    Commitment(#[from] CommitmentError),
    /// What it has promised does not fit this start.
    #[error(transparent)]
    Candidate(#[from] BadCandidate),
    /// There is nowhere to listen, or nothing to tell the others.
    #[error("{0}")]
    Unreachable(String),
    /// There is a group of that name already.
    #[error(
        "there is a group `{name}` already: {cluster}, as {} says; nothing is founded beside it. `synod invite` on one of its \
         members prints a join code, `synod join` uses it; if another group is meant, give it another name (cluster)",
        told_by.short()
    )]
    Exists {
        /// The name.
        name: String,
        /// The id of the group that there is.
        cluster: ClusterId,
        /// Who says so.
        told_by: MemberId,
    },
    /// A file could not be written.
    #[error("data_dir: {0}; nothing is lost, start again when that is mended")]
    Io(#[from] io::Error),
}

/// Makes the data directory a member's, if it is none yet: founds the group with the others that are started so. Ends with
/// true when there is a genesis, with false when `stop` came first; then the same start goes on where this one was.
pub async fn found(
    settings: &Settings,
    bootstrap: &Bootstrap,
    stop: impl Future<Output = ()>,
) -> Result<bool, RunError> {
    let directory = DataDirectory::make(&settings.data_dir)?;
    refuse_the_departed(&directory)?;
    if let Some(genesis) = join::present(settings, &directory)? {
        let (ours, wanted) = (genesis.name, bootstrap.cluster.clone());
        return match ours == wanted {
            true => Ok(true),
            false => Err(CandidacyError::OtherName { ours, wanted }.into()),
        };
    }
    if settings.genesis.try_exists().unwrap_or(true) {
        let genesis = genesis_file::read(&settings.genesis).map_err(CandidacyError::NamedGenesis)?;
        return Err(CandidacyError::OtherGenesis { path: settings.genesis.clone(), name: genesis.name }.into());
    }
    let identity = join::identity(&directory)?;
    let listen = reach::with_ports(&reach::listens(settings, None).map_err(CandidacyError::Unreachable)?)?;
    let token = settings.api.token_file.as_deref().map(token::read).transpose().map_err(RunError::Token)?;
    let listeners = Listeners::take(settings, &listen).await?;
    let candidacy = Candidacy::start(settings, bootstrap, directory, &identity, listen).await?;
    let told = watch::Sender::new(candidacy.waiting());
    let api = WaitingApi::start(listeners, token, told.subscribe());
    if let Some(manager) = ServiceManager::of_environment() {
        tokio::spawn(manager.report_waiting(told.subscribe()));
    }
    let outcome = candidacy.run(told, stop).await;
    api.stop().await;
    outcome
}

/// What is written last.
#[derive(Clone, Copy)]
enum Written {
    /// What the candidate is bound to.
    Record,
    /// The genesis: the directory is a member's.
    Genesis,
}

/// A write that is under way, on a thread of its own.
struct Writing {
    since: Instant,
    task: JoinHandle<Result<Written, CandidacyError>>,
}

/// A candidate and its surroundings.
struct Candidacy {
    cluster: String,
    directory: Arc<DataDirectory>,
    /// Its place, wherever the asker stands.
    data_dir: PathBuf,
    candidate: Candidate,
    mesh: CandidateMesh,
    /// At most one.
    writing: Option<Writing>,
    /// Where it says that it listens; none if its settings say that.
    addresses: Option<Vec<String>>,
    settling: Settling,
    /// When to look where it listens.
    look_at: Instant,
    time: RealTime,
    /// No source can find anybody: whoever is to found the group has to find this one.
    is_blind: bool,
    logged: Logged,
}

/// What was logged last, and when.
#[derive(Default)]
struct Logged {
    words: String,
    at: Option<Instant>,
}

impl Candidacy {
    async fn start(
        settings: &Settings,
        bootstrap: &Bootstrap,
        directory: DataDirectory,
        identity: &Identity,
        listen: Vec<Multiaddr>,
    ) -> Result<Candidacy, RunError> {
        let commitment = commitment_file::read(&directory, &bootstrap.cluster).map_err(CandidacyError::from)?;
        let keypair = Keypair::ed25519_from_bytes(identity.secret()).map_err(io::Error::other)?;
        let is_blind = bootstrap.expect > 1 && !settings.discovery.can_find(&listen);
        let mesh = CandidateMesh::start(CandidateMeshSettings {
            keypair,
            listen: listen.clone(),
            sources: settings.discovery.clone(),
            leader_timeout: settings.timing.leader_timeout,
            cluster: bootstrap.cluster.clone(),
            expect: bootstrap.expect,
        })
        .await?;
        let addresses = addresses(settings, &listen, &mesh).await;
        let candidate = CandidateSettings {
            me: identity.member(),
            name: settings.name.clone().unwrap_or_else(|| identity.member().short()),
            addresses: addresses.iter().map(ToString::to_string).collect(),
            is_address: genesis_file::is_address,
            cluster: bootstrap.cluster.clone(),
            expect: bootstrap.expect as usize,
            common: CommonSettings {
                model: FaultModelKind::Crash,
                rules_version: limits::RULES_VERSION,
                limits: bootstrap.limits,
                voters_target: bootstrap.expect,
            },
            nonce: StartNonce(u64::from_be_bytes(random::bytes()?)),
            seed: random::bytes()?,
            sabotage: Sabotage::NONE,
        };
        let mistakes = candidate.mistakes();
        if !mistakes.is_empty() {
            let advice = "set mesh.announce to the addresses at which the others reach this machine";
            return Err(CandidacyError::Unreachable(format!("{}; {advice}", mistakes.join("; "))).into());
        }
        tracing::info!(
            group = bootstrap.cluster,
            expect = bootstrap.expect,
            member = %identity.member(),
            addresses = ?candidate.addresses,
            "founding a group together with others"
        );
        let restored = (commitment != Commitment::Free).then(|| CommitmentRecord {
            version: limits::PROTOCOL_VERSION,
            cluster: bootstrap.cluster.clone(),
            commitment,
        });
        let time = RealTime::start();
        let addresses = settings.mesh_announce.is_empty().then(|| candidate.addresses.clone());
        let candidate = Candidate::new(candidate, restored, time.instant()).map_err(CandidacyError::from)?;
        Ok(Candidacy {
            cluster: bootstrap.cluster.clone(),
            data_dir: std::path::absolute(directory.path())?,
            directory: Arc::new(directory),
            candidate,
            mesh,
            writing: None,
            addresses,
            settling: Settling::default(),
            look_at: time.instant(),
            time,
            is_blind,
            logged: Logged::default(),
        })
    }

    async fn run(mut self, told: watch::Sender<Waiting>, stop: impl Future<Output = ()>) -> Result<bool, RunError> {
        let outcome = self.turn(told, stop).await;
        // Others wait for what was said last: who asks again hears it from the member that starts now.
        self.mesh.stop().await;
        outcome
    }

    /// Turns until there is a group, or `stop` is done; a disk that does not answer then is not waited for for long. Says
    /// what it waits for: on the API always, in the log when it is something new, at a pace that others do not set.
    async fn turn(&mut self, told: watch::Sender<Waiting>, stop: impl Future<Output = ()>) -> Result<bool, RunError> {
        tokio::pin!(stop);
        loop {
            self.follow();
            self.hand_out()?;
            let waiting = self.waiting();
            let reason = waiting.reasons.join("; ");
            if self.logged.is_due(&reason, self.time.instant()) {
                tracing::info!("{reason}");
            }
            told.send_replace(waiting);
            let pause = self.candidate.next_timeout().since(self.time.instant()).min(TICK_MAX);
            let input = tokio::select! {
                biased;
                () = &mut stop => {
                    if self.writing.is_some() {
                        timeout(LAST_WRITE_MAX, written(&mut self.writing)).await.map_err(|_| RunError::DiskHangs)??;
                    }
                    return Ok(false);
                }
                written = written(&mut self.writing) => match written? {
                    Written::Record => CandidateInput::Durable,
                    Written::Genesis => return Ok(true),
                },
                event = self.mesh.next() => match event {
                    CandidateEvent::Found(member) => CandidateInput::Found(member),
                    CandidateEvent::Asked { from, frame } => CandidateInput::Asked { from, frame },
                    CandidateEvent::Answered { from, frame } => CandidateInput::Answered { from, frame },
                    CandidateEvent::Unanswered { from, reason } => CandidateInput::Unanswered { from, reason },
                    CandidateEvent::Unread { from, reason } => CandidateInput::Unread { from, reason },
                },
                () = sleep(pause) => CandidateInput::Tick,
            };
            self.candidate.step(input, self.time.instant());
        }
    }

    /// Looks where it listens, now and then: it may have started before its machine had an address, or be elsewhere by now.
    fn follow(&mut self) {
        let now = self.time.instant();
        let Some(said) = self.addresses.as_mut().filter(|_| now >= self.look_at) else { return };
        self.look_at = now + LOOK_INTERVAL;
        if !self.settling.look(self.mesh.listen_addresses()) {
            return;
        }
        let addresses: Vec<String> = reached_from_outside(&self.mesh).iter().map(ToString::to_string).collect();
        let same = addresses.len() == said.len() && addresses.iter().all(|address| said.contains(address));
        // Without a cable what was said last stands.
        if same || addresses.is_empty() {
            return;
        }
        tracing::info!(?addresses, "this candidate is reached elsewhere by now");
        said.clone_from(&addresses);
        self.candidate.step(CandidateInput::Moved(addresses), now);
    }

    /// Does what the candidate wants done; what it says last comes with its verdict.
    fn hand_out(&mut self) -> Result<(), CandidacyError> {
        let ready = self.candidate.ready();
        ready.asks.into_iter().for_each(|(to, frame)| self.mesh.ask(to, frame));
        ready.answers.into_iter().for_each(|(to, frame)| self.mesh.answer(to, frame));
        self.mesh.direct(self.candidate.contacts());
        if let Some(record) = ready.record {
            // G1: durable before anybody hears of it.
            self.write(Written::Record, move |directory| Ok(commitment_file::write(directory, &record)?));
        }
        match ready.verdict {
            Some(CandidateVerdict::Founded(genesis)) => {
                self.write(Written::Genesis, move |directory| keep(directory, &genesis));
                Ok(())
            }
            Some(CandidateVerdict::Exists { cluster, told_by }) => {
                Err(CandidacyError::Exists { name: self.cluster.clone(), cluster, told_by })
            }
            None => Ok(()),
        }
    }

    /// Writes beside what goes on here, however long the disk takes.
    fn write(
        &mut self,
        what: Written,
        write: impl FnOnce(&DataDirectory) -> Result<(), CandidacyError> + Send + 'static,
    ) {
        assert!(self.writing.is_none(), "a candidate hands out one record at a time, and its verdict after the last");
        let directory = self.directory.clone();
        let task = spawn_blocking(move || write(&directory).map(|()| what));
        self.writing = Some(Writing { since: self.time.instant(), task });
    }

    /// For how long the disk has not answered, if that is longer than it should take.
    fn disk_silence(&self) -> Option<Duration> {
        let silence = self.time.instant().since(self.writing.as_ref()?.since);
        (silence >= limits::DRIVER_SILENCE_MAX).then_some(silence)
    }

    /// What it waits for.
    fn waiting(&self) -> Waiting {
        let waiting = self.candidate.waiting();
        let figures = self.mesh.figures();
        let silence = self.disk_silence();
        let hangs = |silence: Duration| {
            let seconds = silence.as_secs();
            format!("the disk has not answered for {seconds} s: see to it; nobody is told what is not on it")
        };
        let mut reasons: Vec<String> = silence.map(hangs).into_iter().chain([waiting.to_string()]).collect();
        if self.is_blind && waiting.candidates.len() < waiting.expect {
            reasons.push(BLIND.to_owned());
        }
        reasons.extend(waiting.claims.iter().filter_map(|claim| {
            let mut places = figures.sources.iter().flat_map(|source| &source.addresses);
            let place = places.find(|found| found.is_of(&claim.told_by))?;
            Some(format!("{} is at {}", claim.told_by.short(), place.address))
        }));
        let mut details = Map::new();
        details.insert("group".to_owned(), json!(self.cluster));
        details.insert("data_dir".to_owned(), json!(self.data_dir));
        details.insert("candidacy".to_owned(), json!(waiting));
        details.insert("links".to_owned(), json!({ "discovery": super::mesh_figures::discovery(&figures) }));
        Waiting { role: "candidate", reasons, details, disk_silence: silence }
    }
}

impl Logged {
    /// Whether it is something new, but for its numbers, and time for it; then it is what was logged last.
    fn is_due(&mut self, reason: &str, now: Instant) -> bool {
        let words: String = reason.chars().filter(|character| !character.is_ascii_digit()).collect();
        let due = self.at.is_none_or(|at| now.since(at) >= LOG_PAUSE) && words != self.words;
        if due {
            *self = Logged { words, at: Some(now) };
        }
        due
    }
}

/// What became of the write that is under way; never, if none is. Cancel safe.
async fn written(writing: &mut Option<Writing>) -> Result<Written, CandidacyError> {
    let Some(Writing { task, .. }) = writing else { return std::future::pending().await };
    let outcome = task.await;
    *writing = None;
    outcome.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Keeps the genesis. With it the directory is a member's.
fn keep(directory: &DataDirectory, genesis: &Genesis) -> Result<(), CandidacyError> {
    let text = genesis_file::write(genesis);
    let read = genesis_file::parse(&text).map_err(CandidacyError::NoGenesis)?;
    if read != *genesis {
        // Others have a say in it.
        let mistake = "it does not read back as it is written".to_owned();
        return Err(CandidacyError::NoGenesis(Mistakes(vec![mistake])));
    }
    directory.store(GENESIS_FILE, &text)?;
    // It says nothing any more that the genesis does not.
    if let Err(error) = fs::remove_file(directory.path().join(commitment_file::COMMITMENT_FILE)) {
        tracing::debug!(%error, "the record of the candidacy stays");
    }
    tracing::info!(group = genesis.name, cluster = %genesis.cluster(), "founded");
    Ok(())
}

/// Where the others are told to reach this one at its start: what its settings say, else where it listens as soon as that is
/// known, without what leads the asker back to its own machine, unless nothing else is left.
async fn addresses(settings: &Settings, listen: &[Multiaddr], mesh: &CandidateMesh) -> Vec<Multiaddr> {
    if !settings.mesh_announce.is_empty() {
        return settings.mesh_announce.clone();
    }
    if !listen.iter().all(is_local) {
        // The addresses of a listener that listens everywhere come one by one.
        let complete = async {
            while !is_complete(listen, &mesh.listen_addresses()) {
                sleep(INTERFACES_PAUSE).await;
            }
        };
        let _ = timeout(INTERFACES_MAX, complete).await;
        if mesh.listen_addresses().iter().all(is_local) {
            tracing::warn!(
                "this machine has no address but its own loopback; others cannot reach it before it has another"
            );
        }
    }
    let told = reached_from_outside(mesh);
    if !told.is_empty() {
        return told;
    }
    let mut local = mesh.listen_addresses();
    local.truncate(limits::ADDRESSES_MAX);
    local
}

/// Where it listens just now, without what leads the asker back to its own machine.
fn reached_from_outside(mesh: &CandidateMesh) -> Vec<Multiaddr> {
    let listen = mesh.listen_addresses().into_iter();
    listen.filter(|address| !is_local(address)).take(limits::ADDRESSES_MAX).collect()
}

/// Whether there is an address for each of the listeners, over its transport.
fn is_complete(listen: &[Multiaddr], told: &[Multiaddr]) -> bool {
    let kind = |address: &Multiaddr| listen_address(address).map(|(transport, socket)| (transport, socket.port()));
    let mut asked = listen.iter().filter(|address| !is_local(address));
    asked.all(|address| told.iter().any(|told| !is_local(told) && kind(told) == kind(address)))
}

/// Whether an address leads to the asker itself, or to nobody beyond one cable.
fn is_local(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback() || ip.is_link_local(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback() || ip.is_unicast_link_local(),
        _ => false,
    }
}

/// The API of a candidate.
struct WaitingApi {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), CannotServe>>,
    socket_file: SocketFile,
}

impl WaitingApi {
    fn start(listeners: Listeners, token: Option<String>, waiting: watch::Receiver<Waiting>) -> WaitingApi {
        let (stop, stopped) = watch::channel(false);
        let api = ApiSettings {
            tcp: Some(listeners.tcp),
            unix: Some(listeners.unix),
            token,
            connections_max: descriptors::connections_max(),
            ..ApiSettings::new(0)
        };
        let task = tokio::spawn(waiting::serve(api, waiting, stopped));
        WaitingApi { stop, task, socket_file: listeners.socket_file }
    }

    /// Gives the addresses free.
    async fn stop(self) {
        self.stop.send_replace(true);
        if let Ok(Err(error)) = self.task.await {
            tracing::warn!(%error, "the API of the candidate was not served");
        }
        if let Err(error) = self.socket_file.remove() {
            tracing::debug!(%error, "the socket stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_waits_for_is_logged_when_it_is_new_and_at_a_pace() {
        let (start, mut logged) = (Instant(0), Logged::default());
        assert!(logged.is_due("1 of 3 are here", start));
        let later = start + LOG_PAUSE;
        assert!(!logged.is_due("2 of 3 are here", later), "another number is nothing new");
        assert!(logged.is_due("all are here", later));
        let due = |step: &usize| {
            let now = later + Duration::from_millis(10) * *step as u32;
            logged.is_due(&"x".repeat(*step), now)
        };
        assert_eq!((1..=1000).filter(due).count(), 10);
    }

    #[test]
    fn every_listener_needs_an_address_over_its_transport() {
        let all = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Multiaddr>>();
        let everywhere = all(&["/ip4/0.0.0.0/tcp/7271", "/ip4/0.0.0.0/udp/7271/quic-v1", "/ip4/127.0.0.1/tcp/1"]);
        assert!(!is_complete(&everywhere, &all(&["/ip4/10.0.0.1/tcp/7271"])));
        assert!(!is_complete(&everywhere, &all(&["/ip4/10.0.0.1/tcp/7271", "/ip4/10.0.0.1/udp/7272/quic-v1"])));
        assert!(is_complete(&everywhere, &all(&["/ip4/10.0.0.1/tcp/7271", "/ip4/10.0.0.1/udp/7271/quic-v1"])));
        assert!(is_complete(&all(&["/ip4/127.0.0.1/tcp/1"]), &[]));
    }
}
