//! A stream's receive side: the queue, the delivery mode, and how the end is told. No I/O, no locks.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::error::{EndReason, ModeError};
use crate::message::{MAX_DATA, Message, Mode, Notice};

/// So many unread messages are kept as they came. Short DATA behind them is joined to what lies before it: a window of 4 MiB lets
/// a peer send four million frames of one byte, each with 255 bytes of padding, and every one of them would cost the message and
/// the piece of the read buffer that it lies in, more than 1 GB.
const APART: usize = 1024;
/// DATA below this is short.
const SHORT: usize = 1024;
/// The length up to which DATA is joined.
const JOINED: usize = 16 * 1024;
/// Bound on unread 1xx header lists together, counted as RFC 9113, 6.5.2 does: no window bounds them. A single one may be as
/// large as `max_header_list_size` lets it.
const MAX_INFORMATIONAL: usize = 1024 * 1024;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: VecDeque<Message>,
    /// Body bytes in the queue.
    bytes: usize,
    /// Size of the 1xx responses in the queue.
    informational: usize,
    /// Bound on `bytes`; the flow-control window keeps a peer that plays by the rules below it.
    max_bytes: usize,
    mode: Mode,
    /// `Mode::Count` has run out and the owner is not told yet.
    passive_due: bool,
    end: Option<EndReason>,
    /// The reader or owner knows of the end, or wants to hear nothing more.
    told: bool,
    /// The user has closed the stream: the owner is posted nothing more, whatever mode is asked for.
    closed: bool,
    /// See [`Inbox::of_events`].
    events: bool,
}

/// The queue's bound was passed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

impl Inbox {
    pub(crate) fn new(mode: Mode, max_bytes: usize) -> Self {
        Inbox {
            queue: VecDeque::new(),
            bytes: 0,
            informational: 0,
            max_bytes,
            mode,
            passive_due: false,
            end: None,
            told: false,
            closed: false,
            events: false,
        }
    }

    /// For a stream whose sides end each for itself: that the peer has ended its side is told with the last thing that it sent, and is
    /// not the stream's end.
    pub(crate) fn of_events(mode: Mode, max_bytes: usize) -> Self {
        Inbox {
            events: true,
            ..Inbox::new(mode, max_bytes)
        }
    }

    /// Lets the queue hold a window's worth, if it may not anyway: a peer that plays by the rules must not be taken for one that does not.
    pub(crate) fn allow(&mut self, window: usize) {
        self.max_bytes = self.max_bytes.max(window);
    }

    /// Queues a message. Long data is cut into pieces of at most [`MAX_DATA`], short data that is one piece of many is joined.
    pub(crate) fn push(&mut self, message: Message) -> Result<(), Overflow> {
        if self.end.is_some() {
            return Ok(());
        }
        match message {
            Message::Data(mut data) => {
                if data.len() > self.max_bytes.saturating_sub(self.bytes) {
                    return Err(Overflow);
                }
                self.bytes += data.len();
                while data.len() > MAX_DATA {
                    let piece = data.split_to(MAX_DATA);
                    self.queue.push_back(Message::Data(piece));
                }
                if !data.is_empty() && !self.join(&data) {
                    self.queue.push_back(Message::Data(data));
                }
            }
            Message::Informational(status, fields) => {
                let size = list_size(&fields);
                if self.informational > 0 && self.informational + size > MAX_INFORMATIONAL {
                    return Err(Overflow);
                }
                self.informational += size;
                self.queue.push_back(Message::Informational(status, fields));
            }
            Message::Done => {
                self.queue.push_back(Message::Done);
                if !self.events {
                    self.end = Some(EndReason::Closed);
                }
            }
            other => self.queue.push_back(other),
        }
        Ok(())
    }

    /// Joins short data to the last message, see [`APART`]. False when it is to stand alone.
    fn join(&mut self, data: &Bytes) -> bool {
        if self.queue.len() < APART || data.len() >= SHORT {
            return false;
        }
        let Some(Message::Data(last)) = self.queue.back_mut() else {
            return false;
        };
        if last.len() + data.len() > JOINED {
            return false;
        }
        // Fails for a piece of a read buffer, which is then copied and let go.
        let joined = std::mem::take(last).try_into_mut();
        let mut joined = joined.unwrap_or_else(|piece| BytesMut::from(&piece[..]));
        joined.extend_from_slice(data);
        *last = joined.freeze();
        true
    }

    /// Nothing more will arrive, for this reason. The first reason stands.
    pub(crate) fn end(&mut self, reason: EndReason) {
        self.end.get_or_insert(reason);
    }

    /// The user closed the stream: what is queued stays readable, the owner hears nothing more. Returns what nobody will read, for the
    /// caller to drop where that may take its time.
    pub(crate) fn close(&mut self) -> VecDeque<Message> {
        self.end(EndReason::Closed);
        self.told = true;
        self.closed = true;
        self.passive_due = false;
        if self.mode != Mode::Passive {
            self.mode = Mode::Passive;
            return self.clear();
        }
        VecDeque::new()
    }

    /// Takes what is queued, for the caller to drop where that may take its time.
    pub(crate) fn clear(&mut self) -> VecDeque<Message> {
        self.bytes = 0;
        self.informational = 0;
        std::mem::take(&mut self.queue)
    }

    /// How many header fields the next message has.
    pub(crate) fn next_fields(&self) -> usize {
        self.queue.front().map_or(0, Message::fields)
    }

    /// The next message for a reader.
    pub(crate) fn pop(&mut self) -> Option<Message> {
        let message = self.queue.pop_front()?;
        match &message {
            Message::Data(data) => self.bytes -= data.len(),
            Message::Informational(_, fields) => self.informational -= list_size(fields),
            Message::Done => self.told |= !self.events,
            Message::Response(..) | Message::Trailers(_) => {}
        }
        Some(message)
    }

    /// The next message, if it is so short that a waiting reader is handed it: longer ones are left for its own thread to copy.
    pub(crate) fn short(&self) -> Option<&Message> {
        let next = self.queue.front()?;
        matches!(next, Message::Data(data) if data.len() <= SHORT).then_some(next)
    }

    /// How the stream ended, once nothing is left to read. Asking is being told.
    pub(crate) fn told_end(&mut self) -> Option<EndReason> {
        if !self.queue.is_empty() {
            return None;
        }
        let end = self.end.clone()?;
        self.told = true;
        Some(end)
    }

    /// The next thing to post to the owner; `None` when there is nothing or the mode says not to.
    pub(crate) fn next_notice(&mut self) -> Option<Notice> {
        if std::mem::take(&mut self.passive_due) {
            return Some(Notice::Passive);
        }
        if self.mode == Mode::Passive {
            return None;
        }
        if let Some(message) = self.pop() {
            match self.mode {
                Mode::Once => self.mode = Mode::Passive,
                Mode::Count(n) if n > 1 => self.mode = Mode::Count(n - 1),
                Mode::Count(_) => {
                    self.mode = Mode::Passive;
                    // The end is the last that is told, and says more.
                    self.passive_due = message != Message::Done;
                }
                Mode::Active | Mode::Passive => {}
            }
            return Some(if self.events {
                self.as_event(message)
            } else {
                Notice::Message(message)
            });
        }
        if self.told {
            return None;
        }
        let end = self.end.clone()?;
        self.told = true;
        Some(if end == EndReason::Closed {
            Notice::Closed
        } else {
            Notice::Error(end)
        })
    }

    /// What follows a message of the peer's and is its end is told with it.
    fn as_event(&mut self, message: Message) -> Notice {
        let last = self.queue.front() == Some(&Message::Done);
        match message {
            Message::Done => Notice::Last(Bytes::new()),
            Message::Data(data) if last => {
                self.queue.pop_front();
                Notice::Last(data)
            }
            Message::Trailers(trailers) => {
                if last {
                    self.queue.pop_front();
                }
                Notice::Message(Message::Trailers(trailers))
            }
            other => Notice::Message(other),
        }
    }

    /// Takes the body bytes that are queued, each with whether it is the last; other messages stay.
    pub(crate) fn take_data(&mut self) -> Vec<(Bytes, bool)> {
        let mut taken: Vec<(Bytes, bool)> = Vec::new();
        let mut rest = VecDeque::new();
        for message in self.clear() {
            match message {
                Message::Data(data) => taken.push((data, false)),
                Message::Done if rest.iter().any(|message| matches!(message, Message::Trailers(_))) => {}
                Message::Done => match taken.last_mut() {
                    Some(last) => last.1 = true,
                    None => taken.push((Bytes::new(), true)),
                },
                other => {
                    if let Message::Informational(_, fields) = &other {
                        self.informational += list_size(fields);
                    }
                    rest.push_back(other);
                }
            }
        }
        self.queue = rest;
        taken
    }

    /// A reader that looks now finds a message or the end.
    pub(crate) fn is_readable(&self) -> bool {
        !self.queue.is_empty() || self.end.is_some()
    }

    /// What is queued, and the end if it is still to be told, go to the owner: no reader may take it.
    pub(crate) fn is_for_owner(&self) -> bool {
        self.mode != Mode::Passive && !(self.end.is_some() && self.told && self.queue.is_empty())
    }

    /// [`Inbox::next_notice`] would give something.
    pub(crate) fn has_notice(&self) -> bool {
        self.passive_due
            || (self.mode != Mode::Passive && (!self.queue.is_empty() || (self.end.is_some() && !self.told)))
    }

    /// The stream is over and nothing is left to tell of it.
    pub(crate) fn is_drained(&self) -> bool {
        self.end.is_some() && self.told && self.queue.is_empty() && !self.passive_due
    }

    pub(crate) fn end_reason(&self) -> Option<EndReason> {
        self.end.clone()
    }

    /// The user closed the stream.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.end.is_some()
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Sets the mode as asked; see [`ModeChange`].
    pub(crate) fn set_mode(&mut self, change: ModeChange) -> Result<(), ModeError> {
        if self.closed || self.is_drained() {
            return Err(ModeError::Closed);
        }
        self.mode = match change {
            ModeChange::Set(mode) => {
                self.passive_due = false;
                mode
            }
            ModeChange::Add(n) => {
                let current = if let Mode::Count(current) = self.mode {
                    i32::from(current)
                } else {
                    0
                };
                let sum = current + i32::from(n);
                if sum > i32::from(i16::MAX) {
                    return Err(ModeError::OutOfRange);
                }
                self.passive_due = sum <= 0;
                if sum > 0 {
                    Mode::Count(sum as u16)
                } else {
                    Mode::Passive
                }
            }
        };
        Ok(())
    }

    /// Body bytes and messages queued.
    pub(crate) fn queued(&self) -> (usize, usize) {
        (self.bytes, self.queue.len())
    }
}

/// The size of a message's header list (RFC 9113, 6.5.2).
fn list_size(fields: &HeaderMap) -> usize {
    let fields = fields
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 32);
    fields.sum::<usize>() + ":status".len() + 3 + 32
}

/// What a caller asks for with `active`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeChange {
    /// `true`, `false`, `once`.
    Set(Mode),
    /// `N`: added to what is left of an earlier count, as `inet:setopts/2` does; at zero or below the stream turns passive.
    Add(i16),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(n: usize) -> Message {
        Message::Data(Bytes::from(vec![0; n]))
    }

    #[test]
    fn reads_in_order_then_the_end_for_ever() {
        let mut inbox = Inbox::new(Mode::Passive, 100);
        inbox.push(data(3)).unwrap();
        inbox.end(EndReason::Reset(8));
        inbox.end(EndReason::Closed);
        assert_eq!(inbox.told_end(), None);
        assert_eq!(inbox.pop(), Some(data(3)));
        assert!(!inbox.is_drained());
        assert_eq!(inbox.told_end(), Some(EndReason::Reset(8)));
        assert!(inbox.is_drained());
        assert_eq!(inbox.told_end(), Some(EndReason::Reset(8)));
    }

    #[test]
    fn an_error_between_two_onces_is_told_at_the_next() {
        let mut inbox = Inbox::new(Mode::Once, 100);
        inbox.push(data(1)).unwrap();
        assert_eq!(inbox.next_notice(), Some(Notice::Message(data(1))));
        inbox.end(EndReason::GoAway(0));
        assert_eq!(inbox.next_notice(), None);
        inbox.set_mode(ModeChange::Set(Mode::Once)).unwrap();
        assert_eq!(inbox.next_notice(), Some(Notice::Error(EndReason::GoAway(0))));
        assert_eq!(inbox.next_notice(), None);
        assert!(inbox.is_drained());
    }

    #[test]
    fn done_is_the_last_notice_of_a_count_too() {
        let mut inbox = Inbox::new(Mode::Count(1), 100);
        inbox.push(Message::Done).unwrap();
        assert_eq!(inbox.next_notice(), Some(Notice::Message(Message::Done)));
        assert_eq!(inbox.next_notice(), None);
        assert!(inbox.is_drained());
    }

    #[test]
    fn done_is_the_last_notice() {
        let mut inbox = Inbox::new(Mode::Active, 100);
        inbox.push(Message::Done).unwrap();
        inbox.end(EndReason::Lost(crate::error::Loss::Os(104)));
        assert_eq!(inbox.next_notice(), Some(Notice::Message(Message::Done)));
        assert_eq!(inbox.next_notice(), None);
        assert!(inbox.is_drained());
    }

    #[test]
    fn what_the_owner_has_not_been_posted_yet_is_no_readers() {
        let mut inbox = Inbox::new(Mode::Passive, 100);
        inbox.push(data(1)).unwrap();
        inbox.end(EndReason::GoAway(0));
        assert!(!inbox.is_for_owner());
        inbox.set_mode(ModeChange::Set(Mode::Active)).unwrap();
        for notice in [Notice::Message(data(1)), Notice::Error(EndReason::GoAway(0))] {
            assert!(inbox.is_for_owner());
            assert_eq!(inbox.next_notice(), Some(notice));
        }
        assert!(!inbox.is_for_owner());
        assert_eq!(inbox.told_end(), Some(EndReason::GoAway(0)));
    }

    #[test]
    fn a_count_runs_out_and_says_so() {
        let mut inbox = Inbox::new(Mode::Passive, 100);
        inbox.set_mode(ModeChange::Add(1)).unwrap();
        inbox.set_mode(ModeChange::Add(1)).unwrap();
        for n in 1..4 {
            inbox.push(data(n)).unwrap();
        }
        assert_eq!(inbox.next_notice(), Some(Notice::Message(data(1))));
        assert_eq!(inbox.next_notice(), Some(Notice::Message(data(2))));
        assert_eq!(inbox.next_notice(), Some(Notice::Passive));
        assert_eq!(inbox.next_notice(), None);
        assert_eq!(inbox.set_mode(ModeChange::Add(-1)), Ok(()));
        assert_eq!(inbox.next_notice(), Some(Notice::Passive));
        inbox.set_mode(ModeChange::Add(i16::MAX)).unwrap();
        assert_eq!(inbox.set_mode(ModeChange::Add(1)), Err(ModeError::OutOfRange));
    }

    #[test]
    fn close_leaves_a_passive_queue_readable_and_silences_an_active_owner() {
        let mut passive = Inbox::new(Mode::Passive, 100);
        passive.push(data(1)).unwrap();
        assert!(passive.close().is_empty());
        assert!(!passive.is_drained());
        for change in [ModeChange::Set(Mode::Active), ModeChange::Add(-1)] {
            assert_eq!(passive.set_mode(change), Err(ModeError::Closed));
            assert_eq!(passive.next_notice(), None);
        }
        assert_eq!(passive.pop(), Some(data(1)));
        assert!(passive.is_drained());

        let mut active = Inbox::new(Mode::Active, 100);
        active.push(data(1)).unwrap();
        assert_eq!(active.close().len(), 1);
        assert_eq!(active.next_notice(), None);
        assert!(active.is_drained());
    }

    #[test]
    fn events_carry_the_end_and_errors_come_after_it() {
        let mut inbox = Inbox::of_events(Mode::Active, 100);
        for message in [data(1), data(2), Message::Done] {
            inbox.push(message).unwrap();
        }
        assert_eq!(inbox.next_notice(), Some(Notice::Message(data(1))));
        assert_eq!(inbox.next_notice(), Some(Notice::Last(Bytes::from(vec![0; 2]))));
        assert_eq!(inbox.next_notice(), None);
        assert!(!inbox.is_ended());
        inbox.end(EndReason::Reset(8));
        assert_eq!(inbox.next_notice(), Some(Notice::Error(EndReason::Reset(8))));
        assert!(inbox.is_drained());
    }

    #[test]
    fn trailers_are_the_last_event_and_an_empty_body_has_one() {
        let mut inbox = Inbox::of_events(Mode::Passive, 100);
        inbox.push(Message::Trailers(HeaderMap::new())).unwrap();
        inbox.push(Message::Done).unwrap();
        assert_eq!(inbox.next_notice(), None);
        inbox.set_mode(ModeChange::Set(Mode::Active)).unwrap();
        let trailers = Notice::Message(Message::Trailers(HeaderMap::new()));
        assert_eq!(inbox.next_notice(), Some(trailers));
        assert_eq!(inbox.next_notice(), None);
        let mut empty = Inbox::of_events(Mode::Active, 100);
        empty.push(Message::Done).unwrap();
        assert_eq!(empty.next_notice(), Some(Notice::Last(Bytes::new())));
    }

    #[test]
    fn queued_data_can_be_taken_alone() {
        let mut inbox = Inbox::of_events(Mode::Passive, 100);
        for message in [
            Message::Response(200, HeaderMap::new()),
            data(3),
            data(4),
            Message::Done,
        ] {
            inbox.push(message).unwrap();
        }
        let taken = inbox.take_data();
        let sizes: Vec<_> = taken.iter().map(|(data, last)| (data.len(), *last)).collect();
        assert_eq!(sizes, [(3, false), (4, true)]);
        assert_eq!(inbox.queued(), (0, 1));
    }

    #[test]
    fn long_data_is_cut_and_the_bound_holds() {
        let mut inbox = Inbox::new(Mode::Passive, MAX_DATA + 10);
        inbox.push(data(MAX_DATA + 1)).unwrap();
        assert_eq!(inbox.push(data(10)), Err(Overflow));
        assert_eq!(inbox.pop().map(|m| m.body_len()), Some(MAX_DATA));
        assert_eq!(inbox.pop().map(|m| m.body_len()), Some(1));
    }

    #[test]
    fn many_short_pieces_are_joined_and_none_is_lost_or_misplaced() {
        let mut inbox = Inbox::new(Mode::Passive, usize::MAX);
        let sent: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        // As they come: pieces of a buffer that all of them keep alive.
        let buffer = Bytes::from(sent.clone());
        for at in 0..sent.len() {
            inbox.push(Message::Data(buffer.slice(at..=at))).unwrap();
        }
        assert!(!buffer.is_unique());
        assert_eq!(inbox.queued().0, sent.len());
        assert!(
            inbox.queued().1 < APART + sent.len() / JOINED + 2,
            "{:?}",
            inbox.queued()
        );
        inbox.push(Message::Done).unwrap();
        let mut read = Vec::new();
        while let Some(Message::Data(data)) = inbox.pop() {
            read.extend_from_slice(&data);
        }
        assert_eq!(read, sent);
        assert_eq!(inbox.queued(), (0, 0));
    }

    #[test]
    fn what_is_not_short_and_what_is_not_data_stays_apart() {
        let mut inbox = Inbox::new(Mode::Passive, usize::MAX);
        for _ in 0..APART {
            inbox.push(data(1)).unwrap();
        }
        inbox.push(data(SHORT)).unwrap();
        inbox.push(Message::Trailers(HeaderMap::new())).unwrap();
        inbox.push(data(1)).unwrap();
        assert_eq!(inbox.queued().1, APART + 3);
    }

    #[test]
    fn unread_informational_responses_have_a_bound() {
        let mut inbox = Inbox::new(Mode::Passive, 100);
        let one = |size: usize| {
            let mut fields = HeaderMap::new();
            fields.insert("x", "v".repeat(size).parse().unwrap());
            Message::Informational(103, fields)
        };
        // As large as it likes while nothing else lies there.
        inbox.push(one(2 * MAX_INFORMATIONAL)).unwrap();
        assert_eq!(inbox.push(one(1)), Err(Overflow));
        inbox.pop().unwrap();
        let taken = (0..1_000_000).take_while(|_| inbox.push(one(1000)).is_ok()).count();
        assert_eq!(taken, MAX_INFORMATIONAL / (1000 + 1 + 32 + 42));
        inbox.pop().unwrap();
        inbox.push(one(1000)).unwrap();
    }
}
