//! Meshes on loopback, each with an inbox that the test reads as its driver would.

mod candidates;
mod door;
mod finding;
mod flow;
mod gossip;
mod hostile;
mod linking;
mod quic;
mod refusing;
mod roster;

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Instant;

use super::*;
use crate::driver::Input;
use crate::driver::inbox::{Inbox, inbox};
use crate::types::peer::PeerMessage;
use crate::types::{
    Batch, BatchHeader, BatchNumber, CandidacyMessage, CandidacyRefusal, Digest, Epoch, Incarnation, LaneHead, Message,
    MessageKind, MessageNumber, RosterMember, Round, Slot, Standing, Tip, limits,
};

/// Nothing here takes that long.
pub(in crate::net) const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough for a machine that is busy with other tests.
pub(in crate::net) const LEADER_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn hello(incarnation: u64) -> Hello {
    Hello {
        version: limits::PROTOCOL_VERSION,
        cluster: Digest([1; 32]),
        epoch: Epoch(0),
        configuration: Digest([2; 32]),
        incarnation: Incarnation(incarnation),
        nonce: StartNonce(100 + incarnation),
        highest_vote: None,
        sealed: LaneHead::START,
        decided: Tip { round: Round::default(), slot: Slot(0), digest: Digest::ZERO },
    }
}

/// A group that names its id to everybody that asks.
pub(super) fn founded(name: &str, cluster: ClusterId) -> Founded {
    let greeting = CandidacyFrame::new(name, 0, CandidacyMessage::Founded(cluster));
    let ours = greeting.clone();
    let answer = move |_, asked: &CandidacyFrame| {
        if asked.cluster != ours.cluster {
            let (theirs, ours) = (asked.cluster.clone(), ours.cluster.clone());
            let refusal = CandidacyRefusal::OtherName { theirs, ours: ours.clone() };
            return (CandidacyFrame::new(&ours, 0, CandidacyMessage::Refused(refusal)), None);
        }
        let other = match &asked.message {
            CandidacyMessage::Founded(other) if *other != cluster => Some(*other),
            _ => None,
        };
        (ours.clone(), other)
    };
    Founded { greeting, answer: Box::new(answer) }
}

/// A member before it is started: its key, and an address that nobody else has.
#[derive(Clone)]
pub(in crate::net) struct Seat {
    pub(in crate::net) key: Keypair,
    pub(in crate::net) id: MemberId,
    pub(in crate::net) address: Multiaddr,
    /// Where it listens besides.
    also: Option<Multiaddr>,
}

impl Seat {
    pub(in crate::net) fn draw() -> Seat {
        let key = Keypair::generate_ed25519();
        Seat { id: identity::member_of(&key).unwrap(), key, address: own_address(), also: None }
    }

    /// The same seat, where UDP is listened on as well.
    pub(in crate::net) fn and_quic(&self) -> Seat {
        Seat { also: Some(self.over_quic().address), ..self.clone() }
    }

    /// The same seat, where only UDP is listened on.
    pub(in crate::net) fn over_quic(&self) -> Seat {
        let (_, socket) = listen_address(&self.address).unwrap();
        Seat { address: Transport::Quic.multiaddress(socket), ..self.clone() }
    }

    /// The same key at another address.
    fn elsewhere(&self) -> Seat {
        Seat { address: own_address(), ..self.clone() }
    }
}

/// Drawn from the millions of 127.0.0.0/8, with a port that the system gives to no connection: ports never collide.
pub(in crate::net) fn own_address() -> Multiaddr {
    let [a, b, c, d, ..] = RandomState::new().build_hasher().finish().to_be_bytes();
    format!("/ip4/127.{}.{b}.{}/tcp/{}", a.max(1), c.clamp(1, 254), 20_000 + u16::from(d)).parse().unwrap()
}

/// Seats in the order of their ids.
pub(in crate::net) fn seats<const N: usize>() -> [Seat; N] {
    let mut seats: [Seat; N] = std::array::from_fn(|_| Seat::draw());
    seats.sort_by_key(|seat| seat.id);
    seats
}

/// Everybody, where they listen.
pub(in crate::net) fn group(seats: &[Seat]) -> Vec<RosterMember> {
    let member = |(seat, name): (&Seat, char)| RosterMember {
        id: seat.id,
        name: name.to_string(),
        addresses: vec![seat.address.to_string()],
        dial: true,
    };
    seats.iter().zip('a'..).map(member).collect()
}

/// The same members to one who cannot dial them.
pub(in crate::net) fn unreachable(members: &[RosterMember]) -> Vec<RosterMember> {
    members.iter().map(|member| RosterMember { addresses: Vec::new(), ..member.clone() }).collect()
}

/// One member: its mesh, and the inbox that a driver would read.
pub(in crate::net) struct Member {
    pub(in crate::net) id: MemberId,
    pub(in crate::net) mesh: Mesh,
    inbox: Inbox,
    credits: Arc<Semaphore>,
    unread: VecDeque<Input>,
    _hello: watch::Sender<Hello>,
    roster: watch::Sender<Roster>,
}

impl Member {
    /// It dials those of `members` that have an address.
    pub(in crate::net) async fn start(seat: &Seat, members: &[RosterMember], hello: Hello) -> Member {
        Member::start_with(seat, members, hello, Sources::default()).await
    }

    /// And looks for others in these sources.
    async fn start_with(seat: &Seat, members: &[RosterMember], hello: Hello, sources: Sources) -> Member {
        Member::start_in("trial", seat, members, hello, sources).await
    }

    /// In a group of that name.
    async fn start_in(name: &str, seat: &Seat, members: &[RosterMember], hello: Hello, sources: Sources) -> Member {
        Member::begin(name, seat, members, hello, (sources, true)).await
    }

    /// Without gossip.
    async fn silent(seat: &Seat, members: &[RosterMember], hello: Hello) -> Member {
        Member::begin("trial", seat, members, hello, (Sources::default(), false)).await
    }

    async fn begin(name: &str, seat: &Seat, members: &[RosterMember], hello: Hello, told: (Sources, bool)) -> Member {
        let (member, switchboard) = Member::prepare(name, seat, members, hello, told).await;
        tokio::spawn(switchboard.run());
        member
    }

    /// The switchboard is the test's to turn.
    pub(in crate::net) async fn turned(seat: &Seat, members: &[RosterMember]) -> (Member, Switchboard) {
        Member::prepare("trial", seat, members, hello(1), (Sources::default(), true)).await
    }

    async fn prepare(
        name: &str,
        seat: &Seat,
        members: &[RosterMember],
        hello: Hello,
        (sources, gossip): (Sources, bool),
    ) -> (Member, Switchboard) {
        let founded = founded(name, hello.cluster);
        let (hello, receiver) = watch::channel(hello);
        let (roster, newest) = watch::channel(Roster { members: members.to_vec(), ..Roster::default() });
        let (sender, inbox) = inbox();
        let credits = Arc::new(Semaphore::new(limits::INBOX_BYTES));
        let settings = MeshSettings {
            keypair: seat.key.clone(),
            listen: std::iter::once(&seat.address).chain(&seat.also).cloned().collect(),
            leader_timeout: LEADER_TIMEOUT,
            sources,
            announce: Vec::new(),
            gossip,
            founded,
            roster: newest,
            hello: receiver,
            inbox: sender,
            credits: credits.clone(),
        };
        let (mesh, switchboard) = Mesh::prepare(settings).await.unwrap();
        let member = Member { id: seat.id, mesh, inbox, credits, unread: VecDeque::new(), _hello: hello, roster };
        (member, switchboard)
    }

    /// A new roster.
    pub(in crate::net) fn learn(&self, members: &[RosterMember], former: &[(MemberId, Standing)]) {
        self.roster.send_replace(Roster { members: members.to_vec(), former: former.to_vec(), head: None });
    }

    /// The next input; there must be one.
    pub(in crate::net) fn next(&mut self) -> Input {
        let deadline = Instant::now() + PATIENCE;
        while self.unread.is_empty() {
            assert!(Instant::now() < deadline, "no input");
            let inputs = tokio::task::block_in_place(|| self.inbox.take(1000, Duration::from_millis(100)));
            self.unread.extend(inputs);
        }
        self.unread.pop_front().unwrap()
    }

    pub(in crate::net) fn expect_up(&mut self, from: MemberId) -> Hello {
        match self.next() {
            Input::LinkUp { peer, hello } if peer == from => hello,
            other => panic!("expected a link, got {other:?}"),
        }
    }

    fn expect_down(&mut self, from: MemberId) {
        match self.next() {
            Input::LinkDown { peer } if peer == from => {}
            other => panic!("expected the end of a link, got {other:?}"),
        }
    }

    /// Skips whatever else happens.
    fn expect_down_at_last(&mut self, from: MemberId) {
        while !matches!(self.next(), Input::LinkDown { peer } if peer == from) {}
    }

    /// Skips links that come and go.
    fn expect_refusal(&mut self, from: MemberId) -> Refusal {
        loop {
            match self.next() {
                Input::Refused { peer, reason } if peer == from => return reason,
                Input::LinkUp { .. } | Input::LinkDown { .. } => {}
                other => panic!("expected a refusal, got {other:?}"),
            }
        }
    }

    fn expect_message(&mut self, from: MemberId) -> PeerMessage {
        match self.next() {
            Input::Received { peer, envelope } if peer == from => envelope.message,
            other => panic!("expected a message, got {other:?}"),
        }
    }

    fn figures_of(&self, peer: MemberId) -> PeerFigures {
        self.mesh.figures().peers.into_iter().find(|figures| figures.peer == peer).unwrap()
    }
}

/// Two members, linked. The first has the smaller id.
async fn pair() -> (Member, Member) {
    let seats = seats::<2>();
    let [mut one, mut two] = two_members(&seats, [hello(1), hello(2)]).await;
    assert_eq!(one.expect_up(two.id), hello(2));
    assert_eq!(two.expect_up(one.id), hello(1));
    (one, two)
}

/// Two members who dial each other.
async fn two_members(seats: &[Seat; 2], [first, second]: [Hello; 2]) -> [Member; 2] {
    let members = group(seats);
    [Member::start(&seats[0], &members, first).await, Member::start(&seats[1], &members, second).await]
}

/// A member that stays, and dials nobody; and one that is linked to it in that incarnation, in the seat `goes`.
async fn linked(goes: usize, incarnation: u64) -> ([Seat; 2], Member, Member) {
    let seats = seats::<2>();
    let members = group(&seats);
    let mut one = Member::start(&seats[1 - goes], &unreachable(&members), hello(1)).await;
    let mut two = Member::start(&seats[goes], &members, hello(incarnation)).await;
    assert_eq!(one.expect_up(two.id), hello(incarnation));
    two.expect_up(one.id);
    (seats, one, two)
}

/// Waits for a fact that stays true.
async fn until(what: &str, fact: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut rounds = tokio::time::interval(Duration::from_millis(2));
    while !fact() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        rounds.tick().await;
    }
}

fn envelope(message: PeerMessage) -> Envelope {
    Envelope { epoch: Epoch(0), configuration: Digest([2; 32]), message }
}

fn urgent(number: u64) -> Envelope {
    envelope(PeerMessage::FetchDecided {
        after: Slot(number),
        digest: Digest::ZERO,
        through: Slot(number),
        waits: false,
    })
}

fn bulk(number: u64, bytes: usize) -> Envelope {
    let header = BatchHeader {
        origin: MemberId([3; 32]),
        incarnation: Incarnation(1),
        number: BatchNumber(number + 1),
        first: MessageNumber(1),
        count: 1,
        parent: Digest::ZERO,
        resumes: (number == 0).then(Default::default),
    };
    let message = Message {
        kind: MessageKind::Application,
        topic: "t".into(),
        content_type: None,
        body: vec![number as u8; bytes].into(),
    };
    envelope(PeerMessage::Batch(Batch::seal(header, vec![message])))
}
