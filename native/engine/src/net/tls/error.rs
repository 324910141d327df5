//! TLS errors: which side raised one, its alert, and a sentence about why.

use std::fmt;
use std::io;

use rustls::{AlertDescription, Error};

use super::alert;

/// A TLS failure that one side announced, or would announce, with an alert.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsError {
    /// The peer sent a fatal alert.
    #[error("{}", .0.text())]
    Peer(PeerAlert),
    /// We refused what the peer sent, most often its certificate.
    #[error("{}", .0.text())]
    Local(LocalFailure),
}

/// A fatal alert from the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAlert {
    pub(super) description: AlertDescription,
    pub(super) side: Side,
}

/// A failure found on our side.
#[derive(Debug, Clone)]
pub struct LocalFailure {
    pub(super) error: Error,
    pub(super) side: Side,
}

/// Which side of the connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// A TLS error of a connection on which we are the server. Streams know that; who is handed their errors need not.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(in crate::net) struct AtServer(Error);

impl AtServer {
    /// Marks the TLS error inside an I/O error, if there is one.
    pub(in crate::net) fn mark(error: io::Error) -> io::Error {
        let kind = error.kind();
        match error.downcast::<Error>() {
            Ok(tls) => io::Error::new(kind, Self(tls)),
            Err(other) => other,
        }
    }
}

impl TlsError {
    /// The TLS error inside an I/O error of a TLS stream, if there is one.
    ///
    /// Needed after the handshake, too: in TLS 1.3 the client is done before the server has looked at the client's
    /// certificate, so an alert such as `certificate_required` arrives with the first read (RFC 8446 section 4.4.2.4).
    #[must_use]
    pub fn from_io(error: &io::Error) -> Option<Self> {
        let inner = error.get_ref()?;
        match inner.downcast_ref() {
            Some(AtServer(error)) => Some(Self::of(error, Side::Server)),
            None => Some(Self::of(inner.downcast_ref()?, Side::Client)),
        }
    }

    fn of(error: &Error, side: Side) -> Self {
        match *error {
            Error::AlertReceived(description) => Self::Peer(PeerAlert { description, side }),
            ref other => Self::Local(LocalFailure {
                error: other.clone(),
                side,
            }),
        }
    }

    /// The alert's name as Erlang's `ssl` writes it. `hostname_check_failed` stands for a certificate that does not
    /// hold the wanted name; there is no such alert on the wire.
    #[must_use]
    pub fn alert(&self) -> &'static str {
        match self {
            Self::Peer(alert) => alert::name(alert.description),
            Self::Local(failure) => alert::of_error(&failure.error, failure.side),
        }
    }

    /// A sentence that says which side raised the alert, and why.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Peer(alert) => alert.text(),
            Self::Local(failure) => failure.text(),
        }
    }
}

/// An option of the TLS configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfigError {
    /// The option at fault, by its name in Erlang's `ssl`: `"cacertfile"`, `"key"`, ...
    pub option: &'static str,
    /// What is wrong with it.
    pub text: String,
}

impl TlsConfigError {
    pub(super) fn new(option: &'static str, text: impl Into<String>) -> Self {
        Self {
            option,
            text: text.into(),
        }
    }
}

impl fmt::Display for TlsConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS option {}: {}", self.option, self.text)
    }
}

impl std::error::Error for TlsConfigError {}
