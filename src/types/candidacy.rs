//! What candidates for a group say to each other before there is one (rule G1). Whoever says something sends one frame and
//! gets one, on a connection of any key.
//!
//! ```text
//! candidacy = CBOR [ version, cluster name: text, expect, message ]
//!   expect  = how many found the group; 0: the sender's group is founded
//!
//! message  0  here      [ 0, [ candidacy ] ]
//!          1  propose   [ 1, [ genesis ] ]
//!          2  promised  [ 2, [ cluster id ] ]
//!          3  refused   [ 3, [ candidacy refusal ] ]
//!          4  made      [ 4, [ genesis ] ]
//!          5  released  [ 5, [ cluster id ] ]
//!          6  founded   [ 6, [ cluster id ] ]
//!
//! candidacy = [ settings, name: text, [ * address: text ], start nonce, promise / null, knows ]
//! settings  = [ model, rules version, limits, voters target ]
//! promise   = [ proposer: id, cluster id ]
//!
//! candidacy refusal = [ 0: other name, [ theirs: text, ours: text ] ], [ 1: other expect, [ theirs, ours ] ],
//!                     [ 2: other settings, [ theirs: settings, ours: settings ] ], [ 3: crowded, [ known, expect ] ],
//!                     [ 4: lower, [ id ] ], [ 5: exists, [ cluster id ] ], [ 6: two processes, [ ] ],
//!                     [ 7: unusable, [ text ] ], [ 8: busy, [ ] ], [ 9: version, [ theirs, ours ] ]
//! ```

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::command::{addresses_field, check_addresses, check_name};
use super::configuration::{CommonSettings, Genesis};
use super::ids::{ClusterId, MemberId, StartNonce};
use super::limits;

/// One frame between candidates.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct CandidacyFrame {
    /// [`super::limits::PROTOCOL_VERSION`].
    #[n(0)]
    pub version: u32,
    /// The name for people of the group that is to be, or is.
    #[n(1)]
    pub cluster: String,
    /// How many found it: `--bootstrap-expect`. 0 says that it is founded.
    #[n(2)]
    pub expect: u32,
    /// What it says.
    #[n(3)]
    pub message: CandidacyMessage,
}

/// What candidates say.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum CandidacyMessage {
    /// This is who I am and where I stand.
    #[n(0)]
    Here(#[n(0)] Candidacy),
    /// Promise me this genesis.
    #[n(1)]
    Propose(#[n(0)] Genesis),
    /// An answer: the genesis with this id is promised, durably, and no other is until it is released.
    #[n(2)]
    Promised(#[n(0)] ClusterId),
    /// An answer: no, for this reason.
    #[n(3)]
    Refused(#[n(0)] CandidacyRefusal),
    /// All have promised: this is the group.
    #[n(4)]
    Made(#[n(0)] Genesis),
    /// The genesis with this id was given up and is never made.
    #[n(5)]
    Released(#[n(0)] ClusterId),
    /// There is a group of this name, with this id.
    #[n(6)]
    Founded(#[n(0)] ClusterId),
}

/// Who a candidate is and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Candidacy {
    /// The settings that every member of the group is to share.
    #[n(0)]
    pub settings: CommonSettings,
    /// Its name for people.
    #[n(1)]
    pub name: String,
    /// Where its mesh listens.
    #[cbor(n(2), with = "addresses_field")]
    pub addresses: Vec<String>,
    /// Of this start of its process.
    #[n(3)]
    pub nonce: StartNonce,
    /// What it has promised, if anything.
    #[n(4)]
    pub promise: Option<Promise>,
    /// How many candidates it knows, itself included.
    #[n(5)]
    pub knows: u32,
}

/// A promise that stands: the one who made it takes part in no other genesis until its proposer releases it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Promise {
    /// Who proposed it, and alone releases it.
    #[n(0)]
    pub proposer: MemberId,
    /// The id of the group that it would make.
    #[n(1)]
    pub cluster: ClusterId,
}

/// Why a candidate, or a member, says no. *Theirs* is what the refused one said.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum CandidacyRefusal {
    /// Another group.
    #[n(0)]
    #[error("other_name: it is of the group named `{theirs}`, this one is of `{ours}`")]
    OtherName {
        /// What it named.
        #[n(0)]
        theirs: String,
        /// Ours.
        #[n(1)]
        ours: String,
    },
    /// Another size, under one name.
    #[n(1)]
    #[error(
        "other_expect: it expects {theirs} candidates, this one expects {ours}; start all of them with the same \
         --bootstrap-expect"
    )]
    OtherExpect {
        /// What it expects.
        #[n(0)]
        theirs: u32,
        /// What we expect.
        #[n(1)]
        ours: u32,
    },
    /// Other cluster-wide settings, under one name.
    #[n(2)]
    #[error(
        "other_settings: {}; set the same on all candidates and start them again",
        ours.differences(theirs).join(", ")
    )]
    OtherSettings {
        /// Its settings.
        #[n(0)]
        theirs: CommonSettings,
        /// Ours.
        #[n(1)]
        ours: CommonSettings,
    },
    /// So many candidates that they could make two groups.
    #[n(3)]
    #[error(
        "crowded: {known} candidates of one name could make two groups of {expect}; stop some of them, or start all that \
         are meant with one --bootstrap-expect, the number of them all"
    )]
    Crowded {
        /// How many are known.
        #[n(0)]
        known: u32,
        /// How many are expected.
        #[n(1)]
        expect: u32,
    },
    /// Somebody else is to propose.
    #[n(4)]
    #[error("lower: candidate {} has a lower key, so that one proposes", .0.short())]
    Lower(#[n(0)] MemberId),
    /// There is a group of this name already.
    #[n(5)]
    #[error(
        "exists: the group of this name is founded, its id is {0}; `synod invite` on one of its members prints a join code, \
         and `synod join` uses it"
    )]
    Exists(#[n(0)] ClusterId),
    /// Two processes with one key.
    #[n(6)]
    #[error(
        "two_processes: two processes run with this key; stop one of them, and never copy a data directory to another \
         machine"
    )]
    TwoProcesses,
    /// What it proposed, or said of itself, makes no group.
    #[n(7)]
    #[error("unusable: {0}")]
    Unusable(#[n(0)] String),
    /// Too many ask.
    #[n(8)]
    #[error("busy: too many keys ask this candidate; it is asked again in a moment")]
    Busy,
    /// Another version of the protocol.
    #[n(9)]
    #[error("protocol version {theirs} is not ours ({ours}); run the same release on all members")]
    Version {
        /// What it speaks.
        #[n(0)]
        theirs: u32,
        /// What we speak.
        #[n(1)]
        ours: u32,
    },
}

/// Why bytes are no frame between candidates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no frame between candidates: {0}")]
pub struct NotACandidacyFrame(pub String);

impl CandidacyFrame {
    /// A frame in our version.
    pub fn new(cluster: &str, expect: u32, message: CandidacyMessage) -> CandidacyFrame {
        CandidacyFrame { version: limits::PROTOCOL_VERSION, cluster: cluster.to_owned(), expect, message }
    }

    /// Its canonical bytes.
    pub fn encode(&self) -> Bytes {
        Bytes::from(minicbor::to_vec(self).expect("memory is writable"))
    }

    /// Admits bytes from any key: canonical, nothing left over, every name, address and text within its bounds.
    pub fn admit(bytes: &[u8]) -> Result<CandidacyFrame, NotACandidacyFrame> {
        let frame: CandidacyFrame = minicbor::decode(bytes).map_err(|error| NotACandidacyFrame(error.to_string()))?;
        if frame.encode() != bytes {
            return Err(NotACandidacyFrame("not the canonical encoding".to_owned()));
        }
        frame.check().map_err(NotACandidacyFrame)?;
        Ok(frame)
    }

    fn check(&self) -> Result<(), String> {
        check_name(&self.cluster).map_err(|error| error.0)?;
        match &self.message {
            CandidacyMessage::Here(candidacy) => check_person(&candidacy.name, &candidacy.addresses),
            CandidacyMessage::Propose(genesis) | CandidacyMessage::Made(genesis) => check_genesis(genesis),
            CandidacyMessage::Refused(CandidacyRefusal::OtherName { theirs, ours }) => {
                [theirs, ours].into_iter().try_for_each(|name| check_name(name)).map_err(|error| error.0)
            }
            CandidacyMessage::Refused(CandidacyRefusal::Unusable(text)) => check_text(text),
            _ => Ok(()),
        }
    }
}

fn check_person(name: &str, addresses: &[String]) -> Result<(), String> {
    check_name(name).map_err(|error| error.0)?;
    check_addresses(addresses).map_err(|error| error.0)?;
    addresses.iter().try_for_each(|address| check_text(address))
}

/// The bounds of a genesis that is sent: whether it makes a group is [`Genesis::check`]'s to say.
pub(super) fn check_genesis(genesis: &Genesis) -> Result<(), String> {
    check_name(&genesis.name).map_err(|error| error.0)?;
    if genesis.members.len() > limits::CANDIDATES_EXPECTED_MAX {
        return Err(format!("{} members are more than found a group", genesis.members.len()));
    }
    genesis.members.iter().try_for_each(|member| check_person(&member.name, &member.addresses))
}

/// Text of others goes into logs and onto terminals: one line of bounded length.
fn check_text(text: &str) -> Result<(), String> {
    if text.len() > limits::CANDIDACY_TEXT_BYTES || text.chars().any(char::is_control) {
        return Err("a text is long or not plain".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClusterLimits, Digest, FaultModelKind, GenesisMember};

    fn settings() -> CommonSettings {
        let limits = ClusterLimits::default();
        CommonSettings { model: FaultModelKind::Crash, rules_version: 0, limits, voters_target: 3 }
    }

    fn genesis(members: usize) -> Genesis {
        let member = |number: usize| GenesisMember {
            name: format!("n{number}"),
            id: MemberId([number as u8; 32]),
            addresses: vec![format!("/ip4/10.0.0.{number}/tcp/7271")],
        };
        Genesis {
            name: "shop".to_owned(),
            nonce: [7; 16],
            model: FaultModelKind::Crash,
            rules_version: 0,
            members: (1..=members).map(member).collect(),
            limits: ClusterLimits::default(),
            voters_target: 3,
        }
    }

    fn candidacy(name: &str, address: &str) -> CandidacyMessage {
        CandidacyMessage::Here(Candidacy {
            settings: settings(),
            name: name.to_owned(),
            addresses: vec![address.to_owned()],
            nonce: StartNonce(9),
            promise: Some(Promise { proposer: MemberId([1; 32]), cluster: Digest([2; 32]) }),
            knows: 2,
        })
    }

    #[test]
    fn frames_read_back_and_nothing_else_does() {
        for message in [
            candidacy("n1", "/ip4/10.0.0.1/tcp/7271"),
            CandidacyMessage::Propose(genesis(3)),
            CandidacyMessage::Refused(CandidacyRefusal::Crowded { known: 6, expect: 3 }),
            CandidacyMessage::Founded(Digest([3; 32])),
        ] {
            let frame = CandidacyFrame::new("shop", 3, message);
            assert_eq!(CandidacyFrame::admit(&frame.encode()), Ok(frame.clone()));
            let longer = [&frame.encode()[..], b"x"].concat();
            assert!(CandidacyFrame::admit(&longer).is_err());
        }
        // [ 1, "shop", 3, [ 5, [ … ] ] ] with the version in two bytes.
        let released = CandidacyFrame::new("shop", 3, CandidacyMessage::Released(Digest([3; 32]))).encode();
        let stretched = [&released[..1], &[0x18, 0x01], &released[2..]].concat();
        assert!(CandidacyFrame::admit(&stretched).unwrap_err().0.contains("canonical"));
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        for message in [
            candidacy("n 1", "/ip4/10.0.0.1/tcp/7271"),
            candidacy("n1", "/ip4/10.0.0.1\n/tcp/7271"),
            candidacy("n1", &"x".repeat(limits::ADDRESS_BYTES_MAX + 1)),
            CandidacyMessage::Made(genesis(limits::CANDIDATES_EXPECTED_MAX + 1)),
            CandidacyMessage::Refused(CandidacyRefusal::Unusable("x".repeat(limits::CANDIDACY_TEXT_BYTES + 1))),
        ] {
            assert!(CandidacyFrame::admit(&CandidacyFrame::new("shop", 3, message).encode()).is_err());
        }
        let named = |name: &str| CandidacyFrame::new(name, 3, CandidacyMessage::Released(Digest::ZERO)).encode();
        assert!(CandidacyFrame::admit(&named("")).is_err() && CandidacyFrame::admit(&named("a b")).is_err());
    }

    #[test]
    fn settings_that_differ_are_named() {
        let theirs = CommonSettings { voters_target: 5, ..settings() };
        let refusal = CandidacyRefusal::OtherSettings { theirs, ours: settings() };
        assert!(refusal.to_string().contains("voters_target = 5 there and 3 here;"), "{refusal}");
    }
}
