//! The plain promise: everybody publishes, everybody reads the same.

use bytes::Bytes;
use serde_json::Value;
use synod::api::client::Receipt;
use synod::types::Ack;

use super::harness::load::{Fate, publish};
use super::harness::sequence::{agree, continues, read};
use super::harness::{Group, Load, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_at_all_members_over_tcp_and_socket_get_one_order() {
    let group = Group::start().await;
    let load = Load::start(&group);
    load.goes_on(&group.everybody(), 300).await;
    let mut published = load.finish().await;
    published.none_failed_at(&group.everybody());
    for ack in ["Ordered", "Accepted"] {
        assert!(published.iter().any(|sent| format!("{:?}", sent.fate).starts_with(ack)), "{ack} is among the answers");
    }
    let sequence = agree(&group, &group.everybody(), &mut published).await;
    assert_eq!(sequence.len(), published.acknowledged());
    for member in &group.members {
        let over_tcp = read(&member.client(), sequence.len() as u64).await;
        assert_eq!(over_tcp, sequence, "TCP and socket show the same");
        let log = member.log();
        assert!(!log.contains(" WARN ") && !log.contains(" ERROR "), "a healthy run warns of nothing: {log}");
        assert!(!log.contains(sequence[0].body()), "messages are nobody's business: {log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_every_kind_come_out_as_they_went_in() {
    let group = Group::start().await;
    let large = Bytes::from(vec![7; 1 << 20]);
    let bodies: [(&str, &'static [u8], &str); 4] = [
        ("application/json", b"{\"a\": [1,\n 2.50, \"\\u00fc\"]}", r#""data":{"a": [1,  2.50, "\u00fc"]}"#),
        ("text/plain", "gr\u{fc}\u{df}e \"x\"\n".as_bytes(), "\"data\":\"gr\u{fc}\u{df}e \\\"x\\\"\\n\""),
        ("text/plain", b"\xff\xfe", r#""data_base64":"//4=""#),
        ("application/octet-stream", b"\0\x01", r#""data_base64":"AAE=""#),
    ];
    for (index, (content_type, body, _)) in bodies.iter().enumerate() {
        let client = group.members[index % 3].client();
        let receipt =
            client.publish("kinds", Some(content_type), Ack::Ordered, Bytes::from_static(body)).await.unwrap();
        assert!(matches!(receipt, Receipt::Ordered { position, .. } if position == index as u64 + 1), "{receipt:?}");
    }
    let error = group.members[0].client().publish("kinds", Some("application/json"), Ack::Ordered, Bytes::new()).await;
    assert!(error.unwrap_err().to_string().contains("bad_json"));
    group.members[2].unix().publish("large", None, Ack::Ordered, large.clone()).await.unwrap();
    for member in &group.members {
        let client = member.client();
        until("delivered", async || (member.try_status().await?["delivered"] == 5).then_some(())).await;
        let mut lines = client.lines("/v1/messages?after=0&follow=false").await.unwrap();
        for (content_type, _, expected) in &bodies {
            let line = lines.next().await.unwrap().unwrap();
            let line = std::str::from_utf8(&line).unwrap();
            assert!(line.contains(expected), "{expected} is missing in {line}");
            assert!(line.contains(&format!("\"datacontenttype\":\"{content_type}\"")), "{line}");
        }
        let last: Value = serde_json::from_slice(&lines.next().await.unwrap().unwrap()).unwrap();
        let data = last["data_base64"].as_str().unwrap();
        assert_eq!(data.len(), large.len().div_ceil(3) * 4);
        assert_eq!(lines.next().await.unwrap(), None, "it ends at the head");
    }
}

/// openraft #1802: a quorum was counted that never existed. One of three is none, whatever it recorded before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openraft_1802_without_a_quorum_nothing_is_ordered_and_what_was_accepted_is_ordered_later() {
    let mut group = Group::found().await;
    for member in &group.members {
        member.edit(|config| config.replace("# publish_timeout = \"10s\"", "publish_timeout = \"1s\""));
    }
    group.start_all().await;
    let load = Load::start(&group);
    load.goes_on(&group.everybody(), 20).await;
    let mut published = load.finish().await;
    let before = agree(&group, &group.everybody(), &mut published).await;
    group.members[0].kill();
    group.members[1].kill();
    let alone = group.members[2].unix();
    let accepted = publish(&alone, 2, "alone/1".to_owned(), Ack::Accepted).await.unwrap();
    assert!(matches!(accepted.fate, Fate::Accepted { .. }), "{accepted:?}");
    let unordered = publish(&alone, 2, "alone/2".to_owned(), Ack::Ordered).await.unwrap();
    assert!(matches!(unordered.fate, Fate::Unknown { .. } | Fate::Rejected { .. }), "{unordered:?}");
    assert!(group.members[2].unix().get("/readyz").await.unwrap_err().to_string().contains("not_ready"));
    assert_eq!(read(&alone, before.len() as u64).await, before, "reading goes on");
    published.add([accepted, unordered]);
    group.start_all().await;
    let after = agree(&group, &group.everybody(), &mut published).await;
    continues(&after, &before);
}
