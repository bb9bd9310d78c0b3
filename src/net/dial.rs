//! When a member is dialled again.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::swarm::ConnectionId;

use super::pair::End;
use super::roster::Target;
use super::transport::Transport;
use crate::types::peer::Refusal;
use crate::types::{MemberId, limits};

/// Where everybody on the roster is found, and the dialling of those whom it wants dialled.
#[derive(Default)]
pub(super) struct Dialler {
    members: BTreeMap<MemberId, Dialling>,
}

/// The dialling of one member.
struct Dialling {
    /// Where the roster says it listens, and whether it is to be dialled.
    target: Target,
    /// Where it was reached last: it may be there still, whatever the roster says.
    worked: Option<Multiaddr>,
    /// Where else it is said to be, the newest word first.
    hints: Vec<Multiaddr>,
    /// When a hint was last a reason to dial.
    hinted: Option<Instant>,
    /// Not before this moment.
    due: Instant,
    /// The dial that runs.
    running: Option<ConnectionId>,
    /// What the last dial went over.
    last: Transport,
    /// What is dialled first: what the last link went over, TCP as long as there was none.
    first: Transport,
    /// What became of the dial over what is first: then it is the other one's turn.
    first_failed: Option<String>,
    /// Whether news made us wait no longer for a dial, since the last one that was over.
    superseded: bool,
    failures: u32,
    /// While its link goes over QUIC: when TCP is tried again.
    by_quic: Option<Again>,
    /// While its link goes over TCP: since when.
    by_tcp: Option<Instant>,
    /// Links over TCP in a row that did not last.
    tcp_lost: u32,
}

/// The next dial over TCP to a member whose link goes over QUIC.
#[derive(Clone, Copy)]
struct Again {
    due: Instant,
    failures: u32,
    /// Whether it was told that TCP reaches nobody.
    told: bool,
}

/// Dials over TCP that are refused before QUIC is tried.
const REFUSALS_BEFORE_QUIC: u32 = 3;

/// What became of a dial that did not reach anybody.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The other transport is tried at once.
    GoesOn,
    /// Nobody was reached.
    Over {
        /// Why, over each transport that was tried.
        trouble: String,
        /// Whether the dial before it reached the member.
        fresh: bool,
    },
    /// The link over QUIC stays.
    StaysQuic {
        /// Why nobody was reached over TCP.
        trouble: String,
        /// Whether it is the first such dial of this link.
        fresh: bool,
    },
}

impl Dialler {
    /// A new roster. Who is new, or is to be found elsewhere, is dialled at once. Nobody else waits long: whoever did not
    /// know us yet may by now.
    pub fn direct(&mut self, targets: BTreeMap<MemberId, Target>, now: Instant) {
        let mut before = std::mem::take(&mut self.members);
        for (member, target) in targets {
            let dialling = match before.remove(&member) {
                Some(mut dialling) => {
                    dialling.look_again(target, now);
                    dialling
                }
                None => Dialling::new(target, now),
            };
            self.members.insert(member, dialling);
        }
    }

    /// Where a member may be found: what the roster says, and where it was reached last.
    pub fn addresses(&self, member: &MemberId) -> Vec<Multiaddr> {
        self.members.get(member).map(Dialling::everywhere).unwrap_or_default()
    }

    /// Where to dial a member now: over one transport; TCP first, unless the last link went over QUIC.
    pub fn turn(&self, member: &MemberId) -> Vec<Multiaddr> {
        self.members.get(member).map(Dialling::turn).unwrap_or_default()
    }

    /// A dial reached the member there.
    pub fn reached(&mut self, member: &MemberId, address: Multiaddr) {
        if let Some(dialling) = self.members.get_mut(member) {
            dialling.worked = Some(address);
            (dialling.first_failed, dialling.superseded) = (None, false);
        }
    }

    /// A connection has become the link of a member. Over QUIC it is a makeshift: perhaps TCP was dialled when nobody
    /// listened yet, so it is tried again at once, and now and then as long as the link lasts.
    pub fn linked(&mut self, member: &MemberId, over: Transport, now: Instant) {
        if let Some(dialling) = self.members.get_mut(member) {
            dialling.first = over;
            if over == Transport::Quic {
                // One over TCP gives way to it only when it is silent, or lost on the other side.
                dialling.lose_tcp(now);
            }
            dialling.by_tcp = (over == Transport::Tcp).then_some(now);
            // Where TCP is reached and lost again and again, there is less haste each time.
            let failures = dialling.tcp_lost;
            let due = if failures == 0 { now } else { now + Again::pause(failures) };
            dialling.by_quic = (over == Transport::Quic).then_some(Again { due, failures, told: false });
        }
    }

    /// This machine has a new address: whoever is to be dialled is dialled now. What was tried without it says nothing, and
    /// what QUIC sent into the void it sends again after a second or more.
    pub fn hurry(&mut self, now: Instant) {
        for dialling in self.members.values_mut() {
            (dialling.failures, dialling.first_failed) = (0, None);
            dialling.by_quic.iter_mut().for_each(|again| again.failures = dialling.tcp_lost);
            dialling.supersede();
            dialling.dial_now(now);
        }
    }

    /// A member is said to be there: a reason to dial it, where nobody knew.
    pub fn hint(&mut self, member: &MemberId, address: Multiaddr, now: Instant) {
        if let Some(dialling) = self.members.get_mut(member) {
            dialling.hint(address, now);
        }
    }

    /// The member that is known to listen there.
    pub fn owner(&self, address: &Multiaddr) -> Option<MemberId> {
        let listens = |dialling: &Dialling| {
            dialling.worked.as_ref() == Some(address) || dialling.target.addresses.contains(address)
        };
        self.members.iter().find(|(_, dialling)| listens(dialling)).map(|(member, _)| *member)
    }

    /// Whom to dial now. Who is `reached` already has a link over TCP, or a connection that may become one.
    pub fn due(&self, now: Instant, reached: impl Fn(&MemberId) -> bool) -> Vec<MemberId> {
        let due = self.idle(reached).filter(|(_, due)| *due <= now);
        due.map(|(member, _)| *member).collect()
    }

    /// When somebody is to be dialled next.
    pub fn next_due(&self, reached: impl Fn(&MemberId) -> bool) -> Option<Instant> {
        self.idle(reached).map(|(_, due)| due).min()
    }

    /// A dial runs, to the addresses whose turn it is.
    pub fn began(&mut self, member: &MemberId, id: ConnectionId) {
        if let Some(dialling) = self.members.get_mut(member) {
            dialling.last = dialling.turn().first().map_or(Transport::Tcp, Transport::of);
            dialling.running = Some(id);
        }
    }

    /// A dial is over, well or not; gives whose it was, unless it was none of ours.
    pub fn ended(&mut self, id: ConnectionId) -> Option<MemberId> {
        let (member, dialling) = self.members.iter_mut().find(|(_, dialling)| dialling.running == Some(id))?;
        dialling.running = None;
        Some(*member)
    }

    /// The member was not reached where its turn was; none if nobody wants it reached any more.
    /// `refused` says that the system there answered that nobody listens: most likely it is just not up yet, and QUIC, which
    /// would wait for it, is only tried when that goes on.
    pub fn failed(&mut self, member: &MemberId, trouble: String, refused: bool, now: Instant) -> Option<Failed> {
        let dialling = self.members.get_mut(member)?;
        dialling.superseded = false;
        if let Some(again) = &mut dialling.by_quic {
            again.failed(now);
            return Some(Failed::StaysQuic { trouble, fresh: !std::mem::replace(&mut again.told, true) });
        }
        if dialling.other_is_next() && (!refused || dialling.failures >= REFUSALS_BEFORE_QUIC) {
            (dialling.first_failed, dialling.due) = (Some(trouble), now);
            return Some(Failed::GoesOn);
        }
        let trouble = match dialling.first_failed.take() {
            Some(before) => format!("{before}; {trouble}"),
            None => trouble,
        };
        let fresh = dialling.failures == 0;
        dialling.failed(now);
        Some(Failed::Over { trouble, fresh })
    }

    /// There is nowhere to dial a member.
    pub fn nowhere(&mut self, member: &MemberId, now: Instant) {
        let Some(dialling) = self.members.get_mut(member) else { return };
        match &mut dialling.by_quic {
            Some(again) => again.failed(now),
            None => dialling.failed(now),
        }
    }

    /// A connection has ended, which was the link since `since` if it was that and no other one is. Nothing happens for whom
    /// we do not dial.
    pub fn over(&mut self, member: &MemberId, since: Option<Instant>, end: &End, now: Instant) {
        let Some(dialling) = self.members.get_mut(member) else {
            return;
        };
        if since.is_some() {
            dialling.by_quic = None;
            dialling.lose_tcp(now);
        }
        if let Some(again) = &mut dialling.by_quic {
            // It was to take over from a link over QUIC, which there is still.
            again.failed(now);
            return;
        }
        match (end, since) {
            // It does not know us yet, or no longer; it learns of its members from the order, as we do.
            (End::Refused { by_us: None, by_them: Some(refusal) }, _)
                if matches!(**refusal, Refusal::NotAMember(_)) =>
            {
                dialling.failed(now);
            }
            (End::Refused { .. } | End::Malformed(_), _) => dialling.refused(now),
            (_, Some(since)) => dialling.lost(since, now),
            (_, None) => dialling.failed(now),
        }
    }

    /// How many links over TCP in a row did not last.
    #[cfg(test)]
    pub fn tcp_lost(&self, member: &MemberId) -> u32 {
        self.members[member].tcp_lost
    }

    fn idle(&self, reached: impl Fn(&MemberId) -> bool) -> impl Iterator<Item = (&MemberId, Instant)> {
        let idle = |dialling: &Dialling| dialling.target.dial && dialling.running.is_none();
        let idle = self.members.iter().filter(move |(member, dialling)| idle(dialling) && !reached(member));
        idle.filter_map(|(member, dialling)| Some((member, dialling.next_due()?)))
    }
}

impl Again {
    fn pause(failures: u32) -> Duration {
        jittered(limits::DIAL_PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(limits::TCP_AGAIN_PAUSE_MAX))
    }

    fn failed(&mut self, now: Instant) {
        self.due = now + Again::pause(self.failures);
        self.failures = self.failures.saturating_add(1);
    }
}

impl Dialling {
    fn new(target: Target, now: Instant) -> Dialling {
        Dialling {
            target,
            worked: None,
            hints: Vec::new(),
            hinted: None,
            due: now,
            running: None,
            last: Transport::Tcp,
            first: Transport::Tcp,
            first_failed: None,
            superseded: false,
            failures: 0,
            by_quic: None,
            by_tcp: None,
            tcp_lost: 0,
        }
    }

    /// When it is dialled next; never, if nothing but QUIC leads to it and that does already.
    fn next_due(&self) -> Option<Instant> {
        match self.by_quic {
            None => Some(self.due),
            Some(again) => (!self.over(Transport::Tcp).is_empty()).then_some(again.due),
        }
    }

    fn look_again(&mut self, target: Target, now: Instant) {
        if self.target == target {
            self.due = self.due.min(now + jittered(limits::DIAL_PAUSE_MIN));
        } else {
            let (worked, hints) = (self.worked.take(), std::mem::take(&mut self.hints));
            let by_quic = self.by_quic.map(|_| Again { due: now, failures: 0, told: false });
            let (first, by_tcp) = (self.first, self.by_tcp);
            // A dial to where it was before may take long to fail, and is not waited for.
            *self = Dialling { worked, hints, first, by_quic, by_tcp, ..Dialling::new(target, now) };
        }
    }

    fn hint(&mut self, address: Multiaddr, now: Instant) {
        if self.everywhere().contains(&address) {
            return;
        }
        self.hints.insert(0, address);
        self.hints.truncate(limits::HINTS_MAX);
        // Words are cheap, dials are not.
        if self.hinted.is_none_or(|before| now >= before + limits::HINT_PAUSE) {
            self.hinted = Some(now);
            self.dial_now(now);
        }
    }

    /// There may be a way now where there was none. A dial over TCP that does not know of it may take long to fail, and is
    /// not waited for; but the next one is, so that a flow of such news leaves QUIC its turn.
    fn dial_now(&mut self, now: Instant) {
        self.due = now;
        self.by_quic.iter_mut().for_each(|again| again.due = now);
        if self.last == Transport::Tcp {
            self.supersede();
        }
    }

    /// The dial that runs is not waited for, unless the one before it was not, either.
    fn supersede(&mut self) {
        if self.running.is_some() && !self.superseded {
            (self.running, self.superseded) = (None, true);
        }
    }

    fn everywhere(&self) -> Vec<Multiaddr> {
        let mut everywhere = self.target.addresses.clone();
        for address in self.worked.iter().chain(&self.hints) {
            if !everywhere.contains(address) {
                everywhere.push(address.clone());
            }
        }
        everywhere
    }

    fn over(&self, transport: Transport) -> Vec<Multiaddr> {
        self.everywhere().into_iter().filter(|address| Transport::of(address) == transport).collect()
    }

    fn turn(&self) -> Vec<Multiaddr> {
        if self.by_quic.is_some() {
            return self.over(Transport::Tcp);
        }
        let (first, other) = (self.over(self.first), self.over(self.first.other()));
        if first.is_empty() || self.first_failed.is_some() && !other.is_empty() { other } else { first }
    }

    /// Whether what is first was tried just now, and the other transport can be.
    fn other_is_next(&self) -> bool {
        self.last == self.first && self.first_failed.is_none() && !self.over(self.first.other()).is_empty()
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

    /// Its link goes over TCP no more, if it did.
    fn lose_tcp(&mut self, now: Instant) {
        if let Some(since) = self.by_tcp.take() {
            let lasted = now.duration_since(since) >= limits::TCP_AGAIN_PAUSE_MAX;
            self.tcp_lost = if lasted { 0 } else { self.tcp_lost.saturating_add(1) };
        }
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
pub(super) fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 1024;
    pause * 3 / 4 + pause * random as u32 / 2048
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }

    fn at(port: u16) -> Target {
        Target { addresses: vec![address(port)], dial: true }
    }

    fn dialler(members: &[MemberId], now: Instant) -> Dialler {
        let mut dialler = Dialler::default();
        dialler.direct(members.iter().map(|member| (*member, at(1))).collect(), now);
        dialler
    }

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
        let mut dialling = Dialling::new(at(1), start);
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
        let mut dialler = dialler(&[one, two], now);
        assert_eq!(dialler.due(now, |_| false), [one, two]);
        assert_eq!(dialler.due(now, |member| *member == one), [two]);
        let dial = ConnectionId::new_unchecked(1);
        dialler.began(&two, dial);
        assert_eq!(dialler.due(now, |_| false), [one]);
        assert_eq!(dialler.next_due(|member| *member == one), None, "nobody is left");
        assert_eq!((dialler.ended(dial), dialler.ended(dial)), (Some(two), None));
        let over = |fresh| Some(Failed::Over { trouble: "refused".to_owned(), fresh });
        assert_eq!(dialler.failed(&two, "refused".to_owned(), false, now), over(true), "the first failure is news");
        assert_eq!(dialler.failed(&two, "refused".to_owned(), false, now), over(false));
        assert_eq!(dialler.due(now, |_| false), [one]);
        assert!(dialler.next_due(|member| *member == one) > Some(now));
    }

    #[test]
    fn after_a_refusal_there_is_no_haste() {
        let now = Instant::now();
        let member = MemberId([1; 32]);
        let pause_after = |end: End| {
            let mut dialler = dialler(&[member], now);
            dialler.over(&member, None, &end, now);
            dialler.over(&MemberId([2; 32]), None, &end, now);
            dialler.next_due(|_| false).unwrap() - now
        };
        assert!(pause_after(End::Closed) < limits::DIAL_PAUSE_MAX);
        assert!(pause_after(End::Malformed(String::new())) > limits::DIAL_PAUSE_MAX);
        assert!(pause_after(End::refused_by_them(Refusal::TwoProcesses(member))) > limits::DIAL_PAUSE_MAX);
        assert!(pause_after(End::refused_by_us(Refusal::NotAMember(member))) > limits::DIAL_PAUSE_MAX);
        let unknown = pause_after(End::refused_by_them(Refusal::NotAMember(member)));
        assert!(unknown < limits::DIAL_PAUSE_MAX, "it may learn of us any moment");
    }

    #[test]
    fn a_new_roster_is_a_new_start() {
        let now = Instant::now();
        let [stays, moves, comes, goes] = [1, 2, 3, 4].map(|byte| MemberId([byte; 32]));
        let mut dialler = dialler(&[stays, moves, goes], now);
        let refused = End::refused_by_them(Refusal::TwoProcesses(stays));
        [stays, moves, goes].iter().for_each(|member| dialler.over(member, None, &refused, now));
        dialler.reached(&moves, address(1));
        let roster = [(stays, 1), (moves, 2), (comes, 3)].map(|(member, port)| (member, at(port)));
        dialler.direct(roster.into(), now);
        assert_eq!(dialler.due(now, |_| false), [moves, comes]);
        assert_eq!(dialler.due(now + 2 * limits::DIAL_PAUSE_MIN, |_| false), [stays, moves, comes], "after a moment");
        assert_eq!(dialler.addresses(&moves), [address(2), address(1)], "where it was may be right still");
        assert_eq!(dialler.addresses(&goes), [] as [Multiaddr; 0]);
        dialler.began(&goes, ConnectionId::new_unchecked(1));
        assert!(dialler.failed(&goes, String::new(), false, now).is_none());
        assert!(dialler.ended(ConnectionId::new_unchecked(1)).is_none());
    }

    #[test]
    fn who_is_not_to_be_dialled_can_be_found_all_the_same() {
        let (now, member) = (Instant::now(), MemberId([1; 32]));
        let mut dialler = Dialler::default();
        dialler.direct(BTreeMap::from([(member, Target { dial: false, ..at(1) })]), now);
        assert_eq!((dialler.due(now, |_| false).len(), dialler.next_due(|_| false)), (0, None));
        assert_eq!(dialler.addresses(&member), [address(1)]);
        dialler.direct(BTreeMap::from([(member, at(1))]), now);
        assert_eq!(dialler.due(now, |_| false), [member]);
    }

    #[test]
    fn quic_is_tried_at_once_where_tcp_is_not_answered() {
        let (now, member) = (Instant::now(), MemberId([1; 32]));
        let quic: Multiaddr = "/ip4/127.0.0.1/udp/1/quic-v1".parse().unwrap();
        let mut dialler = Dialler::default();
        let both = Target { addresses: vec![quic.clone(), address(1), address(2)], dial: true };
        dialler.direct(BTreeMap::from([(member, both)]), now);
        assert_eq!(dialler.turn(&member), [address(1), address(2)]);
        let id = ConnectionId::new_unchecked(1);
        let began = |dialler: &mut Dialler| {
            dialler.began(&member, id);
            dialler.ended(id);
        };
        began(&mut dialler);
        assert_eq!(dialler.failed(&member, "refused".to_owned(), false, now), Some(Failed::GoesOn));
        assert_eq!((dialler.due(now, |_| false), dialler.turn(&member)), (vec![member], vec![quic.clone()]));
        began(&mut dialler);
        let over = Failed::Over { trouble: "refused; silent".to_owned(), fresh: true };
        assert_eq!(dialler.failed(&member, "silent".to_owned(), false, now), Some(over));
        assert_eq!(
            (dialler.due(now, |_| false).len(), dialler.turn(&member).len()),
            (0, 2),
            "after a pause, TCP again"
        );
        dialler.direct(BTreeMap::from([(member, Target { addresses: vec![quic.clone()], dial: true })]), now);
        assert_eq!(dialler.turn(&member), [quic]);
        began(&mut dialler);
        assert!(
            matches!(dialler.failed(&member, String::new(), false, now), Some(Failed::Over { .. })),
            "there is no other"
        );
    }

    #[test]
    fn a_link_over_quic_is_a_makeshift() {
        let (now, member) = (Instant::now(), MemberId([1; 32]));
        let quic: Multiaddr = "/ip4/127.0.0.1/udp/1/quic-v1".parse().unwrap();
        let mut dialler = dialler(&[member], now);
        dialler.hint(&member, quic.clone(), now);
        dialler.failed(&member, "silent".to_owned(), false, now);
        dialler.reached(&member, quic.clone());
        dialler.linked(&member, Transport::Quic, now);
        assert_eq!((dialler.due(now, |_| false), dialler.turn(&member)), (vec![member], vec![address(1)]), "at once");
        assert_eq!(dialler.due(now, |_| true), [], "not while a connection over TCP is on its way");
        let stays = |fresh| Some(Failed::StaysQuic { trouble: "silent".to_owned(), fresh });
        assert_eq!(dialler.failed(&member, "silent".to_owned(), false, now), stays(true));
        assert_eq!((dialler.due(now, |_| false).len(), dialler.turn(&member)), (0, vec![address(1)]));
        for _ in 0..30 {
            assert_eq!(dialler.failed(&member, "silent".to_owned(), false, now), stays(false));
        }
        let pause = dialler.next_due(|_| false).unwrap() - now;
        assert!(pause > limits::DIAL_PAUSE_MAX && pause <= limits::TCP_AGAIN_PAUSE_MAX * 5 / 4, "{pause:?}");
        dialler.over(&member, None, &End::Left, now);
        assert!(dialler.next_due(|_| false).unwrap() > now + limits::DIAL_PAUSE_MAX, "what came to nothing counts so");
        dialler.direct(BTreeMap::from([(member, at(2))]), now);
        assert_eq!(dialler.due(now, |_| false), [member], "it may be reached elsewhere");
        dialler.direct(BTreeMap::from([(member, Target { addresses: vec![quic], dial: true })]), now);
        dialler.linked(&member, Transport::Quic, now);
        assert_eq!(dialler.next_due(|_| false), None, "nowhere else");
        dialler.over(&member, Some(now), &End::Closed, now);
        assert!(dialler.next_due(|_| false).is_some(), "the link is lost");
    }

    /// An address of its own may be ours by now, which nobody dials.
    #[test]
    fn who_cannot_be_dialled_is_not_tried_all_the_time() {
        let (now, member) = (Instant::now(), MemberId([1; 32]));
        for over in [Transport::Tcp, Transport::Quic] {
            let mut dialler = dialler(&[member], now);
            dialler.linked(&member, over, now);
            dialler.nowhere(&member, now);
            assert!(dialler.next_due(|_| false) > Some(now), "{over}");
        }
    }

    #[test]
    fn tcp_that_does_not_last_is_tried_at_leisure() {
        let (now, member) = (Instant::now(), MemberId([1; 32]));
        let mut dialler = dialler(&[member], now);
        let next = |dialler: &mut Dialler| {
            dialler.linked(&member, Transport::Quic, now);
            dialler.next_due(|_| false).unwrap() - now
        };
        let lost = |dialler: &mut Dialler, after: Duration| {
            dialler.linked(&member, Transport::Tcp, now);
            dialler.over(&member, Some(now), &End::Lost(String::new()), now + after);
        };
        assert_eq!(next(&mut dialler), Duration::ZERO);
        for _ in 0..12 {
            lost(&mut dialler, limits::LINK_SILENCE_MAX);
        }
        assert!(next(&mut dialler) >= limits::TCP_AGAIN_PAUSE_MAX * 3 / 4);
        let stays = |fresh| Some(Failed::StaysQuic { trouble: String::new(), fresh });
        assert_eq!(dialler.failed(&member, String::new(), false, now), stays(true), "however often it was lost before");
        assert_eq!(dialler.failed(&member, String::new(), false, now), stays(false));
        lost(&mut dialler, limits::TCP_AGAIN_PAUSE_MAX);
        assert_eq!(next(&mut dialler), Duration::ZERO, "one that lasted is trusted");
    }

    #[test]
    fn tcp_that_gives_way_to_quic_is_lost() {
        let (now, member) = (Instant::now(), MemberId([1; 32]));
        let mut dialler = dialler(&[member], now);
        let replaced = |dialler: &mut Dialler, after: Duration| {
            dialler.linked(&member, Transport::Tcp, now);
            dialler.linked(&member, Transport::Quic, now + after);
            dialler.next_due(|_| false).unwrap() - (now + after)
        };
        assert!(replaced(&mut dialler, limits::LINK_SILENCE_MAX) > Duration::ZERO);
        assert_eq!(dialler.tcp_lost(&member), 1);
        dialler.direct(BTreeMap::from([(member, at(2))]), now);
        assert_eq!(dialler.tcp_lost(&member), 0, "elsewhere it may last");
        dialler.linked(&member, Transport::Tcp, now);
        dialler.direct(BTreeMap::from([(member, at(1))]), now);
        dialler.linked(&member, Transport::Quic, now);
        assert_eq!(dialler.tcp_lost(&member), 1, "this one did not");
        assert_eq!(replaced(&mut dialler, limits::TCP_AGAIN_PAUSE_MAX), Duration::ZERO, "one that lasted is trusted");
    }

    #[test]
    fn what_worked_last_is_dialled_first() {
        let (now, member) = (Instant::now(), MemberId([1; 32]));
        let quic: Multiaddr = "/ip4/127.0.0.1/udp/1/quic-v1".parse().unwrap();
        let mut dialler = Dialler::default();
        let both = Target { addresses: vec![address(1), quic.clone()], dial: true };
        dialler.direct(BTreeMap::from([(member, both)]), now);
        dialler.linked(&member, Transport::Quic, now);
        dialler.over(&member, Some(now), &End::Closed, now);
        assert_eq!(dialler.turn(&member), std::slice::from_ref(&quic), "TCP may take long to fail");
        dialler.began(&member, ConnectionId::new_unchecked(1));
        assert_eq!(dialler.failed(&member, "silent".to_owned(), false, now), Some(Failed::GoesOn));
        assert_eq!(dialler.turn(&member), [address(1)]);
        dialler.linked(&member, Transport::Tcp, now);
        dialler.over(&member, Some(now), &End::Closed, now);
        dialler.failed(&member, String::new(), true, now);
        assert_eq!(dialler.turn(&member), [address(1)]);
    }

    #[test]
    fn a_flow_of_hints_leaves_quic_its_turn() {
        let (mut now, member) = (Instant::now(), MemberId([1; 32]));
        let quic: Multiaddr = "/ip4/127.0.0.1/udp/1/quic-v1".parse().unwrap();
        let mut dialler = Dialler::default();
        let both = Target { addresses: vec![address(1), quic.clone()], dial: true };
        dialler.direct(BTreeMap::from([(member, both)]), now);
        let mut hint = |dialler: &mut Dialler, port| {
            now += limits::HINT_PAUSE;
            dialler.hint(&member, address(port), now);
            now
        };
        let [first, second, third] = [1, 2, 3].map(ConnectionId::new_unchecked);
        dialler.began(&member, first);
        let at = hint(&mut dialler, 2);
        assert_eq!((dialler.ended(first), dialler.due(at, |_| false)), (None, vec![member]), "not waited for");
        dialler.began(&member, second);
        let at = hint(&mut dialler, 3);
        assert_eq!(dialler.due(at, |_| false), [], "the second one is");
        assert_eq!(dialler.ended(second), Some(member));
        assert_eq!(dialler.failed(&member, "silent".to_owned(), false, at), Some(Failed::GoesOn));
        assert_eq!(dialler.turn(&member), std::slice::from_ref(&quic));
        dialler.began(&member, third);
        let at = hint(&mut dialler, 4);
        assert_eq!((dialler.due(at, |_| false), dialler.ended(third)), (vec![], Some(member)), "and so is QUIC");
    }

    #[test]
    fn what_was_dialled_without_an_address_of_ours_is_dialled_anew() {
        let (now, member) = (Instant::now(), MemberId([1; 32]));
        let quic: Multiaddr = "/ip4/127.0.0.1/udp/1/quic-v1".parse().unwrap();
        let mut dialler = Dialler::default();
        let both = Target { addresses: vec![address(1), quic], dial: true };
        dialler.direct(BTreeMap::from([(member, both)]), now);
        let [over_tcp, over_quic, anew] = [1, 2, 3].map(ConnectionId::new_unchecked);
        dialler.began(&member, over_tcp);
        assert_eq!(dialler.ended(over_tcp), Some(member));
        let unreachable = "the network is unreachable".to_owned();
        assert_eq!(dialler.failed(&member, unreachable, false, now), Some(Failed::GoesOn));
        dialler.began(&member, over_quic);
        assert_eq!(dialler.due(now, |_| false), []);
        dialler.hurry(now);
        assert_eq!((dialler.ended(over_quic), dialler.due(now, |_| false)), (None, vec![member]), "not waited for");
        assert_eq!(dialler.turn(&member), [address(1)]);
        dialler.began(&member, anew);
        dialler.hurry(now);
        assert_eq!(
            (dialler.due(now, |_| false), dialler.ended(anew)),
            (vec![], Some(member)),
            "there are two listeners"
        );
        dialler.linked(&member, Transport::Quic, now);
        for _ in 0..8 {
            dialler.failed(&member, String::new(), false, now);
        }
        dialler.hurry(now);
        dialler.failed(&member, String::new(), false, now);
        assert!(dialler.next_due(|_| false).unwrap() < now + 2 * limits::DIAL_PAUSE_MIN, "nor does it make TCP wait");
    }

    #[test]
    fn a_hint_is_a_reason_to_dial_but_not_every_one() {
        let (now, member) = (Instant::now(), MemberId([1; 32]));
        let mut dialler = dialler(&[member], now);
        dialler.failed(&member, String::new(), false, now);
        dialler.hint(&member, address(1), now);
        assert_eq!(dialler.due(now, |_| false), [], "that was known");
        dialler.hint(&member, address(2), now);
        assert_eq!(dialler.due(now, |_| false), [member]);
        dialler.failed(&member, String::new(), false, now);
        for port in 3..1000 {
            dialler.hint(&member, address(port), now);
        }
        assert_eq!(dialler.due(now, |_| false), [], "a flood of them is none");
        assert_eq!(dialler.addresses(&member).len(), 1 + limits::HINTS_MAX);
        assert_eq!(dialler.addresses(&member)[..2], [address(1), address(999)], "the roster's is never forgotten");
        dialler.began(&member, ConnectionId::new_unchecked(1));
        dialler.hint(&member, address(1000), now + limits::HINT_PAUSE);
        assert_eq!(dialler.due(now + limits::HINT_PAUSE, |_| false), [member], "nor is a dial waited for");
        assert_eq!(dialler.ended(ConnectionId::new_unchecked(1)), None);
        assert_eq!((dialler.owner(&address(1)), dialler.owner(&address(999))), (Some(member), None));
    }

    #[test]
    fn who_refuses_over_tcp_may_not_be_up_yet() {
        let (now, member) = (Instant::now(), MemberId([1; 32]));
        let quic: Multiaddr = "/ip4/127.0.0.1/udp/1/quic-v1".parse().unwrap();
        let mut dialler = Dialler::default();
        dialler.direct(BTreeMap::from([(member, Target { addresses: vec![address(1), quic], dial: true })]), now);
        let outcomes = (0..=REFUSALS_BEFORE_QUIC).map(|_| dialler.failed(&member, String::new(), true, now).unwrap());
        let outcomes: Vec<bool> = outcomes.map(|outcome| outcome == Failed::GoesOn).collect();
        assert_eq!(outcomes, [false, false, false, true]);
    }
}
