//! Byte streams: the way to one from a host name (name look-up, happy eyeballs, TCP options, TLS), those that come in
//! ([`listen`]), and those of somebody else's sockets ([`handover`], [`mod@pipe`]).
//!
//! [`connect`] runs the steps in order and knows no deadline of its own: the caller wraps the whole future in one, and
//! dropping the future closes every socket it had opened. What the steps cannot undo (a `getaddrinfo` call under way on
//! a helper thread) ends by itself, unobserved, and is bounded in number ([`resolve::MAX_LOOKUPS`]).

pub mod dial;
pub mod errno;
pub mod error;
#[cfg(unix)]
pub mod handover;
pub mod happy_eyeballs;
pub mod listen;
pub mod pipe;
mod recent;
pub mod resolve;
pub mod socket;
pub mod tcp;
pub mod tls;
pub mod transport;
mod turn;

pub use dial::{Connected, Dial, connect};
pub use error::{ConnectError, ListenError};
#[cfg(unix)]
pub use handover::take_over;
pub use listen::{AcceptedTcpOptions, Incoming, ListenOptions, Listener};
pub use pipe::{Pipe, PipeEnd, PipeOut, PipeOutlet, pipe};
pub use resolve::{ResolveCode, ResolveError};
pub use socket::Socket;
pub use tcp::{Family, TcpOptions};
pub use tls::{
    CertificateSource, Identity, KeySource, RenewalListener, Roots, Secret, ServerNameOption, ServerTlsOptions,
    TlsConfigError, TlsError, TlsFacts, TlsOptions, TlsVersion, Verify,
};
pub use transport::Transport;
pub use turn::{in_a_short_turn, reading_eagerly};
