//! What the outside tells the ordering core, and what the core asks to be read from the log.

use super::announcement::EpochHead;
use super::command::Command;
use super::door::{DoorMessage, Standing};
use super::epoch::{Certificate, EpochLink};
use super::host::{Publish, Ticket};
use super::ids::{Epoch, MemberId};
use super::peer::{Envelope, Hello, Refusal};
use super::record::Location;
use super::statement::Tip;
use super::time::Instant;

/// What the outside tells the driver.
#[derive(Debug)]
pub enum Input {
    /// A host publishes.
    Publish(Publish),
    /// An operator, or the door, wants a membership command ordered. The ticket is answered when it is.
    Command {
        /// Where the outcome goes.
        ticket: Ticket,
        /// Which.
        command: Command,
        /// When it is given up.
        deadline: Instant,
    },
    /// The host wants this member to leave. The ticket is answered when it may go: its lane is drained and closed, and, if
    /// it votes, an epoch without it is established.
    Leave {
        /// Where the outcome goes.
        ticket: Ticket,
    },
    /// A key knocks at the door, or answers there.
    Door {
        /// Whose key; proven by the connection, and nothing else is.
        from: MemberId,
        /// What it says.
        message: DoorMessage,
    },
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
    /// A key says, by gossip or when asked who it is, that it is of this group, and perhaps which epoch it knows.
    Announced {
        /// Whose key; proven, and nothing else is.
        from: MemberId,
        /// The newest epoch that it knows.
        epoch: Option<Epoch>,
        /// What proves that epoch, to who knows the one before it.
        link: Option<Box<EpochLink>>,
    },
    /// This member can be reached elsewhere by now.
    Moved {
        /// Where; none leaves what the order says.
        addresses: Vec<String>,
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
    /// If the entry ends an epoch: who signed that.
    pub certificate: Option<Certificate>,
}

/// Whom the mesh is to know. Everybody else is a stranger, for whom there is only the door.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// Members, and voters of epochs that are proven but not reached here yet.
    pub members: Vec<RosterMember>,
    /// Keys that were members, in the order of the keys.
    pub former: Vec<(MemberId, Standing)>,
    /// The newest epoch that is proven, unless it is the first one.
    pub head: Option<EpochHead>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterMember {
    /// Its key.
    pub id: MemberId,
    /// Its name for people; empty if it is not known.
    pub name: String,
    /// Where it is dialled: multiaddresses, as text.
    pub addresses: Vec<String>,
    /// Whether it is to be dialled. A link that it asks for is taken in any case.
    pub dial: bool,
}
