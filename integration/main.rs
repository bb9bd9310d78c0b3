//! Everything that is tested from the outside, in one binary: it is linked once. Groups are real processes over real
//! links and disks; `harness` says what the tests stand on.

mod crashes;
mod harness;
mod layers;
mod order;
