//! The byte stream between engine and peer: a peer's end that does what an input says.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The engine's end.
pub(super) struct Wire(Arc<Mutex<State>>);

/// The peer's end.
pub(super) struct PeerEnd(Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    /// Everything the peer has put in, and how much of it the engine has taken out.
    pub(super) sent: Vec<u8>,
    pub(super) taken: usize,
    /// What comes behind that.
    pub(super) end: Option<End>,
    /// The most that one read or write moves, and how often yet it is that little.
    part: usize,
    parts: usize,
    /// Everything the engine has written.
    pub(super) written: Vec<u8>,
    /// What it may still write; `None` for any amount.
    pub(super) room: Option<usize>,
    /// Writes fail.
    pub(super) deaf: bool,
    /// The engine has let go of it.
    pub(super) dropped: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// How a byte stream ends.
#[derive(Debug, Clone, Copy, arbitrary::Arbitrary)]
pub(super) enum End {
    Eof,
    /// Of TLS without close_notify.
    UnexpectedEof,
    Reset,
    Other,
}

/// A body of a megabyte, byte by byte, takes long and finds nothing that its beginning does not.
const MAX_PARTS: usize = 300;

pub(super) fn wire(part: usize) -> (Wire, PeerEnd) {
    let state = Arc::new(Mutex::new(State {
        part: part.max(1),
        parts: MAX_PARTS,
        ..State::default()
    }));
    (Wire(state.clone()), PeerEnd(state))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nobody panics while holding it")
}

impl PeerEnd {
    pub(super) fn look(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// Changes something that the engine may wait for.
    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.look();
        change(&mut state);
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl State {
    /// The engine has nothing to wait for on the write side.
    pub(super) fn is_open_for_writes(&self) -> bool {
        self.room != Some(0)
    }

    fn part(&mut self) -> usize {
        if self.parts == 0 {
            return usize::MAX;
        }
        self.parts -= 1;
        self.part
    }

    fn write(&mut self, cx: &Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.room == Some(0) {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut left = self.part().min(self.room.unwrap_or(usize::MAX));
        let before = self.written.len();
        for buf in bufs {
            let part = &buf[..buf.len().min(left)];
            self.written.extend_from_slice(part);
            left -= part.len();
        }
        let n = self.written.len() - before;
        self.room = self.room.map(|room| room - n);
        Poll::Ready(Ok(n))
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0);
        let from = state.taken;
        if from < state.sent.len() {
            let n = (state.sent.len() - from).min(state.part()).min(buf.remaining());
            buf.put_slice(&state.sent[from..from + n]);
            state.taken += n;
            return Poll::Ready(Ok(()));
        }
        match state.end {
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(End::Eof) => Poll::Ready(Ok(())),
            Some(End::UnexpectedEof) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            // ECONNRESET.
            Some(End::Reset) => Poll::Ready(Err(io::Error::from_raw_os_error(104))),
            Some(End::Other) => Poll::Ready(Err(io::Error::other("as ordered"))),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.0).write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.dropped = true;
        // They hold the connection.
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        drop(wakers);
    }
}
