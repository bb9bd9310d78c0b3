//! Membership commands: messages of kind command, in the lane of the member that orders them. A batch carries one
//! command or messages of hosts, never both. One that no longer applies has no effect and no position.
//!
//! ```text
//! command = CBOR  0  invite         [ 0, [ secret: digest, expires: time ] ]
//!                 1  join-intent    [ 1, [ member: id, name: text, [ * address: text ], invite: digest ] ]
//!                 2  leave-intent   [ 2, [ ] ]
//!                 3  remove-intent  [ 3, [ member: id ] ]
//!                 4  configure      [ 4, [ voters target / null, ( limits ) ] ]
//!                 5  suspect        [ 5, [ member: id ] ]
//!                 6  unsuspect      [ 6, [ member: id ] ]
//!                 7  ready          [ 7, [ slot, digest ] ]
//!                 8  move           [ 8, [ [ * address: text ] ] ]
//! ```

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::configuration::ClusterLimits;
use super::ids::{Digest, MemberId, Slot};
use super::limits;
use super::message::{Message, MessageKind};
use super::time::WallTime;

/// One membership command. Open: further kinds get further numbers.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Command {
    /// Whoever knows the secret of this digest may join, once.
    #[n(0)]
    Invite {
        /// Digest of the secret, see [`super::join_code::secret_digest`].
        #[n(0)]
        secret: Digest,
        /// From then on the door turns it away, by its own clock; the order does not look at it.
        #[n(1)]
        expires: WallTime,
    },
    /// A key becomes a member, as a learner, and consumes the invite.
    #[n(1)]
    JoinIntent {
        /// Its key.
        #[n(0)]
        member: MemberId,
        /// Its name for people.
        #[n(1)]
        name: String,
        /// Where its mesh listens.
        #[cbor(n(2), with = "addresses_field")]
        addresses: Vec<String>,
        /// Which invite, by the digest of its secret.
        #[n(3)]
        invite: Digest,
    },
    /// The member that seals it leaves: the last message of its lane, which it closes.
    #[n(2)]
    LeaveIntent,
    /// An operator removes a member: its lane closes where it stands.
    #[n(3)]
    RemoveIntent {
        /// Whom.
        #[n(0)]
        member: MemberId,
    },
    /// What the next epochs are to be like.
    #[n(4)]
    Configure {
        /// How many members vote: 3, 5 or 7; none leaves it as it is.
        #[n(0)]
        voters_target: Option<u32>,
        /// Bounds everybody agrees on; none leaves them as they are.
        #[n(1)]
        limits: Option<ClusterLimits>,
    },
    /// The voter that seals it has not heard that voter for its `replace_after` (rule E4).
    #[n(5)]
    Suspect {
        /// Whom.
        #[n(0)]
        member: MemberId,
    },
    /// It has heard it again.
    #[n(6)]
    Unsuspect {
        /// Whom.
        #[n(0)]
        member: MemberId,
    },
    /// The learner that seals it holds the log up to here durably, and may vote (rule E5).
    #[n(7)]
    Ready {
        /// The last slot it holds.
        #[n(0)]
        slot: Slot,
        /// The chain's digest there.
        #[n(1)]
        digest: Digest,
    },
    /// The member that seals it listens elsewhere now.
    #[n(8)]
    Move {
        /// Where its mesh listens.
        #[cbor(n(0), with = "addresses_field")]
        addresses: Vec<String>,
    },
}

/// Why bytes are not a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a membership command: {0}")]
pub struct NotACommand(pub String);

impl Command {
    /// The message that carries it; its topic is the type of the event that hosts see.
    pub fn message(&self) -> Message {
        Message {
            kind: MessageKind::Command,
            topic: self.event().to_owned(),
            content_type: None,
            body: Bytes::from(minicbor::to_vec(self).expect("memory is writable")),
        }
    }

    /// Reads the command of a message: decoded, nothing left over, canonical, within its bounds.
    pub fn of(message: &Message) -> Result<Command, NotACommand> {
        let command: Command = minicbor::decode(&message.body).map_err(|error| NotACommand(error.to_string()))?;
        if command.message() != *message {
            return Err(NotACommand("not the canonical encoding".to_owned()));
        }
        match &command {
            Command::JoinIntent { name, addresses, .. } => {
                check_name(name)?;
                check_addresses(addresses)?;
            }
            Command::Move { addresses } => check_addresses(addresses)?,
            _ => {}
        }
        Ok(command)
    }

    /// The type of the event that hosts see where it takes effect.
    pub fn event(&self) -> &'static str {
        match self {
            Command::Invite { .. } => "synod.member.invited",
            Command::JoinIntent { .. } => "synod.member.joined",
            Command::LeaveIntent => "synod.member.left",
            Command::RemoveIntent { .. } => "synod.member.removed",
            Command::Configure { .. } => "synod.voters.configured",
            Command::Suspect { .. } => "synod.member.suspected",
            Command::Unsuspect { .. } => "synod.member.unsuspected",
            Command::Ready { .. } => "synod.member.ready",
            Command::Move { .. } => "synod.member.moved",
        }
    }
}

/// How addresses stand in CBOR: as an array of texts, no longer than they may be.
pub mod addresses_field {
    use minicbor::{Decoder, Encoder, decode::Error as DecodeError, encode::Error as EncodeError, encode::Write};

    use super::limits;

    /// Writes the array.
    pub fn encode<C, W: Write>(
        addresses: &[String],
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        encoder.array(addresses.len() as u64)?;
        addresses.iter().try_for_each(|address| encoder.str(address)?.ok())
    }

    /// Reads one; a longer one is refused before it takes memory.
    pub fn decode<C>(decoder: &mut Decoder<'_>, _: &mut C) -> Result<Vec<String>, DecodeError> {
        let length = decoder.array()?.ok_or_else(|| DecodeError::message("arrays have a definite length"))?;
        if length > limits::ADDRESSES_MAX as u64 {
            return Err(DecodeError::message(format!("a member has at most {} addresses", limits::ADDRESSES_MAX)));
        }
        (0..length).map(|_| decoder.str().map(str::to_owned)).collect()
    }
}

/// A name that members may have.
pub fn check_name(name: &str) -> Result<(), NotACommand> {
    let usable = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if name.is_empty() || name.len() > limits::NAME_BYTES_MAX || !name.chars().all(usable) {
        return Err(NotACommand(format!(
            "a name has 1 to {} letters, digits, `-`, `_` or `.`",
            limits::NAME_BYTES_MAX
        )));
    }
    Ok(())
}

/// Addresses that a member may have.
pub fn check_addresses(addresses: &[String]) -> Result<(), NotACommand> {
    let usable = |address: &String| (1..=limits::ADDRESS_BYTES_MAX).contains(&address.len());
    if addresses.len() > limits::ADDRESSES_MAX || !addresses.iter().all(usable) {
        return Err(NotACommand(format!(
            "a member has at most {} addresses of at most {} bytes",
            limits::ADDRESSES_MAX,
            limits::ADDRESS_BYTES_MAX
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_read_back_and_are_bounded() {
        let join = |name: &str, addresses: usize| Command::JoinIntent {
            member: MemberId([1; 32]),
            name: name.to_owned(),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".to_owned(); addresses],
            invite: Digest::ZERO,
        };
        for command in
            [join("n4", 1), Command::LeaveIntent, Command::Configure { voters_target: Some(5), limits: None }]
        {
            assert_eq!(Command::of(&command.message()), Ok(command));
        }
        for command in [join("", 1), join("n 4", 1), join(&"n".repeat(65), 1), join("n4", limits::ADDRESSES_MAX + 1)] {
            assert!(Command::of(&command.message()).is_err(), "{command:?}");
        }
        let mut message = Command::LeaveIntent.message();
        message.topic = "orders".to_owned();
        assert!(Command::of(&message).is_err(), "its topic is its own");
        message.body = Bytes::from_static(b"\xff");
        assert!(Command::of(&message).is_err());
    }
}
