//! After the faults: everything promised is delivered everywhere, and the group goes on.

use super::{Promises, Sequence};
use crate::sim::clock::Moment;
use crate::types::MessageId;

/// What is still missing before the group can be called healed; empty when nothing is. `live` members run; messages of a
/// member for which `lost` is true are gone with its disk.
pub fn unfinished(
    now: Moment,
    live: &[usize],
    lost: impl Fn(usize, &MessageId) -> bool,
    sequence: &Sequence,
    promises: &Promises,
) -> Vec<String> {
    let mut missing = promises.broken(now, lost);
    for member in live {
        let position = sequence.position(*member);
        if position < sequence.head() {
            missing.push(format!("member {} stands at {position} of {}", member + 1, sequence.head()));
        }
    }
    missing
}
