//! What the tests stand on: groups of real `synod run` processes, clients that publish and remember, readers that compare.
//!
//! | file | duty |
//! |---|---|
//! | `address` | a loopback address of its own for every group, so that no two test runs meet |
//! | `group`, `member` | processes: made, started, stopped, killed, paused, and gone when the test ends |
//! | `load`, `loads` | clients that publish at once and remember every answer; nothing is ever published twice |
//! | `sequence` | what members delivered, compared with each other and with what publishers know |
//! | `disk` | a disk that hangs while it is told to |
//! | `doom` | a process that is killed at one of the changes of names in its folder |
//! | `preload` | what stands before the system's own functions, for these two |
//! | `damage` | logs of stopped members, looked into and damaged |
//! | `raw_peer` | a peer that speaks libp2p, and then says anything |
//! | `network` | hosts of a test's own, with addresses and cables |
//! | `name_server` | and names that lead to them |
//! | `program` | commands that run to their end |
//! | `wait` | the one place where a test waits |

pub mod address;
pub mod damage;
pub mod disk;
pub mod doom;
pub mod group;
pub mod load;
pub mod loads;
pub mod member;
pub mod name_server;
pub mod network;
pub mod preload;
pub mod program;
pub mod raw_peer;
pub mod sequence;
pub mod wait;

pub use group::Group;
pub use load::{Load, Published};
pub use program::synod;
pub use wait::until;
