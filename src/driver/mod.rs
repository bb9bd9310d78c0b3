//! Floor 2: the one loop. One thread owns the replica and the log; it blocks on exactly two things, the sync and its
//! inbox. While the disk works, inputs queue, and the next turn takes them all: group commit without a knob.

pub mod inbox;
pub mod outside;

use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::SigningKey;

pub use outside::{Input, LogFigures, Outside, Serve, ServeSlot};

use crate::protocol::{Crash, Halt, Haste, Identity, Outgoing, Ready, Replica, Restored};
use crate::types::settings::Timing;
use crate::types::{
    ClusterId, Contact, Digest, Genesis, Instant, Location, MemberId, Record, Sabotage, StartNonce, limits,
};
use crate::wal::{self, Log, LogError, OpenError, Recovered, Replay, Rot};

/// What a member is started with.
#[derive(Clone, Debug)]
pub struct Start {
    /// The group's first word; checked by the caller.
    pub genesis: Genesis,
    /// This member's key; its public half is the member's id.
    pub key: SigningKey,
    /// Where this member's mesh can be reached, if the order is to know; none leaves what it says.
    pub addresses: Vec<String>,
    /// Where members may be found, as the door told one that has just joined.
    pub contacts: Vec<Contact>,
    /// Drawn at this start.
    pub nonce: StartNonce,
    /// Node-local timing.
    pub timing: Timing,
    /// Rules switched off; none but in test builds.
    pub sabotage: Sabotage,
    /// How the log is kept.
    pub log: wal::Settings,
}

/// Why a member could not start. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log could not be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log says that this member must not take part.
    #[error(transparent)]
    Halt(#[from] Halt),
}

/// Why the loop ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Stop {
    /// The log failed; never retried on the same file.
    #[error("{0}")]
    Log(String),
    /// Going on could break a promise.
    #[error(transparent)]
    Halt(#[from] Halt),
}

/// What a turn left to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// When the next turn is wanted at the latest.
    pub next: Instant,
    /// Records or early messages are pending: the next turn is wanted at once.
    pub again: bool,
    /// Draining, and everything accepted is ordered and durable: the process may end.
    pub drained: bool,
    /// This member has left the group: the process may end, and the data directory is not started again.
    pub left: bool,
}

/// Payload alone waits this long for the entry that orders it: one sync then covers both. A hop to the leader and back.
const PAYLOAD_PATIENCE: Duration = Duration::from_millis(2);
/// Entries and votes wait no longer than this for more of their kind.
const GATHER_PATIENCE: Duration = Duration::from_micros(250);
/// How often the outside is told the state at most, while there is work.
const OBSERVE_INTERVAL: Duration = Duration::from_millis(20);
/// How often a full disk is looked at again.
const DISK_INTERVAL: Duration = Duration::from_millis(100);

/// The loop, with what it owns.
pub struct Driver<O: Outside, F: wal::Files> {
    replica: Replica<Crash>,
    log: Log<F>,
    outside: O,
    /// Handed out by the replica and not yet appended; when they are to be durable at the latest.
    pending: Vec<Record>,
    due: Option<Instant>,
    next: Option<Instant>,
    observed: Option<Instant>,
    disk_looked: Option<Instant>,
    sync_last: Duration,
    /// The log had no room for what is pending: it waits for room.
    stuck: bool,
    recovered: Recovered,
}

impl<O: Outside, F: wal::Files> Driver<O, F> {
    /// Opens the log, replays it, and raises the incarnation durably (rule L2) before anything is sent. What the log
    /// holds as decided is delivered to `outside` while it is read.
    pub fn open(start: Start, files: F, mut outside: O) -> Result<Driver<O, F>, StartError> {
        let genesis = start.genesis.encode();
        let owner = log_owner(&start.genesis.cluster(), &MemberId(start.key.verifying_key().to_bytes()));
        let mut replica = Replica::new(Identity {
            key: start.key,
            nonce: start.nonce,
            genesis: start.genesis.clone(),
            addresses: start.addresses,
            contacts: start.contacts,
            timing: start.timing,
            sabotage: start.sabotage,
        });
        let now = outside.now();
        let mut replayer = Replayer {
            replica: &mut replica,
            restored: Restored::default(),
            genesis: &genesis,
            outside: &mut outside,
            halt: None,
        };
        let opened = Log::open(files, start.log, owner, &mut replayer);
        let Replayer { restored, halt, .. } = replayer;
        if let Some(halt) = halt {
            return Err(halt.into());
        }
        let (log, recovered) = opened?;
        replica.start(restored, genesis, now)?;
        let mut driver = Driver {
            replica,
            log,
            outside,
            pending: Vec::new(),
            due: None,
            next: None,
            observed: None,
            disk_looked: None,
            sync_last: Duration::ZERO,
            stuck: false,
            recovered,
        };
        driver.first_turn()?;
        Ok(driver)
    }

    /// The incarnation, and at a first start the record of view 0, become durable.
    fn first_turn(&mut self) -> Result<(), StartError> {
        let first = self.replica.first_records();
        let locations = append_all(&mut self.log, &first)?;
        self.log.sync()?;
        let now = self.outside.now();
        self.replica.handle_durable(&locations, Duration::ZERO, now)?;
        self.outside.hello(self.replica.hello());
        if let Some(roster) = self.replica.first_roster() {
            self.outside.roster(roster); // links come up while the first turn writes
        }
        self.observe(now, true);
        Ok(())
    }

    /// One turn. With `wait`, blocks on the inbox until an input comes or a timer is due.
    pub fn turn(&mut self, wait: bool) -> Result<Turn, Stop> {
        let until = if wait { self.next } else { None };
        let inputs = self.outside.inputs(limits::INPUTS_PER_TURN, until);
        let now = self.outside.now();
        self.look_at_disk(now);
        for input in inputs {
            self.replica.step(input, now)?;
        }
        let ready = self.replica.ready(now)?;
        self.emit(ready, now.instant);
        let persisted = self.due.is_some_and(|due| due <= now.instant) && self.persist()?;
        let now = self.outside.now();
        self.observe(now, self.pending.is_empty());
        // What a sync allows leaves at once, together with what the inputs that came meanwhile allow.
        let next = if persisted { now.instant } else { self.next_turn() };
        self.next = Some(next);
        let drained = self.replica.is_drained() && self.pending.is_empty();
        let left = self.replica.has_left() && self.pending.is_empty();
        Ok(Turn { next, again: next <= now.instant, drained, left })
    }

    fn next_turn(&self) -> Instant {
        let timeout = self.replica.next_timeout();
        match self.due {
            Some(due) if !self.stuck => timeout.min(due),
            _ => timeout,
        }
    }

    /// Appends what is pending, syncs once, and tells the replica; the next turn hands out what that allows (R7). Whether
    /// anything became durable.
    fn persist(&mut self) -> Result<bool, Stop> {
        let began = self.outside.now().instant;
        let locations = self.append_pending(began)?;
        self.log.sync().map_err(log_failed)?;
        let now = self.outside.now();
        self.sync_last = now.instant.since(began);
        self.replica.handle_durable(&locations, self.sync_last, now)?;
        Ok(!locations.is_empty())
    }

    /// Appends what there is room for; the rest stays pending, in order, and the replica is told.
    fn append_pending(&mut self, began: Instant) -> Result<Vec<Location>, Stop> {
        let records = std::mem::take(&mut self.pending);
        self.due = None;
        let mut locations = Vec::with_capacity(records.len());
        self.stuck = false;
        for record in &records {
            match self.log.append(record.kind(), &record.payload()) {
                Ok(location) => locations.push(location),
                Err(LogError::Full { reason }) => {
                    self.stuck = true;
                    self.replica.handle_disk_full(Some(reason));
                    break;
                }
                Err(error) => return Err(log_failed(error)),
            }
        }
        self.pending.extend(records.into_iter().skip(locations.len()));
        if self.stuck {
            self.due = Some(began);
        }
        Ok(locations)
    }

    fn emit(&mut self, ready: Ready, now: Instant) {
        let Ready { hello, deliver, outcomes, early, late, serve, recall, refuse, roster, door, records, haste } =
            ready;
        if let Some(hello) = hello {
            self.outside.hello(hello);
        }
        if !deliver.is_empty() {
            self.outside.deliver(deliver);
        }
        if !outcomes.is_empty() {
            self.outside.answer(outcomes);
        }
        for Outgoing { to, envelope } in early.into_iter().chain(late) {
            self.outside.send(to, envelope);
        }
        for request in serve {
            self.outside.serve(request);
        }
        for (batch, location) in recall {
            match self.log.read(location) {
                Ok(bytes) => self.replica.handle_recalled(&batch, Bytes::from(bytes)),
                Err(error) => tracing::error!(%error, "a batch cannot be read back from the log"),
            }
        }
        if let Some(roster) = roster {
            self.outside.roster(roster);
        }
        for (to, message) in door {
            self.outside.door(to, message);
        }
        for (peer, nonce, reason) in refuse {
            self.outside.refuse(peer, nonce, reason);
        }
        if !records.is_empty() {
            let due = now + self.patience(haste);
            self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
            self.pending.extend(records);
        }
    }

    /// How long records may wait for more to share their sync: on a fast disk there is little to save.
    fn patience(&self, haste: Haste) -> Duration {
        match haste {
            Haste::Payload => PAYLOAD_PATIENCE,
            Haste::Gather => self.sync_last.min(GATHER_PATIENCE),
            Haste::Now => Duration::ZERO,
        }
    }

    /// A full disk is told to the replica before it promises anything, and again when there is room.
    fn look_at_disk(&mut self, now: crate::types::Now) {
        if self.disk_looked.is_some_and(|last| now.instant < last + DISK_INTERVAL) {
            return;
        }
        self.disk_looked = Some(now.instant);
        let full = self.log.disk_full();
        if full.is_some() || !self.stuck {
            self.replica.handle_disk_full(full);
        }
    }

    fn observe(&mut self, now: crate::types::Now, idle: bool) {
        let due = self.observed.is_none_or(|last| now.instant >= last + OBSERVE_INTERVAL);
        let ending = idle && self.replica.is_drained();
        if !(due || ending) {
            return;
        }
        self.observed = Some(now.instant);
        let figures = LogFigures {
            segments: self.log.segments(),
            bytes: self.log.bytes(),
            disk_full: self.log.disk_full(),
            sync_last: self.sync_last,
        };
        self.outside.observe(self.replica.snapshot(), figures);
    }

    /// At an orderly end: the decided mark is written, so that the next start has less to ask for.
    pub fn close(mut self) -> Result<O, Stop> {
        let mut records = std::mem::take(&mut self.pending);
        records.extend(self.replica.last_mark());
        append_all(&mut self.log, &records).map_err(log_failed)?;
        self.log.sync().map_err(log_failed)?;
        Ok(self.outside)
    }

    /// Reads records from other threads.
    pub fn reader(&self) -> wal::Reader<F> {
        self.log.reader()
    }

    /// What recovery found.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// The replica, for those who look.
    pub fn replica(&self) -> &Replica<Crash> {
        &self.replica
    }

    /// The outside.
    pub fn outside(&self) -> &O {
        &self.outside
    }

    /// The outside.
    pub fn outside_mut(&mut self) -> &mut O {
        &mut self.outside
    }
}

/// Names cluster and member: a log of another group, or of another member, is refused.
pub fn log_owner(cluster: &ClusterId, member: &MemberId) -> Digest {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&cluster.0);
    bytes[32..].copy_from_slice(&member.0);
    Digest::of("log owner", &bytes)
}

fn append_all<F: wal::Files>(log: &mut Log<F>, records: &[Record]) -> Result<Vec<Location>, LogError> {
    records.iter().map(|record| log.append(record.kind(), &record.payload())).collect()
}

fn log_failed(error: LogError) -> Stop {
    Stop::Log(error.to_string())
}

struct Replayer<'a, O: Outside> {
    replica: &'a mut Replica<Crash>,
    restored: Restored,
    genesis: &'a Bytes,
    outside: &'a mut O,
    halt: Option<Halt>,
}

impl<O: Outside> Replay for Replayer<'_, O> {
    fn record(&mut self, location: Location, kind: u8, payload: &[u8]) -> Result<(), wal::Refused> {
        let record = Record::read(kind, payload).map_err(|error| wal::Refused(error.to_string()))?;
        if let Record::Genesis(theirs) = &record
            && theirs != self.genesis
        {
            return self.halt(Halt::OtherGroup {
                theirs: crate::types::Digest::of("genesis", theirs).to_string(),
                ours: crate::types::Digest::of("genesis", self.genesis).to_string(),
            });
        }
        match self.replica.restore(&mut self.restored, location, record) {
            Ok(()) => {
                let delivered = self.replica.replayed();
                if !delivered.is_empty() {
                    self.outside.deliver(delivered);
                }
                Ok(())
            }
            Err(halt) => self.halt(halt),
        }
    }

    fn rot(&mut self, rot: &Rot) {
        tracing::error!(%rot, "the log is damaged");
        self.replica.restore_rot(&mut self.restored);
    }
}

impl<O: Outside> Replayer<'_, O> {
    fn halt(&mut self, halt: Halt) -> Result<(), wal::Refused> {
        let refused = wal::Refused(halt.to_string());
        self.halt = Some(halt);
        Err(refused)
    }
}

#[cfg(test)]
mod tests;
