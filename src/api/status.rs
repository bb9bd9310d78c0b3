//! What this member says about itself and the others.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use warp::http::StatusCode;
use warp::reply::Response;

use crate::driver::LogFigures;
use crate::types::{MemberId, Position, Snapshot, limits};

use super::problem::Problem;
use super::{Api, Observation, reply};

/// `GET /livez`: the process answers, and its driver, once it runs, has turned within [`limits::DRIVER_STANDSTILL_MAX`].
pub(super) fn alive(api: &Api) -> Result<Response, Box<Problem>> {
    let turned = api.host.observed.borrow().as_ref().map(|observation| observation.at);
    // While the log is read there is no driver yet, and that may last.
    let turned = turned.filter(|_| *api.host.started.borrow());
    let silence = turned.map(|turned| (api.host.now)().instant.since(turned)).unwrap_or_default();
    if silence < limits::DRIVER_STANDSTILL_MAX.max(api.driver_silence_max) {
        return Ok(lives());
    }
    Err(standstill(format!("the driver has not turned for {} s: its disk may hang", silence.as_secs())))
}

/// The answer of who waits for the disk for so long that it may never go on.
pub(super) fn standstill(detail: String) -> Box<Problem> {
    let advice = "see to the disk, and start the member anew";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "standstill", detail, advice).retryable()
}

/// The answer of who lives.
pub(super) fn lives() -> Response {
    reply(StatusCode::OK, &json!({"status": "alive"}))
}

/// `GET /startupz`: the log is read and the driver runs.
pub(super) fn started(api: &Api) -> Result<Response, Box<Problem>> {
    if !*api.host.started.borrow() {
        return Err(starting());
    }
    Ok(reply(StatusCode::OK, &json!({"status": "started"})))
}

/// `GET /readyz`: caught up and in touch with a quorum; otherwise everything that stands in the way.
pub(super) fn ready(api: &Api) -> Result<Response, Box<Problem>> {
    let observation = observed(api)?;
    let (snapshot, reasons) = (&observation.snapshot, reasons(api, &observation));
    if reasons.is_empty() {
        return Ok(reply(
            StatusCode::OK,
            &json!({"status": "ready", "lag": lag(snapshot), "slot_lag": slot_lag(snapshot)}),
        ));
    }
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", reasons.join("; "), "wait, and see /v1/status")
        .retryable()
        .with("reasons", reasons)
        .with("role", json!(snapshot.role))
        .with("quorum", quorum(snapshot))
        .with("catching_up", catching_up(snapshot))
        .with("leaving", snapshot.leaving)
        .with("waits_for", waits_for(snapshot))
        .with("lag", lag(snapshot))
        .with("slot_lag", slot_lag(snapshot)))
}

/// How many voters decide, how many this member is in touch with, itself included if it votes, and who is missing.
pub(super) fn quorum(snapshot: &Snapshot) -> Value {
    let configuration = &snapshot.membership.configuration;
    let linked = |id: &MemberId| snapshot.peers.iter().any(|peer| peer.member == *id && peer.linked);
    let reached = |id: &&MemberId| **id == snapshot.member || linked(id);
    let (present, missing): (Vec<&MemberId>, Vec<&MemberId>) = configuration.voters.iter().partition(reached);
    let missing = missing.iter().map(|id| json!({"id": id, "name": name(snapshot, id)})).collect::<Vec<_>>();
    json!({"needed": configuration.quorum(), "linked": present.len(), "missing": missing})
}

/// What a leave, or a due change of the voters, waits for; without a quorum it waits for that first.
pub(super) fn waits_for(snapshot: &Snapshot) -> Vec<String> {
    let document = quorum(snapshot);
    let (needed, linked) = (&document["needed"], &document["linked"]);
    let lacking = linked.as_u64() < needed.as_u64();
    let waits = snapshot.leaving || !snapshot.waits_for.is_empty();
    let quorum =
        (waits && lacking).then(|| format!("a quorum: {linked} of the {needed} voters that it takes are in touch"));
    quorum.into_iter().chain(snapshot.waits_for.iter().cloned()).collect()
}

/// A learner's way: the slot it had at the start, the one it has, and the one it goes for.
fn catching_up(snapshot: &Snapshot) -> Value {
    match snapshot.catching_up {
        Some((from, to)) => json!({"from_slot": from.0, "slot": snapshot.slot_decided.0, "to_slot": to.0}),
        None => Value::Null,
    }
}

/// `GET /v1/status`: this member.
pub(super) fn status(api: &Api) -> Result<Response, Box<Problem>> {
    let observation = observed(api)?;
    let Observation { snapshot, log, .. } = &observation;
    let mut document = standing(api, &observation);
    let document_members = document.as_object_mut().expect("the status is an object");
    document_members.insert("queues".to_owned(), queues(api, snapshot));
    document_members.insert("disk".to_owned(), disk(snapshot, log));
    document_members.insert("readers_stalled".to_owned(), json!(api.stalled.load(Ordering::Relaxed)));
    document_members.insert("peers".to_owned(), peers(snapshot));
    document_members.insert("links".to_owned(), (api.host.links)());
    Ok(reply(StatusCode::OK, &document))
}

/// What the driver observed last.
pub(super) fn observed(api: &Api) -> Result<Observation, Box<Problem>> {
    api.host.observed.borrow().clone().ok_or_else(starting)
}

/// The answer while the log is being read for the start.
pub(super) fn starting() -> Box<Problem> {
    let reason = "this member is still reading its log";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "starting", reason, "wait; /startupz says when it is done")
        .retryable()
        .with("reasons", vec![reason])
}

/// Everything that stands in the way of serving.
fn reasons(api: &Api, observation: &Observation) -> Vec<String> {
    let mut reasons = observation.obstacles((api.host.now)().instant, api.driver_silence_max);
    if !*api.host.started.borrow() {
        reasons.push("the start is not finished".to_owned());
    }
    if observation.snapshot.draining || *api.stop.borrow() {
        reasons.push("this member is draining".to_owned());
    }
    reasons
}

fn standing(api: &Api, observation: &Observation) -> Value {
    let (snapshot, reasons) = (&observation.snapshot, reasons(api, observation));
    let delivered = api.source.head();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "cluster": snapshot.cluster,
        "name": name(snapshot, &snapshot.member),
        "member": snapshot.member,
        "data_dir": api.host.data_dir,
        "incarnation": snapshot.incarnation.0,
        "role": snapshot.role,
        "epoch": snapshot.membership.configuration.epoch.0,
        "established": snapshot.membership.established.0,
        "view": snapshot.round.view.0,
        "leader": snapshot.leader,
        "leader_name": name(snapshot, &snapshot.leader),
        "head": head(snapshot).max(delivered).0,
        "decided": snapshot.decided.max(delivered).0,
        "delivered": delivered.0,
        "floor": 1,
        "lag": lag(snapshot),
        "slot_decided": snapshot.slot_decided.0,
        "slot_known": snapshot.slot_known.0,
        "slot_lag": slot_lag(snapshot),
        "ready": reasons.is_empty(),
        "reasons": reasons,
        "draining": snapshot.draining,
        "leaving": snapshot.leaving,
        "waits_for": waits_for(snapshot),
        "catching_up": catching_up(snapshot),
        "quorum": quorum(snapshot),
        "warnings": (api.host.warnings)(snapshot),
        "clock_offset_ms": snapshot.clock_offset_ms,
        "views_entered": snapshot.views_entered,
        "misbehaviour": snapshot.misbehaviour,
    })
}

fn queues(api: &Api, snapshot: &Snapshot) -> Value {
    json!({
        "intake_messages": snapshot.intake.0,
        "intake_bytes": snapshot.intake.1,
        "lane_batches": snapshot.lane_unordered.0,
        "lane_bytes": snapshot.lane_unordered.1,
        "publishes_waiting": api.host.tickets.waiting(),
    })
}

fn disk(snapshot: &Snapshot, log: &LogFigures) -> Value {
    json!({
        "segments": log.segments,
        "log_bytes": log.bytes,
        "full": log.disk_full,
        "sync_last_ms": milliseconds(log.sync_last),
        "sync_slowest_ms": milliseconds(snapshot.sync_slowest),
    })
}

fn peers(snapshot: &Snapshot) -> Value {
    snapshot
        .peers
        .iter()
        .map(|peer| {
            json!({
                "name": name(snapshot, &peer.member),
                "member": peer.member,
                "linked": peer.linked,
                "links_back": peer.links.contains(&snapshot.member),
                "incarnation": peer.incarnation.map(|incarnation| incarnation.0),
                "last_heard_ms": peer.silent.map(milliseconds),
                "epoch": peer.round.map(|round| round.epoch.0),
                "view": peer.round.map(|round| round.view.0),
                "slot_decided": peer.slot_decided.0,
                "slot_lag": snapshot.slot_known.0.saturating_sub(peer.slot_decided.0),
            })
        })
        .collect()
}

fn name<'a>(snapshot: &'a Snapshot, member: &MemberId) -> Option<&'a str> {
    let members = &snapshot.membership.members;
    members.iter().find(|other| other.id == *member).map(|member| member.name.as_str())
}

/// The highest position this member knows of.
fn head(snapshot: &Snapshot) -> Position {
    snapshot.decided.max(snapshot.delivered)
}

/// Positions decided and not handed over yet.
fn lag(snapshot: &Snapshot) -> u64 {
    snapshot.decided.0.saturating_sub(snapshot.delivered.0)
}

/// Slots that somebody has decided and this member has not.
fn slot_lag(snapshot: &Snapshot) -> u64 {
    snapshot.slot_known.0.saturating_sub(snapshot.slot_decided.0)
}

/// To a microsecond.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
