//! The route table, and the way of every request through it.

use bytes::{Buf, Bytes};
use futures::{Stream, StreamExt};
use warp::Filter;
use warp::http::header::{ALLOW, AUTHORIZATION, HOST, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use warp::http::{HeaderMap, Method, StatusCode};
use warp::path::FullPath;
use warp::reply::{Reply, Response};

use super::problem::Problem;
use super::request::{Parameters, Request};
use super::{Api, drain, epochs, members, membership, publish, read, status};

/// One route.
pub(super) struct Route {
    pub(super) method: Method,
    /// Segments in braces stand for any one segment.
    pub(super) path: &'static str,
    /// Query parameters it takes.
    parameters: &'static [&'static str],
    /// Headers of ours (`Synod-…`) it takes, in lower case.
    headers: &'static [&'static str],
    pub(super) action: Action,
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Publish,
    Read,
    Status,
    Members,
    Epochs,
    Invite,
    Leave,
    Remove,
    Voters,
    Drain,
    Alive,
    Ready,
    Started,
    /// Part of the API, not there yet.
    NotBuilt,
}

const fn route(
    method: Method,
    path: &'static str,
    parameters: &'static [&'static str],
    headers: &'static [&'static str],
    action: Action,
) -> Route {
    Route { method, path, parameters, headers, action }
}

const fn not_built(method: Method, path: &'static str) -> Route {
    route(method, path, &[], &[], Action::NotBuilt)
}

const MESSAGES: &str = "/v1/messages";
const READ_PARAMETERS: &[&str] = &["after", "topic", "limit", "wait", "follow", "system", "cursor", "mode"];

/// Every route of the API.
pub(super) static ROUTES: [Route; 20] = [
    route(Method::POST, MESSAGES, &["topic"], &["synod-ack"], Action::Publish),
    route(Method::GET, MESSAGES, READ_PARAMETERS, &[], Action::Read),
    route(Method::GET, "/v1/status", &[], &[], Action::Status),
    route(Method::GET, "/v1/members", &[], &[], Action::Members),
    route(Method::GET, "/v1/epochs", &[], &[], Action::Epochs),
    route(Method::POST, "/v1/invites", &[], &[], Action::Invite),
    route(Method::POST, "/v1/leave", &[], &[], Action::Leave),
    route(Method::DELETE, "/v1/members/{id}", &[], &[], Action::Remove),
    route(Method::PUT, "/v1/voters", &[], &[], Action::Voters),
    route(Method::POST, "/v1/drain", &[], &[], Action::Drain),
    route(Method::GET, "/livez", &[], &[], Action::Alive),
    route(Method::GET, "/readyz", &[], &[], Action::Ready),
    route(Method::GET, "/startupz", &[], &[], Action::Started),
    not_built(Method::GET, "/v1/cursors"),
    not_built(Method::PUT, "/v1/cursors/{name}"),
    not_built(Method::DELETE, "/v1/cursors/{name}"),
    not_built(Method::GET, "/v1/stream"),
    not_built(Method::GET, "/metrics"),
    not_built(Method::GET, "/openapi.json"),
    not_built(Method::GET, "/"),
];

/// The one filter of a listener: takes the request apart and hands it to the table. `guarded` listeners ask for the
/// token, if there is one.
pub(super) fn filter(
    api: std::sync::Arc<Api>,
    guarded: bool,
) -> impl Filter<Extract = (Response,), Error = warp::Rejection> + Clone + Send + Sync + 'static {
    requests().then(move |request| {
        let api = api.clone();
        async move { answer(&api, request, guarded).await.unwrap_or_else(|problem| problem.into_response()) }
    })
}

/// Takes requests apart.
pub(super) fn requests() -> impl Filter<Extract = (Request,), Error = warp::Rejection> + Clone + Send + Sync + 'static {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::method().and(warp::path::full()).and(query).and(warp::header::headers_cloned()).and(warp::body::stream()).map(
        |method, path: FullPath, query, headers, body| Request {
            method,
            path: path.as_str().to_owned(),
            query,
            headers,
            body: pieces(body).boxed(),
        },
    )
}

/// A body's pieces as bytes. No copy: they already are.
fn pieces<B: Buf>(body: impl Stream<Item = Result<B, warp::Error>>) -> impl Stream<Item = Result<Bytes, warp::Error>> {
    body.map(|piece| piece.map(|mut piece| piece.copy_to_bytes(piece.remaining())))
}

async fn answer(api: &Api, request: Request, guarded: bool) -> Result<Response, Box<Problem>> {
    let changes = request.method != Method::GET;
    let answer = act(api, request, guarded).await;
    // What says nothing of an outcome was refused before the driver had it.
    if changes { answer.map_err(Problem::rejected_unless_said) } else { answer }
}

async fn act(api: &Api, request: Request, guarded: bool) -> Result<Response, Box<Problem>> {
    let route = admitted(&request, api.token.as_deref(), guarded)?;
    let parameters = Parameters::read(&request.query, route.parameters)?;
    refuse_unknown_headers(&request.headers, route.headers)?;
    match route.action {
        Action::Publish => publish::publish(api, request, parameters).await,
        Action::Read => read::read(api, request, parameters).await,
        Action::Status => status::status(api),
        Action::Members => members::members(api),
        Action::Epochs => epochs::epochs(api),
        Action::Invite => membership::invite(api, request).await,
        Action::Leave => membership::leave(api, request).await,
        Action::Remove => membership::remove(api, request).await,
        Action::Voters => membership::voters(api, request).await,
        Action::Drain => drain::drain(api, request).await,
        Action::Alive => status::alive(api),
        Action::Ready => status::ready(api),
        Action::Started => status::started(api),
        Action::NotBuilt => unreachable!("it is not admitted"),
    }
}

/// The route of a request that may be made; it is there, though perhaps not with such parameters.
pub(super) fn admitted(request: &Request, token: Option<&str>, guarded: bool) -> Result<&'static Route, Box<Problem>> {
    refuse_foreign_pages(&request.headers)?;
    match token {
        Some(token) if guarded => check_token(&request.headers, token)?,
        None if guarded => refuse_foreign_hosts(&request.headers)?,
        _ => {}
    }
    let route = find(&request.method, &request.path)?;
    match route.action {
        Action::NotBuilt => Err(Problem::not_built(&format!("`{} {}`", route.method, route.path))),
        _ => Ok(route),
    }
}

/// The route for a request; 404 for an unknown path, 405 with the methods of a known one.
fn find(method: &Method, path: &str) -> Result<&'static Route, Box<Problem>> {
    let here: Vec<&Route> = ROUTES.iter().filter(|route| fits(route.path, path)).collect();
    if here.is_empty() {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("there is no `{path}`"),
            "see the list of routes in the documentation; they have no trailing slash",
        ));
    }
    here.iter().find(|route| route.method == *method).copied().ok_or_else(|| {
        let allowed = here.iter().map(|route| route.method.as_str()).collect::<Vec<_>>().join(", ");
        let allow = HeaderValue::from_str(&allowed).expect("methods are visible ASCII");
        Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            format!("`{path}` does not take {method}"),
            format!("use {allowed}"),
        )
        .header(ALLOW, allow)
    })
}

fn fits(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    let fitting = pattern.split('/').all(|wanted| match segments.next() {
        Some(segment) => wanted == segment || (wanted.starts_with('{') && !segment.is_empty()),
        None => false,
    });
    fitting && segments.next().is_none()
}

/// A page of some web site can reach loopback through its visitor's browser; the browser says where it comes from. Only
/// a page that was served from this very address is let in.
fn refuse_foreign_pages(headers: &HeaderMap) -> Result<(), Box<Problem>> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let own = headers.get(HOST).and_then(|host| host.to_str().ok()).filter(|host| is_address(host));
    if own.is_some_and(|own| origin.as_bytes() == format!("http://{own}").as_bytes()) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "foreign_origin",
        "the header `Origin`: web pages of other origins may not use this API",
        "call it from a program instead of a page",
    ))
}

/// A page whose name a name server points to loopback is of this origin for its visitor's browser, which then says nothing
/// of an origin; but it says by which name it came. Whoever knows a token is no such page.
fn refuse_foreign_hosts(headers: &HeaderMap) -> Result<(), Box<Problem>> {
    match headers.get(HOST) {
        Some(host) if !host.to_str().is_ok_and(is_address) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "foreign_host",
            "the header `Host`: this API goes by no other name than an address or `localhost`",
            "call it by 127.0.0.1 or localhost",
        )),
        _ => Ok(()),
    }
}

/// A host that no name server can point elsewhere.
fn is_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost") || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
}

fn check_token(headers: &HeaderMap, token: &str) -> Result<(), Box<Problem>> {
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    // Digests are compared in constant time, so that the answer's timing tells nothing about the token.
    if given.is_some_and(|given| blake3::hash(given.trim().as_bytes()) == blake3::hash(token.as_bytes())) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "the header `Authorization` does not carry this sidecar's token",
        "send `Authorization: Bearer <token>`, with the token from the sidecar's token file",
    )
    .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
}

/// Headers of ours that nobody reads would be promises nobody keeps.
fn refuse_unknown_headers(headers: &HeaderMap, known: &[&str]) -> Result<(), Box<Problem>> {
    let ours =
        headers.keys().map(|name| name.as_str()).find(|name| name.starts_with("synod-") && !known.contains(name));
    match ours {
        None => Ok(()),
        Some(name) => Err(Problem::mistake(
            "unknown_header",
            format!("there is no header `{name}` here"),
            if known.is_empty() {
                "this route takes none of ours".to_owned()
            } else {
                format!("this route takes {}", known.join(", "))
            },
        )),
    }
}
