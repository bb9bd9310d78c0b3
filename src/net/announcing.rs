//! What is announced by gossip and when, and which announcements of others are passed on. Judges and remembers only.
//!
//! A presence is announced when somebody listens, shortly after, when the addresses change, and every 90 seconds. An epoch
//! head is announced when it is new or when somebody begins to listen, a little later and only if nobody else announced the
//! very same meanwhile: of all who know it one is enough. A newer head is taken, and goes on from here once it is proven.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::dial::jittered;
use crate::types::{
    Announcement, AnnouncementMessage, ClusterId, Epoch, EpochHead, Incarnation, MemberId, Presence, limits,
};

/// Announced once more after this, for those who began to listen meanwhile.
const AGAIN: Duration = Duration::from_secs(2);
/// Between two announcements of one kind.
const PAUSE: Duration = Duration::from_secs(1);
/// A head is announced within this time, unless somebody else did.
const HEAD_WAIT: Duration = Duration::from_millis(400);
/// A head that was heard so recently is known to whoever begins to listen, or soon will be.
const HEAD_FRESH: Duration = Duration::from_secs(5);

/// What this member announces, and what it has heard.
pub(super) struct Announcer {
    cluster: ClusterId,
    incarnation: Incarnation,
    addresses: Vec<String>,
    number: u64,
    presence: Timer,
    head: Option<EpochHead>,
    head_timer: Timer,
    /// When our head was last announced by anybody.
    heard_head: Option<Instant>,
    heard: HashMap<MemberId, Heard>,
    /// When a newer head was last taken of each member.
    newer: HashMap<MemberId, Instant>,
    /// Whether anybody listens.
    listened: bool,
}

/// When something is announced.
#[derive(Default)]
struct Timer {
    due: Option<Instant>,
    last: Option<Instant>,
}

/// The latest presence of a member, and when one was passed on.
#[derive(Clone, Copy)]
struct Heard {
    latest: (Incarnation, u64),
    at: Instant,
}

/// Whether an announcement of somebody else is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is news, and goes on.
    PassOn,
    /// It is news, but does not go on from here: it comes too fast, or is not proven yet.
    Take,
    /// It is none.
    Drop,
}

impl Announcer {
    pub fn new(cluster: ClusterId, incarnation: Incarnation, now: Instant) -> Announcer {
        Announcer {
            cluster,
            incarnation,
            addresses: Vec::new(),
            number: 0,
            presence: Timer { due: Some(now), last: None },
            head: None,
            head_timer: Timer::default(),
            heard_head: None,
            heard: HashMap::new(),
            newer: HashMap::new(),
            listened: false,
        }
    }

    /// Where this member listens now.
    pub fn set_addresses(&mut self, mut addresses: Vec<String>, now: Instant) {
        addresses.truncate(limits::ADDRESSES_MAX);
        if addresses != self.addresses {
            self.addresses = addresses;
            self.presence.hurry(now);
        }
    }

    /// The newest epoch that this member knows.
    pub fn set_head(&mut self, head: Option<EpochHead>, now: Instant) {
        if head != self.head {
            (self.head, self.heard_head) = (head, None);
            self.head_timer.hurry(now + wait());
        }
    }

    /// Somebody begins to listen, or the last one is gone.
    pub fn set_listened(&mut self, listened: bool, now: Instant) {
        if listened && !self.listened {
            // Nobody has heard where we are since then.
            self.presence.hurry(now);
        }
        self.listened = listened;
        if listened && !self.head_is_fresh(now) && self.head.is_some() {
            self.head_timer.hurry(now + wait());
        }
    }

    /// When something is to be announced next.
    pub fn next_due(&self) -> Option<Instant> {
        [self.presence.due, self.head_timer.due].into_iter().flatten().min().filter(|_| self.listened)
    }

    /// What is to be announced now.
    pub fn due(&mut self, now: Instant) -> Vec<Announcement> {
        let mut due = Vec::new();
        if !self.listened {
            return due;
        }
        if self.presence.take(now) {
            self.number += 1;
            let next = if self.number == 1 { AGAIN } else { jittered(limits::PRESENCE_INTERVAL) };
            self.presence.due = Some(now + next);
            let (incarnation, number, addresses) = (self.incarnation, self.number, self.addresses.clone());
            let presence = Presence { incarnation, number, addresses };
            due.push(Announcement::new(self.cluster, AnnouncementMessage::Presence(presence)));
        }
        if self.head_timer.take(now)
            && let Some(head) = self.head.clone()
        {
            self.heard_head = Some(now);
            due.push(Announcement::new(self.cluster, AnnouncementMessage::EpochHead(head)));
        }
        due
    }

    /// A member announces something, or answers for what somebody announces whom we do not know.
    pub fn hear(&mut self, from: MemberId, message: &AnnouncementMessage, now: Instant) -> Verdict {
        match message {
            AnnouncementMessage::Presence(presence) => self.hear_presence(from, presence, now),
            AnnouncementMessage::EpochHead(head) => self.hear_head(from, head, now),
        }
    }

    /// Who is no member any more is forgotten.
    pub fn keep(&mut self, is_member: impl Fn(&MemberId) -> bool) {
        self.heard.retain(|member, _| is_member(member));
        self.newer.retain(|member, _| is_member(member));
    }

    fn hear_presence(&mut self, from: MemberId, presence: &Presence, now: Instant) -> Verdict {
        let latest = (presence.incarnation, presence.number);
        let before = self.heard.get(&from);
        if before.is_some_and(|before| latest <= before.latest) {
            return Verdict::Drop;
        }
        // An incarnation is raised durably at every start, so a new one is never too fast.
        let too_fast = |before: &&Heard| before.latest.0 == latest.0 && now < before.at + PAUSE / 2;
        let passed_on = before.filter(too_fast).map(|before| before.at);
        self.heard.insert(from, Heard { latest, at: passed_on.unwrap_or(now) });
        passed_on.map_or(Verdict::PassOn, |_| Verdict::Take)
    }

    fn hear_head(&mut self, from: MemberId, head: &EpochHead, now: Instant) -> Verdict {
        let ours = self.head.as_ref().map_or(Epoch(0), |head| head.epoch);
        if head.epoch > ours {
            // Each member's word counts, but not all the time: another one's may be the true one.
            let before = self.newer.get(&from);
            if before.is_some_and(|at| now < *at + PAUSE) {
                return Verdict::Drop;
            }
            self.newer.insert(from, now);
            return Verdict::Take;
        }
        if head.epoch < ours {
            // Somebody is behind.
            self.head_timer.hurry(now + wait());
        }
        // Another proof of the same epoch may be none.
        if self.head.as_ref() != Some(head) {
            return Verdict::Drop;
        }
        self.head_timer.due = None;
        if self.head_is_fresh(now) {
            return Verdict::Drop;
        }
        self.heard_head = Some(now);
        Verdict::PassOn
    }

    /// Whether our head was announced so recently that everybody has it, or soon will.
    fn head_is_fresh(&self, now: Instant) -> bool {
        self.heard_head.is_some_and(|at| now < at + HEAD_FRESH)
    }
}

impl Timer {
    /// At that moment, or as soon after it as the pause allows; not later than before.
    fn hurry(&mut self, at: Instant) {
        let earliest = self.last.map_or(at, |last| at.max(last + PAUSE));
        self.due = Some(self.due.map_or(earliest, |due| due.min(earliest)));
    }

    fn take(&mut self, now: Instant) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        if due {
            (self.due, self.last) = (None, Some(now));
        }
        due
    }
}

/// Not all at the same moment.
fn wait() -> Duration {
    jittered(HEAD_WAIT / 2) * 2 - HEAD_WAIT / 2
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{Certificate, Digest, EpochLink, Round, Slot, Tip};

    const PEER: MemberId = MemberId([7; 32]);

    fn announcer(now: Instant) -> Announcer {
        Announcer::new(Digest([1; 32]), Incarnation(3), now)
    }

    fn head(epoch: u64) -> EpochHead {
        let tip = Tip { round: Round::default(), slot: Slot(epoch), digest: Digest::ZERO };
        let certificate = Certificate { tip, votes: Vec::new() };
        EpochHead { epoch: Epoch(epoch), link: EpochLink { parent: Digest::ZERO, entry: Bytes::new(), certificate } }
    }

    fn presence(incarnation: u64, number: u64) -> AnnouncementMessage {
        let incarnation = Incarnation(incarnation);
        AnnouncementMessage::Presence(Presence { incarnation, number, addresses: Vec::new() })
    }

    /// Announces for so long; gives when each presence was.
    fn presences(announcer: &mut Announcer, from: Instant, seconds: u64) -> Vec<u64> {
        let mut at = Vec::new();
        while let Some(due) = announcer.next_due().filter(|due| *due < from + Duration::from_secs(seconds)) {
            at.extend(announcer.due(due).iter().map(|_| due.duration_since(from).as_secs()));
        }
        at
    }

    #[test]
    fn a_presence_is_announced_when_somebody_listens_and_now_and_then() {
        let now = Instant::now();
        let mut announcer = announcer(now);
        assert_eq!((announcer.next_due(), announcer.due(now)), (None, Vec::new()), "nobody listens");
        announcer.set_listened(true, now);
        let at = presences(&mut announcer, now, 600);
        assert_eq!(at[..2], [0, 2]);
        assert!((6..=11).contains(&at.len()), "{at:?}");
        // Whenever the last one was, it was not just now.
        let moved = now + Duration::from_secs(600) + PAUSE;
        announcer.set_addresses(vec!["/ip4/10.0.0.1/tcp/1".to_owned()], moved);
        let AnnouncementMessage::Presence(told) = announcer.due(moved).remove(0).message else { panic!("a presence") };
        assert_eq!((told.incarnation, told.number, told.addresses.len()), (Incarnation(3), at.len() as u64 + 1, 1));
        announcer.set_addresses(Vec::new(), moved);
        assert_eq!(announcer.due(moved), [], "not in a hurry all the time");
        assert_eq!(announcer.due(moved + PAUSE).len(), 1);
    }

    #[test]
    fn of_all_who_know_an_epoch_one_announces_it() {
        let now = Instant::now();
        let mut announcer = announcer(now);
        announcer.set_listened(true, now);
        announcer.due(now);
        announcer.set_head(Some(head(1)), now);
        let later = now + HEAD_WAIT;
        assert_eq!(announcer.hear(PEER, &AnnouncementMessage::EpochHead(head(1)), now), Verdict::PassOn);
        assert_eq!(announcer.hear(PEER, &AnnouncementMessage::EpochHead(head(1)), now), Verdict::Drop, "again");
        assert_eq!(announcer.due(later), [], "somebody else did");
        announcer.set_listened(true, later);
        assert_eq!(announcer.due(later + HEAD_WAIT), [], "and just now");
        announcer.set_head(Some(head(2)), later);
        assert_eq!(announcer.due(later + HEAD_WAIT).len(), 1);
        let late = later + 10 * HEAD_FRESH;
        announcer.due(late);
        assert_eq!(announcer.hear(PEER, &AnnouncementMessage::EpochHead(head(1)), late), Verdict::Drop);
        let told = announcer.due(late + HEAD_WAIT);
        let tells = |one: &Announcement| one.message == AnnouncementMessage::EpochHead(head(2));
        assert!(told.iter().any(tells), "who is behind is told");
    }

    /// A head with a false proof, or of an epoch that there is not, silences nobody.
    #[test]
    fn a_head_that_is_not_ours_stands_in_nobodys_way() {
        let now = Instant::now();
        let mut announcer = announcer(now);
        let other = MemberId([8; 32]);
        announcer.set_listened(true, now);
        announcer.due(now);
        assert_eq!(announcer.hear(PEER, &AnnouncementMessage::EpochHead(head(0)), now), Verdict::Drop);
        announcer.set_head(Some(head(1)), now);
        assert_eq!(announcer.hear(PEER, &AnnouncementMessage::EpochHead(head(9)), now), Verdict::Take);
        assert_eq!(announcer.hear(PEER, &AnnouncementMessage::EpochHead(head(9)), now), Verdict::Drop, "too fast");
        assert_eq!(announcer.hear(other, &AnnouncementMessage::EpochHead(head(2)), now), Verdict::Take);
        let mut false_proof = head(1);
        false_proof.link.parent = Digest([9; 32]);
        assert_eq!(announcer.hear(PEER, &AnnouncementMessage::EpochHead(false_proof), now), Verdict::Drop);
        assert_eq!(announcer.due(now + HEAD_WAIT).len(), 1, "ours is announced");
        // What was taken is proven, and goes on from here.
        announcer.set_head(Some(head(2)), now + HEAD_WAIT);
        assert_eq!(announcer.hear(PEER, &AnnouncementMessage::EpochHead(head(2)), now + HEAD_WAIT), Verdict::PassOn);
    }

    #[test]
    fn where_there_is_no_head_any_more_nothing_is_due() {
        let now = Instant::now();
        let mut announcer = announcer(now);
        announcer.set_listened(true, now);
        announcer.due(now);
        announcer.set_head(Some(head(1)), now);
        announcer.set_head(None, now);
        let later = now + HEAD_WAIT;
        assert_eq!(announcer.due(later), []);
        assert!(announcer.next_due() > Some(later));
    }

    #[test]
    fn only_later_presences_are_passed_on_and_none_too_fast() {
        let now = Instant::now();
        let mut announcer = announcer(now);
        assert_eq!(announcer.hear(PEER, &presence(2, 5), now), Verdict::PassOn);
        let later = now + PAUSE;
        for old in [presence(2, 5), presence(2, 4), presence(1, 9)] {
            assert_eq!(announcer.hear(PEER, &old, later), Verdict::Drop);
        }
        assert_eq!(announcer.hear(PEER, &presence(2, 6), later), Verdict::PassOn);
        let soon = later + PAUSE / 4;
        assert_eq!(announcer.hear(PEER, &presence(2, 7), soon), Verdict::Take, "too fast to be passed on");
        assert_eq!(announcer.hear(PEER, &presence(2, 7), later + PAUSE), Verdict::Drop, "again");
        assert_eq!(announcer.hear(PEER, &presence(2, 8), later + PAUSE / 2), Verdict::PassOn);
        assert_eq!(announcer.hear(PEER, &presence(3, 1), later), Verdict::PassOn, "it started again");
        announcer.keep(|_| false);
        assert_eq!(announcer.hear(PEER, &presence(1, 1), later), Verdict::PassOn);
    }
}
