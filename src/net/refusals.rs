//! Who refused whom: counted, kept as what is in the way of a link, and told in the log once. Of strangers, and of other
//! groups, so many lines a minute.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::Shared;
use super::pair::End;
use crate::types::peer::Refusal;
use crate::types::{MemberId, Standing, limits};

const MINUTE: Duration = Duration::from_secs(60);

/// What was counted and told of refusals.
pub(super) struct Refusals {
    shared: Arc<Shared>,
    /// The last refusals of each peer that were told.
    told: HashMap<MemberId, Told>,
    strangers: Lines,
    /// Of groups that we met, and of those that only said so themselves.
    groups: [Lines; 2],
}

/// The last refusal told in each direction.
#[derive(Default)]
struct Told {
    by_us: Option<Refusal>,
    by_them: Option<Refusal>,
}

/// Lines of the log within a minute.
struct Lines {
    since: Instant,
    count: u32,
}

impl Refusals {
    pub fn new(shared: Arc<Shared>, now: Instant) -> Refusals {
        let lines = || Lines { since: now, count: 0 };
        Refusals { shared, told: HashMap::new(), strangers: lines(), groups: [lines(), lines()] }
    }

    /// Whether there is a line for another group of our name.
    pub fn may_tell_group(&mut self, claimed: bool, now: Instant) -> bool {
        self.groups[usize::from(claimed)].take(now)
    }

    /// A connection has ended, which was a link if `linked`.
    pub fn note(&mut self, member: MemberId, linked: bool, end: &End, now: Instant) {
        let totals = &self.shared.totals;
        let malformed;
        let (by_us, by_them) = match end {
            End::Malformed(text) => {
                totals.malformed.add(1);
                malformed = Refusal::Malformed(text.clone());
                (Some(&malformed), None)
            }
            End::Truncated => {
                totals.truncated.add(1);
                (None, None)
            }
            End::Refused { by_us, by_them } => (by_us.as_deref(), by_them.as_deref()),
            End::Lost(_) | End::Closed | End::Left | End::Finished => (None, None),
        };
        if linked && by_us.is_none() && by_them.is_none() {
            // It was a good one: the next refusal is news.
            self.told.remove(&member);
        }
        if let Some(refusal) = by_us {
            totals.refused.count(refusal);
            self.stands_in_the_way(&member, "refused", refusal);
            if self.is_news(member, refusal, |told| &mut told.by_us) && self.may_tell(&member, now) {
                let (peer, reason) = (self.shared.known.label(&member), plain(refusal));
                match refusal {
                    // It leaves, as it should.
                    Refusal::Departed { standing: Standing::Left, .. } => info!(peer, reason, "refused a peer"),
                    _ => warn!(peer, reason, "refused a peer"),
                }
            }
        }
        if let Some(refusal) = by_them {
            self.shared.totals.refused_by_others.count(refusal);
            self.stands_in_the_way(&member, "refuses us", refusal);
            if self.is_news(member, refusal, |told| &mut told.by_them) && self.may_tell(&member, now) {
                let (peer, says_of_us) = (self.shared.known.label(&member), plain(refusal));
                match refusal {
                    // We leave, or it has not heard yet that we came; the status shows it while it lasts.
                    Refusal::Departed { standing: Standing::Left, .. } | Refusal::NotAMember(_) => {
                        info!(peer, says_of_us, "a peer refuses us");
                    }
                    _ => warn!(peer, says_of_us, "a peer refuses us"),
                }
            }
        }
    }

    fn stands_in_the_way(&self, member: &MemberId, who: &str, refusal: &Refusal) {
        if let Some(peer) = self.shared.known.peer(member) {
            peer.set_trouble(Some(format!("{who}: {}", plain(refusal))));
        }
    }

    fn is_news(&mut self, member: MemberId, refusal: &Refusal, side: fn(&mut Told) -> &mut Option<Refusal>) -> bool {
        if self.told.len() >= limits::STRANGERS_REMEMBERED && !self.told.contains_key(&member) {
            self.told.clear();
        }
        side(self.told.entry(member).or_default()).replace(refusal.clone()).as_ref() != Some(refusal)
    }

    /// Whether there is a line for it: always for a member.
    fn may_tell(&mut self, member: &MemberId, now: Instant) -> bool {
        self.shared.known.contains(member) || self.strangers.take(now)
    }
}

impl Lines {
    fn take(&mut self, now: Instant) -> bool {
        if now >= self.since + MINUTE {
            *self = Lines { since: now, count: 0 };
        }
        self.count += 1;
        if self.count == limits::STRANGERS_LOGGED + 1 {
            warn!("more strangers and groups come than are told here; the rest of this minute they are counted only");
        }
        self.count <= limits::STRANGERS_LOGGED
    }
}

/// A refusal in one line of bounded length, whatever its text is: a peer may have written it.
fn plain(refusal: &Refusal) -> String {
    let text = refusal.to_string();
    let characters = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    characters.take(2 * limits::REFUSAL_TEXT_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_get_so_many_lines_a_minute() {
        let start = Instant::now();
        let mut lines = Lines { since: start, count: 0 };
        let mut told = |now: Instant| (0..1000).filter(|_| lines.take(now)).count();
        assert_eq!(told(start), limits::STRANGERS_LOGGED as usize);
        assert_eq!(told(start + MINUTE / 2), 0);
        assert_eq!(told(start + MINUTE), limits::STRANGERS_LOGGED as usize);
    }

    #[test]
    fn what_a_peer_wrote_stays_one_short_line() {
        let text = plain(&Refusal::Malformed(format!("a\nb\u{1b}[31m{}", "x".repeat(10_000))));
        assert!(text.contains("a b [31mx") && text.len() <= 2 * limits::REFUSAL_TEXT_BYTES, "{text}");
    }
}
