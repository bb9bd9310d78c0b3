//! One simulated member: its disk, its clocks, its process while it runs.

use std::fmt;

use ed25519_dalek::SigningKey;

use super::clock::{Clock, Moment};
use super::disk::Disk;
use super::group::Group;
use super::random::Random;
use super::shell::{Death, Effect, Shell, ShellHandle, Temper};
use crate::driver::{Driver, Input, Start, StartError, Stop, Turn};
use crate::protocol::Halt;
use crate::types::settings::Timing;
use crate::types::{Contact, Genesis, Location, MemberId, Sabotage, StartNonce};
use crate::wal::{self, Files, MemoryFiles, ReadFiles, Survival};

/// What a member is doing.
#[derive(Debug)]
pub enum Life {
    /// Its process runs.
    Runs,
    /// No process; its disk waits for the next start.
    Down,
    /// It stopped for good, for this reason.
    Ended(String),
}

/// How a turn, or a start, ended.
#[derive(Debug)]
pub enum Ending {
    /// It wants to be called again at that moment at the latest, or at once.
    Goes {
        /// When.
        next: Option<Moment>,
        /// Records or early messages are pending.
        again: bool,
        /// It was told to drain, and has.
        drained: bool,
        /// It has left the group.
        left: bool,
    },
    /// It died inside the turn.
    Died,
    /// It stopped by itself.
    Stopped(Stopped),
}

impl Ending {
    /// The process ends by itself: nothing killed it.
    pub fn is_exit(&self) -> bool {
        matches!(self, Ending::Goes { drained: true, .. } | Ending::Goes { left: true, .. } | Ending::Stopped(_))
    }
}

/// Why a member stopped by itself.
#[derive(Debug)]
pub enum Stopped {
    /// While it started.
    Starting(StartError),
    /// While it ran.
    Running(Stop),
}

impl Stopped {
    /// Its log failed, or could not be opened: the process ends, and may be started again.
    pub fn is_disk(&self) -> bool {
        matches!(self, Stopped::Starting(StartError::Open(_) | StartError::Log(_)) | Stopped::Running(Stop::Log(_)))
    }

    /// It no longer knows what it promised.
    pub fn is_rot(&self) -> bool {
        matches!(self.halt(), Some(Halt::RotAboveDecided { .. }))
    }

    /// It learnt that it is no member any more.
    pub fn is_departure(&self) -> bool {
        matches!(self.halt(), Some(Halt::Departed { .. }))
    }

    /// It saw two orders.
    pub fn is_divergence(&self) -> bool {
        matches!(self.halt(), Some(Halt::TwoDigests { .. } | Halt::Diverged { .. } | Halt::InvalidDecision { .. }))
    }

    fn halt(&self) -> Option<&Halt> {
        match self {
            Stopped::Starting(StartError::Halt(halt)) | Stopped::Running(Stop::Halt(halt)) => Some(halt),
            _ => None,
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stopped::Starting(error) => write!(f, "cannot start: {error}"),
            Stopped::Running(stop) => write!(f, "stops: {stop}"),
        }
    }
}

/// One member.
pub struct Node {
    index: usize,
    /// Its id.
    pub id: MemberId,
    /// Its key.
    key: SigningKey,
    /// What its host, its links and its disk share with the world.
    pub shell: ShellHandle,
    /// Its disk.
    pub files: MemoryFiles,
    /// What it is doing.
    pub life: Life,
    /// How often it was started.
    pub starts: u64,
    /// Its turn lasts until then.
    pub busy: Moment,
    /// How often it has come back under another address.
    pub moves: u64,
    /// What it was told of other members when it joined.
    pub contacts: Vec<Contact>,
    /// Its process stands still until then.
    pub paused: Option<Moment>,
    /// Number of the wake that counts; earlier ones are void.
    pub wake: u64,
    /// When that wake is due.
    pub wakes: Option<Moment>,
    driver: Option<Driver<ShellHandle, Disk>>,
}

/// What every member of a simulation is started with.
#[derive(Clone)]
pub struct Settings {
    /// The group's first word.
    pub genesis: Genesis,
    /// Timers.
    pub timing: Timing,
    /// Rules switched off.
    pub sabotage: Sabotage,
    /// Bytes of a segment of the log.
    pub segment_bytes: u64,
}

impl Node {
    /// A member that was never started: machine number `index`.
    pub fn new(index: usize, clock: Clock, temper: Temper, random: Random) -> Node {
        let key = Group::key(index);
        Node {
            index,
            id: MemberId(key.verifying_key().to_bytes()),
            key,
            shell: ShellHandle::new(Shell::new(clock, temper, random)),
            files: MemoryFiles::new(),
            life: Life::Down,
            starts: 0,
            busy: Moment(0),
            moves: 0,
            contacts: Vec::new(),
            paused: None,
            wake: 0,
            wakes: None,
            driver: None,
        }
    }

    /// Whether its process runs.
    pub fn runs(&self) -> bool {
        self.driver.is_some()
    }

    /// Whether it can be started (again).
    pub fn may_start(&self) -> bool {
        matches!(self.life, Life::Down)
    }

    /// Its replica, while it runs.
    pub fn driver(&self) -> Option<&Driver<ShellHandle, Disk>> {
        self.driver.as_ref()
    }

    /// Its process runs, and has said whom it knows and what its hellos say.
    pub fn takes_links(&self) -> bool {
        let shell = self.shell.lock();
        self.runs() && shell.hello.is_some() && shell.roster_told
    }

    /// Where it is found since its last start.
    pub fn address(&self) -> String {
        Group::address(self.index, self.moves)
    }

    /// Drawn at its last start.
    pub fn nonce(&self) -> StartNonce {
        StartNonce(self.starts << 8 | u64::from(self.id.0[0]))
    }

    /// Starts its process.
    pub fn start(&mut self, at: Moment, settings: &Settings) -> Ending {
        self.starts += 1;
        self.paused = None;
        {
            let mut shell = self.shell.lock();
            shell.start(at);
            shell.begin(at);
        }
        let start = Start {
            genesis: settings.genesis.clone(),
            key: self.key.clone(),
            nonce: self.nonce(),
            contacts: self.contacts.clone(),
            addresses: vec![self.address()],
            timing: settings.timing,
            sabotage: settings.sabotage.clone(),
            log: wal::Settings {
                segment_bytes: settings.segment_bytes,
                spares: 1,
                sabotage: settings.sabotage.clone(),
            },
        };
        let disk = Disk::new(self.files.clone(), self.shell.clone());
        let opened = Driver::open(start, disk, self.shell.clone());
        self.busy = self.shell.lock().moment;
        let dead = self.shell.lock().dead;
        match opened {
            _ if dead => Ending::Died,
            Ok(driver) => {
                self.driver = Some(driver);
                self.life = Life::Runs;
                Ending::Goes { next: None, again: true, drained: false, left: false }
            }
            Err(error) => Ending::Stopped(Stopped::Starting(error)),
        }
    }

    /// One turn of its driver.
    pub fn turn(&mut self, at: Moment) -> Ending {
        let driver = self.driver.as_mut().expect("only a running member has turns");
        self.shell.lock().begin(at);
        let turned = driver.turn(false);
        let mut shell = self.shell.lock();
        self.busy = shell.moment;
        match turned {
            _ if shell.dead => Ending::Died,
            Ok(Turn { next, again, drained, left }) => {
                let next = Some(shell.clock.moment(next));
                let again = again || !shell.inbox.is_empty();
                shell.dead = false;
                Ending::Goes { next, again, drained, left }
            }
            Err(stop) => Ending::Stopped(Stopped::Running(stop)),
        }
    }

    /// Its machine is gone, and with it what was not synced but what `choose` lets survive.
    pub fn crash(&mut self, choose: impl FnMut(&wal::Unsynced<'_>) -> Survival) {
        self.kill();
        self.files.crash(choose);
    }

    /// Its process is gone. What it wrote and did not sync stays until its machine is gone, too.
    pub fn kill(&mut self) {
        self.driver = None;
        while self.files.prepared().is_some() {}
        self.paused = None;
        self.wakes = None;
        self.wake += 1;
        if matches!(self.life, Life::Runs) {
            self.life = Life::Down;
        }
        let mut shell = self.shell.lock();
        shell.death = Death::None;
        shell.inbox.clear();
    }

    /// What happened since this was last asked, in order.
    pub fn effects(&mut self) -> Vec<(Moment, Effect)> {
        std::mem::take(&mut self.shell.lock().effects)
    }

    /// Puts an input into its queue.
    pub fn push(&self, input: Input) {
        self.shell.lock().inbox.push_back(input);
    }

    /// What is in a file of its disk; nothing if there is no such file.
    pub fn contents(&self, name: &str) -> Vec<u8> {
        if self.files.size(name).is_ok() { self.files.contents(name) } else { Vec::new() }
    }

    /// A record's payload as its disk has it now.
    pub fn read(&self, location: &Location) -> Option<Vec<u8>> {
        let mut bytes = vec![0; location.length as usize];
        let name = format!("{:020}.wal", location.segment);
        self.files.read_at(&name, &mut bytes, u64::from(location.offset)).ok()?;
        Some(bytes)
    }
}
