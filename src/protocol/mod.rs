//! The ordering core.
mod ballots;
mod chain;
mod counters;
mod fetching;
mod halt;
mod lanes;
mod model;
mod peers;
mod ready;
mod replay;
mod replica;
mod sealing;
mod status;
mod views;
mod voting;

pub use counters::Counters;
pub use halt::Halt;
pub use model::{Channel, Crash, FaultModel, Quorums};
pub use ready::{Outgoing, Ready};
pub use replay::Restored;
pub use replica::{Identity, Replica};
