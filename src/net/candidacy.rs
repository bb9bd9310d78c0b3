//! What candidates ask each other, and what a founded group tells them: one frame each way, to and from any key (rule G1).
//! Here are the two sides of one exchange, who is heard, and the addresses that sources tell. Who answers what is said
//! elsewhere: by a candidate (`candidates.rs`), or by the group that is there (`switchboard/finding.rs`).

use std::time::Instant;

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, Swarm};
use libp2p::{PeerId, Stream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::doorkeeper::{Bounds, Doorkeeper};
use super::exchange::{self, Unread};
use super::finding::{Finder, Patience, Stand};
use super::identity::peer_of;
use super::source::{MDNS, Running, Sources, Told};
use super::transport::Behaviour;
use crate::codec::BadFrame;
use crate::types::{CandidacyFrame, CandidacyMessage, CandidacyRefusal, MemberId, limits};

/// What happened.
pub(super) enum Happening {
    /// A source has news.
    Told(Told),
    /// They ask.
    Asked {
        /// Who.
        member: MemberId,
        /// What.
        frame: CandidacyFrame,
        /// Where the answer goes.
        reply: oneshot::Sender<CandidacyFrame>,
    },
    /// They ask what cannot be read.
    Unread {
        /// Who.
        member: MemberId,
        /// Why.
        reason: String,
    },
    /// Their question waits no longer.
    Heard {
        /// Whose.
        member: MemberId,
    },
    /// And the answer is given.
    Answered {
        /// On which connection.
        connection: ConnectionId,
    },
    /// A question of ours is over.
    Said {
        /// Whom we asked.
        member: MemberId,
        /// On which connection.
        connection: ConnectionId,
        /// The answer, or why there is none.
        answer: Result<CandidacyFrame, String>,
    },
}

/// Sources, and the questions that are under way.
pub(super) struct Inquiry {
    pub finder: Finder,
    pub keeper: Doorkeeper<CandidacyFrame>,
    /// Name and size of the group in what we say ourselves.
    group: (String, u32),
    news: mpsc::Receiver<Told>,
    /// Tasks tell at most four things for every stream, and streams are bounded: so the channel needs no bound.
    happened: (mpsc::UnboundedSender<Happening>, mpsc::UnboundedReceiver<Happening>),
    _sources: Running,
}

impl Inquiry {
    /// Starts the sources. `group` is the name that frames carry, and how many found it (0: it is founded).
    pub fn start(sources: &Sources, patience: Patience, group: (String, u32)) -> Inquiry {
        let (told, news) = mpsc::channel(limits::SOURCE_NEWS_WAITING);
        let running = Running::start(sources, &told);
        let mut finder = Finder::new(patience);
        if sources.mdns {
            finder.learn(MDNS, Default::default(), Instant::now());
        }
        let keeper = Doorkeeper::new(Bounds::CANDIDATES, Instant::now());
        // While this holds the sender the channel stays open, whatever becomes of the sources.
        Inquiry { finder, keeper, group, news, happened: mpsc::unbounded_channel(), _sources: running }
    }

    /// What happens next. Cancel safe.
    pub async fn next(&mut self) -> Happening {
        tokio::select! {
            biased;
            happening = self.happened.1.recv() => happening.expect("we hold a sender"),
            Some(told) = self.news.recv() => Happening::Told(told),
        }
    }

    /// Dials the addresses that are due.
    pub fn dial(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        now: Instant,
        stands: impl Fn(&libp2p::Multiaddr, Option<&MemberId>, Option<&MemberId>) -> Stand,
    ) {
        for place in self.finder.due(now, stands) {
            let dial = match place.key.as_ref().and_then(peer_of) {
                Some(peer) => DialOpts::peer_id(peer)
                    .condition(PeerCondition::Always)
                    .addresses(vec![place.address.clone()])
                    .allocate_new_port()
                    .build(),
                None => DialOpts::unknown_peer_id().address(place.address.clone()).allocate_new_port().build(),
            };
            let id = dial.connection_id();
            self.finder.began(&place.address, id);
            if let Err(error) = swarm.dial(dial) {
                self.finder.unreached(id, error.to_string(), now);
            }
        }
    }

    /// They ask on a stream: hears what, if there is room.
    pub fn hear(&mut self, connection: ConnectionId, member: MemberId, stranger: bool, stream: Stream) {
        let group = self.group.clone();
        if !self.keeper.admits(&member, stranger, Instant::now()) {
            tokio::spawn(turn_away(stream, group));
            return;
        }
        let task = tokio::spawn(hear(stream, member, connection, group, self.happened.0.clone())).abort_handle();
        self.keeper.hears(member, stranger, connection, task);
    }

    /// Asks on a connection; there is one question to a key at a time, and the caller has made sure of it.
    pub fn ask(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        (connection, peer): (ConnectionId, PeerId),
        member: MemberId,
        frame: CandidacyFrame,
    ) {
        swarm.behaviour_mut().streams.ask(peer, connection);
        self.keeper.knocks(member, connection, frame);
    }

    /// The stream for a question of ours has opened, or has not.
    pub fn opened(&mut self, connection: ConnectionId, stream: Result<Stream, String>) {
        match stream {
            Ok(stream) => {
                if let Some((member, frame)) = self.keeper.opened(connection) {
                    let said = say(stream, member, connection, frame, self.happened.0.clone());
                    self.keeper.says(&member, tokio::spawn(said).abort_handle());
                }
            }
            Err(reason) => self.closed(connection, &format!("it takes no questions of candidates: {reason}")),
        }
    }

    /// A connection is gone, or never came to be.
    pub fn closed(&mut self, connection: ConnectionId, reason: &str) {
        if let Some(member) = self.keeper.closed(connection) {
            let _ = self.happened.0.send(Happening::Said { member, connection, answer: Err(reason.to_owned()) });
        }
    }
}

/// They ask: hears what, waits for the answer and gives it.
async fn hear(
    mut stream: Stream,
    member: MemberId,
    connection: ConnectionId,
    group: (String, u32),
    happened: mpsc::UnboundedSender<Happening>,
) {
    let answer = match timeout(limits::HELLO_TIMEOUT, exchange::read::<CandidacyFrame>(&mut stream)).await {
        Ok(Ok(Some((frame, _)))) => {
            let (reply, answer) = oneshot::channel();
            let _ = happened.send(Happening::Asked { member, frame, reply });
            timeout(limits::CANDIDACY_TIMEOUT, answer).await.ok().and_then(Result::ok)
        }
        Ok(Err(Unread::Bad(BadFrame::OtherVersion(theirs)))) => {
            let refusal = CandidacyRefusal::Version { theirs, ours: limits::PROTOCOL_VERSION };
            let _ = happened.send(Happening::Unread { member, reason: refusal.to_string() });
            Some(refused(group, refusal))
        }
        Ok(Err(Unread::Bad(bad))) => {
            let reason = format!("it asks what is no frame of a candidate: {bad}");
            let _ = happened.send(Happening::Unread { member, reason });
            None
        }
        // What is no frame gets no answer.
        _ => None,
    };
    // Before the peer hears the answer, so that it may ask again at once.
    let _ = happened.send(Happening::Heard { member });
    if let Some(answer) = answer {
        exchange::say_last(&mut stream, &answer).await;
    }
    let _ = happened.send(Happening::Answered { connection });
}

async fn turn_away(mut stream: Stream, group: (String, u32)) {
    exchange::say_last(&mut stream, &refused(group, CandidacyRefusal::Busy)).await;
}

fn refused((name, expect): (String, u32), refusal: CandidacyRefusal) -> CandidacyFrame {
    CandidacyFrame::new(&name, expect, CandidacyMessage::Refused(refusal))
}

/// We ask: says it, and tells the answer.
async fn say(
    mut stream: Stream,
    member: MemberId,
    connection: ConnectionId,
    frame: CandidacyFrame,
    happened: mpsc::UnboundedSender<Happening>,
) {
    let answer = match exchange::ask(&mut stream, &frame, limits::CANDIDACY_TIMEOUT).await {
        Ok(Some((answer, _))) => Ok(answer),
        Ok(None) => Err("closed without an answer".to_owned()),
        Err(reason) => Err(reason),
    };
    let _ = happened.send(Happening::Said { member, connection, answer });
}
