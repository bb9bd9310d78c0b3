//! A member: the API over real sockets, with what it needs behind it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use super::driver::{Control, Driver, MemoryLog, Mood};
use crate::api::client::{Client, Target};
use crate::api::{ApiSettings, Host, Observation, Tickets, listen, serve};
use crate::delivery;
use crate::driver::LogFigures;
use crate::driver::inbox;
use crate::types::{
    Ack, ClusterLimits, Configuration, Digest, Epoch, EpochSnapshot, FaultModelKind, Genesis, GenesisMember,
    Incarnation, Instant, MemberId, MemberSnapshot, MembershipSnapshot, Now, PeerSnapshot, Position, Readiness, Role,
    Round, Slot, Snapshot, StartNonce, View, WallTime,
};

pub(super) const OWN: MemberId = MemberId([0xa7; 32]);
pub(super) const OTHER: MemberId = MemberId([0xb8; 32]);
/// A member that does not vote.
pub(super) const LEARNER: MemberId = MemberId([0xc9; 32]);
/// What the wall clock of every member says, always.
pub(super) const WALL: WallTime = WallTime(1_795_163_467_000_000_000);
/// What the system's randomness gives, always.
pub(super) const SECRET: [u8; 16] = [0x5e; 16];
/// When members are started, by their clock: an hour after its beginning.
pub(super) const NOW: Instant = Instant(3_600_000_000_000);
pub(super) const MESSAGE_BYTES_MAX: u64 = 100_000;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a member is started.
pub(super) struct Plan {
    pub(super) ring_bytes: usize,
    pub(super) started: bool,
    pub(super) publish_timeout: Duration,
    pub(super) reader_stall_max: Duration,
    pub(super) token: Option<String>,
    pub(super) genesis: Genesis,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            ring_bytes: 1 << 20,
            started: true,
            publish_timeout: Duration::from_secs(10),
            reader_stall_max: Duration::from_secs(30),
            token: None,
            genesis: genesis(),
        }
    }
}

/// A running member.
pub(super) struct Member {
    pub(super) address: String,
    pub(super) socket: std::path::PathBuf,
    pub(super) stop: watch::Sender<bool>,
    pub(super) started: watch::Sender<bool>,
    pub(super) observed: watch::Sender<Option<Observation>>,
    pub(super) tickets: Arc<Tickets>,
    /// Counts who waits for positions.
    pub(super) position: Arc<watch::Sender<Position>>,
    pub(super) serving: tokio::task::JoinHandle<()>,
    control: Arc<Control>,
    driver: Option<JoinHandle<()>>,
    _folder: TempDir,
}

impl Member {
    pub(super) async fn start() -> Member {
        Member::planned(Plan::default()).await
    }

    pub(super) async fn planned(plan: Plan) -> Member {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("synod.sock");
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap().to_string();
        let (stop, stop_seen) = watch::channel(false);
        let (started, started_seen) = watch::channel(plan.started);
        let (observed, observed_seen) = watch::channel(plan.started.then(|| observation(snapshot())));
        let (position, delivered) = watch::channel(Position(0));
        let log = Arc::new(MemoryLog::default());
        let position = Arc::new(position);
        let notify = {
            let position = position.clone();
            move |last| {
                position.send_replace(last);
            }
        };
        let (writer, delivery) =
            delivery::stream_with_ring(plan.genesis.configuration(), log.clone(), notify, plan.ring_bytes);
        let (inbox_sender, inbox) = inbox::inbox();
        let tickets = Arc::new(Tickets::new());
        let control = Arc::new(Control {
            mood: Mutex::new(Mood::Order),
            epochs: Mutex::default(),
            ended: AtomicBool::new(false),
            drained: watch::Sender::new(false),
        });
        let driver = Driver::new(control.clone(), inbox, writer, log, tickets.clone());
        let driver = std::thread::spawn(move || driver.run());
        let host = Host {
            genesis: plan.genesis,
            data_dir: "/var/lib/synod/data".into(),
            inbox: inbox_sender,
            tickets: tickets.clone(),
            delivery,
            delivered,
            observed: observed_seen,
            started: started_seen,
            drained: control.drained.subscribe(),
            now: Box::new({
                let start = std::time::Instant::now();
                move || Now { instant: NOW + start.elapsed(), wall: WALL }
            }),
            random: Box::new(|| Ok(SECRET)),
            door_of: |member, address| Some(format!("{address}/p2p/{}", member.short())),
            warnings: Box::new(|snapshot| snapshot.leaving.then(|| "see to it".to_owned()).into_iter().collect()),
            links: Box::new(|| serde_json::json!([{"member": OTHER, "round_trip_ms": 0.1}])),
        };
        let mut settings = ApiSettings::new(MESSAGE_BYTES_MAX);
        settings.tcp = Some(tcp);
        settings.unix = Some(listen::unix_socket(&socket).await.unwrap().0);
        settings.publish_timeout = plan.publish_timeout;
        settings.reader_stall_max = plan.reader_stall_max;
        settings.token = plan.token;
        let serving = tokio::spawn(async { serve(settings, host, stop_seen).await.unwrap() });
        Member {
            address,
            socket,
            stop,
            started,
            observed,
            tickets,
            position,
            serving,
            control,
            driver: Some(driver),
            _folder: folder,
        }
    }

    pub(super) fn tcp(&self) -> Client {
        Client::new(Target::Tcp(self.address.clone()))
    }

    pub(super) fn unix(&self) -> Client {
        Client::new(Target::Unix(self.socket.clone()))
    }

    pub(super) fn mood(&self, mood: Mood) {
        *self.control.mood.lock().unwrap() = mood;
    }

    /// Publishes texts, one after the other.
    pub(super) async fn publish(&self, texts: impl IntoIterator<Item = String>) {
        let client = self.tcp();
        for text in texts {
            client.publish("t", Some("text/plain"), Ack::Ordered, Bytes::from(text)).await.unwrap();
        }
    }

    /// Has the driver observe something else than [`snapshot`] and [`membership`] say.
    pub(super) fn observe(&self, change: impl FnOnce(&mut Snapshot, &mut MembershipSnapshot)) {
        let (mut snapshot, mut membership) = (snapshot(), membership());
        change(&mut snapshot, &mut membership);
        snapshot.membership = Arc::new(membership);
        self.observed.send_replace(Some(observation(snapshot)));
    }

    /// Ends the epoch before `next`.
    pub(super) fn end_epoch(&self, next: Configuration) {
        self.control.epochs.lock().unwrap().push(next);
    }

    /// Waits until a number of the status has this value; each look is a request.
    pub(super) async fn until_status(&self, name: &str, value: u64) {
        let client = self.unix();
        let look = async || client.get_json::<Value>("/v1/status").await.unwrap()[name] == value;
        until(&format!("{name} is {value}"), look).await;
    }
}

/// Looks until something is so that stays so. Only a failure takes long.
pub(super) async fn until(fact: &str, mut look: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !look().await {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("still not so after {PATIENCE:?}: {fact}"));
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.control.ended.store(true, Ordering::Relaxed);
        let ended = self.driver.take().expect("dropped once").join();
        assert!(ended.is_ok() || std::thread::panicking(), "the driver panicked");
    }
}

/// The genesis of a group of two.
pub(super) fn genesis() -> Genesis {
    let member = |id, name: &str| GenesisMember { name: name.to_owned(), id, addresses: vec![ADDRESS.to_owned()] };
    Genesis {
        name: "trial".to_owned(),
        nonce: [7; 16],
        model: FaultModelKind::Crash,
        rules_version: 0,
        members: vec![member(OWN, "one"), member(OTHER, "two")],
        limits: ClusterLimits::default(),
        voters_target: 3,
    }
}

const ADDRESS: &str = "/ip4/127.0.0.1/tcp/1";

/// The membership of [`genesis`], and a learner.
pub(super) fn membership() -> MembershipSnapshot {
    let configuration = genesis().configuration();
    let member = |id: MemberId, name: &str| MemberSnapshot {
        id,
        name: name.to_owned(),
        addresses: vec![ADDRESS.to_owned()],
        votes: configuration.voters.contains(&id),
        incarnation: Incarnation(1),
        since: Epoch(0),
        joined: Position(0),
        ready: false,
        leaving: None,
        suspected_by: Vec::new(),
    };
    MembershipSnapshot {
        established: Epoch(0),
        voters_target: 3,
        members: vec![member(OWN, "one"), member(OTHER, "two"), member(LEARNER, "three")],
        former: Vec::new(),
        epochs: vec![EpochSnapshot {
            configuration: configuration.clone(),
            began: Position(0),
            slot: Slot(0),
            proof: None,
        }],
        invites: 0,
        configuration,
    }
}

/// What a driver says that turns all the time.
pub(super) fn observation(snapshot: Snapshot) -> Observation {
    Observation { snapshot, log: LogFigures::default(), at: Instant(u64::MAX) }
}

pub(super) fn snapshot() -> Snapshot {
    let round = Round { epoch: Epoch(0), view: View(3) };
    Snapshot {
        cluster: Digest([1; 32]),
        member: OWN,
        incarnation: Incarnation(2),
        nonce: StartNonce(7),
        role: Role::Leader,
        round,
        leader: OWN,
        decided: Position(0),
        delivered: Position(0),
        slot_decided: Slot(10),
        slot_known: Slot(12),
        lane_unordered: (1, 100),
        intake: (2, 200),
        sync_slowest: Duration::from_micros(1500),
        clock_offset_ms: -3,
        views_entered: 1,
        misbehaviour: 0,
        draining: false,
        readiness: Readiness::Ready,
        peers: vec![PeerSnapshot {
            member: OTHER,
            linked: true,
            incarnation: Some(Incarnation(5)),
            silent: Some(Duration::from_millis(40)),
            round: Some(round),
            slot_decided: Slot(9),
            links: vec![OWN],
        }],
        membership: Arc::new(membership()),
        waits_for: Vec::new(),
        leaving: false,
        catching_up: None,
    }
}
