//! A connected TCP socket whose closing never holds up the thread that drops it.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::turn;

/// A connected TCP socket.
///
/// The operating system lets `close` wait for the linger time, on non-blocking sockets too. The dropping thread is a
/// runtime worker or an Erlang scheduler, so with such a linger time the last handle is closed on a thread of its own.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    close_waits: bool,
    /// What writing has failed with. The operating system tells why a connection broke once only, to whoever asks first; reading finds
    /// an end of file after that, which is not how the peer has ended it.
    broken: Option<i32>,
    /// Behind `stream`, as fields are dropped in this order: whichever handle is closed last waits.
    last: LastHandle,
}

impl Socket {
    /// Takes over a connected stream and sets its linger time.
    pub fn new(stream: TcpStream, linger: Option<Duration>) -> io::Result<Self> {
        if linger.is_some() {
            SockRef::from(&stream).set_linger(linger)?;
        }
        Ok(Self {
            stream,
            close_waits: linger.is_some_and(|time| !time.is_zero()),
            broken: None,
            last: LastHandle(None),
        })
    }

    /// The stream inside, for addresses and socket options.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        &self.stream
    }

    fn poll_read_socket(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if turn::is_over() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buf) {
            return Poll::Ready(read);
        }
        if !turn::is_eager() {
            return Poll::Pending;
        }
        let unfilled = buf.initialize_unfilled();
        match (&*SockRef::from(&self.stream)).read(unfilled) {
            Ok(n) => {
                buf.advance(n);
                Poll::Ready(Ok(()))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Err(error)) = &written
            // A broken pipe means that the peer's end of file had come before.
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            self.broken = error.raw_os_error();
        }
        written
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.close_waits {
            // When it cannot be made, waiting here is all that is left of what the caller asked for.
            self.last.0 = SockRef::from(&self.stream).try_clone().ok();
        }
    }
}

/// A second handle of a socket, which keeps the connection open while the first is closed.
#[derive(Debug)]
struct LastHandle(Option<socket2::Socket>);

impl Drop for LastHandle {
    fn drop(&mut self) {
        if let Some(last) = self.0.take() {
            let closer = std::thread::Builder::new().name("hackney-linger".into());
            // Without a thread the closure, and the handle in it, is dropped here.
            let _ = closer.spawn(move || drop(last));
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (before, room) = (buf.filled().len(), buf.remaining());
        let read = self.poll_read_socket(cx, buf);
        match (&read, self.broken) {
            (Poll::Ready(Ok(())), Some(code)) if room > 0 && buf.filled().len() == before => {
                Poll::Ready(Err(io::Error::from_raw_os_error(code)))
            }
            _ => read,
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::turn::{SHORT_TURN, in_a_short_turn};
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};
    use std::time::Instant;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_short_turn_ends_however_much_there_is_to_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        far.unwrap().0.write_all(&[7; 10_000]).await.unwrap();
        let mut socket = Socket::new(near.unwrap(), None).unwrap();
        socket.tcp().readable().await.unwrap();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut read = || {
            let mut buf = [0; 100];
            let mut buf = ReadBuf::new(&mut buf);
            Pin::new(&mut socket)
                .poll_read(&mut Context::from_waker(&waker), &mut buf)
                .is_ready()
        };
        in_a_short_turn(|| {
            assert!(read());
            let began = Instant::now();
            while began.elapsed() < SHORT_TURN {
                std::hint::spin_loop();
            }
            assert!(!read());
            assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        });
        assert!(read());
    }
}
