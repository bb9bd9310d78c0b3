//! At the door: who knocks is heard, within bounds, and nobody else notices.

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use tokio::task::JoinHandle;

use super::super::door::{NoAnswer, knock};
use super::super::streams::{Opened, StreamEvent};
use super::super::transport::BehaviourEvent;
use super::*;
use crate::codec::{Frame, FrameReader, StreamClass, door_frame, hello_frame};
use crate::types::{DoorFrame, DoorRefusal, Told};

const CLUSTER: Digest = Digest([1; 32]);

fn told(from: u64) -> DoorMessage {
    DoorMessage::Tell(Told {
        genesis: None,
        from: Epoch(from),
        links: Vec::new(),
        established: Epoch(from),
        standing: Standing::Stranger,
        contacts: Vec::new(),
    })
}

fn ask() -> DoorMessage {
    DoorMessage::Ask { have: None }
}

impl Member {
    fn expect_knock(&mut self) -> (MemberId, DoorMessage) {
        loop {
            match self.next() {
                Input::Door { from, message } => return (from, message),
                Input::Refused { .. } => {}
                other => panic!("expected a knock, got {other:?}"),
            }
        }
    }
}

/// A member that is alone.
async fn alone() -> (Seat, Member) {
    let seat = Seat::draw();
    let member = Member::start(&seat, &group(std::slice::from_ref(&seat)), hello(1)).await;
    (seat, member)
}

type Answered = JoinHandle<Result<(MemberId, DoorMessage), NoAnswer>>;

fn knocks(key: &Keypair, at: &Seat, cluster: Digest, message: DoorMessage) -> Answered {
    let (key, address) = (key.clone(), at.address.clone());
    tokio::spawn(async move { knock(&key, &address, cluster, message).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_asks_and_the_driver_answers() {
    let (seat, mut member) = alone().await;
    for number in 0..3 {
        let key = Keypair::generate_ed25519();
        let answer = knocks(&key, &seat, CLUSTER, ask());
        let from = identity::member_of(&key).unwrap();
        assert_eq!(member.expect_knock(), (from, ask()));
        member.mesh.door(from, told(number));
        assert_eq!(answer.await.unwrap(), Ok((member.id, told(number))));
    }
    assert_eq!(member.mesh.figures().malformed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_asks_at_the_door_of_who_refuses_it() {
    for smaller in 0..2 {
        let seats = seats::<2>();
        let mut one = Member::start(&seats[1 - smaller], &[], hello(1)).await;
        let mut two = Member::start(&seats[smaller], &group(&seats), hello(2)).await;
        two.expect_refusal(one.id);
        two.mesh.door(one.id, ask());
        assert_eq!(one.expect_knock(), (two.id, ask()));
        one.mesh.door(two.id, told(7));
        assert_eq!(two.expect_knock(), (one.id, told(7)));
        // And it goes on knocking for a link.
        one.learn(&unreachable(&group(&seats)), &[]);
        one.expect_up(two.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn linked_members_use_their_connection() {
    let (mut one, mut two) = pair().await;
    for number in 0..3 {
        one.mesh.door(two.id, told(number));
        assert_eq!(two.expect_knock(), (one.id, told(number)));
        two.mesh.door(one.id, ask());
        assert_eq!(one.expect_knock(), (two.id, ask()), "who only tells takes an answer");
    }
    assert_eq!((one.figures_of(two.id).links, two.figures_of(one.id).links), (1, 1));
    one.mesh.send(two.id, &urgent(1));
    two.expect_message(one.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_tells_waits_for_nothing() {
    let (mut one, mut two) = pair().await;
    one.mesh.door(two.id, told(1));
    two.expect_knock();
    // While that knock lasts, another one is dropped.
    let mut heard = told(1);
    while heard == told(1) {
        one.mesh.door(two.id, told(2));
        if let Some(Input::Door { message, .. }) = two.inbox.take(1, Duration::from_millis(50)).pop() {
            heard = message;
        }
    }
    assert_eq!(heard, told(2));
    assert!(one.inbox.take(1, Duration::ZERO).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_waits_once() {
    let (seat, mut member) = alone().await;
    let key = Keypair::generate_ed25519();
    let first = knocks(&key, &seat, CLUSTER, ask());
    let (from, _) = member.expect_knock();
    let second = knocks(&key, &seat, CLUSTER, ask());
    assert_eq!(second.await.unwrap(), Ok((member.id, DoorMessage::Refused(DoorRefusal::Busy))));
    member.mesh.door(from, told(1));
    assert_eq!(first.await.unwrap(), Ok((member.id, told(1))));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_is_refused_without_the_driver() {
    let (seat, member) = alone().await;
    let theirs = Digest([9; 32]);
    let answer = knocks(&Keypair::generate_ed25519(), &seat, theirs, ask()).await.unwrap();
    let refusal = DoorRefusal::Cluster { theirs, ours: CLUSTER };
    assert_eq!(answer, Ok((member.id, DoorMessage::Refused(refusal))));
    drop(member);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_answer_is_named_with_the_reason() {
    let (seat, member) = alone().await;
    let (key, nobody) = (Keypair::generate_ed25519(), own_address());
    let error = knock(&key, &nobody, CLUSTER, ask()).await.unwrap_err().to_string();
    assert!(error.starts_with(&nobody.to_string()) && error.contains("Connection refused"), "{error}");
    let other = Keypair::generate_ed25519().public().to_peer_id();
    let wrong = seat.address.clone().with_p2p(other).unwrap();
    let error = knock(&key, &wrong, CLUSTER, ask()).await.unwrap_err().to_string();
    assert!(error.contains(&format!("answers {}, another key", member.id)), "{error}");
}

/// A stranger's connection, with streams opened by hand.
struct Raw {
    opened: mpsc::UnboundedReceiver<Opened>,
    connection: JoinHandle<()>,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Raw {
    async fn dial(seat: &Seat, pair: bool, doors: usize) -> Raw {
        let mut swarm =
            transport::swarm(&Keypair::generate_ed25519(), SwarmSettings::plain(LEADER_TIMEOUT, 1)).unwrap();
        swarm.dial(seat.address.clone()).unwrap();
        let (sender, opened) = mpsc::unbounded_channel();
        let connection = tokio::spawn(async move {
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                        let streams = &mut swarm.behaviour_mut().streams;
                        (0..doors).for_each(|_| streams.knock(peer_id, connection_id));
                        if pair {
                            streams.open(peer_id, connection_id);
                        }
                    }
                    SwarmEvent::Behaviour(BehaviourEvent::Streams(StreamEvent { opened, .. })) => {
                        drop(sender.send(opened));
                    }
                    SwarmEvent::ConnectionClosed { .. } => break,
                    _ => {}
                }
            }
        });
        Raw { opened, connection }
    }

    async fn door(&mut self) -> Stream {
        loop {
            if let Opened::Door(stream) = self.opened.recv().await.unwrap() {
                return stream.unwrap();
            }
        }
    }
}

async fn said(stream: &mut Stream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.close().await.unwrap();
}

async fn heard(stream: &mut Stream) -> Option<DoorMessage> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    (!bytes.is_empty()).then(|| DoorFrame::admit(&bytes[4..]).unwrap().message)
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_at_the_door_is_refused_and_counted() {
    let (seat, mut member) = alone().await;
    let refusal = DoorFrame { version: 1, cluster: CLUSTER, message: DoorMessage::Refused(DoorRefusal::Busy) };
    let rubbish = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 4],
        (limits::DOOR_FRAME_BYTES as u32 + 1).to_be_bytes().to_vec(),
        [&[0, 0, 0, 7][..], b"rubbish"].concat(),
        door_frame(&refusal).unwrap().to_vec(),
    ];
    for (count, bytes) in (1..).zip(rubbish) {
        let mut raw = Raw::dial(&seat, false, 1).await;
        let mut stream = raw.door().await;
        said(&mut stream, &bytes).await;
        let answer = heard(&mut stream).await;
        assert!(matches!(answer, Some(DoorMessage::Refused(DoorRefusal::BadRequest(_)))), "{answer:?}");
        assert_eq!(member.mesh.figures().malformed, count);
    }
    let mut raw = Raw::dial(&seat, false, 1).await;
    let mut stream = raw.door().await;
    said(&mut stream, &[0, 0, 1, 0, 1, 2, 3]).await;
    assert_eq!(heard(&mut stream).await, None, "half a frame");
    assert!(member.inbox.take(1, Duration::ZERO).is_empty(), "the driver hears nothing of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_refused_by_name_at_the_door() {
    let (seat, member) = alone().await;
    let mut raw = Raw::dial(&seat, false, 1).await;
    let mut stream = raw.door().await;
    said(&mut stream, &[&[0, 0, 0, 3][..], &minicbor::to_vec((9u32, 0)).unwrap()].concat()).await;
    let refusal = DoorRefusal::Version { theirs: 9, ours: 1 };
    assert_eq!(heard(&mut stream).await, Some(DoorMessage::Refused(refusal)));
    drop(member);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_with_many_knocks_is_heard_once() {
    let (seat, mut member) = alone().await;
    let mut raw = Raw::dial(&seat, false, 20).await;
    let frame = door_frame(&DoorFrame { version: 1, cluster: CLUSTER, message: ask() }).unwrap();
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = raw.door().await;
        said(&mut stream, &frame).await;
        streams.push(stream);
    }
    let (from, _) = member.expect_knock();
    member.mesh.door(from, told(1));
    let mut answers = Vec::new();
    for stream in &mut streams {
        answers.push(heard(stream).await);
    }
    let busy = Some(DoorMessage::Refused(DoorRefusal::Busy));
    assert_eq!(answers.iter().filter(|answer| **answer == Some(told(1))).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| **answer == busy).count(), 19, "{answers:?}");
    assert!(member.inbox.take(1, Duration::ZERO).is_empty());
}

/// One connection of a stranger: it is refused a link, and its knock is heard all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_stranger_is_heard_at_the_door() {
    let (seat, mut member) = alone().await;
    let mut raw = Raw::dial(&seat, true, 1).await;
    let (mut door, mut urgent, mut bulk) = (None, None, None);
    while door.is_none() || urgent.is_none() || bulk.is_none() {
        match raw.opened.recv().await.unwrap() {
            Opened::Door(stream) => door = Some(stream.unwrap()),
            Opened::Pair(Ok((StreamClass::Urgent, stream))) => urgent = Some(stream),
            Opened::Pair(Ok((StreamClass::Bulk, stream))) => bulk = Some(stream),
            other => panic!("{other:?}"),
        }
    }
    let (mut door, mut urgent, mut bulk) = (door.unwrap(), urgent.unwrap(), bulk.unwrap());
    said(&mut door, &door_frame(&DoorFrame { version: 1, cluster: CLUSTER, message: ask() }).unwrap()).await;
    let (from, _) = member.expect_knock();
    for stream in [&mut urgent, &mut bulk] {
        said(stream, &hello_frame(&hello(9))).await;
    }
    let (mut reader, mut bytes) = (FrameReader::new(StreamClass::Urgent), Vec::new());
    urgent.read_to_end(&mut bytes).await.unwrap();
    reader.feed(&bytes);
    assert!(matches!(reader.next_frame(), Ok(Some(Frame::Hello(_)))));
    assert_eq!(reader.next_frame(), Ok(Some(Frame::Refusal(Refusal::NotAMember(from)))));
    member.mesh.door(from, told(3));
    assert_eq!(heard(&mut door).await, Some(told(3)));
}

/// Silent strangers hold the places that there are for strangers, and for a while only.
#[tokio::test(flavor = "multi_thread")]
async fn who_opens_the_door_and_is_silent_does_not_stay() {
    let (seat, mut member) = alone().await;
    let mut silent = Vec::new();
    for _ in 0..limits::STRANGERS_MAX {
        let mut raw = Raw::dial(&seat, false, 1).await;
        silent.push((raw.door().await, raw));
    }
    for (mut stream, _raw) in silent {
        assert_eq!(heard(&mut stream).await, None, "closed for want of a word");
    }
    let key = Keypair::generate_ed25519();
    let from = identity::member_of(&key).unwrap();
    let answer = loop {
        let answer = knocks(&key, &seat, CLUSTER, ask());
        // It may have come while the last of them went: then it comes again. Two at a time would be in each other's way.
        let mut heard = None;
        while heard.is_none() && !answer.is_finished() {
            heard = tokio::task::block_in_place(|| member.inbox.take(1, Duration::from_millis(10))).pop();
        }
        if let Some(Input::Door { .. }) = heard {
            break answer;
        }
    };
    member.mesh.door(from, told(1));
    assert_eq!(answer.await.unwrap(), Ok((member.id, told(1))));
}
