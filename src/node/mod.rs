//! Floor 5: a real member. Settings, identity, data directory, real time, and the wiring of the adapters to the driver.

pub mod data_directory;
pub mod genesis_file;
pub mod identity;
pub mod random;
pub mod settings;
