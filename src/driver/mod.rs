//! Floor 2: the one loop.
pub mod inbox;
pub mod outside;
pub use outside::{Input, LogFigures, Outside, Serve, ServeSlot};
