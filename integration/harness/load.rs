//! Clients that publish at once, and remember what they sent and what they were told. None ever publishes a message
//! twice: what was not answered is perhaps ordered.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use synod::api::client::{Client, ClientError, Receipt};
use synod::types::Ack;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::group::Group;
use super::wait::until;

/// Each client starts a publish this often, if the one before is answered.
const PACE: Duration = Duration::from_millis(10);
const TEXT: &str = "text/plain";

/// What became of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Acknowledged with its position and clock reading.
    Ordered { position: u64, hlc: String },
    /// Acknowledged by its identity.
    Accepted { id: String },
    /// Refused, and certainly not ordered.
    Rejected { why: String },
    /// Perhaps ordered.
    Unknown { why: String },
}

/// One message.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its body, which no other message has: `publisher/number`, perhaps with something behind.
    pub body: String,
    /// The member it was published through.
    pub member: usize,
    /// What became of it.
    pub fate: Fate,
}

/// Everything that publishers know.
#[derive(Clone, Debug, Default)]
pub struct Published {
    sent: Vec<Sent>,
}

impl Published {
    /// Adds what other publishers know.
    pub fn extend(&mut self, other: Published) {
        self.sent.extend(other.sent);
    }

    /// Adds single messages.
    pub fn add(&mut self, sent: impl IntoIterator<Item = Sent>) {
        self.sent.extend(sent);
    }

    /// Every message.
    pub fn iter(&self) -> impl Iterator<Item = &Sent> {
        self.sent.iter()
    }

    /// By body.
    pub fn by_body(&self) -> HashMap<&str, &Sent> {
        let by_body: HashMap<&str, &Sent> = self.iter().map(|sent| (sent.body.as_str(), sent)).collect();
        assert_eq!(by_body.len(), self.sent.len(), "every body is published once");
        by_body
    }

    /// Messages that were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.iter().filter(|sent| sent.is_acknowledged()).count()
    }

    /// No publish through these members failed.
    pub fn none_failed_at(&self, members: &[usize]) {
        let failed: Vec<&Sent> =
            self.iter().filter(|sent| members.contains(&sent.member) && !sent.is_acknowledged()).collect();
        assert!(failed.is_empty(), "{} publishes failed, such as {:?}", failed.len(), failed[0]);
        for member in members {
            assert!(self.iter().any(|sent| sent.member == *member), "nothing was published through member {member}");
        }
    }
}

impl Sent {
    fn is_acknowledged(&self) -> bool {
        matches!(self.fate, Fate::Ordered { .. } | Fate::Accepted { .. })
    }
}

/// Publishes one message and remembers it. None if nobody was there to take it.
pub async fn publish(client: &Client, member: usize, body: String, ack: Ack) -> Option<Sent> {
    let fate = match client.publish("load", Some(TEXT), ack, body.clone().into()).await {
        Ok(Receipt::Ordered { position, hlc, duplicate, .. }) => {
            assert!(!duplicate, "nothing is published twice");
            Fate::Ordered { position, hlc }
        }
        Ok(Receipt::Accepted { id }) => Fate::Accepted { id },
        Err(ClientError::Unreachable { .. }) => return None,
        Err(error) if error.is_rejected() => Fate::Rejected { why: error.to_string() },
        Err(error) => Fate::Unknown { why: error.to_string() },
    };
    Some(Sent { body, member, fate })
}

/// A name that no other publisher of this process has.
pub fn publisher_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("p{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Publishers at work.
pub struct Load {
    stop: watch::Sender<bool>,
    publishers: Vec<JoinHandle<Vec<Sent>>>,
    acknowledged: Arc<Vec<AtomicU64>>,
}

impl Load {
    /// Three publishers per member: two over TCP, of which one asks for `accepted` only, and one over the socket.
    pub fn start(group: &Group) -> Load {
        Load::start_at(group, &group.everybody())
    }

    /// The same for some members.
    pub fn start_at(group: &Group, members: &[usize]) -> Load {
        let (stop, stopped) = watch::channel(false);
        let acknowledged: Arc<Vec<AtomicU64>> = Arc::new(group.members.iter().map(|_| AtomicU64::new(0)).collect());
        let mut publishers = Vec::new();
        for index in members.iter().copied() {
            let member = &group.members[index];
            let clients =
                [(member.client(), Ack::Ordered), (member.client(), Ack::Accepted), (member.unix(), Ack::Ordered)];
            for (client, ack) in clients {
                let (stopped, acknowledged) = (stopped.clone(), acknowledged.clone());
                publishers.push(tokio::spawn(async move {
                    let mut pace = interval(PACE);
                    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    let (name, mut sent) = (publisher_name(), Vec::new());
                    while !*stopped.borrow() {
                        pace.tick().await;
                        let body = format!("{name}/{}", sent.len());
                        if let Some(message) = publish(&client, index, body, ack).await {
                            acknowledged[index].fetch_add(u64::from(message.is_acknowledged()), Ordering::Relaxed);
                            sent.push(message);
                        }
                    }
                    sent
                }));
            }
        }
        Load { stop, publishers, acknowledged }
    }

    /// Waits until so many more messages are acknowledged through each of these members.
    pub async fn goes_on(&self, members: &[usize], count: u64) {
        let now = |member: usize| self.acknowledged[member].load(Ordering::Relaxed);
        let goals: Vec<(usize, u64)> = members.iter().map(|member| (*member, now(*member) + count)).collect();
        until(&format!("{count} more messages are acknowledged through each of {members:?}"), async || {
            goals.iter().all(|(member, goal)| now(*member) >= *goal).then_some(())
        })
        .await;
    }

    /// Stops publishing, waits for the last answers, and tells what is known.
    pub async fn finish(self) -> Published {
        self.stop.send_replace(true);
        let mut published = Published::default();
        for publisher in self.publishers {
            published.sent.extend(publisher.await.unwrap());
        }
        published
    }
}

/// Publishes one message through each of these members; each must be ordered. What the member accepted before stands
/// before it in its lane.
pub async fn publish_last(group: &Group, members: &[usize]) -> Published {
    let name = publisher_name();
    let mut published = Published::default();
    for index in members.iter().copied() {
        let body = format!("{name}/{index}");
        let sent = publish(&group.members[index].unix(), index, body, Ack::Ordered).await;
        let sent = sent.unwrap_or_else(|| panic!("{} takes messages", group.members[index].name));
        assert!(matches!(sent.fate, Fate::Ordered { .. }), "{sent:?}");
        published.sent.push(sent);
    }
    published
}
