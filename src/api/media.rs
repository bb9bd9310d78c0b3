//! Media types: what a body says it is, and which of our answers a client accepts.

use warp::http::HeaderMap;
use warp::http::header::ACCEPT;

/// What the reading routes can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// One JSON document.
    Page,
    /// One event a line, without end.
    Lines,
    /// Server-sent events; not there yet.
    Events,
}

const OFFERS: [(Format, &str); 3] = [
    (Format::Page, "application/json"),
    (Format::Lines, "application/x-ndjson"),
    (Format::Events, "text/event-stream"),
];

/// How a body is shown in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Embedded as it is.
    Json,
    /// A JSON string, if it is UTF-8.
    Text,
    /// In base64.
    Bytes,
}

/// `type/subtype` in lower case, without parameters.
pub(super) fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// How a body with this content type is shown; none is `application/octet-stream`.
pub(super) fn body(content_type: Option<&str>) -> Body {
    let essence = content_type.map(essence).unwrap_or_default();
    if essence == "application/json" || essence == "text/json" || essence.ends_with("+json") {
        Body::Json
    } else if essence.starts_with("text/") {
        Body::Text
    } else {
        Body::Bytes
    }
}

/// The format a client likes best; of equals the first of [`OFFERS`]. None if it accepts nothing we know.
pub(super) fn negotiate(headers: &HeaderMap) -> Option<Format> {
    let values: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let ranges: Vec<Range> = values.iter().flat_map(|value| value.split(',')).filter_map(Range::read).collect();
    if values.iter().all(|value| value.trim().is_empty()) {
        return Some(Format::Page);
    }
    let mut best = None;
    for (format, offer) in OFFERS {
        let quality = quality(&ranges, offer);
        if quality > 0.0 && best.is_none_or(|(_, best)| quality > best) {
            best = Some((format, quality));
        }
    }
    best.map(|(format, _)| format)
}

/// What the most specific range says about an offer.
fn quality(ranges: &[Range], offer: &str) -> f32 {
    let fitting = ranges.iter().filter_map(|range| range.specificity(offer).map(|specificity| (specificity, range)));
    fitting.max_by_key(|(specificity, _)| *specificity).map_or(0.0, |(_, range)| range.quality)
}

struct Range {
    essence: String,
    quality: f32,
}

impl Range {
    fn read(text: &str) -> Option<Range> {
        let essence = essence(text);
        let quality = text.split(';').skip(1).find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse().unwrap_or(1.0_f32))
        });
        (!essence.is_empty()).then(|| Range { essence, quality: quality.unwrap_or(1.0).clamp(0.0, 1.0) })
    }

    fn specificity(&self, offer: &str) -> Option<u8> {
        if self.essence == offer {
            return Some(2);
        }
        let (kind, subkind) = self.essence.split_once('/')?;
        let same_kind = offer.split('/').next() == Some(kind);
        (subkind == "*" && (same_kind || kind == "*")).then_some(u8::from(same_kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_liked_format_is_chosen() {
        for (accept, expected) in [
            ("", Some(Format::Page)),
            ("*/*", Some(Format::Page)),
            ("application/*", Some(Format::Page)),
            ("application/json; charset=utf-8", Some(Format::Page)),
            ("application/x-ndjson", Some(Format::Lines)),
            ("Application/X-NDJSON;q=0.2, */*;q=0.1", Some(Format::Lines)),
            ("application/json;q=0.5,application/x-ndjson;q=0.9", Some(Format::Lines)),
            ("application/json;q=0,*/*", Some(Format::Lines)),
            ("text/event-stream", Some(Format::Events)),
            ("text/html, text/*;q=0.3", Some(Format::Events)),
            ("application/json;q=nonsense", Some(Format::Page)),
            ("image/png", None),
            ("*/*;q=0", None),
            ("gibberish", None),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
            assert_eq!(negotiate(&headers), expected, "{accept}");
        }
        assert_eq!(negotiate(&HeaderMap::new()), Some(Format::Page));
    }

    #[test]
    fn bodies_are_shown_as_what_they_say_they_are() {
        assert_eq!(body(None), Body::Bytes);
        assert_eq!(body(Some("application/json;charset=utf-8")), Body::Json);
        assert_eq!(body(Some("application/vnd.order+JSON")), Body::Json);
        assert_eq!(body(Some("text/plain")), Body::Text);
        assert_eq!(body(Some("image/png")), Body::Bytes);
    }
}
