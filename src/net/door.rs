//! The door: one frame in, one frame out, on a stream of its own, for every key that names the group (rule E3). Here are
//! the two sides of one exchange, and [`knock`] for who has no mesh yet; `doorkeeper.rs` says who is heard.
//!
//! Version and cluster of a frame are judged here, everything else by the driver. Who only tells something waits for no
//! answer, but takes one: the other side may have a question.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, Stream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::debug;

use super::exchange::{self, Unread};
use super::identity::member_of_peer;
use super::link::{Intake, weight};
use super::streams::{Opened, StreamEvent};
use super::switchboard::{Event, why_not_reached};
use super::transport::{self, BehaviourEvent, SwarmSettings};
use super::{MeshError, Shared};
use crate::codec::BadFrame;
use crate::driver::Input;
use crate::driver::inbox::Credit;
use crate::types::{ClusterId, DoorFrame, DoorMessage, DoorRefusal, MemberId, Timing, limits};

/// Beyond the time in which the other side answers, its answer may be on the way this long.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);

/// What both sides of an exchange need.
pub(super) struct Exchange {
    pub connection: ConnectionId,
    /// Whose key is on the other side.
    pub member: MemberId,
    pub shared: Arc<Shared>,
    pub intake: Intake,
    pub events: mpsc::UnboundedSender<Event>,
}

impl Exchange {
    /// They knock: hears what they say, and answers.
    pub async fn hear(self, mut stream: Stream) {
        let cluster = self.cluster();
        let answer = self.judged(&mut stream, cluster).await;
        // The switchboard ends before its tasks only when the mesh is gone. It hears of the end before the peer hears the
        // answer, so that the peer may knock again at once.
        let _ = self.events.send(Event::Heard { member: self.member });
        if let Some(answer) = answer {
            exchange::say_last(&mut stream, &frame(cluster, answer)).await;
        }
        let _ = self.events.send(Event::Answered { connection: self.connection });
    }

    /// They knock, and nobody has time for them.
    pub async fn turn_away(mut stream: Stream, cluster: ClusterId) {
        exchange::say_last(&mut stream, &frame(cluster, DoorMessage::Refused(DoorRefusal::Busy))).await;
    }

    /// We knock: says it, and hands the answer to the driver.
    pub async fn say(self, mut stream: Stream, message: DoorMessage) {
        let answer = knock_on(&mut stream, self.cluster(), message).await;
        // Before the driver hears the answer: it may knock again at once.
        let _ = self.events.send(Event::Said { member: self.member, connection: self.connection });
        match answer {
            Ok(Some((answer, bytes))) => {
                if let Some(credit) = self.credit(bytes).await {
                    self.hand_on(answer, credit);
                }
            }
            Ok(None) => {}
            Err(reason) => debug!(peer = self.shared.known.label(&self.member), reason, "no answer at the door"),
        }
    }

    fn cluster(&self) -> ClusterId {
        self.shared.hello.borrow().cluster
    }

    /// What there is to answer to a knock; none if the peer went away, or wants no answer and gets none.
    async fn judged(&self, stream: &mut Stream, cluster: ClusterId) -> Option<DoorMessage> {
        let heard = match timeout(limits::HELLO_TIMEOUT, exchange::read::<DoorFrame>(stream)).await {
            Ok(Ok(Some(heard))) => heard,
            Ok(Ok(None)) | Err(_) => return None,
            Ok(Err(Unread::Lost(_))) => return None,
            Ok(Err(Unread::Bad(BadFrame::OtherVersion(theirs)))) => {
                let refusal = DoorRefusal::Version { theirs, ours: limits::PROTOCOL_VERSION };
                return Some(DoorMessage::Refused(refusal));
            }
            Ok(Err(Unread::Bad(BadFrame::Malformed(text)))) => return Some(self.malformed(text)),
        };
        let (frame, bytes) = heard;
        if frame.cluster != cluster {
            let refusal = DoorRefusal::Cluster { theirs: frame.cluster, ours: cluster };
            return Some(DoorMessage::Refused(refusal));
        }
        match frame.message {
            DoorMessage::Refused(_) => Some(self.malformed("a refusal is no knock".to_owned())),
            message => self.answered(message, bytes).await,
        }
    }

    fn malformed(&self, text: String) -> DoorMessage {
        self.shared.totals.malformed.add(1);
        DoorMessage::Refused(DoorRefusal::BadRequest(text))
    }

    /// Asks the driver, and waits for its answer.
    async fn answered(&self, message: DoorMessage, bytes: usize) -> Option<DoorMessage> {
        let (patience, otherwise) = patience(&message);
        let answer = async {
            let credit = self.credit(bytes).await?;
            let (reply, answer) = oneshot::channel();
            // Before the driver hears of it: it may answer at once.
            let _ = self.events.send(Event::Asked { member: self.member, reply });
            self.hand_on(message, credit)?;
            answer.await.ok()
        };
        match timeout(patience, answer).await {
            Ok(answer) => answer,
            Err(_) => otherwise.map(DoorMessage::Refused),
        }
    }

    /// There is one when the driver has taken enough of what it was handed before; none if it never will.
    async fn credit(&self, bytes: usize) -> Option<Credit> {
        let credit = self.intake.credits.clone().acquire_many_owned(weight(bytes)).await.ok()?;
        Some(Box::new(credit))
    }

    /// Hands a message to the driver; none if it has ended.
    fn hand_on(&self, message: DoorMessage, credit: Credit) -> Option<()> {
        self.intake.inbox.push(Input::Door { from: self.member, message }, Some(credit)).ok()
    }
}

/// How long the driver is waited for, and what is answered instead of it then.
fn patience(message: &DoorMessage) -> (Duration, Option<DoorRefusal>) {
    match message {
        DoorMessage::Ask { .. } => (limits::DOOR_TIMEOUT, Some(DoorRefusal::Busy)),
        DoorMessage::Join { .. } => {
            let told = format!("no place in the order within {} s", limits::DOOR_TIMEOUT.as_secs());
            (limits::DOOR_TIMEOUT, Some(DoorRefusal::NoQuorum(told)))
        }
        DoorMessage::Tell(_) | DoorMessage::Refused(_) => (limits::FAREWELL_TIMEOUT, None),
    }
}

/// Says one thing and reads the answer, with its size; none if there is none to something that was only told.
async fn knock_on(
    stream: &mut Stream,
    cluster: ClusterId,
    message: DoorMessage,
) -> Result<Option<(DoorMessage, usize)>, String> {
    let tells = matches!(message, DoorMessage::Tell(_));
    match exchange::ask(stream, &frame(cluster, message), limits::DOOR_TIMEOUT + ANSWER_MARGIN).await? {
        None if tells => Ok(None),
        None => Err("closed without an answer".to_owned()),
        Some((frame, bytes)) => match frame.message {
            // It may be another group's.
            refused @ DoorMessage::Refused(_) => Ok(Some((refused, bytes))),
            _ if frame.cluster != cluster => {
                Err(format!("it answers for group {}, not for {}", frame.cluster.short(), cluster.short()))
            }
            message => Ok(Some((message, bytes))),
        },
    }
}

fn frame(cluster: ClusterId, message: DoorMessage) -> DoorFrame {
    DoorFrame { version: limits::PROTOCOL_VERSION, cluster, message }
}

/// Knocks at the door that is reached by one address, without a mesh: for who is no member yet. Gives the key that
/// answered, and its answer; which may be a refusal. An address that ends in `/p2p/…` takes no other key's answer.
///
/// The error says why there is no answer. The connection is closed in any case.
pub async fn knock(
    keypair: &Keypair,
    address: &Multiaddr,
    cluster: ClusterId,
    message: DoorMessage,
) -> Result<(MemberId, DoorMessage), NoAnswer> {
    let no_answer = |reason: String| NoAnswer { address: address.clone(), reason };
    let mut swarm = transport::swarm(keypair, SwarmSettings::plain(Timing::default().leader_timeout, 1))
        .map_err(|error: MeshError| no_answer(error.to_string()))?;
    let dial = DialOpts::unknown_peer_id().address(address.clone()).allocate_new_port().build();
    swarm.dial(dial).map_err(|error| no_answer(why_not_reached(&error)))?;
    let mut reached = None;
    let opening = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                    reached = member_of_peer(&peer_id);
                    swarm.behaviour_mut().streams.knock(peer_id, connection_id);
                }
                SwarmEvent::OutgoingConnectionError { error, .. } => return Err(why_not_reached(&error)),
                SwarmEvent::ConnectionClosed { cause, .. } => {
                    return Err(cause.map_or_else(|| "closed".to_owned(), |cause| cause.to_string()));
                }
                SwarmEvent::Behaviour(BehaviourEvent::Streams(StreamEvent {
                    opened: Opened::Door(stream), ..
                })) => {
                    return stream;
                }
                _ => {}
            }
        }
    };
    let opened = timeout(2 * limits::HELLO_TIMEOUT, opening).await.map_err(|_| no_answer("it is silent".to_owned()))?;
    let mut stream = opened.map_err(no_answer)?;
    let member = reached.expect("a stream has a connection, and others than members' keys are not admitted");
    let answer = tokio::select! {
        answer = knock_on(&mut stream, cluster, message) => answer.map_err(no_answer)?,
        () = turn(&mut swarm) => unreachable!("a swarm turns for ever"),
    };
    let (answer, _) = answer.ok_or_else(|| no_answer("closed without an answer".to_owned()))?;
    Ok((member, answer))
}

/// Streams move only while their swarm does.
async fn turn(swarm: &mut libp2p::Swarm<transport::Behaviour>) {
    loop {
        swarm.select_next_some().await;
    }
}

/// Nobody answered at an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address}: {reason}")]
pub struct NoAnswer {
    /// Where.
    pub address: Multiaddr,
    /// Why, for people.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_answered_in_time() {
        let join = DoorMessage::Join { secret: [0; 16], name: "n4".to_owned(), addresses: Vec::new() };
        for question in [DoorMessage::Ask { have: None }, join] {
            let (patience, otherwise) = patience(&question);
            assert!(otherwise.is_some() && patience < limits::DOOR_TIMEOUT + ANSWER_MARGIN, "it hears that, too");
        }
    }
}
