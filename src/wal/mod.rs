//! The write-ahead log: everything a member must not forget, in one order, in files that are written once from front to
//! back. It knows nothing of the protocol: a record is a kind (one byte) and a payload.
//!
//! # Names
//!
//! The *log* is a row of *segments*, files named `00000000000000000001.wal`, `00000000000000000002.wal` … without a
//! hole. A segment is a *header* and *frames*; a frame is a record or a *mark*. A *turn* is what one [`Log::sync`] makes
//! durable: the records appended since the sync before it, and one mark. Turns are numbered 1, 2, 3 … through the whole
//! log. `spare-0`, `spare-1` … are zero-filled files that wait to become segments; `*.unfinished` is one in the making.
//!
//! # Bytes
//!
//! All integers are little-endian.
//!
//! ```text
//! segment    0                128
//!            ├── header ──────┼── frame ─┼── frame ─┼─ … ─┼── mark ─┼── frame ─ … ─┼── zeros ──
//!
//! header     0    8   "SYNODWAL"
//!            8    4   format version: 1
//!           12    4   rules version: 0 until the first release
//!           16   32   owner: digest that names cluster and member
//!           48    8   number of this segment
//!           56    8   salt of this segment
//!           64    8   number of the previous segment            ┐
//!           72    8   its valid length                          │ W1; all zero in segment 1
//!           80    4   checksum of its last frame (of its header, │
//!                     if it has none)                           ┘
//!           84    4   zero
//!           88    8   number of the turn that the first frame belongs to
//!           96    8   bytes that turn has in earlier segments
//!          104   20   zero
//!          124    4   CRC-32 of bytes 0..124
//!
//! frame      0    4   length n of the payload
//!            4    1   kind: 1..=254 is the caller's, 255 a mark, 0 none
//!            5    n   payload
//!          5+n    4   CRC-32 of (the four bytes before this frame, salt, length, kind, payload)
//!
//! mark       0    4   20
//!            4    1   255
//!            5    8   number of the turn that ends here
//!           13    8   bytes of its records' frames, in all segments
//!           21    4   the four bytes before this mark
//!           25    4   CRC-32 of (offset of this mark, salt, length, kind, payload)
//! ```
//!
//! The four bytes before a frame are the checksum of the frame before it, or of the header: so checksums are chained, and
//! still one positional read fetches a record with all that its checksum covers. The salt is derived from owner and
//! segment number, so bytes of another segment never pass for this one's. A mark's checksum does not depend on what
//! precedes it: it is found by scanning past damage, and because it covers its own offset no copy of it passes elsewhere.
//! A frame and the mark after it always fit into the same segment; a turn may span segments. A later format keeps magic,
//! format version and the header's checksum where they are, so that it can be refused by name.
//!
//! # Rules
//!
//! - **Preallocation.** A segment begins as a file of written zeros (not a hole), synced and renamed into place; spares
//!   are made ahead in the background. Hence a sync changes no metadata, and what was never written reads as zeros.
//! - **Order of writing.** In a turn that spans segments the older file is written and synced first, then the newer one's
//!   header, then its frames. So a header never names what is not durable, and no frame is durable before its header: a
//!   segment with a broken header and nothing but zeros behind it was never begun, and is made anew.
//! - **W1.** At every start that finds a log, the last segment is synced before it is read (a killed process may have
//!   left it in the page cache, and what is read is handed to hosts). Then it is cut to its valid length and synced, and
//!   the log goes on in a new segment whose header names the previous one, its valid length and its last checksum,
//!   durable before the first append. Nothing is ever appended behind a cut, and a frame's checksum is chained over the
//!   frame before it: a frame that lay behind a torn one never comes back at a second crash. (Cutting the file also keeps
//!   starts cheap: a segment used a little costs a little.)
//! - **W2.** Every turn ends with a mark. Reading stops at the first frame that does not verify, and at zeros. If that
//!   is short of the valid length that a later header names, or if the mark of a turn *after* the damaged one is found
//!   behind it, a synced turn is damaged: *rot*. Everything else is a *torn tail*, the end of a turn whose sync never
//!   returned: it is cut. After rot reading goes on behind the next mark. A missing segment in the middle is rot; so is a
//!   header that does not verify (its frames are still read).
//! - **What is handed over** is a prefix of what was appended, except where rot is reported between. Of a torn turn the
//!   valid frames at its beginning are handed over too, and W1 makes them durable before anything follows them.
//! - **Failure.** A failed write or sync of an existing segment poisons the log: every further append and sync returns
//!   the same error and nothing is tried again. A spare that cannot be made (a full disk) is no failure:
//!   [`Log::disk_full`] says so while little room is left, and making it is tried again.
//!
//! Damage that begins inside the last synced turn of the last segment looks like a torn tail: no mark behind it proves
//! that its sync returned. That is outside the model. From the next start on its end is named by a header. The disk is
//! trusted to write a sector of 512 bytes as a whole: the first sector of a turn holds the end of the turn before.
//!
//! # Switches
//!
//! With the feature `sabotage`: W1 off appends in place behind the cut; chain off leaves the previous checksum out; W2
//! off takes any damage for a torn tail.

mod direct;
mod disk;
mod error;
mod files;
mod frame;
mod glance;
mod memory;
mod reader;
mod recovery;
mod segment;
mod spares;
mod window;
mod writer;

#[cfg(test)]
mod tests;

pub use disk::{DiskFile, DiskFiles, DiskReader};
pub use error::{LogError, OpenError, ReadError, Refused};
pub use files::{Files, LogFile, ReadFiles};
pub use glance::{Glance, glance};
pub use memory::{MemoryFile, MemoryFiles, Survival, Unsynced};
pub use reader::Reader;
pub use recovery::{Recovered, Replay, Rot, Torn, inspect};
pub use writer::{Log, Settings};

pub use crate::types::Location;
pub use crate::types::limits::{
    RECORD_PAYLOAD_BYTES_MAX, RULES_VERSION, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SPARES_MAX,
};
