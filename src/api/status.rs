//! What this member says about itself and the others.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use warp::http::StatusCode;
use warp::reply::Response;

use crate::driver::LogFigures;
use crate::types::{MemberId, PeerSnapshot, Position, Readiness, Role, Snapshot};

use super::problem::Problem;
use super::{Api, MemberEntry, Observation, reply};

/// `GET /livez`: the process answers.
pub(super) fn alive() -> Response {
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
        .with("lag", lag(snapshot))
        .with("slot_lag", slot_lag(snapshot)))
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
    document_members.insert("peers".to_owned(), peers(api, snapshot));
    document_members.insert("links".to_owned(), (api.host.links)());
    Ok(reply(StatusCode::OK, &document))
}

/// `GET /v1/members`: the agreed membership, with what this member knows of each.
pub(super) fn members(api: &Api) -> Result<Response, Box<Problem>> {
    let snapshot = observed(api)?.snapshot;
    let members: Vec<Value> = api.host.members.iter().map(|entry| member(entry, &snapshot)).collect();
    Ok(reply(StatusCode::OK, &json!({"epoch": snapshot.round.epoch.0, "members": members})))
}

fn observed(api: &Api) -> Result<Observation, Box<Problem>> {
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
    let snapshot = &observation.snapshot;
    let mut reasons = match &snapshot.readiness {
        Readiness::Ready => Vec::new(),
        Readiness::NotReady(reasons) => reasons.clone(),
    };
    if !*api.host.started.borrow() {
        reasons.push("the start is not finished".to_owned());
    }
    if snapshot.draining || *api.stop.borrow() {
        reasons.push("this member is draining".to_owned());
    }
    let silence = (api.host.now)().since(observation.at);
    if silence >= api.driver_silence_max {
        reasons.push(format!("the driver has not turned for {} s: its disk may hang", silence.as_secs()));
    }
    reasons
}

fn standing(api: &Api, observation: &Observation) -> Value {
    let (snapshot, reasons) = (&observation.snapshot, reasons(api, observation));
    let delivered = api.source.head();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "cluster": snapshot.cluster,
        "name": name(api, &snapshot.member),
        "member": snapshot.member,
        "incarnation": snapshot.incarnation.0,
        "role": snapshot.role,
        "epoch": snapshot.round.epoch.0,
        "view": snapshot.round.view.0,
        "leader": snapshot.leader,
        "leader_name": name(api, &snapshot.leader),
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

fn peers(api: &Api, snapshot: &Snapshot) -> Value {
    snapshot
        .peers
        .iter()
        .map(|peer| {
            json!({
                "name": name(api, &peer.member),
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

fn member(entry: &MemberEntry, snapshot: &Snapshot) -> Value {
    let own = entry.id == snapshot.member;
    let peer = snapshot.peers.iter().find(|peer| peer.member == entry.id);
    let incarnation = if own { Some(snapshot.incarnation) } else { peer.and_then(|peer| peer.incarnation) };
    let slot_decided = if own { snapshot.slot_decided } else { peer.map(|peer| peer.slot_decided).unwrap_or_default() };
    json!({
        "name": entry.name,
        "member": entry.id,
        "self": own,
        "voter": true,
        "role": if entry.id == snapshot.leader { Role::Leader } else { Role::Follower },
        "incarnation": incarnation.map(|incarnation| incarnation.0),
        "linked": own || peer.is_some_and(|peer| peer.linked),
        "last_heard_ms": if own { Some(0.0) } else { last_heard(peer) },
        "slot_decided": slot_decided.0,
        "slot_lag": snapshot.slot_known.0.saturating_sub(slot_decided.0),
        "links": peer.map(|peer| peer.links.clone()).unwrap_or_default(),
        "addresses": entry.addresses,
    })
}

fn last_heard(peer: Option<&PeerSnapshot>) -> Option<f64> {
    peer.and_then(|peer| peer.silent).map(milliseconds)
}

fn name<'a>(api: &'a Api, member: &MemberId) -> Option<&'a str> {
    api.host.members.iter().find(|entry| entry.id == *member).map(|entry| entry.name.as_str())
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
