//! A message as hosts see it: a CloudEvents 1.0 event in JSON, on one line.

use std::io::Write;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::delivery::{PlacedBatch, PlacedMessage};
use crate::types::batch::NotABatch;
use crate::types::{Hlc, Position};

use super::{json, media};

const WRITABLE: &str = "memory is writable";

/// A batch as lines of JSON, one event each. Encoded once, shared by every reader and format.
#[derive(Debug)]
pub(super) struct Encoded {
    first: Position,
    text: Bytes,
    lines: Vec<Line>,
    topics: Vec<String>,
}

#[derive(Debug)]
struct Line {
    /// One past its line feed.
    end: usize,
    topic: usize,
}

impl Encoded {
    /// Encodes all messages of a batch.
    pub(super) fn new(batch: &PlacedBatch) -> Result<Encoded, NotABatch> {
        let messages = batch.messages()?;
        let member = batch.origin().to_string();
        let mut text = Vec::with_capacity(batch.bytes().len() * 4 / 3 + messages.len() * 512);
        let mut lines = Vec::with_capacity(messages.len());
        let mut topics: Vec<String> = Vec::new();
        for placed in &messages {
            write_event(&mut text, placed, &member);
            text.push(b'\n');
            let topic = topics.iter().position(|topic| *topic == placed.message.topic).unwrap_or_else(|| {
                topics.push(placed.message.topic.clone());
                topics.len() - 1
            });
            lines.push(Line { end: text.len(), topic });
        }
        text.shrink_to_fit();
        Ok(Encoded { first: batch.first(), text: Bytes::from(text), lines, topics })
    }

    /// Position of its last event.
    pub(super) fn last(&self) -> Position {
        Position(self.first.0 + self.lines.len() as u64 - 1)
    }

    /// The lines, each with its line feed, after `after` and of one of `topics` (of any if there are none), in order.
    pub(super) fn lines_after(
        &self,
        after: Position,
        topics: &[String],
    ) -> impl Iterator<Item = (Position, Range<usize>)> {
        let wanted: Vec<bool> = self.topics.iter().map(|topic| topics.is_empty() || topics.contains(topic)).collect();
        let skipped = usize::try_from((after.0 + 1).saturating_sub(self.first.0)).unwrap_or(usize::MAX);
        (skipped..self.lines.len()).filter(move |index| wanted[self.lines[*index].topic]).map(|index| {
            let start = if index == 0 { 0 } else { self.lines[index - 1].end };
            (self.first.plus(index as u64), start..self.lines[index].end)
        })
    }

    /// All lines.
    pub(super) fn text(&self) -> &Bytes {
        &self.text
    }

    /// Memory it takes, about.
    pub(super) fn size(&self) -> usize {
        self.text.len() + self.lines.len() * size_of::<Line>() + 256
    }
}

/// Writes one event, without a line feed.
fn write_event(text: &mut Vec<u8>, placed: &PlacedMessage, member: &str) {
    let id = &placed.id;
    write!(
        text,
        r#"{{"specversion":"1.0","id":"{member}/{}/{}","source":"synod:{member}","type":"#,
        id.incarnation, id.number
    )
    .expect(WRITABLE);
    write_string(text, &placed.message.topic);
    let content_type = placed.message.content_type.as_deref();
    write!(text, r#","time":"{}","datacontenttype":"#, placed.hlc.split().0).expect(WRITABLE);
    write_string(text, content_type.unwrap_or("application/octet-stream"));
    write!(
        text,
        r#","position":{},"epoch":{},"hlc":"{}","incarnation":{},"lanesequence":{},"#,
        placed.position,
        placed.epoch,
        HlcText(placed.hlc, member),
        id.incarnation,
        id.number
    )
    .expect(WRITABLE);
    write_data(text, content_type, &placed.message.body);
    text.push(b'}');
}

/// Writes the body's bytes as `data`, or as `data_base64` when they are not what their type says.
fn write_data(text: &mut Vec<u8>, content_type: Option<&str>, body: &[u8]) {
    match media::body(content_type) {
        media::Body::Json if json::check(body).is_ok() => {
            text.extend_from_slice(br#""data":"#);
            // A raw line break can only stand between tokens; as it is it would end the line.
            text.extend(body.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
        }
        media::Body::Text if let Ok(string) = std::str::from_utf8(body) => {
            text.extend_from_slice(br#""data":"#);
            write_string(text, string);
        }
        _ => {
            text.extend_from_slice(br#""data_base64":""#);
            text.extend_from_slice(STANDARD.encode(body).as_bytes());
            text.push(b'"');
        }
    }
}

fn write_string(text: &mut Vec<u8>, string: &str) {
    serde_json::to_writer(text, string).expect(WRITABLE);
}

/// [`Hlc::text`] with the member's text at hand.
struct HlcText<'a>(Hlc, &'a str);

impl std::fmt::Display for HlcText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (time, counter) = self.0.split();
        write!(f, "{time}/{counter:04x}/{}", &self.1[..32])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::types::{Epoch, Incarnation, MemberId, Message, MessageId, MessageKind, MessageNumber, WallTime};

    fn event(content_type: Option<&str>, body: &[u8]) -> Value {
        let member = MemberId([0xa7; 32]);
        let placed = PlacedMessage {
            position: Position(1042),
            epoch: Epoch(3),
            hlc: Hlc::from(WallTime(1_795_163_467_123_456_789)).plus(2),
            id: MessageId { member, incarnation: Incarnation(2), number: MessageNumber(9) },
            message: Message {
                kind: MessageKind::Application,
                topic: "orders \"new\"\n".to_owned(),
                content_type: content_type.map(str::to_owned),
                body: Bytes::copy_from_slice(body),
            },
        };
        let mut text = Vec::new();
        write_event(&mut text, &placed, &member.to_string());
        assert!(!text.contains(&b'\n') && !text.contains(&b'\r'));
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn an_event_says_where_its_message_stands() {
        let member = "a7".repeat(32);
        let expected = json!({
            "specversion": "1.0",
            "id": format!("{member}/2/9"),
            "source": format!("synod:{member}"),
            "type": "orders \"new\"\n",
            "time": "2026-11-20T08:31:07.123456789Z",
            "datacontenttype": "application/json",
            "position": 1042,
            "epoch": 3,
            "hlc": Hlc::from(WallTime(1_795_163_467_123_456_789)).plus(2).text(&MemberId([0xa7; 32])),
            "incarnation": 2,
            "lanesequence": 9,
            "data": {"a": [1, 2]},
        });
        assert_eq!(event(Some("application/json"), b"{\r\n  \"a\": [1,\n2]\r\n}\n"), expected);
    }

    #[test]
    fn a_body_is_embedded_as_its_type_says() {
        let text = event(Some("text/plain; charset=utf-8"), "zwei\nZeilen ä".as_bytes());
        assert_eq!(text["data"], "zwei\nZeilen ä");
        let bytes = event(None, b"\x00\xff");
        assert_eq!(
            (&bytes["data_base64"], &bytes["datacontenttype"]),
            (&json!("AP8="), &json!("application/octet-stream"))
        );
        assert_eq!(bytes.get("data"), None);
        assert_eq!(event(Some("image/png"), b"")["data_base64"], "");
        assert_eq!(event(Some("application/vnd.a+json"), b" 1 ")["data"], 1);
    }

    #[test]
    fn a_body_that_is_not_what_its_type_says_is_shown_as_bytes() {
        assert_eq!(event(Some("text/plain"), b"\xff")["data_base64"], "/w==");
        assert_eq!(event(Some("application/json"), b"}, {")["data_base64"], "fSwgew==");
    }
}
