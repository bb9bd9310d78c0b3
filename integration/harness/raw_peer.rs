//! A peer that speaks libp2p up to its two streams, and then says anything.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures::future::poll_fn;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::Endpoint;
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p::core::transport::{DialOpts, PortUse, Transport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, noise, tcp, yamux};
use synod::codec::{Frame, FrameReader, StreamClass, hello_frame, ready_frame};
use synod::types::peer::{Hello, Refusal};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A member answers well within this.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A connection with both streams. It ends when this is dropped.
pub struct RawPeer {
    urgent: SubstreamBox,
    bulk: SubstreamBox,
    reader: FrameReader,
    connection: JoinHandle<()>,
}

impl Drop for RawPeer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The key of a member, from its data directory.
pub fn key_of(data_dir: &Path) -> Keypair {
    let identity = synod::node::identity::Identity::load(data_dir).unwrap();
    Keypair::ed25519_from_bytes(identity.secret()).unwrap()
}

/// A key that nobody knows.
pub fn unknown_key() -> Keypair {
    Keypair::generate_ed25519()
}

impl RawPeer {
    /// Connects with that key and opens both streams.
    pub async fn dial(mesh: SocketAddr, key: &Keypair) -> RawPeer {
        timeout(ANSWER_MAX, connect(mesh, key)).await.expect("the member takes the connection in time")
    }

    /// Says hello on both streams, and that the link may be used.
    pub async fn greet(&mut self, hello: &Hello) {
        self.write(StreamClass::Urgent, &hello_frame(hello)).await;
        self.write(StreamClass::Bulk, &hello_frame(hello)).await;
        self.write(StreamClass::Urgent, &ready_frame()).await;
    }

    /// Sends bytes. The member may have closed the stream already.
    pub async fn write(&mut self, class: StreamClass, bytes: &[u8]) {
        let stream = match class {
            StreamClass::Urgent => &mut self.urgent,
            StreamClass::Bulk => &mut self.bulk,
        };
        if stream.write_all(bytes).await.is_ok() {
            let _ = stream.flush().await;
        }
    }

    /// The member's next frame on the urgent stream; none when it has closed the stream.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut piece = vec![0; 4096];
        loop {
            if let Some(frame) = self.reader.next_frame().expect("members send frames") {
                return Some(frame);
            }
            let read = timeout(ANSWER_MAX, self.urgent.read(&mut piece)).await.expect("the member answers");
            match read {
                Ok(length) if length > 0 => self.reader.feed(&piece[..length]),
                _ => return None,
            }
        }
    }

    /// The member's hello.
    pub async fn hello(&mut self) -> Hello {
        match self.next().await {
            Some(Frame::Hello(hello)) => hello,
            other => panic!("a hello comes first, not {other:?}"),
        }
    }

    /// Waits until the member says that the link may be used.
    pub async fn until_ready(&mut self) {
        loop {
            match self.next().await {
                Some(Frame::Ready) => return,
                Some(Frame::Refusal(refusal)) => panic!("refused: {refusal}"),
                Some(_) => {}
                None => panic!("closed without a word"),
            }
        }
    }

    /// Ends the urgent stream.
    pub async fn close(&mut self) {
        self.urgent.close().await.unwrap();
    }

    /// Why the member refuses this peer; other frames are passed over.
    pub async fn refusal(&mut self) -> Refusal {
        loop {
            match self.next().await {
                Some(Frame::Refusal(refusal)) => return refusal,
                Some(_) => {}
                None => panic!("closed without a word"),
            }
        }
    }
}

async fn connect(mesh: SocketAddr, key: &Keypair) -> RawPeer {
    let mut transport = tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key).unwrap())
        .multiplex(yamux::Config::default())
        .boxed();
    let address: Multiaddr = format!("/ip4/{}/tcp/{}", mesh.ip(), mesh.port()).parse().unwrap();
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let (_, mut connection) = transport.dial(address, options).unwrap().await.unwrap();
    let mut urgent = poll_fn(|context| connection.poll_outbound_unpin(context)).await.unwrap();
    let mut bulk = poll_fn(|context| connection.poll_outbound_unpin(context)).await.unwrap();
    let connection = tokio::spawn(drive(connection));
    negotiate(&mut urgent, "/synod/urgent/1").await;
    negotiate(&mut bulk, "/synod/bulk/1").await;
    RawPeer { urgent, bulk, reader: FrameReader::new(StreamClass::Urgent), connection }
}

/// The streams move only while somebody polls their connection.
async fn drive(mut connection: StreamMuxerBox) {
    poll_fn(|context| {
        loop {
            // Streams that the member opens are dropped: pings, which nobody answers here.
            match connection.poll_inbound_unpin(context) {
                std::task::Poll::Ready(Ok(stream)) => drop(stream),
                std::task::Poll::Ready(Err(_)) => return std::task::Poll::Ready(()),
                std::task::Poll::Pending => break,
            }
        }
        connection.poll_unpin(context).map(drop)
    })
    .await;
}

/// Agrees on a stream's protocol by multistream-select, in one go.
async fn negotiate(stream: &mut SubstreamBox, protocol: &str) {
    let line = |text: &str| [&[text.len() as u8 + 1], text.as_bytes(), b"\n"].concat();
    let lines = [line("/multistream/1.0.0"), line(protocol)].concat();
    stream.write_all(&lines).await.unwrap();
    stream.flush().await.unwrap();
    let mut echo = vec![0; lines.len()];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(echo, lines, "the member knows {protocol}");
}
