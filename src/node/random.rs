//! Randomness of the system: keys, nonces.

use std::fs::File;
use std::io::{self, Read};

/// So many random bytes.
pub fn bytes<const COUNT: usize>() -> io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
