//! What the service manager that started this process is told (`sd_notify`): that the start is finished, what stands in
//! the way, that the driver turns, and that the member stops. Without `NOTIFY_SOCKET` in the environment nobody asks.
//!
//! The start is finished (`READY=1`) when the API is served and this process has done its part: the log is read, or, where a
//! group is to be founded with others, it waits for them. That may last until somebody has prepared the other machines; a
//! service manager, and the boot of the machine, do not wait with it. Whether the *group* serves is another question, which
//! `/readyz` answers, and the status in words.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::real_time::RealTime;
use crate::api::Observation;
use crate::api::waiting::Waiting;
use crate::types::Instant;

/// How often there is a look at what is to be told.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Signs of life are given this many times as often as they are asked for.
const SIGNS_PER_WATCHDOG: u32 = 4;

/// The service manager, as the environment names it.
pub struct ServiceManager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// Without a sign of life for this long it ends the process. None: it does not ask for any.
    watchdog: Option<Duration>,
}

/// What it is told about.
pub struct Facts {
    /// True when the log is read and the driver runs: what `/startupz` says.
    pub started: watch::Receiver<bool>,
    /// What the driver said of itself last. It says so as it turns; nobody else can.
    pub observed: watch::Receiver<Option<Observation>>,
    /// A driver that has not turned for this long stands still.
    pub driver_silence_max: Duration,
    /// The driver's clock.
    pub time: RealTime,
}

/// The environment names a service manager that cannot be told anything.
#[derive(Debug, thiserror::Error)]
pub enum BadServiceManager {
    /// Not the address of a datagram socket.
    #[error(
        "NOTIFY_SOCKET is {0:?}, which is neither an absolute path nor `@` and a name; unset it, or have systemd set it"
    )]
    Address(OsString),
    /// Not a time.
    #[error("{name} is {value:?}, which is no number; unset it, or have systemd set it")]
    Number {
        /// The variable.
        name: &'static str,
        /// What it is.
        value: OsString,
    },
    /// The system refuses a socket.
    #[error("no socket to tell the service manager anything: {0}")]
    Socket(#[from] io::Error),
}

impl ServiceManager {
    /// The one that this process's environment names, if it names one. A member can do without: what is wrong is logged.
    pub fn of_environment() -> Option<Arc<ServiceManager>> {
        match ServiceManager::named(std::env::var_os, std::process::id()) {
            Ok(manager) => manager.map(Arc::new),
            Err(error) => {
                tracing::warn!("{error}");
                None
            }
        }
    }

    fn named(
        variable: impl Fn(&'static str) -> Option<OsString>,
        process: u32,
    ) -> Result<Option<ServiceManager>, BadServiceManager> {
        let Some(name) = variable("NOTIFY_SOCKET") else { return Ok(None) };
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
            [b'/', ..] => SocketAddr::from_pathname(&name),
            _ => return Err(BadServiceManager::Address(name)),
        };
        let address = address.map_err(|_| BadServiceManager::Address(name))?;
        let number = |name| match variable(name) {
            Some(value) => match value.to_str().and_then(|text| text.parse::<u64>().ok()) {
                Some(number) => Ok(Some(number)),
                None => Err(BadServiceManager::Number { name, value }),
            },
            None => Ok(None),
        };
        // The signs may be asked of another process, which passed its environment on to this one.
        let ours = number("WATCHDOG_PID")?.is_none_or(|asked| asked == u64::from(process));
        let watchdog = number("WATCHDOG_USEC")?.filter(|_| ours).map(Duration::from_micros);
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Some(ServiceManager { socket, address, watchdog }))
    }

    /// Tells it at once that the process is about to end by itself.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Tells it for people what is done before there is a member.
    pub fn status(&self, words: &str) {
        self.tell(&format!("STATUS={}", words.replace('\n', " ")));
    }

    /// Whether it took the words.
    fn tell(&self, words: &str) -> bool {
        let sent = self.socket.send_to_addr(words.as_bytes(), &self.address);
        if let Err(error) = &sent {
            tracing::debug!(%error, words, "the service manager is not told");
        }
        sent.is_ok()
    }

    /// Tells it what a member to be waits for, until that waits no more. It says so at each of its turns, and every second at
    /// least: these are its signs of life, unless its disk does not answer.
    pub async fn report_waiting(self: Arc<ServiceManager>, mut waiting: watch::Receiver<Waiting>) {
        let (time, mut told) = (RealTime::start(), Told::default());
        let mut turned = time.instant();
        loop {
            let (reasons, stands_still) = {
                let waiting = waiting.borrow_and_update();
                (waiting.reasons.join("; "), waiting.disk_silence.is_some())
            };
            if !stands_still {
                turned = time.instant();
            }
            let look = Look::waiting(&reasons, time.instant(), turned);
            let (words, next) = told.look(&look, self.sign_interval());
            // What it did not take is told again at the next turn.
            if words.is_empty() || self.tell(&words) {
                told = next;
            }
            if waiting.changed().await.is_err() {
                return;
            }
        }
    }

    /// Goes on telling it how a member stands, until the process ends.
    pub async fn report(self: Arc<ServiceManager>, facts: Facts) {
        let mut told = Told::default();
        let mut look = interval(self.sign_interval().map_or(LOOK_INTERVAL, |sign| sign.min(LOOK_INTERVAL)));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let (words, next) = told.look(&facts.look(), self.sign_interval());
            if words.is_empty() {
                continue;
            }
            match self.socket.send_to_addr(words.as_bytes(), &self.address) {
                Ok(_) => told = next,
                // What it did not take is told again at the next look.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::warn!(%error, "the service manager cannot be told anything (NOTIFY_SOCKET)");
                    return;
                }
            }
        }
    }

    fn sign_interval(&self) -> Option<Duration> {
        self.watchdog.map(|watchdog| (watchdog / SIGNS_PER_WATCHDOG).max(Duration::from_millis(1)))
    }
}

impl Facts {
    fn look(&self) -> Look {
        let (started, now) = (*self.started.borrow(), self.time.instant());
        let observed = self.observed.borrow();
        // A long log takes its time, and so does the first one of a member that told of its start while it waited for others.
        let turned = if started { observed.as_ref().map(|observation| observation.at) } else { Some(now) };
        let obstacles = observed.as_ref().map(|observation| observation.obstacles(now, self.driver_silence_max));
        let status = match obstacles {
            Some(obstacles) if started && obstacles.is_empty() => "ready".to_owned(),
            Some(obstacles) if started => format!("not ready: {}", obstacles.join("; ")),
            _ => "reading the log".to_owned(),
        };
        Look { now, started, turned, status: status.replace('\n', " ") }
    }
}

/// How things stand at one moment.
struct Look {
    now: Instant,
    started: bool,
    /// When the driver turned last.
    turned: Option<Instant>,
    status: String,
}

impl Look {
    /// How a member to be stands: it serves its API, and more is not its to do.
    fn waiting(reasons: &str, now: Instant, turned: Instant) -> Look {
        Look { now, started: true, turned: Some(turned), status: format!("waiting: {reasons}").replace('\n', " ") }
    }
}

/// What the service manager knows.
#[derive(Clone, Debug, Default)]
struct Told {
    ready: bool,
    status: String,
    /// When it was given a sign of life last, and the turn of the driver that this was a sign of.
    sign: Option<(Instant, Instant)>,
}

impl Told {
    /// What is to be told now, and what is known when that has arrived.
    fn look(&self, look: &Look, sign_interval: Option<Duration>) -> (String, Told) {
        let mut next = self.clone();
        let mut words = Vec::new();
        if look.started && !self.ready {
            next.ready = true;
            words.push("READY=1".to_owned());
        }
        if let (Some(sign_interval), Some(turned)) = (sign_interval, look.turned) {
            // That this task lives says nothing of the driver: without a turn since the last sign there is none.
            let due = self.sign.is_none_or(|(at, of)| look.now >= at + sign_interval && turned > of);
            if due {
                next.sign = Some((look.now, turned));
                words.push("WATCHDOG=1".to_owned());
            }
        }
        if look.status != self.status {
            next.status.clone_from(&look.status);
            words.push(format!("STATUS={}", look.status));
        }
        (words.join("\n"), next)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const SIGN: Option<Duration> = Some(Duration::from_secs(1));

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    fn look(now: u64, turned: u64) -> Look {
        Look { now: at(now), started: true, turned: Some(at(turned)), status: "ready".to_owned() }
    }

    fn told(told: &mut Told, look: &Look) -> String {
        let (words, next) = told.look(look, SIGN);
        *told = next;
        words
    }

    #[test]
    fn signs_of_life_are_signs_of_turns() {
        let mut known = Told::default();
        assert_eq!(told(&mut known, &look(10, 10)), "READY=1\nWATCHDOG=1\nSTATUS=ready");
        assert_eq!(told(&mut known, &look(10, 10)), "", "once is enough");
        assert_eq!(told(&mut known, &look(11, 11)), "WATCHDOG=1");
        for hanging in 12..20 {
            assert_eq!(told(&mut known, &look(hanging, 11)), "", "it has not turned since");
        }
        assert_eq!(told(&mut known, &look(20, 20)), "WATCHDOG=1");
        let (words, _) = known.look(&look(30, 30), None);
        assert_eq!(words, "", "nobody asks for them");
    }

    #[test]
    fn a_start_is_told_once() {
        let mut known = Told::default();
        let reading = Look { started: false, turned: None, status: "reading the log".to_owned(), ..look(1, 1) };
        assert_eq!(told(&mut known, &reading), "STATUS=reading the log");
        let (lost, _) = known.look(&look(2, 2), SIGN);
        assert_eq!(told(&mut known, &look(2, 2)), lost, "what did not arrive is told again");
        let draining = Look { status: "not ready: draining".to_owned(), ..look(2, 2) };
        assert_eq!(told(&mut known, &draining), "STATUS=not ready: draining");
        assert_eq!(told(&mut known, &draining), "");
    }

    #[test]
    fn who_waits_for_others_has_started_and_lives() {
        let mut known = Told::default();
        let waiting = |reasons, now, turned| Look::waiting(reasons, at(now), at(turned));
        let first = told(&mut known, &waiting("waits for\n2 more", 1, 1));
        assert_eq!(first, "READY=1\nWATCHDOG=1\nSTATUS=waiting: waits for 2 more");
        assert_eq!(told(&mut known, &waiting("waits for\n2 more", 2, 2)), "WATCHDOG=1");
        assert_eq!(told(&mut known, &waiting("waits for 1 more", 2, 2)), "STATUS=waiting: waits for 1 more");
        assert_eq!(told(&mut known, &waiting("waits for 1 more", 9, 2)), "", "its disk has not answered since");
    }

    #[test]
    fn who_reads_its_log_lives() {
        let (started, is_started) = watch::channel(false);
        let (_observed, observed) = watch::channel(None);
        let driver_silence_max = Duration::from_secs(1);
        let facts = Facts { started: is_started, observed, driver_silence_max, time: RealTime::start() };
        let reading = facts.look();
        assert_eq!((reading.turned, reading.status.as_str()), (Some(reading.now), "reading the log"));
        started.send_replace(true);
        assert_eq!(facts.look().turned, None, "from now on it is the driver that lives, or does not");
    }

    #[test]
    fn the_environment_names_it() {
        let named = |variables: &[(&'static str, &str)]| {
            let variables: HashMap<_, _> =
                variables.iter().map(|(name, value)| (*name, OsString::from(value))).collect();
            ServiceManager::named(|name| variables.get(name).cloned(), 7)
        };
        let watchdog = |variables: &[(&'static str, &str)]| {
            let variables = [&[("NOTIFY_SOCKET", "/run/notify")], variables].concat();
            named(&variables).unwrap().unwrap().watchdog
        };
        assert!(named(&[]).unwrap().is_none());
        assert!(named(&[("WATCHDOG_USEC", "1000")]).unwrap().is_none());
        assert_eq!(watchdog(&[]), None);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "1500000")]), Some(Duration::from_millis(1500)));
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "7")]), Some(Duration::from_millis(1)));
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "8")]), None);
        let abstract_name = named(&[("NOTIFY_SOCKET", "@name")]).unwrap().unwrap();
        assert_eq!(abstract_name.address.as_abstract_name(), Some(&b"name"[..]));
        let refused = |variables| named(variables).err().unwrap();
        assert!(matches!(refused(&[("NOTIFY_SOCKET", "vsock:2:1")]), BadServiceManager::Address(_)));
        assert!(matches!(
            refused(&[("NOTIFY_SOCKET", "/run/notify"), ("WATCHDOG_USEC", "soon")]),
            BadServiceManager::Number { name: "WATCHDOG_USEC", .. }
        ));
    }
}
