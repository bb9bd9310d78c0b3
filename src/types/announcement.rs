//! What members announce to all others by gossip: where they are, and which epoch is the newest. Nothing that is ordered,
//! voted on or delivered rests on it. Whose word it is says the signature around it.
//!
//! ```text
//! announcement = CBOR [ version, cluster id, message ]
//!
//! message  0  presence    [ 0, [ incarnation, number, [ * address: text ] ] ]
//!          1  epoch head  [ 1, [ epoch, epoch link ] ]
//! ```

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::command::{addresses_field, check_addresses};
use super::epoch::EpochLink;
use super::ids::{ClusterId, Epoch, Incarnation};
use super::limits;

/// One announcement.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Announcement {
    /// [`super::limits::PROTOCOL_VERSION`].
    #[n(0)]
    pub version: u32,
    /// Of which group.
    #[n(1)]
    pub cluster: ClusterId,
    /// What is announced.
    #[n(2)]
    pub message: AnnouncementMessage,
}

/// What is announced.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum AnnouncementMessage {
    /// The member is here.
    #[n(0)]
    Presence(#[n(0)] Presence),
    /// This is the newest epoch that the member knows.
    #[n(1)]
    EpochHead(#[n(0)] EpochHead),
}

/// Where a member is. Of two presences the later one counts: by incarnation, then by number.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Presence {
    /// Of the start of its process.
    #[n(0)]
    pub incarnation: Incarnation,
    /// How many it has announced since then.
    #[n(1)]
    pub number: u64,
    /// Where its mesh listens.
    #[cbor(n(2), with = "addresses_field")]
    pub addresses: Vec<String>,
}

/// The newest epoch, with its proof for who knows the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct EpochHead {
    /// Which; never 0, which needs no proof.
    #[n(0)]
    pub epoch: Epoch,
    /// The end of the epoch before it.
    #[n(1)]
    pub link: EpochLink,
}

/// Why bytes are no announcement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no announcement: {0}")]
pub struct NotAnAnnouncement(pub String);

impl Announcement {
    /// One in our version.
    pub fn new(cluster: ClusterId, message: AnnouncementMessage) -> Announcement {
        Announcement { version: limits::PROTOCOL_VERSION, cluster, message }
    }

    /// Its canonical bytes.
    pub fn encode(&self) -> Bytes {
        Bytes::from(minicbor::to_vec(self).expect("memory is writable"))
    }

    /// Admits bytes from any member: canonical, nothing left over, of our version, addresses within their bounds. Whether
    /// an epoch is proven is judged elsewhere.
    pub fn admit(bytes: &[u8]) -> Result<Announcement, NotAnAnnouncement> {
        let bad = |text: String| NotAnAnnouncement(text);
        if bytes.len() > limits::ANNOUNCEMENT_BYTES {
            return Err(bad(format!("{} bytes are more than {}", bytes.len(), limits::ANNOUNCEMENT_BYTES)));
        }
        let announcement: Announcement = minicbor::decode(bytes).map_err(|error| bad(error.to_string()))?;
        if announcement.encode() != bytes {
            return Err(bad("not the canonical encoding".to_owned()));
        }
        if announcement.version != limits::PROTOCOL_VERSION {
            return Err(bad(format!("version {}", announcement.version)));
        }
        match &announcement.message {
            AnnouncementMessage::Presence(presence) => {
                check_addresses(&presence.addresses).map_err(|error| bad(error.0))?;
            }
            AnnouncementMessage::EpochHead(head) if head.epoch == Epoch(0) => {
                return Err(bad("epoch 0 is nobody's news".to_owned()));
            }
            AnnouncementMessage::EpochHead(_) => {}
        }
        Ok(announcement)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::Digest;

    fn presence(addresses: usize) -> Announcement {
        let addresses = (0..addresses).map(|number| format!("/ip4/10.0.0.{number}/tcp/7271")).collect();
        let presence = Presence { incarnation: Incarnation(7), number: 3, addresses };
        Announcement::new(Digest([1; 32]), AnnouncementMessage::Presence(presence))
    }

    #[test]
    fn what_is_announced_reads_back() {
        for addresses in [0, 1, limits::ADDRESSES_MAX] {
            assert_eq!(Announcement::admit(&presence(addresses).encode()), Ok(presence(addresses)));
        }
        assert!(Announcement::admit(&presence(limits::ADDRESSES_MAX + 1).encode()).is_err());
        let other = Announcement { version: 2, ..presence(1) };
        assert_eq!(Announcement::admit(&other.encode()), Err(NotAnAnnouncement("version 2".to_owned())));
    }

    proptest! {
        #[test]
        fn whatever_comes_panics_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Announcement::admit(&bytes);
        }

        #[test]
        fn whatever_is_changed_is_refused_or_means_something_else(at in 0usize..120, bit in 0u8..8) {
            let honest = presence(2).encode();
            let mut bytes = honest.to_vec();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert_ne!(Announcement::admit(&bytes).ok(), Some(presence(2)));
        }
    }
}
