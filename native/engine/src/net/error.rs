//! Why a connection could not be made, and why nobody can connect to us.

use std::io;

use super::resolve::ResolveError;
use super::tls::{TlsConfigError, TlsError};

/// Everything that ends [`connect`](super::connect), or [`greet`](super::Incoming::greet) on the other side, without a
/// connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host name could not be turned into an address.
    #[error("name look-up: {0}")]
    Resolve(#[from] ResolveError),
    /// No address could be reached, or a socket option was refused. Keeps the operating system's errno; see
    /// [`errno::name`](super::errno::name) for its POSIX name.
    #[error("TCP: {0}")]
    Tcp(#[source] io::Error),
    /// An option of the TLS configuration is at fault; nothing was sent.
    #[error(transparent)]
    Config(#[from] TlsConfigError),
    /// The TLS handshake failed, and one side said why with an alert.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The peer closed the connection in an orderly way before the handshake was complete, without an alert.
    #[error("the peer closed the connection during the TLS handshake")]
    HandshakeClosed,
    /// The connection broke during the handshake (reset, timed out, ...), without an alert. Keeps the errno.
    #[error("connection lost during the TLS handshake: {0}")]
    HandshakeIo(#[source] io::Error),
    /// The handshake worked, but ALPN did not agree on the wanted protocol. Holds what was agreed on instead; `None`
    /// when the peer chose nothing or refused every offer with the alert `no_application_protocol`.
    #[error("ALPN agreed on {} instead of the wanted protocol", protocol_text(.0.as_deref()))]
    ProtocolNotNegotiated(Option<Vec<u8>>),
}

/// Everything that ends [`bind`](super::Listener::bind) without a listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An option of the TLS configuration is at fault; no socket was opened.
    #[error(transparent)]
    Config(#[from] TlsConfigError),
    /// The address cannot be listened on, or a socket option was refused. Keeps the operating system's errno; see
    /// [`errno::name`](super::errno::name) for its POSIX name.
    #[error("TCP: {0}")]
    Tcp(#[source] io::Error),
}

fn protocol_text(protocol: Option<&[u8]>) -> String {
    protocol.map_or_else(|| "nothing".to_owned(), |name| format!("\"{}\"", name.escape_ascii()))
}
