//! From a host name to a connected transport.

use std::net::SocketAddr;

use super::error::ConnectError;
use super::happy_eyeballs;
use super::resolve;
use super::socket::Socket;
use super::tcp::TcpOptions;
use super::tls::{Handshake, TlsFacts, TlsOptions};
use super::transport::Transport;

/// Where to connect, and how.
#[derive(Debug, Clone)]
pub struct Dial {
    /// DNS name or IP literal; IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TCP options.
    pub tcp: TcpOptions,
    /// TLS options; `None` is cleartext.
    pub tls: Option<TlsOptions>,
}

/// A connection, and what is known about it.
#[derive(Debug)]
pub struct Connected {
    /// The byte stream.
    pub transport: Transport,
    /// The peer's address: of those the name resolved to, or the one it came from.
    pub peer: SocketAddr,
    /// Our own address.
    pub local: SocketAddr,
    /// What the handshake agreed on; `None` for cleartext.
    pub tls: Option<TlsFacts>,
}

/// Connects: TLS configuration, name look-up, TCP race, TLS handshake, in this order, so that a faulty option is
/// reported before anything is sent.
///
/// Sets no deadline; wrap it in one. Dropping the future closes every socket it holds.
pub async fn connect(dial: &Dial) -> Result<Connected, ConnectError> {
    let handshake = match &dial.tls {
        Some(options) => Some(Handshake::prepare(&dial.host, dial.port, options).await?),
        None => None,
    };
    let addresses = resolve::resolve(&dial.host, dial.port, dial.tcp.family).await?;
    let stream = happy_eyeballs::connect(&addresses, &dial.tcp)
        .await
        .map_err(ConnectError::Tcp)?;
    let peer = stream.peer_addr().map_err(ConnectError::Tcp)?;
    let local = stream.local_addr().map_err(ConnectError::Tcp)?;
    let socket = Socket::new(stream, dial.tcp.linger).map_err(ConnectError::Tcp)?;
    let (transport, tls) = match handshake {
        None => (Transport::Tcp(socket), None),
        Some(handshake) => {
            let (stream, facts) = handshake.run(socket).await?;
            (Transport::Tls(Box::new(stream.into())), Some(facts))
        }
    };
    Ok(Connected {
        transport,
        peer,
        local,
        tls,
    })
}
