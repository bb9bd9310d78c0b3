//! The API of a member to be: it has no group yet, and says what it waits for. Every route answers, so that whoever starts
//! it (a person, an orchestrator's probes) sees a process that lives and is not ready, and why.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::watch;
use warp::Filter;
use warp::http::{Method, StatusCode};
use warp::reply::{Reply, Response};

use super::problem::Problem;
use super::request::Request;
use super::routes::{self, Action};
use super::{ApiSettings, CannotServe, accept, reply, status};
use crate::types::limits;

/// What a member to be says of itself.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// What it is: `candidate`.
    pub role: &'static str,
    /// What it waits for, each for people.
    pub reasons: Vec<String>,
    /// What else the status shows.
    pub details: Map<String, Value>,
    /// For how long its disk has not answered, where that is longer than it should be.
    pub disk_silence: Option<Duration>,
}

/// Serves until `stop` is true (or its sender is gone).
pub async fn serve(
    settings: ApiSettings,
    waiting: watch::Receiver<Waiting>,
    stop: watch::Receiver<bool>,
) -> Result<(), CannotServe> {
    settings.check()?;
    let token: Option<Arc<str>> = settings.token.map(Into::into);
    let serving = |guarded| accept::Serving {
        filter: filter(waiting.clone(), token.clone(), guarded),
        connections_max: settings.connections_max,
        stall_max: settings.reader_stall_max,
        stalled: Arc::new(AtomicU64::new(0)),
        finish_max: limits::PUBLISH_ANSWER_MARGIN,
    };
    let tcp = async {
        if let Some(listener) = settings.tcp {
            serving(true).run(listener, stop.clone()).await;
        }
    };
    let unix = async {
        if let Some(listener) = settings.unix {
            serving(false).run(listener, stop.clone()).await;
        }
    };
    tokio::join!(tcp, unix);
    Ok(())
}

fn filter(
    waiting: watch::Receiver<Waiting>,
    token: Option<Arc<str>>,
    guarded: bool,
) -> impl Filter<Extract = (Response,), Error = warp::Rejection> + Clone + Send + Sync + 'static {
    routes::requests().map(move |request: Request| {
        let answer = answer(&waiting.borrow(), &request, token.as_deref(), guarded);
        let answer = if request.method == Method::GET { answer } else { answer.map_err(Problem::rejected_unless_said) };
        answer.unwrap_or_else(|problem| problem.into_response())
    })
}

fn answer(waiting: &Waiting, request: &Request, token: Option<&str>, guarded: bool) -> Result<Response, Box<Problem>> {
    let route = routes::admitted(request, token, guarded)?;
    let refused = |code, detail: String| {
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail, "wait, and see /v1/status")
            .retryable()
            .with("role", waiting.role)
            .with("reasons", waiting.reasons.clone()))
    };
    match route.action {
        Action::Alive => alive(waiting.disk_silence),
        Action::Status => Ok(reply(StatusCode::OK, &document(waiting))),
        Action::Ready => refused("not_ready", waiting.reasons.join("; ")),
        Action::Started => refused("starting", waiting.reasons.join("; ")),
        _ => refused("no_group", format!("this member has no group yet: {}", waiting.reasons.join("; "))),
    }
}

/// It lives, unless what it is to do next has waited for the disk for [`limits::DRIVER_STANDSTILL_MAX`].
fn alive(disk_silence: Option<Duration>) -> Result<Response, Box<Problem>> {
    match disk_silence.filter(|silence| *silence >= limits::DRIVER_STANDSTILL_MAX) {
        None => Ok(status::lives()),
        Some(silence) => Err(status::standstill(format!("the disk has not answered for {} s", silence.as_secs()))),
    }
}

fn document(waiting: &Waiting) -> Value {
    let mut document = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "role": waiting.role,
        "ready": false,
        "reasons": waiting.reasons,
    });
    document.as_object_mut().expect("the status is an object").extend(waiting.details.clone());
    document
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use warp::http::HeaderMap;

    use super::*;

    fn waiting() -> Waiting {
        Waiting {
            role: "candidate",
            reasons: vec!["1 of 3 candidates".to_owned()],
            details: Map::from_iter([("group".to_owned(), json!("shop"))]),
            disk_silence: None,
        }
    }

    fn asked(method: Method, path: &str, token: Option<&str>) -> Result<StatusCode, String> {
        asked_of(&waiting(), method, path, token)
    }

    fn asked_of(waiting: &Waiting, method: Method, path: &str, token: Option<&str>) -> Result<StatusCode, String> {
        let body = futures::stream::empty().boxed();
        let request = Request { method, path: path.to_owned(), query: String::new(), headers: HeaderMap::new(), body };
        answer(waiting, &request, token, true).map(|answer| answer.status()).map_err(|problem| format!("{problem:?}"))
    }

    #[test]
    fn it_lives_and_says_what_it_waits_for() {
        assert_eq!(asked(Method::GET, "/livez", None), Ok(StatusCode::OK));
        assert_eq!(asked(Method::GET, "/v1/status", None), Ok(StatusCode::OK));
        for (method, path, code) in [
            (Method::GET, "/readyz", "not_ready"),
            (Method::GET, "/startupz", "starting"),
            (Method::POST, "/v1/messages", "no_group"),
            (Method::GET, "/v1/members", "no_group"),
        ] {
            let told = asked(method, path, None).unwrap_err();
            assert!(told.contains(code) && told.contains("1 of 3 candidates"), "{path}: {told}");
        }
        assert!(asked(Method::GET, "/nowhere", None).unwrap_err().contains("not_found"));
        assert!(asked(Method::GET, "/v1/status", Some("secret")).unwrap_err().contains("unauthorized"));
    }

    #[test]
    fn whose_disk_has_not_answered_for_long_is_to_be_started_anew() {
        let hanging = |seconds| Waiting { disk_silence: Some(Duration::from_secs(seconds)), ..waiting() };
        assert_eq!(asked_of(&hanging(29), Method::GET, "/livez", None), Ok(StatusCode::OK));
        let told = asked_of(&hanging(30), Method::GET, "/livez", None).unwrap_err();
        assert!(told.contains("standstill") && told.contains("has not answered for 30 s"), "{told}");
    }
}
