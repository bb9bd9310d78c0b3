//! One row per delivered batch and per epoch's end, found by position.

use std::num::NonZeroU32;

use crate::types::{
    Delivered, DeliveredKind, Epoch, Hlc, Incarnation, Location, MemberId, MessageNumber, Position, Slot,
};

use super::placed::{Lane, Placement};

/// Rows are kept in pieces of this many, so that growing never copies the index under the lock.
const ROWS_PER_PIECE: usize = 4096;

/// All rows, in the order of their positions.
#[derive(Default)]
pub(super) struct Index {
    pieces: Vec<Vec<Row>>,
    origins: Vec<MemberId>,
    /// The rows of the epochs' ends: number e is that of epoch e.
    ends: Vec<usize>,
    last: Position,
}

#[derive(Clone, Copy)]
struct Row {
    first: Position,
    hlc: Hlc,
    epoch: Epoch,
    slot: Slot,
    location: Location,
    /// None: an epoch's end, which no lane sealed.
    lane: Option<LaneRow>,
}

#[derive(Clone, Copy)]
struct LaneRow {
    incarnation: Incarnation,
    number: MessageNumber,
    count: u32,
    /// The origin's place in the list of them, from 1.
    origin: NonZeroU32,
}

// Whether a lane sealed it costs a row nothing.
const _: () = assert!(size_of::<Option<LaneRow>>() == size_of::<LaneRow>());

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

    /// Adds the row of what begins right after the last position and has at least one.
    pub(super) fn push(&mut self, delivered: &Delivered) {
        let lane = match &delivered.kind {
            DeliveredKind::Batch(header) => Some(LaneRow {
                incarnation: header.incarnation,
                number: header.first,
                count: u32::try_from(delivered.count).expect("a batch has at most BATCH_MESSAGES_MAX messages"),
                origin: self.origin(header.origin),
            }),
            DeliveredKind::EpochEnd => {
                assert_eq!(delivered.epoch.0, self.ends.len() as u64, "epochs end one after the other");
                self.ends.push(self.rows());
                None
            }
        };
        let Delivered { first, hlc, epoch, slot, location, .. } = *delivered;
        if self.pieces.last().is_none_or(|piece| piece.len() == ROWS_PER_PIECE) {
            self.pieces.push(Vec::with_capacity(ROWS_PER_PIECE));
        }
        let row = Row { first, hlc, epoch, slot, location, lane };
        self.pieces.last_mut().expect("a piece was just pushed").push(row);
        self.last = Position(first.0 + delivered.count - 1);
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

    /// Where a row's content stands, in the order and in the log.
    pub(super) fn placement(&self, row: usize) -> Placement {
        let row = self.pieces[row / ROWS_PER_PIECE][row % ROWS_PER_PIECE];
        let lane = row.lane.map(|lane| Lane {
            origin: self.origins[lane.origin.get() as usize - 1],
            incarnation: lane.incarnation,
            number: lane.number,
            count: lane.count,
        });
        Placement { first: row.first, hlc: row.hlc, epoch: row.epoch, slot: row.slot, location: row.location, lane }
    }

    /// The row that ended the epoch before this one; none for epoch 0, which the genesis began.
    pub(super) fn end_before(&self, epoch: Epoch) -> Option<usize> {
        let before = usize::try_from(epoch.0.checked_sub(1)?).ok()?;
        self.ends.get(before).copied()
    }

    /// Members are few: a row names its origin by its place in a list.
    fn origin(&mut self, member: MemberId) -> NonZeroU32 {
        let place = self.origins.iter().position(|origin| *origin == member).unwrap_or_else(|| {
            self.origins.push(member);
            self.origins.len() - 1
        });
        let place = u32::try_from(place + 1).ok().and_then(NonZeroU32::new);
        place.expect("a group has few members, former ones included")
    }
}
