//! Reads a log from its beginning and tells a torn tail from rot (W2). Changes nothing.

use std::fmt;

use crate::types::{Digest, Rule, Sabotage};

use super::error::{OpenError, Refused};
use super::files::{Files, ReadFiles};
use super::frame::{
    CHECKSUM_BYTES, FRAME_BYTES, HEAD_BYTES, KIND_MARK, KIND_NONE, MARK_BYTES, Mark, Seal, length_of, may_be_mark,
    u32_at,
};
use super::segment::{FORMAT_VERSION, HEADER_BYTES, Header, Previous, segment_name, segment_number};
use super::window::Window;
use super::{Location, RECORD_PAYLOAD_BYTES_MAX, RULES_VERSION, SEGMENT_BYTES_MAX};

/// Damage is searched for marks, and zeros are skipped, in blocks of this many bytes.
const BLOCK_BYTES: u64 = 4096;

/// Takes what recovery finds, record by record, in the order of the log. Nothing of it is kept in memory here.
pub trait Replay {
    /// One record. A refusal ends the reading.
    fn record(&mut self, location: Location, kind: u8, payload: &[u8]) -> Result<(), Refused>;

    /// Here records of at least one synced turn are (or, if only a header is damaged, may be) missing. All records before
    /// were handed over; what follows comes after.
    fn rot(&mut self, rot: &Rot);
}

/// A region of the log whose sync had returned, and that does not verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rot {
    /// The segment.
    pub segment: u64,
    /// Offset of the first byte that does not verify.
    pub from: u64,
    /// Offset from which the log is read again.
    pub to: u64,
    /// First and last turn of which records are lost; `None` if that is not known.
    pub turns: Option<(u64, u64)>,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Rot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {}, bytes {}..{}: {}", self.segment, self.from, self.to, self.reason)?;
        match self.turns {
            Some((first, last)) if first == last => write!(f, "; turn {first} is lost in part or whole"),
            Some((first, last)) => write!(f, "; turns {first} to {last} are lost in part or whole"),
            None => write!(f, "; which turns are lost is not known"),
        }
    }
}

/// The unfinished end of a turn whose sync never returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The last segment.
    pub segment: u64,
    /// Where its valid part ends.
    pub offset: u64,
    /// Bytes from there to the last one that is not zero.
    pub bytes_dropped: u64,
}

/// What recovery found, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Records that were handed over.
    pub records: u64,
    /// Turns whose marks were read.
    pub turns: u64,
    /// Number of the last turn whose mark was read.
    pub last_turn: u64,
    /// Valid bytes: headers, records and marks.
    pub bytes: u64,
    /// Segments that exist and were begun.
    pub segments: u64,
    /// The torn tail, if there was one.
    pub torn: Option<Torn>,
    /// All rot, in the order of the log.
    pub rots: Vec<Rot>,
}

/// Reads the log without changing anything; the owner is learnt from its headers. While a member runs, the turn that it
/// is just writing looks torn.
pub fn inspect<F: Files>(mut files: F, replay: &mut impl Replay) -> Result<Recovered, OpenError> {
    let names = files.list().map_err(OpenError::Folder)?;
    Ok(read_all(files.reader(), &names, None, &Sabotage::NONE, replay)?.recovered)
}

/// What the writer needs to know.
pub(super) struct Outcome {
    pub recovered: Recovered,
    pub end: End,
    /// A segment that was never begun; it has to be made anew.
    pub unfinished: Option<u64>,
}

/// Where the log ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct End {
    /// Number 0: there is no log yet.
    pub last: Previous,
    /// The last turn whose mark was read, and bytes of valid records behind it.
    pub turn: u64,
    pub turn_bytes: u64,
}

/// Replays the segments among `names`.
pub(super) fn read_all<R: ReadFiles>(
    reader: R,
    names: &[String],
    owner: Option<Digest>,
    sabotage: &Sabotage,
    replay: &mut impl Replay,
) -> Result<Outcome, OpenError> {
    let mut found = survey(&reader, names, owner)?;
    let owner = owner.or_else(|| found.iter().find_map(|segment| Some(segment.header.as_ref().ok()?.owner)));
    let Some(owner) = owner else {
        return if found.is_empty() { Ok(Outcome::nothing()) } else { Err(OpenError::NoHeader) };
    };
    let mut scan = Scan::new(reader, owner, sabotage, replay);
    let unfinished = scan.take_unfinished(&mut found)?;
    for (index, segment) in found.iter().enumerate() {
        scan.segment(segment, Limit::of(found.get(index + 1)))?;
    }
    let (mut recovered, end) = (scan.recovered, scan.end);
    recovered.segments = found.iter().filter(|segment| !segment.missing).count() as u64;
    recovered.last_turn = end.turn;
    Ok(Outcome { recovered, end, unfinished })
}

impl Outcome {
    fn nothing() -> Outcome {
        Outcome { recovered: Recovered::default(), end: End::default(), unfinished: None }
    }
}

/// A segment as the first look finds it, or a row of missing ones.
pub(super) struct Found {
    pub number: u64,
    /// The last of a row of missing ones; else `number`.
    pub through: u64,
    pub missing: bool,
    pub size: u64,
    pub header: Result<Header, &'static str>,
}

/// Reads all headers. One of another owner, format or rules version ends it.
pub(super) fn survey<R: ReadFiles>(
    reader: &R,
    names: &[String],
    owner: Option<Digest>,
) -> Result<Vec<Found>, OpenError> {
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    let mut found = Vec::with_capacity(numbers.len());
    let mut expected = 1;
    let mut owner = owner;
    for number in numbers {
        if number > expected {
            let header = Err("its file is missing");
            found.push(Found { number: expected, through: number - 1, missing: true, size: 0, header });
        }
        let (size, header) = look(reader, number)?;
        if let Ok(header) = &header {
            admit(header, number, *owner.get_or_insert(header.owner))?;
        }
        found.push(Found { number, through: number, missing: false, size, header });
        expected = number.saturating_add(1);
    }
    Ok(found)
}

fn look<R: ReadFiles>(reader: &R, number: u64) -> Result<(u64, Result<Header, &'static str>), OpenError> {
    let name = segment_name(number);
    let unreadable = |error| OpenError::Read { name: name.clone(), offset: 0, error };
    let size = reader.size(&name).map_err(unreadable)?.min(SEGMENT_BYTES_MAX);
    if size < HEADER_BYTES as u64 {
        return Ok((size, Err("its file is shorter than a header")));
    }
    let mut bytes = [0; HEADER_BYTES];
    reader.read_at(&name, &mut bytes, 0).map_err(unreadable)?;
    Ok((size, Header::decode(&bytes, number)))
}

fn admit(header: &Header, segment: u64, expected: Digest) -> Result<(), OpenError> {
    if header.format != FORMAT_VERSION {
        return Err(OpenError::Format { segment, found: header.format });
    }
    if header.rules != RULES_VERSION {
        return Err(OpenError::Rules { segment, found: header.rules });
    }
    if header.owner != expected {
        return Err(OpenError::Owner { segment, found: header.owner, expected });
    }
    Ok(())
}

/// How far a segment must be valid.
#[derive(Clone, Copy)]
enum Limit {
    /// It is the last: nothing says so but marks.
    Last,
    /// The next header names its length; `through` is the last turn that has records below it.
    Named { length: u64, checksum: u32, through: u64 },
    /// There is a next segment, but its header is damaged or missing.
    Unknown,
}

impl Limit {
    fn of(next: Option<&Found>) -> Limit {
        let Some(next) = next else { return Limit::Last };
        let Ok(header) = &next.header else { return Limit::Unknown };
        let through = if header.turn_bytes > 0 { header.turn } else { header.turn - 1 };
        Limit::Named { length: header.previous.length, checksum: header.previous.checksum, through }
    }
}

/// What lies behind a place where reading stopped.
#[derive(Default)]
struct Behind {
    /// The first mark of a later turn than the last one read: its end, itself, its checksum.
    mark: Option<(u64, Mark, u32)>,
    /// There is a mark whose turn comes after the one that is damaged.
    later_turn: bool,
    /// Offset behind the last byte that is not zero.
    used: Option<u64>,
}

struct Scan<'a, R, P> {
    window: Window<R>,
    owner: Digest,
    sabotage: &'a Sabotage,
    replay: &'a mut P,
    recovered: Recovered,
    end: End,
    /// Whether `end.turn` and `end.turn_bytes` are known to be where this segment began.
    turn_known: bool,
    bytes_known: bool,
}

impl<'a, R: ReadFiles, P: Replay> Scan<'a, R, P> {
    fn new(reader: R, owner: Digest, sabotage: &'a Sabotage, replay: &'a mut P) -> Scan<'a, R, P> {
        let (window, recovered, end) = (Window::new(reader), Recovered::default(), End::default());
        Scan { window, owner, sabotage, replay, recovered, end, turn_known: true, bytes_known: true }
    }

    /// A last segment whose header does not verify and that is zero behind it was never begun: headers are durable
    /// before frames.
    fn take_unfinished(&mut self, found: &mut Vec<Found>) -> Result<Option<u64>, OpenError> {
        let Some(Found { number, size, header: Err(_), .. }) = found.last() else { return Ok(None) };
        let (number, size) = (*number, *size);
        self.window.turn_to(segment_name(number), size);
        let used = self.used_until(0, size)?;
        if used > HEADER_BYTES as u64 {
            return Ok(None);
        }
        found.pop();
        if used > 0 {
            self.recovered.torn = Some(Torn { segment: number, offset: 0, bytes_dropped: used });
        }
        Ok(Some(number))
    }

    /// Reads one segment, through all its damage.
    fn segment(&mut self, segment: &Found, limit: Limit) -> Result<(), OpenError> {
        self.window.turn_to(segment_name(segment.number), segment.size);
        if segment.size < HEADER_BYTES as u64 {
            self.lost_whole(segment, limit);
            return Ok(());
        }
        self.enter(segment)?;
        let seal = Seal::of(&self.owner, segment.number, self.sabotage);
        let end = match limit {
            Limit::Named { length, .. } => segment.size.min(length),
            Limit::Last | Limit::Unknown => segment.size,
        };
        loop {
            let stop = self.frames(seal, segment.number, end)?;
            if let Limit::Named { length, checksum, .. } = limit
                && (self.end.last.length, self.end.last.checksum) == (length, checksum)
            {
                return Ok(());
            }
            let behind = self.look_behind(seal, end, matches!(limit, Limit::Named { .. }))?;
            if !self.pass(stop, behind, limit) {
                return Ok(());
            }
        }
    }

    /// A segment of which not even a header is there.
    fn lost_whole(&mut self, segment: &Found, limit: Limit) {
        let first = self.end.turn + 1;
        let (to, turns) = match limit {
            Limit::Named { length, through, .. } => (length, Some((first, through.max(first)))),
            Limit::Last | Limit::Unknown => (segment.size, None),
        };
        let reason = match segment.through - segment.number {
            0 => segment.header.as_ref().expect_err("without its bytes there is no header").to_string(),
            _ => format!("segments {} to {} are missing", segment.number, segment.through),
        };
        self.report(Rot { segment: segment.number, from: 0, to, turns, reason });
        self.end.last = Previous { number: segment.through, length: 0, checksum: 0 };
        (self.turn_known, self.bytes_known) = (false, false);
    }

    /// Goes behind the header.
    fn enter(&mut self, segment: &Found) -> Result<(), OpenError> {
        let length = HEADER_BYTES as u64;
        let checksum = u32_at(self.window.bytes(length - CHECKSUM_BYTES as u64, CHECKSUM_BYTES)?, 0);
        self.end.last = Previous { number: segment.number, length, checksum };
        match &segment.header {
            Ok(header) => {
                (self.end.turn, self.end.turn_bytes) = (header.turn - 1, header.turn_bytes);
                (self.turn_known, self.bytes_known) = (true, true);
                self.recovered.bytes += length;
            }
            Err(reason) => {
                let reason = (*reason).to_owned();
                self.report(Rot { segment: segment.number, from: 0, to: length, turns: None, reason });
                (self.turn_known, self.bytes_known) = (false, false);
            }
        }
        Ok(())
    }

    /// Hands over frames as long as they verify; says what stopped it.
    fn frames(&mut self, seal: Seal, segment: u64, end: u64) -> Result<&'static str, OpenError> {
        loop {
            let at = self.end.last.length;
            let room = end.saturating_sub(at);
            if room < FRAME_BYTES as u64 {
                return Ok("the file ends too early");
            }
            let head = self.window.bytes(at, HEAD_BYTES)?;
            let (length, kind) = (length_of(head), head[4]);
            if kind == KIND_NONE {
                return Ok("no frame begins here");
            }
            if length > RECORD_PAYLOAD_BYTES_MAX || (length + FRAME_BYTES) as u64 > room {
                return Ok("a frame's length is impossible");
            }
            let frame = self.window.bytes(at, length + FRAME_BYTES)?;
            if kind == KIND_MARK {
                let Some((mark, checksum)) = seal.verify_mark(frame, at) else {
                    return Ok("a mark does not verify");
                };
                if !self.expects(seal, &mark) {
                    return Ok("a mark does not belong to the turn before it");
                }
                self.finish_turn(at + MARK_BYTES as u64, &mark, checksum);
                self.recovered.bytes += MARK_BYTES as u64;
                continue;
            }
            let Some(checksum) = seal.verify_record(frame, self.end.last.checksum) else {
                return Ok("a record does not verify");
            };
            let location = Location { segment, offset: at as u32 + HEAD_BYTES as u32, length: length as u32 };
            let payload = &frame[HEAD_BYTES..HEAD_BYTES + length];
            let taken = self.replay.record(location, kind, payload);
            taken.map_err(|reason| OpenError::Refused { location, kind, reason })?;
            let bytes = (length + FRAME_BYTES) as u64;
            self.end.last.length += bytes;
            self.end.last.checksum = checksum;
            self.end.turn_bytes += bytes;
            self.recovered.records += 1;
            self.recovered.bytes += bytes;
        }
    }

    fn expects(&self, seal: Seal, mark: &Mark) -> bool {
        let turn = if self.turn_known { mark.turn == self.end.turn + 1 } else { mark.turn > self.end.turn };
        let bytes = !self.bytes_known || mark.bytes == self.end.turn_bytes;
        turn && bytes && seal.follows(mark, self.end.last.checksum)
    }

    /// Goes behind a mark.
    fn finish_turn(&mut self, length: u64, mark: &Mark, checksum: u32) {
        (self.end.last.length, self.end.last.checksum) = (length, checksum);
        (self.end.turn, self.end.turn_bytes) = (mark.turn, 0);
        (self.turn_known, self.bytes_known) = (true, true);
        self.recovered.turns += 1;
    }

    /// W2: judges why reading stopped, and goes behind the damage. False: this segment is done.
    fn pass(&mut self, stop: &'static str, behind: Behind, limit: Limit) -> bool {
        let Previous { number: segment, length: from, .. } = self.end.last;
        let first = self.end.turn + 1;
        let upheld = self.sabotage.upholds(Rule::W2);
        if let Some((to, mark, checksum)) = behind.mark
            && upheld
            && (behind.later_turn || matches!(limit, Limit::Named { .. }))
        {
            let turns = Some((first, mark.turn));
            self.report(Rot { segment, from, to, turns, reason: stop.to_owned() });
            self.finish_turn(to, &mark, checksum);
            return true;
        }
        match limit {
            Limit::Last => self.cut(segment, from, behind.used),
            Limit::Named { length, through, .. } => {
                let turns = Some((first, through.max(first)));
                let reason = if from == length { "the next header names another last checksum" } else { stop };
                self.report(Rot { segment, from, to: length, turns, reason: reason.to_owned() });
            }
            Limit::Unknown if behind.used.is_some() => {
                self.report(Rot {
                    segment,
                    from,
                    to: behind.used.unwrap_or(from),
                    turns: None,
                    reason: stop.to_owned(),
                });
            }
            Limit::Unknown => {}
        }
        false
    }

    fn cut(&mut self, segment: u64, offset: u64, used: Option<u64>) {
        if used.is_some() || self.end.turn_bytes > 0 {
            let unbegun = self.recovered.torn.map_or(0, |torn| torn.bytes_dropped);
            let bytes_dropped = used.unwrap_or(offset) - offset + unbegun;
            self.recovered.torn = Some(Torn { segment, offset, bytes_dropped });
        }
    }

    /// Searches what lies behind the place where reading stopped; only to the first mark, if that is enough.
    fn look_behind(&mut self, seal: Seal, end: u64, first_only: bool) -> Result<Behind, OpenError> {
        let mut behind = Behind::default();
        let (mut at, turn) = (self.end.last.length, self.end.turn);
        while at < end {
            let block = (end - at).min(BLOCK_BYTES) as usize;
            // A mark that begins in this block may end in the next.
            let bytes = self.window.bytes(at, (end - at).min(BLOCK_BYTES + MARK_BYTES as u64) as usize)?;
            if let Some(last) = last_used(&bytes[..block]) {
                behind.used = Some(at + last as u64 + 1);
                for from in (0..=last).filter(|from| may_be_mark(&bytes[*from..])) {
                    let offset = at + from as u64;
                    let found = seal.verify_mark(&bytes[from..], offset).filter(|(mark, _)| mark.turn > turn);
                    let Some((mark, checksum)) = found else { continue };
                    behind.mark.get_or_insert((offset + MARK_BYTES as u64, mark, checksum));
                    behind.later_turn |= mark.turn > turn + 1;
                    if behind.later_turn || first_only {
                        return Ok(behind);
                    }
                }
            }
            at += block as u64;
        }
        Ok(behind)
    }

    /// Offset behind the last byte of `from..end` that is not zero; `from` if all are.
    fn used_until(&mut self, from: u64, end: u64) -> Result<u64, OpenError> {
        let (mut at, mut used) = (from, from);
        while at < end {
            let block = (end - at).min(BLOCK_BYTES);
            if let Some(last) = last_used(self.window.bytes(at, block as usize)?) {
                used = at + last as u64 + 1;
            }
            at += block;
        }
        Ok(used)
    }

    fn report(&mut self, rot: Rot) {
        if self.sabotage.upholds(Rule::W2) {
            self.replay.rot(&rot);
            self.recovered.rots.push(rot);
        }
    }
}

/// Index of the last byte that is not zero. The first look, at all of them, is the fast one.
fn last_used(bytes: &[u8]) -> Option<usize> {
    if bytes.iter().fold(0, |all, byte| all | byte) == 0 {
        return None;
    }
    bytes.iter().rposition(|byte| *byte != 0)
}
