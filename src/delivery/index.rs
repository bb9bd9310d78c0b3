//! One row per delivered batch, found by position.

use crate::types::{Delivered, Epoch, Hlc, Incarnation, Location, MemberId, MessageNumber, Position, Slot};

use super::placed::Placement;

/// Rows are kept in pieces of this many, so that growing never copies the index under the lock.
const ROWS_PER_PIECE: usize = 4096;
/// The row is of an epoch's end: no lane's.
const NO_ORIGIN: u32 = u32::MAX;

/// All rows, in the order of their positions.
#[derive(Default)]
pub(super) struct Index {
    pieces: Vec<Vec<Row>>,
    origins: Vec<MemberId>,
    last: Position,
}

#[derive(Clone, Copy)]
struct Row {
    first: Position,
    hlc: Hlc,
    epoch: Epoch,
    slot: Slot,
    location: Location,
    incarnation: Incarnation,
    number: MessageNumber,
    count: u32,
    origin: u32,
}

impl Index {
    /// The last position.
    pub(super) fn last(&self) -> Position {
        self.last
    }

    /// Rows so far: the number the next row gets.
    pub(super) fn rows(&self) -> usize {
        match self.pieces.last() {
            Some(piece) => (self.pieces.len() - 1) * ROWS_PER_PIECE + piece.len(),
            None => 0,
        }
    }

    /// Adds the row of a batch, which begins right after the last position and has at least one.
    pub(super) fn push(&mut self, delivered: &Delivered) {
        let count = u32::try_from(delivered.count).expect("a batch has at most BATCH_MESSAGES_MAX messages");
        let header = delivered.header();
        let row = Row {
            first: delivered.first,
            hlc: delivered.hlc,
            epoch: delivered.epoch,
            slot: delivered.slot,
            location: delivered.location,
            incarnation: header.map_or(Incarnation(0), |header| header.incarnation),
            number: header.map_or(MessageNumber(0), |header| header.first),
            count,
            origin: header.map_or(NO_ORIGIN, |header| self.origin(header.origin)),
        };
        if self.pieces.last().is_none_or(|piece| piece.len() == ROWS_PER_PIECE) {
            self.pieces.push(Vec::with_capacity(ROWS_PER_PIECE));
        }
        self.pieces.last_mut().expect("a piece was just pushed").push(row);
        self.last = Position(delivered.first.0 + delivered.count - 1);
    }

    /// Number of the row that holds the position after `position`; [`Index::rows`] if there is none yet.
    pub(super) fn row_after(&self, position: Position) -> usize {
        if position >= self.last {
            return self.rows();
        }
        let wanted = position.next();
        let piece = self.pieces.partition_point(|piece| piece[0].first <= wanted) - 1;
        let row = self.pieces[piece].partition_point(|row| row.first <= wanted) - 1;
        piece * ROWS_PER_PIECE + row
    }

    /// Where the batch of a row stands, in the order and in the log.
    pub(super) fn placement(&self, row: usize) -> Placement {
        let row = self.pieces[row / ROWS_PER_PIECE][row % ROWS_PER_PIECE];
        Placement {
            first: row.first,
            count: u64::from(row.count),
            hlc: row.hlc,
            epoch: row.epoch,
            slot: row.slot,
            location: row.location,
            origin: self.origins.get(row.origin as usize).copied().unwrap_or(MemberId([0; 32])),
            incarnation: row.incarnation,
            number: row.number,
        }
    }

    /// Members are few: a row names its origin by its place in a list.
    fn origin(&mut self, member: MemberId) -> u32 {
        let place = self.origins.iter().position(|origin| *origin == member).unwrap_or_else(|| {
            self.origins.push(member);
            self.origins.len() - 1
        });
        u32::try_from(place).expect("a group has few members")
    }
}
