//! Links over QUIC: where TCP cannot be dialled, and only there.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_link_comes_up_where_only_udp_is_listened_on() {
    let seats = seats::<2>().map(|seat| seat.over_quic());
    let [mut one, mut two] = two_members(&seats, [hello(1), hello(2)]).await;
    one.expect_up(two.id);
    two.expect_up(one.id);
    for number in 0..20 {
        one.mesh.send(two.id, &urgent(number));
        // Many windows of bulk, so that the stream's own is opened again and again.
        one.mesh.send(two.id, &bulk(number, 1 << 20));
    }
    let mut received = 0;
    for _ in 0..40 {
        if let PeerMessage::Batch(batch) = two.expect_message(one.id) {
            received += batch.messages().unwrap().iter().map(|message| message.body.len()).sum::<usize>();
        }
    }
    assert_eq!(received, 20 << 20);
    for (member, peer) in [(&one, &two), (&two, &one)] {
        assert_eq!(member.figures_of(peer.id).transport, Some(Transport::Quic));
    }
}

/// A member that is told of both addresses of the other takes QUIC where nothing answers at the TCP port, and TCP where
/// something does.
#[tokio::test(flavor = "multi_thread")]
async fn quic_is_for_where_tcp_cannot_be_dialled() {
    for listens in [Transport::Tcp, Transport::Quic] {
        let seats = seats::<2>();
        let both = vec![seats[1].address.to_string(), seats[1].over_quic().address.to_string()];
        // Else the other one would dial over TCP: identify tells it where.
        let [here, there] = [0, 1].map(|seat| match listens {
            Transport::Tcp => seats[seat].clone(),
            Transport::Quic => seats[seat].over_quic(),
        });
        let mut members = unreachable(&group(&seats));
        let mut two = Member::start(&there, &members, hello(2)).await;
        members[1].addresses = both;
        let mut one = Member::start(&here, &members, hello(1)).await;
        one.expect_up(two.id);
        two.expect_up(one.id);
        assert_eq!(one.figures_of(two.id).transport, Some(listens));
        assert_eq!(two.figures_of(one.id).transport, Some(listens));
    }
}

/// A link over QUIC is a makeshift: identify tells where TCP is listened on, and that takes over.
#[tokio::test(flavor = "multi_thread")]
async fn tcp_takes_over_when_it_can_be_dialled() {
    for turned in [false, true] {
        let mut seats = seats::<2>();
        // The one that dials is the one that chooses, or is not.
        if turned {
            seats.reverse();
        }
        let mut members = unreachable(&group(&seats));
        let mut two = Member::start(&seats[1].and_quic(), &members, hello(2)).await;
        members[1].addresses = vec![own_address().to_string(), seats[1].over_quic().address.to_string()];
        let mut one = Member::start(&seats[0], &members, hello(1)).await;
        let ids = [one.id, two.id];
        for (member, peer) in [(&mut one, ids[1]), (&mut two, ids[0])] {
            member.expect_up(peer);
            member.expect_down(peer);
            member.expect_up(peer);
            assert_eq!(member.figures_of(peer).transport, Some(Transport::Tcp));
        }
        one.mesh.send(two.id, &urgent(1));
        two.expect_message(one.id);
    }
}

/// Nothing tells that it is gone: a process that was killed has no connection to close.
#[tokio::test(flavor = "multi_thread")]
async fn who_vanishes_is_noticed_and_comes_back() {
    let seats = seats::<2>().map(|seat| seat.over_quic());
    let members = group(&seats);
    let mut one = Member::start(&seats[0], &members, hello(1)).await;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (seat, all) = (seats[1].clone(), members.clone());
    let mut two = runtime.spawn(async move { Member::start(&seat, &all, hello(2)).await }).await.unwrap();
    one.expect_up(two.id);
    tokio::task::block_in_place(|| two.expect_up(one.id));
    runtime.shutdown_background();
    one.expect_down(two.id);
    until("its port is free", || transport::probe(&seats[1].address).is_ok()).await;
    let mut two = Member::start(&seats[1], &members, hello(3)).await;
    assert_eq!(one.expect_up(two.id), hello(3));
    two.expect_up(one.id);
}

/// What is said last arrives: nobody closes the connection over it.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_the_door_work_as_over_tcp() {
    let seats = seats::<2>().map(|seat| seat.over_quic());
    let other = Hello { cluster: Digest([7; 32]), configuration: Digest([8; 32]), ..hello(2) };
    let [mut one, mut two] = two_members(&seats, [hello(1), other]).await;
    assert_eq!(one.expect_refusal(two.id), Refusal::Cluster { theirs: Digest([1; 32]), ours: Digest([7; 32]) });
    assert_eq!(two.expect_refusal(one.id), Refusal::Cluster { theirs: Digest([7; 32]), ours: Digest([1; 32]) });

    let key = Keypair::generate_ed25519();
    let (from, address) = (identity::member_of(&key).unwrap(), seats[0].address.clone());
    let question = DoorMessage::Ask { have: None };
    let (said, cluster) = (question.clone(), hello(1).cluster);
    let answer = tokio::spawn(async move { super::super::door::knock(&key, &address, cluster, said).await });
    loop {
        if answer.is_finished() {
            panic!("the knock was not heard: {:?}", answer.await);
        }
        match one.next() {
            Input::Door { from: heard, message } => {
                assert_eq!((heard, message), (from, question));
                break;
            }
            Input::Refused { .. } => {}
            other => panic!("expected a knock, got {other:?}"),
        }
    }
    let busy = DoorMessage::Refused(crate::types::DoorRefusal::Busy);
    one.mesh.door(from, busy.clone());
    assert_eq!(answer.await.unwrap(), Ok((one.id, busy)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_udp_port_in_use_is_an_error_that_names_it() {
    let seat = Seat::draw().over_quic();
    let _one = Member::start(&seat, &[], hello(1)).await;
    let error = transport::probe(&seat.address).unwrap_err().to_string();
    assert!(error.contains(&seat.address.to_string()), "{error}");
}
