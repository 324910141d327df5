//! A byte stream in memory whose other end is driven by calls, for connections whose bytes somebody else carries: Erlang's `ssl`.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
#[cfg(not(hackney_loom))]
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
#[cfg(hackney_loom)]
use loom::sync::Arc;
#[cfg(not(hackney_loom))]
use parking_lot::Mutex as Lock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

use super::turn;

/// Small writes are gathered up to so much, or half of the capacity if that is less: each parcel costs a message to a process and a call
/// to its socket, and four TLS records are enough to make that cheap.
const PARCEL: usize = 64 * 1024;

/// Inbound pieces of up to this size are copied together: each would take some hundred bytes of memory beside its own, and a peer may
/// send them a byte at a time.
const CRUMB: usize = 512;

/// What comes out of a pipe, in this order: bytes, [`Shutdown`](Self::Shutdown) at most once, [`Closed`](Self::Closed) exactly once and
/// last. [`Drained`](Self::Drained) stands anywhere before that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PipeOut {
    /// To be written to the socket, and then told of by [`PipeEnd::written`]. Never empty.
    Bytes(Bytes),
    /// Nothing more will be written.
    Shutdown,
    /// So much of what was fed has been read that there is room again: see [`PipeEnd::feed`].
    Drained,
    /// The pipe is gone. It reads nothing and writes nothing any more.
    Closed,
}

/// Takes what comes out of a pipe.
pub type PipeOutlet = Box<dyn Fn(PipeOut) + Send + Sync>;

/// The end that is a byte stream.
///
/// Written bytes are gathered until they are flushed, as TLS streams do.
pub struct Pipe {
    shared: Arc<Shared>,
    /// Called by nobody but the stream's one user, in whose hands the order is, and never under the lock.
    outlet: PipeOutlet,
    /// Written, and not posted yet.
    parcel: Vec<u8>,
    shut: bool,
}

/// The end that is driven by calls, from any thread. When the last clone is dropped before [`end`](Self::end) was called, the stream
/// fails with [`ConnectionAborted`](io::ErrorKind::ConnectionAborted): nobody is left who could say how it ended.
#[derive(Clone)]
pub struct PipeEnd(Arc<Hold>);

/// What clones of an end have in common: its drop is the last one's.
struct Hold(Arc<Shared>);

struct Shared {
    capacity: usize,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    /// Fed and not read: these pieces, then the crumbs.
    pieces: VecDeque<Bytes>,
    crumbs: BytesMut,
    unread: usize,
    /// There was as much as the capacity, and whoever feeds may have stopped: it has to be told when there is room.
    filled: bool,
    /// How the inbound half has ended, once what is unread has been read.
    end: Option<End>,
    /// Posted and not acknowledged.
    under_way: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// The pipe is gone.
    closed: bool,
}

enum End {
    Orderly,
    Failed(Failure),
}

/// An error that is told again to everyone who asks. Whoever asks first gets it itself, with all that is in it.
struct Failure {
    error: Option<io::Error>,
    errno: Option<i32>,
    kind: io::ErrorKind,
    text: String,
}

/// Makes a pipe.
///
/// In each direction it holds about `capacity` bytes: at most so many are on their way out, posted and not acknowledged, and when so many
/// are fed and unread the feeder ought to pause.
///
/// `outlet` is called in order, from whatever thread polls the stream or drops it. It may call the [`PipeEnd`], must not wait, and must not
/// panic.
#[must_use]
pub fn pipe(capacity: usize, outlet: PipeOutlet) -> (Pipe, PipeEnd) {
    let shared = Arc::new(Shared {
        capacity: capacity.max(1),
        state: Lock::new(State::default()),
    });
    let pipe = Pipe {
        shared: shared.clone(),
        outlet,
        parcel: Vec::new(),
        shut: false,
    };
    (pipe, PipeEnd(Arc::new(Hold(shared))))
}

impl PipeEnd {
    /// Bytes have come from the socket. Says how many are unread now.
    ///
    /// Nothing is turned away, so this is where to apply back-pressure: whoever is told the [`capacity`](Self::capacity) or more ought to
    /// stop reading the socket. [`PipeOut::Drained`] comes once no more than half of it is left.
    ///
    /// After [`end`](Self::end), and when the pipe is gone, the bytes are dropped.
    pub fn feed(&self, bytes: Bytes) -> usize {
        let shared = &self.0.0;
        let mut state = shared.state.lock();
        if bytes.is_empty() || state.closed || state.end.is_some() {
            return state.unread;
        }
        state.unread += bytes.len();
        state.filled |= state.unread >= shared.capacity;
        if bytes.len() <= CRUMB {
            state.crumbs.extend_from_slice(&bytes);
        } else {
            state.sweep();
            state.pieces.push_back(bytes);
        }
        let (unread, reader) = (state.unread, state.reader.take());
        drop(state);
        wake(reader);
        unread
    }

    /// The socket has taken `count` of the bytes that were posted.
    pub fn written(&self, count: usize) {
        let shared = &self.0.0;
        let mut state = shared.state.lock();
        state.under_way = state.under_way.saturating_sub(count);
        // Not for every byte of room: that would make for small parcels.
        let writer = if state.under_way <= shared.capacity / 2 {
            state.writer.take()
        } else {
            None
        };
        drop(state);
        wake(writer);
    }

    /// The peer sends nothing more, or the socket has failed. Only the first call counts.
    ///
    /// The stream's reader learns of it behind the bytes that were fed before; its writer, of a failure, at once.
    pub fn end(&self, how: Result<(), io::Error>) {
        self.0.0.end(how);
    }

    /// Bytes fed and unread from which on reading the socket ought to pause; also how many bytes may be on their way out.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.0.capacity
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.end(Err(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "whoever carried the connection's bytes is gone",
        )));
    }
}

impl Shared {
    fn end(&self, how: Result<(), io::Error>) {
        let mut state = self.state.lock();
        if state.end.is_some() || state.closed {
            return;
        }
        let mut woken = (state.reader.take(), None);
        state.end = Some(match how {
            Ok(()) => End::Orderly,
            Err(error) => {
                woken.1 = state.writer.take();
                End::Failed(Failure::new(error))
            }
        });
        drop(state);
        wake(woken.0);
        wake(woken.1);
    }
}

/// Wakes outside of the lock: a waker may poll at once.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl State {
    /// Makes a piece of the crumbs.
    fn sweep(&mut self) {
        if !self.crumbs.is_empty() {
            self.pieces.push_back(self.crumbs.split().freeze());
        }
    }

    /// Moves what is unread into `buf`, as far as it fits.
    fn read(&mut self, buf: &mut ReadBuf<'_>) {
        while self.unread > 0 && buf.remaining() > 0 {
            let n = match self.pieces.front_mut() {
                Some(piece) => {
                    let n = move_some(piece, buf);
                    if piece.is_empty() {
                        self.pieces.pop_front();
                    }
                    n
                }
                None => move_some(&mut self.crumbs, buf),
            };
            self.unread -= n;
        }
        if self.unread == 0 {
            // An idle connection holds no memory for what may come.
            self.crumbs = BytesMut::new();
        }
    }

    /// The error that writing fails with, if the connection has failed.
    fn failure(&mut self) -> Option<io::Error> {
        match &mut self.end {
            Some(End::Failed(failure)) => Some(failure.tell()),
            _ => None,
        }
    }
}

fn move_some(from: &mut impl Buf, to: &mut ReadBuf<'_>) -> usize {
    let n = from.remaining().min(to.remaining());
    to.put_slice(&from.chunk()[..n]);
    from.advance(n);
    n
}

/// Replaces a registered waker, unless it is the same one.
fn register(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

impl Failure {
    fn new(error: io::Error) -> Self {
        Self {
            errno: error.raw_os_error(),
            kind: error.kind(),
            text: error.to_string(),
            error: Some(error),
        }
    }

    fn tell(&mut self) -> io::Error {
        match (self.error.take(), self.errno) {
            (Some(error), _) => error,
            (None, Some(errno)) => io::Error::from_raw_os_error(errno),
            (None, None) => io::Error::new(self.kind, self.text.clone()),
        }
    }
}

impl Pipe {
    fn parcel_size(&self) -> usize {
        PARCEL.min(self.shared.capacity.div_ceil(2))
    }

    /// Posts what is gathered.
    fn post(&mut self) {
        if self.parcel.is_empty() {
            return;
        }
        let bytes = Bytes::from(std::mem::take(&mut self.parcel));
        // Before it is posted: it may be acknowledged while it is.
        self.shared.state.lock().under_way += bytes.len();
        (self.outlet)(PipeOut::Bytes(bytes));
    }

    /// How many bytes may be written now, at least one.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        loop {
            let mut state = self.shared.state.lock();
            if let Some(error) = state.failure() {
                return Poll::Ready(Err(error));
            }
            let taken = state.under_way + self.parcel.len();
            if taken < self.shared.capacity {
                return Poll::Ready(Ok(self.shared.capacity - taken));
            }
            if self.parcel.is_empty() {
                register(&mut state.writer, cx);
                return Poll::Pending;
            }
            drop(state);
            // Else nobody would, and no room come.
            self.post();
        }
    }

    fn poll_write_all<'a>(
        &mut self,
        cx: &mut Context<'_>,
        bufs: impl Iterator<Item = &'a [u8]>,
    ) -> Poll<io::Result<usize>> {
        let coop = ready!(poll_proceed(cx));
        let mut room = ready!(self.poll_room(cx))?;
        coop.made_progress();
        let mut written = 0;
        for buf in bufs {
            let part = &buf[..buf.len().min(room)];
            self.parcel.extend_from_slice(part);
            room -= part.len();
            written += part.len();
            if room == 0 {
                break;
            }
        }
        if self.parcel.len() >= self.parcel_size() {
            self.post();
        }
        Poll::Ready(Ok(written))
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let coop = ready!(poll_proceed(cx));
        if turn::is_over() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.shared.state.lock();
        if state.unread == 0 {
            let end = match &mut state.end {
                Some(End::Orderly) => Ok(()),
                Some(End::Failed(failure)) => Err(failure.tell()),
                None => {
                    register(&mut state.reader, cx);
                    return Poll::Pending;
                }
            };
            coop.made_progress();
            return Poll::Ready(end);
        }
        state.read(buf);
        let drained = state.filled && state.unread <= self.shared.capacity / 2;
        state.filled &= !drained;
        drop(state);
        coop.made_progress();
        if drained {
            (self.outlet)(PipeOut::Drained);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_all(cx, std::iter::once(buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_all(cx, bufs.iter().map(|buf| &**buf))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Posts what is gathered; whether the socket takes it shows in later writes.
    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.post();
        let failure = self.shared.state.lock().failure();
        Poll::Ready(failure.map_or(Ok(()), Err))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            self.post();
            self.shut = true;
            (self.outlet)(PipeOut::Shutdown);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.closed = true;
        state.unread = 0;
        // Dropped outside of the lock: they are the caller's, and may do anything.
        let rest = (
            std::mem::take(&mut state.pieces),
            state.reader.take(),
            state.writer.take(),
        );
        state.crumbs = BytesMut::new();
        drop(state);
        drop(rest);
        // A panic here, if there is one already, would end the process.
        let _ = catch_unwind(AssertUnwindSafe(|| (self.outlet)(PipeOut::Closed)));
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe")
            .field("capacity", &self.shared.capacity)
            .field("gathered", &self.parcel.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PipeEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeEnd")
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// Loom's lock, with the other one's face.
#[cfg(hackney_loom)]
struct Lock<T>(loom::sync::Mutex<T>);

#[cfg(hackney_loom)]
impl<T> Lock<T> {
    fn new(value: T) -> Self {
        Lock(loom::sync::Mutex::new(value))
    }

    fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().expect("nobody panics under it")
    }
}

#[cfg(all(test, hackney_loom))]
mod loom_tests {
    use super::*;
    use loom::thread::{self, Thread};
    use std::task::Wake;

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }

    /// Polls until ready, sleeping in between: loom finds every way to sleep for ever.
    fn wait<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        let waker = Waker::from(std::sync::Arc::new(Unpark(thread::current())));
        loop {
            match poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(value) => return value,
                Poll::Pending => thread::park(),
            }
        }
    }

    fn read(pipe: &mut Pipe) -> Vec<u8> {
        wait(|cx| {
            let mut room = [0; 8];
            let mut buf = ReadBuf::new(&mut room);
            Pin::new(&mut *pipe)
                .poll_read(cx, &mut buf)
                .map(|end| end.map(|()| buf.filled().to_vec()))
        })
        .expect("an orderly end")
    }

    #[test]
    fn a_reader_is_woken_for_bytes_and_for_the_end() {
        loom::model(|| {
            let (mut pipe, end) = pipe(4, Box::new(|_| {}));
            let feeder = thread::spawn(move || {
                end.feed(Bytes::from_static(b"ab"));
                end.end(Ok(()));
            });
            assert_eq!(read(&mut pipe), b"ab");
            assert_eq!(read(&mut pipe), b"");
            feeder.join().unwrap();
        });
    }

    #[test]
    fn a_writer_is_woken_when_there_is_room() {
        loom::model(|| {
            let (sender, posted) = loom::sync::mpsc::channel();
            let (mut pipe, end) = pipe(
                1,
                Box::new(move |out| {
                    if let PipeOut::Bytes(bytes) = out {
                        sender.send(bytes).expect("it waits for two");
                    }
                }),
            );
            let socket = thread::spawn(move || {
                for expected in [b"a", b"b"] {
                    let bytes: Bytes = posted.recv().unwrap();
                    assert_eq!(&bytes[..], expected);
                    end.written(bytes.len());
                }
                end
            });
            for byte in [b"a", b"b"] {
                assert_eq!(wait(|cx| Pin::new(&mut pipe).poll_write(cx, byte)).unwrap(), 1);
            }
            socket.join().unwrap();
        });
    }

    #[test]
    fn the_last_end_that_is_dropped_wakes_a_writer() {
        loom::model(|| {
            let (mut pipe, end) = pipe(1, Box::new(|_| {}));
            let other = end.clone();
            let socket = thread::spawn(move || drop(other));
            drop(end);
            // There is room for this one, if it comes before.
            let _ = wait(|cx| Pin::new(&mut pipe).poll_write(cx, b"a"));
            let error = wait(|cx| Pin::new(&mut pipe).poll_write(cx, b"b")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
            socket.join().unwrap();
        });
    }

    /// Who stops feeding at the capacity is told to go on.
    #[test]
    fn a_feeder_that_stopped_is_told_of_room() {
        loom::model(|| {
            let (sender, drained) = loom::sync::mpsc::channel();
            let (mut pipe, end) = pipe(
                2,
                Box::new(move |out| {
                    if out == PipeOut::Drained {
                        sender.send(()).expect("the feeder waits");
                    }
                }),
            );
            let feeder = thread::spawn(move || {
                if end.feed(Bytes::from_static(b"ab")) >= 2 {
                    drained.recv().unwrap();
                }
                end.feed(Bytes::from_static(b"c"));
                (end, drained)
            });
            assert_eq!(read(&mut pipe), b"ab");
            assert_eq!(read(&mut pipe), b"c");
            feeder.join().unwrap();
        });
    }
}
