//! Peers that should not be there, or say what they should not. Each is refused by name and counted; nobody else
//! notices.

use std::net::SocketAddr;

use serde_json::Value;
use synod::codec::{StreamClass, message_header};
use synod::types::peer::{Hello, Refusal};
use synod::types::{Digest, Incarnation, StartNonce, limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::raw_peer::{RawPeer, key_of, unknown_key};
use super::harness::sequence::agree;
use super::harness::{Group, Load, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_on_the_meshs_port_disturbs_nobody() {
    let group = Group::start().await;
    let load = Load::start(&group);
    load.goes_on(&group.everybody(), 20).await;
    let view = group.members[0].status().await["view"].clone();
    let noise: Vec<u8> = (0..200_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut silent = Vec::new();
    for member in &group.members {
        silent.push(TcpStream::connect(member.mesh).await.unwrap());
        for rubbish in [
            &noise[..],
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x13/multistream/1.0.0\n",
            b"\x13/multistream/1.0.0\n\x07/noise\n\xff\xff",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"",
        ] {
            say(member.mesh, rubbish).await;
        }
    }
    load.goes_on(&group.everybody(), 100).await;
    let mut published = load.finish().await;
    published.none_failed_at(&group.everybody());
    assert_eq!(group.members[0].status().await["view"], view, "the leader stays");
    agree(&group, &group.everybody(), &mut published).await;
    drop(silent);
}

/// Sends bytes, and takes what comes until both sides have closed.
async fn say(mesh: SocketAddr, bytes: &[u8]) {
    let mut socket = TcpStream::connect(mesh).await.unwrap();
    // The member may close before all is sent.
    let _ = socket.write_all(bytes).await;
    let _ = socket.shutdown().await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_members_of_something_else_are_refused_by_name_and_counted() {
    let mut group = Group::start().await;
    // Its key is used by somebody else from now on.
    group.members[2].kill();
    let members = group.others(2);
    let load = Load::start_at(&group, &members);
    let (mesh, key) = (group.members[0].mesh, key_of(&group.members[2].data_dir));
    let ours = RawPeer::dial(mesh, &unknown_key()).await.hello().await;
    let elsewhere = Digest([7; 32]);
    let cases: [(&str, bool, Hello); 5] = [
        ("not_a_member", false, ours.clone()),
        ("cluster", true, Hello { cluster: elsewhere, ..ours.clone() }),
        ("cluster", false, Hello { cluster: elsewhere, ..ours.clone() }),
        ("version", true, Hello { version: limits::PROTOCOL_VERSION + 1, ..ours.clone() }),
        ("configuration", true, Hello { configuration: elsewhere, ..ours.clone() }),
    ];
    for (reason, is_member, hello) in cases {
        let before = refused(&group, 0, reason).await;
        let stranger = unknown_key();
        let mut peer = RawPeer::dial(mesh, if is_member { &key } else { &stranger }).await;
        peer.greet(&hello).await;
        let refusal = peer.refusal().await;
        assert_eq!(synod::net::reason(&refusal), reason, "{refusal}");
        until("the refusal is counted", async || (refused(&group, 0, reason).await == before + 1).then_some(())).await;
    }
    load.goes_on(&members, 50).await;
    let mut published = load.finish().await;
    published.none_failed_at(&members);
    agree(&group, &members, &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_truncated_and_oversized_frames_of_a_member_end_its_link_and_nothing_else() {
    let mut group = Group::start().await;
    // Its key is used by somebody else from now on.
    group.members[2].kill();
    let members = group.others(2);
    let load = Load::start_at(&group, &members);
    load.goes_on(&members, 20).await;
    let (mesh, key) = (group.members[0].mesh, key_of(&group.members[2].data_dir));
    let oversized = |class: StreamClass, kind: u8| {
        let most = if class == StreamClass::Urgent { limits::URGENT_FRAME_BYTES } else { limits::BULK_FRAME_BYTES };
        (class, [&(most as u32 + 2).to_be_bytes()[..], &[kind]].concat())
    };
    let rubbish = [
        oversized(StreamClass::Urgent, 3),
        oversized(StreamClass::Bulk, 5),
        (StreamClass::Urgent, [&message_header(7)[..], b"rubbish"].concat()),
        (StreamClass::Bulk, [&[0, 0, 0, 8, 6][..], b"rubbish"].concat()),
        (StreamClass::Urgent, vec![0; 64]),
        (StreamClass::Bulk, vec![255; 64]),
    ];
    for (number, (class, bytes)) in rubbish.into_iter().enumerate() {
        let before = figure(&group, "malformed").await;
        let mut peer = link(mesh, &key).await;
        peer.write(class, &bytes).await;
        let refusal = peer.refusal().await;
        assert!(matches!(refusal, Refusal::Malformed(_)), "case {number}: {refusal}");
        until("it is counted", async || (figure(&group, "malformed").await == before + 1).then_some(())).await;
    }
    let before = figure(&group, "truncated").await;
    let mut peer = link(mesh, &key).await;
    peer.write(StreamClass::Urgent, &message_header(100)[..3]).await;
    peer.close().await;
    until("it is counted", async || (figure(&group, "truncated").await == before + 1).then_some(())).await;
    let name = group.members[2].name.clone();
    until("it is told what is in the way of the link", async || {
        let links = links(&group, 0).await;
        let peer = links["peers"].as_array().unwrap().iter().find(|peer| peer["name"] == *name).unwrap();
        (peer["connected"] == false && peer["trouble"].is_string()).then_some(())
    })
    .await;
    load.goes_on(&members, 50).await;
    let mut published = load.finish().await;
    published.none_failed_at(&members);
    agree(&group, &members, &mut published).await;
}

/// A link that the member believes in: nothing is wrong with it yet.
async fn link(mesh: SocketAddr, key: &libp2p::identity::Keypair) -> RawPeer {
    let theirs = RawPeer::dial(mesh, &unknown_key()).await.hello().await;
    let hello = Hello { incarnation: Incarnation(9), nonce: StartNonce(9), ..theirs };
    let mut peer = RawPeer::dial(mesh, key).await;
    peer.hello().await;
    peer.greet(&hello).await;
    peer.until_ready().await;
    peer
}

async fn links(group: &Group, member: usize) -> Value {
    group.members[member].status().await["links"].clone()
}

async fn refused(group: &Group, member: usize, reason: &str) -> u64 {
    links(group, member).await["refused"][reason].as_u64().unwrap_or(0)
}

async fn figure(group: &Group, name: &str) -> u64 {
    links(group, 0).await[name].as_u64().unwrap()
}
