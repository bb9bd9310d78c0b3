//! The other side: a small HTTP client for a sidecar, over TCP or its Unix socket. The command line and the tests use
//! it. It repeats nothing whose outcome it does not know.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::{Either, select};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

use crate::types::Ack;

/// Where a sidecar listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `host:port`.
    Tcp(String),
    /// The path of its socket.
    Unix(PathBuf),
}

/// Text that names no sidecar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no sidecar: write `http://127.0.0.1:7171`, `127.0.0.1:7171`, or the path of its socket")]
pub struct NotATarget(pub String);

/// A client of one sidecar. Clones share its connections; each request at one time has its own.
#[derive(Clone)]
pub struct Client {
    target: Arc<Target>,
    token: Option<Arc<str>>,
    idle: Arc<Mutex<Vec<Sender>>>,
}

/// One connection, from the side of its requests.
struct Sender {
    requests: SendRequest<Full<Bytes>>,
    /// Closed when the connection has ended.
    ended: watch::Receiver<()>,
}

type Sent = Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>>;

impl Sender {
    /// The answer. None if the connection ended without one: a request that is handed over in the moment in which its
    /// connection ends may get not even an error. Whatever a connection has to say it has said when it ends.
    async fn answer(&mut self, request: Request<Full<Bytes>>) -> Option<Sent> {
        let answer = pin!(self.requests.try_send_request(request));
        match select(answer, pin!(self.ended.changed())).await {
            Either::Left((answer, _)) => Some(answer),
            Either::Right((_, answer)) => answer.now_or_never(),
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// What a publisher gets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "ack", rename_all = "snake_case")]
pub enum Receipt {
    /// Ordered on a quorum's disks.
    Ordered {
        /// Its position.
        position: u64,
        /// The epoch it was decided in.
        epoch: u64,
        /// Its clock reading.
        hlc: String,
        /// Whether it repeats an earlier message.
        duplicate: bool,
    },
    /// Durable at this member, and going to be ordered.
    Accepted {
        /// Its identity.
        id: String,
    },
}

/// Why a request did not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there. Nothing was sent.
    #[error("no sidecar answers at {target}: {error}")]
    Unreachable {
        /// Where.
        target: Target,
        /// Why.
        error: io::Error,
    },
    /// The connection broke. What was sent may have had its effect: a message is perhaps ordered.
    #[error("the connection to {target} broke: {reason}")]
    Broken {
        /// Where.
        target: Target,
        /// How.
        reason: String,
    },
    /// The sidecar says no, and why.
    #[error("{0}")]
    Refused(Box<ProblemDocument>),
    /// Something answers that is not a sidecar, or another version of one.
    #[error("{target} answers something else: {what}")]
    Unexpected {
        /// Where.
        target: Target,
        /// What.
        what: String,
    },
}

impl ClientError {
    /// Whether a message whose publish ended like this is certainly not ordered; otherwise it perhaps is.
    pub fn is_rejected(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } => true,
            ClientError::Refused(problem) => problem.outcome.as_deref() == Some("rejected"),
            ClientError::Broken { .. } | ClientError::Unexpected { .. } => false,
        }
    }
}

/// An RFC 9457 document.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ProblemDocument {
    /// The HTTP status.
    pub status: u16,
    /// The stable name of the problem.
    pub code: String,
    /// What is wrong.
    pub detail: String,
    /// What to do.
    pub advice: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// `rejected` or `outcome_unknown`, where something was to be ordered.
    pub outcome: Option<String>,
    /// Everything else it says.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

/// Lines as they arrive.
pub struct Lines {
    target: Arc<Target>,
    body: Incoming,
    buffer: BytesMut,
    searched: usize,
}

impl Client {
    /// A client that connects when it is first used.
    pub fn new(target: Target) -> Client {
        Client { target: Arc::new(target), token: None, idle: Arc::default() }
    }

    /// The same, with a token.
    pub fn with_token(mut self, token: &str) -> Client {
        self.token = Some(token.into());
        self
    }

    /// Where it goes.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Asks for something, such as `/v1/messages?after=7`. Anything but success is an error.
    pub async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.successful(self.send(Method::GET, path, &[], Bytes::new()).await?)
    }

    /// Sends something. Anything but success is an error.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Result<Answer, ClientError> {
        self.successful(self.send(Method::POST, path, headers, body).await?)
    }

    /// Publishes one message.
    pub async fn publish(
        &self,
        topic: &str,
        content_type: Option<&str>,
        ack: Ack,
        body: Bytes,
    ) -> Result<Receipt, ClientError> {
        let path = format!("/v1/messages?topic={}", query_text(topic));
        let ack = match ack {
            Ack::Ordered => "ordered",
            Ack::Accepted => "accepted",
        };
        let mut headers = vec![("synod-ack", ack)];
        headers.extend(content_type.map(|content_type| (CONTENT_TYPE.as_str(), content_type)));
        self.json(&self.post(&path, &headers, body).await?)
    }

    /// Asks for a JSON document and reads it.
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(&self.get(path).await?)
    }

    /// Asks for a change, and reads the JSON document that answers it.
    pub async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        document: &serde_json::Value,
    ) -> Result<T, ClientError> {
        let headers = [(CONTENT_TYPE.as_str(), "application/json")];
        let answer = self.send(method, path, &headers, Bytes::from(document.to_string())).await?;
        self.json(&self.successful(answer)?)
    }

    /// Asks for endless lines, such as `/v1/messages?after=7`.
    pub async fn lines(&self, path: &str) -> Result<Lines, ClientError> {
        let request = self.request(Method::GET, path, &[(ACCEPT.as_str(), "application/x-ndjson")], Bytes::new())?;
        let (response, _) = self.exchange(request).await?;
        if !response.status().is_success() {
            let answer = self.whole(response).await?;
            return Err(self.refusal(&answer));
        }
        // The connection serves these lines alone and ends with them.
        Ok(Lines { target: self.target.clone(), body: response.into_body(), buffer: BytesMut::new(), searched: 0 })
    }

    /// Sends any request and gives back any answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let request = self.request(method, path, headers, body)?;
        let (response, sender) = self.exchange(request).await?;
        let answer = self.whole(response).await?;
        self.idle.lock().expect(UNPOISONED).push(sender);
        Ok(answer)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.target.host());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
            .body(Full::new(body))
            .map_err(|error| self.unexpected(format!("the request cannot be written: {error}")))
    }

    /// Sends a request over a connection that is idle or new, and gives both back.
    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<(Response<Incoming>, Sender), ClientError> {
        loop {
            let idle = self.idle.lock().expect(UNPOISONED).pop();
            let fresh = idle.is_none();
            let mut sender = match idle {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            if sender.requests.ready().await.is_err() && !fresh {
                continue;
            }
            match sender.answer(request).await {
                Some(Ok(response)) => return Ok((response, sender)),
                Some(Err(mut error)) => match error.take_message() {
                    // It never left: the idle connection had been closed meanwhile.
                    Some(unsent) if !fresh => request = unsent,
                    _ => return Err(self.broken(error.into_error())),
                },
                None => return Err(self.ended_early()),
            }
        }
    }

    async fn connect(&self) -> Result<Sender, ClientError> {
        let unreachable = |error| ClientError::Unreachable { target: (*self.target).clone(), error };
        match &*self.target {
            Target::Tcp(address) => {
                let socket = TcpStream::connect(address).await.map_err(unreachable)?;
                socket.set_nodelay(true).map_err(unreachable)?;
                self.handshake(socket).await
            }
            Target::Unix(path) => self.handshake(UnixStream::connect(path).await.map_err(unreachable)?).await,
        }
    }

    async fn handshake<S>(&self, socket: S) -> Result<Sender, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(|error| self.broken(error))?;
        // It ends with the last sender and the last body; its errors reach whoever waits for an answer.
        let (alive, ended) = watch::channel(());
        tokio::spawn(async move {
            let _ = connection.await;
            drop(alive);
        });
        Ok(Sender { requests: sender, ended })
    }

    async fn whole(&self, response: Response<Incoming>) -> Result<Answer, ClientError> {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| self.broken(error))?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    fn successful(&self, answer: Answer) -> Result<Answer, ClientError> {
        if answer.status.is_success() { Ok(answer) } else { Err(self.refusal(&answer)) }
    }

    fn refusal(&self, answer: &Answer) -> ClientError {
        match serde_json::from_slice(&answer.body) {
            Ok(problem) => ClientError::Refused(Box::new(problem)),
            Err(_) => self.unexpected(format!("status {} without a problem document", answer.status)),
        }
    }

    fn json<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, ClientError> {
        serde_json::from_slice(&answer.body).map_err(|error| self.unexpected(error.to_string()))
    }

    fn broken(&self, error: hyper::Error) -> ClientError {
        ClientError::Broken { target: (*self.target).clone(), reason: cause(&error) }
    }

    fn ended_early(&self) -> ClientError {
        ClientError::Broken {
            target: (*self.target).clone(),
            reason: "the connection ended before the answer".to_owned(),
        }
    }

    fn unexpected(&self, what: String) -> ClientError {
        ClientError::Unexpected { target: (*self.target).clone(), what }
    }
}

impl Lines {
    /// The next line, without its line feed. None when the sidecar ended them in order.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            if let Some(length) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let mut line = self.buffer.split_to(self.searched + length + 1);
                self.searched = 0;
                line.truncate(line.len() - 1);
                return Ok(Some(line.freeze()));
            }
            self.searched = self.buffer.len();
            match self.body.frame().await {
                Some(Ok(frame)) => self.buffer.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
                Some(Err(error)) => return Err(self.broken(cause(&error))),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(self.broken("it ended within a line".to_owned())),
            }
        }
    }

    fn broken(&self, reason: String) -> ClientError {
        ClientError::Broken { target: (*self.target).clone(), reason }
    }
}

impl Target {
    /// What the `Host` header says. A socket has no name of its own.
    fn host(&self) -> &str {
        match self {
            Target::Tcp(address) => address,
            Target::Unix(_) => "localhost",
        }
    }
}

impl FromStr for Target {
    type Err = NotATarget;

    fn from_str(text: &str) -> Result<Target, NotATarget> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Target::Unix(PathBuf::from(path.strip_prefix("//").unwrap_or(path))));
        }
        let address = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/')).unwrap_or(text);
        match address.rsplit_once(':') {
            Some((name, port)) if !name.is_empty() && !name.contains('/') && port.parse::<u16>().is_ok() => {
                Ok(Target::Tcp(address.to_owned()))
            }
            _ if text.contains('/') && !text.contains("://") => Ok(Target::Unix(PathBuf::from(text))),
            _ => Err(NotATarget(text.to_owned())),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address) => write!(f, "http://{address}"),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for ProblemDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.detail, self.status, self.code)?;
        match self.outcome.as_deref() {
            Some("rejected") => write!(f, "\n  what became of it: certainly not ordered")?,
            Some("outcome_unknown") => write!(f, "\n  what became of it: perhaps ordered")?,
            Some(other) => write!(f, "\n  what became of it: {other}")?,
            None => {}
        }
        write!(f, "\n  what to do: {}", self.advice)
    }
}

/// Text as it stands in a query.
pub fn query_text(text: &str) -> impl fmt::Display {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

const UNPOISONED: &str = "nobody panics while holding the idle connections";

/// The innermost reason, which is the one that says something.
fn cause(error: &hyper::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read() {
        for text in ["http://127.0.0.1:7171", "http://127.0.0.1:7171/", "127.0.0.1:7171"] {
            assert_eq!(text.parse(), Ok(Target::Tcp("127.0.0.1:7171".to_owned())), "{text}");
        }
        assert_eq!("http://[::1]:7171".parse(), Ok(Target::Tcp("[::1]:7171".to_owned())));
        for text in ["unix:/run/synod.sock", "unix:///run/synod.sock", "/run/synod.sock"] {
            assert_eq!(text.parse(), Ok(Target::Unix(PathBuf::from("/run/synod.sock"))), "{text}");
        }
        for text in ["", "localhost", "https://localhost:1", "http://localhost", "http://a/b:1", "localhost:99999"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_problem_prints_what_became_of_the_request_and_what_to_do() {
        let problem: ProblemDocument = serde_json::from_str(
            r#"{"type":"t","title":"t","status":503,"detail":"no quorum","code":"publish_timeout","retryable":true,
               "advice":"repeat it","outcome":"rejected"}"#,
        )
        .unwrap();
        let text = problem.to_string();
        assert_eq!(
            text,
            "no quorum (503 publish_timeout)\n  what became of it: certainly not ordered\n  what to do: repeat it"
        );
    }

    #[tokio::test]
    async fn nobody_there_is_said() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = Client::new(Target::Tcp(address)).get("/livez").await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    }
}
