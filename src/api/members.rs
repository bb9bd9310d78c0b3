//! `GET /v1/members`: who is a member by the order, with what this member knows of each just now.

use serde_json::{Map, Value, json};
use warp::http::StatusCode;
use warp::reply::Response;

use crate::types::ids::{SHORT_DIGITS, named};
use crate::types::{MemberId, MemberSnapshot, PeerSnapshot, Snapshot, limits};

use super::problem::Problem;
use super::{Api, reply, status};

/// The agreed membership, liveness, and who has a link to whom:
///
/// ```text
/// cluster              the group
/// epoch, established   the present epoch, the newest one known to be established
/// leader, quorum       who orders just now; how many voters decide
/// voters_target        how many are to vote from the next epoch on
/// invites              join codes that nobody has used
/// waits_for            what a leave or a due change of the voters waits for
/// members              each: id, name, self, role (voter, learner), leader, incarnation, since_epoch, joined (position),
///                      ready (votes, or may), leaving (left, removed, null), suspected_by, addresses, linked,
///                      last_seen (seconds, null), slot_decided, slot_lag
/// former               each: id, standing (left, removed)
/// reachability         by member that reports: those that it has a link to
/// ```
pub(super) fn members(api: &Api) -> Result<Response, Box<Problem>> {
    let snapshot = status::observed(api)?.snapshot;
    let membership = &snapshot.membership;
    let former = membership.former.iter().map(|(id, standing)| json!({"id": id, "standing": standing}));
    let document = json!({
        "cluster": snapshot.cluster,
        "epoch": membership.configuration.epoch.0,
        "established": membership.established.0,
        "leader": snapshot.leader,
        "quorum": membership.configuration.quorum(),
        "voters_target": membership.voters_target,
        "invites": membership.invites,
        "waits_for": status::waits_for(&snapshot),
        "members": membership.members.iter().map(|member| row(member, &snapshot)).collect::<Vec<_>>(),
        "former": former.collect::<Vec<_>>(),
        "reachability": reachability(&snapshot),
    });
    Ok(reply(StatusCode::OK, &document))
}

fn row(member: &MemberSnapshot, snapshot: &Snapshot) -> Value {
    let own = member.id == snapshot.member;
    let peer = snapshot.peers.iter().find(|peer| peer.member == member.id);
    // The order learns of an incarnation with its first batch; the mesh may know a later one.
    let heard = if own { Some(snapshot.incarnation) } else { peer.and_then(|peer| peer.incarnation) };
    // Nothing is known of one that was never heard: learners have no links to each other.
    let said = peer.filter(|peer| peer.silent.is_some()).map(|peer| peer.slot_decided);
    let slot_decided = if own { Some(snapshot.slot_decided) } else { said };
    json!({
        "id": member.id,
        "name": member.name,
        "self": own,
        "role": if member.votes { "voter" } else { "learner" },
        "leader": member.id == snapshot.leader,
        "incarnation": heard.max(Some(member.incarnation)).map(|incarnation| incarnation.0),
        "since_epoch": member.since.0,
        "joined": member.joined.0,
        "ready": member.votes || member.ready,
        "leaving": member.leaving,
        "suspected_by": member.suspected_by,
        "addresses": member.addresses,
        "linked": own || peer.is_some_and(|peer| peer.linked),
        "last_seen": if own { Some(0.0) } else { last_seen(peer) },
        "slot_decided": slot_decided.map(|slot| slot.0),
        "slot_lag": slot_decided.map(|slot| snapshot.slot_known.0.saturating_sub(slot.0)),
    })
}

/// Seconds since its last word, to a millisecond; none if it was never heard.
fn last_seen(peer: Option<&PeerSnapshot>) -> Option<f64> {
    let silent = peer?.silent?;
    Some(silent.as_millis() as f64 / 1000.0)
}

/// The report of each member that there is a link to, and one's own: a report that came over a link that is gone says
/// nothing about now.
fn reachability(snapshot: &Snapshot) -> Value {
    let linked = || snapshot.peers.iter().filter(|peer| peer.linked);
    let own: Vec<MemberId> = linked().map(|peer| peer.member).collect();
    let mut matrix = Map::from_iter([(snapshot.member.to_string(), json!(own))]);
    let reporting = linked().filter(|peer| peer.round.is_some());
    matrix.extend(reporting.map(|peer| (peer.member.to_string(), json!(peer.links))));
    Value::Object(matrix)
}

/// The member with this id, this name, or the one whose id begins like that.
pub(super) fn find<'a>(snapshot: &'a Snapshot, text: &str) -> Result<&'a MemberSnapshot, Box<Problem>> {
    let members = &snapshot.membership.members;
    let fitting = named(members, text, |member| member.id.to_string(), |member| Some(&member.name));
    match fitting.as_slice() {
        [member] => Ok(member),
        [] => Err(not_found(snapshot, text)),
        several => {
            let detail = format!("`{text}` names {} members", several.len());
            let candidates: Vec<MemberId> = several.iter().map(|member| member.id).collect();
            Err(Problem::mistake("ambiguous_member", detail, "write the whole id")
                .with("candidates", json!(candidates)))
        }
    }
}

fn not_found(snapshot: &Snapshot, text: &str) -> Box<Problem> {
    if let Some((id, standing)) = named(&snapshot.membership.former, text, |(id, _)| id.to_string(), |_| None).first() {
        let detail = format!("{id} is no member any more");
        let advice = "nothing is left to do: an identity never comes back";
        return Problem::new(StatusCode::GONE, "former_member", detail, advice).with("standing", json!(standing));
    }
    let detail = format!("the group has no member `{text}`");
    let advice =
        format!("write a name, an id, or how an id begins ({SHORT_DIGITS} digits or more); /v1/members lists them");
    Problem::new(StatusCode::NOT_FOUND, "unknown_member", detail, advice)
}

/// Where a newcomer may knock: the first address of each member, this one and those it has a link to before the others; the
/// second ones if that leaves room. `door_of` puts the member's key behind an address.
pub(super) fn doors(snapshot: &Snapshot, door_of: impl Fn(&MemberId, &str) -> Option<String>) -> Vec<String> {
    let linked = |id: &MemberId| snapshot.peers.iter().any(|peer| peer.member == *id && peer.linked);
    let mut members: Vec<&MemberSnapshot> =
        snapshot.membership.members.iter().filter(|member| member.leaving.is_none()).collect();
    members.sort_by_key(|member| (member.id != snapshot.member, !linked(&member.id), !member.votes));
    let nth_of = |nth: usize| members.iter().filter_map(move |one| Some((one, one.addresses.get(nth)?)));
    let doors = (0..limits::ADDRESSES_MAX).flat_map(nth_of);
    doors.filter_map(|(member, address)| door_of(&member.id, address)).take(limits::JOIN_CODE_ADDRESSES).collect()
}
