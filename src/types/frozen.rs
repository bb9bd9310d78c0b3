//! The bytes that disks and wires hold, as they were written down in `frozen.txt`: a change of any of them makes members
//! refuse, or misread, each other and their own logs. `SYNOD_VECTORS=record` makes the test write down what is written
//! now: an explicit act, which comes with a new format, protocol or rules version.

use std::fmt::{Debug, Write};

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::batch::messages;
use super::peer::{ChainEntry, DecidedSlot, Envelope, Status};
use super::record::{EntryRecord, Started, Voted, Voter};
use super::*;

/// What is written down.
const FROZEN: &str = include_str!("frozen.txt");
/// Bytes in one row of it.
const ROW: usize = 32;

const ONE: MemberId = MemberId([0xa1; 32]);
const TWO: MemberId = MemberId([0xa2; 32]);

#[test]
fn bytes_on_disks_and_wires_are_the_frozen_ones() {
    let written = text(&vectors());
    if std::env::var("SYNOD_VECTORS").as_deref() == Ok("record") {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/types/frozen.txt");
        std::fs::write(path, written).unwrap();
        return;
    }
    for (frozen, written) in FROZEN.split("\n\n").zip(written.split("\n\n")) {
        assert_eq!(written, frozen, "these bytes are frozen");
    }
    assert_eq!(written.len(), FROZEN.len(), "a vector came or went");
}

/// Every vector by its name, in rows of hexadecimal digits.
fn text(vectors: &[(String, Vec<u8>)]) -> String {
    let mut text = String::from("The bytes of frozen.rs. Never edited by hand.\n");
    for (name, bytes) in vectors {
        write!(text, "\n{name}\n").unwrap();
        for row in bytes.chunks(ROW) {
            let digits: String = row.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(text, "    {digits}").unwrap();
        }
    }
    text
}

fn vectors() -> Vec<(String, Vec<u8>)> {
    let mut vectors = Vec::new();
    let mut add = |name: &str, bytes: &[u8]| vectors.push((name.to_owned(), bytes.to_vec()));
    add("digest of `abc` as a batch", &Digest::of("batch", b"abc").0);
    add("genesis", &read_back(genesis()));
    add("cluster id", &genesis().cluster().0);
    add("configuration", &read_back(genesis().configuration()));
    add("configuration digest", &genesis().configuration().digest().0);
    for (name, batch) in [("batch 1, which resumes nothing", opening()), ("batch 2", following())] {
        assert_eq!(Batch::admit(batch.bytes.clone()).unwrap(), batch);
        add(name, &batch.bytes);
        add(&format!("{name}: digest"), &batch.digest.0);
    }
    assert_eq!(Entry::admit(&entry().encode()).unwrap(), entry());
    add("entry", &entry().encode());
    add("chain digest of slot 1", &tip().digest.0);
    for (name, record) in records() {
        assert_eq!(Record::read(record.kind(), &record.payload()).unwrap(), record);
        add(&format!("record {}: {name}", record.kind()), &record.payload());
    }
    for (how, message) in peer_messages() {
        let name = format!("envelope: {}{how}", message.name());
        let envelope = Envelope { epoch: Epoch(0), configuration: genesis().configuration().digest(), message };
        assert_eq!(Envelope::admit(&envelope.encode()).unwrap(), envelope);
        add(&name, &envelope.encode());
    }
    add("hello", &read_back(hello()));
    for (name, refusal) in refusals() {
        add(&format!("refusal: {name}"), &read_back(refusal));
    }
    vectors
}

/// A value's bytes, which read back as the value.
fn read_back<T: Encode<()> + for<'b> Decode<'b, ()> + PartialEq + Debug>(value: T) -> Vec<u8> {
    let bytes = minicbor::to_vec(&value).unwrap();
    assert_eq!(minicbor::decode::<T>(&bytes).unwrap(), value);
    bytes
}

fn genesis() -> Genesis {
    let member = |name: &str, id, address: &[&str]| GenesisMember {
        name: name.to_owned(),
        id,
        addresses: address.iter().map(|address| (*address).to_owned()).collect(),
    };
    Genesis {
        name: "orders".to_owned(),
        nonce: [0x0f; 16],
        model: FaultModelKind::Crash,
        rules_version: 0,
        members: vec![member("n1", ONE, &["/ip4/127.0.0.1/tcp/7271"]), member("n2", TWO, &[])],
        limits: ClusterLimits { message_bytes_max: 1 << 20, batch_bytes_max: 4 << 20 },
    }
}

fn message(content_type: Option<&str>, body: &'static [u8]) -> Message {
    Message {
        kind: MessageKind::Application,
        topic: "orders".to_owned(),
        content_type: content_type.map(str::to_owned),
        body: Bytes::from_static(body),
    }
}

fn opening() -> Batch {
    let header = BatchHeader {
        origin: ONE,
        incarnation: Incarnation(3),
        number: BatchNumber(1),
        first: MessageNumber(1),
        count: 2,
        parent: Digest::ZERO,
        resumes: Some(LaneHead::START.batch),
    };
    let batch = Batch::seal(header, vec![message(Some("application/json"), b"{}"), message(None, b"")]);
    assert_eq!(messages(&batch.bytes).unwrap().len(), 2);
    batch
}

fn following() -> Batch {
    let header = BatchHeader {
        origin: ONE,
        incarnation: Incarnation(3),
        number: BatchNumber(2),
        first: MessageNumber(3),
        count: 0,
        parent: opening().digest,
        resumes: None,
    };
    Batch::seal(header, Vec::new())
}

fn entry() -> Entry {
    let batches = vec![opening().reference(), following().reference()];
    Entry { hlc: Hlc(0x6955_b900_8000_0000), body: EntryBody::Batches(batches) }
}

fn round() -> Round {
    Round { epoch: Epoch(0), view: View(5) }
}

/// The tip of slot 1.
fn tip() -> Tip {
    let cluster = genesis().cluster();
    let digest = chain_digest(&cluster, &cluster, Slot(1), &entry().encode());
    Tip { round: round(), slot: Slot(1), digest }
}

fn lane_head() -> LaneHead {
    LaneHead { batch: following().header.id(), digest: following().digest }
}

fn chain_entry() -> ChainEntry {
    ChainEntry { slot: Slot(1), parent: genesis().cluster(), entry: (entry(), entry().encode()) }
}

fn records() -> Vec<(&'static str, Record)> {
    let (slot, parent) = (Slot(1), genesis().cluster());
    let configuration = genesis().configuration().digest();
    let incarnation = Incarnation(3);
    vec![
        ("incarnation", Record::Incarnation(Started { incarnation, nonce: StartNonce(0x0123_4567_89ab_cdef) })),
        ("batch", Record::Batch(following().bytes)),
        ("entry", Record::Entry(EntryRecord { slot, parent, entry: entry().encode() })),
        ("voter", Record::Voter(Voter { round: round(), configuration, claim: Some(tip()), incarnation })),
        ("voter without a claim", Record::Voter(Voter { round: round(), configuration, claim: None, incarnation })),
        ("vote", Record::Vote(Voted { tip: tip(), incarnation })),
        ("decided", Record::Decided(tip())),
        ("genesis", Record::Genesis(genesis().encode())),
    ]
}

/// Every kind of message; those with a field that may be none twice.
fn peer_messages() -> Vec<(&'static str, PeerMessage)> {
    let (round, tip) = (round(), tip());
    let slots = vec![DecidedSlot { entry: chain_entry(), batches: vec![opening(), following()] }];
    vec![
        ("", PeerMessage::Batch(following())),
        ("", PeerMessage::Proposal { round, entry: chain_entry() }),
        ("", PeerMessage::Vote(Vote { phase: 0, tip })),
        ("", PeerMessage::Claim { round, claim: Some(tip) }),
        (" of nothing", PeerMessage::Claim { round, claim: None }),
        ("", PeerMessage::NewView { round, base: Some(tip) }),
        (" without a base", PeerMessage::NewView { round, base: None }),
        ("", PeerMessage::Status(status(Some(View(5))))),
        (" without a complaint", PeerMessage::Status(status(None))),
        ("", PeerMessage::Heartbeat { round, decided: tip, sync_micros: 700 }),
        ("", PeerMessage::FetchBatches { decided: Slot(1), batches: vec![following().reference()] }),
        ("", PeerMessage::FetchLane { origin: ONE, after: LaneHead::START }),
        ("", PeerMessage::FetchChain { slot: tip.slot, digest: tip.digest, above: Slot(0) }),
        ("", PeerMessage::Chain(vec![chain_entry()])),
        ("", PeerMessage::FetchDecided { after: Slot(1) }),
        ("", PeerMessage::Decided { mark: tip, slots }),
    ]
}

fn status(complaint: Option<View>) -> Status {
    Status {
        incarnation: Incarnation(3),
        counter: 9,
        round: round(),
        complaint,
        decided: tip(),
        lanes: vec![(ONE, lane_head()), (TWO, LaneHead::START)],
        links: vec![TWO],
        clock: WallTime(1_767_225_600_000_000_000),
    }
}

fn hello() -> Hello {
    Hello {
        version: 1,
        cluster: genesis().cluster(),
        epoch: Epoch(0),
        configuration: genesis().configuration().digest(),
        incarnation: Incarnation(3),
        nonce: StartNonce(0x0123_4567_89ab_cdef),
        highest_vote: Some(tip()),
        decided: tip(),
        sealed: lane_head(),
    }
}

fn refusals() -> Vec<(&'static str, Refusal)> {
    vec![
        ("version", Refusal::Version { theirs: 2, ours: 1 }),
        ("cluster", Refusal::Cluster { theirs: Digest::ZERO, ours: genesis().cluster() }),
        ("configuration", Refusal::Configuration { epoch: Epoch(0) }),
        ("not a member", Refusal::NotAMember(TWO)),
        ("stale disk", Refusal::StaleDisk { says: "vote 3".to_owned(), said: "vote 6".to_owned() }),
        ("two processes", Refusal::TwoProcesses(TWO)),
        ("malformed", Refusal::Malformed("no frame".to_owned())),
    ]
}
