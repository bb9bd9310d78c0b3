//! Clients that send what they should not. They hurt nobody but themselves.

use std::process::Command;

use synod::types::Ack;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::load::{publish, publisher_name};
use super::harness::member::Member;
use super::harness::program::PROGRAM;
use super::harness::sequence::agree;
use super::harness::{Group, Load, Published};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_requests_and_rubbish_of_clients_disturb_nobody() {
    let group = Group::start().await;
    let load = Load::start(&group);
    let mut halves = Vec::new();
    for half in [
        "",
        "P",
        "POST /v1/messages?topic=load HTTP/1.1\r\nHost: localhost\r\nContent-Le",
        "POST /v1/messages?topic=load HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf",
        "POST /v1/messages?topic=load HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\nhalf",
        "POST /v1/messages?topic=load HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha",
        "GET /v1/messages?wait=60s&after=999999999 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        for member in &group.members {
            let mut socket = TcpStream::connect(member.api).await.unwrap();
            socket.write_all(half.as_bytes()).await.unwrap();
            halves.push(socket);
        }
    }
    let noise: Vec<u8> = (0..100_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let long = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(200_000));
    let many = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X-Many: x\r\n".repeat(20_000));
    let path = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(200_000));
    for rubbish in [
        &noise[..],
        long.as_bytes(),
        many.as_bytes(),
        path.as_bytes(),
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /%ff%fe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /v1/messages?topic=%ff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/messages?topic=load HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\nx",
        b"POST /v1/messages?topic=load HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ] {
        for member in &group.members {
            let answer = exchange(member, rubbish).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        }
    }
    load.goes_on(&group.everybody(), 50).await;
    let mut published = load.finish().await;
    published.none_failed_at(&group.everybody());
    agree(&group, &group.everybody(), &mut published).await;
    drop(halves);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_a_bound_is_refused_by_name_and_not_ordered() {
    let group = Group::start().await;
    let client = group.members[1].client();
    let publish = async |topic: &str, headers: &[(&str, &str)], body: Vec<u8>| {
        let path = format!("/v1/messages?topic={topic}");
        client.post(&path, headers, body.into()).await.unwrap_err().to_string()
    };
    let bound = 1 << 20;
    for (told, refusal) in [
        ("413", publish("t", &[], vec![0; bound + 1]).await),
        ("message_bytes_max", publish("t", &[], vec![0; 3 * bound]).await),
        ("1 to 256", publish(&"t".repeat(257), &[], vec![0]).await),
        ("`synod.`", publish("synod.member.joined", &[], vec![0]).await),
        ("bad_json", publish("t", &[("content-type", "application/json")], b"{".to_vec()).await),
        ("bad_json", publish("t", &[("content-type", "application/json")], vec![b'['; 1 << 19]).await),
        ("Synod-Ack", publish("t", &[("synod-ack", "maybe")], vec![0]).await),
        ("unknown_header", publish("t", &[("synod-wish", "x")], vec![0]).await),
        ("Content-Type", publish("t", &[("content-type", "nonsense")], vec![0]).await),
        ("unknown_parameter", publish("t&tpoic=t", &[], vec![0]).await),
    ] {
        assert!(refusal.contains(told), "{told} is missing in: {refusal}");
    }
    client.publish("t", None, Ack::Ordered, vec![0; bound].into()).await.unwrap();
    let page: serde_json::Value = client.get_json("/v1/messages").await.unwrap();
    assert_eq!(page["next"], 1, "nothing else was ordered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaks_connections_takes_no_descriptor_from_log_and_mesh() {
    let mut group = Group::found().await;
    // More than a member has left, and no more than wait in the queue of its listener.
    let (few, leaks, leaky) = (140, 125, 2);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {few} && exec \"$@\""), "sh", PROGRAM]);
    group.members[leaky].start_by(command);
    group.start_all().await;
    let client = group.members[leaky].unix();
    let mut published = Published::default();
    let mut leaked = Vec::new();
    for _ in 0..leaks {
        leaked.push(TcpStream::connect(group.members[leaky].api).await.unwrap());
    }
    // More than is kept in memory: the log goes on in new files, and whoever reads it opens them.
    let (name, padding) = (publisher_name(), "x".repeat(500_000));
    for number in 0..80 {
        let sent = publish(&client, leaky, format!("{name}/{number} {padding}"), Ack::Ordered).await;
        published.add(sent);
    }
    published.none_failed_at(&[leaky]);
    // Nor from new peers.
    group.members[0].kill();
    group.members[0].start_and_catch_up().await;
    agree(&group, &group.everybody(), &mut published).await;
    drop(leaked);
}

/// Sends bytes, and reads what comes until the other side closes.
async fn exchange(member: &Member, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(member.api).await.unwrap();
    // It may close before all is sent: then the answer, if any, is what counts.
    let _ = socket.write_all(bytes).await;
    let _ = socket.shutdown().await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}
