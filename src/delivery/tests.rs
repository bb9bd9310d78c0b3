//! Ring against log, and the whole against a slow, obvious twin.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::types::{
    Batch, BatchHeader, BatchId, BatchNumber, Delivered, Digest, Epoch, Hlc, Incarnation, Location, MemberId, Message,
    MessageKind, MessageNumber, Slot,
};

/// A log in memory.
#[derive(Default)]
struct MemoryLog {
    records: Mutex<BTreeMap<Location, Bytes>>,
    reads: Mutex<u64>,
}

impl RecordReader for MemoryLog {
    fn read(&self, location: Location) -> Result<Bytes, String> {
        *self.reads.lock().unwrap() += 1;
        self.records.lock().unwrap().get(&location).cloned().ok_or_else(|| "no such record".to_owned())
    }
}

fn message(text: &str) -> Message {
    Message {
        kind: MessageKind::Application,
        topic: "t".to_owned(),
        content_type: None,
        body: Bytes::copy_from_slice(text.as_bytes()),
    }
}

/// Seals messages as the batch after `last`, puts it in the log, and says where it stands.
fn delivered(log: &MemoryLog, number: u64, last: Position, messages: Vec<Message>) -> Delivered {
    let header = BatchHeader {
        origin: MemberId([(number % 3) as u8; 32]),
        incarnation: Incarnation(1),
        number: BatchNumber(number),
        first: MessageNumber(last.0 + 1),
        count: messages.len() as u64,
        parent: Digest::ZERO,
        resumes: (number == 1).then(BatchId::default),
    };
    let count = messages.iter().filter(|message| message.kind == MessageKind::Application).count() as u64;
    let batch = Batch::seal(header.clone(), messages);
    let location = Location { segment: 1, offset: number as u32 * 100, length: batch.bytes.len() as u32 };
    log.records.lock().unwrap().insert(location, batch.bytes.clone());
    Delivered {
        first: last.next(),
        count,
        slot: Slot(number),
        epoch: Epoch(0),
        hlc: Hlc(1000 + last.0),
        kind: crate::types::DeliveredKind::Batch(header),
        location,
        bytes: Some(batch.bytes),
    }
}

fn bytes(bytes: usize) -> ReadLimits {
    ReadLimits { bytes, messages: u64::MAX }
}

fn texts(messages: &[PlacedMessage]) -> Vec<String> {
    messages.iter().map(|message| String::from_utf8(message.message.body.to_vec()).unwrap()).collect()
}

#[test]
fn a_message_has_its_place_its_clock_and_its_identity() {
    let log = Arc::new(MemoryLog::default());
    let (mut writer, reader) = stream(log.clone(), |_| ());
    writer.append(vec![delivered(&log, 1, Position(0), vec![message("a"), message("b")])]);
    writer.append(vec![delivered(&log, 2, Position(2), vec![message("c")])]);
    let messages = reader.messages_after(Position(1), 10).unwrap();
    assert_eq!(texts(&messages), ["b", "c"]);
    assert_eq!(messages[0].position, Position(2));
    assert_eq!(messages[0].hlc, Hlc(1001));
    assert_eq!(messages[0].id.number, MessageNumber(2));
    assert_eq!(messages[1].id.member, MemberId([2; 32]));
    assert_eq!(reader.delivered(), Position(3));
}

#[test]
fn commands_take_no_position_but_a_number() {
    let log = Arc::new(MemoryLog::default());
    let (mut writer, reader) = stream(log.clone(), |_| ());
    let command = Message { kind: MessageKind::Command, ..message("command") };
    writer.append(vec![delivered(&log, 1, Position(0), vec![command, message("a")])]);
    let messages = reader.messages_after(Position(0), 10).unwrap();
    assert_eq!(texts(&messages), ["a"]);
    assert_eq!((messages[0].position, messages[0].id.number), (Position(1), MessageNumber(2)));
}

#[test]
fn an_empty_batch_leaves_no_trace() {
    let log = Arc::new(MemoryLog::default());
    let (mut writer, reader) = stream(log.clone(), |_| panic!("there is nothing to tell"));
    writer.append(vec![delivered(&log, 1, Position(0), vec![])]);
    assert_eq!(reader.delivered(), Position(0));
    assert!(matches!(reader.recent_after(Position(0), bytes(1000)), Recent::AtHead));
}

#[test]
fn beyond_the_head_there_is_nothing_yet() {
    let log = Arc::new(MemoryLog::default());
    let (mut writer, reader) = stream(log.clone(), |_| ());
    assert!(matches!(reader.recent_after(Position(7), bytes(1000)), Recent::AtHead));
    writer.append(vec![delivered(&log, 1, Position(0), vec![message("a")])]);
    assert!(matches!(reader.recent_after(Position(u64::MAX), bytes(1000)), Recent::AtHead));
    assert!(reader.read_after(Position(1), bytes(1000)).unwrap().is_empty());
}

#[test]
fn those_who_wait_are_told_after_it_can_be_read() {
    let log = Arc::new(MemoryLog::default());
    let told = Arc::new(Mutex::new(Vec::new()));
    let (mut writer, _reader) = stream(log.clone(), {
        let told = told.clone();
        move |position| told.lock().unwrap().push(position)
    });
    let first = delivered(&log, 1, Position(0), vec![message("a")]);
    let second = delivered(&log, 2, Position(1), vec![message("b"), message("c")]);
    writer.append(vec![first, second]);
    assert_eq!(*told.lock().unwrap(), [Position(3)]);
}

#[test]
fn what_left_the_ring_is_read_from_the_log() {
    let log = Arc::new(MemoryLog::default());
    let (mut writer, reader) = stream_with_ring(log.clone(), |_| (), 600);
    for number in 1..=20 {
        writer.append(vec![delivered(&log, number, Position(number - 1), vec![message(&number.to_string())])]);
    }
    assert!(matches!(reader.recent_after(Position(0), bytes(1000)), Recent::Behind));
    assert!(matches!(reader.recent_after(Position(19), bytes(1000)), Recent::Batches(batches) if batches.len() == 1));
    assert_eq!(*log.reads.lock().unwrap(), 0);
    let batches = reader.read_after(Position(0), bytes(1 << 20)).unwrap();
    assert_eq!(batches.iter().map(|batch| batch.first().0).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    let from_log = *log.reads.lock().unwrap();
    assert!(from_log > 0 && from_log < 20, "the tail came from memory: {from_log}");
}

#[test]
fn a_read_ends_when_it_has_enough_messages() {
    let log = Arc::new(MemoryLog::default());
    for ring_bytes in [0, 1000] {
        let (mut writer, reader) = stream_with_ring(log.clone(), |_| (), ring_bytes);
        for number in 1..=5 {
            let batch = delivered(&log, number, Position((number - 1) * 2), vec![message("a"), message("b")]);
            writer.append(vec![batch]);
        }
        for (after, messages, batches) in [(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, 2), (1, 1, 1), (1, 2, 2), (1, 99, 5)]
        {
            let limits = ReadLimits { bytes: 10_000, messages };
            assert_eq!(reader.read_after(Position(after), limits).unwrap().len(), batches, "{after} {messages}");
        }
    }
}

#[test]
fn a_log_that_changed_is_told_from_one_that_fails() {
    let log = Arc::new(MemoryLog::default());
    let (mut writer, reader) = stream_with_ring(log.clone(), |_| (), 0);
    let batch = delivered(&log, 1, Position(0), vec![message("a")]);
    let other = delivered(&MemoryLog::default(), 2, Position(5), vec![message("b")]);
    let location = batch.location;
    writer.append(vec![batch]);
    log.records.lock().unwrap().insert(location, other.bytes.unwrap());
    assert!(matches!(reader.read_after(Position(0), bytes(1)), Err(ReadError::Changed { .. })));
    log.records.lock().unwrap().clear();
    assert!(matches!(reader.read_after(Position(0), bytes(1)), Err(ReadError::Log { .. })));
}

#[test]
#[should_panic(expected = "positions are dense")]
fn a_gap_is_a_bug() {
    let log = Arc::new(MemoryLog::default());
    let (mut writer, _reader) = stream(log.clone(), |_| ());
    writer.append(vec![delivered(&log, 1, Position(1), vec![message("a")])]);
}

#[test]
fn many_rows_are_found_across_pieces() {
    let log = Arc::new(MemoryLog::default());
    let (mut writer, reader) = stream_with_ring(log.clone(), |_| (), 1000);
    let mut last = Position(0);
    for number in 1..=9000 {
        let batch = delivered(&log, number, last, vec![message("x"), message("y")]);
        last = last.plus(2);
        writer.append(vec![Delivered { bytes: None, ..batch }]);
    }
    for after in [0, 1, 2, 8190, 8191, 8192, 8193, 16_383, 16_384, 17_998, 17_999] {
        let batches = reader.read_after(Position(after), bytes(0)).unwrap();
        assert_eq!(batches.len(), 1);
        assert!(batches[0].first().0 <= after + 1 && after < batches[0].last().0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The twin is a list of (position, text); the stream must agree with it for every read, whatever the ring holds.
    #[test]
    fn reads_agree_with_a_plain_list(
        sizes in prop::collection::vec(0usize..5, 1..60),
        in_memory in prop::collection::vec(any::<bool>(), 60),
        ring_bytes in 0usize..4000,
        reads in prop::collection::vec((0u64..150, 0usize..2000, 0usize..20), 1..20),
    ) {
        let log = Arc::new(MemoryLog::default());
        let (mut writer, reader) = stream_with_ring(log.clone(), |_| (), ring_bytes);
        let mut twin: Vec<String> = Vec::new();
        for (number, (size, kept)) in (1..).zip(sizes.iter().zip(&in_memory)) {
            let messages: Vec<Message> = (0..*size).map(|index| message(&format!("{number}.{index}"))).collect();
            let mut batch = delivered(&log, number, Position(twin.len() as u64), messages);
            twin.extend((0..*size).map(|index| format!("{number}.{index}")));
            batch.bytes = batch.bytes.filter(|_| *kept);
            writer.append(vec![batch]);
        }
        prop_assert_eq!(reader.delivered(), Position(twin.len() as u64));
        for (after, bytes_max, messages_max) in reads {
            let rest = twin.get(after as usize..).unwrap_or(&[]);
            let messages = reader.messages_after(Position(after), messages_max).unwrap();
            prop_assert_eq!(texts(&messages), rest[..rest.len().min(messages_max)].to_vec());
            let batches = reader.read_after(Position(after), bytes(bytes_max)).unwrap();
            prop_assert_eq!(batches.is_empty(), rest.is_empty());
            check_batches(&batches, after, rest)?;
            match reader.recent_after(Position(after), bytes(bytes_max)) {
                Recent::AtHead => prop_assert!(rest.is_empty()),
                Recent::Behind => prop_assert!(!rest.is_empty()),
                Recent::Batches(batches) => check_batches(&batches, after, rest)?,
            }
        }
    }
}

/// Batches that continue `after` are a prefix of the rest of the list.
fn check_batches(batches: &[PlacedBatch], after: u64, rest: &[String]) -> Result<(), TestCaseError> {
    let messages: Vec<PlacedMessage> = batches
        .iter()
        .flat_map(|batch| batch.messages().unwrap())
        .filter(|message| message.position.0 > after)
        .collect();
    prop_assert_eq!(&texts(&messages)[..], &rest[..messages.len()]);
    prop_assert!(messages.iter().zip(after + 1..).all(|(message, position)| message.position.0 == position));
    Ok(())
}
