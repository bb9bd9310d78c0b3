//! Candidates find each other and ask each other; what is no question of theirs harms nobody.

use futures::AsyncWriteExt;
use tokio::net::UdpSocket;

use super::super::candidates::{CandidateEvent, CandidateMesh, CandidateMeshSettings};
use super::super::streams::{Opened, StreamEvent};
use super::super::transport::BehaviourEvent;
use super::*;
use crate::types::Candidacy;

async fn candidate(seat: &Seat, others: &[&Seat]) -> CandidateMesh {
    let addresses = others.iter().map(|other| Place::at(other.address.clone())).collect();
    let settings = CandidateMeshSettings {
        keypair: seat.key.clone(),
        listen: vec![seat.address.clone()],
        sources: Sources { addresses, ..Sources::default() },
        leader_timeout: LEADER_TIMEOUT,
        cluster: "trial".to_owned(),
        expect: 3,
    };
    CandidateMesh::start(settings).await.unwrap()
}

fn here(name: &str, seat: &Seat) -> CandidacyFrame {
    let settings = crate::types::CommonSettings {
        model: crate::types::FaultModelKind::Crash,
        rules_version: 0,
        limits: crate::types::ClusterLimits::default(),
        voters_target: 3,
    };
    let candidacy = Candidacy {
        settings,
        name: name.to_owned(),
        addresses: vec![seat.address.to_string()],
        nonce: StartNonce(1),
        promise: None,
        knows: 1,
    };
    CandidacyFrame::new("trial", 3, CandidacyMessage::Here(candidacy))
}

async fn next(mesh: &mut CandidateMesh) -> CandidateEvent {
    tokio::time::timeout(PATIENCE, mesh.next()).await.expect("something happens")
}

async fn expect_found(mesh: &mut CandidateMesh, key: MemberId) {
    match next(mesh).await {
        CandidateEvent::Found(found) if found == key => {}
        other => panic!("expected to find one, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn candidates_find_each_other_and_talk() {
    let [a, b] = seats::<2>();
    let mut one = candidate(&a, &[]).await;
    let mut two = candidate(&b, &[&a]).await;
    expect_found(&mut two, a.id).await;
    expect_found(&mut one, b.id).await;
    for _ in 0..3 {
        two.ask(a.id, here("b", &b));
        match next(&mut one).await {
            CandidateEvent::Asked { from, frame } => assert_eq!((from, frame), (b.id, here("b", &b))),
            other => panic!("expected a question, got {other:?}"),
        }
        one.answer(b.id, here("a", &a));
        match next(&mut two).await {
            CandidateEvent::Answered { from, frame } => assert_eq!((from, frame), (a.id, here("a", &a))),
            other => panic!("expected an answer, got {other:?}"),
        }
    }
    // Its own address came with its question.
    two.stop().await;
    let mut two = candidate(&b, &[]).await;
    until("the connection is gone", || one.figures().sources.is_empty()).await;
    let asked = async {
        loop {
            one.ask(b.id, here("a", &a));
            if let CandidateEvent::Answered { from, .. } = next(&mut one).await {
                break from;
            }
        }
    };
    let answers = async {
        loop {
            if let CandidateEvent::Asked { from, .. } = next(&mut two).await {
                two.answer(from, here("b", &b));
            }
        }
    };
    tokio::select! {
        from = asked => assert_eq!(from, b.id),
        () = answers => unreachable!("it answers for ever"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_ends() {
    let [a, b, nobody] = seats::<3>();
    let mut one = candidate(&a, &[]).await;
    for seat in [&nobody, &b] {
        one.ask(seat.id, here("a", &a));
        assert!(
            matches!(next(&mut one).await, CandidateEvent::Unanswered { from, .. } if from == seat.id),
            "nowhere to ask"
        );
    }
    let contact = crate::types::Contact { id: b.id, name: "b".to_owned(), addresses: vec![b.address.to_string()] };
    one.direct(vec![contact]);
    expect_found(&mut one, b.id).await;
    one.ask(b.id, here("a", &a));
    match next(&mut one).await {
        CandidateEvent::Unanswered { from, reason } => assert!(from == b.id && reason.contains("refused"), "{reason}"),
        other => panic!("nobody is there, got {other:?}"),
    }
    let mut two = candidate(&b, &[]).await;
    one.ask(b.id, here("a", &a));
    expect_found(&mut two, a.id).await;
    let CandidateEvent::Asked { .. } = next(&mut two).await else { panic!("expected a question") };
    match next(&mut one).await {
        CandidateEvent::Unanswered { from, reason } => {
            assert!(from == b.id && reason.contains("no answer"), "{reason}")
        }
        other => panic!("it takes too long, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founded_group_says_so_to_a_candidate() {
    let [a, b] = seats::<2>();
    let member = Member::start(&b, &group(std::slice::from_ref(&b)), hello(1)).await;
    let mut one = candidate(&a, &[&b]).await;
    expect_found(&mut one, b.id).await;
    one.ask(b.id, here("a", &a));
    let CandidateEvent::Answered { from, frame } = next(&mut one).await else { panic!("expected an answer") };
    assert_eq!((from, frame.message), (member.id, CandidacyMessage::Founded(hello(1).cluster)));
    assert!(member.mesh.figures().refused.is_empty());
}

/// Garbage, half a frame, and more questions than are heard: others are answered all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_question_harms_nobody() {
    let [a, b, hostile] = seats::<3>();
    let mut one = candidate(&a, &[]).await;
    let mut swarm = transport::swarm(&hostile.key, SwarmSettings::plain(LEADER_TIMEOUT, 1)).unwrap();
    swarm.dial(a.address.clone()).unwrap();
    let peer = a.key.public().to_peer_id();
    let mut sent = 0;
    let texts: [&[u8]; 4] = [b"\x00\x00\x00\x03abc", b"\xff\xff\xff\xff", b"\x00\x00\x10\x00half", b""];
    tokio::time::timeout(PATIENCE, async {
        while sent < 3 * texts.len() {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { connection_id, .. } => {
                    (0..3 * texts.len()).for_each(|_| swarm.behaviour_mut().streams.ask(peer, connection_id));
                }
                SwarmEvent::Behaviour(BehaviourEvent::Streams(StreamEvent {
                    opened: Opened::Ask(Ok(mut stream)),
                    ..
                })) => {
                    let text = texts[sent % texts.len()];
                    sent += 1;
                    tokio::spawn(async move {
                        let _ = stream.write_all(text).await;
                        let _ = stream.close().await;
                    });
                }
                _ => {}
            }
        }
    })
    .await
    .expect("it says it all");
    let turns = tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let two = candidate(&b, &[&a]).await;
    loop {
        match next(&mut one).await {
            CandidateEvent::Found(key) if key == b.id => break,
            CandidateEvent::Found(key) => assert_eq!(key, hostile.id),
            CandidateEvent::Unread { from, .. } => assert_eq!(from, hostile.id),
            other => panic!("nothing was asked, got {other:?}"),
        }
    }
    two.ask(a.id, here("b", &b));
    loop {
        match next(&mut one).await {
            CandidateEvent::Asked { from, .. } if from == b.id => break,
            CandidateEvent::Unread { from, .. } => assert_eq!(from, hostile.id),
            other => panic!("the question is heard, got {other:?}"),
        }
    }
    turns.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_question_is_not_read_is_told() {
    let [a, odd] = seats::<2>();
    let mut one = candidate(&a, &[]).await;
    let mut swarm = transport::swarm(&odd.key, SwarmSettings::plain(LEADER_TIMEOUT, 1)).unwrap();
    swarm.dial(a.address.clone()).unwrap();
    let peer = a.key.public().to_peer_id();
    let mut connection = None;
    let texts: [(&[u8], &str); 2] = [
        (b"\x00\x00\x00\x03abc", "it asks what is no frame of a candidate"),
        (b"\x00\x00\x00\x03\x82\x09\x00", "protocol version 9 is not ours"),
    ];
    for (text, words) in texts {
        if let Some(connection) = connection {
            swarm.behaviour_mut().streams.ask(peer, connection);
        }
        let says = async {
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { connection_id, .. } => {
                        connection = Some(connection_id);
                        swarm.behaviour_mut().streams.ask(peer, connection_id);
                    }
                    SwarmEvent::Behaviour(BehaviourEvent::Streams(StreamEvent {
                        opened: Opened::Ask(Ok(mut stream)),
                        ..
                    })) => {
                        tokio::spawn(async move {
                            let _ = stream.write_all(text).await;
                            let _ = stream.close().await;
                        });
                    }
                    _ => {}
                }
            }
        };
        let told = async {
            loop {
                if let CandidateEvent::Unread { from, reason } = next(&mut one).await {
                    break (from, reason);
                }
            }
        };
        tokio::select! {
            (from, reason) = told => assert!(from == odd.id && reason.contains(words), "{reason}"),
            () = says => unreachable!("it goes on for ever"),
        }
    }
}

/// Where packets take so long to an address, each way.
async fn slow_way(to: std::net::SocketAddr, takes: Duration) -> std::net::SocketAddr {
    let socket = async || Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let (front, back) = (socket().await, socket().await);
    back.connect(to).await.unwrap();
    let at = front.local_addr().unwrap();
    let late = move |socket: Arc<UdpSocket>, bytes: Vec<u8>, to| {
        tokio::spawn(async move {
            tokio::time::sleep(takes).await;
            let _ = socket.send_to(&bytes, to).await;
        });
    };
    tokio::spawn(async move {
        let (mut there, mut here, mut client) = ([0; 2048], [0; 2048], at);
        loop {
            tokio::select! {
                Ok((count, from)) = front.recv_from(&mut there) => {
                    client = from;
                    late(back.clone(), there[..count].to_vec(), to);
                }
                Ok(count) = back.recv(&mut here) => late(front.clone(), here[..count].to_vec(), client),
                else => break,
            }
        }
    });
    at
}

/// QUIC keeps its port for three of its timeouts, which are some of the round trips that it has seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_can_listen_where_a_candidate_did_however_slow_the_network_is() {
    let [a, b] = seats::<2>().map(|seat| seat.over_quic());
    let mut two = candidate(&b, &[]).await;
    let (_, at) = listen_address(&b.address).unwrap();
    let slow = Transport::Quic.multiaddress(slow_way(at, Duration::from_millis(600)).await);
    let mut one = candidate(&a, &[&Seat { address: slow, ..b.clone() }]).await;
    expect_found(&mut one, b.id).await;
    expect_found(&mut two, a.id).await;
    two.stop().await;
    transport::probe(&b.address).unwrap();
}
