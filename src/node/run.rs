//! One member, from its configuration to its end.

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::FutureExt;
use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::candidacy::CandidacyError;
use super::catch_up::CatchUp;
use super::configuration::Configuration;
use super::contacts_file::{self, BadContacts};
use super::data_directory::{DataDirectory, DataDirectoryError, log_folder};
use super::descriptors;
use super::driver_thread::{DriverError, DriverThread};
use super::identity::{Identity, IdentityError};
use super::join::JoinError;
use super::listeners::{CannotListen, Listeners};
use super::log_reader::LogReader;
use super::outside::{HelloSource, LateMesh, RealOutside};
use super::progress::Progress;
use super::real_time::RealTime;
use super::service_manager::{Facts, ServiceManager};
use super::settings::Settings;
use super::state_log::StateLog;
use super::{mesh_figures, moving, random, reach, token};
use crate::api::listen::SocketFile;
use crate::api::{self, ApiSettings, CannotServe, Host, Observation, Tickets};
use crate::delivery;
use crate::driver::inbox::{InboxSender, inbox};
use crate::driver::{Input, Start, StartError, Stop};
use crate::net::identity::door_of;
use crate::net::{Founded, Mesh, MeshError, MeshSettings};
use crate::protocol::{FoundedGroup, Halt};
use crate::types::peer::{Hello, Refusal};
use crate::types::{
    CandidacyFrame, Contact, Genesis, MemberId, PeerMessage, Position, Roster, RosterMember, Sabotage, Snapshot,
    Standing, StartNonce, Ticket, limits,
};
use crate::wal::{self, DiskFiles};

/// Zero-filled segments kept ready.
const SPARES: usize = 2;
/// Beyond the time a publish may take, a drain waits this long.
const DRAIN_MARGIN: Duration = Duration::from_secs(2);
/// The driver, or a candidate, writes its last within this time, or its disk hangs.
pub(super) const LAST_WRITE_MAX: Duration = Duration::from_secs(5);
/// A driver that has not turned for this many of its heartbeats stands still.
const HEARTBEATS_MISSED: u32 = 4;

/// Signals within this time are one wish to stop; a later one means: at once.
const ONE_WISH: Duration = Duration::from_secs(1);

/// Why a member did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDirectory(#[from] DataDirectoryError),
    /// There is no usable key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Joining came to nothing.
    #[error(transparent)]
    Join(Box<JoinError>),
    /// Founding a group with others came to nothing.
    #[error(transparent)]
    Candidacy(Box<CandidacyError>),
    /// The key neither founded the group nor joined it.
    #[error(
        "the key in data_dir is of member {member}, which the genesis of group `{group}` does not name, and which has not \
         joined: check data_dir and genesis, or join with a code; `synod invite` on a member prints one, and without one \
         nobody gets in"
    )]
    NotAMember {
        /// Whose key it is.
        member: MemberId,
        /// The group's name.
        group: String,
    },
    /// Rule I1: the others refused this data directory before, for good.
    #[error(
        "{0}\nthis data directory was refused before and is not started again: start the member on its newest one; if that is \
         lost, so is this identity: join with a new data directory (`synod invite` on a member prints a join code)"
    )]
    RefusedBefore(String),
    /// The member has left its group, or was removed.
    #[error(
        "{0}\nthis data directory is not started again, and its key is never used again: to come back, join with a new data \
         directory (`synod invite` on a member prints a join code)"
    )]
    Departed(String),
    /// What the door told of the others cannot be read.
    #[error(transparent)]
    Contacts(#[from] BadContacts),
    /// The token file cannot be used.
    #[error("{0}")]
    Token(String),
    /// Addresses cannot be used.
    #[error(transparent)]
    CannotListen(#[from] CannotListen),
    /// The mesh does not start.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// The API cannot be served.
    #[error(transparent)]
    Api(#[from] CannotServe),
    /// The driver ended.
    #[error(transparent)]
    Driver(Box<DriverError>),
    /// The disk does not answer, and nobody waits for it any longer.
    #[error(
        "the disk has not answered for {} s: stopped without it; what was acknowledged is on it, see to the disk and start \
         again",
        LAST_WRITE_MAX.as_secs()
    )]
    DiskHangs,
    /// The system refuses a thread or randomness.
    #[error("the system refuses what the member needs: {0}")]
    System(#[from] io::Error),
}

impl From<JoinError> for RunError {
    fn from(error: JoinError) -> RunError {
        RunError::Join(Box::new(error))
    }
}

impl From<CandidacyError> for RunError {
    fn from(error: CandidacyError) -> RunError {
        RunError::Candidacy(Box::new(error))
    }
}

impl From<DriverError> for RunError {
    fn from(error: DriverError) -> RunError {
        RunError::Driver(Box::new(error))
    }
}

/// Who this member is, with its data directory held.
struct Member {
    identity: Identity,
    genesis: Genesis,
    settings: Settings,
    mesh_listen: Vec<Multiaddr>,
    /// Whether the others are told where it listens: not where genesis says where it is.
    tells: bool,
    /// What they are told at its start.
    announced: Vec<String>,
    /// Where they may be, as far as the door told it.
    contacts: Vec<Contact>,
    directory: DataDirectory,
}

/// Why a member does not go on, though nothing failed.
enum Wish {
    /// It was told to stop.
    Stop,
    /// It has left its group.
    Left,
}

/// Its outcome is seen from the member's state, by whoever waits for it.
const NOBODYS: Ticket = Ticket(u64::MAX);

/// Runs a member until `stop` is done, then drains it. Needs a tokio runtime.
///
/// While it leaves or drains a second `stop`, a while after the first, ends that at once; then only the last write is waited
/// for, and not for long.
pub async fn run<S: Future<Output = ()>>(
    configuration: Configuration,
    stop: impl FnMut() -> S,
) -> Result<(), RunError> {
    run_with(configuration, stop, ONE_WISH).await
}

async fn run_with<S: Future<Output = ()>>(
    configuration: Configuration,
    mut stop: impl FnMut() -> S,
    one_wish: Duration,
) -> Result<(), RunError> {
    let directory = DataDirectory::lock(&configuration.settings.data_dir)?;
    let identity = Identity::load(directory.path())?;
    refuse_the_departed(&directory)?;
    let token =
        configuration.settings.api.token_file.as_deref().map(token::read).transpose().map_err(RunError::Token)?;
    let member = Member::new(configuration, identity, directory).await?;
    let listeners = Listeners::take(&member.settings, &member.mesh_listen).await?;
    tracing::info!(
        group = member.genesis.name,
        cluster = %member.genesis.cluster().short(),
        member = %member.identity.member(),
        api = %listeners.tcp.local_addr()?,
        socket = %member.settings.api.socket.display(),
        "starting"
    );
    let mut parts = Parts::start(&member, listeners, token)?;
    let outcome = match parts.serve_until(&member, stop()).await {
        // The others knew of it first.
        Err(error) if parts.is_leaving() && left(&error) => Ok(Wish::Left),
        outcome => outcome,
    };
    if let Some(service_manager) = &parts.service_manager {
        service_manager.stopping();
    }
    member.keep_what_is_final(&outcome);
    let told = Instant::now();
    let hurry = async {
        // One wish to stop often comes twice: to the process and to its group, or as a signal and as the end of input.
        loop {
            stop().await;
            if told.elapsed() >= one_wish {
                break;
            }
        }
    };
    // Whoever is in a hurry while the member leaves will not wait for the drain, either.
    let hurry = hurry.shared();
    if matches!(outcome?, Wish::Stop) && member.settings.leave_on_exit {
        let outcome = parts.leave(&member, hurry.clone()).await;
        member.keep_what_is_final(&outcome);
        outcome?;
    }
    let outcome = parts.drain(&member, hurry).await;
    member.keep_what_is_final(&outcome);
    outcome?;
    tracing::info!("stopped");
    Ok(())
}

/// What is written into the data directory of a member that has left.
const LEFT: &str = "this member has left its group";

/// A directory whose member was refused for good, or is none any more, is not started again.
pub(super) fn refuse_the_departed(directory: &DataDirectory) -> Result<(), RunError> {
    if let Some(words) = directory.departed()? {
        return Err(RunError::Departed(words));
    }
    match directory.refused()? {
        Some(words) => Err(RunError::RefusedBefore(words)),
        None => Ok(()),
    }
}

/// Whether a member ended because it heard that it has left.
fn left(error: &RunError) -> bool {
    matches!(error, RunError::Driver(error) if matches!(
        error.as_ref(),
        DriverError::Stop(Stop::Halt(Halt::Departed { standing: Standing::Left }))
    ))
}

/// The words with which a member learnt that it was removed, or had left without knowing it.
fn departed(error: &RunError) -> Option<String> {
    match error {
        RunError::Driver(error) => match error.as_ref() {
            DriverError::Start(StartError::Halt(halt @ Halt::Departed { .. }))
            | DriverError::Stop(Stop::Halt(halt @ Halt::Departed { .. })) => Some(halt.to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// Rule I1: the words of a peer that has heard more of this identity than its log knows. A further start would raise the
/// incarnation above what the others know, and pass for an honest one: so a directory that was refused stays so. (Of two
/// processes one has the newest log, and may start again.)
fn refused_for_good(error: &RunError) -> Option<&Refusal> {
    match error {
        RunError::Driver(error) => match error.as_ref() {
            DriverError::Stop(Stop::Halt(Halt::RefusedAsStale {
                refusal: refusal @ Refusal::StaleDisk { .. },
                ..
            })) => Some(refusal),
            _ => None,
        },
        _ => None,
    }
}

/// The parts of a running member.
struct Parts {
    driver: DriverThread,
    mesh: LateMesh,
    hello: Option<oneshot::Receiver<watch::Receiver<Hello>>>,
    roster: watch::Receiver<Roster>,
    inbox: InboxSender,
    api: JoinHandle<Result<(), CannotServe>>,
    socket_file: SocketFile,
    stop_api: watch::Sender<bool>,
    tickets: Arc<Tickets>,
    observed: watch::Receiver<Option<Observation>>,
    service_manager: Option<Arc<ServiceManager>>,
}

impl Parts {
    /// Starts the API and the driver's thread. The mesh follows when the driver has a hello.
    fn start(member: &Member, listeners: Listeners, token: Option<String>) -> Result<Parts, RunError> {
        let time = RealTime::start();
        let (inbox_sender, inbox) = inbox();
        let mesh: LateMesh = Arc::new(OnceLock::new());
        let tickets = Arc::new(Tickets::new());
        let reader = LogReader::default();
        let (delivered_sender, delivered) = watch::channel(Position(0));
        let notify = move |position| {
            delivered_sender.send_replace(position);
        };
        let genesis = member.genesis.configuration();
        let (delivery_writer, delivery_reader) = delivery::stream(genesis, Arc::new(reader.clone()), notify);
        let (observed_sender, observed) = watch::channel::<Option<Observation>>(None);
        let (hello_sender, hello) = oneshot::channel();
        // Until the log is read, those of the genesis are the members we know.
        let (roster_sender, roster) = watch::channel(member.first_roster());
        let folder = log_folder(member.directory.path());
        let outside = RealOutside {
            time,
            inbox,
            mesh: mesh.clone(),
            hello: HelloSource::Waiting(hello_sender),
            roster: roster_sender,
            catch_up: member.catch_up(reader.clone(), mesh.clone())?,
            delivery: delivery_writer,
            tickets: tickets.clone(),
            observed: observed_sender,
            progress: Progress::of(bytes_of(&folder)),
            state_log: StateLog::default(),
            encoded: None,
        };
        let driver =
            DriverThread::start(member.start()?, DiskFiles::new(folder), outside, reader, inbox_sender.clone())?;
        let links = mesh.clone();
        let host = Host {
            genesis: member.genesis.clone(),
            data_dir: std::path::absolute(member.directory.path())?,
            inbox: inbox_sender.clone(),
            tickets: tickets.clone(),
            delivery: delivery_reader,
            delivered,
            observed: observed.clone(),
            started: driver.started.clone(),
            drained: driver.drained.clone(),
            now: Box::new(move || time.now()),
            random: Box::new(random::bytes),
            door_of,
            warnings: Box::new(member.warnings()),
            links: Box::new(move || mesh_figures::document(links.get())),
        };
        let driver_silence_max = limits::DRIVER_SILENCE_MAX.max(member.settings.timing.heartbeat * HEARTBEATS_MISSED);
        let settings = ApiSettings {
            tcp: Some(listeners.tcp),
            unix: Some(listeners.unix),
            publish_timeout: member.settings.api.publish_timeout,
            token,
            connections_max: descriptors::connections_max(),
            driver_silence_max,
            ..ApiSettings::new(member.genesis.limits.message_bytes_max)
        };
        let (stop_api, stopped) = watch::channel(false);
        let service_manager = ServiceManager::of_environment();
        if let Some(manager) = &service_manager {
            tokio::spawn(manager.clone().report(Facts {
                started: driver.started.clone(),
                observed: observed.clone(),
                driver_silence_max,
                time,
            }));
        }
        let api = tokio::spawn(api::serve(settings, host, stopped));
        let socket_file = listeners.socket_file;
        Ok(Parts {
            driver,
            mesh,
            hello: Some(hello),
            roster,
            inbox: inbox_sender,
            api,
            socket_file,
            stop_api,
            tickets,
            observed,
            service_manager,
        })
    }

    /// Starts the mesh when it is time, and goes on until `stop` is done, or the member has left, or something ends by
    /// itself.
    async fn serve_until(&mut self, member: &Member, stop: impl Future<Output = ()>) -> Result<Wish, RunError> {
        tokio::pin!(stop);
        let mut left = self.driver.left.clone();
        let (mut observed, mut warned) = (self.observed.clone(), false);
        let roster = self.roster.clone();
        let whereabouts = || member.whereabouts(&roster);
        let moves = moving::follow(self.mesh.clone(), member.announced.clone(), whereabouts, self.inbox.clone());
        tokio::pin!(moves);
        loop {
            let hello = async {
                match &mut self.hello {
                    Some(hello) => hello.await.ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut stop => return Ok(Wish::Stop),
                Ok(_) = left.wait_for(|left| *left) => return Ok(Wish::Left),
                ended = self.driver.ended() => {
                    ended?;
                    unreachable!("the driver ends in order only when it is told");
                }
                ended = &mut self.api => {
                    ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
                    unreachable!("the API ends in order only when it is told");
                }
                Ok(first) = observed.wait_for(Option::is_some), if !warned => {
                    warned = true;
                    let snapshot = &first.as_ref().expect("it was waited for").snapshot;
                    member.warnings()(snapshot).iter().for_each(|warning| tracing::warn!("{warning}"));
                }
                never = &mut moves => match never {},
                Some(hello) = hello => {
                    self.hello = None;
                    let mesh = Mesh::start(member.mesh_settings(hello, self.roster.clone(), self.inbox.clone())?).await?;
                    tracing::info!(listen = ?mesh.listen_addresses(), "the mesh is up");
                    // There is one hello, so there is one mesh.
                    let _ = self.mesh.set(mesh);
                }
            }
        }
    }

    /// Whether this member is on its way out, or has left.
    fn is_leaving(&self) -> bool {
        let leaves = |observation: &Observation| observation.snapshot.leaving;
        *self.driver.left.borrow() || self.observed.borrow().as_ref().is_some_and(leaves)
    }

    /// Leaves the group, as far as that takes no longer than a drain. `hurry` ends the wait.
    async fn leave(&mut self, member: &Member, hurry: impl Future<Output = ()>) -> Result<Wish, RunError> {
        if !*self.driver.started.borrow() {
            tracing::warn!("told to stop before the log was read; this member stays a member");
            return Ok(Wish::Stop);
        }
        tracing::info!("leaving the group, as leave_on_exit says");
        // A driver that has ended says so below.
        let _ = self.inbox.push(Input::Leave { ticket: NOBODYS }, None);
        let patience = member.settings.api.publish_timeout + DRAIN_MARGIN;
        let mut leaves = self.driver.left.clone();
        tokio::select! {
            biased;
            Ok(_) = leaves.wait_for(|left| *left) => return Ok(Wish::Left),
            ended = self.driver.ended() => match ended.map_err(RunError::from) {
                // The others knew of it first.
                Err(error) if left(&error) => return Ok(Wish::Left),
                outcome => {
                    outcome?;
                    unreachable!("the driver ends in order only when it is told");
                }
            },
            () = tokio::time::sleep(patience) => tracing::warn!(
                waited_seconds = patience.as_secs(),
                "this member may not leave yet; unless its leave is on its way already, it stays a member. `synod leave` waits for \
                 as long as it takes"
            ),
            () = hurry => tracing::warn!("stopped at once; unless its leave is on its way already, this member stays a member"),
        }
        Ok(Wish::Stop)
    }

    /// Stops accepting, finishes what was accepted, resigns if leading. `hurry` ends the wait. Tells whether the member has
    /// left by now.
    async fn drain(mut self, member: &Member, hurry: impl Future<Output = ()>) -> Result<Wish, RunError> {
        tracing::info!("draining");
        self.stop_api.send_replace(true);
        if !*self.driver.started.borrow() {
            // Nothing was accepted in this start, and the log may be left at any moment.
            self.api.abort();
            remove(self.socket_file);
            return Ok(Wish::Stop);
        }
        self.driver.drain();
        let patience = member.settings.api.publish_timeout + DRAIN_MARGIN;
        let finished = async {
            // A driver that has ended has nothing left to drain.
            let _ = self.driver.drained.wait_for(|drained| *drained).await;
            let _ = (&mut self.api).await;
        };
        tokio::select! {
            finished = timeout(patience, finished) => {
                if finished.is_err() {
                    tracing::warn!("not everything accepted is ordered; it is on the disk and is offered again at the next start");
                }
            }
            () = hurry => tracing::warn!("stopped at once; what is accepted is on the disk and is offered again at the next start"),
        }
        let is_leaving = self.is_leaving();
        let mut wish = if *self.driver.left.borrow() { Wish::Left } else { Wish::Stop };
        let finished = timeout(LAST_WRITE_MAX, self.driver.finish()).await.map_err(|_| RunError::DiskHangs)?;
        match finished.map_err(RunError::from) {
            // The others let go of it at the same time, and say so.
            Err(error) if is_leaving && left(&error) => wish = Wish::Left,
            outcome => outcome?,
        }
        self.tickets.close();
        if let Some(mesh) = self.mesh.get() {
            mesh.clone().stop().await;
        }
        self.api.abort();
        remove(self.socket_file);
        Ok(wish)
    }
}

/// Where a member is, if the others are to be told: on the way to them.
async fn whereabouts(settings: &Settings, listen: &[Multiaddr], tells: bool, others: &[Multiaddr]) -> Vec<String> {
    let announced = match tells {
        true => reach::announced(settings, listen, others).await,
        // The others know where it is; unless it is told what else to say.
        false => settings.mesh_announce.clone(),
    };
    announced.iter().map(ToString::to_string).collect()
}

impl Member {
    async fn new(
        configuration: Configuration,
        identity: Identity,
        directory: DataDirectory,
    ) -> Result<Member, RunError> {
        let member = identity.member();
        let is_named = configuration.named(&member).is_some();
        if !is_named && !configuration.joined {
            return Err(RunError::NotAMember { member, group: configuration.genesis.name });
        }
        let listen = configuration.mesh_listen(&member).map_err(|mistake| CannotListen(vec![mistake]))?;
        let mesh_listen = reach::with_ports(&listen)?;
        let contacts = contacts_file::read(directory.path())?;
        let Configuration { settings, genesis, joined } = configuration;
        let tells = !is_named || joined;
        let named = genesis.members.iter().filter(|other| other.id != member);
        let others = contacts.iter().map(|other| &other.addresses).chain(named.map(|other| &other.addresses));
        let others: Vec<Multiaddr> = others.flat_map(|addresses| reach::readable(addresses)).collect();
        let announced = whereabouts(&settings, &mesh_listen, tells, &others).await;
        Ok(Member { identity, genesis, settings, mesh_listen, tells, announced, contacts, directory })
    }

    /// Where it is just now, if the others are to be told.
    async fn whereabouts(&self, roster: &watch::Receiver<Roster>) -> Vec<String> {
        let me = self.identity.member();
        let members = roster.borrow().members.clone();
        let others = members.iter().filter(|other| other.id != me);
        let others: Vec<Multiaddr> = others.flat_map(|other| reach::readable(&other.addresses)).collect();
        whereabouts(&self.settings, &self.mesh_listen, self.tells, &others).await
    }

    /// What its operator should see to, as things stand.
    fn warnings(&self) -> impl Fn(&Snapshot) -> Vec<String> + use<> {
        // Who tells where it is needs no warning.
        let listen = if self.announced.is_empty() { self.mesh_listen.clone() } else { Vec::new() };
        move |snapshot| {
            let own = snapshot.membership.members.iter().find(|member| member.id == snapshot.member);
            own.and_then(|own| reach::moved(&listen, &own.addresses)).into_iter().collect()
        }
    }

    /// What must not be forgotten between this start and a next one.
    fn keep_what_is_final(&self, outcome: &Result<Wish, RunError>) {
        match outcome {
            Ok(Wish::Stop) => {}
            Ok(Wish::Left) => self.keep_departure(LEFT),
            Err(error) => {
                if let Some(words) = departed(error) {
                    self.keep_departure(&words);
                }
                if let Some(refusal) = refused_for_good(error) {
                    self.keep_refusal(refusal);
                }
            }
        }
    }

    fn keep_departure(&self, words: &str) {
        if let Err(error) = self.directory.mark_departed(words) {
            tracing::error!(%error, "the departure cannot be written down; never start this data directory again");
        }
    }

    fn keep_refusal(&self, refusal: &Refusal) {
        if let Err(error) = self.directory.mark_refused(&refusal.to_string()) {
            tracing::error!(%error, "the refusal cannot be written down; never start this data directory again");
        }
    }

    fn first_roster(&self) -> Roster {
        let members = self.genesis.members.iter().map(|member| RosterMember {
            id: member.id,
            name: member.name.clone(),
            addresses: member.addresses.clone(),
            dial: true,
        });
        Roster { members: members.collect(), ..Roster::default() }
    }

    fn mesh_settings(
        &self,
        hello: watch::Receiver<Hello>,
        roster: watch::Receiver<Roster>,
        inbox: InboxSender,
    ) -> Result<MeshSettings, RunError> {
        let keypair =
            Keypair::ed25519_from_bytes(self.identity.secret()).map_err(|error| MeshError::Key(error.to_string()))?;
        Ok(MeshSettings {
            keypair,
            listen: self.mesh_listen.clone(),
            leader_timeout: self.settings.timing.leader_timeout,
            sources: self.settings.discovery.clone(),
            founded: self.founded(),
            announce: self.settings.mesh_announce.clone(),
            gossip: self.settings.gossip,
            roster,
            hello,
            inbox,
            credits: Arc::new(Semaphore::new(limits::INBOX_BYTES)),
        })
    }

    /// What candidates, and members of other groups, hear of this one (rule G1).
    fn founded(&self) -> Founded {
        let group = FoundedGroup { me: self.identity.member(), genesis: self.genesis.clone() };
        let greeting = group.greeting();
        let answer = move |from: MemberId, asked: &CandidacyFrame| {
            let answer = group.answer(from, asked);
            (answer.frame, answer.other_group)
        };
        Founded { greeting, answer: Box::new(answer) }
    }

    fn start(&self) -> io::Result<Start> {
        Ok(Start {
            genesis: self.genesis.clone(),
            key: self.identity.key().clone(),
            addresses: self.announced.clone(),
            contacts: self.contacts.clone(),
            nonce: StartNonce(u64::from_be_bytes(random::bytes()?)),
            timing: self.settings.timing,
            sabotage: Sabotage::NONE,
            log: wal::Settings { segment_bytes: self.settings.segment_bytes, spares: SPARES, sabotage: Sabotage::NONE },
        })
    }

    fn catch_up(&self, reader: LogReader, mesh: LateMesh) -> io::Result<CatchUp> {
        let send = move |to: MemberId, message: PeerMessage| {
            if let Some(mesh) = mesh.get() {
                mesh.send_message(to, message);
            }
        };
        CatchUp::start(move |location| reader.payload(location), send)
    }
}

/// Bytes of all files in a folder; 0 if there is none.
fn bytes_of(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// The socket of a member that has ended leads nowhere.
fn remove(socket: SocketFile) {
    if let Err(error) = socket.remove() {
        tracing::debug!(%error, "the socket stays");
    }
}

#[cfg(test)]
mod tests;
