//! What a stream hands to its reader.

use bytes::Bytes;
use http::HeaderMap;

/// One inbound message of a stream, in the order received.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// A 1xx response, only when the stream asked for them.
    Informational(u16, HeaderMap),
    /// The final response's status and header fields.
    Response(u16, HeaderMap),
    /// Body bytes, never empty, at most [`MAX_DATA`] long.
    Data(Bytes),
    /// Trailing header fields.
    Trailers(HeaderMap),
    /// The peer ended its side. Nothing follows.
    Done,
}

/// The longest `Data` handed out in one piece. Longer DATA frames are cut, so that copying one into an Erlang binary stays far
/// below a millisecond however large a frame size was negotiated.
pub const MAX_DATA: usize = 64 * 1024;

impl Message {
    /// Body bytes in this message: what flow control counts (RFC 9113, 6.9).
    pub fn body_len(&self) -> usize {
        match self {
            Message::Data(bytes) => bytes.len(),
            _ => 0,
        }
    }

    /// Header fields in this message.
    pub(crate) fn fields(&self) -> usize {
        match self {
            Message::Informational(_, fields) | Message::Response(_, fields) | Message::Trailers(fields) => {
                fields.len()
            }
            Message::Data(_) | Message::Done => 0,
        }
    }
}

/// How messages reach the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Queued until somebody calls `recv`.
    Passive,
    /// Posted as they come.
    Active,
    /// One is posted, then passive.
    Once,
    /// So many are posted, then passive, and the owner is told.
    Count(u16),
}

/// What is posted to the owner of a stream in an active mode.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// An inbound message.
    Message(Message),
    /// The last body bytes, perhaps none: the peer has ended its side. Of streams whose sides end each for itself.
    Last(bytes::Bytes),
    /// The stream ended with an error. The last notice of a stream.
    Error(crate::error::EndReason),
    /// The connection was closed in an orderly way before the peer ended the stream. The last notice of a stream.
    Closed,
    /// `Mode::Count` has run out: the stream is passive now.
    Passive,
}

impl Notice {
    /// Body bytes in it.
    pub(crate) fn body_len(&self) -> usize {
        match self {
            Notice::Message(message) => message.body_len(),
            Notice::Last(data) => data.len(),
            Notice::Error(_) | Notice::Closed | Notice::Passive => 0,
        }
    }
}
