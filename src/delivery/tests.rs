//! Ring against log, and the whole against a slow, obvious twin.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::types::record::EntryRecord;
use crate::types::{
    Batch, BatchHeader, BatchId, BatchNumber, ClusterLimits, Command, Configuration, Delivered, DeliveredKind, Digest,
    Entry, EntryBody, Epoch, EpochEnd, FaultModelKind, Hlc, Incarnation, Location, MemberId, Message, MessageKind,
    MessageNumber, Record, Slot,
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

/// The configuration of an epoch in which these vote.
fn configuration(epoch: u64, voters: &[u8]) -> Configuration {
    Configuration {
        cluster: Digest([0xc1; 32]),
        epoch: Epoch(epoch),
        model: FaultModelKind::Crash,
        rules_version: 0,
        voters: voters.iter().map(|number| MemberId([*number; 32])).collect(),
        limits: ClusterLimits::default(),
        voters_target: 3,
    }
}

fn genesis() -> Configuration {
    configuration(0, &[1, 2, 3])
}

/// [`super::stream`] in the group of [`genesis`].
fn stream(log: Arc<MemoryLog>, notify: impl Fn(Position) + Send + 'static) -> (DeliveryWriter, DeliveryReader) {
    super::stream(genesis(), log, notify)
}

/// [`super::stream_with_ring`] likewise.
fn stream_with_ring(log: Arc<MemoryLog>, ring_bytes: usize) -> (DeliveryWriter, DeliveryReader) {
    super::stream_with_ring(genesis(), log, |_| (), ring_bytes)
}

/// Seals messages as the batch after `last`, puts it in the log, and says where it stands.
fn delivered(log: &MemoryLog, number: u64, last: Position, messages: Vec<Message>) -> Delivered {
    let count = messages.len() as u64;
    let header = BatchHeader {
        origin: MemberId([(number % 3) as u8; 32]),
        incarnation: Incarnation(1),
        number: BatchNumber(number),
        first: MessageNumber(last.0 + 1),
        count,
        parent: Digest::ZERO,
        resumes: (number == 1).then(BatchId::default),
    };
    let batch = Batch::seal(header.clone(), messages);
    let location = Location { segment: 1, offset: number as u32 * 100, length: batch.bytes.len() as u32 };
    log.records.lock().unwrap().insert(location, batch.bytes.clone());
    let kind = DeliveredKind::Batch(header);
    let (slot, hlc) = (Slot(number), Hlc(1000 + last.0));
    Delivered { first: last.next(), count, slot, epoch: Epoch(0), hlc, kind, location, bytes: Some(batch.bytes) }
}

/// The end of the epoch before `next`, after `last`; in the log as a record of kind entry.
fn epoch_end(log: &MemoryLog, number: u64, last: Position, next: Configuration) -> Delivered {
    let (slot, hlc, epoch) = (Slot(number), Hlc(1000 + last.0), Epoch(next.epoch.0 - 1));
    let entry = Entry { hlc, body: EntryBody::EpochEnd(EpochEnd { next }) }.encode();
    let record = EntryRecord { slot, parent: Digest([9; 32]), entry: entry.clone() };
    let payload = Record::Entry(record).payload();
    let location = Location { segment: 1, offset: number as u32 * 100, length: payload.len() as u32 };
    log.records.lock().unwrap().insert(location, payload);
    let kind = DeliveredKind::EpochEnd;
    Delivered { first: last.next(), count: 1, slot, epoch, hlc, kind, location, bytes: Some(entry) }
}

fn bytes(bytes: usize) -> ReadLimits {
    ReadLimits { bytes, events: u64::MAX }
}

/// What happened, as text: a message's body, a command's event, which epoch follows which.
fn texts(events: &[PlacedEvent]) -> Vec<String> {
    let text = |event: &PlacedEvent| match &event.content {
        Content::Message { message, .. } => String::from_utf8(message.body.to_vec()).unwrap(),
        Content::Command { command, .. } => command.event().to_owned(),
        Content::EpochEnd { ended, next } => format!("{} after {}", next.epoch, ended.epoch),
    };
    events.iter().map(text).collect()
}

#[test]
fn a_message_has_its_place_its_clock_and_its_identity() {
    let log = Arc::new(MemoryLog::default());
    let (mut writer, reader) = stream(log.clone(), |_| ());
    writer.append(vec![delivered(&log, 1, Position(0), vec![message("a"), message("b")])]);
    writer.append(vec![delivered(&log, 2, Position(2), vec![message("c")])]);
    let events = reader.events_after(Position(1), 10).unwrap();
    assert_eq!(texts(&events), ["b", "c"]);
    assert_eq!(events[0].position, Position(2));
    assert_eq!(events[0].hlc, Hlc(1001));
    let id = |event: &PlacedEvent| match &event.content {
        Content::Message { id, .. } => *id,
        other => panic!("{other:?}"),
    };
    assert_eq!(id(&events[0]).number, MessageNumber(2));
    assert_eq!(id(&events[1]).member, MemberId([2; 32]));
    assert_eq!(reader.delivered(), Position(3));
}

#[test]
fn a_command_that_takes_effect_has_a_position_and_one_that_does_not_leaves_no_trace() {
    let log = Arc::new(MemoryLog::default());
    for ring_bytes in [0, 1 << 20] {
        let (mut writer, reader) = stream_with_ring(log.clone(), ring_bytes);
        let suspect = |number| Command::Suspect { member: MemberId([number; 32]) };
        writer.append(vec![
            Delivered { count: 0, ..delivered(&log, 1, Position(0), vec![suspect(7).message()]) },
            delivered(&log, 2, Position(0), vec![message("a")]),
            delivered(&log, 3, Position(1), vec![suspect(8).message()]),
        ]);
        assert_eq!(reader.delivered(), Position(2));
        let events = reader.events_after(Position(0), 10).unwrap();
        assert_eq!(texts(&events[..1]), ["a"]);
        let Content::Command { id, command } = &events[1].content else { panic!("{:?}", events[1]) };
        assert_eq!((events[1].position, id.member, id.number), (Position(2), MemberId([0; 32]), MessageNumber(2)));
        assert_eq!(*command, suspect(8));
    }
}

#[test]
fn an_epochs_end_tells_the_epoch_it_ends_from_the_next_wherever_they_are_read() {
    let log = Arc::new(MemoryLog::default());
    let (first, second) = (configuration(1, &[4, 1, 3]), configuration(2, &[4, 5, 3]));
    for (ring_bytes, kept) in [(0, true), (500, true), (1 << 20, true), (1 << 20, false)] {
        let (mut writer, reader) = stream_with_ring(log.clone(), ring_bytes);
        let mut all = vec![
            delivered(&log, 1, Position(0), vec![message("a")]),
            epoch_end(&log, 2, Position(1), first.clone()),
            Delivered { epoch: Epoch(1), ..delivered(&log, 3, Position(2), vec![message(&"b".repeat(200))]) },
            epoch_end(&log, 4, Position(3), second.clone()),
        ];
        for one in &mut all {
            one.bytes = one.bytes.take().filter(|_| kept);
        }
        writer.append(all);
        let events = reader.events_after(Position(0), 10).unwrap();
        assert_eq!(events.iter().map(|event| event.position.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(events.iter().map(|event| event.epoch.0).collect::<Vec<_>>(), [0, 0, 1, 1]);
        let end = |ended: &Configuration, next: &Configuration| Content::EpochEnd {
            ended: Arc::new(ended.clone()),
            next: Box::new(next.clone()),
        };
        assert_eq!(events[1].content, end(&genesis(), &first));
        assert_eq!(events[3].content, end(&first, &second));
        match reader.recent_after(Position(0), bytes(1 << 20)) {
            Recent::Next(next) if kept && ring_bytes > 1000 => assert_eq!(next.len(), 4),
            Recent::Behind => assert!(!kept || ring_bytes < 1000),
            other => panic!("{other:?}"),
        }
        if ring_bytes == 500 {
            // The end is in memory; what it is compared with is not, and memory alone is never waited for.
            assert!(matches!(reader.recent_after(Position(3), bytes(1 << 20)), Recent::Behind));
        }
    }
}

#[test]
fn an_entry_that_changed_is_told() {
    let log = Arc::new(MemoryLog::default());
    let (mut writer, reader) = stream_with_ring(log.clone(), 0);
    let end = epoch_end(&log, 1, Position(0), configuration(1, &[1, 2, 4]));
    let other = epoch_end(&MemoryLog::default(), 1, Position(0), configuration(2, &[1, 2, 4]));
    let (location, entry) = (end.location, other.bytes.clone().unwrap());
    writer.append(vec![end]);
    let record = EntryRecord { slot: Slot(1), parent: Digest([9; 32]), entry };
    for payload in [Record::Entry(record).payload(), Bytes::from_static(b"short")] {
        log.records.lock().unwrap().insert(location, payload);
        assert!(matches!(reader.read_after(Position(0), bytes(1)), Err(ReadError::Changed { .. })));
    }
}

#[test]
#[should_panic(expected = "epochs end one after the other")]
fn an_epoch_that_ends_twice_is_a_bug() {
    let log = Arc::new(MemoryLog::default());
    let (mut writer, _reader) = stream(log.clone(), |_| ());
    let next = configuration(1, &[1, 2, 4]);
    writer.append(vec![epoch_end(&log, 1, Position(0), next.clone()), epoch_end(&log, 2, Position(1), next)]);
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
    let (mut writer, reader) = stream_with_ring(log.clone(), 600);
    for number in 1..=20 {
        writer.append(vec![delivered(&log, number, Position(number - 1), vec![message(&number.to_string())])]);
    }
    assert!(matches!(reader.recent_after(Position(0), bytes(1000)), Recent::Behind));
    assert!(matches!(reader.recent_after(Position(19), bytes(1000)), Recent::Next(batches) if batches.len() == 1));
    assert_eq!(*log.reads.lock().unwrap(), 0);
    let batches = reader.read_after(Position(0), bytes(1 << 20)).unwrap();
    assert_eq!(batches.iter().map(|batch| batch.first().0).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    let from_log = *log.reads.lock().unwrap();
    assert!(from_log > 0 && from_log < 20, "the tail came from memory: {from_log}");
}

#[test]
fn a_read_ends_when_it_has_enough_events() {
    let log = Arc::new(MemoryLog::default());
    for ring_bytes in [0, 1000] {
        let (mut writer, reader) = stream_with_ring(log.clone(), ring_bytes);
        for number in 1..=5 {
            let batch = delivered(&log, number, Position((number - 1) * 2), vec![message("a"), message("b")]);
            writer.append(vec![batch]);
        }
        for (after, events, batches) in [(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, 2), (1, 1, 1), (1, 2, 2), (1, 99, 5)] {
            let limits = ReadLimits { bytes: 10_000, events };
            assert_eq!(reader.read_after(Position(after), limits).unwrap().len(), batches, "{after} {events}");
        }
    }
}

#[test]
fn a_log_that_changed_is_told_from_one_that_fails() {
    let log = Arc::new(MemoryLog::default());
    let (mut writer, reader) = stream_with_ring(log.clone(), 0);
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
    let (mut writer, reader) = stream_with_ring(log.clone(), 1000);
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

    /// The twin is a list of texts, one for each position; the stream must agree with it for every read, whatever the ring
    /// holds. Five stands for a command, six for a command without effect, seven for an epoch's end.
    #[test]
    fn reads_agree_with_a_plain_list(
        sizes in prop::collection::vec(0usize..8, 1..60),
        in_memory in prop::collection::vec(any::<bool>(), 60),
        ring_bytes in 0usize..4000,
        reads in prop::collection::vec((0u64..150, 0usize..2000, 0usize..20), 1..20),
    ) {
        let log = Arc::new(MemoryLog::default());
        let (mut writer, reader) = stream_with_ring(log.clone(), ring_bytes);
        let mut twin: Vec<String> = Vec::new();
        let mut epoch = 0;
        for (number, (size, kept)) in (1..).zip(sizes.iter().zip(&in_memory)) {
            let last = Position(twin.len() as u64);
            let mut next = match size {
                5 | 6 => delivered(&log, number, last, vec![Command::LeaveIntent.message()]),
                7 => epoch_end(&log, number, last, configuration(epoch + 1, &[1, 2, 3])),
                _ => {
                    let messages = (0..*size).map(|index| message(&format!("{number}.{index}")));
                    delivered(&log, number, last, messages.collect())
                }
            };
            match size {
                5 => twin.push("synod.member.left".to_owned()),
                6 => next.count = 0,
                7 => {
                    twin.push(format!("{} after {epoch}", epoch + 1));
                    epoch += 1;
                }
                _ => twin.extend((0..*size).map(|index| format!("{number}.{index}"))),
            }
            next.bytes = next.bytes.filter(|_| *kept);
            writer.append(vec![next]);
        }
        prop_assert_eq!(reader.delivered(), Position(twin.len() as u64));
        for (after, bytes_max, messages_max) in reads {
            let rest = twin.get(after as usize..).unwrap_or(&[]);
            let messages = reader.events_after(Position(after), messages_max).unwrap();
            prop_assert_eq!(texts(&messages), rest[..rest.len().min(messages_max)].to_vec());
            let batches = reader.read_after(Position(after), bytes(bytes_max)).unwrap();
            prop_assert_eq!(batches.is_empty(), rest.is_empty());
            check_batches(&batches, after, rest)?;
            match reader.recent_after(Position(after), bytes(bytes_max)) {
                Recent::AtHead => prop_assert!(rest.is_empty()),
                Recent::Behind => prop_assert!(!rest.is_empty()),
                Recent::Next(batches) => check_batches(&batches, after, rest)?,
            }
        }
    }
}

/// Batches that continue `after` are a prefix of the rest of the list.
fn check_batches(batches: &[Placed], after: u64, rest: &[String]) -> Result<(), TestCaseError> {
    let messages: Vec<PlacedEvent> =
        batches.iter().flat_map(|batch| batch.events().unwrap()).filter(|message| message.position.0 > after).collect();
    prop_assert_eq!(&texts(&messages)[..], &rest[..messages.len()]);
    prop_assert!(messages.iter().zip(after + 1..).all(|(message, position)| message.position.0 == position));
    Ok(())
}
