//! A tap on the byte stream between the h2 crate and the socket.
//!
//! It reads what the h2 crate does not tell (the peer's SETTINGS, GOAWAY's last stream, how the stream of bytes ended), counts,
//! and puts a bound on what one round of driving may read or write: a NIF call must not work longer than a millisecond. It ends
//! the connection of a peer that floods it with frames that the h2 crate takes for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::budget::{Budget, Spent};
use super::facts::{Ending, Facts};
use super::frame_scanner::{self, FrameScanner};
use crate::error::Loss;
use crate::net::{self, TlsError};

/// The client connection preface (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PREFACE_LEN: usize = PREFACE.len();
/// What is read at most of a peer that speaks something else, an HTTP/1.1 request for one.
const MAX_BABBLE: usize = 64 * 1024;
/// RFC 9113, 7.
const ENHANCE_YOUR_CALM: u32 = 0xb;

/// A frame is as much work as so many bytes of a long one, half a microsecond: a round of nothing but tiny frames would take
/// a hundred times as long.
const FRAME_WORK: usize = 1024;

/// What may still be moved before others get their turn. Shared by the driver, which fills it, and the tap, which draws on it.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    read: AtomicUsize,
    write: AtomicUsize,
}

impl Allowance {
    pub(crate) fn set(&self, (read, write): (usize, usize)) {
        self.read.store(read, Relaxed);
        self.write.store(write, Relaxed);
    }
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Tap<S> {
    stream: S,
    facts: Arc<Facts>,
    allowance: Arc<Allowance>,
    inbound: FrameScanner,
    outbound: FrameScanner,
    budget: Budget,
    /// What the peer has still to say of its preface.
    unsaid: &'static [u8],
    /// The peer has spent its budget: nothing more is read.
    flooded: bool,
    /// Why nothing can be written any more, see [`Tap::write_failed`].
    write_error: Option<io::Error>,
}

impl<S> Tap<S> {
    /// For a client's side.
    pub(crate) fn new(stream: S, facts: Arc<Facts>, allowance: Arc<Allowance>) -> Self {
        Tap::with(stream, facts, allowance, (0, PREFACE_LEN), Budget::new(Instant::now()))
    }

    /// For a server's side.
    pub(crate) fn of_server(stream: S, facts: Arc<Facts>, allowance: Arc<Allowance>) -> Self {
        Tap::with(
            stream,
            facts,
            allowance,
            (PREFACE_LEN, 0),
            Budget::of_server(Instant::now()),
        )
    }

    fn with(
        stream: S,
        facts: Arc<Facts>,
        allowance: Arc<Allowance>,
        (inbound, outbound): (usize, usize),
        budget: Budget,
    ) -> Self {
        Tap {
            stream,
            facts,
            allowance,
            inbound: FrameScanner::new(inbound),
            outbound: FrameScanner::new(outbound),
            unsaid: &PREFACE[..inbound],
            budget,
            flooded: false,
            write_error: None,
        }
    }

    fn wrote(&mut self, mut n: usize, bufs: &[IoSlice<'_>]) {
        draw(&self.allowance.write, n);
        self.facts.bytes_out.fetch_add(n as u64, Relaxed);
        for buf in bufs {
            let part = n.min(buf.len());
            self.outbound.scan(&buf[..part], |frame| {
                self.facts.sent(&frame);
                self.flooded |= self.budget.sent(&frame, Instant::now) == Err(Spent);
            });
            n -= part;
            if n == 0 {
                break;
            }
        }
    }

    /// A peer that hangs up often says why first: a response that needs no more of the request, a TLS alert. It lies in the socket
    /// yet when writing fails, and h2 would not read it any more. So what is written from then on goes nowhere, h2 reads what is
    /// left, and the failure is told when there is nothing more to read and no end either.
    fn write_failed(&mut self, cx: &Context<'_>, error: io::Error) {
        self.write_error.get_or_insert(error);
        cx.waker().wake_by_ref();
    }
}

impl<S: AsyncWrite + Unpin> Tap<S> {
    /// Says GOAWAY if it can be said at once, and ends the connection: h2 has no way to be told to. A peer that does not read, so
    /// that something else is still half written, is not waited for.
    fn hang_up_on_a_flood(&mut self, cx: &mut Context<'_>) -> io::Error {
        self.facts.end(Ending::Broken(Loss::Protocol(ENHANCE_YOUR_CALM)));
        if self.outbound.at_boundary() && self.write_error.is_none() {
            let goaway = frame_scanner::goaway(ENHANCE_YOUR_CALM);
            let mut stream = Pin::new(&mut self.stream);
            if let Poll::Ready(Ok(_)) = stream.as_mut().poll_write(cx, &goaway)
                && stream.as_mut().poll_flush(cx).is_ready()
            {
                let _ = stream.poll_shutdown(cx);
            }
        }
        io::Error::other("the peer floods the connection")
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tap<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.flooded {
            return Poll::Ready(Err(this.hang_up_on_a_flood(cx)));
        }
        if spent(&this.allowance.read, cx) {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let stream = &mut this.stream;
        let read = match &this.write_error {
            None => Pin::new(stream).poll_read(cx, buf),
            // Whether anything is left is asked of the socket itself: tokio may not know of it yet.
            Some(_) => net::reading_eagerly(|| Pin::new(stream).poll_read(cx, buf)),
        };
        match read {
            Poll::Ready(Ok(())) => {
                let new = &buf.filled()[before..];
                if !this.unsaid.is_empty() && !begins_right(&mut this.unsaid, new) {
                    pass_over(Pin::new(&mut this.stream), cx);
                }
                if new.is_empty() && buf.remaining() > 0 {
                    let whole = this.inbound.at_boundary();
                    this.facts.end(if whole {
                        Ending::Orderly
                    } else {
                        Ending::Broken(Loss::TruncatedFrame)
                    });
                }
                this.facts.bytes_in.fetch_add(new.len() as u64, Relaxed);
                let mut work = new.len();
                this.inbound.scan(new, |frame| {
                    work += FRAME_WORK;
                    this.facts.received(&frame);
                    // What came ahead of the flood in the same piece is still passed on.
                    this.flooded |= this.budget.received(&frame, Instant::now) == Err(Spent);
                });
                draw(&this.allowance.read, work);
                Poll::Ready(Ok(()))
            }
            // Many peers close TCP without TLS's close_notify. HTTP/2 marks the end of every message itself (END_STREAM), so
            // nothing can be cut off unnoticed, and the end of file counts as such (RFC 9113, 9.2 asks for no close_notify).
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof && this.inbound.at_boundary() => {
                this.facts.end(Ending::Orderly);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                this.facts.end(Ending::Broken(loss(&error)));
                Poll::Ready(Err(error))
            }
            Poll::Pending => match this.write_error.take() {
                Some(error) => {
                    this.facts.end(Ending::Broken(loss(&error)));
                    Poll::Ready(Err(error))
                }
                None => Poll::Pending,
            },
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if spent(&this.allowance.write, cx) {
            return Poll::Pending;
        }
        match Pin::new(&mut this.stream).poll_write(cx, buf) {
            Poll::Ready(Ok(n)) => {
                this.wrote(n, &[IoSlice::new(buf)]);
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(error)) => {
                this.write_failed(cx, error);
                Poll::Ready(Ok(buf.len()))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if spent(&this.allowance.write, cx) {
            return Poll::Pending;
        }
        match Pin::new(&mut this.stream).poll_write_vectored(cx, bufs) {
            Poll::Ready(Ok(n)) => {
                this.wrote(n, bufs);
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(error)) => {
                this.write_failed(cx, error);
                Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Err(error)) => {
                self.write_failed(cx, error);
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Whether `new` goes on with what is to be said, which becomes what is left to say.
fn begins_right(unsaid: &mut &'static [u8], new: &[u8]) -> bool {
    let n = unsaid.len().min(new.len());
    let (said, rest) = unsaid.split_at(n);
    *unsaid = rest;
    said == &new[..n]
}

/// Reads what has come, and leaves it. h2 hangs up on a peer whose preface is wrong, and what lies unread by then makes the operating
/// system reset the connection, which looks like a failure where it is an answer.
fn pass_over<S: AsyncRead>(mut stream: Pin<&mut S>, cx: &mut Context<'_>) {
    let mut babble = [0; 4096];
    for _ in 0..MAX_BABBLE / babble.len() {
        let mut buf = ReadBuf::new(&mut babble);
        match stream.as_mut().poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
            _ => return,
        }
    }
}

/// True when the round's allowance is used up. Then the task is woken, so that another round follows.
fn spent(allowance: &AtomicUsize, cx: &Context<'_>) -> bool {
    let spent = allowance.load(Relaxed) == 0;
    if spent {
        cx.waker().wake_by_ref();
    }
    spent
}

fn draw(allowance: &AtomicUsize, n: usize) {
    allowance.store(allowance.load(Relaxed).saturating_sub(n), Relaxed);
}

fn loss(error: &io::Error) -> Loss {
    if let Some(code) = error.raw_os_error() {
        Loss::Os(code)
    } else if let Some(tls) = TlsError::from_io(error) {
        Loss::TlsAlert(tls.alert(), tls.text())
    } else if error.kind() == io::ErrorKind::UnexpectedEof {
        Loss::TruncatedFrame
    } else {
        Loss::Other(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    fn tap<S>(stream: S) -> (Tap<S>, Arc<Facts>, Arc<Allowance>) {
        let (facts, allowance) = (Arc::new(Facts::new()), Arc::new(Allowance::default()));
        allowance.set((usize::MAX, usize::MAX));
        (Tap::new(stream, facts.clone(), allowance.clone()), facts, allowance)
    }

    #[tokio::test]
    async fn sees_settings_goaway_and_an_orderly_end() {
        let (near, mut far) = duplex(1024);
        let (mut tap, facts, _) = tap(near);
        far.write_all(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0])
            .await
            .unwrap();
        far.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 11])
            .await
            .unwrap();
        drop(far);
        let mut all = Vec::new();
        tap.read_to_end(&mut all).await.unwrap();
        assert!(facts.settings_seen());
        assert_eq!(facts.goaway().map(|g| (g.last_stream, g.code)), Some((5, 11)));
        assert_eq!(facts.ending(), Some(Ending::Orderly));
        assert_eq!(facts.send_windows(1), (65_535, 65_536));
    }

    #[tokio::test]
    async fn an_end_inside_a_frame_is_a_loss() {
        let (near, mut far) = duplex(1024);
        let (mut tap, facts, _) = tap(near);
        far.write_all(&[0, 0, 6, 4, 0]).await.unwrap();
        drop(far);
        tap.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(facts.ending(), Some(Ending::Broken(Loss::TruncatedFrame)));
    }

    #[tokio::test]
    async fn counts_what_leaves_against_the_windows() {
        let (near, _far) = duplex(1024);
        let (mut tap, facts, _) = tap(near);
        tap.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        tap.write_all(&[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]).await.unwrap();
        tap.write_all(&[0, 0, 3, 0, 0, 0, 0, 0, 1, 7, 7, 7]).await.unwrap();
        assert_eq!(facts.send_windows(1), (65_532, 65_532));
        assert_eq!(facts.bytes_out.load(Relaxed), 46);
    }

    #[tokio::test]
    async fn a_flood_is_told_to_be_calm_and_cut_off() {
        let (near, mut far) = duplex(1 << 20);
        let (mut tap, facts, _) = tap(near);
        tap.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        far.write_all(&ping.repeat(60_000)).await.unwrap();
        let mut read = Vec::new();
        assert!(tap.read_to_end(&mut read).await.is_err());
        assert!(read.len() >= 10_000 * ping.len());
        assert!(read.len() < 20_000 * ping.len(), "{}", read.len());
        assert_eq!(facts.ending(), Some(Ending::Broken(Loss::Protocol(ENHANCE_YOUR_CALM))));
        let mut said = Vec::new();
        far.read_to_end(&mut said).await.unwrap();
        assert_eq!(
            said[PREFACE_LEN..],
            [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xb]
        );
    }

    /// Takes nothing, and has something to say.
    struct HungUp<'a>(&'a [u8]);

    impl AsyncRead for HungUp<'_> {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            if self.0.is_empty() {
                return Poll::Pending;
            }
            buf.put_slice(self.0);
            self.0 = &[];
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for HungUp<'_> {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_the_peer_said_before_it_hung_up_is_read_ahead_of_the_failure() {
        let (mut tap, facts, _) = tap(HungUp(b"last words"));
        tap.write_all(b"too late").await.unwrap();
        let mut buf = [0; 10];
        tap.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"last words");
        assert_eq!(tap.read_u8().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(matches!(facts.ending(), Some(Ending::Broken(_))));
    }

    #[tokio::test]
    async fn an_exhausted_allowance_stops_and_wakes() {
        let (near, mut far) = duplex(1024);
        let (mut tap, _, allowance) = tap(near);
        far.write_all(&[0; 64]).await.unwrap();
        allowance.set((0, 0));
        let mut buf = [0; 64];
        let mut waited = 0;
        let n = std::future::poll_fn(|cx| {
            let mut read = ReadBuf::new(&mut buf);
            match Pin::new(&mut tap).poll_read(cx, &mut read) {
                Poll::Pending => {
                    waited += 1;
                    allowance.set((64, 64));
                    Poll::Pending
                }
                Poll::Ready(r) => Poll::Ready(r.map(|()| read.filled().len())),
            }
        })
        .await
        .unwrap();
        assert_eq!((n, waited), (64, 1));
    }

    #[tokio::test]
    async fn short_frames_draw_more_than_their_bytes() {
        let (near, mut far) = duplex(1024);
        let (mut tap, _, allowance) = tap(near);
        // Ten DATA frames of one byte (RFC 9113, 6.1).
        far.write_all(&[0, 0, 1, 0, 0, 0, 0, 0, 1, 7].repeat(10)).await.unwrap();
        allowance.set((100_000, 0));
        tap.read_exact(&mut [0; 100]).await.unwrap();
        assert_eq!(allowance.read.load(Relaxed), 100_000 - 100 - 10 * FRAME_WORK);
    }
}
