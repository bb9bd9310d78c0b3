//! What members delivered, compared with each other and with what publishers know.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::Value;
use synod::api::client::Client;

use super::group::Group;
use super::load::{Fate, Published, publish_last};
use super::wait::until;

/// One delivered message as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Event {
    pub position: u64,
    pub hlc: String,
    pub epoch: u64,
    pub id: String,
    pub source: String,
    /// The topic, or what happened to the group.
    #[serde(rename = "type")]
    pub kind: String,
    /// Not of an epoch's end, which stands in no lane.
    pub incarnation: Option<u64>,
    pub lanesequence: Option<u64>,
    pub time: String,
    /// The body: text of publishers, a document of the group itself.
    pub data: Option<Value>,
}

impl Event {
    /// The body of a message that carries text.
    pub fn body(&self) -> &str {
        self.data.as_ref().and_then(Value::as_str).unwrap_or_else(|| panic!("a body that is no text: {self:?}"))
    }

    /// Whether it is about the group itself; nobody published it.
    pub fn is_system(&self) -> bool {
        self.kind.starts_with("synod.")
    }
}

#[derive(Deserialize)]
struct Page {
    messages: Vec<Event>,
    next: u64,
}

/// Reads every page from the beginning to a position.
pub async fn read(client: &Client, upto: u64) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut next = 0;
    while next < upto {
        let page: Page = client.get_json(&format!("/v1/messages?after={next}&limit=1000")).await.unwrap();
        assert!(page.next > next, "delivered up to {upto}, but a page after {next} is empty");
        next = page.next;
        events.extend(page.messages);
    }
    events.retain(|event| event.position <= upto);
    events
}

/// Publishes a last message through each of `publish_at`, waits until all of `read_at` have delivered everything up to
/// there, reads them completely, and compares. Gives back the one sequence.
pub async fn agree(group: &Group, members: &[usize], published: &mut Published) -> Vec<Event> {
    agree_without(group, members, &[], published).await
}

/// The same, where others have left in order before: everything that they accepted is there, too.
pub async fn agree_without(group: &Group, members: &[usize], left: &[usize], published: &mut Published) -> Vec<Event> {
    let last = publish_last(group, members).await;
    let upto = last.iter().map(|sent| match &sent.fate {
        Fate::Ordered { position, .. } => *position,
        fate => unreachable!("checked when it was published: {fate:?}"),
    });
    let upto = upto.max().expect("there is a member");
    published.extend(last);
    let mut sequences: Vec<Vec<Event>> = Vec::new();
    for index in members {
        let member = &group.members[*index];
        until(&format!("{} has delivered {upto}", member.name), async || {
            member.try_status().await?["delivered"].as_u64().filter(|delivered| *delivered >= upto)
        })
        .await;
        sequences.push(read(&member.unix(), upto).await);
    }
    for (index, sequence) in members.iter().zip(&sequences) {
        same(&group.members[*index].name, sequence, &sequences[0]);
    }
    let sequence = sequences.swap_remove(0);
    as_promised(&sequence, published, &[members, left].concat());
    sequence
}

/// Two sequences are one.
pub fn same(name: &str, sequence: &[Event], other: &[Event]) {
    if let Some((left, right)) = sequence.iter().zip(other).find(|(left, right)| left != right) {
        panic!("{name} delivered {left:?} where another member delivered {right:?}");
    }
    assert_eq!(sequence.len(), other.len(), "{name} delivered another number of messages");
}

/// What was delivered earlier is the beginning of what is delivered now: positions, clocks, everything.
pub fn continues(now: &[Event], earlier: &[Event]) {
    assert!(now.len() >= earlier.len(), "{} messages now, {} earlier", now.len(), earlier.len());
    same("a member now", &now[..earlier.len()], earlier);
}

/// One sequence against all that is promised of it. What a member accepted that is not among `members` may be ordered later.
fn as_promised(sequence: &[Event], published: &Published, members: &[usize]) {
    let sent = published.by_body();
    let mut bodies: HashMap<&str, &Event> = HashMap::new();
    let mut ids = HashSet::new();
    let mut lanes: HashMap<&str, (u64, u64)> = HashMap::new();
    let mut publishers: HashMap<&str, u64> = HashMap::new();
    let mut last_hlc = "";
    for (index, event) in sequence.iter().enumerate() {
        assert_eq!(event.position, index as u64 + 1, "positions are dense");
        assert!(event.hlc.as_str() > last_hlc, "the clock rises strictly: {last_hlc}, then {event:?}");
        last_hlc = &event.hlc;
        assert!(ids.insert(&event.id), "delivered twice: {event:?}");
        // Source order: of a member across its starts.
        if let (Some(incarnation), Some(sequence)) = (event.incarnation, event.lanesequence) {
            let before = lanes.insert(&event.source, (incarnation, sequence));
            assert!(before.is_none_or(|before| before < (incarnation, sequence)), "{before:?} before {event:?}");
        }
        if event.is_system() {
            continue;
        }
        let body = event.body();
        if let Some(earlier) = bodies.insert(body, event) {
            panic!("delivered twice: {earlier:?} and {event:?}");
        }
        let message = sent.get(body).unwrap_or_else(|| panic!("never published: {event:?}"));
        assert!(!matches!(message.fate, Fate::Rejected { .. }), "rejected, and yet delivered: {message:?}, {event:?}");
        // And of a publisher that used one member.
        let (publisher, number) = body.split_once('/').expect("bodies are `publisher/number`");
        let number = number.split(' ').next().and_then(|number| number.parse().ok());
        let number: u64 = number.expect("bodies are `publisher/number`, perhaps with something behind");
        let before = publishers.insert(publisher, number);
        assert!(before.is_none_or(|before| before < number), "publisher's order: {before:?} before {event:?}");
    }
    for message in published.iter() {
        let event = bodies.get(message.body.as_str());
        match &message.fate {
            Fate::Ordered { position, hlc } => {
                let event = event.unwrap_or_else(|| panic!("acknowledged and lost: {message:?}"));
                assert_eq!((&event.position, &event.hlc), (position, hlc), "acknowledged elsewhere: {message:?}");
            }
            Fate::Accepted { .. } if event.is_none() && !members.contains(&message.member) => {}
            Fate::Accepted { id } => {
                let event = event.unwrap_or_else(|| panic!("accepted and lost: {message:?}"));
                assert_eq!(&event.id, id, "accepted under another name: {message:?}");
            }
            // At most once, which is checked above.
            Fate::Rejected { .. } | Fate::Unknown { .. } => {}
        }
    }
}
