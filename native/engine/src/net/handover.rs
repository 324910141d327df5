//! Connections that somebody else has opened: an Erlang port, for one.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use socket2::{SockAddr, Type};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use super::dial::Connected;
use super::socket::Socket;
use super::transport::Transport;

/// Standard input, output and error: programs take it that these are never anything else.
const FIRST_FREE: RawFd = 3;

/// Takes a connected TCP socket over, by a descriptor of our own for it, which programs started later do not inherit. The connection
/// stays open until both descriptors are closed.
///
/// The socket is non-blocking afterwards, through either descriptor. Whoever has the other may go on to use it for socket options, but
/// has to have stopped reading: what it has read is lost to us.
///
/// Has to run within a tokio runtime; elsewhere it is an error.
///
/// # Errors
/// The operating system's, with its errno. Sockets of other kinds are left as they are: `EPROTOTYPE` for one that carries no byte
/// stream, `ENOTCONN` for one that is not connected or listens, `EAFNOSUPPORT` for one that is neither IPv4 nor IPv6. Unix domain
/// sockets are among the last, as their ends have no address to report.
pub fn take_over(descriptor: RawFd) -> io::Result<Connected> {
    // Registering a socket outside of a runtime panics.
    Handle::try_current().map_err(io::Error::other)?;
    let socket = socket2::Socket::from(duplicate(descriptor)?);
    if socket.r#type()? != Type::STREAM {
        return Err(io::Error::from_raw_os_error(libc::EPROTOTYPE));
    }
    let internet = |address: SockAddr| {
        let address = address.as_socket();
        address.ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
    };
    let local = internet(socket.local_addr()?)?;
    let peer = internet(socket.peer_addr()?)?;
    socket.set_nonblocking(true)?;
    let stream = TcpStream::from_std(socket.into())?;
    Ok(Connected {
        transport: Transport::Tcp(Socket::new(stream, None)?),
        peer,
        local,
        tls: None,
    })
}

fn duplicate(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: touches no memory of ours. A number that is no open descriptor is EBADF.
    let own = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, FIRST_FREE) };
    if own < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the operating system has just made it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(own) })
}
