//! Connections that come in: a listening socket, and the way from an accepted one to a transport.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Type};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::dial::Connected;
use super::error::{ConnectError, ListenError};
use super::socket::Socket;
use super::tls::server::{Acceptor, ServerHandshake};
use super::tls::{RenewalListener, ServerTlsOptions};
use super::transport::Transport;

/// How long accepting pauses when the process or the machine is out of something, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(320));

/// Where to listen, and how. [`ListenOptions::new`] has the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenOptions {
    /// Address and port; port 0 is any that is free.
    pub address: SocketAddr,
    /// How many connections may wait to be accepted. 1024 by default; the operating system has a bound of its own
    /// (Linux: `net.core.somaxconn`).
    pub backlog: u32,
    /// Whether an IPv6 address takes IPv6 only. Off by default: `::` takes IPv4 as well, whose peers then have IPv4-mapped
    /// addresses.
    pub v6_only: bool,
    /// TLS options; `None` is cleartext.
    pub tls: Option<ServerTlsOptions>,
    /// TCP options of accepted connections.
    pub tcp: AcceptedTcpOptions,
}

impl ListenOptions {
    /// The defaults, for cleartext at this address.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            backlog: 1024,
            v6_only: false,
            tls: None,
            tcp: AcceptedTcpOptions::default(),
        }
    }
}

/// TCP options of accepted connections. Sizes left at `None` are the operating system's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedTcpOptions {
    /// `TCP_NODELAY`; on by default, as in [`TcpOptions`](super::TcpOptions::nodelay).
    pub nodelay: bool,
    /// `SO_KEEPALIVE`, with the operating system's times. Off by default.
    pub keepalive: bool,
    /// `SO_RCVBUF`.
    pub recv_buffer: Option<u32>,
    /// `SO_SNDBUF`.
    pub send_buffer: Option<u32>,
}

impl Default for AcceptedTcpOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: false,
            recv_buffer: None,
            send_buffer: None,
        }
    }
}

/// A listening socket. Dropping it closes it, and resets the connections that were not accepted yet.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Acceptor>,
}

impl Listener {
    /// Reads what the TLS options name, then binds and listens. Has to run within a tokio runtime.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub async fn bind(options: &ListenOptions) -> Result<Self, ListenError> {
        let tls = match &options.tls {
            Some(options) => Some(Acceptor::prepare(options).await?),
            None => None,
        };
        let listener = open(options).map_err(ListenError::Tcp)?;
        let address = listener.local_addr().map_err(ListenError::Tcp)?;
        Ok(Self { listener, address, tls })
    }

    /// Has `listener` told when the files that the TLS options name have changed, which are read again as connections come in. The first
    /// one counts; without TLS nobody is told of anything.
    pub fn tell_of_renewal(&self, listener: RenewalListener) {
        if let Some(tls) = &self.tls {
            tls.tell(listener);
        }
    }

    /// The address it listens at, with the port that the operating system chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next connection.
    ///
    /// Does not end without one. When the process has no descriptor left, or the machine no memory, the connection stays in the
    /// operating system's queue and is tried again after a pause. Dropping the future loses no connection.
    pub async fn accept(&self) -> Incoming {
        let (mut pause, longest) = PAUSE;
        loop {
            let accepted = match self.listener.accept().await {
                Ok((stream, peer)) => Socket::new(stream, None).map(|socket| (socket, peer)),
                Err(error) => Err(error),
            };
            match accepted {
                Ok((socket, peer)) => {
                    return Incoming {
                        socket,
                        peer,
                        tls: self.tls.as_ref().map(Acceptor::handshake),
                    };
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => {
                    sleep(pause).await;
                    pause = (2 * pause).min(longest);
                }
            }
        }
    }
}

/// Opens the socket. Options of accepted connections are set on it: they inherit them, which spares each a few system calls, and
/// buffer sizes set any later do not count for the window scale in the SYN's answer.
fn open(options: &ListenOptions) -> io::Result<TcpListener> {
    let domain = Domain::for_address(options.address);
    // Not inherited by programs that the process starts.
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Elsewhere it would let others take the port away.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if options.address.is_ipv6() {
        socket.set_only_v6(options.v6_only)?;
    }
    let AcceptedTcpOptions {
        nodelay,
        keepalive,
        recv_buffer,
        send_buffer,
    } = options.tcp;
    socket.set_tcp_nodelay(nodelay)?;
    socket.set_keepalive(keepalive)?;
    if let Some(size) = recv_buffer {
        socket.set_recv_buffer_size(size as usize)?;
    }
    if let Some(size) = send_buffer {
        socket.set_send_buffer_size(size as usize)?;
    }
    socket.bind(&options.address.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// Whether accepting failed because of the connection that was to be accepted, which is gone then: the next may be fine. Every other
/// error is met again at once, so that trying again at once would keep a processor busy.
fn is_of_one_connection(error: &io::Error) -> bool {
    #[cfg(unix)]
    if let Some(errno) = error.raw_os_error() {
        // Linux passes network errors that are pending on the new connection on (accept(2)), and a firewall's refusal (EPERM).
        return matches!(
            errno,
            libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::EINTR
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::ENOPROTOOPT
                | libc::EPERM
                | libc::EPROTO
                | libc::ETIMEDOUT
        );
    }
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// A connection that was accepted, and has not been spoken on yet.
#[derive(Debug)]
pub struct Incoming {
    socket: Socket,
    peer: SocketAddr,
    tls: Option<ServerHandshake>,
}

impl Incoming {
    /// The peer's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Runs the TLS handshake, if the listener has TLS, in which ALPN has to agree on `"h2"`.
    ///
    /// Sets no deadline, and a client need not say anything: wrap it in one. Dropping the future closes the socket. Run it beside
    /// accepting, not in turn with it.
    ///
    /// # Errors
    /// See [`ConnectError`]; those of name look-up and options do not come from here.
    pub async fn greet(self) -> Result<Connected, ConnectError> {
        let Self { socket, peer, tls } = self;
        let local = socket.tcp().local_addr().map_err(ConnectError::Tcp)?;
        let (transport, tls) = match tls {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn what_would_be_met_again_at_once_is_waited_for() {
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::EBADF] {
            assert!(!is_of_one_connection(&io::Error::from_raw_os_error(errno)));
        }
        for errno in [libc::ECONNABORTED, libc::EPROTO, libc::EINTR] {
            assert!(is_of_one_connection(&io::Error::from_raw_os_error(errno)));
        }
    }
}
