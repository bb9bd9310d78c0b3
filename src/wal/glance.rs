//! A log at a glance: the names of its segments, their headers and their sizes. What is in them is not read.

use crate::types::Digest;

use super::error::OpenError;
use super::files::Files;
use super::recovery::survey;

/// What the headers tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    /// Segments that are there.
    pub segments: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Digest of group and member, as all headers name it; none if no header verifies.
    pub owner: Option<Digest>,
    /// What is missing or damaged, each for people. Damage inside a segment does not show here.
    pub troubles: Vec<String>,
}

/// Reads names, sizes and headers. A segment of another owner, format or rules version than the first one is an error. The
/// last segment may be in the making, and is not judged.
pub fn glance<F: Files>(mut files: F) -> Result<Glance, OpenError> {
    let names = files.list().map_err(OpenError::Folder)?;
    let found = survey(&files.reader(), &names, None)?;
    let mut glance = Glance::default();
    for (index, segment) in found.iter().enumerate() {
        let number = segment.number;
        let next = found.get(index + 1);
        match &segment.header {
            _ if segment.missing && segment.number == segment.through => {
                glance.troubles.push(format!("segment {number} is missing"));
            }
            _ if segment.missing => {
                glance.troubles.push(format!("segments {number} to {} are missing", segment.through));
            }
            Err(reason) if next.is_some() => glance.troubles.push(format!("segment {number}: {reason}")),
            _ => {}
        }
        let valid = next.and_then(|next| next.header.as_ref().ok()).map(|header| header.previous.length);
        if let Some(valid) = valid.filter(|valid| !segment.missing && segment.size < *valid) {
            let size = segment.size;
            glance.troubles.push(format!("segment {number} has {size} bytes, the one after it names {valid}"));
        }
        glance.segments += u64::from(!segment.missing);
        glance.bytes += segment.size;
        glance.owner = glance.owner.or(segment.header.as_ref().ok().map(|header| header.owner));
    }
    Ok(glance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Sabotage;
    use crate::wal::{DiskFiles, Log, Refused, Replay, Rot, Settings};

    struct Nobody;

    impl Replay for Nobody {
        fn record(&mut self, _: crate::wal::Location, _: u8, _: &[u8]) -> Result<(), Refused> {
            Ok(())
        }

        fn rot(&mut self, _: &Rot) {}
    }

    /// Each start makes a segment of its own.
    fn started(folder: &std::path::Path, times: usize) {
        for _ in 0..times {
            let settings = Settings { segment_bytes: 64 << 10, spares: 1, sabotage: Sabotage::NONE };
            let (mut log, _) = Log::open(DiskFiles::new(folder), settings, Digest([7; 32]), &mut Nobody).unwrap();
            log.append(1, b"a record").unwrap();
            log.sync().unwrap();
        }
    }

    #[test]
    fn a_hole_and_a_header_that_does_not_verify_show() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("wal");
        started(&folder, 4);
        let whole = glance(DiskFiles::new(&folder)).unwrap();
        assert_eq!((whole.segments, whole.owner), (4, Some(Digest([7; 32]))));
        assert!(whole.troubles.is_empty() && whole.bytes > 64 << 10, "{whole:?}");
        let segment = |number: u64| folder.join(format!("{number:020}.wal"));
        std::fs::remove_file(segment(2)).unwrap();
        std::fs::write(segment(3), [1; 256]).unwrap();
        let damaged = glance(DiskFiles::new(&folder)).unwrap();
        assert_eq!(damaged.segments, 3);
        assert_eq!(damaged.troubles, ["segment 2 is missing", "segment 3: its header does not verify"]);
    }

    #[test]
    fn a_segment_that_was_cut_short_shows() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("wal");
        started(&folder, 2);
        let first = std::fs::File::options().write(true).open(folder.join(format!("{:020}.wal", 1))).unwrap();
        first.set_len(130).unwrap();
        let damaged = glance(DiskFiles::new(&folder)).unwrap();
        assert!(damaged.troubles[0].starts_with("segment 1 has 130 bytes, the one after it names"), "{damaged:?}");
    }
}
