//! The byte stream that HTTP runs on: cleartext or TLS behind one type.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::socket::Socket;
use super::tls::error::AtServer;

/// A connected byte stream.
#[derive(Debug)]
pub enum Transport {
    /// Cleartext.
    Tcp(Socket),
    /// TLS, on either side. Boxed: the session's state is large, and the enum is moved about.
    Tls(Box<TlsStream<Socket>>),
}

impl Transport {
    /// The TCP stream at the bottom, for addresses and socket options. Reading or writing it directly breaks TLS.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(socket) => socket.tcp(),
            Self::Tls(stream) => stream.get_ref().0.tcp(),
        }
    }
}

/// Runs the same call on whichever stream is inside.
macro_rules! delegate {
    ($transport:expr, $stream:ident => $call:expr) => {
        match $transport.get_mut() {
            Transport::Tcp(socket) => {
                let $stream = Pin::new(socket);
                $call
            }
            Transport::Tls(tls) => match tls.as_mut() {
                TlsStream::Client(tls) => {
                    let $stream = Pin::new(tls);
                    $call
                }
                TlsStream::Server(tls) => {
                    let $stream = Pin::new(tls);
                    $call.map_err(AtServer::mark)
                }
            },
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(socket) => socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_shutdown(cx))
    }
}
