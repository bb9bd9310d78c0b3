//! What gossip costs each member of a large group when nothing happens. The meshes run in this process, without drivers:
//! what is counted is gossip alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::identity::Keypair;
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use super::{LOOK_INTERVAL, PATIENCE, Row};
use crate::cmd::exit::Failure;
use crate::driver::inbox::{Inbox, inbox};
use crate::net::{Founded, Mesh, MeshSettings, Sources, identity};
use crate::types::peer::Hello;
use crate::types::{
    CandidacyFrame, CandidacyMessage, Digest, Epoch, Incarnation, LaneHead, MemberId, Roster, RosterMember, Round,
    Slot, StartNonce, Timing, Tip, limits,
};

const MEMBERS: usize = 50;
/// Everybody is linked with these; the others are learners, and are not linked with each other.
const VOTERS: usize = 7;
/// Links and the first announcements have settled after this.
const SETTLED: Duration = Duration::from_secs(10);

/// One member's mesh. What comes in is taken and thrown away.
struct Idle {
    id: MemberId,
    mesh: Mesh,
    inbox: Inbox,
    roster: watch::Sender<Roster>,
    _hello: watch::Sender<Hello>,
}

/// Measures what each sends and receives.
pub async fn gossip(time: Duration) -> Result<Vec<Row>, Failure> {
    let mut group = Vec::new();
    for _ in 0..MEMBERS {
        group.push(Idle::start().await?);
    }
    introduce(&group);
    linked(&mut group).await?;
    settle(&mut group, SETTLED).await;
    let before: Vec<(u64, u64)> = group.iter().map(Idle::bytes).collect();
    let began = Instant::now();
    // Every member announces itself twice, so that each counts alike.
    settle(&mut group, time.max(2 * limits::PRESENCE_INTERVAL)).await;
    let seconds = began.elapsed().as_secs_f64();
    let rates = group.iter().zip(before).map(|(member, (sent, received))| {
        let (sent_by_now, received_by_now) = member.bytes();
        ((sent_by_now - sent) as f64 / seconds, (received_by_now - received) as f64 / seconds)
    });
    let (sent, received): (Vec<f64>, Vec<f64>) = rates.unzip();
    let most = |rates: &[f64]| rates.iter().copied().fold(0.0, f64::max);
    let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len() as f64;
    let row = |name, value| Row { name, value, unit: "B/s", aim: "≤ 2048" };
    let rows = vec![
        row("idle gossip of 50 members: sent by each", mean(&sent)),
        row("  by the one that sends most", most(&sent)),
        row("  received by each", mean(&received)),
        row("  by the one that receives most", most(&received)),
    ];
    for member in group {
        member.mesh.stop().await;
    }
    Ok(rows)
}

impl Idle {
    async fn start() -> Result<Idle, Failure> {
        let keypair = Keypair::generate_ed25519();
        let id = identity::member_of(&keypair).expect("it is an ed25519 key");
        let (hello, says) = watch::channel(hello());
        let (roster, newest) = watch::channel(Roster::default());
        let (sender, inbox) = inbox();
        let settings = MeshSettings {
            keypair,
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("it is an address")],
            leader_timeout: Timing::default().leader_timeout,
            sources: Sources::default(),
            announce: Vec::new(),
            gossip: true,
            founded: founded(),
            roster: newest,
            hello: says,
            inbox: sender,
            credits: Arc::new(Semaphore::new(limits::INBOX_BYTES)),
        };
        let mesh = Mesh::start(settings).await.map_err(|error| Failure::failed(error.to_string()))?;
        Ok(Idle { id, mesh, inbox, roster, _hello: hello })
    }

    /// Sent and received by gossip so far.
    fn bytes(&self) -> (u64, u64) {
        let figures = self.mesh.figures().gossip;
        (figures.bytes_out, figures.bytes_in)
    }
}

/// Tells everybody of all others, and whom to dial.
fn introduce(group: &[Idle]) {
    for (index, member) in group.iter().enumerate() {
        let others = group.iter().enumerate().map(|(other_index, other)| RosterMember {
            id: other.id,
            name: format!("n{}", other_index + 1),
            addresses: other.mesh.listen_addresses().iter().map(ToString::to_string).collect(),
            dial: index.min(other_index) < VOTERS,
        });
        member.roster.send_replace(Roster { members: others.collect(), ..Roster::default() });
    }
}

async fn linked(group: &mut [Idle]) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    let links = |member: &Idle| member.mesh.figures().peers.iter().filter(|peer| peer.linked).count();
    while group.iter().any(|member| links(member) < VOTERS - 1) {
        if Instant::now() > deadline {
            return Err(Failure::failed("the meshes do not link up".to_owned()));
        }
        settle(group, Duration::from_millis(200)).await;
    }
    Ok(())
}

async fn settle(group: &mut [Idle], time: Duration) {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        group.iter_mut().for_each(|member| drop(member.inbox.take(limits::INPUTS_PER_TURN, Duration::ZERO)));
        sleep(50 * LOOK_INTERVAL).await;
    }
}

fn founded() -> Founded {
    let greeting = CandidacyFrame::new("bench", 0, CandidacyMessage::Founded(cluster()));
    let answer = greeting.clone();
    Founded { greeting, answer: Box::new(move |_, _| (answer.clone(), None)) }
}

fn cluster() -> Digest {
    Digest::of("bench", b"gossip")
}

fn hello() -> Hello {
    Hello {
        version: limits::PROTOCOL_VERSION,
        cluster: cluster(),
        epoch: Epoch(0),
        configuration: Digest::ZERO,
        incarnation: Incarnation(1),
        nonce: StartNonce(1),
        highest_vote: None,
        sealed: LaneHead::START,
        decided: Tip { round: Round::default(), slot: Slot(0), digest: Digest::ZERO },
    }
}
