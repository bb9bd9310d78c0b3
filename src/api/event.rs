//! A message as hosts see it: a CloudEvents 1.0 event in JSON, on one line.

use std::io::Write;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::delivery::{Content, NotAsDelivered, Placed, PlacedEvent};
use crate::types::{Hlc, Position};

use super::{json, media, system_event};

/// Content type of what the group itself says.
const JSON: &str = "application/json";

const WRITABLE: &str = "memory is writable";

/// A batch, or an epoch's end, as lines of JSON, one event each. Encoded once, shared by every reader and format.
#[derive(Debug)]
pub(super) struct Encoded {
    first: Position,
    text: Bytes,
    lines: Vec<Line>,
    topics: Vec<String>,
    /// Whether its events are about the group itself. A batch carries messages of hosts or a membership command, never both.
    system: bool,
}

#[derive(Debug)]
struct Line {
    /// One past its line feed.
    end: usize,
    topic: usize,
}

/// Which events a reader wants. Those it does not want leave a gap in what is shown, never in the numbering.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Of one of these types; of any if there are none.
    pub(super) topics: Vec<String>,
    /// Also those about the group itself.
    pub(super) system: bool,
}

impl Wanted {
    /// Whether nothing is left out of a batch.
    pub(super) fn takes_all_of(&self, encoded: &Encoded) -> bool {
        self.topics.is_empty() && (self.system || !encoded.system)
    }
}

impl Encoded {
    /// Encodes all events of a batch, or of an epoch's end.
    pub(super) fn new(placed: &Placed) -> Result<Encoded, NotAsDelivered> {
        let events = placed.events()?;
        let first = &events.first().expect("what has no position is not delivered").content;
        let (origin, system) = (origin(first), !matches!(first, Content::Message { .. }));
        let mut text = Vec::with_capacity(placed.bytes().len() * 4 / 3 + events.len() * 512);
        let mut lines = Vec::with_capacity(events.len());
        let mut topics: Vec<String> = Vec::new();
        for event in &events {
            write_event(&mut text, event, &origin);
            text.push(b'\n');
            let name = topic(&event.content);
            let topic = topics.iter().position(|topic| topic == name).unwrap_or_else(|| {
                topics.push(name.to_owned());
                topics.len() - 1
            });
            lines.push(Line { end: text.len(), topic });
        }
        text.shrink_to_fit();
        Ok(Encoded { first: placed.first(), text: Bytes::from(text), lines, topics, system })
    }

    /// Position of its last event.
    pub(super) fn last(&self) -> Position {
        Position(self.first.0 + self.lines.len() as u64 - 1)
    }

    /// The lines, each with its line feed, after `after` that are wanted, in order.
    pub(super) fn lines_after(
        &self,
        after: Position,
        wanted: &Wanted,
    ) -> impl Iterator<Item = (Position, Range<usize>)> {
        let wants = |topic| wanted.topics.is_empty() || wanted.topics.contains(topic);
        let topics: Vec<bool> =
            self.topics.iter().map(|topic| (wanted.system || !self.system) && wants(topic)).collect();
        let skipped = usize::try_from((after.0 + 1).saturating_sub(self.first.0)).unwrap_or(usize::MAX);
        (skipped..self.lines.len()).filter(move |index| topics[self.lines[*index].topic]).map(|index| {
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

/// The type of an event.
fn topic(content: &Content) -> &str {
    match content {
        Content::Message { message, .. } => &message.topic,
        Content::Command { command, .. } => command.event(),
        Content::EpochEnd { .. } => system_event::EPOCH_BEGAN,
    }
}

/// Writes one event, without a line feed. `origin` is the text of [`origin`].
fn write_event(text: &mut Vec<u8>, event: &PlacedEvent, origin: &str) {
    let (lane, content_type) = match &event.content {
        Content::Message { id, message } => (Some(id), message.content_type.as_deref()),
        Content::Command { id, .. } => (Some(id), Some(JSON)),
        Content::EpochEnd { .. } => (None, Some(JSON)),
    };
    text.extend_from_slice(br#"{"specversion":"1.0","id":""#);
    match lane {
        Some(id) => write!(text, "{origin}/{}/{}", id.incarnation, id.number).expect(WRITABLE),
        None => write!(text, "epoch/{}", event.epoch.next()).expect(WRITABLE),
    }
    write!(text, r#"","source":"synod:{origin}","type":"#).expect(WRITABLE);
    write_string(text, topic(&event.content));
    write!(text, r#","time":"{}","datacontenttype":"#, event.hlc.split().0).expect(WRITABLE);
    write_string(text, content_type.unwrap_or("application/octet-stream"));
    let hlc = HlcText(event.hlc, origin);
    write!(text, r#","position":{},"epoch":{},"hlc":"{hlc}","#, event.position, event.epoch).expect(WRITABLE);
    if let Some(id) = lane {
        write!(text, r#""incarnation":{},"lanesequence":{},"#, id.incarnation, id.number).expect(WRITABLE);
    }
    match &event.content {
        Content::Message { message, .. } => write_data(text, content_type, &message.body),
        Content::Command { id, command } => write_document(text, &system_event::command(command, &id.member)),
        Content::EpochEnd { ended, next } => write_document(text, &system_event::epoch_began(ended, next)),
    }
    text.push(b'}');
}

/// Whose event it is: of the member that sealed it; an epoch's end is the group's, which the cluster id names.
fn origin(content: &Content) -> String {
    match content {
        Content::Message { id, .. } | Content::Command { id, .. } => id.member.to_string(),
        Content::EpochEnd { next, .. } => next.cluster.to_string(),
    }
}

fn write_document(text: &mut Vec<u8>, document: &serde_json::Value) {
    write!(text, r#""data":{document}"#).expect(WRITABLE);
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

/// [`Hlc::text`] with the origin's text at hand.
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
    use crate::types::{
        Command, Configuration, Digest, Epoch, Incarnation, MemberId, Message, MessageId, MessageKind, MessageNumber,
        Slot, WallTime,
    };

    const MEMBER: MemberId = MemberId([0xa7; 32]);

    fn reading() -> Hlc {
        Hlc::from(WallTime(1_795_163_467_123_456_789)).plus(2)
    }

    fn id() -> MessageId {
        MessageId { member: MEMBER, incarnation: Incarnation(2), number: MessageNumber(9) }
    }

    fn written(content: Content) -> Value {
        let origin = origin(&content);
        let event = PlacedEvent { position: Position(1042), epoch: Epoch(3), hlc: reading(), content };
        let mut text = Vec::new();
        write_event(&mut text, &event, &origin);
        assert!(!text.contains(&b'\n') && !text.contains(&b'\r'));
        serde_json::from_slice(&text).unwrap()
    }

    fn event(content_type: Option<&str>, body: &[u8]) -> Value {
        let message = Message {
            kind: MessageKind::Application,
            topic: "orders \"new\"\n".to_owned(),
            content_type: content_type.map(str::to_owned),
            body: Bytes::copy_from_slice(body),
        };
        written(Content::Message { id: id(), message })
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
            "hlc": reading().text(&MEMBER),
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

    #[test]
    fn a_command_is_an_event_of_the_member_that_ordered_it() {
        let member = MemberId([4; 32]);
        let command = Command::JoinIntent {
            member,
            name: "n4".to_owned(),
            addresses: vec!["/ip4/10.0.0.4/tcp/1".to_owned()],
            invite: Digest([9; 32]),
        };
        let expected = json!({
            "specversion": "1.0",
            "id": format!("{MEMBER}/2/9"),
            "source": format!("synod:{MEMBER}"),
            "type": "synod.member.joined",
            "time": "2026-11-20T08:31:07.123456789Z",
            "datacontenttype": "application/json",
            "position": 1042,
            "epoch": 3,
            "hlc": reading().text(&MEMBER),
            "incarnation": 2,
            "lanesequence": 9,
            "data": {
                "by": MEMBER, "member": member, "name": "n4", "addresses": ["/ip4/10.0.0.4/tcp/1"], "invite": "09090909",
            },
        });
        assert_eq!(written(Content::Command { id: id(), command }), expected);
        let ready = Command::Ready { slot: Slot(7), digest: Digest([1; 32]) };
        let ready = written(Content::Command { id: id(), command: ready });
        assert_eq!(ready["data"], json!({"by": MEMBER, "member": MEMBER, "slot": 7, "digest": "01".repeat(32)}));
    }

    #[test]
    fn an_epochs_end_is_an_event_of_the_group() {
        let voters = |numbers: &[u8]| numbers.iter().map(|number| MemberId([*number; 32])).collect::<Vec<_>>();
        let ended = Configuration { epoch: Epoch(3), ..configuration(voters(&[1, 2, 3])) };
        let next = Configuration { epoch: Epoch(4), ..configuration(voters(&[4, 1, 3])) };
        let event = written(Content::EpochEnd { ended: ended.into(), next: next.into() });
        let cluster = "c1".repeat(32);
        assert_eq!(
            event,
            json!({
                "specversion": "1.0",
                "id": "epoch/4",
                "source": format!("synod:{cluster}"),
                "type": "synod.epoch.began",
                "time": "2026-11-20T08:31:07.123456789Z",
                "datacontenttype": "application/json",
                "position": 1042,
                "epoch": 3,
                "hlc": reading().text(&MemberId([0xc1; 32])),
                "data": {
                    "epoch": 4,
                    "voters": voters(&[4, 1, 3]),
                    "voters_target": 3,
                    "joined": voters(&[4]),
                    "gone": voters(&[2]),
                },
            })
        );
    }

    fn configuration(voters: Vec<MemberId>) -> Configuration {
        Configuration {
            cluster: Digest([0xc1; 32]),
            epoch: Epoch(0),
            model: crate::types::FaultModelKind::Crash,
            rules_version: 0,
            voters,
            limits: crate::types::ClusterLimits::default(),
            voters_target: 3,
        }
    }
}
