//! Zero-filled files that wait to become segments.

use std::collections::BTreeSet;

use super::error::OpenError;
use super::files::{Files, LogFile};
use super::segment::segment_number;

/// What the name of a file in the making ends with.
pub(super) const UNFINISHED: &str = ".unfinished";

const SPARE: &str = "spare-";

/// The spares of one log.
pub(super) struct Spares {
    wanted: usize,
    segment_bytes: u64,
    ready: BTreeSet<String>,
    asked: BTreeSet<String>,
    /// Number of the next one; never used twice, so that one which is taken but not yet renamed keeps its name.
    next: u64,
    trouble: Option<String>,
}

impl Spares {
    /// Takes over the whole spares among `names`, and removes those that are unfinished or of another size.
    pub fn adopt<F: Files>(
        files: &mut F,
        names: &[String],
        wanted: usize,
        segment_bytes: u64,
    ) -> Result<Spares, OpenError> {
        let mut ready = BTreeSet::new();
        let mut next = 0;
        for name in names.iter().filter(|name| name.starts_with(SPARE)) {
            next = next.max(number_of(name).map_or(0, |number| number.saturating_add(1)));
            if !name.ends_with(UNFINISHED) && size_of(files, name)? == segment_bytes {
                ready.insert(name.clone());
            } else {
                let removed = files.remove(name);
                removed.map_err(|error| OpenError::Write { name: name.clone(), what: "removed", error })?;
            }
        }
        for name in names.iter().filter(|name| !name.starts_with(SPARE) && segment_number(name).is_none()) {
            tracing::warn!(%name, "a file in the log's folder is not the log's; it is left alone");
        }
        Ok(Spares { wanted, segment_bytes, ready, asked: BTreeSet::new(), next, trouble: None })
    }

    /// Takes note of what was made meanwhile, and asks for what is missing.
    pub fn tend<F: Files>(&mut self, files: &mut F) {
        self.collect(files);
        while self.ready.len() + self.asked.len() < self.wanted {
            let name = self.new_name();
            files.prepare(&name, self.segment_bytes);
            self.asked.insert(name);
        }
        self.collect(files);
    }

    /// A spare to make a segment of; made now if none is ready. The error says why that is impossible.
    pub fn take<F: Files>(&mut self, files: &mut F) -> Result<String, std::io::Error> {
        self.collect(files);
        if let Some(name) = self.ready.pop_first() {
            return Ok(name);
        }
        let name = self.new_name();
        match files.create(&name, self.segment_bytes) {
            Ok(_) => {
                self.trouble = None;
                Ok(name)
            }
            Err(error) => {
                self.trouble = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// How many are ready.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Why the last attempt to make one failed, if it did.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn collect<F: Files>(&mut self, files: &mut F) {
        while let Some((name, made)) = files.prepared() {
            if !self.asked.remove(&name) {
                // An earlier log of this folder asked for it.
                continue;
            }
            match made {
                Ok(()) => {
                    self.trouble = None;
                    self.ready.insert(name);
                }
                Err(error) => self.trouble = Some(error.to_string()),
            }
        }
    }

    fn new_name(&mut self) -> String {
        let name = format!("{SPARE}{}", self.next);
        self.next += 1;
        name
    }
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix(SPARE)?.trim_end_matches(UNFINISHED).parse().ok()
}

fn size_of<F: Files>(files: &mut F, name: &str) -> Result<u64, OpenError> {
    let size = files.open(name).and_then(|file| file.size());
    size.map_err(|error| OpenError::Read { name: name.to_owned(), offset: 0, error })
}
