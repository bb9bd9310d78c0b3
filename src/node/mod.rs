//! Floor 5: a real member. Settings, identity, data directory, real time, and the wiring of the adapters to the driver.
//!
//! | file | duty |
//! |---|---|
//! | `run` | one member, from its configuration to its end |
//! | `candidacy`, `commitment_file` | how a machine founds a group together with others, without a file |
//! | `join`, `contacts_file` | how a machine becomes a member of a group that there is, and what it was told |
//! | `driver_thread`, `outside` | the thread that owns replica and log, and what it needs |
//! | `catch_up`, `log_reader` | the log, read for peers and for subscribers |
//! | `listeners`, `descriptors`, `mesh_figures`, `state_log`, `progress`, `logging` | the edges: addresses, figures, events |
//! | `service_manager` | what systemd is told: started, ready, the driver turns, stopping |
//! | `reach`, `moving` | where the mesh listens, and where the others are told to reach it, at the start and later |
//! | `configuration`, `settings/`, `genesis_file`, `configuration_file`, `token` | what a member is told |
//! | `identity`, `data_directory`, `random`, `real_time` | what a member has |
//! | `founding` | makes a group |
//! | `verification`, `epoch_proof` | a log, and the chain of epochs, checked offline |
//! | `examination/` | what is around a member: directory, disk, ports, ways to the others |

pub mod candidacy;
pub mod catch_up;
pub mod commitment_file;
pub mod configuration;
pub mod configuration_file;
pub mod contacts_file;
pub mod data_directory;
pub mod descriptors;
pub mod driver_thread;
pub mod epoch_proof;
pub mod examination;
pub mod founding;
pub mod genesis_file;
pub mod identity;
pub mod join;
pub mod listeners;
pub mod log_reader;
pub mod logging;
pub mod mesh_figures;
pub mod moving;
pub mod outside;
pub mod progress;
pub mod random;
pub mod reach;
pub mod real_time;
pub mod run;
pub mod service_manager;
pub mod settings;
pub mod state_log;
pub mod token;
pub mod verification;
