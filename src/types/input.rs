//! What the outside tells the ordering core, and what the core asks to be read from the log.

use super::host::Publish;
use super::ids::MemberId;
use super::peer::{Envelope, Hello, Refusal};
use super::record::Location;
use super::statement::Tip;

/// What the outside tells the driver.
#[derive(Debug)]
pub enum Input {
    /// A host publishes.
    Publish(Publish),
    /// A link to a member is up; its hello came with it.
    LinkUp {
        /// Who.
        peer: MemberId,
        /// What it said first.
        hello: Hello,
    },
    /// The link to a member is down.
    LinkDown {
        /// Who.
        peer: MemberId,
    },
    /// A peer refused our hello.
    Refused {
        /// Who.
        peer: MemberId,
        /// Why.
        reason: Refusal,
    },
    /// A message from a member, admitted.
    Received {
        /// Who.
        peer: MemberId,
        /// What.
        envelope: Envelope,
    },
    /// Accept no more publishes; resign if leading; say when everything accepted is ordered.
    Drain,
}

/// Decided slots to be read from the log for a member that lacks them.
#[derive(Clone, Debug)]
pub struct Serve {
    /// Who lacks them.
    pub to: MemberId,
    /// Everything up to here is decided.
    pub mark: Tip,
    /// From low to high: where each slot's entry and batches stand.
    pub slots: Vec<ServeSlot>,
}

/// One slot to be read.
#[derive(Clone, Debug)]
pub struct ServeSlot {
    /// The entry record.
    pub entry: Location,
    /// The batch records, in the entry's order.
    pub batches: Vec<Location>,
}
