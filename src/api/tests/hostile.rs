//! Clients that send what they should not. They hurt nobody but themselves.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::member::Member;

/// Sends bytes, and reads what comes until the other side closes.
pub(super) async fn exchange(address: &str, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // It may close before all is sent: then the answer, if any, is what counts.
    let _ = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// One message goes in and comes out, and it is number `expected`.
async fn works(member: &Member, expected: u64) {
    member.publish(["x".to_owned()]).await;
    let page: Value = member.unix().get_json("/v1/messages?limit=1000").await.unwrap();
    assert_eq!(page["messages"].as_array().unwrap().len() as u64, expected);
    assert_eq!(page["next"], expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_requests_hurt_nobody() {
    let member = Member::start().await;
    let mut sockets = Vec::new();
    for half in [
        "",
        "P",
        "POST /v1/messages?topic=t HTTP/1.1\r\n",
        "POST /v1/messages?topic=t HTTP/1.1\r\nHost: localhost\r\nContent-Le",
        "POST /v1/messages?topic=t HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf",
        "POST /v1/messages?topic=t HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\nhalf",
        "POST /v1/messages?topic=t HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha",
        "GET /v1/messages?wait=60s HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let mut socket = TcpStream::connect(&member.address).await.unwrap();
        socket.write_all(half.as_bytes()).await.unwrap();
        sockets.push(socket);
    }
    works(&member, 1).await;
    drop(sockets);
    works(&member, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_hurts_nobody() {
    let member = Member::start().await;
    let mut random = 7_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as u8
    })
    .take(100_000)
    .collect();
    for garbage in [
        noise.as_slice(),
        b"\0\0\0\0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /v1/messages?topic=t HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\nx",
        b"POST /v1/messages?topic=t HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST /v1/messages?topic=t HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4e20\r\n",
    ] {
        let answer = exchange(&member.address, garbage).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    works(&member, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_without_end_is_refused() {
    let member = Member::start().await;
    let long = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(200_000));
    let many = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X-Many: x\r\n".repeat(2000));
    let path = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(200_000));
    for head in [long, many, path] {
        let answer = exchange(&member.address, head.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    works(&member, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_body_is_cut_off() {
    let member = Member::start().await;
    let mut socket = TcpStream::connect(&member.address).await.unwrap();
    let head = "POST /v1/messages?topic=t HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(65_536));
    while socket.write_all(chunk.as_bytes()).await.is_ok() {}
    works(&member, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_go_ahead_is_told_before_sending_too_much() {
    let member = Member::start().await;
    let head = "POST /v1/messages?topic=t HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 900000\r\n\r\n";
    let answer = exchange(&member.address, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}
