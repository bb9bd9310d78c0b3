//! Floor 5: the deterministic simulator. The shipped driver, log and recovery run under virtual time; only the file, the
//! link and the time are played.
//!
//! One seed draws everything: how many members, how their clocks, disks and links behave, who publishes what, and which
//! faults fall when. The same seed gives the same course of events, of which a digest is kept. At every step the
//! [checkers](check) compare the bytes that became durable, the messages that left and what hosts were told. Then the
//! faults stop, and the group must finish what it promised and go on.
//!
//! | file | duty |
//! |---|---|
//! | `random` `clock` `group` | what a seed means; virtual time; who takes part |
//! | `shell` `disk` `node` | one member: its outside, its files, its process |
//! | `network` | sessions, latency, loss, doubling, silence |
//! | `check/` | what must hold |
//! | `stage` `judge` | members and checkers together |
//! | `plan` `faults` `damage` `links` `processes` `progress` `world` | the random world |
//! | `machines` `operators` `door` `forgery` | who comes and goes in it, and how |
//! | `candidates/` | another world: candidates that found a group |
//! | `chart` `coverage` | what a failure prints; what really happened |
//! | `campaign` `sabotage` `command` | many seeds; rules switched off; the command |
//! | `scenario/` | the world played by a script with recorded output |

pub mod campaign;
pub mod candidates;
pub mod chart;
pub mod check;
pub mod clock;
pub mod command;
pub mod coverage;
mod damage;
mod disk;
mod door;
mod faults;
mod forgery;
pub mod group;
mod judge;
mod links;
mod machines;
pub mod network;
pub mod node;
mod operators;
pub mod plan;
mod processes;
mod progress;
pub mod random;
mod sabotage;
pub mod scenario;
pub mod shell;
pub mod stage;
pub mod world;

pub use command::{Conclusion, Options, Seeds, run_command};
