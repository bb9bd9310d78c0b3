//! The door: the one protocol that is open to every key that names the cluster id. It gives and takes chains of epochs
//! and, with an invite, a [`Command::JoinIntent`](super::command::Command), and nothing else (rule E3). Who knocks sends
//! one frame and gets one.
//!
//! ```text
//! door = CBOR [ version, cluster id, message ]
//!
//! message  0  ask      [ 0, [ have: epoch / null ] ]
//!          1  join     [ 1, [ secret: bytes .size 16, name: text, [ * address: text ] ] ]
//!          2  tell     [ 2, [ told ] ]
//!          3  refused  [ 3, [ door refusal ] ]
//!
//! told     = [ genesis: bytes / null, from: epoch, [ * epoch link ], established: epoch, standing, [ * contact ] ]
//! contact  = [ id, name: text, [ * address: text ] ]
//! standing = 0: voter, 1: learner, 2: left, 3: removed, 4: stranger
//!
//! door refusal = [ 0: unknown invite, [ ] ], [ 1: used, [ ] ], [ 2: expired, [ ] ], [ 3: former member, [ ] ],
//!                [ 4: no quorum, [ text ] ], [ 5: busy, [ ] ], [ 6: cluster, [ theirs, ours ] ], [ 7: bad request, [ text ] ],
//!                [ 8: version, [ theirs, ours ] ], [ 9: forged chain, [ text ] ]
//! ```

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::command::addresses_field;
use super::epoch::EpochLink;
use super::ids::{ClusterId, Epoch, MemberId};
use super::join_code::SECRET_BYTES;
use super::limits;

/// One frame at the door.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct DoorFrame {
    /// [`super::limits::PROTOCOL_VERSION`].
    #[n(0)]
    pub version: u32,
    /// The group that the sender names.
    #[n(1)]
    pub cluster: ClusterId,
    /// What it says.
    #[n(2)]
    pub message: DoorMessage,
}

/// What is said at the door.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum DoorMessage {
    /// What follows this epoch? None: the genesis is wanted, too.
    #[n(0)]
    Ask {
        /// The newest epoch the asker can prove.
        #[n(0)]
        have: Option<Epoch>,
    },
    /// The key that knocks wants to become a member.
    #[n(1)]
    Join {
        /// Of its join code.
        #[cbor(n(0), with = "minicbor::bytes")]
        secret: [u8; SECRET_BYTES],
        /// Its name for people.
        #[n(1)]
        name: String,
        /// Where its mesh listens.
        #[cbor(n(2), with = "addresses_field")]
        addresses: Vec<String>,
    },
    /// The chain of epochs: an answer, or unasked to a member that cannot know better.
    #[n(2)]
    Tell(#[n(0)] Told),
    /// An answer: no, for this reason.
    #[n(3)]
    Refused(#[n(0)] DoorRefusal),
}

/// What a member tells at the door.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Told {
    /// The genesis' canonical bytes, if they were asked for.
    #[cbor(n(0), with = "optional_bytes")]
    pub genesis: Option<Bytes>,
    /// The epoch that the first link ends.
    #[n(1)]
    pub from: Epoch,
    /// The links from there on; at most [`super::limits::DOOR_LINKS`], the rest is asked for again.
    #[n(2)]
    pub links: Vec<EpochLink>,
    /// The newest epoch that is known to be established.
    #[n(3)]
    pub established: Epoch,
    /// What the group knows of the key that is told.
    #[n(4)]
    pub standing: Standing,
    /// Where members are found: hints, never trusted for more.
    #[n(5)]
    pub contacts: Vec<Contact>,
}

/// What a key is to the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, serde::Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// A member that votes.
    #[n(0)]
    Voter,
    /// A member that does not.
    #[n(1)]
    Learner,
    /// It left.
    #[n(2)]
    Left,
    /// An operator removed it.
    #[n(3)]
    Removed,
    /// It never was a member.
    #[n(4)]
    Stranger,
}

/// Where a member is found.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Contact {
    /// Its key.
    #[n(0)]
    pub id: MemberId,
    /// Its name for people.
    #[n(1)]
    pub name: String,
    /// Where its mesh listens.
    #[cbor(n(2), with = "addresses_field")]
    pub addresses: Vec<String>,
}

/// Why the door does not let a key in.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum DoorRefusal {
    /// No invite has this secret.
    #[n(0)]
    #[error("unknown_invite: this group has no such invite; `synod invite` on any member prints a new join code")]
    UnknownInvite,
    /// Another key used it.
    #[n(1)]
    #[error(
        "used_invite: another member has joined with this join code; `synod invite` on any member prints a new one"
    )]
    UsedInvite,
    /// It is too late.
    #[n(2)]
    #[error("expired_invite: this join code has expired; `synod invite` on any member prints a new one")]
    ExpiredInvite,
    /// The key was a member before: an id is never used again.
    #[n(3)]
    #[error(
        "former_member: this key was a member before and has left or was removed; join with a new data directory, which \
         makes a new key"
    )]
    FormerMember,
    /// Nothing is being ordered.
    #[n(4)]
    #[error("no_quorum: the group orders nothing just now ({0}); try again when a quorum of its voters is reachable")]
    NoQuorum(#[n(0)] String),
    /// Too many knock.
    #[n(5)]
    #[error("busy: too many keys knock at this member's door; try again in a moment")]
    Busy,
    /// Another group.
    #[n(6)]
    #[error("foreign_cluster: it belongs to group {}, this is group {}", theirs.short(), ours.short())]
    Cluster {
        /// What the key named.
        #[n(0)]
        theirs: ClusterId,
        /// Ours.
        #[n(1)]
        ours: ClusterId,
    },
    /// Name or addresses cannot be used.
    #[n(7)]
    #[error("bad_request: {0}")]
    BadRequest(#[n(0)] String),
    /// Another version of the protocol.
    #[n(8)]
    #[error("protocol version {theirs} is not ours ({ours}); run the same release on all members")]
    Version {
        /// What it speaks.
        #[n(0)]
        theirs: u32,
        /// What we speak.
        #[n(1)]
        ours: u32,
    },
    /// The chain of epochs that the key told proves nothing.
    #[n(9)]
    #[error("forged_chain: {0}; nothing of it is believed, and only voters' signatures are")]
    ForgedChain(#[n(0)] String),
}

impl DoorRefusal {
    /// Whether it may be otherwise in a moment.
    pub fn passes(&self) -> bool {
        matches!(self, DoorRefusal::NoQuorum(_) | DoorRefusal::Busy)
    }
}

/// Why bytes are no frame of the door.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no frame of the door: {0}")]
pub struct NotADoorFrame(pub String);

impl DoorFrame {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        Bytes::from(minicbor::to_vec(self).expect("memory is writable"))
    }

    /// Text of others goes into logs and onto terminals: one line of bounded length.
    fn is_plain(&self) -> bool {
        match &self.message {
            DoorMessage::Refused(
                DoorRefusal::BadRequest(text) | DoorRefusal::NoQuorum(text) | DoorRefusal::ForgedChain(text),
            ) => text.len() <= limits::DOOR_TEXT_BYTES && !text.chars().any(char::is_control),
            _ => true,
        }
    }

    /// Admits bytes from any key: decoded, nothing left over.
    pub fn admit(bytes: &[u8]) -> Result<DoorFrame, NotADoorFrame> {
        let mut decoder = minicbor::Decoder::new(bytes);
        let frame: DoorFrame = decoder.decode().map_err(|error| NotADoorFrame(error.to_string()))?;
        if decoder.position() != bytes.len() {
            return Err(NotADoorFrame("bytes are left over".to_owned()));
        }
        frame
            .is_plain()
            .then_some(frame)
            .ok_or_else(|| NotADoorFrame("a refusal's text is long or not plain".to_owned()))
    }
}

mod optional_bytes {
    use super::Bytes;
    use crate::types::message::bytes_field;
    use minicbor::data::Type;
    use minicbor::{Decoder, Encoder, decode::Error as DecodeError, encode::Error as EncodeError, encode::Write};

    pub fn encode<C, W: Write>(
        bytes: &Option<Bytes>,
        encoder: &mut Encoder<W>,
        context: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        match bytes {
            Some(bytes) => bytes_field::encode(bytes, encoder, context),
            None => encoder.null()?.ok(),
        }
    }

    pub fn decode<C>(decoder: &mut Decoder<'_>, context: &mut C) -> Result<Option<Bytes>, DecodeError> {
        if decoder.datatype()? == Type::Null {
            decoder.null()?;
            return Ok(None);
        }
        bytes_field::decode(decoder, context).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Digest;

    #[test]
    fn frames_read_back() {
        let told = |genesis| Told {
            genesis,
            from: Epoch(0),
            links: Vec::new(),
            established: Epoch(0),
            standing: Standing::Stranger,
            contacts: Vec::new(),
        };
        for message in [
            DoorMessage::Ask { have: None },
            DoorMessage::Tell(told(None)),
            DoorMessage::Tell(told(Some(Bytes::from_static(b"g")))),
            DoorMessage::Refused(DoorRefusal::UsedInvite),
        ] {
            let frame = DoorFrame { version: 1, cluster: Digest([3; 32]), message };
            assert_eq!(DoorFrame::admit(&frame.encode()), Ok(frame.clone()));
            let longer = [&frame.encode()[..], b"x"].concat();
            assert!(DoorFrame::admit(&longer).is_err());
        }
    }
}
