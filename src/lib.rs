#![doc = include_str!("ARCHITECTURE.md")]

#[cfg(feature = "node")]
pub mod api;
#[cfg(feature = "node")]
pub mod cmd;
pub mod codec;
pub mod delivery;
pub mod driver;
#[cfg(feature = "node")]
pub mod net;
#[cfg(feature = "node")]
pub mod node;
pub mod protocol;
pub mod sim;
pub mod types;
pub mod wal;
