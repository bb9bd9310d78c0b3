//! Counts what gossip costs: the bytes of its streams, on whatever connection.
//!
//! A stream tells its protocol in its first bytes (multistream-select), whoever opened it; so a stream is known when the
//! protocol's name has passed.

use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::StreamMuxer;
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerEvent, SubstreamBox};

use super::figures::Counter;

/// The name of gossip's protocols begins with this.
pub(super) const GOSSIP_PROTOCOL: &str = "/synod/gossip";
/// A stream's protocol is agreed within so many bytes, or it is none of ours.
const NEGOTIATION_BYTES: usize = 128;

/// What gossip took, in both directions.
#[derive(Default)]
pub(super) struct Traffic {
    pub received: Counter,
    pub sent: Counter,
}

/// A connection whose streams are watched.
pub(super) struct Metered {
    inner: StreamMuxerBox,
    traffic: Arc<Traffic>,
}

impl Metered {
    pub fn new(inner: StreamMuxerBox, traffic: Arc<Traffic>) -> Metered {
        Metered { inner, traffic }
    }

    fn stream(&self, inner: SubstreamBox) -> MeteredStream {
        let kind = Kind::Negotiating { seen: Vec::new(), received: 0, sent: 0 };
        MeteredStream { inner, traffic: self.traffic.clone(), kind }
    }
}

impl StreamMuxer for Metered {
    type Substream = MeteredStream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<MeteredStream, io::Error>> {
        let stream = ready!(Pin::new(&mut self.inner).poll_inbound(cx))?;
        Poll::Ready(Ok(self.stream(stream)))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<MeteredStream, io::Error>> {
        let stream = ready!(Pin::new(&mut self.inner).poll_outbound(cx))?;
        Poll::Ready(Ok(self.stream(stream)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, io::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

/// One stream.
pub(super) struct MeteredStream {
    inner: SubstreamBox,
    traffic: Arc<Traffic>,
    kind: Kind,
}

/// What it carries.
enum Kind {
    Negotiating {
        /// What passed in either direction.
        seen: Vec<u8>,
        received: u64,
        sent: u64,
    },
    Gossip,
    Other,
}

impl MeteredStream {
    fn received(&mut self, bytes: &[u8]) {
        self.passed(bytes.iter().copied(), bytes.len(), 0);
    }

    /// So many bytes of these pieces were written.
    fn sent(&mut self, pieces: &[IoSlice<'_>], count: usize) {
        self.passed(pieces.iter().flat_map(|piece| piece.iter().copied()).take(count), 0, count);
    }

    fn passed(&mut self, bytes: impl Iterator<Item = u8>, received: usize, sent: usize) {
        match &mut self.kind {
            Kind::Other => {}
            Kind::Gossip => {
                self.traffic.received.add(received as u64);
                self.traffic.sent.add(sent as u64);
            }
            Kind::Negotiating { seen, received: before, sent: sent_before } => {
                *before += received as u64;
                *sent_before += sent as u64;
                seen.extend(bytes.take(NEGOTIATION_BYTES));
                let name = GOSSIP_PROTOCOL.as_bytes();
                if seen.windows(name.len()).any(|window| window == name) {
                    self.traffic.received.add(*before);
                    self.traffic.sent.add(*sent_before);
                    self.kind = Kind::Gossip;
                } else if seen.len() >= NEGOTIATION_BYTES {
                    self.kind = Kind::Other;
                }
            }
        }
    }
}

impl AsyncRead for MeteredStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        self.received(&buffer[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.inner).poll_read_vectored(cx, buffers))?;
        let mut left = count;
        for buffer in buffers.iter() {
            let piece = left.min(buffer.len());
            self.received(&buffer[..piece]);
            left -= piece;
        }
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for MeteredStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.sent(&[IoSlice::new(bytes)], count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, pieces))?;
        self.sent(pieces, count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
