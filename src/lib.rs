//! Synod: group communication that anyone can use.
pub mod delivery;
pub mod driver;
pub mod types;
