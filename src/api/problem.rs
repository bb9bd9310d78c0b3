//! Every refusal: an RFC 9457 document with a stable code, what became of the request, and what to do.

use serde_json::{Map, Value, json};
use warp::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use warp::http::{Response as HttpResponse, StatusCode};
use warp::reply::{Reply, Response};

/// Media type of a problem document.
pub(super) const PROBLEM_TYPE: &str = "application/problem+json";

/// What a refused request is answered with.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    advice: String,
    retryable: bool,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem that repeating the request unchanged does not solve. `detail` says what is wrong, `advice` what to do.
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<String>,
        advice: impl Into<String>,
    ) -> Box<Problem> {
        Box::new(Problem {
            status,
            code,
            detail: detail.into(),
            advice: advice.into(),
            retryable: false,
            members: Map::new(),
            headers: Vec::new(),
        })
    }

    /// The client's mistake: 400.
    pub(super) fn mistake(code: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Box<Problem> {
        Problem::new(StatusCode::BAD_REQUEST, code, detail, advice)
    }

    /// Asked for by name, and not there yet: 501.
    pub(super) fn not_built(what: &str) -> Box<Problem> {
        Problem::new(
            StatusCode::NOT_IMPLEMENTED,
            "not_implemented",
            format!("{what} is part of this API, but this version does not have it yet"),
            "leave it out, or use a version that has it",
        )
    }

    /// The same request may succeed later, here.
    pub(super) fn retryable(mut self: Box<Self>) -> Box<Problem> {
        self.retryable = true;
        self.header(RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// What was asked for is certainly not ordered, now or ever.
    pub(super) fn rejected(self: Box<Self>) -> Box<Problem> {
        self.with("outcome", "rejected")
    }

    /// The same, unless something else was said already.
    pub(super) fn rejected_unless_said(self: Box<Self>) -> Box<Problem> {
        if self.members.contains_key("outcome") { self } else { self.rejected() }
    }

    /// It is perhaps ordered.
    pub(super) fn outcome_unknown(self: Box<Self>) -> Box<Problem> {
        self.with("outcome", "outcome_unknown")
    }

    /// Adds a member to the document.
    pub(super) fn with(mut self: Box<Self>, name: &str, value: impl Into<Value>) -> Box<Problem> {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a header to the answer.
    pub(super) fn header(mut self: Box<Self>, name: HeaderName, value: HeaderValue) -> Box<Problem> {
        self.headers.push((name, value));
        self
    }
}

impl Reply for Box<Problem> {
    fn into_response(self) -> Response {
        let mut document = json!({
            "type": format!("urn:synod:problem:{}", self.code),
            "title": self.code.replace('_', " "),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
            "retryable": self.retryable,
            "advice": self.advice,
        });
        document.as_object_mut().expect("the document is an object").extend(self.members);
        let mut response = HttpResponse::new(document.to_string().into());
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        response.headers_mut().extend(self.headers.into_iter().map(|(name, value)| (Some(name), value)));
        response
    }
}
