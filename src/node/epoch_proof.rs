//! The chain of epochs, checked offline: from the links of a log, or from a document that a member gave out. Nothing is
//! believed but signatures, and of each epoch's end only those of its voters, from the genesis on (rule E3). Whoever knows
//! the cluster id needs to trust nobody.
//!
//! ```text
//! document = { "cluster": hex, "genesis": base64 of the genesis' bytes,
//!              "epochs": [ { "epoch": 0, … }, { "epoch": 1, "link": base64 of CBOR epoch link, … }, … ] }
//! ```
//!
//! Everything else in a document is for people, and is not looked at.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::types::{ClusterId, Configuration, Digest, Epoch, EpochLink, Genesis, MemberId, Tip};

/// What a chain of epochs proves, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochProof {
    /// The group's first word; its digest is the cluster id.
    pub genesis: Genesis,
    /// Every epoch that is proven, from 0 on.
    pub epochs: Vec<ProvenEpoch>,
    /// The first epoch that ends twice.
    pub fork: Option<Fork>,
    /// What is forged, forked or missing; empty if the chain is whole.
    pub mistakes: Vec<String>,
}

/// One epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenEpoch {
    /// Who votes in it, and by which rules.
    pub configuration: Configuration,
    /// Who signed the end of the one before it; none for epoch 0, which the cluster id proves.
    pub certificate: Option<Signers>,
}

/// Who signed an epoch's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers {
    /// The entry that ends the epoch, by slot and digest, and the round of the votes.
    pub tip: Tip,
    /// The voters whose signatures were checked.
    pub members: Vec<MemberId>,
    /// How many of how many voters were needed.
    pub quorum: (usize, usize),
}

/// Two proven ends of one epoch. Two quorums of one group have voters in common: whoever signed both broke its word, or has
/// two disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// Which epoch ends twice.
    pub epoch: Epoch,
    /// Its ends, with who signed each.
    pub ends: [Signers; 2],
}

impl Fork {
    /// Who signed both ends.
    pub fn signed_both(&self) -> Vec<MemberId> {
        let [one, other] = &self.ends;
        one.members.iter().filter(|member| other.members.contains(member)).copied().collect()
    }
}

impl fmt::Display for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fork { epoch, ends: [one, other] } = self;
        let both: Vec<String> = self.signed_both().iter().map(MemberId::short).collect();
        write!(
            f,
            "forked: epoch {epoch} has two ends, {} and {}, each signed by a quorum; signed both: {}",
            one.tip,
            other.tip,
            both.join(", ")
        )
    }
}

/// Why a document is no proof of epochs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAProof {
    /// Another document, or a part of one.
    #[error("not a document of epochs: {0}; `synod epochs --output json` on any member prints one")]
    Malformed(String),
    /// Its genesis cannot be that of a group.
    #[error("the genesis in the document cannot be read: {0}")]
    Genesis(String),
}

#[derive(Deserialize)]
struct Document {
    cluster: ClusterId,
    genesis: String,
    epochs: Vec<Stated>,
}

#[derive(Deserialize)]
struct Stated {
    epoch: u64,
    link: Option<String>,
}

impl EpochProof {
    /// Checks the links of a group from its genesis on. A link may stand there more than once.
    pub fn check(genesis: Genesis, links: impl IntoIterator<Item = EpochLink>) -> EpochProof {
        let mut ends: BTreeMap<Epoch, Vec<EpochLink>> = BTreeMap::new();
        for link in links {
            let same_end = ends.entry(link.certificate.tip.round.epoch).or_default();
            if !same_end.contains(&link) {
                same_end.push(link);
            }
        }
        let first = ProvenEpoch { configuration: genesis.configuration(), certificate: None };
        let mut proof = EpochProof { genesis, epochs: vec![first], fork: None, mistakes: Vec::new() };
        while let Some(links) = ends.remove(&proof.last().epoch) {
            if !proof.extend(&links) {
                break;
            }
        }
        if let (Some((low, _)), Some((high, _))) = (ends.first_key_value(), ends.last_key_value()) {
            proof.mistakes.push(missing(proof.last().epoch.next(), *low..=*high));
        }
        proof
    }

    /// Reads and checks a document.
    pub fn of_document(bytes: &[u8]) -> Result<EpochProof, NotAProof> {
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| NotAProof::Malformed(error.to_string()))?;
        let genesis = read_genesis(&document.genesis)?;
        let (mut links, mut mistakes) = (Vec::new(), Vec::new());
        if genesis.cluster() != document.cluster {
            mistakes.push(format!(
                "forged: the document names group {}, its genesis is that of group {}",
                document.cluster.short(),
                genesis.cluster().short()
            ));
        }
        for stated in &document.epochs {
            match stated.link.as_deref().map(read_link) {
                Some(Ok(link)) => links.push(link),
                Some(Err(error)) => mistakes.push(format!("epoch {}: its link cannot be read: {error}", stated.epoch)),
                None if stated.epoch == 0 => {}
                None => mistakes.push(format!("missing: epoch {} has no link", stated.epoch)),
            }
        }
        let mut proof = EpochProof::check(genesis, links);
        let proven = proof.last().epoch;
        if let Some(beyond) = document.epochs.iter().map(|stated| stated.epoch).max().filter(|last| *last > proven.0) {
            mistakes.push(format!("the document names epoch {beyond}, and proves epoch {proven} at most"));
        }
        proof.mistakes.splice(0..0, mistakes);
        Ok(proof)
    }

    /// The newest configuration that is proven.
    pub fn last(&self) -> &Configuration {
        &self.epochs.last().expect("the genesis proves epoch 0").configuration
    }

    /// Whether everything that was looked at is proven.
    pub fn is_whole(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// The proven end of an epoch.
    pub fn end_of(&self, epoch: Epoch) -> Option<&Signers> {
        let next = self.epochs.iter().find(|proven| proven.configuration.epoch == epoch.next())?;
        next.certificate.as_ref()
    }

    /// The first epoch that this chain and another one of the same group prove to end differently.
    pub fn fork_from(&self, other: &EpochProof) -> Option<Fork> {
        if self.genesis.cluster() != other.genesis.cluster() {
            return None;
        }
        let epochs = self.epochs.iter().map(|proven| proven.configuration.epoch);
        let mut ends = epochs.filter_map(|epoch| Some((epoch, self.end_of(epoch)?, other.end_of(epoch)?)));
        let (epoch, one, other) = ends.find(|(_, one, other)| one.tip.digest != other.tip.digest)?;
        Some(Fork { epoch, ends: [one.clone(), other.clone()] })
    }

    /// Each epoch, for scripts.
    pub fn document(&self) -> Value {
        let epoch = |proven: &ProvenEpoch| {
            let certificate = proven.certificate.as_ref().map(|signers| {
                json!({
                    "slot": signers.tip.slot.0,
                    "round": signers.tip.round.to_string(),
                    "digest": signers.tip.digest,
                    "signed_by": signers.members,
                    "quorum": signers.quorum.0,
                })
            });
            json!({
                "epoch": proven.configuration.epoch.0,
                "voters": proven.configuration.voters,
                "voters_target": proven.configuration.voters_target,
                "configuration": proven.configuration.digest(),
                "certificate": certificate,
            })
        };
        self.epochs.iter().map(epoch).collect()
    }

    /// Takes the end of the last epoch; false if the chain cannot go on behind it.
    fn extend(&mut self, links: &[EpochLink]) -> bool {
        let before = self.last().clone();
        let mut ends: BTreeMap<Digest, ProvenEpoch> = BTreeMap::new();
        for link in links {
            match link.verify(&before) {
                Ok(next) => {
                    ends.entry(link.certificate.tip.digest).or_insert_with(|| proven(&before, link, next));
                }
                Err(bad) => self.mistakes.push(format!("forged: {bad}")),
            }
        }
        let mut ends = ends.into_values();
        match (ends.next(), ends.next()) {
            (Some(one), Some(other)) => {
                let signers = |proven: ProvenEpoch| proven.certificate.expect("only epoch 0 has none");
                let fork = Fork { epoch: before.epoch, ends: [signers(one), signers(other)] };
                self.mistakes.push(format!("{fork}; what follows is not checked"));
                self.fork = Some(fork);
                false
            }
            (Some(next), None) => {
                self.epochs.push(next);
                true
            }
            (None, _) => false,
        }
    }
}

fn proven(before: &Configuration, link: &EpochLink, next: Configuration) -> ProvenEpoch {
    let members = link.certificate.votes.iter().map(|(voter, _)| *voter).collect();
    let quorum = (before.quorum(), before.voters.len());
    ProvenEpoch { configuration: next, certificate: Some(Signers { tip: link.certificate.tip, members, quorum }) }
}

fn missing(epoch: Epoch, beyond: RangeInclusive<Epoch>) -> String {
    let (low, high) = (beyond.start().next(), beyond.end().next());
    let beyond = if low == high { format!("epoch {low}") } else { format!("epochs {low} to {high}") };
    format!("missing: nothing proves epoch {epoch}, so nothing of the links of {beyond} is proven")
}

fn read_genesis(text: &str) -> Result<Genesis, NotAProof> {
    let bytes = STANDARD.decode(text).map_err(|error| NotAProof::Genesis(error.to_string()))?;
    let genesis: Genesis = minicbor::decode(&bytes).map_err(|error| NotAProof::Genesis(error.to_string()))?;
    if genesis.encode() != bytes {
        return Err(NotAProof::Genesis("not the canonical encoding".to_owned()));
    }
    genesis.check().map_err(|error| NotAProof::Genesis(error.to_string()))?;
    Ok(genesis)
}

fn read_link(text: &str) -> Result<EpochLink, String> {
    let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
    minicbor::decode(&bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::types::{
        Certificate, ClusterLimits, Entry, EntryBody, EpochEnd, FaultModelKind, GenesisMember, Hlc, Round, Seal, Slot,
        View, chain_digest, limits,
    };

    fn key(number: u8) -> SigningKey {
        SigningKey::from_bytes(&[number; 32])
    }

    /// The member of that key.
    pub fn id(number: u8) -> MemberId {
        MemberId(key(number).verifying_key().to_bytes())
    }

    /// A group of three.
    pub fn genesis() -> Genesis {
        let member = |number| GenesisMember { name: format!("n{number}"), id: id(number), addresses: Vec::new() };
        Genesis {
            name: "trial".to_owned(),
            nonce: [3; 16],
            model: FaultModelKind::Crash,
            rules_version: limits::RULES_VERSION,
            members: (1..=3).map(member).collect(),
            limits: ClusterLimits::default(),
            voters_target: 3,
        }
    }

    /// The end of `before` on top of a chain, signed by these; the next epoch has these voters.
    pub fn link(before: &Configuration, at: (Slot, Digest), voters: &[u8], signers: &[u8]) -> EpochLink {
        let voters = voters.iter().map(|number| id(*number)).collect();
        let next = Configuration { epoch: before.epoch.next(), voters, ..before.clone() };
        let digest = next.digest();
        let entry = Entry { hlc: Hlc(at.0.0 * 10), body: EntryBody::EpochEnd(EpochEnd { next }) }.encode();
        let round = Round { epoch: before.epoch, view: View(2) };
        let tip = Tip { round, slot: at.0, digest: chain_digest(&before.cluster, &at.1, at.0, &entry) };
        let sign = |number: &u8| (id(*number), Seal::sign(&key(*number), before, &tip, digest).signature);
        let mut votes: Vec<_> = signers.iter().map(sign).collect();
        votes.sort_unstable();
        EpochLink { parent: at.1, entry, certificate: Certificate { tip, votes } }
    }

    /// Three epochs after genesis: 4 takes the vote of 3, then 5 that of 1, then 2 leads.
    pub fn chain() -> Vec<EpochLink> {
        let mut configuration = genesis().configuration();
        let changes: [(&[u8], &[u8]); 3] = [(&[1, 2, 4], &[1, 3]), (&[5, 2, 4], &[1, 2, 4]), (&[2, 5, 4], &[2, 5])];
        let steps = (1..).zip(changes).map(|(step, (voters, signers))| {
            let link = link(&configuration, (Slot(step * 4), Digest([9; 32])), voters, signers);
            configuration = link.verify(&configuration).unwrap();
            link
        });
        steps.collect()
    }

    /// What a member with these links gives out.
    pub fn document(links: &[EpochLink]) -> Value {
        let mut epochs = vec![json!({ "epoch": 0, "voters": ["n1", "n2", "n3"], "link": null })];
        epochs.extend(links.iter().map(|link| {
            let epoch = link.certificate.tip.round.epoch.next().0;
            json!({ "epoch": epoch, "link": STANDARD.encode(minicbor::to_vec(link).unwrap()) })
        }));
        let genesis = genesis();
        json!({ "cluster": genesis.cluster(), "genesis": STANDARD.encode(genesis.encode()), "epochs": epochs })
    }

    fn told(document: &Value) -> String {
        EpochProof::of_document(document.to_string().as_bytes()).unwrap().mistakes.join("\n")
    }

    #[test]
    fn a_whole_document_tells_who_signed() {
        let proof = EpochProof::of_document(document(&chain()).to_string().as_bytes()).unwrap();
        assert_eq!(proof.mistakes, Vec::<String>::new());
        assert_eq!(proof.last().epoch, Epoch(3));
        assert_eq!(proof.last().voters, [id(2), id(5), id(4)]);
        let signers = proof.end_of(Epoch(1)).unwrap();
        assert_eq!((signers.members.len(), signers.quorum), (3, (2, 3)));
        assert_eq!(proof.document()[2]["certificate"]["signed_by"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn repeated_links_and_other_quorums_for_the_same_end_are_no_mistake() {
        let (mut links, first) = (chain(), genesis().configuration());
        links.push(links[0].clone());
        links.push(link(&first, (Slot(4), Digest([9; 32])), &[1, 2, 4], &[1, 2]));
        let proof = EpochProof::check(genesis(), links);
        assert_eq!((proof.mistakes.len(), proof.epochs.len()), (0, 4), "{:?}", proof.mistakes);
    }

    #[test]
    fn what_is_forged_forked_or_missing_is_named() {
        let (links, first) = (chain(), genesis().configuration());
        assert!(told(&document(&[&links[..1], &links[2..]].concat())).contains("missing: nothing proves epoch 2"));
        let mut unlinked = document(&links);
        unlinked["epochs"][2]["link"] = Value::Null;
        assert!(told(&unlinked).contains("missing: epoch 2 has no link"));
        let mut damaged = document(&links);
        damaged["epochs"][1]["link"] = "AAAA".into();
        assert!(told(&damaged).contains("epoch 1: its link cannot be read"));
        let mut unproven = document(&links);
        let last = unproven["epochs"][3]["link"].clone();
        unproven["epochs"].as_array_mut().unwrap().push(json!({ "epoch": 4, "link": last }));
        assert!(told(&unproven).contains("names epoch 4, and proves epoch 3 at most"));
        let stranger = link(&first, (Slot(4), Digest([9; 32])), &[1, 2, 4], &[1, 6]);
        let forged = told(&document(&[stranger, links[1].clone()]));
        assert!(forged.contains("forged: ") && forged.contains("no voter of that epoch"), "{forged}");
        assert!(forged.contains("missing: nothing proves epoch 1"), "{forged}");
        let other = link(&first, (Slot(5), Digest([9; 32])), &[1, 2, 6], &[1, 2]);
        let forked = told(&document(&[&links[..], &[other]].concat()));
        assert!(forked.contains("forked: epoch 0 has two ends"), "{forked}");
        assert!(forked.contains(&format!("signed both: {}", id(1).short())), "{forked}");
        let mut foreign = document(&links);
        foreign["cluster"] = json!(Digest([1; 32]));
        assert!(told(&foreign).contains("forged: the document names group"));
    }

    #[test]
    fn two_chains_fork_where_they_first_end_an_epoch_differently() {
        let (links, first) = (chain(), genesis().configuration());
        let second = links[0].verify(&first).unwrap();
        let other = link(&second, (Slot(8), Digest([8; 32])), &[5, 2, 4], &[2, 4]);
        let proof = |links: &[EpochLink]| EpochProof::check(genesis(), links.to_vec());
        let forked = proof(&[links[0].clone(), other]);
        let fork = proof(&links).fork_from(&forked).unwrap();
        assert_eq!((fork.epoch, fork.signed_both().len()), (Epoch(1), 2), "{fork}");
        assert_eq!(forked.fork_from(&proof(&links)).unwrap().ends[0], fork.ends[1]);
        // One that is behind agrees, and so does one with other signatures under the same end.
        assert_eq!(forked.fork_from(&proof(&links[..1])), None);
        assert_eq!(
            proof(&links).fork_from(&proof(&[link(&first, (Slot(4), Digest([9; 32])), &[1, 2, 4], &[1, 2])])),
            None
        );
        let foreign = EpochProof { genesis: Genesis { nonce: [4; 16], ..genesis() }, ..forked };
        assert_eq!(proof(&links).fork_from(&foreign), None);
    }

    #[test]
    fn what_is_no_proof_is_refused() {
        assert!(matches!(EpochProof::of_document(b"{}"), Err(NotAProof::Malformed(_))));
        let mut without = document(&chain());
        without["genesis"] = "AAAA".into();
        assert!(matches!(EpochProof::of_document(without.to_string().as_bytes()), Err(NotAProof::Genesis(_))));
    }
}
