//! Floor 5: a real member. Settings, identity, data directory, real time, and the wiring of the adapters to the driver.

pub mod catch_up;
pub mod configuration;
pub mod configuration_file;
pub mod data_directory;
pub mod founding;
pub mod genesis_file;
pub mod identity;
pub mod logging;
pub mod random;
pub mod real_time;
pub mod settings;
pub mod verification;
