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
    add("entry: the end of an epoch", &end_entry().entry.1);
    for (name, command) in commands() {
        assert_eq!(Command::of(&command.message()), Ok(command.clone()));
        add(&format!("command: {name}"), &command.message().body);
    }
    for (name, message) in door_messages() {
        let frame = DoorFrame { version: 1, cluster: genesis().cluster(), message };
        assert_eq!(DoorFrame::admit(&frame.encode()).unwrap(), frame);
        add(&format!("door: {name}"), &frame.encode());
    }
    for (name, message) in candidacy_messages() {
        let frame = CandidacyFrame::new("orders", 3, message);
        assert_eq!(CandidacyFrame::admit(&frame.encode()).unwrap(), frame);
        add(&format!("candidacy: {name}"), &frame.encode());
    }
    for (name, commitment) in commitments() {
        let record = CommitmentRecord { version: 1, cluster: "orders".to_owned(), commitment };
        assert_eq!(CommitmentRecord::admit(&record.encode()).unwrap(), record);
        add(&format!("commitment: {name}"), &record.encode());
    }
    for (name, message) in announcements() {
        let announcement = Announcement::new(genesis().cluster(), message);
        assert_eq!(Announcement::admit(&announcement.encode()).unwrap(), announcement);
        add(&format!("announcement: {name}"), &announcement.encode());
    }
    add("join code", &join_code().encode());
    add("invite", &join_code::secret_digest(&[0x5e; 16]).0);
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
        voters_target: 3,
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
        ("epoch", Record::Epoch(link())),
    ]
}

/// Every kind of message; those with a field that may be none twice.
fn peer_messages() -> Vec<(&'static str, PeerMessage)> {
    let (round, tip) = (round(), tip());
    let slots = vec![DecidedSlot { entry: chain_entry(), batches: vec![opening(), following()], certificate: None }];
    vec![
        ("", PeerMessage::Batch(following())),
        ("", PeerMessage::Proposal { round, entry: chain_entry() }),
        ("", PeerMessage::Vote(Vote { phase: 0, tip, seal: None })),
        (" with a seal", PeerMessage::Vote(Vote { phase: 0, tip, seal: Some(seal()) })),
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
        ("", PeerMessage::FetchDecided { after: Slot(1), digest: tip.digest, through: Slot(300), waits: true }),
        ("", PeerMessage::Decided { mark: tip, slots }),
        (
            " with a certificate",
            PeerMessage::Decided {
                mark: tip,
                slots: vec![DecidedSlot { entry: end_entry(), batches: Vec::new(), certificate: Some(certificate()) }],
            },
        ),
        ("", PeerMessage::Epochs { from: Epoch(0), links: vec![link()] }),
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
        established: Epoch(2),
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
        ("departed", Refusal::Departed { id: TWO, standing: Standing::Removed }),
    ]
}

/// The end of epoch 0: TWO goes, and five are to vote.
fn end_entry() -> ChainEntry {
    let before = genesis().configuration();
    let next = Configuration { epoch: Epoch(1), voters: vec![ONE], voters_target: 5, ..before };
    let entry = Entry { hlc: Hlc(0x6955_b900_8000_0009), body: EntryBody::EpochEnd(EpochEnd { next }) };
    let bytes = entry.encode();
    ChainEntry { slot: Slot(2), parent: tip().digest, entry: (entry, bytes) }
}

fn seal() -> Seal {
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let next = end_entry().entry.0.epoch_end().unwrap().next.digest();
    Seal::sign(&key, &genesis().configuration(), &tip(), next)
}

fn certificate() -> Certificate {
    Certificate { tip: tip(), votes: vec![(ONE, seal().signature)] }
}

fn announcements() -> Vec<(&'static str, AnnouncementMessage)> {
    let addresses = vec!["/ip4/10.0.0.4/tcp/7271".to_owned()];
    let presence = Presence { incarnation: Incarnation(7), number: 3, addresses };
    vec![
        ("presence", AnnouncementMessage::Presence(presence)),
        ("epoch head", AnnouncementMessage::EpochHead(EpochHead { epoch: Epoch(1), link: link() })),
    ]
}

fn link() -> EpochLink {
    EpochLink { parent: tip().digest, entry: end_entry().entry.1, certificate: certificate() }
}

fn commands() -> Vec<(&'static str, Command)> {
    let address = || "/ip4/127.0.0.1/tcp/7274".to_owned();
    let limits = genesis().limits;
    vec![
        ("invite", Command::Invite { secret: Digest([0x11; 32]), expires: WallTime(1_767_229_200_000_000_000) }),
        (
            "join",
            Command::JoinIntent {
                member: TWO,
                name: "n4".to_owned(),
                addresses: vec![address()],
                invite: Digest([0x11; 32]),
            },
        ),
        ("leave", Command::LeaveIntent),
        ("remove", Command::RemoveIntent { member: TWO }),
        ("configure", Command::Configure { voters_target: Some(5), limits: Some(limits) }),
        ("configure nothing", Command::Configure { voters_target: None, limits: None }),
        ("suspect", Command::Suspect { member: TWO }),
        ("unsuspect", Command::Unsuspect { member: TWO }),
        ("ready", Command::Ready { slot: Slot(77), digest: Digest([0x12; 32]) }),
        ("move", Command::Move { addresses: vec![address()] }),
    ]
}

fn door_messages() -> Vec<(&'static str, DoorMessage)> {
    let told = Told {
        genesis: Some(genesis().encode()),
        from: Epoch(0),
        links: vec![link()],
        established: Epoch(1),
        standing: Standing::Learner,
        contacts: vec![Contact { id: ONE, name: "n1".to_owned(), addresses: Vec::new() }],
    };
    vec![
        ("ask", DoorMessage::Ask { have: Some(Epoch(3)) }),
        ("ask for all", DoorMessage::Ask { have: None }),
        ("join", DoorMessage::Join { secret: [0x5e; 16], name: "n4".to_owned(), addresses: Vec::new() }),
        ("tell", DoorMessage::Tell(told)),
        ("refused", DoorMessage::Refused(DoorRefusal::NoQuorum("2 of 3".to_owned()))),
    ]
}

fn candidacy_messages() -> Vec<(&'static str, CandidacyMessage)> {
    let cluster = genesis().cluster();
    let candidacy = |promise| Candidacy {
        settings: CommonSettings::of(&genesis()),
        name: "n1".to_owned(),
        addresses: vec!["/ip4/127.0.0.1/tcp/7271".to_owned()],
        nonce: StartNonce(0x0123_4567_89ab_cdef),
        promise,
        knows: 2,
    };
    let settings = CommonSettings::of(&genesis());
    let refusals = [
        ("refused: other name", CandidacyRefusal::OtherName { theirs: "shop".to_owned(), ours: "orders".to_owned() }),
        ("refused: other expect", CandidacyRefusal::OtherExpect { theirs: 5, ours: 3 }),
        ("refused: other settings", CandidacyRefusal::OtherSettings { theirs: settings, ours: settings }),
        ("refused: crowded", CandidacyRefusal::Crowded { known: 6, expect: 3 }),
        ("refused: lower", CandidacyRefusal::Lower(ONE)),
        ("refused: exists", CandidacyRefusal::Exists(cluster)),
        ("refused: two processes", CandidacyRefusal::TwoProcesses),
        ("refused: unusable", CandidacyRefusal::Unusable("one address".to_owned())),
        ("refused: busy", CandidacyRefusal::Busy),
        ("refused: version", CandidacyRefusal::Version { theirs: 2, ours: 1 }),
    ];
    let mut messages = vec![
        ("here", CandidacyMessage::Here(candidacy(None))),
        ("here with a promise", CandidacyMessage::Here(candidacy(Some(Promise { proposer: ONE, cluster })))),
        ("propose", CandidacyMessage::Propose(genesis())),
        ("promised", CandidacyMessage::Promised(cluster)),
        ("made", CandidacyMessage::Made(genesis())),
        ("released", CandidacyMessage::Released(cluster)),
        ("founded", CandidacyMessage::Founded(cluster)),
    ];
    messages.extend(refusals.map(|(name, refusal)| (name, CandidacyMessage::Refused(refusal))));
    messages
}

fn commitments() -> Vec<(&'static str, Commitment)> {
    vec![
        ("free", Commitment::Free),
        ("proposed", Commitment::Proposed(genesis())),
        ("promised", Commitment::Promised(genesis())),
        ("made", Commitment::Made(genesis())),
    ]
}

fn join_code() -> JoinCode {
    JoinCode {
        cluster: genesis().cluster(),
        secret: [0x5e; 16],
        expires: WallTime(1_767_229_200_000_000_000),
        addresses: vec!["/ip4/127.0.0.1/tcp/7271".to_owned()],
    }
}
