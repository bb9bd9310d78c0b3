//! A link: two greeted streams and the four tasks that read and write them. It is up once, and down once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use futures::io::{AsyncWriteExt, WriteHalf};
use libp2p::Stream;
use libp2p::swarm::ConnectionId;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::pair::{End, FrameSource, Pair};
use super::peer::Peer;
use super::queue::Queue;
use crate::codec::{Assembler, Frame, HEADER_BYTES, Piece, consumed_frame, message_header, pieces, refusal_frame};
use crate::driver::Input;
use crate::driver::inbox::{Credit, InboxSender};
use crate::types::limits;
use crate::types::peer::{Envelope, Hello, Refusal};

/// Consumed pieces are reported when they make up this much.
const REPORT_BYTES: u64 = limits::BULK_WINDOW_BYTES as u64 / 4;
const _: () = assert!(REPORT_BYTES as usize + limits::BULK_FRAME_BYTES < limits::BULK_WINDOW_BYTES);

/// Writes are gathered up to this size.
const GATHER_BYTES: usize = limits::BULK_FRAME_BYTES;

/// Where received messages go: the driver's inbox, against credits for their bytes.
#[derive(Clone)]
pub(super) struct Intake {
    pub inbox: InboxSender,
    /// [`limits::INBOX_BYTES`] permits, one a byte.
    pub credits: Arc<Semaphore>,
}

/// One link to one member.
pub(super) struct Link {
    pub peer: Arc<Peer>,
    pub connection: ConnectionId,
    /// What the peer said first.
    pub hello: Hello,
    intake: Intake,
    state: Mutex<State>,
    urgent: Queue,
    bulk: Queue,
    /// Bytes of pieces that may still be sent before the peer reports some as consumed.
    window: Semaphore,
    /// Bytes of pieces consumed here and not reported yet.
    consumed: AtomicU64,
    /// Said last, instead of whatever else is queued.
    refusal: Mutex<Option<Refusal>>,
    /// Whether the writers end when their queues are empty.
    finishing: AtomicBool,
    /// Why the connection closed.
    given_up: watch::Sender<Option<String>>,
}

enum State {
    /// Not agreed yet.
    Waiting,
    Up {
        since: Instant,
    },
    Down {
        since: Option<Instant>,
    },
}

impl Link {
    pub fn new(peer: Arc<Peer>, connection: ConnectionId, hello: Hello, intake: Intake) -> Link {
        Link {
            peer,
            connection,
            hello,
            intake,
            state: Mutex::new(State::Waiting),
            urgent: Queue::new(limits::URGENT_QUEUE_BYTES),
            bulk: Queue::new(limits::BULK_QUEUE_BYTES),
            window: Semaphore::new(limits::BULK_WINDOW_BYTES),
            consumed: AtomicU64::new(0),
            refusal: Mutex::new(None),
            finishing: AtomicBool::new(false),
            given_up: watch::Sender::new(None),
        }
    }

    /// Tells the driver that the link is up. Once.
    pub fn bring_up(&self) {
        let mut state = self.state();
        assert!(matches!(*state, State::Waiting), "a link comes up once");
        *state = State::Up { since: Instant::now() };
        self.peer.counters.links.add(1);
        let input = Input::LinkUp { peer: self.peer.member, hello: self.hello.clone() };
        // A driver that has ended needs no news; the mesh is about to be stopped.
        let _ = self.intake.inbox.push(input, None);
    }

    /// Tells the driver that the link is down, if it was up. Nothing is received on it from here on.
    pub fn take_down(&self) {
        let mut state = self.state();
        match *state {
            State::Waiting => *state = State::Down { since: None },
            State::Up { since } => {
                *state = State::Down { since: Some(since) };
                let _ = self.intake.inbox.push(Input::LinkDown { peer: self.peer.member }, None);
            }
            State::Down { .. } => {}
        }
    }

    pub fn is_up(&self) -> bool {
        matches!(*self.state(), State::Up { .. })
    }

    /// When it came up, if it did.
    pub fn up_since(&self) -> Option<Instant> {
        match *self.state() {
            State::Waiting => None,
            State::Up { since } => Some(since),
            State::Down { since } => since,
        }
    }

    /// Queues a message; false if there is no room. What is too long for the urgent stream goes by the bulk stream. A
    /// short batch goes by the urgent one while nothing waits on the bulk stream and little on that one: with the proposal that follows it, it is one write
    /// here and one wake-up there, and a vote behind it waits for next to nothing.
    pub fn send(&self, bulk: bool, message: Bytes) -> bool {
        let bulk = match bulk {
            true => self.bulk.bytes() > 0 || message.len() + self.urgent.bytes() > limits::URGENT_PAYLOAD_BYTES,
            false => message.len() > limits::URGENT_FRAME_BYTES,
        };
        if bulk { self.bulk.push(message) } else { self.urgent.push(message) }
    }

    /// Says why, then closes the streams.
    pub fn refuse(&self, refusal: Refusal) {
        self.refusal.lock().expect("nobody panics with a refusal in hand").get_or_insert(refusal);
        self.urgent.wake();
        self.bulk.wake();
    }

    /// Writes what is queued, then closes the streams.
    pub fn finish(&self) {
        self.finishing.store(true, Ordering::Release);
        self.urgent.wake();
        self.bulk.wake();
    }

    /// Its connection has closed: nobody waits any longer, not for the driver either.
    pub fn give_up(&self, reason: String) {
        self.given_up.send_replace(Some(reason));
    }

    /// Bytes that wait on the urgent and on the bulk stream.
    pub fn queue_bytes(&self) -> (usize, usize) {
        (self.urgent.bytes(), self.bulk.bytes())
    }

    /// What is said last.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal.lock().expect("nobody panics with a refusal in hand").clone()
    }

    fn is_finishing(&self) -> bool {
        self.finishing.load(Ordering::Acquire)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with a link's state in hand")
    }

    /// Hands something to the driver unless the link is down: nothing comes after `LinkDown`.
    fn push(&self, input: Input, credit: Option<Credit>) -> Result<(), End> {
        let state = self.state();
        if !matches!(*state, State::Up { .. }) {
            return Err(End::Left);
        }
        self.intake.inbox.push(input, credit).map_err(|_| End::Finished)
    }
}

/// Runs a link's streams until one of them ends; the link is down when this returns.
pub(super) async fn run(link: Arc<Link>, pair: Pair) -> End {
    let mut tasks = JoinSet::new();
    tasks.spawn(write_urgent(link.clone(), pair.urgent.1));
    tasks.spawn(write_bulk(link.clone(), pair.bulk.1));
    tasks.spawn(read_urgent(link.clone(), pair.urgent.0));
    tasks.spawn(read_bulk(link.clone(), pair.bulk.0));
    let mut given_up = link.given_up.subscribe();
    let mut end = tokio::select! {
        biased;
        end = next_end(&mut tasks) => end.expect("four tasks run"),
        reason = given_up.wait_for(Option::is_some) => {
            let reason = reason.ok().and_then(|reason| reason.clone());
            End::Lost(reason.expect("we hold the sender, and waited for it"))
        }
    };
    if let Some(refusal) = link.refusal() {
        // Perhaps the peer has closed its side before our writer was done.
        end = End::refused_by_us(refusal);
    }
    match end {
        // What the peer still says is taken until it closes its side.
        End::Finished => farewell(&mut tasks).await,
        // The other stream ends as well, after its last words.
        End::Closed => end = last_words(&mut tasks).await,
        _ => {}
    }
    link.take_down();
    if let End::Malformed(text) = &end {
        link.refuse(Refusal::Malformed(text.clone()));
    }
    if matches!(end, End::Malformed(_) | End::Refused { by_us: Some(_), .. }) {
        farewell(&mut tasks).await;
    }
    end
}

/// How the other stream ends, whatever becomes of our writing.
async fn last_words(tasks: &mut JoinSet<End>) -> End {
    let words = async {
        loop {
            match next_end(tasks).await {
                Some(End::Lost(_)) => {}
                end => return end,
            }
        }
    };
    timeout(limits::FAREWELL_TIMEOUT, words).await.ok().flatten().unwrap_or(End::Closed)
}

/// The peer needs a moment to read the last frames; it closes its side when it has.
async fn farewell(tasks: &mut JoinSet<End>) {
    let _ = timeout(limits::FAREWELL_TIMEOUT, async { while next_end(tasks).await.is_some() {} }).await;
}

async fn next_end(tasks: &mut JoinSet<End>) -> Option<End> {
    tasks.join_next().await.map(|end| end.unwrap_or_else(|error| End::Lost(error.to_string())))
}

async fn write_urgent(link: Arc<Link>, mut stream: WriteHalf<Stream>) -> End {
    loop {
        if let Some(refusal) = link.refusal() {
            let refused = End::refused_by_us(refusal.clone());
            return close(&mut stream, &refusal_frame(&refusal)).await.map_or_else(End::from, |()| refused);
        }
        let (messages, consumed) = (link.urgent.take_all(), link.consumed.swap(0, Ordering::AcqRel));
        if messages.is_empty() && consumed == 0 {
            if link.is_finishing() {
                return close(&mut stream, &[]).await.map_or_else(End::from, |()| End::Finished);
            }
            link.urgent.woken().await;
        } else if let Err(error) = write_messages(&link, &mut stream, messages, consumed).await {
            return error.into();
        }
    }
}

/// Writes together what was queued together, then flushes.
async fn write_messages(
    link: &Link,
    stream: &mut WriteHalf<Stream>,
    messages: VecDeque<Bytes>,
    consumed: u64,
) -> std::io::Result<()> {
    let mut gathered = Vec::new();
    if consumed > 0 {
        gathered.extend_from_slice(&consumed_frame(consumed));
    }
    let mut waiting = 0;
    for message in messages {
        gathered.extend_from_slice(&message_header(message.len()));
        gathered.extend_from_slice(&message);
        waiting += message.len();
        link.peer.counters.frames_out.add(1);
        if gathered.len() >= GATHER_BYTES {
            write(link, stream, &mut gathered).await?;
            link.urgent.written(std::mem::take(&mut waiting));
        }
    }
    write(link, stream, &mut gathered).await?;
    link.urgent.written(waiting);
    stream.flush().await
}

async fn write(link: &Link, stream: &mut WriteHalf<Stream>, gathered: &mut Vec<u8>) -> std::io::Result<()> {
    stream.write_all(gathered).await?;
    link.peer.counters.bytes_out.add(gathered.len() as u64);
    gathered.clear();
    Ok(())
}

async fn close(stream: &mut WriteHalf<Stream>, last: &[u8]) -> std::io::Result<()> {
    stream.write_all(last).await?;
    stream.close().await
}

async fn write_bulk(link: Arc<Link>, mut stream: WriteHalf<Stream>) -> End {
    let mut gathered = Vec::with_capacity(GATHER_BYTES + HEADER_BYTES);
    let mut flushed = true;
    loop {
        if let Some(refusal) = link.refusal() {
            let refused = End::refused_by_us(refusal);
            return close(&mut stream, &[]).await.map_or_else(End::from, |()| refused);
        }
        let written = match link.bulk.take() {
            Some(message) => {
                flushed = false;
                write_pieces(&link, &mut stream, &mut gathered, message).await
            }
            None if !flushed => {
                flushed = true;
                flush(&link, &mut stream, &mut gathered).await
            }
            None if link.is_finishing() => {
                return close(&mut stream, &[]).await.map_or_else(End::from, |()| End::Finished);
            }
            None => {
                link.bulk.woken().await;
                Ok(())
            }
        };
        if let Err(error) = written {
            return error.into();
        }
    }
}

/// Gathers a message's pieces and writes whenever enough are gathered, or before waiting for the peer to consume.
async fn write_pieces(
    link: &Link,
    stream: &mut WriteHalf<Stream>,
    gathered: &mut Vec<u8>,
    message: Bytes,
) -> std::io::Result<()> {
    for Piece { header, bytes } in pieces(&message) {
        let length = u32::try_from(bytes.len()).expect("a piece is small");
        let room = match link.window.try_acquire_many(length) {
            Ok(room) => room,
            Err(_) => {
                flush(link, stream, gathered).await?;
                link.window.acquire_many(length).await.expect("the window is never closed")
            }
        };
        room.forget();
        gathered.extend_from_slice(&header);
        gathered.extend_from_slice(&bytes);
        link.peer.counters.frames_out.add(1);
        if gathered.len() >= GATHER_BYTES {
            write(link, stream, gathered).await?;
        }
    }
    link.bulk.written(message.len());
    Ok(())
}

async fn flush(link: &Link, stream: &mut WriteHalf<Stream>, gathered: &mut Vec<u8>) -> std::io::Result<()> {
    write(link, stream, gathered).await?;
    stream.flush().await
}

async fn read_urgent(link: Arc<Link>, mut source: FrameSource) -> End {
    loop {
        let taken = match source.next().await {
            Ok(Frame::Message(bytes)) => {
                count_frame(&link, bytes.len());
                receive(&link, bytes).await
            }
            Ok(Frame::Consumed(bytes)) => widen(&link, bytes),
            Ok(Frame::Refusal(refusal)) => Err(End::refused_by_them(refusal)),
            Ok(frame) => Err(End::Malformed(format!("unexpected {frame:?}"))),
            Err(error) => Err(error.into()),
        };
        if let Err(end) = taken {
            return end;
        }
    }
}

/// The peer has consumed pieces: as much again may be sent.
fn widen(link: &Link, bytes: u64) -> Result<(), End> {
    let sent = limits::BULK_WINDOW_BYTES - link.window.available_permits();
    if bytes > sent as u64 {
        return Err(End::Malformed(format!("{bytes} bytes consumed, of {sent}")));
    }
    link.window.add_permits(bytes as usize);
    Ok(())
}

async fn read_bulk(link: Arc<Link>, mut source: FrameSource) -> End {
    let mut assembler = Assembler::default();
    let mut unreported = 0;
    loop {
        let taken = match source.next().await {
            Ok(Frame::Piece { bytes, last }) => {
                count_frame(&link, bytes.len());
                unreported += bytes.len() as u64;
                receive_piece(&link, &mut assembler, bytes, last).await
            }
            Ok(Frame::Refusal(refusal)) => Err(End::refused_by_them(refusal)),
            Ok(frame) => Err(End::Malformed(format!("unexpected {frame:?}"))),
            Err(error) => Err(error.into()),
        };
        if let Err(end) = taken {
            return end;
        }
        if unreported >= REPORT_BYTES {
            link.consumed.fetch_add(std::mem::take(&mut unreported), Ordering::AcqRel);
            link.urgent.wake();
        }
    }
}

async fn receive_piece(link: &Link, assembler: &mut Assembler, bytes: Bytes, last: bool) -> Result<(), End> {
    match assembler.add(bytes, last) {
        Ok(Some(message)) => receive(link, message).await,
        Ok(None) => Ok(()),
        Err(error) => Err(End::Malformed(error.to_string())),
    }
}

/// Admits a message and hands it to the driver, when the driver has taken enough of what it was handed before.
async fn receive(link: &Link, bytes: Bytes) -> Result<(), End> {
    let envelope = Envelope::admit(&bytes).map_err(|error| End::Malformed(error.to_string()))?;
    let length = u32::try_from(bytes.len()).expect("messages are bounded");
    drop(bytes);
    let credit = link.intake.credits.clone().acquire_many_owned(length).await.map_err(|_| End::Finished)?;
    link.push(Input::Received { peer: link.peer.member, envelope }, Some(Box::new(credit)))
}

fn count_frame(link: &Link, body: usize) {
    link.peer.counters.frames_in.add(1);
    link.peer.counters.bytes_in.add((HEADER_BYTES + body) as u64);
}
