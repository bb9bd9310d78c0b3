//! Floor 0: the vocabulary every other floor speaks.
pub mod ids;
pub mod rule;
pub mod time;
pub use ids::*;
pub use rule::{Rule, Sabotage};
pub use time::{Hlc, Instant, Now, WallTime};
