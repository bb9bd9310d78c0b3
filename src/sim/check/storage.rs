//! What is durable on one member's disk, read from the bytes of its syncs and not from what the member believes.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{Batch, BatchRef, Digest, Location, MessageId, Record, Rule, Sabotage};

/// The records of one disk, as they become durable.
pub struct Storage {
    /// Whether checksums are chained: not where that rule is switched off.
    chained: bool,
    segments: BTreeMap<String, Segment>,
    batches: BTreeMap<Location, BatchRef>,
    /// The digest of each entry's bytes.
    entries: BTreeMap<Location, Digest>,
    digests: BTreeSet<Digest>,
    /// First and last message number of each own or foreign batch, by its origin, incarnation and first message.
    messages: BTreeMap<MessageId, u64>,
    records: Vec<Placed>,
    /// How many records there were at each end of a turn, or of a segment.
    turns: BTreeSet<usize>,
    /// Records up to the last mark.
    marked: usize,
    /// Records that a later mark or header proves to be synced.
    proven: usize,
}

/// A durable record: where, and which kind.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// Where its payload is.
    pub location: Location,
    /// Its kind byte.
    pub kind: u8,
}

#[derive(Default)]
struct Segment {
    /// Everything before this offset has been read.
    read: u64,
    /// Durable bytes from there on that are not a whole frame yet.
    rest: Vec<u8>,
}

/// As drawn in the documentation of [`crate::wal`].
const HEADER_BYTES: usize = 128;
const HEAD_BYTES: usize = 5;
const CHECKSUM_BYTES: usize = 4;
const KIND_MARK: u8 = 255;

impl Storage {
    /// A disk without records, of a member that upholds these rules.
    pub fn new(sabotage: &Sabotage) -> Storage {
        Storage {
            chained: sabotage.upholds(Rule::Chain),
            segments: BTreeMap::new(),
            batches: BTreeMap::new(),
            entries: BTreeMap::new(),
            digests: BTreeSet::new(),
            messages: BTreeMap::new(),
            records: Vec::new(),
            turns: BTreeSet::new(),
            marked: 0,
            proven: 0,
        }
    }

    /// Some bytes of a segment are durable. `contents` reads what a file holds. Returns the records that are durable
    /// now and were not before, in the log's order; the error says what nobody should find in a log.
    pub fn durable(
        &mut self,
        file: &str,
        offset: u64,
        bytes: &[u8],
        contents: impl Fn(&str) -> Vec<u8>,
    ) -> Result<Vec<(Location, Record)>, String> {
        let mut found = Vec::new();
        if offset == 0 && bytes.len() >= HEADER_BYTES {
            self.end_previous(bytes, &contents, &mut found)?;
        }
        let segment = self.segments.entry(file.to_owned()).or_default();
        let expected = segment.read + segment.rest.len() as u64;
        if offset > expected {
            let whole = contents(file);
            let gap = whole.get(expected as usize..offset as usize).ok_or("a write beyond the file's end")?;
            segment.rest.extend_from_slice(gap);
        } else if offset < expected {
            segment.rest.clear();
            segment.read = offset;
        }
        segment.rest.extend_from_slice(bytes);
        self.read_frames(file, &mut found)?;
        Ok(found)
    }

    /// Everything in a segment is durable. Whatever of it verifies is read; returns what was not durable before.
    pub fn settled(&mut self, file: &str, contents: &[u8]) -> Result<Vec<(Location, Record)>, String> {
        let mut found = Vec::new();
        if !file.ends_with(".wal") {
            return Ok(found);
        }
        let segment = self.segments.entry(file.to_owned()).or_default();
        let from = segment.read as usize;
        let end = verified(contents, from, self.chained);
        if end > from {
            segment.rest = contents[from..end].to_vec();
            self.read_frames(file, &mut found)?;
        }
        self.segments.get_mut(file).expect("it was just looked at").rest.clear();
        Ok(found)
    }

    /// Every durable record, in the log's order.
    pub fn placed(&self) -> &[Placed] {
        &self.records
    }

    /// Every record whose damage can be told from a torn tail, in the log's order (rule W2).
    pub fn proven(&self) -> &[Placed] {
        &self.records[..self.proven]
    }

    /// The number of the first record behind the turn that record number `index` belongs to: damage is read over up to
    /// there.
    pub fn turn_end(&self, index: usize) -> usize {
        self.turns.range(index + 1..).next().copied().unwrap_or(self.records.len())
    }

    /// The batch whose bytes are at this place.
    pub fn batch_at(&self, location: &Location) -> Option<&BatchRef> {
        self.batches.get(location)
    }

    /// The digest of the entry whose record is at this place.
    pub fn entry_at(&self, location: &Location) -> Option<Digest> {
        self.entries.get(location).copied()
    }

    /// Whether a batch's bytes are here.
    pub fn holds_batch(&self, digest: &Digest) -> bool {
        self.digests.contains(digest)
    }

    /// Whether a message's batch is here.
    pub fn holds_message(&self, id: &MessageId) -> bool {
        let before = self.messages.range(..=*id).next_back();
        before.is_some_and(|(first, last)| {
            first.member == id.member && first.incarnation == id.incarnation && id.number.0 <= *last
        })
    }

    /// A new segment's header names where the one before it ends: up to there it is durable, whatever was synced.
    fn end_previous(
        &mut self,
        header: &[u8],
        contents: &impl Fn(&str) -> Vec<u8>,
        found: &mut Vec<(Location, Record)>,
    ) -> Result<(), String> {
        let number = u64::from_le_bytes(header[64..72].try_into().expect("eight bytes"));
        let length = u64::from_le_bytes(header[72..80].try_into().expect("eight bytes"));
        if number == 0 {
            return Ok(());
        }
        let name = format!("{number:020}.wal");
        let segment = self.segments.entry(name.clone()).or_default();
        let expected = segment.read + segment.rest.len() as u64;
        if length > expected {
            let whole = contents(&name);
            let more = whole.get(expected as usize..length as usize).ok_or("a valid length beyond the file's end")?;
            segment.rest.extend_from_slice(more);
        } else {
            segment.rest.truncate(length.saturating_sub(segment.read) as usize);
        }
        self.read_frames(&name, found)?;
        self.marked = self.records.len();
        self.proven = self.records.len();
        self.turns.insert(self.marked);
        Ok(())
    }

    fn read_frames(&mut self, file: &str, found: &mut Vec<(Location, Record)>) -> Result<(), String> {
        let segment = self.segments.get_mut(file).expect("it was just written");
        let number = file.trim_end_matches(".wal").parse().map_err(|_| format!("{file} is no segment"))?;
        let mut at = 0;
        if segment.read == 0 {
            if segment.rest.len() < HEADER_BYTES {
                return Ok(());
            }
            at = HEADER_BYTES;
        }
        let mut placed = Vec::new();
        let mut marks = Vec::new();
        while let Some(head) = segment.rest.get(at..at + HEAD_BYTES) {
            let length = u32::from_le_bytes(head[..4].try_into().expect("four bytes")) as usize;
            let kind = head[4];
            let start = at + HEAD_BYTES;
            let Some(payload) = segment.rest.get(start..start + length) else { break };
            if segment.rest.len() < start + length + CHECKSUM_BYTES || kind == 0 {
                break;
            }
            at = start + length + CHECKSUM_BYTES;
            if kind == KIND_MARK {
                marks.push(placed.len());
                continue;
            }
            let offset = (segment.read + start as u64) as u32;
            let location = Location { segment: number, offset, length: length as u32 };
            let record = Record::read(kind, payload).map_err(|error| error.to_string())?;
            placed.push((location, record));
        }
        segment.read += at as u64;
        segment.rest.drain(..at);
        let before = self.records.len();
        for (location, record) in placed {
            self.place(location, &record)?;
            found.push((location, record));
        }
        for mark in marks {
            self.proven = self.marked;
            self.marked = before + mark;
            self.turns.insert(self.marked);
        }
        Ok(())
    }

    fn place(&mut self, location: Location, record: &Record) -> Result<(), String> {
        self.records.push(Placed { location, kind: record.kind() });
        if let Record::Entry(entry) = record {
            self.entries.insert(location, Digest::of("entry", &entry.entry));
        }
        if let Record::Batch(bytes) = record {
            let batch = Batch::recall(bytes.clone()).map_err(|error| error.to_string())?;
            self.batches.insert(location, batch.reference());
            self.digests.insert(batch.digest);
            if batch.header.count > 0 {
                let last = batch.header.message_id(batch.header.count - 1).number.0;
                self.messages.insert(batch.header.message_id(0), last);
            }
        }
        Ok(())
    }
}

/// Where the frames end that verify, one after the other, from offset `from` of a segment on. Where checksums are not
/// chained, zeros stand for the frame before.
fn verified(segment: &[u8], from: usize, chained: bool) -> usize {
    let Some(salt) = segment.get(56..64) else { return from };
    let mut at = from.max(HEADER_BYTES);
    while let Some(head) = segment.get(at..at + HEAD_BYTES) {
        let length = u32::from_le_bytes(head[..4].try_into().expect("four bytes")) as usize;
        let end = at + HEAD_BYTES + length;
        let Some(stored) = segment.get(end..end + CHECKSUM_BYTES) else { break };
        let offset = (at as u32).to_le_bytes();
        let first = match head[4] {
            KIND_MARK => &offset,
            _ if chained => &segment[at - CHECKSUM_BYTES..at],
            _ => &[0; 4],
        };
        let mut hasher = crc32fast::Hasher::new();
        [first, salt, &segment[at..end]].iter().for_each(|part| hasher.update(part));
        if head[4] == 0 || hasher.finalize().to_le_bytes() != stored {
            break;
        }
        at = end + CHECKSUM_BYTES;
    }
    if at > HEADER_BYTES { at } else { from }
}
