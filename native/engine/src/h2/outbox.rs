//! A stream's send side: bytes that wait for the peer's window, and how our side will end. No I/O, no locks.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

/// Small sends in a row are gathered into chunks of up to this size, so that a burst of them leaves in few DATA frames.
const GATHER: usize = 64 * 1024;

/// What to send: bytes copied, because few, or kept alive by their owner.
#[derive(Debug)]
pub enum Payload<'a> {
    /// Copied into the queue.
    Copied(&'a [u8]),
    /// Held as they are.
    Shared(Vec<Bytes>),
}

impl Payload<'_> {
    /// Its bytes in all.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match self {
            Payload::Copied(bytes) => bytes.len(),
            Payload::Shared(parts) => parts.iter().map(Bytes::len).sum(),
        }
    }
}

#[derive(Debug)]
enum Chunk {
    Gathered(BytesMut),
    Shared(Bytes),
}

/// How our side ends.
#[derive(Debug, PartialEq)]
pub(crate) enum Fin {
    /// It goes on.
    Open,
    /// END_STREAM on the last DATA frame.
    Data,
    /// Trailing HEADERS with END_STREAM.
    Trailers(HeaderMap),
    /// It has been handed to h2.
    Sent,
}

/// What to hand to h2 next.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    Data(Bytes, bool),
    Trailers(HeaderMap),
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Outbox {
    chunks: VecDeque<Chunk>,
    queued: usize,
    max: usize,
    fin: Fin,
}

impl Outbox {
    pub(crate) fn new(max: usize) -> Self {
        Outbox {
            chunks: VecDeque::new(),
            queued: 0,
            max,
            fin: Fin::Open,
        }
    }

    /// Whether `size` more bytes are taken. An empty queue takes any size: a message larger than the bound must be sendable.
    pub(crate) fn has_room(&self, size: usize) -> bool {
        self.queued == 0 || self.queued.saturating_add(size) <= self.max
    }

    pub(crate) fn is_open(&self) -> bool {
        self.fin == Fin::Open
    }

    /// Everything, the end included, has been handed to h2.
    #[cfg(test)]
    pub(crate) fn is_finished(&self) -> bool {
        self.fin == Fin::Sent
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    pub(crate) fn push(&mut self, payload: Payload<'_>) {
        self.queued += payload.len();
        match payload {
            Payload::Copied([]) => {}
            Payload::Copied(bytes) => match self.chunks.back_mut() {
                Some(Chunk::Gathered(tail)) if tail.len() + bytes.len() <= GATHER => tail.extend_from_slice(bytes),
                _ => self.chunks.push_back(Chunk::Gathered(BytesMut::from(bytes))),
            },
            Payload::Shared(parts) => {
                self.chunks
                    .extend(parts.into_iter().filter(|p| !p.is_empty()).map(Chunk::Shared));
            }
        }
    }

    pub(crate) fn finish(&mut self, fin: Fin) {
        self.fin = fin;
    }

    /// Whether there is anything to hand over, and how many bytes of window that wants.
    pub(crate) fn wants(&self) -> Option<usize> {
        match self.fin {
            Fin::Sent => None,
            Fin::Open if self.queued == 0 => None,
            _ => Some(self.queued),
        }
    }

    /// The next piece, of at most `window` bytes. `None` when nothing can be handed over now.
    pub(crate) fn next(&mut self, window: usize) -> Option<Next> {
        let Some(front) = self.chunks.front_mut() else {
            return match std::mem::replace(&mut self.fin, Fin::Sent) {
                Fin::Data => Some(Next::Data(Bytes::new(), true)),
                Fin::Trailers(trailers) => Some(Next::Trailers(trailers)),
                other => {
                    self.fin = other;
                    None
                }
            };
        };
        let size = window.min(front.len());
        if size == 0 {
            return None;
        }
        let whole = size == front.len();
        let data = match front {
            Chunk::Gathered(bytes) => bytes.split_to(size).freeze(),
            Chunk::Shared(bytes) => bytes.split_to(size),
        };
        if whole {
            self.chunks.pop_front();
        }
        self.queued -= size;
        let last = self.chunks.is_empty() && self.fin == Fin::Data;
        if last {
            self.fin = Fin::Sent;
        }
        Some(Next::Data(data, last))
    }

    /// Takes what is queued, for the caller to drop where that may take its time. Nothing more is taken in.
    pub(crate) fn clear(&mut self) -> impl Send + use<> {
        self.queued = 0;
        self.fin = Fin::Sent;
        std::mem::take(&mut self.chunks)
    }
}

impl Chunk {
    fn len(&self) -> usize {
        match self {
            Chunk::Gathered(bytes) => bytes.len(),
            Chunk::Shared(bytes) => bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathers_small_sends_and_marks_the_last() {
        let mut outbox = Outbox::new(100);
        outbox.push(Payload::Copied(b"ab"));
        outbox.push(Payload::Copied(b"cd"));
        outbox.push(Payload::Shared(vec![Bytes::from_static(b"ef")]));
        outbox.finish(Fin::Data);
        assert_eq!(outbox.next(3), Some(Next::Data(Bytes::from_static(b"abc"), false)));
        assert_eq!(outbox.next(0), None);
        assert_eq!(outbox.next(9), Some(Next::Data(Bytes::from_static(b"d"), false)));
        assert_eq!(outbox.next(9), Some(Next::Data(Bytes::from_static(b"ef"), true)));
        assert!(outbox.is_finished());
        assert_eq!(outbox.next(9), None);
    }

    #[test]
    fn trailers_and_fin_follow_all_data() {
        let mut outbox = Outbox::new(100);
        outbox.push(Payload::Copied(b"ab"));
        outbox.finish(Fin::Trailers(HeaderMap::new()));
        assert_eq!(outbox.next(9), Some(Next::Data(Bytes::from_static(b"ab"), false)));
        assert_eq!(outbox.next(0), Some(Next::Trailers(HeaderMap::new())));
        let mut empty = Outbox::new(100);
        empty.finish(Fin::Data);
        assert_eq!(empty.wants(), Some(0));
        assert_eq!(empty.next(0), Some(Next::Data(Bytes::new(), true)));
        assert_eq!(empty.wants(), None);
    }

    #[test]
    fn an_empty_queue_takes_any_size_and_a_used_one_keeps_its_bound() {
        let mut outbox = Outbox::new(100);
        assert!(outbox.has_room(1000));
        outbox.push(Payload::Copied(&[0; 60]));
        assert!(outbox.has_room(40));
        assert!(!outbox.has_room(41));
        outbox.next(10);
        assert!(outbox.has_room(50));
    }
}
