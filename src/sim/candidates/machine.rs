//! One machine of the candidates' world: its disk, its process, what it is set to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::SigningKey;

use crate::protocol::{Candidate, CandidateSettings, FoundedGroup};
use crate::sim::clock::Moment;
use crate::types::limits::RULES_VERSION;
use crate::types::{
    ClusterId, ClusterLimits, CommitmentRecord, CommonSettings, Digest, FaultModelKind, MemberId, Sabotage, StartNonce,
};

/// Disks that one machine may have, one after the other.
pub const DISKS_MAX: u64 = 4;
/// Machines there may be.
pub const MACHINES_MAX: usize = 14;

/// What a machine is set to; read at each start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Name for people.
    pub name: String,
    /// The group that it is a candidate for.
    pub cluster: String,
    /// How many found it.
    pub expect: usize,
    /// How many are to vote.
    pub voters_target: u32,
    /// How often its mesh moved to another address.
    pub moves: u64,
    /// What it says of where its mesh listens.
    pub listens: Listens,
}

/// Where a machine says that its mesh listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listens {
    /// At an address of its own.
    Own,
    /// At an address of its own, and at one that other machines have as well: that of a bridge within the machine.
    Bridged,
    /// At the bridge alone.
    Bridge,
    /// At what is no address: it is hostile.
    Rubbish,
    /// At an address that is written as nobody writes it: it is hostile.
    Unusual,
    /// Nowhere: it is hostile.
    Nowhere,
}

impl Listens {
    /// All, with the words of scenarios.
    pub const ALL: [(&str, Listens); 6] = [
        ("own", Listens::Own),
        ("bridged", Listens::Bridged),
        ("bridge", Listens::Bridge),
        ("rubbish", Listens::Rubbish),
        ("unusual", Listens::Unusual),
        ("nowhere", Listens::Nowhere),
    ];

    fn addresses(self, own: String) -> Vec<String> {
        let bridge = "/ip4/172.17.0.1/tcp/7271".to_owned();
        match self {
            Listens::Own => vec![own],
            Listens::Bridged => vec![bridge, own],
            Listens::Bridge => vec![bridge],
            Listens::Rubbish => vec![own, "rubbish".to_owned()],
            Listens::Unusual => vec![own.replace("tcp/7271", "tcp/07271")],
            Listens::Nowhere => Vec::new(),
        }
    }
}

/// Whether a text is one of the addresses that machines of this world have.
pub fn is_address(text: &str) -> bool {
    let octets = text.strip_prefix("/ip4/").and_then(|text| text.strip_suffix("/tcp/7271"));
    octets.is_some_and(|octets| octets.parse::<std::net::Ipv4Addr>().is_ok())
}

/// What runs on it.
pub enum Process {
    /// Nothing.
    Down,
    /// A candidate.
    Candidate(Box<Candidate>),
    /// A member of a founded group.
    Member(FoundedGroup),
    /// Nothing: it stopped, because this group exists.
    Stopped(ClusterId),
}

/// When a process dies by itself: with one of its coming records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doom {
    /// Which one, from 1.
    pub record: u64,
    /// It is durable, though the process does not know; else it is lost.
    pub durable: bool,
}

/// One machine.
pub struct Machine {
    /// What it is set to.
    pub setup: Setup,
    /// How many disks were lost.
    pub disks_lost: u64,
    /// What its disk holds.
    pub disk: Option<Bytes>,
    /// Records on their way to the disk.
    pub writing: VecDeque<Bytes>,
    /// How long that takes.
    pub sync: Duration,
    /// How often a process was started.
    pub starts: u64,
    /// What runs.
    pub process: Process,
    /// When it dies by itself.
    pub doom: Option<Doom>,
    /// When it looks at the time next.
    pub wake: Moment,
    /// Its asks that are not answered yet: which exchange.
    pub asked: BTreeMap<MemberId, u64>,
    /// Asks that it has not answered yet: which exchange.
    pub asks: BTreeMap<MemberId, u64>,
}

impl Machine {
    /// A machine that nobody has started.
    pub fn new(index: usize, expect: usize, sync: Duration) -> Machine {
        let name = format!("member-{}", index + 1);
        let setup = Setup {
            name,
            cluster: "shop".to_owned(),
            expect,
            voters_target: expect as u32,
            moves: 0,
            listens: Listens::Own,
        };
        Machine {
            setup,
            disks_lost: 0,
            disk: None,
            writing: VecDeque::new(),
            sync,
            starts: 0,
            process: Process::Down,
            doom: None,
            wake: Moment(0),
            asked: BTreeMap::new(),
            asks: BTreeMap::new(),
        }
    }

    /// Its key: that of its present disk.
    pub fn id(&self, index: usize) -> MemberId {
        key(index, self.disks_lost)
    }

    /// Whether a process runs.
    pub fn runs(&self) -> bool {
        matches!(self.process, Process::Candidate(_) | Process::Member(_))
    }

    /// Its candidate, if it runs one.
    pub fn candidate(&self) -> Option<&Candidate> {
        match &self.process {
            Process::Candidate(candidate) => Some(candidate),
            _ => None,
        }
    }

    /// What its disk holds.
    pub fn record(&self) -> Option<CommitmentRecord> {
        let bytes = self.disk.as_ref()?;
        Some(CommitmentRecord::admit(bytes).expect("this disk keeps what was written"))
    }

    /// Where its mesh listens.
    pub fn addresses(&self, index: usize) -> Vec<String> {
        let (disk, moves) = (self.disks_lost, self.setup.moves);
        self.setup.listens.addresses(format!("/ip4/10.{disk}.{moves}.{}/tcp/7271", index + 1))
    }

    /// What a process that starts now is given.
    pub fn settings(&self, index: usize, sabotage: &Sabotage) -> CandidateSettings {
        let Setup { name, cluster, expect, voters_target, .. } = self.setup.clone();
        let drawn =
            Digest::of("simulation", &[index as u64, self.disks_lost, self.starts].map(u64::to_be_bytes).concat());
        CandidateSettings {
            me: self.id(index),
            name,
            addresses: self.addresses(index),
            is_address,
            cluster,
            expect,
            common: CommonSettings {
                model: FaultModelKind::Crash,
                rules_version: RULES_VERSION,
                limits: ClusterLimits::default(),
                voters_target,
            },
            nonce: StartNonce(u64::from_be_bytes(drawn.0[..8].try_into().expect("a digest is longer"))),
            seed: drawn.0,
            sabotage: sabotage.clone(),
        }
    }
}

/// The key of a machine's disk. They rise with the machines, and with the disks of one machine.
pub fn key(index: usize, disk: u64) -> MemberId {
    static KEYS: OnceLock<Vec<MemberId>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        let count = MACHINES_MAX as u64 * DISKS_MAX;
        let draw = |number: u64| SigningKey::from_bytes(&Digest::of("simulation", &number.to_be_bytes()).0);
        let mut keys: Vec<MemberId> =
            (0..count).map(|number| MemberId(draw(number).verifying_key().to_bytes())).collect();
        keys.sort();
        keys
    });
    keys[index * DISKS_MAX as usize + disk as usize]
}

/// Whose key that is: the machine, and which of its disks.
pub fn owner(id: &MemberId) -> Option<(usize, u64)> {
    let all = (0..MACHINES_MAX).flat_map(|index| (0..DISKS_MAX).map(move |disk| (index, disk)));
    all.into_iter().find(|(index, disk)| key(*index, *disk) == *id)
}
