//! Synod: group communication that anyone can use.
pub mod types;
