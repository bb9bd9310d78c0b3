//! When a member is dialled again.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;

use super::pair::End;
use crate::types::{MemberId, limits};

/// The dialling of every other member.
pub(super) struct Dialler {
    members: BTreeMap<MemberId, Dialling>,
}

/// The dialling of one member.
struct Dialling {
    /// Not before this moment.
    due: Instant,
    /// The dial that runs.
    running: Option<ConnectionId>,
    failures: u32,
}

impl Dialler {
    /// Everybody is dialled at once.
    pub fn new(members: impl Iterator<Item = MemberId>, now: Instant) -> Dialler {
        Dialler { members: members.map(|member| (member, Dialling::new(now))).collect() }
    }

    /// Whom to dial now. Who is `reached` already has a link, or a connection that may become one.
    pub fn due(&self, now: Instant, reached: impl Fn(&MemberId) -> bool) -> Vec<MemberId> {
        let due = self.idle(reached).filter(|(_, dialling)| dialling.due <= now);
        due.map(|(member, _)| *member).collect()
    }

    /// When somebody is to be dialled next.
    pub fn next_due(&self, reached: impl Fn(&MemberId) -> bool) -> Option<Instant> {
        self.idle(reached).map(|(_, dialling)| dialling.due).min()
    }

    /// A dial runs.
    pub fn began(&mut self, member: &MemberId, id: ConnectionId) {
        self.of(member).running = Some(id);
    }

    /// A dial is over, well or not; gives whose it was, unless it was none of ours.
    pub fn ended(&mut self, id: ConnectionId) -> Option<MemberId> {
        let (member, dialling) = self.members.iter_mut().find(|(_, dialling)| dialling.running == Some(id))?;
        dialling.running = None;
        Some(*member)
    }

    /// The member was not reached; gives whether that is new.
    pub fn failed(&mut self, member: &MemberId, now: Instant) -> bool {
        let dialling = self.of(member);
        let fresh = dialling.failures == 0;
        dialling.failed(now);
        fresh
    }

    /// A connection has ended, which was a link since `since` if it was one. Nothing happens for who is no member.
    pub fn over(&mut self, member: &MemberId, since: Option<Instant>, end: &End, now: Instant) {
        let Some(dialling) = self.members.get_mut(member) else {
            return;
        };
        match (end, since) {
            (End::Refused { .. } | End::Malformed(_), _) => dialling.refused(now),
            (_, Some(since)) => dialling.lost(since, now),
            (_, None) => dialling.failed(now),
        }
    }

    fn idle(&self, reached: impl Fn(&MemberId) -> bool) -> impl Iterator<Item = (&MemberId, &Dialling)> {
        self.members.iter().filter(move |(member, dialling)| dialling.running.is_none() && !reached(member))
    }

    fn of(&mut self, member: &MemberId) -> &mut Dialling {
        self.members.get_mut(member).expect("members stay")
    }
}

impl Dialling {
    fn new(now: Instant) -> Dialling {
        Dialling { due: now, running: None, failures: 0 }
    }

    /// The member was not reached, or the connection came to nothing.
    fn failed(&mut self, now: Instant) {
        self.due = now + jittered(pause(self.failures));
        self.failures = self.failures.saturating_add(1);
    }

    /// One side refused the other.
    fn refused(&mut self, now: Instant) {
        self.due = now + jittered(limits::REFUSED_PAUSE);
    }

    /// A link that was up since `since` is lost: at once, unless links come and go.
    fn lost(&mut self, since: Instant, now: Instant) {
        if now.duration_since(since) >= limits::DIAL_PAUSE_MAX {
            self.failures = 0;
            self.due = now;
        } else {
            self.failed(now);
        }
    }
}

fn pause(failures: u32) -> Duration {
    limits::DIAL_PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(limits::DIAL_PAUSE_MAX)
}

/// Between three quarters and five quarters of it, so that two members do not keep dialling each other in step.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 1024;
    pause * 3 / 4 + pause * random as u32 / 2048
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        assert_eq!(pause(0), limits::DIAL_PAUSE_MIN);
        assert_eq!(pause(1), 2 * limits::DIAL_PAUSE_MIN);
        assert_eq!(pause(6), limits::DIAL_PAUSE_MAX);
        assert_eq!(pause(u32::MAX), limits::DIAL_PAUSE_MAX);
        for _ in 0..100 {
            let jittered = jittered(Duration::from_secs(4));
            assert!((3.0..5.0).contains(&jittered.as_secs_f64()));
        }
    }

    #[test]
    fn a_link_that_lasted_is_dialled_at_once() {
        let start = Instant::now();
        let mut dialling = Dialling::new(start);
        dialling.failed(start);
        assert!(dialling.due > start);
        let later = start + 2 * limits::DIAL_PAUSE_MAX;
        dialling.lost(start, later);
        assert_eq!(dialling.due, later);
        dialling.lost(later, later);
        assert!(dialling.due > later, "a link that comes and goes waits");
    }

    #[test]
    fn who_is_being_dialled_or_reached_is_not_dialled() {
        let now = Instant::now();
        let (one, two) = (MemberId([1; 32]), MemberId([2; 32]));
        let mut dialler = Dialler::new([one, two].into_iter(), now);
        assert_eq!(dialler.due(now, |_| false), [one, two]);
        assert_eq!(dialler.due(now, |member| *member == one), [two]);
        let dial = ConnectionId::new_unchecked(1);
        dialler.began(&two, dial);
        assert_eq!(dialler.due(now, |_| false), [one]);
        assert_eq!(dialler.next_due(|member| *member == one), None, "nobody is left");
        assert_eq!((dialler.ended(dial), dialler.ended(dial)), (Some(two), None));
        assert!(dialler.failed(&two, now), "the first failure is news");
        assert!(!dialler.failed(&two, now));
        assert_eq!(dialler.due(now, |_| false), [one]);
        assert!(dialler.next_due(|member| *member == one) > Some(now));
    }

    #[test]
    fn after_a_refusal_there_is_no_haste() {
        let now = Instant::now();
        let member = MemberId([1; 32]);
        let pause_after = |end: End| {
            let mut dialler = Dialler::new([member].into_iter(), now);
            dialler.over(&member, None, &end, now);
            dialler.over(&MemberId([2; 32]), None, &end, now);
            dialler.next_due(|_| false).unwrap() - now
        };
        assert!(pause_after(End::Closed) < limits::DIAL_PAUSE_MAX);
        assert!(pause_after(End::Malformed(String::new())) > limits::DIAL_PAUSE_MAX);
        let refusal = crate::types::peer::Refusal::NotAMember(member);
        assert!(pause_after(End::refused_by_them(refusal)) > limits::DIAL_PAUSE_MAX);
    }
}
