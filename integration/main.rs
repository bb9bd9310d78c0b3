//! Everything that is tested from the outside, in one binary: it is linked once. Groups are real processes over real
//! links and disks; `harness` says what the tests stand on.

mod commands;
mod crashes;
mod damaged_logs;
mod dev_and_demo;
mod doctor;
mod drain;
mod full_disk;
mod genesis;
mod hanging_disk;
mod harness;
mod hostile_clients;
mod hostile_peers;
mod identities;
mod layers;
mod membership;
mod networks;
mod order;
mod others_bugs;
mod pauses;
mod refusals;
mod service_manager;
