//! Names of things: digests, members, and the counters that order everything. Each counter is a type of its own, so
//! that a slot cannot be passed for a view.
//!
//! ```text
//! digest   = BLAKE3 of   length of the domain's name: 1 byte │ domain's name │ bytes
//!   domain = genesis, configuration, batch, entry, slot, commitment, candidate: what the bytes are
//! ```

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

/// 32 bytes of BLAKE3.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Digest(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

impl Digest {
    /// The digest of nothing: what the first batch of the first lane links to.
    pub const ZERO: Digest = Digest([0; 32]);

    /// BLAKE3 of `bytes` under a domain name, so that bytes of one kind never pass for another kind.
    pub fn of(domain: &'static str, bytes: &[u8]) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[domain.len() as u8]);
        hasher.update(domain.as_bytes());
        hasher.update(bytes);
        Digest(*hasher.finalize().as_bytes())
    }

    /// The first eight hexadecimal digits, for people.
    pub fn short(&self) -> String {
        hex(&self.0[..SHORT_DIGITS / 2])
    }
}

/// One sidecar, named by its ed25519 public key; never reused. Its text is 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct MemberId(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

impl MemberId {
    /// The first eight hexadecimal digits, for people.
    pub fn short(&self) -> String {
        hex(&self.0[..SHORT_DIGITS / 2])
    }
}

/// Digits of an id that are shown to people, and that suffice to name a member.
pub const SHORT_DIGITS: usize = 8;

/// How an id begins.
pub fn short(id: &str) -> &str {
    id.get(..SHORT_DIGITS).unwrap_or(id)
}

/// Those of the members that a text names: by a whole id, else by a name or by how an id begins ([`SHORT_DIGITS`] or more).
/// More than one if it is not enough to tell them apart.
pub fn named<'a, M>(
    members: &'a [M],
    text: &str,
    id: impl Fn(&M) -> String,
    name: impl Fn(&M) -> Option<&str>,
) -> Vec<&'a M> {
    let digits = text.to_lowercase();
    if let Some(member) = members.iter().find(|member| id(member) == digits) {
        return vec![member];
    }
    let begins = |member: &M| text.len() >= SHORT_DIGITS && id(member).starts_with(&digits);
    members.iter().filter(|member| name(member) == Some(text) || begins(member)).collect()
}

/// Digest of a group's genesis: the name of the group, and the digest of slot 0.
pub type ClusterId = Digest;

/// Random number a process draws at its start; tells two processes of one identity apart (rule I1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct StartNonce(#[n(0)] pub u64);

macro_rules! counter {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] pub u64);

        impl $name {
            /// The one after this. No honest counter comes near its end; one that a peer made up stays there.
            pub fn next(self) -> $name {
                $name(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    )*};
}

counter! {
    /// Span with one fixed voter set. The first is 0.
    Epoch,
    /// Attempt number under one leader within an epoch. The first is 0.
    View,
    /// One agreement instance. Genesis is slot 0; the first decided entry is slot 1.
    Slot,
    /// Dense number of a delivered message: 1, 2, 3 …; 0 stands before the first.
    Position,
    /// Counter a member raises durably at every start. The first is 1; 0 is "never started".
    Incarnation,
    /// Number of a batch within its lane: 1, 2, 3 …; 0 stands before the first.
    BatchNumber,
    /// Number of a message within its lane: 1, 2, 3 …
    MessageNumber,
}

impl Position {
    /// This position moved on by `count` messages.
    pub fn plus(self, count: u64) -> Position {
        Position(self.0 + count)
    }
}

/// Identity of one message: who sealed it, in which lane, and its number there. Text: `member/incarnation/number`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// The member whose host published it.
    pub member: MemberId,
    /// Which start of that member.
    pub incarnation: Incarnation,
    /// The message's number in that lane.
    pub number: MessageNumber,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.member, self.incarnation, self.number)
    }
}

/// Text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: expected 64 hexadecimal digits")]
pub struct NotAnId(pub String);

macro_rules! hex_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.short())
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                unhex(text).map($name).ok_or_else(|| NotAnId(text.to_owned()))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

hex_text!(Digest, MemberId);

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_from_their_text() {
        let id = MemberId([0xa7; 32]);
        assert_eq!(id.to_string().parse::<MemberId>().unwrap(), id);
        assert!("abc".parse::<MemberId>().is_err());
        assert!("g".repeat(64).parse::<MemberId>().is_err());
        assert!("é".repeat(32).parse::<MemberId>().is_err());
    }

    #[test]
    fn a_member_is_named_by_its_id_its_beginning_or_its_name() {
        let members = [("aaaaaaaa01", "n1"), ("aaaaaaaa02", "aaaaaaaa01"), ("cccccccc03", "n3")];
        let found = |text: &str| {
            let found = named(&members, text, |member| member.0.to_owned(), |member| Some(member.1));
            found.into_iter().map(|member| member.0).collect::<Vec<_>>()
        };
        assert_eq!(found("aaaaaaaa01"), ["aaaaaaaa01"], "a whole id comes before a name");
        assert_eq!(found("n3"), ["cccccccc03"]);
        assert_eq!(found("CCCCCCCC"), ["cccccccc03"]);
        assert_eq!(found("aaaaaaaa").len(), 2);
        assert_eq!(found("ccccccc"), [""; 0], "too short");
        assert_eq!((short("aaaaaaaa01"), short("abc")), ("aaaaaaaa", "abc"));
    }

    #[test]
    fn domains_keep_digests_apart() {
        assert_ne!(Digest::of("entry", b"x"), Digest::of("batch", b"x"));
    }
}
