//! The log as a whole, on files that crash, rot, fail and fill up.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use crate::types::{Digest, Sabotage};

use super::frame::{FRAME_BYTES, MARK_BYTES};
use super::segment::{HEADER_BYTES, Header, Previous, segment_name};
use super::*;

const OWNER: Digest = Digest([7; 32]);
const KIND: u8 = 1;

/// Payloads as they were handed over, and the number of records before each rot.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    payloads: Vec<Vec<u8>>,
    locations: Vec<Location>,
    rots: Vec<(usize, Rot)>,
}

impl Replay for Seen {
    fn record(&mut self, location: Location, kind: u8, payload: &[u8]) -> Result<(), Refused> {
        if kind != KIND {
            return Err(Refused(format!("kind {kind} is unknown")));
        }
        self.payloads.push(payload.to_vec());
        self.locations.push(location);
        Ok(())
    }

    fn rot(&mut self, rot: &Rot) {
        self.rots.push((self.payloads.len(), rot.clone()));
    }
}

fn settings() -> Settings {
    Settings { segment_bytes: SEGMENT_BYTES_MIN, spares: 2, sabotage: Sabotage::NONE }
}

fn try_open(files: &MemoryFiles) -> Result<(Log<MemoryFiles>, Recovered, Seen), OpenError> {
    let mut seen = Seen::default();
    let (log, recovered) = Log::open(files.clone(), settings(), OWNER, &mut seen)?;
    Ok((log, recovered, seen))
}

fn open(files: &MemoryFiles) -> (Log<MemoryFiles>, Recovered, Seen) {
    let (log, recovered, seen) = try_open(files).unwrap();
    assert_eq!(recovered.records as usize, seen.payloads.len());
    assert_eq!(recovered.rots, seen.rots.iter().map(|(_, rot)| rot.clone()).collect::<Vec<_>>());
    (log, recovered, seen)
}

fn turn(log: &mut Log<MemoryFiles>, payloads: &[&[u8]]) -> Vec<Location> {
    let locations = payloads.iter().map(|payload| log.append(KIND, payload).unwrap()).collect();
    log.sync().unwrap();
    locations
}

/// A turn that reaches the disk's cache but is not synced.
fn unsynced_turn(files: &MemoryFiles, log: &mut Log<MemoryFiles>, payloads: &[&[u8]]) {
    payloads.iter().for_each(|payload| assert!(log.append(KIND, payload).is_ok()));
    files.fail_next_sync();
    assert!(log.sync().is_err());
}

/// A log of five turns, three starts and a turn that spans segments; its payloads are all different.
fn busy_log() -> (MemoryFiles, Vec<Vec<u8>>) {
    let files = MemoryFiles::new();
    let payloads: Vec<Vec<u8>> =
        (0..14_usize).map(|number| vec![number as u8 + 1; 40 + 197 * (number % 7)]).chain([vec![99; 2000]]).collect();
    let mut first = 0;
    for turns in [&[2, 3, 5][..], &[14], &[15]] {
        let (mut log, recovered, _) = open(&files);
        assert_eq!(recovered.records as usize, first);
        for end in turns {
            turn(&mut log, &payloads[first..*end].iter().map(Vec::as_slice).collect::<Vec<_>>());
            first = *end;
        }
    }
    (files, payloads)
}

/// Whether `part` is `whole` without some of its elements.
fn is_subsequence(part: &[Vec<u8>], whole: &[Vec<u8>]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|payload| rest.any(|other| other == payload))
}

#[test]
fn records_come_back_in_order_over_starts_and_segments() {
    let (files, payloads) = busy_log();
    let (log, recovered, seen) = open(&files);
    assert_eq!(seen.payloads, payloads);
    assert_eq!((recovered.turns, recovered.last_turn, recovered.torn, recovered.segments), (5, 5, None, 4));
    assert_eq!((log.turn(), log.segments()), (6, 5));
    let headers = 4 * HEADER_BYTES;
    let frames: usize = payloads.iter().map(|payload| payload.len() + FRAME_BYTES).sum();
    assert_eq!(recovered.bytes as usize, headers + frames + 5 * MARK_BYTES);
    assert_eq!(log.bytes(), recovered.bytes + HEADER_BYTES as u64);
    for (location, payload) in seen.locations.iter().zip(&payloads) {
        assert_eq!(&log.read(*location).unwrap(), payload);
    }
}

#[test]
fn the_bytes_of_a_segment_are_frozen() {
    let files = MemoryFiles::new();
    let (mut log, ..) = open(&files);
    turn(&mut log, &[b"first"]);
    drop(log);
    let (mut log, ..) = open(&files);
    turn(&mut log, &[b"second", b""]);
    let bytes = files.contents(&segment_name(2));
    let used = HEADER_BYTES + 6 + 2 * FRAME_BYTES + MARK_BYTES;
    let text: String = bytes[..used].iter().map(|byte| format!("{byte:02x}")).collect();
    let rows: Vec<&str> = FROZEN.split_whitespace().collect();
    assert_eq!(text, rows.concat());
    assert!(bytes[used..].iter().all(|byte| *byte == 0));
}

/// Magic · versions · owner · number, salt · previous · zeros, turn, its bytes · zeros, checksum · two records · mark.
const FROZEN: &str = "
    53594e4f4457414c
    0100000000000000
    0707070707070707070707070707070707070707070707070707070707070707
    020000000000000078682a521c6f401e
    0100000000000000ab000000000000000d253c8f
    0000000002000000000000000000000000000000
    000000000000000000000000000000000000000070184fcc
    06000000017365636f6e64a4cd6449
    0000000001494f382c
    14000000ff02000000000000001800000000000000494f382cb7038322
";

#[test]
fn a_turn_costs_one_sync_and_an_empty_one_none() {
    let files = MemoryFiles::new();
    let (mut log, ..) = open(&files);
    let before = files.syncs();
    turn(&mut log, &[b"a", b"b"]);
    assert_eq!(files.syncs(), before + 1);
    log.sync().unwrap();
    assert_eq!(files.syncs(), before + 1);
    assert_eq!(log.turn(), 2);
}

#[test]
fn starts_litter_neither_spares_nor_whole_segments() {
    let files = MemoryFiles::new();
    for start in 0..20_u64 {
        let (mut log, recovered, _) = open(&files);
        assert_eq!(recovered.records, start);
        turn(&mut log, &[b"incarnation"]);
    }
    let used = HEADER_BYTES + 11 + FRAME_BYTES + MARK_BYTES;
    assert!((1..20).all(|number| files.contents(&segment_name(number)).len() == used));
    assert_eq!(files.names().iter().filter(|name| name.starts_with("spare-")).count(), 2);
}

#[test]
fn a_tail_torn_at_any_byte_leaves_a_prefix() {
    let whole = MemoryFiles::new();
    let (mut log, ..) = open(&whole);
    turn(&mut log, &[b"one", b"two"]);
    turn(&mut log, &[b"three"]);
    unsynced_turn(&whole, &mut log, &[b"four", b"five", b"six"]);
    let all: Vec<&[u8]> = vec![b"one", b"two", b"three", b"four", b"five", b"six"];
    let ends = [4 + FRAME_BYTES, 8 + 2 * FRAME_BYTES, 11 + 3 * FRAME_BYTES];
    for left in 0..=ends[2] + MARK_BYTES {
        let files = whole.fork();
        files.crash(|_| Survival::Leading(left));
        let (mut log, recovered, seen) = open(&files);
        let expected = 3 + ends.iter().filter(|end| **end <= left).count();
        assert_eq!(seen.payloads, all[..expected], "{left} bytes left");
        assert_eq!(recovered.rots, []);
        // The checksum's last bytes may be zeros by chance: then they are no loss.
        assert_eq!(recovered.torn.is_none(), left == 0 || recovered.turns == 3);
        turn(&mut log, &[b"new"]);
        let (_, again, seen) = open(&files);
        assert_eq!((seen.payloads.len(), &seen.payloads[expected][..]), (expected + 1, &b"new"[..]));
        assert_eq!((again.rots.len(), again.torn), (0, None));
    }
}

/// Record `a` of the torn turn is lost, `b` and the mark behind it are on disk whole.
fn turn_with_a_lost_beginning(sabotage: &Sabotage) -> MemoryFiles {
    let files = MemoryFiles::new();
    let settings = Settings { sabotage: sabotage.clone(), ..settings() };
    let (mut log, _) = Log::open(files.clone(), settings, OWNER, &mut Seen::default()).unwrap();
    turn(&mut log, &[&[1; 512 - HEADER_BYTES - FRAME_BYTES - MARK_BYTES]]);
    unsynced_turn(&files, &mut log, &[&[2; 512 - FRAME_BYTES], &[3; 100]]);
    files.crash(|_| Survival::Sectors(vec![false, true]));
    files
}

/// Opens, appends a record as long as the lost one, and crashes once more.
fn second_crash(files: &MemoryFiles, sabotage: &Sabotage) -> Seen {
    let settings = Settings { sabotage: sabotage.clone(), ..settings() };
    let (mut log, _) = Log::open(files.clone(), settings.clone(), OWNER, &mut Seen::default()).unwrap();
    unsynced_turn(files, &mut log, &[&[4; 512 - FRAME_BYTES]]);
    files.crash(|_| Survival::Sectors(vec![true]));
    let mut seen = Seen::default();
    Log::open(files.clone(), settings, OWNER, &mut seen).unwrap();
    seen
}

#[test]
fn cut_tail_then_second_crash_reads_nothing_old() {
    let seen = second_crash(&turn_with_a_lost_beginning(&Sabotage::NONE), &Sabotage::NONE);
    assert!(seen.rots.is_empty());
    assert!(seen.payloads.iter().all(|payload| payload[0] == 1 || payload[0] == 4), "{:?}", seen.payloads);
}

#[cfg(feature = "sabotage")]
#[test]
fn without_w1_and_the_chain_the_second_crash_reads_what_was_cut() {
    use crate::types::Rule;
    let off = Sabotage::of(&[Rule::W1, Rule::Chain]);
    let seen = second_crash(&turn_with_a_lost_beginning(&off), &off);
    assert!(seen.payloads.iter().any(|payload| payload[0] == 3));
    // Each of the two covers for the other.
    for rule in [Rule::W1, Rule::Chain] {
        let off = Sabotage::of(&[rule]);
        let seen = second_crash(&turn_with_a_lost_beginning(&off), &off);
        assert!(seen.payloads.iter().all(|payload| payload[0] != 3), "{rule}");
    }
}

#[cfg(feature = "sabotage")]
#[test]
fn without_w2_rot_is_taken_for_a_torn_tail() {
    use crate::types::Rule;
    let (files, payloads) = busy_log();
    files.flip_bit(&segment_name(1), HEADER_BYTES as u64 + 10);
    let mut seen = Seen::default();
    let settings = Settings { sabotage: Sabotage::of(&[Rule::W2]), ..settings() };
    let (_, recovered) = Log::open(files, settings, OWNER, &mut seen).unwrap();
    assert_eq!(recovered.rots, []);
    assert!(seen.payloads.len() < payloads.len());
}

#[test]
fn cut_in_older_segment_is_not_rot() {
    let files = turn_with_a_lost_beginning(&Sabotage::NONE);
    let cut = files.contents(&segment_name(1));
    let (mut log, recovered, _) = open(&files);
    let torn = recovered.torn.unwrap();
    assert_eq!(
        (torn.segment, torn.offset, torn.bytes_dropped),
        (1, 512, 512 + 100 + (FRAME_BYTES + MARK_BYTES) as u64)
    );
    turn(&mut log, &[b"behind"]);
    // Even if the file's new length never reached the disk.
    files.damage(&segment_name(1), 512, &cut[512..]);
    let (_, recovered, seen) = open(&files);
    assert_eq!((recovered.rots.len(), recovered.torn), (0, None));
    assert_eq!(seen.payloads.len(), 2);
}

#[test]
fn a_bit_flipped_anywhere_is_rot_or_torn_and_never_another_record() {
    let (whole, payloads) = busy_log();
    let last_turn_at = (segment_name(4), HEADER_BYTES as u64);
    for name in whole.names().into_iter().filter(|name| name.ends_with(".wal")) {
        let used = whole.contents(&name).iter().rposition(|byte| *byte != 0).unwrap() as u64;
        for offset in 0..=used {
            let files = whole.fork();
            files.flip_bit(&name, offset);
            let (mut log, recovered, seen) = open(&files);
            let in_last_turn = (name.clone(), offset) >= last_turn_at;
            if in_last_turn {
                assert!(recovered.rots.is_empty() && recovered.torn.is_some(), "{name} {offset}");
                assert!(payloads.starts_with(&seen.payloads) && seen.payloads.len() >= payloads.len() - 1);
            } else {
                assert!(!recovered.rots.is_empty(), "{name} {offset}");
                assert!(is_subsequence(&seen.payloads, &payloads));
                let before = seen.rots[0].0;
                assert_eq!(seen.payloads[..before], payloads[..before]);
            }
            turn(&mut log, &[b"goes on"]);
            let (_, again, mut more) = open(&files);
            assert_eq!(more.payloads.pop().unwrap(), b"goes on");
            assert_eq!(more.payloads, seen.payloads);
            assert_eq!(again.rots, recovered.rots);
        }
    }
}

#[test]
fn rot_names_the_turns_it_took() {
    let files = MemoryFiles::new();
    let (mut log, ..) = open(&files);
    let places: Vec<Location> =
        [b"one", b"two", b"thr", b"fou"].into_iter().map(|payload| turn(&mut log, &[payload])[0]).collect();
    files.flip_bit(&segment_name(1), u64::from(places[1].offset));
    let (_, recovered, seen) = open(&files);
    assert_eq!(seen.payloads, [b"one", b"thr", b"fou"]);
    assert_eq!((seen.rots[0].0, recovered.rots[0].turns), (1, Some((2, 2))));
    // Now a header names the end: the last turn is no tail any more.
    files.flip_bit(&segment_name(1), u64::from(places[3].offset));
    let (_, recovered, seen) = open(&files);
    assert_eq!(seen.payloads, [b"one", b"thr"]);
    assert_eq!(recovered.rots.iter().map(|rot| rot.turns).collect::<Vec<_>>(), [Some((2, 2)), Some((4, 4))]);
    assert_eq!(recovered.torn, None);
}

#[test]
fn lost_files_and_headers_are_rot_and_what_is_left_is_read() {
    let (whole, payloads) = busy_log();
    let records = |first: usize, last: usize| payloads[first..last].to_vec();
    let files = whole.fork();
    files.damage(&segment_name(2), 0, &[0; 64]);
    let (_, recovered, seen) = open(&files);
    assert_eq!(seen.payloads, payloads, "frames do not depend on the header's fields");
    assert_eq!((recovered.rots.len(), recovered.rots[0].turns), (1, None));

    let files = whole.fork();
    files.lose(&segment_name(1));
    let (_, recovered, seen) = open(&files);
    assert_eq!(seen.payloads, records(5, 15));
    assert_eq!(recovered.rots[0].turns, Some((1, 3)));

    let files = whole.fork();
    files.lose(&segment_name(1));
    files.lose(&segment_name(2));
    let (_, recovered, seen) = open(&files);
    assert_eq!(recovered.rots[0].turns, Some((1, 4)));
    assert!(recovered.rots[0].reason.contains("segments 1 to 2"));
    assert_eq!(seen.payloads.last(), payloads.last());
}

#[test]
fn garbage_in_place_of_any_segment_is_survived() {
    let (whole, payloads) = busy_log();
    let garbage: Vec<u8> = (0..SEGMENT_BYTES_MIN).map(|number| (number * 37 % 251) as u8).collect();
    for number in 1..=4 {
        for from in [0, 100, 128, 1000] {
            let files = whole.fork();
            files.damage(&segment_name(number), from, &garbage[from as usize..]);
            let (_, recovered, seen) = open(&files);
            assert!(is_subsequence(&seen.payloads, &payloads));
            assert!(!recovered.rots.is_empty() || (number == 4 && recovered.torn.is_some()));
        }
    }
}

#[test]
fn a_crash_after_any_change_loses_nothing_synced() {
    let survivals =
        [Survival::Nothing, Survival::All, Survival::Leading(300), Survival::Sectors(vec![false, true, true])];
    for survival in &survivals {
        for changes in 0.. {
            let files = MemoryFiles::new();
            files.halt_after(changes);
            let mut synced = Vec::new();
            let finished = run_until_halted(&files, &mut synced);
            files.crash(|_| survival.clone());
            let (_, recovered, seen) = open(&files);
            assert_eq!(recovered.rots, [], "{changes} changes, {survival:?}");
            assert!(seen.payloads.starts_with(&synced), "{changes} changes, {survival:?}");
            assert!(seen.payloads.iter().zip(1..).all(|(payload, number)| payload[0] == number));
            if finished {
                break;
            }
        }
    }
}

/// Starts three times, with turns over up to three segments; false if it was halted on the way.
fn run_until_halted(files: &MemoryFiles, synced: &mut Vec<Vec<u8>>) -> bool {
    for _ in 0..3 {
        let Ok((mut log, ..)) = try_open(files) else { return false };
        for records in [1, 9, 2] {
            let first = synced.len();
            let payloads: Vec<Vec<u8>> = (1..=records).map(|number| vec![(first + number) as u8; 900]).collect();
            if payloads.iter().any(|payload| log.append(KIND, payload).is_err()) || log.sync().is_err() {
                return false;
            }
            synced.extend(payloads);
        }
    }
    true
}

#[test]
fn a_segment_that_was_never_begun_is_made_anew() {
    for header in [&[][..], &b"SYNOD"[..]] {
        let files = MemoryFiles::new();
        let (mut log, ..) = open(&files);
        turn(&mut log, &[b"one"]);
        drop(log);
        files.clone().create(&segment_name(2), SEGMENT_BYTES_MIN).unwrap();
        files.damage(&segment_name(2), 0, header);
        let (mut log, recovered, seen) = open(&files);
        assert_eq!((seen.payloads.len(), recovered.rots.len(), recovered.segments), (1, 0, 1));
        assert_eq!(turn(&mut log, &[b"two"])[0].segment, 2);
        assert_eq!(open(&files).2.payloads, [b"one", b"two"]);
    }
}

#[test]
fn a_failed_write_or_sync_poisons_the_log() {
    for fail in [MemoryFiles::fail_next_write, MemoryFiles::fail_next_sync] {
        let files = MemoryFiles::new();
        let (mut log, ..) = open(&files);
        turn(&mut log, &[b"one"]);
        log.append(KIND, b"two").unwrap();
        fail(&files);
        let error = log.sync().unwrap_err();
        assert!(matches!(&error, LogError::Failed { name, .. } if *name == segment_name(1)));
        let syncs = files.syncs();
        assert_eq!(log.sync(), Err(error.clone()));
        assert_eq!(log.append(KIND, b"three"), Err(error));
        assert_eq!(files.syncs(), syncs, "nothing is tried again");
    }
}

#[test]
fn a_full_disk_is_told_and_recovers_by_itself() {
    let files = MemoryFiles::new();
    files.limit(Some(4 * SEGMENT_BYTES_MIN));
    let (mut log, ..) = open(&files);
    assert_eq!(log.disk_full(), None);
    let payload = [5; 1000];
    let mut appended = 0;
    let full = loop {
        match log.append(KIND, &payload) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
        log.sync().unwrap();
        if log.disk_full().is_some() {
            assert!(log.room() < SEGMENT_BYTES_MIN / 2);
        }
    };
    assert!(matches!(full, LogError::Full { .. }));
    assert!(log.disk_full().is_some());
    assert_eq!(appended, 4 * 3, "all four segments were used");
    files.limit(None);
    assert_eq!(log.disk_full(), None);
    assert!(log.room() > SEGMENT_BYTES_MIN);
    turn(&mut log, &[&payload]);
    assert_eq!(open(&files).2.payloads.len(), appended + 1);
}

#[test]
fn a_record_that_fits_no_segment_is_refused() {
    let files = MemoryFiles::new();
    let (mut log, ..) = open(&files);
    let max = log.payload_bytes_max();
    let long = vec![1; max + 1];
    assert_eq!(log.append(KIND, &long), Err(LogError::TooLong { bytes: max + 1, max }));
    turn(&mut log, &[b"short", &long[1..], &long[1..]]);
    assert_eq!(open(&files).2.payloads.len(), 3);
}

#[test]
fn what_is_not_this_log_is_refused_by_name() {
    let files = MemoryFiles::new();
    let (mut log, ..) = open(&files);
    turn(&mut log, &[b"one"]);
    let other = Log::open(files.clone(), settings(), Digest([8; 32]), &mut Seen::default());
    assert!(matches!(other.err(), Some(OpenError::Owner { segment: 1, found: OWNER, .. })));
    let header = Header::new(OWNER, Previous::default(), 1, 0);
    for (format, rules) in [(2, 0), (1, 1)] {
        let (bytes, _) = Header { format, rules, ..header.clone() }.encode();
        files.damage(&segment_name(1), 0, &bytes);
        let error = try_open(&files).err().unwrap();
        assert!(matches!(error, OpenError::Format { found: 2, .. } | OpenError::Rules { found: 1, .. }), "{error}");
    }
    for (segment_bytes, spares) in [(SEGMENT_BYTES_MIN - 1, 2), (SEGMENT_BYTES_MAX + 1, 2), (SEGMENT_BYTES_MIN, 0)] {
        let settings = Settings { segment_bytes, spares, sabotage: Sabotage::NONE };
        let opened = Log::open(MemoryFiles::new(), settings, OWNER, &mut Seen::default());
        assert!(matches!(opened.err(), Some(OpenError::Setting { .. })));
    }
}

#[test]
fn a_refused_record_ends_the_opening() {
    let files = MemoryFiles::new();
    let (mut log, ..) = open(&files);
    log.append(KIND + 1, b"strange").unwrap();
    log.sync().unwrap();
    let error = try_open(&files).err().unwrap();
    assert!(matches!(&error, OpenError::Refused { kind: 2, .. }) && error.to_string().contains("kind 2 is unknown"));
}

#[test]
fn records_are_read_by_location_and_verified() {
    let files = MemoryFiles::new();
    let (mut log, ..) = open(&files);
    let synced = turn(&mut log, &[b"one", b"two"]);
    let reader = log.reader();
    let third = log.append(KIND, b"three").unwrap();
    assert_eq!(log.read(third).unwrap(), b"three");
    assert!(matches!(reader.read(third), Err(ReadError::Damaged(_))), "not yet written");
    assert_eq!(log.read(synced[1]).unwrap(), b"two");
    let elsewhere = std::thread::spawn({
        let (reader, first) = (reader.clone(), synced[0]);
        move || reader.read(first).unwrap()
    });
    assert_eq!(elsewhere.join().unwrap(), b"one");
    for (offset, length) in [(0, 3), (synced[0].offset + 1, 3), (synced[0].offset, 2), (u32::MAX, 3), (200, u32::MAX)] {
        assert!(matches!(reader.read(Location { segment: 1, offset, length }), Err(ReadError::Damaged(_))));
        assert!(log.read(Location { segment: 1, offset, length }).is_err());
    }
    assert!(matches!(reader.read(Location { segment: 9, ..third }), Err(ReadError::Read { .. })));
    files.flip_bit(&segment_name(1), u64::from(synced[0].offset));
    assert!(matches!(reader.read(synced[0]), Err(ReadError::Damaged(_))));
}

#[test]
fn inspecting_finds_the_same_and_changes_nothing() {
    let (files, _) = busy_log();
    files.flip_bit(&segment_name(1), HEADER_BYTES as u64);
    let before: Vec<_> = files.names().into_iter().map(|name| (files.contents(&name), name)).collect();
    let mut inspected = Seen::default();
    let found = inspect(files.clone(), &mut inspected).unwrap();
    assert_eq!(files.names().into_iter().map(|name| (files.contents(&name), name)).collect::<Vec<_>>(), before);
    let (_, recovered, seen) = open(&files);
    assert_eq!((recovered, seen), (found, inspected));
    assert_eq!(inspect(MemoryFiles::new(), &mut Seen::default()).unwrap(), Recovered::default());
}

#[test]
fn a_log_on_disk_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wal");
    let missing = inspect(DiskFiles::new(&path), &mut Seen::default());
    assert!(matches!(missing, Err(OpenError::Folder(_))));
    for start in 0..3 {
        let mut seen = Seen::default();
        let (mut log, recovered) = Log::open(DiskFiles::new(&path), settings(), OWNER, &mut seen).unwrap();
        assert_eq!((recovered.records, recovered.torn, recovered.rots.len()), (start * 10, None, 0));
        for number in 0..10 {
            let location = log.append(KIND, &[number; 1000]).unwrap();
            log.sync().unwrap();
            assert_eq!(log.reader().read(location).unwrap(), [number; 1000]);
        }
        assert!(seen.locations.iter().all(|location| log.read(*location).unwrap().len() == 1000));
    }
    let found = inspect(DiskFiles::new(&path), &mut Seen::default()).unwrap();
    assert_eq!((found.records, found.turns), (30, 30));
    assert!(std::fs::read_dir(&path).unwrap().all(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.ends_with(".wal") || name.starts_with("spare-") && !name.ends_with(".unfinished")
    }));
}

#[test]
fn spares_on_disk_are_made_in_the_background() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = DiskFiles::new(folder.path());
    files.prepare("spare-0", 3 << 20);
    let (name, made) = std::iter::repeat_with(|| files.prepared()).flatten().next().unwrap();
    made.unwrap();
    assert_eq!((name.as_str(), files.open(&name).unwrap().size().unwrap()), ("spare-0", 3 << 20));
    let mut files = DiskFiles::new(folder.path().join("spare-0"));
    files.prepare("spare-1", 10);
    let (_, made) = std::iter::repeat_with(|| files.prepared()).flatten().next().unwrap();
    assert!(made.is_err(), "a file is no folder");
}

/// One step of the random test.
#[derive(Clone, Debug)]
enum Step {
    Append(u8, usize),
    Sync,
    /// The process ends after so many more changes of files; the seed says what survives.
    Crash(u64, u64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (any::<u8>(), 0..1500_usize).prop_map(|(byte, length)| Step::Append(byte, length)),
        4 => Just(Step::Sync),
        1 => (0..6_u64, any::<u64>()).prop_map(|(changes, seed)| Step::Crash(changes, seed)),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The slow obvious twin: what must be there, and what may follow it.
#[derive(Default)]
struct Twin {
    durable: Vec<Vec<u8>>,
    pending: Vec<Vec<u8>>,
}

impl Twin {
    fn sync(&mut self) {
        self.durable.append(&mut self.pending);
    }

    /// Checks what a start found, and takes it for the truth from then on.
    fn start(&mut self, recovered: &Recovered, seen: &Seen) {
        let all = [self.durable.as_slice(), &self.pending].concat();
        assert_eq!(recovered.rots, []);
        assert!(seen.payloads.len() >= self.durable.len(), "synced records are missing");
        assert!(all.starts_with(&seen.payloads), "not a prefix of what was appended");
        self.durable = seen.payloads.clone();
        self.pending.clear();
    }
}

/// Some of the sectors, or some leading bytes; never asks twice for the same.
fn survival(seed: &AtomicU64) -> Survival {
    let draw = || seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20;
    match draw() % 4 {
        0 => Survival::Nothing,
        1 => Survival::All,
        2 => Survival::Leading(draw() as usize % 3000),
        _ => Survival::Sectors((0..10).map(|_| draw() % 2 == 0).collect()),
    }
}

/// Lets the log work, or try to start again, until the changes that are left are used up; then the machine stops.
fn crash(files: &MemoryFiles, log: &mut Log<MemoryFiles>, twin: &mut Twin, changes: u64, seed: u64) {
    let seed = AtomicU64::new(seed);
    files.halt_after(changes);
    if log.sync().is_ok() {
        twin.sync();
    }
    if let Ok((_, recovered, seen)) = try_open(files) {
        twin.start(&recovered, &seen);
    }
    files.crash(|_| survival(&seed));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_agrees_with_its_twin(steps in steps()) {
        let files = MemoryFiles::new();
        let mut twin = Twin::default();
        let (mut log, ..) = open(&files);
        for step in steps.into_iter().chain([Step::Restart]) {
            match step {
                Step::Append(byte, length) => {
                    log.append(KIND, &vec![byte; length]).unwrap();
                    twin.pending.push(vec![byte; length]);
                }
                Step::Sync => {
                    log.sync().unwrap();
                    twin.sync();
                }
                Step::Restart => {}
                Step::Crash(changes, seed) => crash(&files, &mut log, &mut twin, changes, seed),
            }
            if matches!(step, Step::Restart | Step::Crash(..)) {
                let (opened, recovered, seen) = open(&files);
                twin.start(&recovered, &seen);
                log = opened;
            }
        }
    }

    #[test]
    fn any_damage_leaves_a_subsequence(places in proptest::collection::vec((1..5_u64, 0..4096_u64, 1..600_usize, any::<u8>()), 1..4)) {
        let (files, payloads) = busy_log();
        for (segment, offset, length, byte) in places {
            let name = segment_name(segment);
            let room = (files.contents(&name).len() as u64).saturating_sub(offset) as usize;
            files.damage(&name, offset, &vec![byte; length.min(room)]);
        }
        let (mut log, recovered, seen) = open(&files);
        prop_assert!(is_subsequence(&seen.payloads, &payloads));
        let before = seen.rots.first().map_or(seen.payloads.len(), |(before, _)| *before);
        prop_assert_eq!(&seen.payloads[..before], &payloads[..before]);
        prop_assert!(!recovered.rots.is_empty() || seen.payloads.len() >= payloads.len() - 1);
        turn(&mut log, &[b"goes on"]);
        let (_, again, more) = open(&files);
        prop_assert_eq!(&more.payloads[..seen.payloads.len()], &seen.payloads[..]);
        prop_assert_eq!(again.rots, recovered.rots);
    }
}
