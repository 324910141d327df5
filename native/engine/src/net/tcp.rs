//! TCP options, and one connection attempt to one address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use super::errno;
use super::happy_eyeballs::ATTEMPT_DELAY;

/// Which address families may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Family {
    /// Both, in the resolver's order.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl Family {
    /// Whether an address of this family may be used.
    #[must_use]
    pub fn admits(self, address: &SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// Options of the TCP connection. Sizes and times left at `None` are the operating system's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpOptions {
    /// `TCP_NODELAY`. On by default: HTTP/2 writes whole frames, and Nagle's algorithm holds the last of them back for
    /// a peer's delayed acknowledgement (40 ms).
    pub nodelay: bool,
    /// `SO_KEEPALIVE`, with the operating system's times. Off by default.
    pub keepalive: bool,
    /// Which address families may be used.
    pub family: Family,
    /// Local address to connect from. Only peers of its family are tried then.
    pub local_address: Option<IpAddr>,
    /// Local port to connect from. Set with `SO_REUSEADDR` on Unix, as several attempts may be under way at once.
    pub local_port: Option<u16>,
    /// `SO_RCVBUF`. Set before connecting, since it decides the window scale that the SYN announces.
    pub recv_buffer: Option<u32>,
    /// `SO_SNDBUF`.
    pub send_buffer: Option<u32>,
    /// `SO_LINGER`: zero resets the connection when it is closed; a longer time lets closing wait, on a thread of its
    /// own, until what was written is acknowledged.
    pub linger: Option<Duration>,
    /// How long an attempt may go unanswered before the next address is tried beside it.
    pub attempt_delay: Duration,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: false,
            family: Family::Any,
            local_address: None,
            local_port: None,
            recv_buffer: None,
            send_buffer: None,
            linger: None,
            attempt_delay: ATTEMPT_DELAY,
        }
    }
}

impl TcpOptions {
    /// Whether the options allow connecting to `address` at all.
    pub(super) fn admits(&self, address: &SocketAddr) -> bool {
        self.family.admits(address)
            && self
                .local_address
                .is_none_or(|local| local.is_ipv4() == address.is_ipv4())
    }

    fn local(&self, peer: &SocketAddr) -> Option<SocketAddr> {
        if self.local_address.is_none() && self.local_port.is_none() {
            return None;
        }
        let ip = self.local_address.unwrap_or(if peer.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        });
        Some(SocketAddr::new(ip, self.local_port.unwrap_or(0)))
    }
}

/// Connects to one address. Dropping the future closes the socket.
///
/// `linger` is not set here: an attempt that loses the race must close at once.
pub(super) async fn attempt(peer: SocketAddr, options: &TcpOptions) -> io::Result<TcpStream> {
    let socket = if peer.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if options.nodelay {
        socket.set_nodelay(true)?;
    }
    if options.keepalive {
        socket.set_keepalive(true)?;
    }
    if let Some(size) = options.recv_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    if let Some(size) = options.send_buffer {
        socket.set_send_buffer_size(size)?;
    }
    if let Some(local) = options.local(&peer) {
        #[cfg(unix)]
        if options.local_port.is_some() {
            socket.set_reuseaddr(true)?;
        }
        socket.bind(local)?;
    }
    let stream = socket.connect(peer).await?;
    // A loopback port in the ephemeral range where nobody listens can be handed to the very socket that connects to it,
    // and TCP's simultaneous open then connects the socket to itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(errno::connection_refused());
    }
    Ok(stream)
}
