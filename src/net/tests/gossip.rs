//! Announcements reach all members, and what is none, or nobody's, harms nobody.

use bytes::Bytes;
use libp2p::swarm::ConnectionId;

use super::super::transport::BehaviourEvent;
use super::*;
use crate::types::{Announcement, AnnouncementMessage, Certificate, EpochHead, EpochLink, Presence};

const CLUSTER: Digest = Digest([1; 32]);

fn head(epoch: u64) -> EpochHead {
    let tip = Tip { round: Round::default(), slot: Slot(epoch), digest: Digest::ZERO };
    let certificate = Certificate { tip, votes: Vec::new() };
    EpochHead { epoch: Epoch(epoch), link: EpochLink { parent: Digest::ZERO, entry: Bytes::new(), certificate } }
}

impl Member {
    fn knows(&self, members: &[RosterMember], head: EpochHead) {
        let roster = Roster { members: members.to_vec(), former: Vec::new(), head: Some(head) };
        self.roster.send_replace(roster);
    }

    fn gossip(&self) -> GossipFigures {
        self.mesh.figures().gossip
    }

    /// Skips links.
    fn expect_head(&mut self, epoch: u64) -> MemberId {
        loop {
            match self.next() {
                Input::Announced { from, epoch: Some(told), link } if told == Epoch(epoch) => {
                    assert_eq!(link.as_deref(), Some(&head(epoch).link));
                    return from;
                }
                Input::LinkUp { .. } | Input::LinkDown { .. } | Input::Announced { .. } => {}
                other => panic!("expected an epoch, got {other:?}"),
            }
        }
    }
}

/// A chain of links: what one end announces reaches the other, which has no link to it.
#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_and_an_address_reach_who_is_not_linked() {
    let seats = seats::<3>();
    let members = group(&seats);
    let to = |dialled: &[usize]| {
        let mut members = unreachable(&members);
        dialled.iter().for_each(|index| members[*index].addresses = vec![seats[*index].address.to_string()]);
        members
    };
    let mut middle = Member::start(&seats[1], &to(&[]), hello(2)).await;
    let mut one = Member::start(&seats[0], &to(&[1]), hello(1)).await;
    let mut three = Member::start(&seats[2], &to(&[1]), hello(3)).await;
    one.expect_up(middle.id);
    three.expect_up(middle.id);
    // One knows an epoch that the others do not.
    one.knows(&to(&[1]), head(1));
    assert_eq!(middle.expect_head(1), one.id);
    // Its driver finds it proven.
    middle.knows(&to(&[]), head(1));
    // The presence of one led three to it, and the other way round.
    let linked = || one.figures_of(three.id).linked && three.figures_of(one.id).linked;
    until("they have found each other", linked).await;
    let teller = three.expect_head(1);
    assert!(teller == one.id || teller == middle.id);
    for member in [&one, &middle, &three] {
        let figures = member.gossip();
        assert!(figures.bytes_in > 0 && figures.bytes_out > 0, "{figures:?}");
        assert_eq!(figures.malformed, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_works_without_gossip() {
    let seats = seats::<2>();
    let members = group(&seats);
    let one = Member::silent(&seats[0], &members, hello(1)).await;
    let two = Member::silent(&seats[1], &members, hello(2)).await;
    let (mut one, mut two) = (one, two);
    one.expect_up(two.id);
    two.expect_up(one.id);
    one.mesh.send(two.id, &urgent(1));
    two.expect_message(one.id);
    let figures = one.gossip();
    assert_eq!((figures.listeners, figures.announced, figures.bytes_in, figures.bytes_out), (0, 0, 0, 0));
}

/// A member that speaks gossip by itself.
struct Raw {
    swarm: Swarm<transport::Behaviour>,
}

impl Raw {
    /// Connects, and waits until its neighbour listens.
    async fn connect(seat: &Seat, to: &Seat) -> Raw {
        Raw::speaking(seat, to, |_| {})
    }

    fn speaking(seat: &Seat, to: &Seat, change: impl FnOnce(&mut transport::Behaviour)) -> Raw {
        let how = SwarmSettings { gossip: Some(CLUSTER), ..SwarmSettings::plain(LEADER_TIMEOUT, 4) };
        let mut swarm = transport::swarm(&seat.key, how).unwrap();
        let peer = to.key.public().to_peer_id();
        change(swarm.behaviour_mut());
        swarm.behaviour_mut().gossip.as_mut().unwrap().set_members([peer].into());
        swarm.dial(to.address.clone()).unwrap();
        Raw { swarm }
    }

    /// Waits for the next connection.
    async fn connected(&mut self) -> ConnectionId {
        let connects = async {
            loop {
                if let SwarmEvent::ConnectionEstablished { connection_id, .. } = self.swarm.select_next_some().await {
                    return connection_id;
                }
            }
        };
        tokio::time::timeout(PATIENCE, connects).await.expect("it connects")
    }

    /// Waits until it knows that nobody speaks gossip with it.
    async fn hears_nothing(&mut self) {
        let told = async {
            loop {
                match self.swarm.select_next_some().await {
                    SwarmEvent::Behaviour(BehaviourEvent::Gossip(
                        libp2p::gossipsub::Event::GossipsubNotSupported { .. },
                    )) => break,
                    SwarmEvent::Behaviour(BehaviourEvent::Gossip(event)) => panic!("it hears {event:?}"),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("it is told");
    }

    async fn listened_to(mut self) -> Raw {
        let listens = async {
            loop {
                let event = self.swarm.select_next_some().await;
                if let SwarmEvent::Behaviour(BehaviourEvent::Gossip(libp2p::gossipsub::Event::Subscribed { .. })) =
                    event
                {
                    break;
                }
            }
        };
        tokio::time::timeout(PATIENCE, listens).await.expect("somebody listens");
        self
    }

    fn says(&mut self, bytes: &[u8]) {
        self.swarm.behaviour_mut().gossip.as_mut().unwrap().publish(bytes.to_vec()).unwrap();
    }

    /// Keeps the connection going until a fact is true.
    async fn until(&mut self, what: &str, fact: impl Fn() -> bool) {
        let turn = async {
            loop {
                self.swarm.select_next_some().await;
            }
        };
        tokio::select! {
            () = until(what, fact) => {}
            () = turn => unreachable!("a swarm turns for ever"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_of_a_member_is_counted_and_not_passed_on() {
    let seats = seats::<3>();
    let members = unreachable(&group(&seats));
    let mut listens = members.clone();
    listens[0].addresses = vec![seats[0].address.to_string()];
    let mut one = Member::start(&seats[0], &members, hello(1)).await;
    let mut two = Member::start(&seats[1], &listens, hello(2)).await;
    one.expect_up(two.id);
    two.expect_up(one.id);
    let mut hostile = Raw::connect(&seats[2], &seats[0]).await.listened_to().await;
    let presence = |cluster, addresses: Vec<String>| {
        let presence = Presence { incarnation: Incarnation(1), number: 1, addresses };
        Announcement::new(cluster, AnnouncementMessage::Presence(presence)).encode()
    };
    hostile.says(b"garbage");
    hostile.says(&presence(Digest([9; 32]), Vec::new()));
    hostile.says(&vec![0; limits::ANNOUNCEMENT_BYTES]);
    let many = (0..limits::ADDRESSES_MAX).map(|port| format!("/ip4/127.0.0.1/tcp/{}", port + 1)).collect();
    hostile.says(&presence(CLUSTER, many));
    hostile.until("garbage is counted", || one.gossip().malformed == 3).await;
    // What is an honest announcement, of nobody's addresses, is passed on.
    let dialled = || two.figures_of(seats[2].id).trouble.is_some_and(|trouble| trouble.contains("/tcp/1"));
    hostile.until("the rest is heard", dialled).await;
    assert_eq!(two.gossip().malformed, 0, "one passes no garbage on");
    assert!(one.figures_of(two.id).linked && two.figures_of(one.id).linked);
}

/// What a member says in the name of another one is nobody's word: it leads nobody anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_presence_is_dropped() {
    let seats = seats::<4>();
    let members = unreachable(&group(&seats));
    let one = Member::start(&seats[0], &members, hello(1)).await;
    let victim = seats[2].key.public().to_peer_id();
    let forge = |behaviour: &mut transport::Behaviour| {
        behaviour.gossip = Some(super::super::gossip::Gossip::forging(victim, &CLUSTER)).into();
    };
    let mut hostile = Raw::speaking(&seats[1], &seats[0], forge).listened_to().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let lure = Transport::Tcp.multiaddress(listener.local_addr().unwrap());
    let presence = Presence { incarnation: Incarnation(9), number: 1, addresses: vec![lure.to_string()] };
    let forged = Announcement::new(CLUSTER, AnnouncementMessage::Presence(presence)).encode();
    let before = one.gossip().bytes_in;
    hostile.says(&forged);
    hostile.until("it has arrived", || one.gossip().bytes_in >= before + forged.len() as u64).await;
    // Another one that is not forged is heard after it, on the same way.
    let mut honest = Raw::connect(&seats[3], &seats[0]).await.listened_to().await;
    let presence = Presence { incarnation: Incarnation(1), number: 1, addresses: Vec::new() };
    honest.says(&Announcement::new(CLUSTER, AnnouncementMessage::Presence(presence)).encode());
    honest.until("the honest one is heard", || one.gossip().heard == 1).await;
    assert!(listener.accept().is_err(), "nobody was lured there");
    assert_eq!(one.figures_of(seats[2].id).trouble, None);
}

/// Strangers have no stream of gossip at all: neither do they hear anything, nor is anything heard of them.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_neither_hear_nor_say_anything() {
    let seats = seats::<3>();
    let members = group(&seats[..2]);
    let mut one = Member::start(&seats[0], &members, hello(1)).await;
    let mut two = Member::start(&seats[1], &members, hello(2)).await;
    one.expect_up(two.id);
    two.expect_up(one.id);
    let mut stranger = Raw::connect(&seats[2], &seats[0]).await;
    stranger.hears_nothing().await;
    let said = stranger.swarm.behaviour_mut().gossip.as_mut().unwrap().publish(b"garbage".to_vec());
    assert!(matches!(said, Err(libp2p::gossipsub::PublishError::NoPeersSubscribedToTopic)), "nobody listens to it");
    until("members hear each other", || one.gossip().heard > 0 && two.gossip().heard > 0).await;
    assert_eq!((one.gossip().malformed, one.gossip().listeners), (0, 1));
}

/// A connection from before it was a member does not count for gossip, neither when the next one opens nor when that closes.
#[tokio::test(flavor = "multi_thread")]
async fn who_becomes_a_member_is_heard_on_its_next_connection() {
    let seats = seats::<2>();
    let members = unreachable(&group(&seats));
    let one = Member::start(&seats[0], &members[..1], hello(1)).await;
    let mut comes = Raw::connect(&seats[1], &seats[0]).await;
    comes.hears_nothing().await;
    one.learn(&members, &[]);
    until("it is a member", || one.mesh.figures().peers.len() == 1).await;
    comes.swarm.dial(seats[0].address.clone()).unwrap();
    let second = comes.connected().await;
    let mut comes = comes.listened_to().await;
    comes.says(b"garbage");
    comes.until("it is heard", || one.gossip().malformed == 1).await;
    assert_eq!(one.gossip().listeners, 1);
    comes.swarm.close_connection(second);
    comes.until("it listens no more", || one.gossip().listeners == 0).await;
    // And another one.
    comes.swarm.dial(seats[0].address.clone()).unwrap();
    comes.until("it listens again", || one.gossip().listeners == 1).await;
}

/// A connection stays open for a while; nothing that is said on it is heard.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_removed_is_heard_no_more() {
    let seats = seats::<3>();
    let members = unreachable(&group(&seats));
    let one = Member::start(&seats[0], &members, hello(1)).await;
    let mut goes = Raw::connect(&seats[1], &seats[0]).await.listened_to().await;
    goes.says(b"garbage");
    goes.until("a member is heard", || one.gossip().malformed == 1).await;
    one.learn(&[members[0].clone(), members[2].clone()], &[(seats[1].id, Standing::Removed)]);
    until("it is none any more", || one.mesh.figures().peers.len() == 1).await;
    let before = one.gossip().bytes_in;
    goes.says(&[7; 1000]);
    goes.until("it has arrived", || one.gossip().bytes_in >= before + 1000).await;
    let mut honest = Raw::connect(&seats[2], &seats[0]).await.listened_to().await;
    let presence = Presence { incarnation: Incarnation(1), number: 1, addresses: Vec::new() };
    honest.says(&Announcement::new(CLUSTER, AnnouncementMessage::Presence(presence)).encode());
    honest.until("a member is heard after it", || one.gossip().heard == 1).await;
    assert_eq!(one.gossip().malformed, 1);
}
