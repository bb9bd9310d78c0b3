//! Synod: group communication that anyone can use.
pub mod driver;
pub mod protocol;
pub mod sim;
pub mod types;
pub mod wal;
