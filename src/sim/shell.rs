//! What stands between one member's driver and the simulated world: its outside, and the account of its effects.
//!
//! A turn is run at one go; its effects are written down in order, each with the virtual moment it happened at (a sync
//! moves that moment on), and the world acts on them afterwards. A member that is to die inside a turn dies before a
//! drawn effect: from then on nothing it does reaches anybody or any disk.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::clock::{Clock, Moment};
use super::random::Random;
use crate::driver::{Input, LogFigures, Outside, Serve};
use crate::types::peer::{Envelope, Hello, Refusal};
use crate::types::{Delivered, DoorMessage, Instant, MemberId, Now, Outcome, Roster, Snapshot, StartNonce, Ticket};

/// Something a member did that somebody else can notice, or that a crash would undo.
#[derive(Debug)]
pub enum Effect {
    /// These bytes of a file, from that offset on, are durable.
    Durable {
        /// The file's name.
        file: String,
        /// Where they begin.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Everything in a file is durable: it was opened and synced before anything was written to it.
    Settled {
        /// The file's name.
        file: String,
        /// What is in it.
        contents: Vec<u8>,
    },
    /// A message left.
    Send {
        /// To whom.
        to: MemberId,
        /// What.
        envelope: Arc<Envelope>,
    },
    /// A peer was refused.
    Refuse {
        /// Who.
        peer: MemberId,
        /// Which start of it.
        nonce: StartNonce,
        /// Why.
        reason: Refusal,
    },
    /// Words at the door.
    Door {
        /// Whose.
        to: MemberId,
        /// What.
        message: DoorMessage,
    },
    /// Slots are to be read for somebody.
    Serve(Serve),
    /// Batches went to the host.
    Deliver(Vec<Delivered>),
    /// Publishers were answered.
    Answer(Vec<(Ticket, Outcome)>),
}

/// When a member is to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Not now.
    None,
    /// Before the effect after so many more.
    Effects(u64),
    /// When the next sync is called that follows a message: what left early is out, its records are not durable.
    SyncAfterSend,
    /// When the next sync is called: its records are not durable.
    InSync,
    /// Right after the next sync: its records are durable, nothing that waits for them has left.
    AfterSync,
}

/// How a disk behaves.
#[derive(Clone, Copy, Debug)]
pub struct Temper {
    /// Usual time of a sync.
    pub sync: Duration,
    /// Every sync takes exactly that.
    pub exact: bool,
    /// Every so many syncs one takes `stall` (0: none).
    pub stall_every: u64,
    /// How long that one takes.
    pub stall: Duration,
    /// The next sync fails.
    pub failing: bool,
}

/// The state behind one member's outside and files.
pub struct Shell {
    /// Where the present turn stands.
    pub moment: Moment,
    /// The member's clocks.
    pub clock: Clock,
    /// What waits to be taken.
    pub inbox: VecDeque<Input>,
    /// What happened in this turn.
    pub effects: Vec<(Moment, Effect)>,
    /// When it is to die.
    pub death: Death,
    /// It died: nothing has an effect any more.
    pub dead: bool,
    /// How its disk behaves.
    pub temper: Temper,
    /// A sync failed in this process.
    pub failed: bool,
    /// Syncs that took longer than a tenth of a second.
    pub slow_syncs: u64,
    /// Syncs that failed.
    pub failed_syncs: u64,
    /// A file could not be made for want of room.
    pub full: bool,
    /// What hellos say.
    pub hello: Option<Hello>,
    /// Whom it knows; what it knew last, while no process runs.
    pub roster: Roster,
    /// This process said whom it knows.
    pub roster_told: bool,
    /// The roster changed since the world last looked.
    pub roster_changed: bool,
    /// What it says of itself.
    pub snapshot: Option<Box<(Snapshot, LogFigures)>>,
    random: Random,
    sent: bool,
    synced: bool,
    syncs: u64,
}

/// A sync longer than this counts as slow.
const SLOW_SYNC: Duration = Duration::from_millis(100);

impl Shell {
    /// A member with such a clock and such a disk.
    pub fn new(clock: Clock, temper: Temper, random: Random) -> Shell {
        Shell {
            moment: Moment(0),
            clock,
            inbox: VecDeque::new(),
            effects: Vec::new(),
            death: Death::None,
            dead: false,
            temper,
            failed: false,
            slow_syncs: 0,
            failed_syncs: 0,
            full: false,
            hello: None,
            roster: Roster::default(),
            roster_told: false,
            roster_changed: false,
            snapshot: None,
            random,
            sent: false,
            synced: false,
            syncs: 0,
        }
    }

    /// A turn, or a start, begins.
    pub fn begin(&mut self, at: Moment) {
        self.moment = at;
        self.sent = false;
        self.synced = false;
    }

    /// A new process: whatever the one before had in memory is gone.
    pub fn start(&mut self, at: Moment) {
        self.inbox.clear();
        self.effects.clear();
        self.hello = None;
        self.roster_told = false;
        self.roster_changed = false;
        self.snapshot = None;
        self.dead = false;
        self.failed = false;
        self.clock.start(at);
    }

    /// An effect is about to happen. False if the member is dead by now.
    pub fn lives(&mut self) -> bool {
        match &mut self.death {
            Death::Effects(0) => self.dead = true,
            Death::Effects(left) => *left -= 1,
            Death::AfterSync if self.synced => self.dead = true,
            Death::None | Death::AfterSync | Death::SyncAfterSend | Death::InSync => {}
        }
        !self.dead
    }

    /// Writing to a file begins. An error if the member is dead by now.
    pub fn writes(&mut self) -> io::Result<()> {
        if self.lives() { Ok(()) } else { Err(died()) }
    }

    /// A sync begins; the turn goes on after the time it takes. An error if it fails or the member dies in it.
    pub fn syncs(&mut self) -> io::Result<()> {
        if self.death == Death::InSync || (self.death == Death::SyncAfterSend && self.sent) {
            self.dead = true;
        }
        self.writes()?;
        if std::mem::take(&mut self.temper.failing) {
            self.failed = true;
            self.failed_syncs += 1;
            return Err(io::Error::other("the simulated disk failed a sync"));
        }
        self.syncs += 1;
        let stalls = self.temper.stall_every > 0 && self.syncs.is_multiple_of(self.temper.stall_every);
        let usual = if stalls { self.temper.stall } else { self.temper.sync };
        let took = if self.temper.exact { usual } else { self.random.around(usual) };
        self.slow_syncs += u64::from(took > SLOW_SYNC);
        self.moment = self.moment + took;
        self.synced = true;
        Ok(())
    }

    /// Notes what happened.
    pub fn note(&mut self, effect: Effect) {
        self.effects.push((self.moment, effect));
    }
}

fn died() -> io::Error {
    io::Error::other("the simulated process is dead")
}

/// A handle on a shell: its outside and its files share it with the world. Nothing ever waits for the lock: a
/// simulated group lives on one thread, and the lock is there because the driver may move between threads.
#[derive(Clone)]
pub struct ShellHandle(Arc<Mutex<Shell>>);

impl ShellHandle {
    /// Shares a shell.
    pub fn new(shell: Shell) -> ShellHandle {
        ShellHandle(Arc::new(Mutex::new(shell)))
    }

    /// The shell.
    pub fn lock(&self) -> MutexGuard<'_, Shell> {
        self.0.lock().expect("a simulated member that panics ends its simulation")
    }

    fn effect(&self, effect: impl FnOnce(&mut Shell)) {
        let mut shell = self.lock();
        if shell.lives() {
            effect(&mut shell);
        }
    }
}

impl Outside for ShellHandle {
    fn now(&mut self) -> Now {
        let shell = self.lock();
        shell.clock.read(shell.moment)
    }

    fn inputs(&mut self, most: usize, _until: Option<Instant>) -> Vec<Input> {
        let mut shell = self.lock();
        let count = most.min(shell.inbox.len());
        shell.inbox.drain(..count).collect()
    }

    fn send(&mut self, to: MemberId, envelope: Arc<Envelope>) {
        self.effect(|shell| {
            shell.sent = true;
            shell.note(Effect::Send { to, envelope });
        });
    }

    fn refuse(&mut self, peer: MemberId, nonce: StartNonce, reason: Refusal) {
        self.effect(|shell| shell.note(Effect::Refuse { peer, nonce, reason }));
    }

    fn roster(&mut self, roster: Roster) {
        let mut shell = self.lock();
        shell.roster = roster;
        shell.roster_told = true;
        shell.roster_changed = true;
    }

    fn door(&mut self, to: MemberId, message: DoorMessage) {
        self.effect(|shell| shell.note(Effect::Door { to, message }));
    }

    fn hello(&mut self, hello: Hello) {
        self.lock().hello = Some(hello);
    }

    fn serve(&mut self, request: Serve) {
        self.effect(|shell| shell.note(Effect::Serve(request)));
    }

    fn deliver(&mut self, delivered: Vec<Delivered>) {
        self.effect(|shell| shell.note(Effect::Deliver(delivered)));
    }

    fn answer(&mut self, outcomes: Vec<(Ticket, Outcome)>) {
        self.effect(|shell| shell.note(Effect::Answer(outcomes)));
    }

    fn observe(&mut self, snapshot: Snapshot, log: LogFigures) {
        self.lock().snapshot = Some(Box::new((snapshot, log)));
    }
}
