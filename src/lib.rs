//! Synod: group communication that anyone can use.
#[cfg(feature = "node")]
pub mod api;
pub mod delivery;
pub mod driver;
pub mod types;
