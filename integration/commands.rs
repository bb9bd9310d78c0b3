//! The commands, against a real group.

use serde_json::{Value, json};

use super::harness::program::synod_with_input;
use super::harness::{Group, synod, until};

/// Names and values.
type Headers = &'static [(&'static str, &'static str)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_print_documents_for_scripts() {
    let mut group = Group::start().await;
    let socket = group.members[1].socket.to_str().unwrap().to_owned();
    let api = format!("http://{}", group.members[2].api);
    let run = async |arguments: &[&str], target: &str| {
        synod(arguments.iter().copied().chain(["--api", target, "--output", "json"])).await
    };
    let receipt = run(&["publish", "hello", "--topic", "greetings"], &socket).await.json();
    assert_eq!((&receipt["ack"], &receipt["position"]), (&json!("ordered"), &json!(1)), "{receipt}");
    let receipt = run(&["publish", "again", "--ack", "accepted"], &api).await.json();
    assert!(receipt["id"].as_str().is_some_and(|id| id.contains("/1/")), "{receipt}");
    let lines = ["publish", "--lines", "--api", socket.as_str(), "--output", "json"];
    let published = synod_with_input(lines, "one\ntwo\nthree\n").await;
    assert_eq!(published.code, Some(0), "{published:?}");
    let positions: Vec<Value> =
        published.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["position"].clone()).collect();
    assert_eq!(positions, [json!(3), json!(4), json!(5)]);
    until("all is delivered", async || (group.members[2].try_status().await?["delivered"] == 5).then_some(())).await;
    let tail = run(&["tail", "--after", "0", "--no-follow"], &api).await;
    assert_eq!(tail.code, Some(0), "{tail:?}");
    let events: Vec<Value> = tail.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let data: Vec<&str> = events.iter().filter_map(|event| event["data"].as_str()).collect();
    assert_eq!(data, ["hello", "again", "one", "two", "three"]);
    let tail = run(&["tail", "--after", "0", "--topic", "greetings", "--limit", "1"], &socket).await;
    assert_eq!(tail.json()["type"], "greetings");
    let status = run(&["status"], &socket).await.json();
    assert_eq!((&status["name"], &status["head"], &status["ready"]), (&json!("n2"), &json!(5), &json!(true)));
    let members = run(&["members"], &api).await.json();
    let mut names: Vec<&str> =
        members["members"].as_array().unwrap().iter().map(|member| member["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["n1", "n2", "n3"]);
    group.stop_all().await;
    run(&["status"], &socket).await.refused(69, &["no sidecar answers"]);
    run(&["publish", "x"], &api).await.refused(69, &["no sidecar answers"]);
    let report =
        synod(["verify".as_ref(), group.members[0].data_dir.as_os_str(), "--output".as_ref(), "json".as_ref()])
            .await
            .json();
    assert_eq!((&report["whole"], &report["messages"]), (&json!(true), &json!(5)), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_speak_to_people_and_find_the_sidecar_by_its_configuration() {
    let group = Group::start().await;
    let config = group.members[0].config.to_str().unwrap();
    let run = async |arguments: &[&str]| synod(arguments.iter().copied().chain(["--config", config])).await;
    let said = |ended: &super::harness::program::Ended, part: &str| {
        assert!(ended.code == Some(0) && ended.stdout.contains(part), "{part} is missing: {ended:?}");
    };
    said(&run(&["publish", "hello"]).await, "ordered at position 1");
    said(&run(&["tail", "--no-follow", "--after", "0"]).await, "hello");
    said(&run(&["status"]).await, "head    1 (delivered 1)");
    said(&run(&["members"]).await, "NAME");
    said(&run(&["config", "check"]).await, "usable: group `trial`");
    said(&run(&["config", "show"]).await, "wal.segment_bytes");
    said(&synod(["config", "default"]).await, "# listen = \"127.0.0.1:7171\"");
    said(&synod(["version"]).await, env!("CARGO_PKG_VERSION"));
    let version = synod(["version", "--output", "json"]).await.json();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"), "{version}");
    for command in ["cursor", "replay", "snapshot", "restore"] {
        synod([command]).await.refused(9, &["not there yet", command]);
    }
    synod(["publish", "--no-such-flag"]).await.refused(2, &["--no-such-flag"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_yet_says_so_over_the_api() {
    let group = Group::start().await;
    let client = group.members[0].client();
    let (get, post, put, delete) = ("GET", "POST", "PUT", "DELETE");
    let cases: [(&str, &str, Headers); 19] = [
        (get, "/v1/cursors", &[]),
        (put, "/v1/cursors/billing", &[]),
        (delete, "/v1/cursors/billing", &[]),
        (get, "/v1/stream", &[]),
        (get, "/metrics", &[]),
        (get, "/openapi.json", &[]),
        (get, "/", &[]),
        (get, "/v1/messages?cursor=billing", &[]),
        (get, "/v1/messages?cursor=billing&mode=at-least-once", &[]),
        (get, "/v1/messages", &[("accept", "text/event-stream")]),
        (post, "/v1/messages?topic=t", &[("idempotency-key", "k")]),
        (post, "/v1/messages?topic=t", &[("producer-id", "p")]),
        (post, "/v1/messages?topic=t", &[("producer-epoch", "1")]),
        (post, "/v1/messages?topic=t", &[("producer-seq", "1")]),
        (post, "/v1/messages?topic=t", &[("ce-id", "1")]),
        (post, "/v1/messages?topic=t", &[("ce-type", "t")]),
        (post, "/v1/messages?topic=t", &[("content-type", "application/x-ndjson")]),
        (post, "/v1/messages?topic=t", &[("content-type", "application/cloudevents+json")]),
        (post, "/v1/messages?topic=t", &[("content-type", "application/cloudevents-batch+json")]),
    ];
    for (method, path, headers) in cases {
        let answer = client.send(method.parse().unwrap(), path, headers, "x".into()).await.unwrap();
        assert_eq!(answer.status.as_u16(), 501, "{method} {path} {headers:?}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        let problem: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(problem["code"], "not_implemented", "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(named(path, headers)), "{method} {path} {headers:?}: {detail}");
    }
    let page: Value = client.get_json("/v1/messages").await.unwrap();
    assert_eq!(page["head"], 0, "nothing was ordered");
}

/// What a refusal must name: the header or its value, the first parameter, or the path up to what stands for a name.
fn named(path: &'static str, headers: Headers) -> &'static str {
    match (headers.first(), path.split_once('?')) {
        (Some((name, value)), _) if ["accept", "content-type"].contains(name) => value,
        (Some((name, _)), _) => name,
        (None, Some((_, query))) => query.split('=').next().unwrap(),
        (None, None) => path.trim_end_matches("billing"),
    }
}
