//! What a seed draws before anything happens: how many members, how they behave, which faults and how many.

use std::time::Duration;

use super::clock::{Clock, Moment};
use super::network::Manner;
use super::random::Random;
use super::shell::Temper;
use crate::types::ClusterLimits;
use crate::types::settings::Timing;

/// A kind of fault. Each begins at a drawn moment and most end at another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A member dies between two turns.
    Crash,
    /// A member dies before a drawn effect of its next turns.
    CrashInside,
    /// A member dies after something left early, before the sync that follows.
    CrashBeforeSync,
    /// A member dies after a sync, before what waits for it.
    CrashAfterSync,
    /// A member dies, and again while it starts.
    CrashInStart,
    /// The present leader dies, in any of these ways.
    CrashLeader,
    /// Everybody dies at once and comes back.
    RestartAll,
    /// The link of a pair breaks and is dialled again.
    BreakLink,
    /// A pair cannot link for a while.
    BrokenPair,
    /// One direction goes silent; the other does not.
    OneWay,
    /// The group falls into two parts.
    Partition,
    /// A member stands still.
    Pause,
    /// A member's disk is slow.
    SlowDisk,
    /// A sync fails.
    FailedSync,
    /// A wall clock jumps.
    ClockJump,
    /// A bit turns at or below the decided mark while a member is down.
    RotBelow,
    /// A bit turns in the newest records while a member is down.
    RotAbove,
    /// A disk is full for a while.
    FullDisk,
    /// A member is drained and started again.
    Drain,
    /// Links lose, double and disorder messages for a while.
    BadLinks,
    /// A member loses and regains its links, and its view changes, again and again.
    Churn,
}

/// Something that operators do, or that befalls a machine. What it leads to is the group's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A machine gets a join code and joins.
    Join,
    /// A member is told to leave.
    Leave,
    /// A member is removed.
    Remove,
    /// The number of voters is to be another one.
    Voters,
    /// A member comes back under another address; or a joiner does.
    Move,
    /// A member is down for long.
    Sleep,
    /// A member's disk is gone, and its key with it.
    LoseDisk,
    /// Two operators act at the same moment.
    TwoAtOnce,
    /// A machine has a join code that another one used.
    UsedCode,
    /// A machine has a join code that nobody gave out.
    FalseCode,
    /// A machine has a join code that has expired.
    LateCode,
    /// A machine whose key was a member's has a join code.
    FormerKey,
    /// Somebody tells a false chain of epochs at a member's door.
    FalseChain,
}

/// Everything drawn before the simulation begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Number of members in the beginning, all voters.
    pub founders: usize,
    /// Number of machines, those that may join included.
    pub machines: usize,
    /// Usual time between two deeds of operators.
    pub deed_gap: Duration,
    /// Kinds of deeds with their weights.
    pub deeds: Vec<(u64, Deed)>,
    /// When faults stop.
    pub faults_until: Duration,
    /// Usual time between two faults.
    pub fault_gap: Duration,
    /// Kinds of faults with their weights.
    pub faults: Vec<(u64, Fault)>,
    /// How links behave in the beginning and after the faults.
    pub manner: Manner,
    /// Usual time between two publishes.
    pub publish_gap: Duration,
    /// Bodies are mostly at most this long, in bytes.
    pub body_bytes: u64,
    /// Every message goes through its bytes.
    pub coded: bool,
    /// Bounds everybody agrees on.
    pub limits: ClusterLimits,
    /// Bytes of a log segment.
    pub segment_bytes: u64,
    /// Timers of all members.
    pub timing: Timing,
}

const EVERYTHING: &[(u64, Fault)] = &[
    (8, Fault::Crash),
    (10, Fault::CrashInside),
    (6, Fault::CrashBeforeSync),
    (6, Fault::CrashAfterSync),
    (3, Fault::CrashInStart),
    (8, Fault::CrashLeader),
    (4, Fault::RestartAll),
    (8, Fault::BreakLink),
    (4, Fault::BrokenPair),
    (4, Fault::OneWay),
    (5, Fault::Partition),
    (4, Fault::Pause),
    (4, Fault::SlowDisk),
    (2, Fault::FailedSync),
    (3, Fault::ClockJump),
    (3, Fault::RotBelow),
    (1, Fault::RotAbove),
    (2, Fault::FullDisk),
    (3, Fault::Drain),
    (5, Fault::BadLinks),
    (4, Fault::Churn),
];

const CRASHES: &[(u64, Fault)] = &[
    (6, Fault::Crash),
    (20, Fault::CrashInside),
    (14, Fault::CrashBeforeSync),
    (14, Fault::CrashAfterSync),
    (8, Fault::CrashInStart),
    (14, Fault::CrashLeader),
    (10, Fault::RestartAll),
    (3, Fault::BreakLink),
];

const LINKS: &[(u64, Fault)] = &[
    (10, Fault::BreakLink),
    (8, Fault::BrokenPair),
    (10, Fault::OneWay),
    (12, Fault::Partition),
    (6, Fault::BadLinks),
    (4, Fault::Pause),
    (12, Fault::Churn),
    (4, Fault::CrashLeader),
];

const DISKS: &[(u64, Fault)] = &[
    (8, Fault::SlowDisk),
    (6, Fault::FailedSync),
    (8, Fault::RotBelow),
    (4, Fault::RotAbove),
    (6, Fault::FullDisk),
    (8, Fault::CrashInside),
    (4, Fault::CrashInStart),
    (4, Fault::RestartAll),
    (3, Fault::Drain),
];

const VIEWS: &[(u64, Fault)] = &[
    (14, Fault::Churn),
    (10, Fault::CrashLeader),
    (8, Fault::CrashBeforeSync),
    (8, Fault::CrashAfterSync),
    (6, Fault::OneWay),
    (6, Fault::BadLinks),
    (4, Fault::RestartAll),
    (4, Fault::Partition),
];

const ANYTHING: &[(u64, Deed)] = &[
    (10, Deed::Join),
    (4, Deed::Leave),
    (2, Deed::Remove),
    (3, Deed::Voters),
    (3, Deed::Move),
    (2, Deed::Sleep),
    (2, Deed::LoseDisk),
    (2, Deed::TwoAtOnce),
    (1, Deed::UsedCode),
    (1, Deed::FalseCode),
    (1, Deed::LateCode),
    (1, Deed::FormerKey),
    (2, Deed::FalseChain),
];

/// Everybody comes and goes.
const TURNOVER: &[(u64, Deed)] =
    &[(12, Deed::Join), (8, Deed::Leave), (3, Deed::Remove), (3, Deed::Voters), (4, Deed::Sleep)];

/// Voters fall silent and are replaced.
const HEALING: &[(u64, Deed)] =
    &[(10, Deed::Join), (6, Deed::Sleep), (5, Deed::LoseDisk), (3, Deed::Move), (2, Deed::Remove), (2, Deed::Voters)];

impl Plan {
    /// What this seed draws.
    pub fn draw(random: &mut Random) -> Plan {
        let founders = random.weighted(&[(5, 1), (65, 3), (30, 5)]);
        let joiners = random.weighted(&[(3, 1), (4, 2), (3, 3), (2, 4), (1, 6)]);
        let deeds = random.weighted(&[(5, ANYTHING), (3, TURNOVER), (3, HEALING)]);
        let gaps: &[(u64, u64)] = &[(2, 1200), (4, 600), (3, 300)];
        let faults = random.weighted(&[(8, EVERYTHING), (4, CRASHES), (3, LINKS), (2, DISKS), (3, VIEWS)]);
        let latency = random.weighted(&[(5, 150), (3, 800), (2, 8_000)]);
        Plan {
            founders,
            machines: founders + joiners,
            deed_gap: Duration::from_millis(random.weighted(&[(3, 700), (3, 1_500), (2, 4_000)])),
            deeds: deeds.to_vec(),
            faults_until: random.duration(Duration::from_secs(20), Duration::from_secs(26)),
            fault_gap: Duration::from_millis(random.weighted(gaps)),
            faults: faults.to_vec(),
            manner: Manner {
                latency: Duration::from_micros(latency),
                lost: 0,
                doubled: 0,
                overtaken: 0,
                silent: false,
            },
            publish_gap: Duration::from_millis(random.weighted(&[(4, 90), (4, 60), (2, 40)])),
            body_bytes: random.weighted(&[(6, 200), (2, 2_000), (2, 20_000)]),
            coded: random.chance(60),
            limits: ClusterLimits { message_bytes_max: 40 << 10, batch_bytes_max: 44 << 10 },
            segment_bytes: random.weighted(&[(1, 128 << 10), (2, 256 << 10)]),
            timing: Plan::timing(random),
        }
    }

    /// Voters that fall silent are suspected soon, or not in a simulation's time.
    fn timing(random: &mut Random) -> Timing {
        let usual = Timing::default();
        let soon = random.duration(Duration::from_millis(2_500), Duration::from_secs(5));
        if random.chance(700) {
            Timing { timeout_max: Duration::from_millis(2_500), replace_after: soon, ..usual }
        } else {
            usual
        }
    }

    /// A member's clocks.
    pub fn clock(&self, random: &mut Random) -> Clock {
        let offset = random.between(0, 200_000_000) as i64 - 100_000_000;
        let drift = random.between(0, 200) as i64 - 100;
        Clock::new(offset, drift)
    }

    /// A member's disk as it usually is.
    pub fn temper(&self, random: &mut Random) -> Temper {
        let sync = Duration::from_micros(random.weighted(&[(5, 120), (3, 900), (1, 6_000)]));
        Temper { sync, exact: false, stall_every: 0, stall: Duration::ZERO, failing: false }
    }

    /// When faults stop.
    pub fn heals(&self) -> Moment {
        Moment::at(self.faults_until)
    }
}
