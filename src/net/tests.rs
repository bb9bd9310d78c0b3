//! Meshes on loopback, each with an inbox that the test reads as its driver would.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::*;
use crate::codec::{consumed_frame, hello_frame, message_header, ready_frame};
use crate::driver::Input;
use crate::driver::inbox::{Inbox, inbox};
use crate::types::peer::PeerMessage;
use crate::types::{
    Batch, BatchHeader, BatchNumber, Digest, Epoch, Incarnation, LaneHead, Message, MessageKind, MessageNumber, Round,
    Slot, StartNonce, Tip, limits,
};

/// Nothing here takes that long.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// One member: its mesh, and the inbox that a driver would read.
struct Member {
    id: MemberId,
    mesh: Mesh,
    inbox: Inbox,
    unread: std::collections::VecDeque<Input>,
    _hello: watch::Sender<Hello>,
}

impl Member {
    async fn start(keypair: Keypair, members: &[MeshMember], hello: Hello) -> Member {
        Member::listening(keypair, members, hello, "/ip4/127.0.0.1/tcp/0").await
    }

    async fn listening(keypair: Keypair, members: &[MeshMember], hello: Hello, address: &str) -> Member {
        let (hello, receiver) = watch::channel(hello);
        let (sender, inbox) = inbox();
        let settings = MeshSettings {
            keypair: keypair.clone(),
            listen: vec![address.parse().unwrap()],
            members: members.to_vec(),
            hello: receiver,
            inbox: sender,
            credits: Arc::new(Semaphore::new(limits::INBOX_BYTES)),
        };
        let mesh = Mesh::start(settings).await.unwrap();
        let id = identity::member_of(&keypair).unwrap();
        Member { id, mesh, inbox, unread: Default::default(), _hello: hello }
    }

    /// The next input; there must be one.
    fn next(&mut self) -> Input {
        let deadline = Instant::now() + PATIENCE;
        while self.unread.is_empty() {
            assert!(Instant::now() < deadline, "no input");
            let inputs = tokio::task::block_in_place(|| self.inbox.take(1000, Duration::from_millis(100)));
            self.unread.extend(inputs);
        }
        self.unread.pop_front().unwrap()
    }

    fn expect_up(&mut self, from: MemberId) -> Hello {
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

    fn meet(&self, other: &Member) {
        self.mesh.set_addresses(other.id, other.mesh.listen_addresses());
    }
}

/// Keys in the order of their ids.
fn keypairs<const N: usize>() -> [Keypair; N] {
    let mut keypairs: [Keypair; N] = std::array::from_fn(|_| Keypair::generate_ed25519());
    keypairs.sort_by_key(|keypair| identity::member_of(keypair).unwrap());
    keypairs
}

fn group(keypairs: &[Keypair]) -> Vec<MeshMember> {
    let named = keypairs.iter().zip('a'..);
    named
        .map(|(keypair, name)| MeshMember {
            id: identity::member_of(keypair).unwrap(),
            name: name.to_string(),
            addresses: Vec::new(),
        })
        .collect()
}

/// Two members, linked. The first has the smaller id.
async fn pair() -> (Member, Member) {
    let keys = keypairs::<2>();
    let members = group(&keys);
    let [one, two] = keys;
    let mut one = Member::start(one, &members, hello(1)).await;
    let mut two = Member::start(two, &members, hello(2)).await;
    one.meet(&two);
    two.meet(&one);
    assert_eq!(one.expect_up(two.id), hello(2));
    assert_eq!(two.expect_up(one.id), hello(1));
    (one, two)
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
    envelope(PeerMessage::FetchDecided { after: Slot(number) })
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

#[tokio::test(flavor = "multi_thread")]
async fn three_link_up_pairwise_and_talk() {
    let keys = keypairs::<3>();
    let members = group(&keys);
    let mut group = Vec::new();
    for (keypair, incarnation) in keys.into_iter().zip(1..) {
        group.push(Member::start(keypair, &members, hello(incarnation)).await);
    }
    for one in &group {
        group.iter().filter(|two| two.id != one.id).for_each(|two| one.meet(two));
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
                PeerMessage::FetchDecided { after } => ("urgent", after.0),
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

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_arrive_whole_and_in_order_beside_urgent_ones() {
    let (one, mut two) = pair().await;
    let sizes =
        [5 << 20, limits::URGENT_PAYLOAD_BYTES, 8 << 20, limits::BULK_FRAME_BYTES, limits::BULK_WINDOW_BYTES, 7 << 20];
    let sent: Vec<Envelope> = sizes.iter().zip(0..).map(|(bytes, number)| bulk(number, *bytes)).collect();
    for envelope in &sent {
        one.mesh.send(two.id, envelope);
    }
    one.mesh.send(two.id, &urgent(1));
    let (mut received, mut urgent_after) = (Vec::new(), None);
    while received.len() < sent.len() || urgent_after.is_none() {
        match two.expect_message(one.id) {
            PeerMessage::FetchDecided { .. } => urgent_after = Some(received.len()),
            message => received.push(envelope(message)),
        }
    }
    assert!(received == sent, "bulk messages are whole and in order");
    assert!(urgent_after < Some(sent.len()), "urgent messages pass");
    let figures = one.figures_of(two.id);
    assert_eq!((figures.dropped, figures.urgent_queue_bytes, figures.bulk_queue_bytes), (0, 0, 0));
    assert!(figures.bytes_out > 20 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_for_the_urgent_stream_goes_by_the_other() {
    let (one, mut two) = pair().await;
    let origins = (0..40_000u64).map(|number| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        crate::types::BatchRef { origin: MemberId(id), batch: Default::default(), digest: Digest::ZERO }
    });
    let large = envelope(PeerMessage::FetchBatches { decided: Slot(1), batches: origins.collect() });
    assert!(!large.message.is_bulk() && large.encode().len() > limits::URGENT_FRAME_BYTES);
    one.mesh.send(two.id, &large);
    assert_eq!(two.expect_message(one.id), large.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_dials_end_with_one_link() {
    for _ in 0..10 {
        let (mut one, mut two) = pair().await;
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
        let keys = keypairs::<2>();
        let members = group(&keys);
        let [one, two] = keys;
        let mut both = [Member::start(one, &members, hello(1)).await, Member::start(two, &members, hello(2)).await];
        both[dialler].meet(&both[1 - dialler]);
        let ids = [both[0].id, both[1].id];
        both[0].expect_up(ids[1]);
        both[1].expect_up(ids[0]);
    }
}

/// Starts two members that ought to refuse each other; gives what each of them hears.
async fn strangers(first: Hello, second: Hello) -> (Member, Refusal, Member, Refusal) {
    let keys = keypairs::<2>();
    let members = group(&keys);
    let [one, two] = keys;
    let mut one = Member::start(one, &members, first).await;
    let mut two = Member::start(two, &members, second).await;
    one.meet(&two);
    let (heard_by_two, heard_by_one) = (two.expect_refusal(one.id), one.expect_refusal(two.id));
    (one, heard_by_one, two, heard_by_two)
}

fn counted(member: &Member, reason: &str) -> (bool, bool) {
    let figures = member.mesh.figures();
    (figures.refused.contains_key(reason), figures.refused_by_others.contains_key(reason))
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_refused_by_name() {
    let (one, by_one, two, by_two) = strangers(hello(1), Hello { version: 9, ..hello(2) }).await;
    assert_eq!(by_two, Refusal::Version { theirs: 9, ours: 1 });
    assert_eq!(by_one, Refusal::Version { theirs: 1, ours: 9 });
    assert_eq!(counted(&one, "version"), (true, true));
    assert_eq!(counted(&two, "version"), (true, true));
    assert!(!one.figures_of(two.id).linked && one.figures_of(two.id).links == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_is_refused_by_name() {
    let other = Hello { cluster: Digest([7; 32]), configuration: Digest([8; 32]), ..hello(2) };
    let (one, by_one, two, by_two) = strangers(hello(1), other).await;
    assert_eq!(by_two, Refusal::Cluster { theirs: Digest([7; 32]), ours: Digest([1; 32]) });
    assert_eq!(by_one, Refusal::Cluster { theirs: Digest([1; 32]), ours: Digest([7; 32]) });
    assert_eq!(counted(&one, "cluster"), (true, true));
    assert_eq!(counted(&two, "cluster"), (true, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_configuration_is_refused_by_name_unless_the_epoch_differs() {
    let other = Hello { configuration: Digest([8; 32]), ..hello(2) };
    let (one, by_one, two, by_two) = strangers(hello(1), other.clone()).await;
    assert_eq!(
        (by_one, by_two),
        (Refusal::Configuration { epoch: Epoch(0) }, Refusal::Configuration { epoch: Epoch(0) })
    );
    assert_eq!(counted(&one, "configuration"), (true, true));
    assert_eq!(counted(&two, "configuration"), (true, true));

    let keys = keypairs::<2>();
    let members = group(&keys);
    let [one, two] = keys;
    let mut one = Member::start(one, &members, hello(1)).await;
    let two = Member::start(two, &members, Hello { epoch: Epoch(1), ..other }).await;
    one.meet(&two);
    one.expect_up(two.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_refused_by_name_whichever_id_is_smaller() {
    let keys = keypairs::<3>();
    let known = group(&keys[1..2]);
    let [small, middle, large] = keys;
    let mut member = Member::start(middle.clone(), &known, hello(1)).await;
    for key in [small, large] {
        // The stranger thinks that it belongs to the group.
        let mut stranger = Member::start(key.clone(), &group(&[key, middle.clone()]), hello(2)).await;
        stranger.meet(&member);
        assert_eq!(stranger.expect_refusal(member.id), Refusal::NotAMember(stranger.id));
        assert_eq!(counted(&stranger, "not_a_member"), (false, true));
        assert_eq!(stranger.figures_of(member.id).links, 0, "never linked");
    }
    until("both are counted", || member.mesh.figures().refused.get("not_a_member") == Some(&2)).await;
    assert!(member.inbox.take(10, Duration::ZERO).is_empty(), "the driver hears nothing of strangers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_member_comes_back_when_it_is_mended() {
    let keys = keypairs::<2>();
    let members = group(&keys);
    let [one, two] = keys;
    let mut one = Member::start(one, &members, hello(1)).await;
    let mut wrong = Member::start(two.clone(), &members, Hello { cluster: Digest([7; 32]), ..hello(2) }).await;
    wrong.meet(&one);
    wrong.expect_refusal(one.id);
    one.expect_refusal(wrong.id);
    wrong.mesh.stop().await;
    let mut mended = Member::start(two, &members, hello(3)).await;
    mended.meet(&one);
    assert_eq!(mended.expect_up(one.id), hello(1));
    // It may have been refused more than once before.
    let up = loop {
        match one.next() {
            Input::Refused { .. } => {}
            input => break input,
        }
    };
    assert!(matches!(up, Input::LinkUp { hello, .. } if hello.incarnation == Incarnation(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drivers_refusal_reaches_the_peer() {
    let (mut one, mut two) = pair().await;
    let refusal = Refusal::StaleDisk { says: "vote 3".into(), said: "vote 9".into() };
    one.mesh.refuse(two.id, hello(2).nonce, refusal.clone());
    one.expect_down(two.id);
    match two.next() {
        Input::LinkDown { .. } => assert_eq!(two.expect_refusal(one.id), refusal),
        Input::Refused { reason, .. } => {
            assert_eq!(reason, refusal);
            two.expect_down(one.id);
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
    until("counted", || counted(&one, "stale_disk").0 && counted(&two, "stale_disk").1).await;
}

/// The driver judges late: the process that it refuses has made room for the right one.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_spares_the_process_that_came_instead() {
    for (goes, stays) in [(0, 1), (1, 0)] {
        let keys = keypairs::<2>();
        let members = group(&keys);
        let mut one = Member::start(keys[stays].clone(), &members, hello(1)).await;
        let older = Member::start(keys[goes].clone(), &members, hello(4)).await;
        older.meet(&one);
        assert_eq!(one.expect_up(older.id), hello(4));
        let mut newer = Member::start(keys[goes].clone(), &members, hello(6)).await;
        newer.meet(&one);
        one.expect_down(older.id);
        assert_eq!(one.expect_up(older.id), hello(6));
        newer.expect_up(one.id);
        let refusal = Refusal::StaleDisk { says: "incarnation 4".into(), said: "incarnation 5".into() };
        one.mesh.refuse(newer.id, hello(4).nonce, refusal);
        one.mesh.send(newer.id, &urgent(1));
        // Commands are taken in their order: when it has stopped, it has judged the refusal.
        one.mesh.clone().stop().await;
        newer.expect_message(one.id);
        newer.expect_down(one.id);
        assert_eq!(counted(&newer, "stale_disk"), (false, false), "nobody refused it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_peer_is_noticed_and_comes_back() {
    let keys = keypairs::<2>();
    let members = group(&keys);
    for (stays, goes) in [(0, 1), (1, 0)] {
        let mut one = Member::start(keys[stays].clone(), &members, hello(1)).await;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (key, all) = (keys[goes].clone(), members.clone());
        let mut two = runtime.spawn(async move { Member::start(key, &all, hello(2)).await }).await.unwrap();
        let address = two.mesh.listen_addresses()[0].to_string();
        one.meet(&two);
        one.expect_up(two.id);
        tokio::task::block_in_place(|| two.expect_up(one.id));
        // As a SIGKILL: nothing is said, the sockets close.
        runtime.shutdown_background();
        one.expect_down(two.id);
        until("its port is free", || transport::probe(&address.parse().unwrap()).is_ok()).await;
        let again = || Member::listening(keys[goes].clone(), &members, hello(3), &address);
        let mut two = again().await;
        assert_eq!(one.expect_up(two.id), hello(3));
        assert_eq!(two.expect_up(one.id), hello(1));
        two.mesh.send(one.id, &urgent(1));
        one.expect_message(two.id);
        one.mesh.stop().await;
        two.mesh.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_writes_what_is_queued_and_frees_the_port() {
    let (one, mut two) = pair().await;
    for number in 0..50 {
        one.mesh.send(two.id, &bulk(number, 100_000));
        one.mesh.send(two.id, &urgent(number));
    }
    let address = one.mesh.listen_addresses()[0].clone();
    one.mesh.stop().await;
    for _ in 0..100 {
        two.expect_message(one.id);
    }
    two.expect_down(one.id);
    transport::probe(&address).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_an_error_that_names_it() {
    let (one, _two) = pair().await;
    let address = one.mesh.listen_addresses()[0].clone();
    let (_, receiver) = watch::channel(hello(1));
    let settings = MeshSettings {
        keypair: Keypair::generate_ed25519(),
        listen: vec![address.clone()],
        members: Vec::new(),
        hello: receiver,
        inbox: inbox().0,
        credits: Arc::new(Semaphore::new(1)),
    };
    let error = Mesh::start(settings).await.err().unwrap().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("another one"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_takes_nothing_holds_its_peer_back() {
    let (mut one, mut two) = pair().await;
    let envelope = bulk(1, 4 << 20).encode();
    let most = (limits::INBOX_BYTES + limits::BULK_QUEUE_BYTES) / envelope.len() + 2;
    for _ in 0..2 * most {
        one.mesh.send_bytes(two.id, true, envelope.clone());
    }
    let figures = one.figures_of(two.id);
    assert!(figures.dropped > 0, "what does not fit is counted");
    assert!(figures.bulk_queue_bytes <= limits::BULK_QUEUE_BYTES);
    until("as much has arrived as may wait", || {
        let arrived = two.figures_of(one.id).bytes_in as usize;
        arrived > limits::INBOX_BYTES - envelope.len()
    })
    .await;
    // The inbox holds its bytes, one more message waits for credits, and a window of pieces may be under way.
    let arrived = two.figures_of(one.id).bytes_in as usize;
    assert!(arrived < limits::INBOX_BYTES + 2 * envelope.len() + limits::BULK_WINDOW_BYTES);
    assert!(one.figures_of(two.id).linked && two.figures_of(one.id).linked);
    let sent = 2 * most - one.figures_of(two.id).dropped as usize;
    for _ in 0..sent {
        assert!(matches!(two.expect_message(one.id), PeerMessage::Batch(_)));
    }
    two.mesh.send(one.id, &urgent(1));
    one.expect_message(two.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_process_is_refused_and_the_link_stays() {
    for (goes, stays) in [(0, 1), (1, 0)] {
        let keys = keypairs::<2>();
        let members = group(&keys);
        let mut one = Member::start(keys[stays].clone(), &members, hello(1)).await;
        let mut two = Member::start(keys[goes].clone(), &members, hello(5)).await;
        two.meet(&one);
        one.expect_up(two.id);
        two.expect_up(one.id);
        let mut copy = Member::start(keys[goes].clone(), &members, hello(4)).await;
        copy.meet(&one);
        assert!(matches!(copy.expect_refusal(one.id), Refusal::StaleDisk { .. }));
        two.mesh.send(one.id, &urgent(1));
        one.expect_message(two.id);
        assert_eq!(one.figures_of(two.id).links, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_of_one_start_are_both_refused() {
    for (goes, stays) in [(0, 1), (1, 0)] {
        let keys = keypairs::<2>();
        let members = group(&keys);
        let mut one = Member::start(keys[stays].clone(), &members, hello(1)).await;
        let mut two = Member::start(keys[goes].clone(), &members, hello(5)).await;
        two.meet(&one);
        one.expect_up(two.id);
        two.expect_up(one.id);
        let mut twin = Member::start(keys[goes].clone(), &members, Hello { nonce: StartNonce(7), ..hello(5) }).await;
        twin.meet(&one);
        assert_eq!(twin.expect_refusal(one.id), Refusal::TwoProcesses(twin.id));
        assert_eq!(two.expect_refusal(one.id), Refusal::TwoProcesses(two.id));
        one.expect_down(two.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_process_takes_the_place_of_an_older_one() {
    for (goes, stays) in [(0, 1), (1, 0)] {
        let keys = keypairs::<2>();
        let members = group(&keys);
        let mut one = Member::start(keys[stays].clone(), &members, hello(1)).await;
        let mut two = Member::start(keys[goes].clone(), &members, hello(5)).await;
        two.meet(&one);
        one.expect_up(two.id);
        two.expect_up(one.id);
        let mut newer = Member::start(keys[goes].clone(), &members, hello(6)).await;
        newer.meet(&one);
        one.expect_down(two.id);
        assert_eq!(one.expect_up(two.id), hello(6));
        newer.expect_up(one.id);
        assert_eq!(two.next_but_links(one.id), Some(()), "the older one loses its link");
    }
}

impl Member {
    /// Whether the link to `peer` goes down, whatever else happens to it.
    fn next_but_links(&mut self, from: MemberId) -> Option<()> {
        loop {
            if matches!(self.next(), Input::LinkDown { peer } if peer == from) {
                return Some(());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_of_a_link_is_told() {
    let (one, mut two) = pair().await;
    let keys = keypairs::<1>();
    let address = one.mesh.listen_addresses()[0].clone();
    assert_eq!(two.figures_of(one.id).trouble, None);
    one.mesh.stop().await;
    two.expect_down(one.id);
    let trouble = |part: &str| two.figures_of(one.id).trouble.is_some_and(|trouble| trouble.contains(part));
    until("nobody listens", || trouble("refused")).await;
    let other = Member::listening(keys[0].clone(), &[], hello(1), &address.to_string()).await;
    until("somebody else listens", || trouble(&other.id.to_string())).await;
}

/// Passes bytes between the members until it is told to freeze; then it holds its connections open and says nothing.
async fn freezing_link(target: &Member) -> (Multiaddr, watch::Sender<bool>) {
    let port = target.mesh.listen_addresses()[0].to_string().rsplit('/').next().unwrap().parse::<u16>().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port()).parse().unwrap();
    let (freeze, frozen) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut frozen = frozen.clone();
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let copied = tokio::io::copy_bidirectional(&mut near, &mut far);
                // The test's end drops the sender, which ends both waits.
                if overtaken(copied, frozen.wait_for(|frozen| *frozen)).await {
                    drop(frozen.wait_for(|frozen| !*frozen).await);
                }
            });
        }
    });
    (address, freeze)
}

/// Whether the second ended first.
async fn overtaken<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> bool {
    tokio::select! {
        _ = one => false,
        _ = other => true,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_says_nothing_is_closed_and_comes_back() {
    let keys = keypairs::<2>();
    let members = group(&keys);
    let [one, two] = keys;
    let mut one = Member::start(one, &members, hello(1)).await;
    let mut two = Member::start(two, &members, hello(2)).await;
    let (address, freeze) = freezing_link(&two).await;
    one.mesh.set_addresses(two.id, vec![address]);
    one.expect_up(two.id);
    two.expect_up(one.id);
    freeze.send(true).unwrap();
    one.expect_down(two.id);
    two.expect_down(one.id);
    freeze.send(false).unwrap();
    one.expect_up(two.id);
    two.expect_up(one.id);
    one.mesh.send(two.id, &urgent(1));
    two.expect_message(one.id);
}

mod hostile;
