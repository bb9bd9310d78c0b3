//! One message as its lane carries it.

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::limits;

/// What a message is for. Open: further kinds get further numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum MessageKind {
    /// Published by a host; takes a position.
    #[n(0)]
    Application,
    /// A membership command, see [`super::command`]; takes a position where it has an effect.
    #[n(1)]
    Command,
}

/// One message. Its identity (member, incarnation, number) follows from the batch that carries it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Message {
    /// What it is for.
    #[n(0)]
    pub kind: MessageKind,
    /// Topic, at most [`limits::TOPIC_BYTES_MAX`] bytes, never empty.
    #[n(1)]
    pub topic: String,
    /// Content type as the host declared it; none means `application/octet-stream`.
    #[n(2)]
    pub content_type: Option<String>,
    /// The body as published.
    #[cbor(n(3), with = "bytes_field")]
    pub body: Bytes,
}

impl Message {
    /// Bytes this message may take in a batch, at most.
    pub fn weight(&self) -> u64 {
        self.body.len() as u64 + limits::MESSAGE_OVERHEAD_BYTES
    }
}

/// How a [`Bytes`] stands in CBOR: as a byte string.
pub mod bytes_field {
    use bytes::Bytes;
    use minicbor::{Decoder, Encoder, decode::Error as DecodeError, encode::Error as EncodeError, encode::Write};

    /// Writes the byte string.
    pub fn encode<C, W: Write>(
        bytes: &Bytes,
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        encoder.bytes(bytes)?.ok()
    }

    /// Reads one definite byte string.
    pub fn decode<C>(decoder: &mut Decoder<'_>, _: &mut C) -> Result<Bytes, DecodeError> {
        decoder.bytes().map(Bytes::copy_from_slice)
    }
}
