//! Peers that speak libp2p correctly, up to the streams, and then say anything.

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;

use super::super::streams::{Opened, StreamEvent};
use super::super::transport::BehaviourEvent;
use super::*;
use crate::codec::{Frame, FrameReader, StreamClass, consumed_frame, hello_frame, message_header, ready_frame};

/// The two streams that a peer opened by hand.
struct Raw {
    urgent: Stream,
    bulk: Stream,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Raw {
    /// Dials a mesh and opens both streams; none if it takes no such connection.
    async fn try_dial(keypair: &Keypair, mesh: &Mesh) -> Option<Raw> {
        let mut swarm = transport::swarm(keypair, SwarmSettings::plain(LEADER_TIMEOUT, 1)).unwrap();
        swarm.dial(mesh.listen_addresses()[0].clone()).unwrap();
        let (opened, mut streams) = mpsc::unbounded_channel();
        let connection = tokio::spawn(async move {
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                        swarm.behaviour_mut().streams.open(peer_id, connection_id);
                    }
                    SwarmEvent::Behaviour(BehaviourEvent::Streams(StreamEvent {
                        opened: Opened::Pair(outcome),
                        ..
                    })) => {
                        drop(opened.send(outcome));
                    }
                    SwarmEvent::OutgoingConnectionError { .. } | SwarmEvent::ConnectionClosed { .. } => break,
                    _ => {}
                }
            }
        });
        let (mut urgent, mut bulk) = (None, None);
        while urgent.is_none() || bulk.is_none() {
            match streams.recv().await?.ok()? {
                (StreamClass::Urgent, stream) => urgent = Some(stream),
                (StreamClass::Bulk, stream) => bulk = Some(stream),
            }
        }
        Some(Raw { urgent: urgent?, bulk: bulk?, connection })
    }

    async fn dial(keypair: &Keypair, mesh: &Mesh) -> Raw {
        Raw::try_dial(keypair, mesh).await.unwrap()
    }

    /// As far as both hellos.
    async fn greeted(keypair: &Keypair, mesh: &Mesh) -> Raw {
        let mut raw = Raw::dial(keypair, mesh).await;
        raw.write(StreamClass::Urgent, &hello_frame(&hello(9))).await;
        raw.write(StreamClass::Bulk, &hello_frame(&hello(9))).await;
        raw
    }

    /// As far as a link that the mesh believes in.
    async fn link(keypair: &Keypair, mesh: &Mesh) -> Raw {
        let mut raw = Raw::greeted(keypair, mesh).await;
        raw.write(StreamClass::Urgent, &ready_frame()).await;
        raw
    }

    async fn write(&mut self, class: StreamClass, bytes: &[u8]) {
        let stream = match class {
            StreamClass::Urgent => &mut self.urgent,
            StreamClass::Bulk => &mut self.bulk,
        };
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
    }

    /// Reads the urgent stream until a refusal comes.
    async fn refusal(&mut self) -> Refusal {
        let (mut reader, mut piece) = (FrameReader::new(StreamClass::Urgent), vec![0; 4096]);
        loop {
            while let Some(frame) = reader.next_frame().unwrap() {
                if let Frame::Refusal(refusal) = frame {
                    return refusal;
                }
            }
            let length = self.urgent.read(&mut piece).await.unwrap();
            assert!(length > 0, "closed without a word");
            reader.feed(&piece[..length]);
        }
    }
}

/// A linked pair, and the key of a third member, which misbehaves.
async fn pair_and_key(smaller: bool) -> (Member, Member, Keypair) {
    let mut seats = seats::<3>();
    seats.rotate_left(usize::from(smaller));
    let mut members = group(&seats);
    // It dials, and is not dialled.
    members[2].addresses.clear();
    let mut one = Member::start(&seats[0], &members, hello(1)).await;
    let mut two = Member::start(&seats[1], &members, hello(2)).await;
    one.expect_up(two.id);
    two.expect_up(one.id);
    (one, two, seats[2].key.clone())
}

/// Nobody else has noticed anything.
fn undisturbed(one: &mut Member, two: &mut Member) {
    one.mesh.send(two.id, &urgent(7));
    assert_eq!(two.expect_message(one.id), urgent(7).message);
    two.mesh.send(one.id, &bulk(7, 100_000));
    assert_eq!(one.expect_message(two.id), bulk(7, 100_000).message);
    assert_eq!((one.figures_of(two.id).links, two.figures_of(one.id).links), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_instead_of_a_hello_is_refused_and_counted() {
    let (mut one, mut two, third) = pair_and_key(false).await;
    let oversized = [255, 255, 255, 255, 0];
    let too_early = [&message_header(3)[..], b"abc"].concat();
    let no_hello = [&[0, 0, 0, 8, 0][..], b"rubbish"].concat();
    for (count, rubbish) in
        [b"GET / HTTP/1.1\r\n\r\n".to_vec(), oversized.to_vec(), too_early, no_hello].iter().enumerate()
    {
        // A member's key and a stranger's alike.
        for (further, keypair) in [third.clone(), Keypair::generate_ed25519()].iter().enumerate() {
            let mut raw = Raw::dial(keypair, &one.mesh).await;
            raw.write(StreamClass::Urgent, rubbish).await;
            assert!(matches!(raw.refusal().await, Refusal::Malformed(_)));
            drop(raw);
            let expected = (2 * count + further + 1) as u64;
            until("counted", || one.mesh.figures().malformed == expected).await;
            assert_eq!(one.mesh.figures().refused.get("malformed"), Some(&expected));
        }
    }
    undisturbed(&mut one, &mut two);
}

/// A message before the link is agreed may be somebody's payload: only that it is one is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_too_early_is_not_quoted() {
    let (mut one, mut two, third) = pair_and_key(false).await;
    let mut raw = Raw::greeted(&third, &one.mesh).await;
    raw.write(StreamClass::Urgent, &[&message_header(6)[..], b"secret"].concat()).await;
    let third = identity::member_of(&third).unwrap();
    until("told", || one.figures_of(third).trouble.is_some()).await;
    assert_eq!(
        one.figures_of(third).trouble.as_deref(),
        Some("refused: it sent what is no message of this protocol: unexpected message")
    );
    undisturbed(&mut one, &mut two);
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_on_a_link_closes_it_and_hurts_nobody_else() {
    let oversized_message = [&(limits::URGENT_FRAME_BYTES as u32 + 2).to_be_bytes()[..], &[3]].concat();
    let oversized_piece = [&(limits::BULK_FRAME_BYTES as u32 + 2).to_be_bytes()[..], &[5]].concat();
    let no_envelope = [&message_header(7)[..], b"rubbish"].concat();
    let no_batch = [&[0, 0, 0, 8, 6][..], b"rubbish"].concat();
    for smaller in [false, true] {
        let (mut one, mut two, third) = pair_and_key(smaller).await;
        let from = identity::member_of(&third).unwrap();
        let rubbish = [
            (StreamClass::Urgent, oversized_message.clone()),
            (StreamClass::Bulk, oversized_piece.clone()),
            (StreamClass::Urgent, no_envelope.clone()),
            (StreamClass::Bulk, no_batch.clone()),
            (StreamClass::Urgent, consumed_frame(1).to_vec()),
            (StreamClass::Urgent, consumed_frame(u64::MAX).to_vec()),
            (StreamClass::Urgent, ready_frame().to_vec()),
            (StreamClass::Urgent, hello_frame(&hello(9)).to_vec()),
            (StreamClass::Bulk, ready_frame().to_vec()),
            (StreamClass::Bulk, vec![0; 100]),
        ];
        for (count, (class, bytes)) in rubbish.into_iter().enumerate() {
            let mut raw = Raw::link(&third, &one.mesh).await;
            assert_eq!(one.expect_up(from), hello(9));
            let good = [&message_header(urgent(1).encode().len())[..], &urgent(1).encode()].concat();
            raw.write(StreamClass::Urgent, &good).await;
            assert_eq!(one.expect_message(from), urgent(1).message);
            raw.write(class, &bytes).await;
            one.expect_down(from);
            assert!(matches!(raw.refusal().await, Refusal::Malformed(_)));
            drop(raw);
            until("counted", || one.mesh.figures().malformed == count as u64 + 1).await;
        }
        undisturbed(&mut one, &mut two);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_inside_a_frame_ends_the_link() {
    let (mut one, mut two, third) = pair_and_key(false).await;
    let from = identity::member_of(&third).unwrap();
    for count in 1..=3 {
        let mut raw = Raw::link(&third, &one.mesh).await;
        one.expect_up(from);
        raw.write(StreamClass::Urgent, &message_header(100)[..3]).await;
        raw.urgent.close().await.unwrap();
        one.expect_down(from);
        until("counted", || one.mesh.figures().truncated == count).await;
    }
    assert_eq!(one.mesh.figures().malformed, 0);
    undisturbed(&mut one, &mut two);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_strangers_are_few_and_do_not_stay() {
    let seats = seats::<2>();
    let members = group(&seats);
    let mut one = Member::start(&seats[0], &members, hello(1)).await;
    let silent = loop {
        let (began, mut silent) = (Instant::now(), Vec::new());
        while silent.len() < limits::STRANGERS_MAX {
            silent.extend(Raw::try_dial(&Keypair::generate_ed25519(), &one.mesh).await);
            assert!(began.elapsed() < PATIENCE, "there is room for {}", silent.len());
        }
        if Raw::try_dial(&Keypair::generate_ed25519(), &one.mesh).await.is_none() {
            break silent;
        }
        assert!(began.elapsed() > limits::HELLO_TIMEOUT, "there is room for one more, and nobody can have gone yet");
    };
    let mut two = Member::start(&seats[1], &members, hello(2)).await;
    one.expect_up(two.id);
    two.expect_up(one.id);
    for mut raw in silent {
        let mut read = Vec::new();
        raw.urgent.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, hello_frame(&hello(1)), "closed for want of a hello");
    }
    let mut stranger = Raw::link(&Keypair::generate_ed25519(), &one.mesh).await;
    assert!(matches!(stranger.refusal().await, Refusal::NotAMember(_)));
}

/// Gossip knows nothing of a connection from before: it comes to nothing, and the next one is the link.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_from_before_it_was_a_member_is_no_link() {
    for smaller in [false, true] {
        let mut seats = seats::<2>();
        seats.rotate_left(usize::from(smaller));
        let members = unreachable(&group(&seats));
        let mut one = Member::start(&seats[0], &members[..1], hello(1)).await;
        let mut early = Raw::dial(&seats[1].key, &one.mesh).await;
        one.learn(&members, &[]);
        until("it is a member", || one.mesh.figures().peers.len() == 1).await;
        early.write(StreamClass::Urgent, &hello_frame(&hello(9))).await;
        early.write(StreamClass::Bulk, &hello_frame(&hello(9))).await;
        let mut read = Vec::new();
        early.urgent.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, hello_frame(&hello(1)), "closed without a refusal");
        let _link = Raw::link(&seats[1].key, &one.mesh).await;
        assert_eq!(one.expect_up(seats[1].id), hello(9), "nothing came before it");
    }
}
