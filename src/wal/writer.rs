//! The log as its one writer sees it: open, append, sync.

use std::io;

use crate::types::limits::WRITE_BUFFER_BYTES_KEPT;
use crate::types::{Digest, Rule, Sabotage};

use super::error::{LogError, OpenError, ReadError};
use super::files::{Files, LogFile};
use super::frame::{FRAME_BYTES, HEAD_BYTES, KIND_MARK, KIND_NONE, MARK_BYTES, Mark, Seal, length_of};
use super::reader::Reader;
use super::recovery::{self, End, Recovered, Replay};
use super::segment::{HEADER_BYTES, Header, Previous, segment_name, segment_number};
use super::spares::Spares;
use super::{Location, RECORD_PAYLOAD_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SPARES_MAX};

/// How the log lays itself out on disk.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of a new segment: [`SEGMENT_BYTES_MIN`] to [`SEGMENT_BYTES_MAX`]. Existing segments keep their size. A record
    /// has to fit into one.
    pub segment_bytes: u64,
    /// Zero-filled segments kept ready: 1 to [`SPARES_MAX`].
    pub spares: usize,
    /// Rules that are switched off.
    pub sabotage: Sabotage,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { segment_bytes: 64 << 20, spares: 2, sabotage: Sabotage::NONE }
    }
}

impl Settings {
    fn check(&self) -> Result<(), OpenError> {
        check_bounds("segment_bytes", self.segment_bytes, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)?;
        check_bounds("spares", self.spares as u64, 1, SPARES_MAX as u64)
    }
}

fn check_bounds(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), OpenError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(OpenError::Setting { field, value, min, max }) }
}

/// The log of one member, open for appending. There must be only one of a folder; its holder sees to that.
pub struct Log<F: Files> {
    files: F,
    settings: Settings,
    owner: Digest,
    reader: Reader<F>,
    spares: Spares,
    /// The newest segment that is on disk.
    file: F::File,
    /// The segment that the next frame goes to; ahead of `file` when this turn went over a segment's end.
    segment: Open,
    /// Number of the turn that is being gathered, and bytes of its records' frames.
    turn: u64,
    turn_bytes: u64,
    /// The frames of this turn, and to which segments they go; the last piece is still growing.
    buffer: Vec<u8>,
    pieces: Vec<Piece>,
    segments: u64,
    bytes: u64,
    failed: Option<LogError>,
}

/// The end of the segment that is being filled.
struct Open {
    number: u64,
    size: u64,
    offset: u64,
    checksum: u32,
    seal: Seal,
}

/// The part of a turn that goes to one segment.
struct Piece {
    segment: u64,
    /// Where it goes in the segment's file, and where it begins in the buffer.
    offset: u64,
    from: usize,
    /// The segment is not begun yet: the spare to make it of, and its header.
    begins: Option<(String, Header)>,
}

impl<F: Files> Log<F> {
    /// Opens the log of `owner` (a digest that names cluster and member; it stands in every header), or begins it in an
    /// empty folder. What the log holds is handed to `replay` first. A log that was there goes on in a new segment (W1).
    pub fn open(
        mut files: F,
        settings: Settings,
        owner: Digest,
        replay: &mut impl Replay,
    ) -> Result<(Log<F>, Recovered), OpenError> {
        settings.check()?;
        let names = match files.list() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            names => names.map_err(OpenError::Folder)?,
        };
        settle(&mut files, &names)?;
        let outcome = recovery::read_all(files.reader(), &names, Some(owner), &settings.sabotage, replay)?;
        let mut spares = Spares::adopt(&mut files, &names, settings.spares, settings.segment_bytes)?;
        if let Some(number) = outcome.unfinished {
            let name = segment_name(number);
            files.remove(&name).map_err(|error| OpenError::Write { name, what: "removed", error })?;
        }
        let (file, segment) = begin(&mut files, &settings, owner, &mut spares, &outcome.end)?;
        spares.tend(&mut files);
        let recovered = outcome.recovered;
        let in_place = segment.number == outcome.end.last.number;
        let reader = Reader::new(files.reader(), owner, settings.sabotage.clone());
        let log = Log {
            segments: recovered.segments + u64::from(!in_place),
            bytes: recovered.bytes + if in_place { 0 } else { HEADER_BYTES as u64 },
            turn: outcome.end.turn + 1,
            turn_bytes: if in_place { outcome.end.turn_bytes } else { 0 },
            buffer: Vec::new(),
            pieces: Vec::new(),
            failed: None,
            files,
            settings,
            owner,
            reader,
            spares,
            file,
            segment,
        };
        Ok((log, recovered))
    }

    /// Adds a record behind the last one and says where it will be. It is in memory until [`sync`](Log::sync). Goes over
    /// to the next segment when this one is full. `kind` is 1 to 254.
    ///
    /// # Panics
    /// If `kind` is 0 or 255: those are the log's own.
    pub fn append(&mut self, kind: u8, payload: &[u8]) -> Result<Location, LogError> {
        assert!(kind != KIND_NONE && kind != KIND_MARK, "kind {kind} is the log's own");
        self.check_failed()?;
        let max = self.payload_bytes_max();
        if payload.len() > max {
            return Err(LogError::TooLong { bytes: payload.len(), max });
        }
        let bytes = payload.len() + FRAME_BYTES;
        if self.segment.offset + (bytes + MARK_BYTES) as u64 > self.segment.size {
            self.roll()?;
        }
        let segment = &mut self.segment;
        if self.pieces.is_empty() {
            self.pieces.push(Piece { segment: segment.number, offset: segment.offset, from: 0, begins: None });
        }
        let offset = segment.offset as u32 + HEAD_BYTES as u32;
        let location = Location { segment: segment.number, offset, length: payload.len() as u32 };
        segment.checksum = segment.seal.put_record(&mut self.buffer, segment.checksum, kind, payload);
        segment.offset += bytes as u64;
        self.turn_bytes += bytes as u64;
        Ok(location)
    }

    /// Makes everything appended durable: one turn, with its mark. Does nothing if nothing was appended. After an error
    /// it is unknown what of the turn is durable, and the log takes nothing more.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.check_failed()?;
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.put_mark();
        if let Err(error) = self.write_pieces() {
            self.failed = Some(error.clone());
            return Err(error);
        }
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(WRITE_BUFFER_BYTES_KEPT);
        self.pieces.clear();
        self.turn += 1;
        self.turn_bytes = 0;
        self.spares.tend(&mut self.files);
        Ok(())
    }

    /// The payload of a record, verified; also of one that is not synced yet.
    pub fn read(&self, at: Location) -> Result<Vec<u8>, ReadError> {
        match self.pieces.iter().find(|piece| piece.segment == at.segment && u64::from(at.offset) >= piece.offset) {
            Some(piece) => {
                let from = piece.from + (u64::from(at.offset) - piece.offset) as usize;
                let frame =
                    from.checked_sub(HEAD_BYTES).and_then(|head| self.buffer.get(head..from + at.length as usize));
                let frame =
                    frame.filter(|frame| length_of(frame) == at.length as usize).ok_or(ReadError::Damaged(at))?;
                Ok(frame[HEAD_BYTES..].to_vec())
            }
            None => self.reader.read(at),
        }
    }

    /// Reads synced records, from any thread.
    pub fn reader(&self) -> Reader<F> {
        self.reader.clone()
    }

    /// The longest payload that a segment of this log's size takes, in bytes.
    pub fn payload_bytes_max(&self) -> usize {
        let room = self.settings.segment_bytes as usize - HEADER_BYTES - FRAME_BYTES - MARK_BYTES;
        room.min(RECORD_PAYLOAD_BYTES_MAX)
    }

    /// Bytes left in this segment and in the spares that are ready: what can be appended without making a file. A record
    /// counts with nine bytes more than its payload; one that does not fit into the rest of a segment wastes that rest.
    pub fn room(&self) -> u64 {
        let here = self.segment.size.saturating_sub(self.segment.offset + MARK_BYTES as u64);
        here + self.spares.ready() as u64 * self.capacity()
    }

    /// Why no spare can be made, while that is so and less than half a segment of room is left: then nothing more should
    /// be accepted. Each call looks again and has it tried again.
    pub fn disk_full(&mut self) -> Option<String> {
        self.spares.tend(&mut self.files);
        let scarce = self.room() < self.capacity() / 2;
        self.spares.trouble().filter(|_| scarce).map(str::to_owned)
    }

    /// How many segments there are.
    pub fn segments(&self) -> u64 {
        self.segments
    }

    /// Bytes of all headers, synced records and marks.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of the turn that the next sync ends.
    pub fn turn(&self) -> u64 {
        self.turn
    }

    fn capacity(&self) -> u64 {
        self.settings.segment_bytes - (HEADER_BYTES + MARK_BYTES) as u64
    }

    fn check_failed(&self) -> Result<(), LogError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Goes over to a new segment in the middle of a turn. On disk it begins when the turn is synced.
    fn roll(&mut self) -> Result<(), LogError> {
        let spare = self.spares.take(&mut self.files).map_err(|error| LogError::Full { reason: error.to_string() })?;
        let Open { number, offset, checksum, .. } = self.segment;
        let previous = Previous { number, length: offset, checksum };
        let header = Header::new(self.owner, previous, self.turn, self.turn_bytes);
        self.segment = Open::new(&header, self.settings.segment_bytes, &self.settings.sabotage);
        self.pieces.push(Piece {
            segment: self.segment.number,
            offset: self.segment.offset,
            from: self.buffer.len(),
            begins: Some((spare, header)),
        });
        Ok(())
    }

    fn put_mark(&mut self) {
        let segment = &mut self.segment;
        let mark = Mark { turn: self.turn, bytes: self.turn_bytes, previous: segment.checksum };
        segment.checksum = segment.seal.put_mark(&mut self.buffer, segment.offset, mark);
        segment.offset += MARK_BYTES as u64;
        assert!(segment.offset <= segment.size, "append leaves room for a mark");
    }

    /// The order of writing: the older file whole and synced, then the newer one's header, then its frames.
    fn write_pieces(&mut self) -> Result<(), LogError> {
        for index in 0..self.pieces.len() {
            let to = self.pieces.get(index + 1).map_or(self.buffer.len(), |next| next.from);
            let piece = &self.pieces[index];
            let name = segment_name(piece.segment);
            if let Some((spare, header)) = &piece.begins {
                self.file = begin_segment(&mut self.files, spare, header)
                    .map_err(|(what, error)| failed(&name, what, &error))?;
                self.segments += 1;
                self.bytes += HEADER_BYTES as u64;
            }
            if piece.from < to {
                let written = self.file.write_at(&self.buffer[piece.from..to], piece.offset);
                written.map_err(|error| failed(&name, "written", &error))?;
                self.file.sync().map_err(|error| failed(&name, "synced", &error))?;
            }
        }
        Ok(())
    }
}

impl Open {
    /// The segment of that header, with nothing in it yet.
    fn new(header: &Header, size: u64, sabotage: &Sabotage) -> Open {
        let (_, checksum) = header.encode();
        let seal = Seal::of(&header.owner, header.number, sabotage);
        Open { number: header.number, size, offset: HEADER_BYTES as u64, checksum, seal }
    }
}

/// Makes the segment that a start goes on in, or goes on in place if W1 is switched off.
fn begin<F: Files>(
    files: &mut F,
    settings: &Settings,
    owner: Digest,
    spares: &mut Spares,
    end: &End,
) -> Result<(F::File, Open), OpenError> {
    let name = segment_name(end.last.number);
    if !settings.sabotage.upholds(Rule::W1) && end.last.length > 0 {
        let Previous { number, length: offset, checksum } = end.last;
        let opened = files.open(&name).and_then(|file| Ok((file.size()?, file)));
        let (size, file) = opened.map_err(|error| OpenError::Write { name, what: "opened", error })?;
        return Ok((file, Open { number, size, offset, checksum, seal: Seal::of(&owner, number, &settings.sabotage) }));
    }
    // W1: what was read becomes durable before a header names it: a killed process may have left it in the page cache.
    if end.last.length > 0 {
        cut(files, &name, end.last.length).map_err(|error| OpenError::Write { name, what: "cut", error })?;
    }
    let header = Header::new(owner, end.last, end.turn + 1, 0);
    let name = segment_name(header.number);
    let spare = spares.take(files);
    let spare = spare.map_err(|error| OpenError::Write { name: name.clone(), what: "made", error })?;
    let file = begin_segment(files, &spare, &header);
    let file = file.map_err(|(what, error)| OpenError::Write { name, what, error })?;
    Ok((file, Open::new(&header, settings.segment_bytes, &settings.sabotage)))
}

/// What a killed process left in the page cache becomes durable before `replay` is told of it: hosts never see what a
/// loss of power could still undo. Only the last segment can hold such bytes.
fn settle<F: Files>(files: &mut F, names: &[String]) -> Result<(), OpenError> {
    let Some(name) = names.iter().rfind(|name| segment_number(name).is_some()) else { return Ok(()) };
    let synced = files.open(name).and_then(|mut file| file.sync());
    synced.map_err(|error| OpenError::Write { name: name.clone(), what: "synced", error })
}

fn cut<F: Files>(files: &mut F, name: &str, length: u64) -> io::Result<()> {
    let mut file = files.open(name)?;
    if file.size()? > length {
        file.truncate(length)?;
    }
    file.sync()
}

/// Turns a spare into a segment with a durable header.
fn begin_segment<F: Files>(files: &mut F, spare: &str, header: &Header) -> Result<F::File, (&'static str, io::Error)> {
    let name = segment_name(header.number);
    files.rename(spare, &name).map_err(|error| ("made of a spare", error))?;
    let mut file = files.open(&name).map_err(|error| ("opened", error))?;
    file.write_at(&header.encode().0, 0).map_err(|error| ("written", error))?;
    file.sync().map_err(|error| ("synced", error))?;
    Ok(file)
}

fn failed(name: &str, what: &'static str, error: &io::Error) -> LogError {
    LogError::Failed { name: name.to_owned(), what, reason: error.to_string() }
}
