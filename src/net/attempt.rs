//! One connection from its first stream to its end: hellos, checks, the agreement to use it, then the link.
//!
//! ```text
//! both:    hello on both streams ─▶        what the other says is checked; a refusal ends it
//! larger:  ready ─▶                        the member with the larger id offers the connection
//! smaller: ready ─▶                        the one with the smaller id chooses it: the link is up
//! ```
//!
//! The smaller member id alone decides which of several connections a pair uses, so both always agree.

use std::sync::Arc;

use futures::io::AsyncWriteExt;
use libp2p::Stream;
use libp2p::swarm::ConnectionId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Shared;
use super::link::{self, Intake, Link};
use super::pair::{End, FrameError, FrameSource, Pair};
use super::streams::StreamOutcome;
use super::switchboard::Event;
use super::transport::Transport;
use crate::codec::{Frame, StreamClass, hello_frame, ready_frame, refusal_frame};
use crate::types::peer::{Hello, Refusal};
use crate::types::{MemberId, limits};

/// What a connection's task needs.
pub(super) struct Attempt {
    pub connection: ConnectionId,
    /// What carries it.
    pub transport: Transport,
    /// Who is on the other side, by its key.
    pub member: MemberId,
    /// Whether it was a member when it connected: else gossip knows nothing of this connection.
    pub came_as_member: bool,
    pub shared: Arc<Shared>,
    pub intake: Intake,
    pub events: mpsc::UnboundedSender<Event>,
}

/// What the switchboard says to a greeted connection.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is the link now.
    Take,
    /// Another connection is the link.
    Leave,
    /// Not with this peer.
    Refuse(Refusal),
}

impl Attempt {
    /// Runs the connection, and tells the switchboard when it is over. `streams` gives both streams, in any order.
    pub async fn run(self, streams: mpsc::Receiver<StreamOutcome>) {
        let end = match timeout(limits::HELLO_TIMEOUT, self.agree(streams)).await {
            Ok(Ok((link, pair))) => link::run(link, pair).await,
            Ok(Err(end)) => end,
            Err(_) => End::Lost(format!("no agreement within {:?}", limits::HELLO_TIMEOUT)),
        };
        // The switchboard ends before its tasks only when the mesh is gone.
        let _ = self.events.send(Event::Ended { connection: self.connection, end });
    }

    async fn agree(&self, streams: mpsc::Receiver<StreamOutcome>) -> Result<(Arc<Link>, Pair), End> {
        let mut pair = both(streams).await?;
        let theirs = match self.greet(&mut pair).await {
            Ok(hello) => hello,
            Err(NoGreeting::End(End::Malformed(text))) => {
                refuse(&mut pair, Refusal::Malformed(text.clone())).await;
                return Err(End::Malformed(text));
            }
            Err(NoGreeting::End(end)) => return Err(end),
            Err(NoGreeting::Refuse(refusal)) => return Err(refuse(&mut pair, refusal).await),
        };
        let Some(peer) = self.shared.known.peer(&self.member) else {
            return Err(refuse(&mut pair, self.shared.known.refusal(&self.member)).await);
        };
        if !self.came_as_member {
            // It became one meanwhile; a link is made anew.
            return Err(End::Left);
        }
        // The smaller id.
        let chooses = self.shared.member < self.member;
        if !chooses {
            pair.urgent.1.write_all(&ready_frame()).await?;
            pair.urgent.1.flush().await?;
        }
        ready(&mut pair.urgent.0).await?;
        let link = Arc::new(Link::new(peer, (self.connection, self.transport), theirs, self.intake.clone()));
        match self.claim(link.clone()).await {
            Verdict::Take => {}
            Verdict::Leave => return Err(End::Left),
            Verdict::Refuse(refusal) => return Err(refuse(&mut pair, refusal).await),
        }
        if chooses {
            pair.urgent.1.write_all(&ready_frame()).await?;
            pair.urgent.1.flush().await?;
        }
        Ok((link, pair))
    }

    /// Hellos on both streams, both ways, and everything that can be judged without having heard of the peer before.
    async fn greet(&self, pair: &mut Pair) -> Result<Hello, NoGreeting> {
        let ours = self.shared.hello.borrow().clone();
        for stream in [&mut pair.urgent.1, &mut pair.bulk.1] {
            stream.write_all(&hello_frame(&ours)).await.map_err(End::from)?;
            stream.flush().await.map_err(End::from)?;
        }
        let theirs = hello(&mut pair.urgent.0, &ours).await?;
        check(&ours, &theirs).map_err(NoGreeting::Refuse)?;
        if hello(&mut pair.bulk.0, &ours).await? != theirs {
            return Err(NoGreeting::End(End::Malformed("two hellos on one connection".to_owned())));
        }
        Ok(theirs)
    }

    async fn claim(&self, link: Arc<Link>) -> Verdict {
        let (reply, verdict) = oneshot::channel();
        let _ = self.events.send(Event::Claimed { link, reply });
        verdict.await.unwrap_or(Verdict::Leave)
    }
}

/// Why two sides did not greet each other.
enum NoGreeting {
    End(End),
    Refuse(Refusal),
}

impl From<End> for NoGreeting {
    fn from(end: End) -> NoGreeting {
        NoGreeting::End(end)
    }
}

/// Version, cluster, configuration, in this order.
fn check(ours: &Hello, theirs: &Hello) -> Result<(), Refusal> {
    if theirs.version != ours.version {
        return Err(Refusal::Version { theirs: theirs.version, ours: ours.version });
    }
    if theirs.cluster != ours.cluster {
        return Err(Refusal::Cluster { theirs: theirs.cluster, ours: ours.cluster });
    }
    // Another epoch is no reason: who is behind learns what it missed.
    if theirs.epoch == ours.epoch && theirs.configuration != ours.configuration {
        return Err(Refusal::Configuration { epoch: ours.epoch });
    }
    Ok(())
}

async fn both(mut streams: mpsc::Receiver<StreamOutcome>) -> Result<Pair, End> {
    let (mut urgent, mut bulk): (Option<Stream>, Option<Stream>) = (None, None);
    loop {
        if let (Some(_), Some(_)) = (&urgent, &bulk) {
            break;
        }
        match streams.recv().await {
            Some(Ok((StreamClass::Urgent, stream))) => urgent = Some(stream),
            Some(Ok((StreamClass::Bulk, stream))) => bulk = Some(stream),
            Some(Err(reason)) => return Err(End::Lost(format!("no stream: {reason}"))),
            None => return Err(End::Lost("the connection closed".to_owned())),
        }
    }
    Ok(Pair::new(urgent.expect("both are there"), bulk.expect("both are there")))
}

async fn hello(source: &mut FrameSource, ours: &Hello) -> Result<Hello, NoGreeting> {
    match source.next().await {
        Ok(Frame::Hello(hello)) => Ok(hello),
        Ok(Frame::Refusal(refusal)) => Err(End::refused_by_them(refusal).into()),
        Ok(frame) => Err(End::unexpected(&frame).into()),
        Err(FrameError::OtherVersion(theirs)) => {
            Err(NoGreeting::Refuse(Refusal::Version { theirs, ours: ours.version }))
        }
        Err(FrameError::End(end)) => Err(end.into()),
    }
}

async fn ready(source: &mut FrameSource) -> Result<(), End> {
    match source.next().await {
        Ok(Frame::Ready) => Ok(()),
        Ok(Frame::Refusal(refusal)) => Err(End::refused_by_them(refusal)),
        Ok(frame) => Err(End::unexpected(&frame)),
        Err(error) => Err(error.into()),
    }
}

/// Says why, and waits until the peer has read it, or has said why it refuses us.
async fn refuse(pair: &mut Pair, refusal: Refusal) -> End {
    let said = async {
        pair.urgent.1.write_all(&refusal_frame(&refusal)).await?;
        pair.urgent.1.close().await?;
        pair.bulk.1.close().await?;
        Ok::<_, std::io::Error>(pair.urgent.0.last_refusal().await)
    };
    let by_them = timeout(limits::FAREWELL_TIMEOUT, said).await.ok().and_then(Result::ok).flatten();
    End::Refused { by_us: Some(Box::new(refusal)), by_them: by_them.map(Box::new) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Digest, Epoch};

    #[test]
    fn checks_come_in_their_order() {
        let ours = super::super::tests::hello(1);
        assert_eq!(check(&ours, &ours), Ok(()));
        let configured = Hello { configuration: Digest([9; 32]), ..ours.clone() };
        assert_eq!(check(&ours, &configured), Err(Refusal::Configuration { epoch: ours.epoch }));
        assert_eq!(check(&ours, &Hello { epoch: Epoch(1), ..configured.clone() }), Ok(()));
        let elsewhere = Hello { cluster: Digest([8; 32]), ..configured };
        assert!(matches!(check(&ours, &elsewhere), Err(Refusal::Cluster { .. })));
        assert!(matches!(check(&ours, &Hello { version: 2, ..elsewhere }), Err(Refusal::Version { .. })));
    }
}
