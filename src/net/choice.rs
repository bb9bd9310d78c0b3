//! The connections there are, and which one of a pair is its link. Judges only: the switchboard does what is judged.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::attempt::Verdict;
use super::link::Link;
use super::streams::StreamOutcome;
use super::transport::Transport;
use crate::types::peer::{Hello, Refusal};
use crate::types::{MemberId, limits};

/// A connection whose task runs.
pub(super) struct Connection {
    pub member: MemberId,
    /// Whether it was we who dialled.
    pub dialled: bool,
    /// Where its streams go, until it closes.
    pub streams: Option<mpsc::Sender<StreamOutcome>>,
    /// Whether any of its two streams is there.
    pub begun: bool,
    pub task: AbortHandle,
    pub offer: Option<Offer>,
    pub link: Option<Arc<Link>>,
    /// When it was established.
    pub since: Instant,
    /// The same, or when its last ping was answered.
    pub heard: Instant,
}

/// The link that a greeted connection would be, and where the verdict goes.
pub(super) type Offer = (Arc<Link>, oneshot::Sender<Verdict>);

/// What is to become of an offered link.
#[derive(Debug, PartialEq)]
pub(super) enum Choice {
    /// It is the link from now on.
    Take,
    /// The link that there is stays.
    Leave,
    /// Not with this process.
    Refuse(Refusal),
    /// Nor with the one that has the link.
    RefuseBoth(Refusal),
}

/// All connections that are, or may become, a link; and who we are.
pub(super) struct Connections {
    me: MemberId,
    all: HashMap<ConnectionId, Connection>,
    /// How many there are to each member.
    counts: HashMap<MemberId, usize>,
}

impl Connections {
    pub fn new(me: MemberId) -> Connections {
        Connections { me, all: HashMap::new(), counts: HashMap::new() }
    }

    pub fn insert(&mut self, id: ConnectionId, connection: Connection) {
        *self.counts.entry(connection.member).or_default() += 1;
        let before = self.all.insert(id, connection);
        assert!(before.is_none(), "a connection is entered once");
    }

    pub fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.all.get(&id)
    }

    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.all.get_mut(&id)
    }

    pub fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let connection = self.all.remove(&id)?;
        let count = self.counts.get_mut(&connection.member).expect("it was counted when it was entered");
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&connection.member);
        }
        Some(connection)
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.all.values()
    }

    pub fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.all.values().filter_map(|connection| connection.link.as_ref())
    }

    /// Whether there is any connection to that member: it is the link, or it may become it.
    pub fn reach(&self, member: &MemberId) -> bool {
        self.counts.contains_key(member)
    }

    /// Whether there is any but a link over QUIC, from which one over TCP takes over.
    pub fn reach_well(&self, member: &MemberId) -> bool {
        let makeshift = |link: &Arc<Link>| link.transport == Transport::Quic && link.is_up();
        self.to(member).any(|(_, connection)| !connection.link.as_ref().is_some_and(makeshift))
    }

    /// Any connection to that key, its link if there is one.
    pub fn any_to(&self, member: &MemberId) -> Option<ConnectionId> {
        let open = || self.to(member).filter(|(_, connection)| connection.streams.is_some());
        let link = open().find(|(_, connection)| connection.link.as_ref().is_some_and(|link| link.is_up()));
        link.or_else(|| open().next()).map(|(id, _)| id)
    }

    /// Links of a member that are up. One that is down already is saying its last words.
    pub fn links_up(&self, member: &MemberId) -> Vec<(ConnectionId, Arc<Link>)> {
        let links = self.to(member).filter_map(|(id, connection)| Some((id, connection.link.clone()?)));
        links.filter(|(_, link)| link.is_up()).collect()
    }

    /// Connections that are no link.
    pub fn unused(&self) -> Vec<ConnectionId> {
        let unused = self.all.iter().filter(|(_, connection)| connection.link.is_none());
        unused.map(|(id, _)| *id).collect()
    }

    /// Links on which nothing was heard for longer than `silence_max`.
    pub fn silent(&self, now: Instant, silence_max: Duration) -> Vec<ConnectionId> {
        let links = self.all.iter().filter(|(_, connection)| connection.link.is_some());
        links.filter(|(_, connection)| now > connection.heard + silence_max).map(|(id, _)| *id).collect()
    }

    /// Takes every connection as just heard.
    pub fn forgive(&mut self, now: Instant) {
        self.all.values_mut().for_each(|connection| connection.heard = now);
    }

    /// The next offer to be judged, taken from its connection. While one that we dialled is still on its way, one that
    /// they dialled waits: where both dialled, the connection dialled by the smaller id, which is the one that chooses,
    /// stays.
    pub fn next_offer(&mut self, member: &MemberId) -> Option<(ConnectionId, Offer)> {
        let offered = || self.to(member).filter(|(_, connection)| connection.offer.is_some());
        let chooses = self.me < *member;
        let waits = || chooses && self.to(member).any(|(_, connection)| connection.dialled && connection.is_coming());
        let ours = offered().find(|(_, connection)| connection.dialled);
        let (id, _) = ours.or_else(|| offered().next().filter(|_| !waits()))?;
        let offer = self.all.get_mut(&id)?.offer.take()?;
        Some((id, offer))
    }

    /// Judges an offered link against what else there is of its member. A link gives way to a new one of the same process
    /// when pings go unanswered on it, or when the other side has lost it: its member may be elsewhere by now. One over QUIC
    /// gives way to one over TCP.
    pub fn judge(&self, offered: &Link, now: Instant) -> Choice {
        match offered.peer.link() {
            None => self.being_refused(offered).map_or(Choice::Take, Choice::Refuse),
            Some(current)
                if is_one_process(&current.hello, &offered.hello)
                    && (is_better(offered, &current)
                        || self.doubtful(&current, now)
                        || self.lost_there(&current, offered)) =>
            {
                Choice::Take
            }
            Some(current) => between(&self.me, &offered.peer.member, &current.hello, &offered.hello),
        }
    }

    /// Nobody dials over the transport of a link that it has, and few dials take longer than a hello may: theirs began when
    /// the link was up. One that took longer replaces a link that is as good.
    fn lost_there(&self, link: &Link, offered: &Link) -> bool {
        let theirs = self.all.get(&offered.connection).filter(|connection| !connection.dialled);
        let began_later = |up| theirs.is_some_and(|connection| connection.since > up + limits::HELLO_TIMEOUT);
        link.transport == offered.transport && link.up_since().is_some_and(began_later)
    }

    fn doubtful(&self, link: &Link, now: Instant) -> bool {
        self.all.get(&link.connection).is_some_and(|connection| now > connection.heard + limits::LINK_DOUBT)
    }

    /// What the same process is being told on another connection.
    fn being_refused(&self, offered: &Link) -> Option<Refusal> {
        let others = self.links().filter(|other| other.peer.member == offered.peer.member);
        others.filter(|other| is_one_process(&other.hello, &offered.hello)).find_map(|other| other.refusal())
    }

    fn to(&self, member: &MemberId) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        let connections = self.all.iter().filter(move |(_, connection)| connection.member == *member);
        connections.map(|(id, connection)| (*id, connection))
    }
}

impl Connection {
    /// Whether it may still be offered.
    fn is_coming(&self) -> bool {
        self.link.is_none() && self.offer.is_none() && !self.task.is_finished()
    }
}

fn is_better(offered: &Link, current: &Link) -> bool {
    (offered.transport, current.transport) == (Transport::Tcp, Transport::Quic)
}

fn is_one_process(one: &Hello, other: &Hello) -> bool {
    (one.incarnation, one.nonce) == (other.incarnation, other.nonce)
}

/// A member that has a link comes by another connection (rule I1). This compares two processes that are here at the same
/// time; `protocol/replica.rs` (`judge_hello`) compares each with all that was ever heard of its member.
fn between(me: &MemberId, member: &MemberId, known: &Hello, says: &Hello) -> Choice {
    if is_one_process(known, says) {
        // The smaller id has chosen already; the larger one learns of a new choice.
        return if me < member { Choice::Leave } else { Choice::Take };
    }
    if says.incarnation == known.incarnation {
        return Choice::RefuseBoth(Refusal::TwoProcesses(*member));
    }
    if says.incarnation < known.incarnation {
        return Choice::Refuse(Refusal::StaleDisk {
            says: format!("incarnation {}", says.incarnation),
            said: format!("incarnation {}", known.incarnation),
        });
    }
    Choice::Take
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;
    use tokio::sync::Semaphore;

    use super::super::link::Intake;
    use super::super::peer::Peer;
    use super::super::tests::hello;
    use super::*;
    use crate::driver::inbox::inbox;
    use crate::types::StartNonce;

    const SMALL: MemberId = MemberId([1; 32]);
    const LARGE: MemberId = MemberId([2; 32]);

    /// The connections that `me` has to `other`: 1 and 2.
    struct Pair {
        connections: Connections,
        peer: Arc<Peer>,
        over: [Transport; 2],
    }

    impl Pair {
        /// Two connections that greet, each dialled by us or not.
        fn new(me: MemberId, other: MemberId, dialled: [bool; 2]) -> Pair {
            let peer = Arc::new(Peer::new(other, "n2".to_owned(), PeerId::random()));
            let mut connections = Connections::new(me);
            for (number, dialled) in (1..).zip(dialled) {
                let task = tokio::spawn(std::future::pending::<()>()).abort_handle();
                let (streams, since, heard) = (None, Instant::now(), Instant::now());
                let (begun, offer, link) = (true, None, None);
                let connection = Connection { member: other, dialled, streams, begun, task, offer, link, since, heard };
                connections.insert(ConnectionId::new_unchecked(number), connection);
            }
            Pair { connections, peer, over: [Transport::Tcp; 2] }
        }

        /// It has greeted: what it would be.
        fn offers(&mut self, id: usize, says: Hello) -> Arc<Link> {
            let link = self.link(id, says);
            self.at(id).offer = Some((link.clone(), oneshot::channel().0));
            link
        }

        /// It is the link.
        fn uses(&mut self, id: usize, says: Hello) -> Arc<Link> {
            let link = self.link(id, says);
            self.at(id).link = Some(link.clone());
            self.peer.set_link(link.clone());
            link.bring_up();
            link
        }

        fn link(&self, id: usize, says: Hello) -> Arc<Link> {
            let intake = Intake { inbox: inbox().0, credits: Arc::new(Semaphore::new(1)) };
            let connection = (ConnectionId::new_unchecked(id), self.over[id - 1]);
            Arc::new(Link::new(self.peer.clone(), connection, says, intake))
        }

        fn at(&mut self, id: usize) -> &mut Connection {
            self.connections.get_mut(ConnectionId::new_unchecked(id)).unwrap()
        }

        fn next(&mut self) -> Option<ConnectionId> {
            let member = self.peer.member;
            self.connections.next_offer(&member).map(|(id, _)| id)
        }
    }

    fn id(number: usize) -> Option<ConnectionId> {
        Some(ConnectionId::new_unchecked(number))
    }

    #[tokio::test]
    async fn the_smaller_id_waits_for_what_it_dialled_itself() {
        let mut pair = Pair::new(SMALL, LARGE, [false, true]);
        pair.offers(1, hello(1));
        assert_eq!(pair.next(), None, "ours is on its way");
        pair.offers(2, hello(1));
        assert_eq!(pair.next(), id(2), "ours comes first");
        pair.uses(2, hello(1));
        assert_eq!((pair.next(), pair.next()), (id(1), None));
    }

    #[tokio::test]
    async fn the_smaller_id_takes_theirs_when_its_own_comes_to_nothing() {
        let mut pair = Pair::new(SMALL, LARGE, [false, true]);
        pair.offers(1, hello(1));
        pair.connections.remove(ConnectionId::new_unchecked(2));
        assert_eq!(pair.next(), id(1));
    }

    #[tokio::test]
    async fn the_larger_id_follows() {
        let mut pair = Pair::new(LARGE, SMALL, [false, true]);
        pair.offers(1, hello(1));
        assert_eq!(pair.next(), id(1), "it does not wait for its own");
    }

    #[tokio::test]
    async fn one_process_has_one_link_and_the_smaller_id_chooses_it() {
        for (me, other, choice) in [(SMALL, LARGE, Choice::Leave), (LARGE, SMALL, Choice::Take)] {
            let mut pair = Pair::new(me, other, [false, false]);
            pair.uses(1, hello(1));
            let again = pair.offers(2, hello(1));
            assert_eq!(pair.connections.judge(&again, Instant::now()), choice);
            let silent = Instant::now() + 2 * limits::LINK_DOUBT;
            assert_eq!(pair.connections.judge(&again, silent), Choice::Take, "the first one may be dead");
            pair.at(2).since = Instant::now() + 2 * limits::HELLO_TIMEOUT;
            assert_eq!(pair.connections.judge(&again, Instant::now()), Choice::Take, "it has lost the first one");
        }
    }

    #[tokio::test]
    async fn tcp_takes_over_from_quic_on_both_sides() {
        use Transport::{Quic, Tcp};
        for (me, other) in [(SMALL, LARGE), (LARGE, SMALL)] {
            for over in [[Quic, Tcp], [Quic, Quic], [Tcp, Quic], [Tcp, Tcp]] {
                let mut pair = Pair::new(me, other, [false, false]);
                pair.over = over;
                pair.uses(1, hello(1));
                assert!(pair.connections.reach_well(&other), "the second one is on its way");
                let again = pair.offers(2, hello(1));
                let choice = if over == [Quic, Tcp] || me == LARGE { Choice::Take } else { Choice::Leave };
                assert_eq!(pair.connections.judge(&again, Instant::now()), choice, "{over:?}");
                pair.at(2).since = Instant::now() + 2 * limits::HELLO_TIMEOUT;
                let late = if over == [Tcp, Quic] && me == SMALL { Choice::Leave } else { Choice::Take };
                assert_eq!(pair.connections.judge(&again, Instant::now()), late, "{over:?}, dialled later");
                pair.connections.remove(ConnectionId::new_unchecked(2));
                assert_eq!(pair.connections.reach_well(&other), over[0] == Tcp);
                assert!(pair.connections.reach(&other));
            }
        }
    }

    #[tokio::test]
    async fn processes_of_one_member_are_told_apart() {
        for (me, other) in [(SMALL, LARGE), (LARGE, SMALL)] {
            let mut pair = Pair::new(me, other, [false, false]);
            pair.uses(1, hello(5));
            let mut judged = |says: Hello| {
                let offered = pair.offers(2, says);
                pair.connections.judge(&offered, Instant::now())
            };
            assert_eq!(judged(hello(6)), Choice::Take);
            assert!(matches!(judged(hello(4)), Choice::Refuse(Refusal::StaleDisk { .. })));
            let twin = Hello { nonce: StartNonce(7), ..hello(5) };
            assert_eq!(judged(twin), Choice::RefuseBoth(Refusal::TwoProcesses(other)));
        }
    }

    #[tokio::test]
    async fn who_is_being_refused_hears_it_on_every_connection() {
        let mut pair = Pair::new(SMALL, LARGE, [false, false]);
        let refused = pair.uses(1, hello(5));
        refused.turn_away(Refusal::TwoProcesses(LARGE));
        let again = pair.offers(2, hello(5));
        assert_eq!(pair.connections.judge(&again, Instant::now()), Choice::Refuse(Refusal::TwoProcesses(LARGE)));
        let other = pair.offers(2, hello(6));
        assert_eq!(pair.connections.judge(&other, Instant::now()), Choice::Take);
    }

    #[tokio::test]
    async fn silence_counts_on_links_only() {
        let mut pair = Pair::new(SMALL, LARGE, [false, false]);
        pair.uses(1, hello(1));
        let later = Instant::now() + Duration::from_secs(5);
        let silent = |pair: &Pair| pair.connections.silent(later, Duration::from_secs(4));
        assert_eq!(silent(&pair), [ConnectionId::new_unchecked(1)]);
        assert_eq!(pair.connections.unused(), [ConnectionId::new_unchecked(2)]);
        pair.connections.forgive(later);
        assert!(silent(&pair).is_empty());
    }
}
