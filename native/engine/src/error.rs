//! What can go wrong, one enum per operation.

use crate::message::Mode;
use crate::net::ConnectError;

/// Why a stream is over, other than by the peer's regular end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// The peer sent RST_STREAM with this code, or broke a stream's rules so that we did.
    #[error("stream reset, code {0}")]
    Reset(u32),
    /// The peer sent GOAWAY with this code and does not serve this stream.
    #[error("peer is going away, code {0}")]
    GoAway(u32),
    /// The peer has not looked at the request, and will not: a GOAWAY leaves it out, or came before it was sent. On a connection that
    /// streams share.
    #[error("the peer has not processed the request")]
    Unprocessed,
    /// The connection was closed in an orderly way, by the peer or by us.
    #[error("closed")]
    Closed,
    /// The connection broke.
    #[error("connection lost: {0}")]
    Lost(Loss),
    /// The peer sent more than its window allowed, or the receive buffer's bound was passed.
    #[error("receive buffer overflow")]
    RecvBufferOverflow,
    /// A bug of ours, caught.
    #[error("panic: {0}")]
    Panic(String),
}

/// How a connection broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// An operating system error number.
    #[error("os error {0}")]
    Os(i32),
    /// The end of the byte stream in the middle of a frame.
    #[error("the peer closed the connection in the middle of a frame")]
    TruncatedFrame,
    /// The peer of a server did not begin as a client of HTTP/2 does (RFC 9113, 3.4).
    #[error("no HTTP/2 client")]
    InvalidPreface,
    /// No answer to a PING in time.
    #[error("the peer did not answer a PING")]
    PingTimeout,
    /// A TLS alert after the handshake: Erlang's name of it and a sentence.
    #[error("TLS alert {0}: {1}")]
    TlsAlert(&'static str, String),
    /// The peer broke HTTP/2's rules; we ended the connection with this code (RFC 9113, 7).
    #[error("the peer broke the protocol, code {0}")]
    Protocol(u32),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Look-up, TCP or TLS failed.
    #[error(transparent)]
    Connect(ConnectError),
    /// The deadline passed.
    #[error("connect timeout")]
    Timeout,
    /// The connection stood, but the stream ended before it was open.
    #[error(transparent)]
    Ended(EndReason),
    /// There is no place for it on the connection, and it is not to wait for one.
    #[error("no place")]
    Full,
    /// A connect is under way or done already.
    #[error("already connected")]
    Already,
    /// The request itself cannot be sent over HTTP/2, in words.
    #[error("bad request: {0}")]
    Request(String),
}

/// Why `send` or `send_trailers` took nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Not opened yet.
    #[error("not connected")]
    NotConnected,
    /// The send buffer has no room for it. Carries the stream's own `send_timeout` in milliseconds: 0 not to wait, `None` for ever.
    #[error("send buffer full")]
    Full(Option<u64>),
    /// A response has to be given first.
    #[error("no response yet")]
    NoResponse,
    /// The response has been given.
    #[error("the response was given already")]
    Responded,
    /// Our side is closed already by `fin` or trailers.
    #[error("stream closed")]
    StreamClosed,
    /// The stream is over.
    #[error("closed")]
    Closed,
}

/// Why `recv` has no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// Not opened yet.
    #[error("not connected")]
    NotConnected,
    /// Messages go to the owner.
    #[error("active mode")]
    ActiveMode(Mode),
    /// Another reader waits: its identity.
    #[error("another reader waits")]
    Busy(u64),
    /// Nothing is left: the stream ended like this.
    #[error(transparent)]
    Ended(EndReason),
}

/// Why `consume` did nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumeError {
    /// Not opened yet.
    #[error("not connected")]
    NotConnected,
    /// More than was received and not yet given back: so many bytes are outstanding.
    #[error("only {0} bytes are outstanding")]
    TooMuch(usize),
}

/// Why the delivery mode was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModeError {
    /// Not opened yet.
    #[error("not connected")]
    NotConnected,
    /// A count above 32,767, `inet`'s own bound.
    #[error("count out of range")]
    OutOfRange,
    /// The stream is over and its end told: the mode changes nothing any more.
    #[error("closed")]
    Closed,
}
