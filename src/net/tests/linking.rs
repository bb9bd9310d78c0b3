//! Links come up between whoever can reach each other, one for each pair, go down when a side is gone, and come back.

use std::collections::BTreeMap;

use tokio::net::{TcpListener, TcpStream};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn three_link_up_pairwise_and_talk() {
    let seats = seats::<3>();
    let members = group(&seats);
    let mut group = Vec::new();
    for (seat, incarnation) in seats.iter().zip(1..) {
        group.push(Member::start(seat, &members, hello(incarnation)).await);
    }
    let ids: Vec<MemberId> = group.iter().map(|member| member.id).collect();
    for one in &mut group {
        let mut up = BTreeMap::new();
        for _ in 0..2 {
            let Input::LinkUp { peer, hello } = one.next() else { panic!("expected links") };
            up.insert(peer, hello.incarnation.0);
        }
        let expected = ids.iter().copied().zip(1..).filter(|(id, _)| *id != one.id).collect();
        assert_eq!(up, expected, "each with its own hello");
    }
    for one in &group {
        for to in ids.iter().filter(|id| **id != one.id) {
            for number in 0..100 {
                one.mesh.send(*to, &urgent(number));
                one.mesh.send(*to, &bulk(number, limits::URGENT_PAYLOAD_BYTES));
            }
        }
    }
    for one in &mut group {
        let mut next = BTreeMap::new();
        for _ in 0..400 {
            let Input::Received { peer, envelope } = one.next() else { panic!("expected messages") };
            let (class, number) = match envelope.message {
                PeerMessage::FetchDecided { after, .. } => ("urgent", after.0),
                PeerMessage::Batch(batch) => ("bulk", batch.header.number.0 - 1),
                other => panic!("nobody sent {other:?}"),
            };
            let expected = next.entry((peer, class)).or_insert(0);
            assert_eq!(number, *expected, "each stream keeps its order");
            *expected += 1;
        }
        assert_eq!(next.len(), 4);
    }
    for one in &group {
        let figures = one.mesh.figures();
        assert!(figures.peers.iter().all(|peer| peer.linked && peer.links == 1 && peer.dropped == 0));
        assert!(figures.refused.is_empty() && figures.malformed == 0, "{figures:?}");
    }
}

/// Dials that meet are rare on loopback, so both members dial through gates, which open when both have dialled.
#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_dials_end_with_one_link() {
    for _ in 0..10 {
        let seats = seats::<2>();
        let gates = [Gate::before(&seats[0], false).await, Gate::before(&seats[1], false).await];
        let [mut one, mut two] = through(&seats, &gates).await;
        until("both have dialled", || gates.iter().all(|gate| gate.dials() > 0)).await;
        gates.iter().for_each(Gate::open);
        one.expect_up(two.id);
        two.expect_up(one.id);
        one.mesh.send(two.id, &urgent(1));
        two.mesh.send(one.id, &urgent(2));
        two.expect_message(one.id);
        one.expect_message(two.id);
        assert_eq!((one.figures_of(two.id).links, two.figures_of(one.id).links), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_side_that_can_dial_is_enough() {
    for dialler in 0..2 {
        let seats = seats::<2>();
        let mut members = [unreachable(&group(&seats)), unreachable(&group(&seats))];
        members[dialler] = group(&seats);
        let mut one = Member::start(&seats[0], &members[0], hello(1)).await;
        let mut two = Member::start(&seats[1], &members[1], hello(2)).await;
        one.expect_up(two.id);
        two.expect_up(one.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_peer_is_noticed_and_comes_back() {
    let seats = seats::<2>();
    let members = group(&seats);
    for (stays, goes) in [(0, 1), (1, 0)] {
        let free = || seats.iter().all(|seat| transport::probe(&seat.address).is_ok());
        until("their ports are free", free).await;
        let mut one = Member::start(&seats[stays], &members, hello(1)).await;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (seat, all) = (seats[goes].clone(), members.clone());
        let mut two = runtime.spawn(async move { Member::start(&seat, &all, hello(2)).await }).await.unwrap();
        one.expect_up(two.id);
        tokio::task::block_in_place(|| two.expect_up(one.id));
        // As a SIGKILL: nothing is said, the sockets close.
        runtime.shutdown_background();
        one.expect_down(two.id);
        until("its port is free", || transport::probe(&seats[goes].address).is_ok()).await;
        let mut two = Member::start(&seats[goes], &members, hello(3)).await;
        assert_eq!(one.expect_up(two.id), hello(3));
        assert_eq!(two.expect_up(one.id), hello(1));
        two.mesh.send(one.id, &urgent(1));
        one.expect_message(two.id);
        one.mesh.stop().await;
        two.mesh.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_an_error_that_names_it() {
    let (one, _two) = pair().await;
    let address = one.mesh.listen_addresses()[0].clone();
    let (_, receiver) = watch::channel(hello(1));
    let settings = MeshSettings {
        keypair: Keypair::generate_ed25519(),
        listen: vec![address.clone()],
        leader_timeout: LEADER_TIMEOUT,
        sources: Sources::default(),
        announce: Vec::new(),
        gossip: false,
        founded: founded("trial", Digest([1; 32])),
        roster: watch::channel(Roster::default()).1,
        hello: receiver,
        inbox: inbox().0,
        credits: Arc::new(Semaphore::new(1)),
    };
    let error = Mesh::start(settings).await.err().unwrap().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("another one"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_process_takes_the_place_of_an_older_one() {
    for goes in 0..2 {
        let (seats, mut one, mut two) = linked(goes, 5).await;
        let mut newer = Member::start(&seats[goes].elsewhere(), &group(&seats), hello(6)).await;
        one.expect_down(two.id);
        assert_eq!(one.expect_up(two.id), hello(6));
        newer.expect_up(one.id);
        two.expect_down_at_last(one.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_of_a_link_is_told() {
    let seats = seats::<2>();
    let [mut one, mut two] = two_members(&seats, [hello(1), hello(2)]).await;
    one.expect_up(two.id);
    two.expect_up(one.id);
    assert_eq!(two.figures_of(one.id).trouble, None);
    one.mesh.stop().await;
    two.expect_down(one.id);
    let trouble = || two.figures_of(one.id).trouble.unwrap_or_default();
    let nobody = format!("at {}: Connection refused (os error 111)", seats[0].address);
    until("nobody listens", || trouble() == nobody).await;
    let other = Seat { address: seats[0].address.clone(), ..Seat::draw() };
    let other = Member::start(&other, &[], hello(1)).await;
    let somebody = format!("at {} answers {}, another key", seats[0].address, other.id);
    until("somebody else listens", || trouble() == somebody).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_says_nothing_is_closed_and_comes_back() {
    let seats = seats::<2>();
    let gates = [Gate::before(&seats[0], true).await, Gate::before(&seats[1], true).await];
    let [mut one, mut two] = through(&seats, &gates).await;
    one.expect_up(two.id);
    two.expect_up(one.id);
    gates.iter().for_each(Gate::close);
    one.expect_down(two.id);
    two.expect_down(one.id);
    gates.iter().for_each(Gate::open);
    one.expect_up(two.id);
    two.expect_up(one.id);
    one.mesh.send(two.id, &urgent(1));
    two.expect_message(one.id);
}

/// Two members who reach each other through gates only: the first gate stands before the first member.
async fn through(seats: &[Seat; 2], gates: &[Gate; 2]) -> [Member; 2] {
    let mut members = group(seats);
    for (member, gate) in members.iter_mut().zip(gates) {
        member.addresses = vec![gate.address.to_string()];
    }
    [Member::start(&seats[0], &members, hello(1)).await, Member::start(&seats[1], &members, hello(2)).await]
}

/// A place that passes bytes on to a member while it is open. While it is closed, connections stay and say nothing.
struct Gate {
    address: Multiaddr,
    opened: watch::Sender<bool>,
    dials: watch::Receiver<usize>,
}

impl Gate {
    async fn before(seat: &Seat, open: bool) -> Gate {
        let (address, target) = (own_address(), socket(&seat.address));
        let listener = TcpListener::bind(socket(&address)).await.unwrap();
        let opened = watch::Sender::new(open);
        let (dialled, dials) = watch::channel(0);
        let opens = opened.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                dialled.send_modify(|count| *count += 1);
                tokio::spawn(pass(near, target, opens.subscribe()));
            }
        });
        Gate { address, opened, dials }
    }

    fn open(&self) {
        self.opened.send_replace(true);
    }

    fn close(&self) {
        self.opened.send_replace(false);
    }

    fn dials(&self) -> usize {
        *self.dials.borrow()
    }
}

/// One connection through a gate. One that was held up ends when the gate opens.
async fn pass(mut near: TcpStream, target: std::net::SocketAddr, mut open: watch::Receiver<bool>) {
    let _ = open.wait_for(|open| *open).await;
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        _ = open.wait_for(|open| !*open) => {}
    }
    let _ = open.wait_for(|open| *open).await;
}

fn socket(address: &Multiaddr) -> std::net::SocketAddr {
    let text = address.to_string();
    let parts: Vec<&str> = text.split('/').collect();
    format!("{}:{}", parts[2], parts[4]).parse().unwrap()
}

/// Keeps what happens.
struct Observer {
    swarm: Swarm<Behaviour>,
    happened: Vec<SwarmEvent<BehaviourEvent>>,
}

impl SwarmOwner for Observer {
    fn swarm(&mut self) -> &mut Swarm<Behaviour> {
        &mut self.swarm
    }

    fn handle_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        self.happened.push(event);
    }
}

/// Neighbours and connections that come so early are told of once, and nobody would hear of them.
#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_the_mesh_starts_to_listen_is_heard() {
    let plain = SwarmSettings::plain(LEADER_TIMEOUT, 8);
    let swarm = transport::swarm(&Keypair::generate_ed25519(), plain).unwrap();
    let mut observer = Observer { swarm, happened: Vec::new() };
    observer.swarm.dial(own_address()).unwrap();
    let failed = |event: &SwarmEvent<_>| matches!(event, SwarmEvent::OutgoingConnectionError { .. });
    let began = Instant::now();
    while !observer.happened.iter().any(failed) {
        assert!(began.elapsed() < PATIENCE, "that nobody is there is not heard");
        listen(&mut observer, &["/ip4/127.0.0.1/tcp/0".parse().unwrap()]).await.unwrap();
        let listens = |event: &SwarmEvent<_>| matches!(event, SwarmEvent::NewListenAddr { .. });
        assert!(observer.happened.last().is_some_and(listens), "it has waited for its listener");
    }
}
