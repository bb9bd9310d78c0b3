//! Who votes and by which rules: genesis and the configuration of an epoch.
//!
//! ```text
//! genesis       = CBOR [ name: text, nonce: bytes .size 16, model, rules version, [ * member ], limits, voters target ]
//!   member      = [ name: text, id, [ * address: text ] ]
//! configuration = CBOR [ cluster id, epoch, model, rules version, [ * voter: id ], limits, voters target ]
//!
//! model  = 0: crash, 1: byzantine
//! limits = [ message_bytes_max, batch_bytes_max ]
//! ```
//!
//! The cluster id is the digest of the genesis under the domain `genesis`; the configuration digest, which is in every
//! statement, that of the configuration under the domain `configuration`.

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::ids::{ClusterId, Digest, Epoch, MemberId};
use super::limits;

/// The fault model of a group, chosen at genesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, serde::Serialize, serde::Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum FaultModelKind {
    /// Members stop and come back; n = 2f+1.
    #[n(0)]
    Crash,
    /// Members may lie; n = 3f+1. Not there yet: a genesis that names it is refused.
    #[n(1)]
    Byzantine,
}

/// Bounds that everybody in the group must agree on; part of the configuration digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, serde::Serialize, serde::Deserialize)]
#[cbor(array)]
#[serde(deny_unknown_fields)]
pub struct ClusterLimits {
    /// Largest message body, in bytes.
    #[n(0)]
    pub message_bytes_max: u64,
    /// Largest batch, all included, in bytes.
    #[n(1)]
    pub batch_bytes_max: u64,
}

impl Default for ClusterLimits {
    fn default() -> Self {
        ClusterLimits { message_bytes_max: 1 << 20, batch_bytes_max: 4 << 20 }
    }
}

/// One member of the first epoch.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct GenesisMember {
    /// A name for people, unique in the group.
    #[n(0)]
    pub name: String,
    /// Its key.
    #[n(1)]
    pub id: MemberId,
    /// Where its mesh listens: multiaddresses, as text.
    #[n(2)]
    pub addresses: Vec<String>,
}

/// The group's first word. Its digest is the group's name, so no two groups can be confused.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Genesis {
    /// Name for people.
    #[n(0)]
    pub name: String,
    /// Random: two geneses alike in all else are still two groups.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub nonce: [u8; 16],
    /// The fault model.
    #[n(2)]
    pub model: FaultModelKind,
    /// By which rules positions are made.
    #[n(3)]
    pub rules_version: u32,
    /// Members of epoch 0, all voters, in leader order.
    #[n(4)]
    pub members: Vec<GenesisMember>,
    /// Bounds everybody agrees on.
    #[n(5)]
    pub limits: ClusterLimits,
    /// How many members are to vote, as soon as there are as many that can.
    #[n(6)]
    pub voters_target: u32,
}

/// The cluster-wide settings, which a genesis writes down. Candidates whose settings differ refuse each other (rule G1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct CommonSettings {
    /// The fault model.
    #[n(0)]
    pub model: FaultModelKind,
    /// By which rules positions are made.
    #[n(1)]
    pub rules_version: u32,
    /// Bounds everybody agrees on.
    #[n(2)]
    pub limits: ClusterLimits,
    /// How many members are to vote.
    #[n(3)]
    pub voters_target: u32,
}

impl CommonSettings {
    /// The settings that a genesis writes down.
    pub fn of(genesis: &Genesis) -> CommonSettings {
        CommonSettings {
            model: genesis.model,
            rules_version: genesis.rules_version,
            limits: genesis.limits,
            voters_target: genesis.voters_target,
        }
    }

    /// What is wrong with them in a group of so many founders; empty if they can be used.
    pub fn mistakes(&self, members: usize) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.model == FaultModelKind::Byzantine {
            mistakes.push("model = \"byzantine\" is not there yet; use \"crash\"".to_owned());
        }
        if self.rules_version != limits::RULES_VERSION {
            mistakes.push(format!(
                "rules_version = {} is not known to this version, which knows {}",
                self.rules_version,
                limits::RULES_VERSION
            ));
        }
        if !limits::CRASH_GROUP_SIZES.contains(&members) {
            mistakes.push(format!(
                "{members} members: a group has 3, 5 or 7 (an even number tolerates no more than the odd one below it), or 1 for trying out"
            ));
        }
        let target = self.voters_target as usize;
        if target != members && !limits::VOTERS_TARGETS.contains(&self.voters_target) {
            mistakes.push(format!("voters_target = {target} must be 3, 5 or 7, or the number of members"));
        }
        mistakes.extend(self.limits.mistakes());
        mistakes
    }

    /// Every setting that differs, by name, as `voters_target = 5 there and 3 here`.
    pub fn differences(&self, there: &CommonSettings) -> Vec<String> {
        let numbers = |settings: &CommonSettings| {
            [
                ("model (0: crash, 1: byzantine)", settings.model as u64),
                ("rules_version", settings.rules_version.into()),
                ("limits.message_bytes_max", settings.limits.message_bytes_max),
                ("limits.batch_bytes_max", settings.limits.batch_bytes_max),
                ("voters_target", settings.voters_target.into()),
            ]
        };
        let pairs = numbers(self).into_iter().zip(numbers(there));
        let differing = pairs.filter(|((_, ours), (_, theirs))| ours != theirs);
        differing.map(|((name, ours), (_, theirs))| format!("{name} = {theirs} there and {ours} here")).collect()
    }
}

/// What is wrong with a genesis; all mistakes at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the genesis cannot be used: {}", .0.join("; "))]
pub struct BadGenesis(pub Vec<String>);

impl Genesis {
    /// Canonical bytes.
    pub fn encode(&self) -> Bytes {
        Bytes::from(minicbor::to_vec(self).expect("memory is writable"))
    }

    /// The group's id: digest of the canonical bytes.
    pub fn cluster(&self) -> ClusterId {
        Digest::of("genesis", &self.encode())
    }

    /// The configuration of epoch 0.
    pub fn configuration(&self) -> Configuration {
        Configuration {
            cluster: self.cluster(),
            epoch: Epoch(0),
            model: self.model,
            rules_version: self.rules_version,
            voters: self.members.iter().map(|member| member.id).collect(),
            limits: self.limits,
            voters_target: self.voters_target,
        }
    }

    /// Checks everything that can be checked without a disk or a network, and lists every mistake.
    pub fn check(&self) -> Result<(), BadGenesis> {
        let mut mistakes = CommonSettings::of(self).mistakes(self.members.len());
        for (index, member) in self.members.iter().enumerate() {
            let earlier = &self.members[..index];
            if earlier.iter().any(|other| other.id == member.id) {
                mistakes.push(format!("member `{}` has the key of another member", member.name));
            }
            if earlier.iter().any(|other| other.name == member.name) {
                mistakes.push(format!("two members are named `{}`", member.name));
            }
            for other in earlier {
                let shared = member.addresses.iter().filter(|address| other.addresses.contains(address));
                mistakes.extend(shared.map(|address| {
                    format!("members `{}` and `{}` have one address, {address}", other.name, member.name)
                }));
            }
            match ed25519_dalek::VerifyingKey::from_bytes(&member.id.0) {
                Ok(key) if !key.is_weak() => {}
                _ => mistakes.push(format!("the key of member `{}` is not a usable ed25519 public key", member.name)),
            }
        }
        if mistakes.is_empty() { Ok(()) } else { Err(BadGenesis(mistakes)) }
    }
}

impl ClusterLimits {
    /// What is wrong with them; empty if they can be used.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if !(1..=limits::MESSAGE_BYTES_CEILING).contains(&self.message_bytes_max) {
            mistakes.push(format!(
                "limits.message_bytes_max = {} must be between 1 and {}",
                self.message_bytes_max,
                limits::MESSAGE_BYTES_CEILING
            ));
        }
        let least = self.message_bytes_max.saturating_add(limits::MESSAGE_OVERHEAD_BYTES);
        if !(least..=limits::BATCH_BYTES_CEILING).contains(&self.batch_bytes_max) {
            mistakes.push(format!(
                "limits.batch_bytes_max = {} must be between {least} (message_bytes_max and its header) and {}",
                self.batch_bytes_max,
                limits::BATCH_BYTES_CEILING
            ));
        }
        mistakes
    }
}

/// The configuration of one epoch; its digest is in every statement.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Configuration {
    /// The group.
    #[n(0)]
    pub cluster: ClusterId,
    /// Which epoch.
    #[n(1)]
    pub epoch: Epoch,
    /// The fault model.
    #[n(2)]
    pub model: FaultModelKind,
    /// By which rules positions are made.
    #[n(3)]
    pub rules_version: u32,
    /// Who votes, in leader order.
    #[n(4)]
    pub voters: Vec<MemberId>,
    /// Bounds everybody agrees on.
    #[n(5)]
    pub limits: ClusterLimits,
    /// How many members are to vote, as soon as there are as many that can (rule E6).
    #[n(6)]
    pub voters_target: u32,
}

impl Configuration {
    /// Digest of the canonical bytes.
    pub fn digest(&self) -> Digest {
        Digest::of("configuration", &minicbor::to_vec(self).expect("memory is writable"))
    }

    /// Equal votes that decide: of n voters n/2+1 in the crash model, ⌈(n+f+1)/2⌉ with f = (n−1)/3 in the Byzantine one.
    pub fn quorum(&self) -> usize {
        let n = self.voters.len();
        match self.model {
            FaultModelKind::Crash => n / 2 + 1,
            FaultModelKind::Byzantine => (n + n.saturating_sub(1) / 3 + 1).div_ceil(2),
        }
    }

    /// The leader of a view.
    pub fn leader(&self, view: super::ids::View) -> MemberId {
        self.voters[(view.0 % self.voters.len() as u64) as usize]
    }
}
