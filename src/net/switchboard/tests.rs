//! What needs a moment of its own: switchboards that the test turns by hand, and others on loopback.

use bytes::Bytes;
use libp2p::gossipsub::MessageAcceptance;
use libp2p::identity::Keypair;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

use super::*;
use crate::driver::Input;
use crate::net::figures::ForeignGroup;
use crate::net::tests::{LEADER_TIMEOUT, Member, PATIENCE, Seat, group, hello, own_address, seats, unreachable};
use crate::net::transport::{self, SwarmSettings, Transport};
use crate::types::{
    Announcement, AnnouncementMessage, Certificate, Digest, Epoch, EpochHead, EpochLink, Incarnation, Presence, Round,
    Slot, Tip,
};

impl Switchboard {
    /// Turns until a fact is true.
    async fn until(&mut self, what: &str, fact: impl Fn(&Switchboard) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !fact(self) {
            assert!(Instant::now() < deadline, "never came true: {what}");
            // The fact may be somebody else's.
            if let Ok(flow) = timeout(Duration::from_millis(2), self.turn()).await {
                assert!(flow.is_continue(), "nobody is left to tell it anything");
            }
        }
    }

    /// The connection of the link to a member.
    fn link(&self, member: &MemberId) -> ConnectionId {
        self.connections.links_up(member)[0].0
    }

    fn is_linked(&self, member: &MemberId, over: Transport) -> bool {
        let links = self.connections.links_up(member);
        links.first().is_some_and(|(_, link)| link.transport == over)
    }

    /// The only connection there is, if nothing goes on there.
    fn quiet(&self) -> Option<ConnectionId> {
        let id = *self.swarm.behaviour().streams.connections().first()?;
        let is_quiet = self.connections.get(id).is_none() && !self.doorkeeper.uses(id) && !self.inquiry.keeper.uses(id);
        is_quiet.then_some(id)
    }
}

/// Connects, and asks as candidates do all the time, so that its connection never falls idle. Ends when it is closed.
fn asks(key: &Keypair, at: &Seat) -> JoinHandle<()> {
    let mut swarm = transport::swarm(key, SwarmSettings::plain(LEADER_TIMEOUT, 1)).unwrap();
    swarm.dial(at.address.clone()).unwrap();
    tokio::spawn(async move {
        let (mut connected, mut pace) = (None, interval(Duration::from_millis(300)));
        loop {
            tokio::select! {
                event = swarm.select_next_some() => match event {
                    SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                        connected = Some((peer_id, connection_id));
                    }
                    SwarmEvent::ConnectionClosed { .. } => break,
                    _ => {}
                },
                _ = pace.tick() => {
                    connected.iter().for_each(|(peer, id)| swarm.behaviour_mut().streams.ask(*peer, *id));
                }
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_does_not_stay_by_asking() {
    let seat = Seat::draw();
    let (_member, mut one) = Member::turned(&seat, &[]).await;
    let stranger = asks(&Keypair::generate_ed25519(), &seat);
    one.until("it has asked", |one| one.quiet().is_some()).await;
    one.round(one.next_round + limits::STRANGER_CONNECTION_MAX);
    one.until("it is closed", |_| stranger.is_finished()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_of_who_goes_is_closed() {
    let seats = seats::<2>();
    let (member, mut one) = Member::turned(&seats[0], &unreachable(&group(&seats))).await;
    let goes = asks(&seats[1].key, &seats[0]);
    one.until("it has asked", |one| one.quiet().is_some()).await;
    member.learn(&[], &[]);
    one.look_at_roster();
    one.until("it is closed", |_| goes.is_finished()).await;
}

/// It has seen its link end, and dials at once.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_during_a_stop_gets_no_link() {
    let seats = seats::<2>();
    let members = group(&seats);
    let (_member, mut one) = Member::turned(&seats[0], &unreachable(&members)).await;
    let (reply, _stopped) = oneshot::channel();
    one.begin_to_stop(reply);
    let two = Member::start(&seats[1], &members, hello(2)).await;
    let refused = |one: &Switchboard| {
        assert!(one.connections.is_empty(), "it is no link, and on the way to none");
        !one.swarm.behaviour().streams.connections().is_empty()
    };
    one.until("it connects", refused).await;
    one.until("it is closed", |one| one.swarm.behaviour().streams.connections().is_empty()).await;
    assert_eq!(two.mesh.figures().peers[0].links, 0);
}

/// What a link over QUIC gives way to is no reason to think ill of TCP.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_replaced_is_not_lost() {
    for turned in [false, true] {
        let mut seats = seats::<2>();
        if turned {
            seats.reverse();
        }
        let mut members = unreachable(&group(&seats));
        let two = Member::start(&seats[1].and_quic(), &members, hello(2)).await;
        members[1].addresses = vec![own_address().to_string(), seats[1].over_quic().address.to_string()];
        let (_member, mut one) = Member::turned(&seats[0], &members).await;
        one.until("it is linked over QUIC", |one| one.is_linked(&two.id, Transport::Quic)).await;
        let taken_over = |one: &Switchboard| {
            let no_dial_runs = one.dialler.next_due(|_| false).is_some();
            one.is_linked(&two.id, Transport::Tcp) && one.connections.links().count() == 1 && no_dial_runs
        };
        one.until("TCP takes over", taken_over).await;
        assert_eq!(one.dialler.tcp_lost(&two.id), 0);
    }
}

/// The other way round it is: TCP is reached and falls silent, and would be dialled again and again.
#[tokio::test(flavor = "multi_thread")]
async fn tcp_that_is_silent_is_lost_to_quic() {
    let seats = seats::<2>();
    let mut members = unreachable(&group(&seats));
    let two = Member::start(&seats[1].and_quic(), &members, hello(2)).await;
    members[1].addresses = vec![seats[1].address.to_string()];
    let (_member, mut one) = Member::turned(&seats[0], &members).await;
    one.until("they are linked over TCP", |one| one.is_linked(&two.id, Transport::Tcp)).await;
    one.swarm.dial(dial_in_turn(seats[1].key.public().to_peer_id(), vec![seats[1].over_quic().address])).unwrap();
    let gives_way = async {
        while !one.is_linked(&two.id, Transport::Quic) {
            for (link, _) in one.connections.links_up(&two.id) {
                let in_doubt = limits::LINK_DOUBT + Duration::from_millis(1);
                one.connections.get_mut(link).unwrap().heard = Instant::now() - in_doubt;
            }
            assert!(one.turn().await.is_continue());
        }
    };
    timeout(PATIENCE, gives_way).await.expect("it gives way to QUIC");
    assert!(one.dialler.tcp_lost(&two.id) > 0);
    assert_eq!(one.connections.links().count(), 1);
}

/// Two members and their link: the first one is turned by hand, and was dialled at the address where it listens.
async fn linked() -> (Switchboard, Member, Member) {
    let seats = seats::<2>();
    let members = group(&seats);
    let (member, mut one) = Member::turned(&seats[0], &unreachable(&members)).await;
    let two = Member::start(&seats[1], &members, hello(2)).await;
    one.until("they are linked", |one| one.is_linked(&two.id, Transport::Tcp)).await;
    (one, member, two)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_addresses_change_links_from_those_that_stay_are_not_in_doubt() {
    for stays in [true, false] {
        let (mut one, _member, two) = linked().await;
        one.address_gone(&"/ip4/10.9.9.9/tcp/1".parse().unwrap());
        if !stays {
            one.shared.listen.all().iter().for_each(|address| one.shared.listen.forget(address));
        }
        let (id, now) = (one.link(&two.id), one.next_round);
        one.connections.get_mut(id).unwrap().heard = now - 2 * limits::LINK_DOUBT;
        one.round(now);
        assert_eq!(one.connections.get(id).is_some(), stays);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_from_an_address_that_is_gone_are_lost() {
    let (mut one, _member, two) = linked().await;
    let own = one.shared.listen.all().remove(0);
    one.address_gone(&own);
    assert!(one.connections.links_up(&two.id).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_listens_any_more_is_told_to_nobody() {
    let (member, mut one) = Member::turned(&Seat::draw(), &[]).await;
    let further = own_address();
    let listener = one.swarm.listen_on(further.clone()).unwrap();
    one.until("it listens there", |_| member.mesh.listen_addresses().contains(&further)).await;
    assert!(one.swarm.remove_listener(listener));
    one.until("it does no more", |_| !member.mesh.listen_addresses().contains(&further)).await;
}

fn announced(message: AnnouncementMessage) -> Bytes {
    Announcement::new(hello(1).cluster, message).encode()
}

fn presence() -> Bytes {
    announced(AnnouncementMessage::Presence(Presence { incarnation: Incarnation(1), number: 1, addresses: Vec::new() }))
}

/// Of an epoch that nobody knows here.
fn head() -> Bytes {
    let tip = Tip { round: Round::default(), slot: Slot(1), digest: Digest::ZERO };
    let certificate = Certificate { tip, votes: Vec::new() };
    let link = EpochLink { parent: Digest::ZERO, entry: Bytes::new(), certificate };
    announced(AnnouncementMessage::EpochHead(EpochHead { epoch: Epoch(1), link }))
}

/// A member answers for what a stranger says of an epoch, and for nothing else; nobody answers for what strangers pass on.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_needs_a_member_that_answers_for_it() {
    let seats = seats::<3>();
    let (mut member, mut one) = Member::turned(&seats[0], &unreachable(&group(&seats[..2]))).await;
    let [_, known, stranger] = &seats;
    let [of_member, of_stranger] = [known, stranger].map(|seat| seat.key.public().to_peer_id());
    let mut heard = |source: &Seat, from: PeerId, bytes: &[u8]| {
        let acceptance = one.judge_announcement(source.id, from, bytes);
        (acceptance, one.shared.totals.heard.value())
    };
    assert_eq!(heard(stranger, of_stranger, &presence()), (MessageAcceptance::Ignore, 0));
    assert_eq!(heard(stranger, of_stranger, &head()), (MessageAcceptance::Ignore, 0));
    assert_eq!(heard(stranger, of_member, &presence()), (MessageAcceptance::Ignore, 0));
    assert_eq!(heard(stranger, of_member, &head()), (MessageAcceptance::Ignore, 1));
    assert_eq!(heard(known, of_member, &presence()), (MessageAcceptance::Accept, 2));
    assert!(matches!(member.next(), Input::Announced { from, epoch: Some(Epoch(1)), .. } if from == known.id));
    member.learn(&[], &[]);
    one.look_at_roster();
    assert_eq!(one.judge_announcement(known.id, of_member, &presence()), MessageAcceptance::Ignore);
    assert_eq!(one.shared.totals.heard.value(), 2);
}

/// A member that says more than anybody has to is not heard for the rest of the minute, and all others are.
#[tokio::test(flavor = "multi_thread")]
async fn who_gossips_too_much_is_not_heard() {
    let seats = seats::<3>();
    let members = group(&seats);
    let (_member, mut one) = Member::turned(&seats[0], &unreachable(&members)).await;
    one.swarm.behaviour_mut().gossip.as_mut().unwrap().exhaust(seats[1].key.public().to_peer_id());
    let two = Member::start(&seats[1], &members[..1], hello(2)).await;
    one.until("it speaks to us", |_| two.mesh.figures().gossip.announced > 0).await;
    let _three = Member::start(&seats[2], &members[..1], hello(3)).await;
    one.until("the other one is heard", |one| one.shared.totals.heard.value() > 0).await;
    assert_eq!(one.count_listeners(), 1);
}

/// Ids cost nothing.
#[tokio::test]
async fn groups_that_say_so_themselves_get_so_many_lines() {
    let (_member, mut one) = Member::turned(&Seat::draw(), &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = Arc::new(std::fs::File::create(&path).unwrap());
    tracing::subscriber::with_default(tracing_subscriber::fmt().with_writer(log).finish(), || {
        for number in 1..=200 {
            let place = (number == 200).then(|| "/ip4/10.0.0.1/tcp/1".to_owned());
            one.meet_foreign_group(Digest([number; 32]), MemberId([number; 32]), place);
        }
    });
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| line.contains("another group")).count();
    assert_eq!(lines, limits::STRANGERS_LOGGED as usize + 1, "one that we met has lines of its own: {text}");
    let met = |group: &ForeignGroup| !group.claimed;
    assert_eq!(one.shared.discovery().foreign_groups.iter().filter(|group| met(group)).count(), 1);
}
