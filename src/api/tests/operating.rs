//! Status, members, probes, refusals at the door, and the stop.

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::driver::Mood;
use super::hostile::exchange;
use super::member::{Member, NOW, OTHER, Plan, observation, snapshot, until};
use crate::api::client::{Client, ClientError, Target};
use crate::api::routes::{Action, ROUTES};
use crate::api::{ApiSettings, CannotServe, Observation};
use crate::types::{Ack, Instant, Position, Readiness, Role, Slot};

/// Every route of the host API, and whether it is there.
const CONTRACT: [(&str, &str, bool); 20] = [
    ("POST", "/v1/messages", true),
    ("GET", "/v1/messages", true),
    ("GET", "/v1/cursors", false),
    ("PUT", "/v1/cursors/{name}", false),
    ("DELETE", "/v1/cursors/{name}", false),
    ("GET", "/v1/stream", false),
    ("GET", "/v1/status", true),
    ("GET", "/v1/members", true),
    ("GET", "/v1/epochs", true),
    ("POST", "/v1/invites", true),
    ("POST", "/v1/leave", true),
    ("DELETE", "/v1/members/{id}", true),
    ("PUT", "/v1/voters", true),
    ("POST", "/v1/drain", true),
    ("GET", "/livez", true),
    ("GET", "/readyz", true),
    ("GET", "/startupz", true),
    ("GET", "/metrics", false),
    ("GET", "/openapi.json", false),
    ("GET", "/", false),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_contract_lists_is_there_or_says_that_it_is_not() {
    let mut table: Vec<(&str, &str, bool)> =
        ROUTES.iter().map(|route| (route.method.as_str(), route.path, route.action != Action::NotBuilt)).collect();
    let mut contract = CONTRACT.to_vec();
    table.sort_unstable();
    contract.sort_unstable();
    assert_eq!(table, contract);
    let member = Member::start().await;
    for client in [member.tcp(), member.unix()] {
        for (method, path, built) in CONTRACT {
            let method: Method = method.parse().unwrap();
            let path = path.replace("{name}", "billing").replace("{id}", &"b8".repeat(32));
            let query = if (method.as_str(), path.as_str()) == ("POST", "/v1/messages") { "?topic=t" } else { "" };
            let body = if path == "/v1/voters" { r#"{"target": 5}"# } else { "{}" };
            let answer = client.send(method, &format!("{path}{query}"), &[], Bytes::from(body)).await.unwrap();
            let document: Value = serde_json::from_slice(&answer.body).unwrap();
            if built {
                assert_eq!(answer.status, StatusCode::OK, "{path}");
            } else {
                assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED, "{path}");
                assert_eq!(document["code"], "not_implemented");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_contract_does_not_list_is_refused() {
    let member = Member::start().await;
    let client = member.tcp();
    for path in ["/v1", "/v1/messages/", "/v1/messages/1", "/V1/messages", "/v1/cursors/", "//", "/v1/members//"] {
        let answer = client.send(Method::GET, path, &[], Bytes::new()).await.unwrap();
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    let answer = client.send(Method::PUT, "/v1/messages", &[], Bytes::new()).await.unwrap();
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers["allow"], "POST, GET");
    for path in ["/livez", "/readyz", "/startupz", "/v1/status", "/v1/members", "/v1/epochs"] {
        let answer = client.send(Method::GET, &format!("{path}?verbose"), &[], Bytes::new()).await.unwrap();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_page_is_refused_on_every_listener() {
    let member = Member::start().await;
    for client in [member.tcp(), member.unix()] {
        for origin in ["https://example.org", "null", "http://localhost:1", ""] {
            for (method, path) in [
                (Method::POST, "/v1/messages?topic=t"),
                (Method::POST, "/v1/invites"),
                (Method::POST, "/v1/leave"),
                (Method::DELETE, "/v1/members/two"),
                (Method::PUT, "/v1/voters"),
                (Method::GET, "/livez"),
            ] {
                let answer = client.send(method, path, &[("Origin", origin)], Bytes::new()).await.unwrap();
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{origin}");
            }
        }
    }
    let own = format!("http://{}", member.address);
    let answer = member.tcp().send(Method::GET, "/livez", &[("Origin", &own)], Bytes::new()).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_a_name_server_points_here_is_foreign() {
    let member = Member::start().await;
    // Browsers name the origin when a page publishes, not when it reads.
    for (method, path, origin, code) in [
        ("GET", "/v1/messages", "", "foreign_host"),
        ("GET", "/livez", "", "foreign_host"),
        ("POST", "/v1/messages?topic=t", "", "foreign_host"),
        ("POST", "/v1/messages?topic=t", "Origin: http://evil.example:80\r\n", "foreign_origin"),
    ] {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: evil.example:80\r\n{origin}Connection: close\r\n\r\n");
        let answer = exchange(&member.address, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains(code), "{answer}");
        assert_eq!(answer.contains(r#""outcome":"rejected""#), method == "POST", "{answer}");
    }
    for own in ["localhost:7171", "LocalHost", "127.0.0.1", "[::1]:7171"] {
        let head = format!("GET /livez HTTP/1.1\r\nHost: {own}\r\nConnection: close\r\n\r\n");
        let answer = exchange(&member.address, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{own}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_asked_for_over_tcp() {
    let member = Member::planned(Plan { token: Some("secret".to_owned()), ..Plan::default() }).await;
    for client in [member.tcp(), member.tcp().with_token("Secret"), member.tcp().with_token("")] {
        let error = client.get("/v1/status").await.unwrap_err();
        let ClientError::Refused(problem) = error else { panic!("{error}") };
        assert_eq!((problem.status, problem.code.as_str()), (401, "unauthorized"));
    }
    member.tcp().with_token("secret").get("/v1/status").await.unwrap();
    // Whoever knows it may come by any name, and who does not is told what became of the message.
    let head = "GET /livez HTTP/1.1\r\nHost: n1\r\nAuthorization: Bearer secret\r\nConnection: close\r\n\r\n";
    assert!(exchange(&member.address, head.as_bytes()).await.starts_with("HTTP/1.1 200"));
    let error = member.tcp().publish("t", None, Ack::Ordered, Bytes::new()).await.unwrap_err();
    assert!(error.is_rejected(), "{error}");
    member.unix().get("/v1/status").await.unwrap();
    for (method, path) in [
        (Method::POST, "/v1/invites"),
        (Method::POST, "/v1/leave"),
        (Method::DELETE, "/v1/members/two"),
        (Method::PUT, "/v1/voters"),
    ] {
        let answer = member.tcp().send(method, path, &[], Bytes::new()).await.unwrap();
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn beyond_loopback_there_must_be_a_token() {
    let mut settings = ApiSettings::new(1);
    settings.tcp = Some(tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap());
    assert!(matches!(settings.check(), Err(CannotServe::NoToken(_))));
    settings.token = Some("secret".to_owned());
    assert!(settings.check().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_says_where_the_member_stands() {
    let member = Member::start().await;
    member.publish(["1".to_owned()]).await;
    let status: Value = member.tcp().get_json("/v1/status").await.unwrap();
    for (name, expected) in [
        ("name", json!("one")),
        ("member", json!("a7".repeat(32))),
        ("data_dir", json!("/var/lib/synod/data")),
        ("role", json!("leader")),
        ("epoch", json!(0)),
        ("view", json!(3)),
        ("leader", json!("a7".repeat(32))),
        ("head", json!(1)),
        ("delivered", json!(1)),
        ("floor", json!(1)),
        ("slot_decided", json!(10)),
        ("slot_lag", json!(2)),
        ("ready", json!(true)),
        ("clock_offset_ms", json!(-3)),
        ("readers_stalled", json!(0)),
        ("established", json!(0)),
        ("leaving", json!(false)),
        ("waits_for", json!([])),
        ("catching_up", Value::Null),
        ("quorum", json!({"needed": 2, "linked": 2, "missing": []})),
    ] {
        assert_eq!(status[name], expected, "{name}");
    }
    assert_eq!(status["peers"][0]["last_heard_ms"], 40.0);
    assert_eq!(status["links"][0]["round_trip_ms"], 0.1);
    assert_eq!(status["disk"]["sync_slowest_ms"], 1.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_probes_tell_alive_from_started_from_ready() {
    let member = Member::planned(Plan { started: false, ..Plan::default() }).await;
    let client = member.tcp();
    let code = async |path: &str| match client.get(path).await {
        Ok(_) => "ok".to_owned(),
        Err(ClientError::Refused(problem)) => problem.code,
        Err(other) => panic!("{other}"),
    };
    assert_eq!(code("/livez").await, "ok");
    for path in ["/startupz", "/readyz", "/v1/status", "/v1/members", "/v1/epochs"] {
        assert_eq!(code(path).await, "starting", "{path}");
    }
    member.started.send_replace(true);
    let reasons = vec!["3 slots behind".to_owned(), "no quorum".to_owned()];
    let behind = crate::types::Snapshot {
        readiness: Readiness::NotReady(reasons),
        decided: Position(9),
        delivered: Position(5),
        role: Role::Learner,
        peers: Vec::new(),
        catching_up: Some((Slot(3), Slot(40))),
        waits_for: vec!["a fifth member".to_owned()],
        ..snapshot()
    };
    member.observed.send_replace(Some(observation(behind)));
    assert_eq!(code("/startupz").await, "ok");
    let answer = client.send(Method::GET, "/readyz", &[], Bytes::new()).await.unwrap();
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(document["reasons"], json!(["3 slots behind", "no quorum"]));
    assert_eq!(document["lag"], 4);
    let missing = json!([{"id": OTHER, "name": "two"}]);
    for (name, expected) in [
        ("role", json!("learner")),
        ("quorum", json!({"needed": 2, "linked": 1, "missing": missing})),
        ("catching_up", json!({"from_slot": 3, "slot": 10, "to_slot": 40})),
        ("leaving", json!(false)),
        ("waits_for", json!(["a quorum: 1 of the 2 voters that it takes are in touch", "a fifth member"])),
    ] {
        assert_eq!(document[name], expected, "{name}");
    }
    member.observed.send_replace(Some(observation(snapshot())));
    assert_eq!(code("/readyz").await, "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_driver_stands_still_is_not_ready() {
    let member = Member::start().await;
    let before = Observation { at: Instant(NOW.0 - 12_000_000_000), ..observation(snapshot()) };
    member.observed.send_replace(Some(before));
    let error = member.tcp().get("/readyz").await.unwrap_err();
    let ClientError::Refused(problem) = error else { panic!("{error}") };
    assert_eq!((problem.status, problem.code.as_str()), (503, "not_ready"));
    assert!(problem.detail.contains("the driver has not turned for 1"), "{problem}");
    let status: Value = member.tcp().get_json("/v1/status").await.unwrap();
    assert_eq!(status["ready"], false);
    member.observed.send_replace(Some(observation(snapshot())));
    member.tcp().get("/readyz").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_driver_may_never_turn_again_does_not_live() {
    let member = Member::start().await;
    let turned = |seconds_ago: u64| {
        let at = Instant(NOW.0 - seconds_ago * 1_000_000_000);
        member.observed.send_replace(Some(Observation { at, ..observation(snapshot()) }));
    };
    turned(10);
    member.tcp().get("/livez").await.unwrap();
    turned(31);
    let error = member.tcp().get("/livez").await.unwrap_err();
    let ClientError::Refused(problem) = error else { panic!("{error}") };
    assert_eq!((problem.status, problem.code.as_str()), (503, "standstill"));
    assert!(problem.detail.contains("the driver has not turned for 3"), "{problem}");
    // While the log is read nobody turns.
    member.started.send_replace(false);
    member.tcp().get("/livez").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stop_ends_readers_and_finishes_publishes() {
    let mut member = Member::start().await;
    member.publish(["1".to_owned()]).await;
    let mut tail = member.tcp().lines("/v1/messages").await.unwrap();
    assert!(tail.next().await.unwrap().is_some());
    let mut idle_tail = member.unix().lines("/v1/messages?after=latest").await.unwrap();
    let before = member.position.receiver_count();
    let client = member.tcp();
    let poll = tokio::spawn(async move { client.get_json::<Value>("/v1/messages?after=1&wait=60s").await.unwrap() });
    member.mood(Mood::Hold);
    let client = member.unix();
    let publish = tokio::spawn(async move { client.publish("t", None, Ack::Ordered, Bytes::from("2")).await });
    until("both wait", async || member.tickets.waiting() > 0 && member.position.receiver_count() > before).await;
    member.stop.send_replace(true);
    assert_eq!(tail.next().await.unwrap(), None);
    assert_eq!(idle_tail.next().await.unwrap(), None);
    member.mood(Mood::Order);
    publish.await.unwrap().unwrap();
    let page = poll.await.unwrap();
    assert!(page["next"] == 1 || page["next"] == 2, "{page}");
    (&mut member.serving).await.unwrap();
    let error = member.tcp().get("/livez").await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    let target = Target::Unix(member.socket.clone());
    assert!(matches!(Client::new(target).get("/livez").await, Err(ClientError::Unreachable { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_is_answered_when_it_is_done_or_when_its_time_is_up() {
    let member = Member::planned(Plan { started: false, ..Plan::default() }).await;
    let drain = async |body: &'static str| {
        let answer = member.tcp().send(Method::POST, "/v1/drain", &[], Bytes::from(body)).await.unwrap();
        let document: Value = serde_json::from_slice(&answer.body).unwrap();
        (answer.status.as_u16(), document)
    };
    let (status, problem) = drain("").await;
    assert_eq!((status, &problem["code"]), (503, &json!("starting")), "nothing was accepted yet");
    member.started.send_replace(true);
    member.observed.send_replace(Some(observation(snapshot())));
    for (body, code) in [("{", "bad_json"), (r#"{"after": "1s"}"#, "bad_json"), (r#"{"timeout": "1"}"#, "bad_duration")]
    {
        let (status, problem) = drain(body).await;
        assert_eq!((status, &problem["code"]), (400, &json!(code)), "{body}");
    }
    member.mood(Mood::Hold);
    let (status, answer) = drain(r#"{"timeout": "1ms"}"#).await;
    let waits_for =
        ["the order of what was accepted: 1 batches, and 2 messages not in a batch yet", "another member to lead"];
    assert_eq!((status, answer), (202, json!({"drained": false, "waits_for": waits_for})));
    member.mood(Mood::Order);
    for body in ["", "{}", r#"{"timeout": "60s"}"#] {
        assert_eq!(drain(body).await, (200, json!({"drained": true, "waits_for": []})));
    }
}
