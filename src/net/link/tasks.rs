//! The four tasks of a link: two write from its queues, two read into the driver's inbox.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::io::{AsyncWriteExt, WriteHalf};
use libp2p::Stream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::pair::{End, FrameSource, Pair};
use super::Link;
use crate::codec::{Assembler, Frame, HEADER_BYTES, Piece, consumed_frame, message_header, pieces, refusal_frame};
use crate::driver::Input;
use crate::types::limits;
use crate::types::peer::{Envelope, Refusal};

/// Consumed pieces are reported when they make up this much.
const REPORT_BYTES: u64 = limits::BULK_WINDOW_BYTES as u64 / 4;
const _: () = assert!(REPORT_BYTES as usize + limits::BULK_FRAME_BYTES < limits::BULK_WINDOW_BYTES);

/// Writes are gathered up to this size.
const GATHER_BYTES: usize = limits::BULK_FRAME_BYTES;

/// An input with its place in the queue, its credit and the allocations of both, with room to spare.
const _: () = assert!(2 * size_of::<Input>() <= limits::INPUT_OVERHEAD_BYTES);

/// Runs a link's streams until one of them ends; the link is down when this returns.
pub async fn run(link: Arc<Link>, pair: Pair) -> End {
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
            Ok(frame) => Err(End::unexpected(&frame)),
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
            Ok(frame) => Err(End::unexpected(&frame)),
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
    let weight = weight(bytes.len());
    drop(bytes);
    let credit = link.intake.credits.clone().acquire_many_owned(weight).await.map_err(|_| End::Finished)?;
    link.push(Input::Received { peer: link.peer.member, envelope }, Some(Box::new(credit)))
}

/// Credits for a message: its bytes, and what even the shortest one takes in the queue. No more than there are.
pub fn weight(bytes: usize) -> u32 {
    u32::try_from((bytes + limits::INPUT_OVERHEAD_BYTES).min(limits::INBOX_BYTES)).expect("the inbox is bounded")
}

fn count_frame(link: &Link, body: usize) {
    link.peer.counters.frames_in.add(1);
    link.peer.counters.bytes_in.add((HEADER_BYTES + body) as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_message_finds_enough_credits() {
        assert_eq!(weight(1), 1 + limits::INPUT_OVERHEAD_BYTES as u32);
        assert_eq!(weight(limits::PEER_MESSAGE_BYTES as usize), limits::INBOX_BYTES as u32);
    }
}
