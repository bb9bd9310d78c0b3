//! A request, taken apart: what routes ask of its path, its parameters and its headers.

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;
use percent_encoding::percent_decode_str;
use warp::http::{HeaderMap, Method};

use super::problem::Problem;

/// A request's body as it arrives.
pub(super) type BodyStream = Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send>>;

/// One request.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: BodyStream,
}

/// Query parameters, decoded.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads a query; names that are not among `known` are refused.
    pub(super) fn read(query: &str, known: &[&str]) -> Result<Parameters, Box<Problem>> {
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name, name)?;
            if !known.contains(&name.as_str()) {
                return Err(Problem::mistake(
                    "unknown_parameter",
                    format!("there is no query parameter `{name}` here"),
                    if known.is_empty() {
                        "this route takes none".to_owned()
                    } else {
                        format!("this route takes {}", known.join(", "))
                    },
                ));
            }
            let value = decode(&name, value)?;
            pairs.push((name, value));
        }
        Ok(Parameters(pairs))
    }

    /// A parameter that may be given once.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Box<Problem>> {
        let mut values = self.all(name);
        let value = values.next();
        if values.next().is_some() {
            let detail = format!("the query parameter `{name}` is given more than once");
            return Err(Problem::mistake("repeated_parameter", detail, "give it once"));
        }
        Ok(value)
    }

    /// A parameter that may be repeated.
    pub(super) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }
}

fn decode(name: &str, text: &str) -> Result<String, Box<Problem>> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().map(|text| text.into_owned()).map_err(|_| {
        let detail = format!("the query parameter `{name}` is not UTF-8");
        Problem::mistake("bad_parameter", detail, "percent-encode its UTF-8 bytes")
    })
}

/// The refusal of a parameter that does not read.
pub(super) fn bad_parameter(name: &str, reason: impl std::fmt::Display, advice: impl Into<String>) -> Box<Problem> {
    Problem::mistake("bad_parameter", format!("the query parameter `{name}`: {reason}"), advice)
}

/// The text of a header that may be given once.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Box<Problem>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        let detail = format!("the header `{name}` is given more than once");
        return Err(Problem::mistake("repeated_header", detail, "give it once"));
    }
    let text = value.to_str().map_err(|_| bad_header(name, "not visible ASCII", "send plain text"))?;
    Ok(Some(text.trim()))
}

/// The refusal of a header that does not read.
pub(super) fn bad_header(name: &str, reason: impl std::fmt::Display, advice: impl Into<String>) -> Box<Problem> {
    Problem::mistake("bad_header", format!("the header `{name}`: {reason}"), advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let parameters =
            Parameters::read("topic=a%20b&topic=c+d&&after=%31&empty", &["topic", "after", "empty"]).unwrap();
        assert_eq!(parameters.all("topic").collect::<Vec<_>>(), ["a b", "c d"]);
        assert_eq!(parameters.one("after").unwrap(), Some("1"));
        assert_eq!(parameters.one("empty").unwrap(), Some(""));
        assert_eq!(parameters.one("limit").unwrap(), None);
        assert!(parameters.one("topic").is_err());
    }

    #[test]
    fn what_does_not_read_is_refused() {
        assert!(Parameters::read("tpoic=a", &["topic"]).is_err());
        assert!(Parameters::read("topic=%FF", &["topic"]).is_err());
        assert!(Parameters::read("%FF=a", &["topic"]).is_err());
    }
}
