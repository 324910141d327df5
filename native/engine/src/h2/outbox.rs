//! A stream's send side: bytes that wait for the peer's window, and how our side will end. No I/O, no locks.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};

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

/// Header fields that a server's side begins with.
#[derive(Debug)]
pub(crate) enum Head {
    /// A 1xx response. Others follow.
    Informational(Response<()>),
    /// The response.
    Final(Response<()>),
}

/// How far a server's side has come with its header fields. A client's have been sent with the stream's opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Headed {
    /// The response is still to be given.
    No,
    /// It is given, and with it the way is free for data.
    Yes,
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
#[derive(Debug)]
pub(crate) enum Next {
    Informational(Response<()>),
    Response(Response<()>, bool),
    Data(Bytes, bool),
    Trailers(HeaderMap),
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Outbox {
    heads: VecDeque<Head>,
    headed: Headed,
    chunks: VecDeque<Chunk>,
    queued: usize,
    max: usize,
    fin: Fin,
    /// Something of it never left.
    lost: bool,
}

impl Outbox {
    pub(crate) fn new(max: usize) -> Self {
        Outbox {
            heads: VecDeque::new(),
            headed: Headed::Yes,
            chunks: VecDeque::new(),
            queued: 0,
            max,
            fin: Fin::Open,
            lost: false,
        }
    }

    /// For a server's side, which begins with a response.
    pub(crate) fn with_head(max: usize) -> Self {
        Outbox {
            headed: Headed::No,
            ..Outbox::new(max)
        }
    }

    /// The response is given: data may follow.
    pub(crate) fn is_headed(&self) -> bool {
        self.headed == Headed::Yes
    }

    pub(crate) fn push_head(&mut self, head: Head) {
        if let Head::Final(_) = head {
            self.headed = Headed::Yes;
        }
        self.heads.push_back(head);
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

    /// Something of what was taken in has never left, and will not.
    pub(crate) fn has_lost(&self) -> bool {
        self.lost
    }

    /// All that was taken in, an end included, has been handed to h2, or never will be.
    pub(crate) fn is_flushed(&self) -> bool {
        self.queued == 0 && self.heads.is_empty() && matches!(self.fin, Fin::Open | Fin::Sent)
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
            _ if !self.heads.is_empty() => Some(0),
            Fin::Open if self.queued == 0 => None,
            _ => Some(self.queued),
        }
    }

    /// The next piece, of at most `window` bytes. `None` when nothing can be handed over now.
    pub(crate) fn next(&mut self, window: usize) -> Option<Next> {
        match self.heads.pop_front() {
            Some(Head::Informational(head)) => return Some(Next::Informational(head)),
            Some(Head::Final(head)) => {
                let last = self.chunks.is_empty() && self.fin == Fin::Data;
                if last {
                    self.fin = Fin::Sent;
                }
                return Some(Next::Response(head, last));
            }
            None => {}
        }
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
        self.lost |= self.queued > 0 || matches!(self.fin, Fin::Data | Fin::Trailers(_));
        self.queued = 0;
        self.fin = Fin::Sent;
        self.heads.clear();
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

    /// The next piece, as bytes and whether it is the last.
    fn data(outbox: &mut Outbox, window: usize) -> Option<(Bytes, bool)> {
        match outbox.next(window)? {
            Next::Data(data, last) => Some((data, last)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn gathers_small_sends_and_marks_the_last() {
        let mut outbox = Outbox::new(100);
        outbox.push(Payload::Copied(b"ab"));
        outbox.push(Payload::Copied(b"cd"));
        outbox.push(Payload::Shared(vec![Bytes::from_static(b"ef")]));
        outbox.finish(Fin::Data);
        assert_eq!(data(&mut outbox, 3), Some((Bytes::from_static(b"abc"), false)));
        assert_eq!(data(&mut outbox, 0), None);
        assert_eq!(data(&mut outbox, 9), Some((Bytes::from_static(b"d"), false)));
        assert_eq!(data(&mut outbox, 9), Some((Bytes::from_static(b"ef"), true)));
        assert!(outbox.is_finished());
        assert_eq!(data(&mut outbox, 9), None);
    }

    #[test]
    fn trailers_and_fin_follow_all_data() {
        let mut outbox = Outbox::new(100);
        outbox.push(Payload::Copied(b"ab"));
        outbox.finish(Fin::Trailers(HeaderMap::new()));
        assert_eq!(data(&mut outbox, 9), Some((Bytes::from_static(b"ab"), false)));
        assert!(matches!(outbox.next(0), Some(Next::Trailers(_))));
        let mut empty = Outbox::new(100);
        empty.finish(Fin::Data);
        assert_eq!(empty.wants(), Some(0));
        assert_eq!(data(&mut empty, 0), Some((Bytes::new(), true)));
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

    #[test]
    fn a_response_goes_first_and_may_be_all() {
        let mut outbox = Outbox::with_head(100);
        assert!(!outbox.is_headed());
        assert_eq!(outbox.wants(), None);
        outbox.push_head(Head::Informational(Response::new(())));
        assert!(!outbox.is_headed());
        outbox.push_head(Head::Final(Response::new(())));
        assert!(outbox.is_headed());
        outbox.push(Payload::Copied(b"ab"));
        outbox.finish(Fin::Data);
        assert_eq!(outbox.wants(), Some(0));
        assert!(matches!(outbox.next(0), Some(Next::Informational(_))));
        assert!(matches!(outbox.next(0), Some(Next::Response(_, false))));
        assert_eq!(outbox.wants(), Some(2));
        assert_eq!(data(&mut outbox, 9), Some((Bytes::from_static(b"ab"), true)));
        let mut empty = Outbox::with_head(100);
        empty.push_head(Head::Final(Response::new(())));
        empty.finish(Fin::Data);
        assert!(matches!(empty.next(0), Some(Next::Response(_, true))));
        assert_eq!(empty.wants(), None);
    }
}
