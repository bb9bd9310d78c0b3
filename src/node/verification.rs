//! Reads a member's log offline: what it holds, and whether it is whole. Changes nothing.
//!
//! *Whole* means: the decided chain links from genesis to the decided mark with the payload of every slot, and no synced
//! turn is damaged, or what was lost stands in the log again, and newer words of the voter and a newer mark behind it (as
//! after a repair from peers); and every epoch that ended on that chain is proven by signatures of its voters. A torn tail
//! is no damage: its sync never returned, and the next start cuts it.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::epoch_proof::EpochProof;
use crate::types::record::{EntryRecord, Started, Voted, Voter};
use crate::types::{
    Batch, BatchId, BatchRef, ClusterId, Command, Digest, Entry, Epoch, EpochLink, Genesis, Incarnation, MemberId,
    Record, Round, Slot, Tip, chain_digest,
};
use crate::wal::{Files, Location, OpenError, Recovered, Refused, Replay, Rot, inspect};

/// Mistakes told one by one; beyond it only their number.
const MISTAKES_TOLD: usize = 20;

/// What a log holds.
#[derive(Debug, Default)]
pub struct Report {
    /// The log's own figures: segments, bytes, turns, torn tail, rot.
    pub recovered: Recovered,
    /// Records by kind.
    pub records: BTreeMap<&'static str, u64>,
    /// The group's genesis.
    pub genesis: Option<Genesis>,
    /// The last start recorded.
    pub incarnation: Incarnation,
    /// The last round entered.
    pub round: Option<Round>,
    /// The highest vote.
    pub highest_vote: Option<Tip>,
    /// The decided mark; nothing is decided without one.
    pub decided: Option<Tip>,
    /// Batches on the decided chain.
    pub decided_batches: u64,
    /// Messages of hosts in them: each has a position.
    pub messages: u64,
    /// Membership commands among them: those that took effect have a position.
    pub commands: u64,
    /// The epochs that are proven, from 0 on; none without a genesis.
    pub epochs: Option<EpochProof>,
    /// Names of members, by genesis and by the joins that stand in the log.
    pub names: BTreeMap<MemberId, String>,
    /// Whose log it is said to be.
    pub member: Option<MemberId>,
    /// Batches of the log that the decided chain does not name.
    pub unordered_batches: u64,
    /// Behind the last rot stand newer words of the voter and a newer decided mark: it hides no promise.
    pub rot_is_overtaken: bool,
    /// What contradicts itself or is missing.
    pub mistakes: Vec<String>,
    /// Mistakes beyond those told.
    pub mistakes_untold: u64,
}

impl Report {
    /// Whether nothing is damaged or missing.
    pub fn is_whole(&self) -> bool {
        self.mistakes.is_empty() && (self.recovered.rots.is_empty() || self.rot_is_overtaken)
    }

    /// The group.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.genesis.as_ref().map(Genesis::cluster)
    }

    /// The report for scripts.
    pub fn document(&self) -> Value {
        let tip = |tip: &Tip| json!({ "slot": tip.slot.0, "round": tip.round.to_string(), "digest": tip.digest });
        let torn = self
            .recovered
            .torn
            .map(|torn| json!({ "segment": torn.segment, "offset": torn.offset, "bytes_dropped": torn.bytes_dropped }));
        json!({
            "whole": self.is_whole(),
            "cluster": self.cluster(),
            "segments": self.recovered.segments,
            "bytes": self.recovered.bytes,
            "turns": self.recovered.turns,
            "records": self.records,
            "incarnation": self.incarnation.0,
            "round": self.round.map(|round| round.to_string()),
            "highest_vote": self.highest_vote.as_ref().map(tip),
            "decided": self.decided.as_ref().map(tip),
            "decided_batches": self.decided_batches,
            "messages": self.messages,
            "commands": self.commands,
            "epochs": self.epochs.as_ref().map(EpochProof::document),
            "member": self.member,
            "member_named": self.member.map(|member| self.names.contains_key(&member)),
            "unordered_batches": self.unordered_batches,
            "torn": torn,
            "rot_is_overtaken": self.rot_is_overtaken,
            "rot": self.recovered.rots.iter().map(Rot::to_string).collect::<Vec<_>>(),
            "mistakes": self.mistakes,
            "mistakes_untold": self.mistakes_untold,
        })
    }
}

/// Reads the log and checks it. `member` is whose log it should be, if that is known.
pub fn verify<F: Files>(files: F, member: Option<MemberId>) -> Result<Report, OpenError> {
    let mut scan = Scan::default();
    let recovered = inspect(files, &mut scan)?;
    scan.report.rot_is_overtaken = !recovered.rots.is_empty() && scan.voter_after_rot && scan.mark_after_rot;
    scan.report.recovered = recovered;
    scan.report.member = member;
    if scan.report.genesis.is_none() && scan.report.recovered.records > 0 {
        scan.tell("there is no genesis record".to_owned());
    }
    let ends = scan.check_chain();
    scan.check_epochs(&ends);
    Ok(scan.report)
}

/// An entry record, reduced to what the walk along the chain needs.
struct Link {
    slot: Slot,
    parent: Digest,
    batches: Vec<BatchRef>,
    ends: Option<Epoch>,
}

/// A batch record, reduced likewise.
struct Payload {
    origin: MemberId,
    batch: BatchId,
    messages: u64,
    commands: u64,
}

/// An epoch's end on the decided chain.
struct DecidedEnd {
    epoch: Epoch,
    slot: Slot,
    digest: Digest,
}

#[derive(Default)]
struct Scan {
    report: Report,
    links: HashMap<Digest, Link>,
    payloads: HashMap<Digest, Payload>,
    epochs: Vec<EpochLink>,
    voter_after_rot: bool,
    mark_after_rot: bool,
}

impl Replay for Scan {
    fn record(&mut self, location: Location, kind: u8, payload: &[u8]) -> Result<(), Refused> {
        match Record::read(kind, payload) {
            Ok(record) => self.take(location, record),
            Err(error) => self.mistake(location, error.to_string()),
        }
        Ok(())
    }

    fn rot(&mut self, _rot: &Rot) {
        // The rot itself is in the figures that `inspect` returns.
        (self.voter_after_rot, self.mark_after_rot) = (false, false);
    }
}

impl Scan {
    fn take(&mut self, location: Location, record: Record) {
        let (name, outcome) = match record {
            Record::Incarnation(started) => ("incarnation", self.take_start(started)),
            Record::Batch(bytes) => ("batch", self.take_batch(bytes)),
            Record::Entry(entry) => ("entry", self.take_entry(&entry)),
            Record::Voter(voter) => ("voter", self.take_voter(voter)),
            Record::Vote(voted) => ("vote", self.take_vote(voted)),
            Record::Decided(tip) => ("decided", self.take_decided(tip)),
            Record::Genesis(bytes) => ("genesis", self.take_genesis(&bytes)),
            Record::Epoch(link) => {
                self.epochs.push(link);
                ("epoch", Ok(()))
            }
        };
        *self.report.records.entry(name).or_default() += 1;
        if let Err(reason) = outcome {
            self.mistake(location, reason);
        }
    }

    fn mistake(&mut self, location: Location, reason: String) {
        self.tell(format!("segment {}, offset {}: {reason}", location.segment, location.offset));
    }

    fn tell(&mut self, mistake: String) {
        if self.report.mistakes.len() < MISTAKES_TOLD {
            self.report.mistakes.push(mistake);
        } else {
            self.report.mistakes_untold += 1;
        }
    }

    fn take_start(&mut self, started: Started) -> Result<(), String> {
        let last = std::mem::replace(&mut self.report.incarnation, started.incarnation);
        if started.incarnation > last {
            Ok(())
        } else {
            Err(format!("incarnation {} does not rise above {last}", started.incarnation))
        }
    }

    fn take_batch(&mut self, bytes: bytes::Bytes) -> Result<(), String> {
        let batch = Batch::admit(bytes).map_err(|error| error.to_string())?;
        let commands = u64::from(batch.command.is_some());
        let messages = batch.header.count - commands;
        let payload = Payload { origin: batch.header.origin, batch: batch.header.id(), messages, commands };
        self.payloads.insert(batch.digest, payload);
        if let Some(Command::JoinIntent { member, name, .. }) = batch.command.as_deref() {
            self.report.names.insert(*member, name.clone());
        }
        Ok(())
    }

    fn take_entry(&mut self, record: &EntryRecord) -> Result<(), String> {
        let Some(cluster) = self.report.cluster() else {
            return Err("an entry before the genesis".to_owned());
        };
        let entry = Entry::admit(&record.entry).map_err(|error| error.to_string())?;
        let digest = chain_digest(&cluster, &record.parent, record.slot, &record.entry);
        let ends = entry.epoch_end().map(|end| Epoch(end.next.epoch.0.saturating_sub(1)));
        let link = Link { slot: record.slot, parent: record.parent, batches: entry.batches().to_vec(), ends };
        self.links.insert(digest, link);
        Ok(())
    }

    fn take_voter(&mut self, voter: Voter) -> Result<(), String> {
        self.voter_after_rot = true;
        let last = self.report.round.replace(voter.round);
        match last {
            Some(last) if voter.round < last => Err(format!("round {} is entered after round {last}", voter.round)),
            _ => Ok(()),
        }
    }

    fn take_vote(&mut self, voted: Voted) -> Result<(), String> {
        self.voter_after_rot = true;
        let highest = self.report.highest_vote.max(Some(voted.tip));
        let last = std::mem::replace(&mut self.report.highest_vote, highest);
        match last {
            Some(last) if (last.round, last.slot) == (voted.tip.round, voted.tip.slot) && last != voted.tip => {
                Err(format!("two different votes in one round: {last} and {}", voted.tip))
            }
            _ => Ok(()),
        }
    }

    fn take_decided(&mut self, tip: Tip) -> Result<(), String> {
        self.mark_after_rot = true;
        let last = self.report.decided.replace(tip);
        match last {
            Some(last) if tip.slot < last.slot => Err(format!("the decided mark falls from {last} to {tip}")),
            Some(last) if tip.slot == last.slot && tip.digest != last.digest => {
                Err(format!("slot {} is decided twice, differently", tip.slot))
            }
            _ => Ok(()),
        }
    }

    fn take_genesis(&mut self, bytes: &[u8]) -> Result<(), String> {
        let genesis: Genesis = minicbor::decode(bytes).map_err(|error| format!("genesis: {error}"))?;
        if genesis.encode() != bytes {
            return Err("genesis: not the canonical encoding".to_owned());
        }
        self.report.names.extend(genesis.members.iter().map(|member| (member.id, member.name.clone())));
        match self.report.genesis.replace(genesis) {
            None => Ok(()),
            same if same == self.report.genesis => Ok(()),
            Some(_) => Err("two geneses in one log".to_owned()),
        }
    }

    /// Walks from the decided mark down to genesis: every link, and the payload of every slot. Gives the ends of epochs on the
    /// way.
    fn check_chain(&mut self) -> Vec<DecidedEnd> {
        let mut ends = Vec::new();
        let Some(cluster) = self.report.cluster() else { return ends };
        let mut at = self.report.decided.map_or(cluster, |tip| tip.digest);
        let mut slot = self.report.decided.map_or(Slot(0), |tip| tip.slot);
        let mut named = 0;
        while slot > Slot(0) {
            let Some(link) = self.links.remove(&at) else {
                self.tell(format!("slot {slot} is decided and its entry {} is missing", at.short()));
                return ends;
            };
            if link.slot != slot {
                self.tell(format!("the entry {} stands at slot {}, the chain needs {slot}", at.short(), link.slot));
                return ends;
            }
            ends.extend(link.ends.map(|epoch| DecidedEnd { epoch, slot, digest: at }));
            for reference in &link.batches {
                named += 1;
                self.check_payload(slot, reference);
            }
            (at, slot) = (link.parent, Slot(slot.0 - 1));
        }
        if at != cluster {
            self.tell(format!("slot 1 links to {}, not to the genesis {}", at.short(), cluster.short()));
        }
        self.report.decided_batches = named;
        self.report.unordered_batches = (self.payloads.len() as u64).saturating_sub(named);
        ends
    }

    /// Every proof in the log chains from the genesis, and every end on the decided chain is the one that is proven.
    fn check_epochs(&mut self, ends: &[DecidedEnd]) {
        let Some(genesis) = self.report.genesis.clone() else { return };
        let proof = EpochProof::check(genesis, std::mem::take(&mut self.epochs));
        for DecidedEnd { epoch, slot, digest } in ends.iter().rev() {
            match proof.end_of(*epoch) {
                Some(signers) if (signers.tip.slot, signers.tip.digest) == (*slot, *digest) => {}
                Some(signers) => self.tell(format!(
                    "epoch {epoch} is decided to end at slot {slot} ({}), and its certificate is about {}",
                    digest.short(),
                    signers.tip
                )),
                None => {
                    self.tell(format!("missing: epoch {epoch} ends at slot {slot}, and its certificate is not here"))
                }
            }
        }
        proof.mistakes.iter().for_each(|mistake| self.tell(mistake.clone()));
        self.report.epochs = Some(proof);
    }

    fn check_payload(&mut self, slot: Slot, reference: &BatchRef) {
        match self.payloads.get(&reference.digest) {
            Some(payload) if (payload.origin, payload.batch) == (reference.origin, reference.batch) => {
                self.report.messages += payload.messages;
                self.report.commands += payload.commands;
            }
            Some(_) => self.tell(format!("slot {slot} names batch {} under another number", reference.digest.short())),
            None => self.tell(format!(
                "slot {slot} is decided and batch {}/{} of member {} is missing",
                reference.batch.incarnation,
                reference.batch.number,
                reference.origin.short()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::node::epoch_proof::tests::{genesis, id, link};
    use crate::types::{BatchHeader, BatchNumber, EntryBody, Hlc, Message, MessageKind, MessageNumber, StartNonce};
    use crate::wal::{Log, MemoryFiles, Settings};

    struct Nothing;

    impl Replay for Nothing {
        fn record(&mut self, _: Location, _: u8, _: &[u8]) -> Result<(), Refused> {
            Ok(())
        }

        fn rot(&mut self, _: &Rot) {}
    }

    fn batch(number: u64, parent: Digest) -> Batch {
        let header = BatchHeader {
            origin: id(1),
            incarnation: Incarnation(1),
            number: BatchNumber(number),
            first: MessageNumber(number * 2 - 1),
            count: 2,
            parent,
            resumes: (number == 1).then(BatchId::default),
        };
        let message = Message {
            kind: MessageKind::Application,
            topic: "t".to_owned(),
            content_type: None,
            body: Bytes::from_static(b"hello"),
        };
        Batch::seal(header, vec![message.clone(), message])
    }

    /// Genesis, a start, and three decided slots of one batch each; a turn for each slot.
    fn records() -> Vec<Vec<Record>> {
        let cluster = genesis().cluster();
        let started = Started { incarnation: Incarnation(1), nonce: StartNonce(1) };
        let mut turns = vec![vec![Record::Genesis(genesis().encode()), Record::Incarnation(started)]];
        let (mut parent, mut last) = (cluster, Digest::ZERO);
        for number in 1..=3 {
            let batch = batch(number, last);
            let body = EntryBody::Batches(vec![batch.reference()]);
            let entry = Entry { hlc: Hlc(number * 10), body }.encode();
            let digest = chain_digest(&cluster, &parent, Slot(number), &entry);
            let tip = Tip { round: Round::default(), slot: Slot(number), digest };
            turns.push(vec![
                Record::Batch(batch.bytes.clone()),
                Record::Entry(EntryRecord { slot: Slot(number), parent, entry }),
                Record::Vote(Voted { tip, incarnation: Incarnation(1) }),
                Record::Decided(tip),
            ]);
            (parent, last) = (digest, batch.digest);
        }
        turns
    }

    fn written(turns: &[Vec<Record>]) -> MemoryFiles {
        let files = MemoryFiles::new();
        let settings = Settings { segment_bytes: 64 << 10, ..Settings::default() };
        let (mut log, _) = Log::open(files.clone(), settings, Digest([9; 32]), &mut Nothing).unwrap();
        for turn in turns {
            for record in turn {
                log.append(record.kind(), &record.payload()).unwrap();
            }
            log.sync().unwrap();
        }
        files
    }

    #[test]
    fn a_whole_log_is_told_with_its_figures() {
        let report = verify(written(&records()), Some(id(1))).unwrap();
        assert!(report.is_whole(), "{:?}", report.mistakes);
        assert_eq!((report.messages, report.commands), (6, 0));
        assert_eq!((report.decided_batches, report.unordered_batches), (3, 0));
        assert_eq!(report.records["vote"], 3);
        assert_eq!(report.decided.unwrap().slot, Slot(3));
        assert_eq!(report.document()["whole"], true);
    }

    #[test]
    fn a_lost_batch_and_a_lost_entry_are_named() {
        let mut turns = records();
        turns[2].remove(0);
        let report = verify(written(&turns), Some(id(1))).unwrap();
        assert!(report.mistakes[0].contains("slot 2 is decided and batch 1/2"), "{:?}", report.mistakes);
        turns[1].remove(1);
        let report = verify(written(&turns), Some(id(1))).unwrap();
        assert!(report.mistakes[1].contains("slot 1 is decided and its entry"), "{:?}", report.mistakes);
    }

    /// Flips a bit of the batch in a turn.
    fn flip_a_bit_of(files: &MemoryFiles, turn: &[Record]) {
        let name = files.names().into_iter().find(|name| name.ends_with("1.wal")).unwrap();
        let bytes = files.contents(&name);
        let Record::Batch(batch) = &turn[0] else { panic!("a turn begins with its batch") };
        let place = bytes.windows(batch.len()).position(|window| window == batch).unwrap();
        files.flip_bit(&name, place as u64);
    }

    #[test]
    fn a_flipped_bit_below_the_last_turn_is_rot() {
        let turns = records();
        let files = written(&turns);
        flip_a_bit_of(&files, &turns[1]);
        let report = verify(files, Some(id(1))).unwrap();
        assert!(!report.is_whole());
        assert_eq!(report.recovered.rots.len(), 1);
    }

    #[test]
    fn rot_that_was_repaired_leaves_the_log_whole() {
        let mut turns = records();
        let lost = turns[2].clone();
        turns.push(lost[..2].to_vec());
        let files = written(&turns);
        flip_a_bit_of(&files, &lost);
        let report = verify(files, Some(id(1))).unwrap();
        assert_eq!(report.recovered.rots.len(), 1);
        assert!(report.is_whole(), "{:?}", report.mistakes);
    }

    /// The records with one more slot, which ends epoch 0, and its proof.
    fn with_an_end(signers: &[u8]) -> Vec<Vec<Record>> {
        let mut turns = records();
        let Some(Record::Decided(tip)) = turns[3].last().cloned() else { panic!("a turn ends with its mark") };
        let link = link(&genesis().configuration(), (Slot(4), tip.digest), &[1, 2, 4], signers);
        let entry = EntryRecord { slot: Slot(4), parent: link.parent, entry: link.entry.clone() };
        let decided = Record::Decided(link.certificate.tip);
        turns.push(vec![Record::Entry(entry), Record::Epoch(link), decided]);
        turns
    }

    #[test]
    fn an_epoch_is_told_with_who_signed_its_end() {
        let report = verify(written(&with_an_end(&[1, 3])), Some(id(1))).unwrap();
        assert!(report.is_whole(), "{:?}", report.mistakes);
        let epochs = report.document()["epochs"].clone();
        assert_eq!(epochs[1]["certificate"]["signed_by"].as_array().unwrap().len(), 2, "{epochs}");
    }

    #[test]
    fn an_end_without_its_proof_or_with_a_forged_one_is_named() {
        let mut turns = with_an_end(&[1, 3]);
        turns[4].remove(1);
        let report = verify(written(&turns), Some(id(1))).unwrap();
        assert!(report.mistakes[0].contains("missing: epoch 0 ends at slot 4"), "{:?}", report.mistakes);
        let report = verify(written(&with_an_end(&[1])), Some(id(1))).unwrap();
        assert!(report.mistakes[1].contains("forged: the end of epoch 0 has 1 signatures"), "{:?}", report.mistakes);
        let mut elsewhere = with_an_end(&[1, 3]);
        let other = link(&genesis().configuration(), (Slot(9), Digest::ZERO), &[1, 2, 5], &[1, 2]);
        elsewhere[4][1] = Record::Epoch(other);
        let report = verify(written(&elsewhere), Some(id(1))).unwrap();
        assert!(report.mistakes[0].contains("its certificate is about"), "{:?}", report.mistakes);
    }

    #[test]
    fn a_key_that_nobody_names_is_told() {
        let report = verify(written(&records()), Some(id(2))).unwrap();
        assert_eq!(report.document()["member_named"], true);
        let report = verify(written(&records()), Some(id(9))).unwrap();
        assert_eq!(report.document()["member_named"], false, "it may have joined later than this log knows");
    }
}
