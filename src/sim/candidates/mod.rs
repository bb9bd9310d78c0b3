//! Candidates that found a group (rule G1): the shipped candidate under virtual time, with a record that survives a crash
//! or not, exchanges that get lost, and people who start, kill and replace machines. A world of its own beside that of the
//! members, drawn from the same seed.
//!
//! | file | duty |
//! |---|---|
//! | `gathering` | machines and time; used by seeds and by scenarios |
//! | `exchanges` | what goes between machines |
//! | `machine` | one machine: its disk, its process, what it is set to |
//! | `telling` | what happens, for people |
//! | `vows` | what must hold |
//! | `world` | what a seed draws: when who starts, which faults fall, and what must be there in the end |

mod exchanges;
mod gathering;
mod machine;
mod telling;
mod vows;
mod world;

pub use gathering::{Gathering, Manner};
pub use machine::{Doom, Listens, MACHINES_MAX, Machine, Setup};
pub use telling::{members, names, plain, tell};
pub use vows::Vows;
pub use world::gather;
