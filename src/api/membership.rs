//! The routes that change who is a member and who votes. Each becomes a membership command in the order, or a wish to
//! leave; what it changes is seen in the stream, at one position for everybody.

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;
use warp::http::StatusCode;
use warp::http::header::{CACHE_CONTROL, HeaderValue};
use warp::reply::Response;

use crate::driver::Input;
use crate::types::join_code::secret_digest;
use crate::types::{Command, JoinCode, MemberSnapshot, Rejection, Snapshot, WallTime, limits, text};

use super::document::{document, duration};
use super::members;
use super::order::{self, no_outcome, stopping};
use super::outcome::{Commanded, Parted, Place, rejected, unknown};
use super::problem::Problem;
use super::request::Request;
use super::{Api, reply, status, stopped};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct InviteRequest {
    ttl: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaveRequest {
    timeout: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct VotersRequest {
    target: Option<u32>,
}

/// `POST /v1/invites`: `{"ttl": "1h"}` or nothing. A join code, once its invite is ordered: `{"code", "expires", "cluster",
/// "addresses", "position", "epoch", "hlc"}`. The secret is in this answer and nowhere else.
pub(super) async fn invite(api: &Api, mut request: Request) -> Result<Response, Box<Problem>> {
    let InviteRequest { ttl } = document(api, &mut request).await?;
    let ttl = ttl.map_or(Ok(limits::INVITE_TTL), |text| duration("ttl", &text))?;
    if ttl.is_zero() || ttl > limits::INVITE_TTL_MAX {
        let most = text::duration_text(limits::INVITE_TTL_MAX);
        let detail = format!("`ttl`: an invite holds for more than nothing and at most {most}");
        return Err(Problem::mistake("bad_ttl", detail, "send something like {\"ttl\": \"1h\"}"));
    }
    let snapshot = status::observed(api)?.snapshot;
    let addresses = members::doors(&snapshot, api.host.door_of);
    if addresses.is_empty() {
        let detail = "no member of the group has an address that somebody could join at";
        return Err(Problem::new(StatusCode::CONFLICT, "no_address", detail, "set mesh.listen of this member"));
    }
    let secret = (api.host.random)().map_err(|error| no_randomness(&error))?;
    let wall = (api.host.now)().wall;
    let expires = WallTime(wall.0.saturating_add(u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX)));
    let invite = Command::Invite { secret: secret_digest(&secret), expires };
    let place = placed(api, commanded(api, invite).await?)?;
    let code = JoinCode { cluster: snapshot.cluster, secret, expires, addresses };
    let mut document = place.document();
    document["code"] = json!(code.text());
    document["expires"] = json!(expires.to_string());
    document["cluster"] = json!(code.cluster);
    document["addresses"] = json!(code.addresses);
    let mut response = reply(StatusCode::OK, &document);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `POST /v1/leave`: `{"timeout": "30s"}` or nothing. 200 `{"left": true, …}` when this member may go; 202 with what it
/// waits for when the time is up first. The wish stays: the member goes on leaving.
pub(super) async fn leave(api: &Api, mut request: Request) -> Result<Response, Box<Problem>> {
    let LeaveRequest { timeout } = document(api, &mut request).await?;
    let timeout = timeout.map(|text| duration("timeout", &text)).transpose()?;
    let up = async {
        match timeout {
            Some(timeout) => sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let leave = |ticket, _| Input::Leave { ticket };
    let mut handed = order::hand_over::<Parted>(api, limits::INPUT_OVERHEAD_BYTES as u64, leave).await?;
    let mut stop = api.stop.clone();
    tokio::select! {
        biased;
        outcome = handed.awaiting.outcome() => match outcome {
            Ok(Parted::Left) => Ok(reply(StatusCode::OK, &leaving(api, true)?)),
            // Somebody wished it before, and waits for it: nothing is wrong.
            Ok(Parted::Rejected(Rejection::Membership { code: "already_leaving", .. })) => {
                Ok(reply(StatusCode::ACCEPTED, &leaving(api, false)?))
            }
            Ok(Parted::Rejected(rejection)) => Err(rejected(&rejection)),
            Err(reason) => Err(no_outcome(reason)),
        },
        () = up => Ok(reply(StatusCode::ACCEPTED, &leaving(api, false)?)),
        () = stopped(&mut stop) => Err(stopping().outcome_unknown()),
    }
}

/// `DELETE /v1/members/{id}`: an id, how it begins (8 digits or more), or a name.
pub(super) async fn remove(api: &Api, request: Request) -> Result<Response, Box<Problem>> {
    let snapshot = status::observed(api)?.snapshot;
    let member = named(&request, &snapshot)?;
    if member.id == snapshot.member {
        let detail =
            "this is the member that was asked: removed, it would lose what it accepted and is not ordered yet";
        return Err(Problem::new(StatusCode::CONFLICT, "use_leave", detail, "let it leave: POST /v1/leave"));
    }
    let mut document = match commanded(api, Command::RemoveIntent { member: member.id }).await? {
        // Somebody had it removed before: it is as it was asked for.
        Commanded::Rejected(Rejection::Membership { code: "already_leaving", .. }) => json!({"position": null}),
        outcome => placed(api, outcome)?.document(),
    };
    document["member"] = json!(member.id);
    document["name"] = json!(member.name);
    document["may_lose"] = json!(
        "messages that it accepted and that were not ordered before this are not ordered any more; they stay in its \
         data directory"
    );
    document["keeps_vote_until"] = json!(
        member.votes.then_some(
            "another member that is ready takes its vote, or fewer are to vote (PUT /v1/voters); if it runs, let it run until then"
        )
    );
    Ok(reply(StatusCode::OK, &document))
}

/// `PUT /v1/voters`: `{"target": 5}`. How many members are to vote: 3, 5 or 7.
pub(super) async fn voters(api: &Api, mut request: Request) -> Result<Response, Box<Problem>> {
    let VotersRequest { target } = document(api, &mut request).await?;
    let target = target.filter(|target| limits::VOTERS_TARGETS.contains(target)).ok_or_else(|| {
        let detail = "`target`: 3, 5 or 7 members vote, not another number";
        Problem::mistake("bad_target", detail, "send something like {\"target\": 5}")
    })?;
    let configure = Command::Configure { voters_target: Some(target), limits: None };
    let mut document = match commanded(api, configure).await? {
        // It is as it was asked for.
        Commanded::Rejected(Rejection::Membership { code: "already_so", .. }) => json!({"position": null}),
        outcome => placed(api, outcome)?.document(),
    };
    document["target"] = json!(target);
    Ok(reply(StatusCode::OK, &document))
}

/// Hands a command to the driver, and waits for what becomes of it.
async fn commanded(api: &Api, command: Command) -> Result<Commanded, Box<Problem>> {
    let input = |ticket, deadline| Input::Command { ticket, command, deadline };
    order::hand_over(api, limits::INPUT_OVERHEAD_BYTES as u64, input).await?.outcome(api).await
}

/// The place of a command that took effect.
fn placed(api: &Api, outcome: Commanded) -> Result<Place, Box<Problem>> {
    match outcome {
        Commanded::Ordered(place) => Ok(place),
        Commanded::WithoutEffect { reason } => {
            let advice = "see /v1/members for how the group stands now; somebody else may have been first";
            Err(Problem::new(StatusCode::CONFLICT, "without_effect", reason, advice).rejected())
        }
        Commanded::Rejected(rejection) => Err(with_missing(api, rejected(&rejection), &rejection)),
        Commanded::Unknown { id } => {
            let detail = "not known to be ordered when its time was up: the group may have no quorum just now";
            Err(missing(api, unknown(detail).with("id", id.to_string())))
        }
    }
}

/// Says who is missing where that is the reason.
fn with_missing(api: &Api, problem: Box<Problem>, rejection: &Rejection) -> Box<Problem> {
    match rejection {
        Rejection::TimedOut { .. } | Rejection::Membership { code: "no_quorum", .. } => missing(api, problem),
        _ => problem,
    }
}

fn missing(api: &Api, problem: Box<Problem>) -> Box<Problem> {
    match status::observed(api) {
        Ok(observation) => problem.with("quorum", status::quorum(&observation.snapshot)),
        Err(_) => problem,
    }
}

/// How far the leaving of this member is.
fn leaving(api: &Api, left: bool) -> Result<Value, Box<Problem>> {
    let snapshot = status::observed(api)?.snapshot;
    let waits_for = if left { Vec::new() } else { status::waits_for(&snapshot) };
    Ok(json!({"left": left, "member": snapshot.member, "waits_for": waits_for}))
}

/// The member that the path names.
fn named<'a>(request: &Request, snapshot: &'a Snapshot) -> Result<&'a MemberSnapshot, Box<Problem>> {
    let last = request.path.rsplit('/').next().unwrap_or_default();
    let name = percent_decode_str(last).decode_utf8().map_err(|_| {
        Problem::mistake("bad_path", "the member in the path is not UTF-8", "percent-encode its UTF-8 bytes")
    })?;
    members::find(snapshot, &name)
}

fn no_randomness(error: &std::io::Error) -> Box<Problem> {
    let detail = format!("the system gives no randomness for a secret: {error}");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "no_randomness", detail, "invite through another member")
}
