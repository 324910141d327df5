//! The stream's user: calls, and what has to come of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hackney_engine::error::{OpenError, RecvError, SendError};
use hackney_engine::h2::fuzzing::open_over;
use hackney_engine::h2::{
    FlowControl, Info, ModeChange, Payload, Received, Stream, StreamOptions, StreamState, Target,
};
use hackney_engine::{Life, Mode, Notice};
use http::{HeaderMap, HeaderValue};
use tokio::runtime::Handle;

use super::heard::Heard;
use super::outlet::{Record, Recorder, Waiter, recorder};
use super::peer::body_byte;
use super::steps::{Call, Id};
use super::wire::Wire;

/// An opening's deadline.
const DEADLINE: Duration = Duration::from_secs(5);

pub(super) struct User {
    pub(super) stream: Arc<Stream<Recorder>>,
    pub(super) record: Record,
    pub(super) heard: Heard,
    /// Body bytes taken by `send`, and whether our side was ended behind them.
    pub(super) sent: usize,
    pub(super) finished: bool,
    /// Bytes that `consume` has taken.
    pub(super) consumed: usize,
    /// A call has found it so.
    pub(super) was_open: bool,
    pub(super) closed: bool,
    /// Closed, and no mode set since: nothing may be posted.
    silent: bool,
    pub(super) buried: bool,
    options: StreamOptions,
    largest_send: usize,
    mode: Mode,
    reader: Option<Waiting>,
    senders: Vec<Waiting>,
    tickets: u64,
}

/// A wait that nobody has been woken from yet.
struct Waiting {
    id: u64,
    ticket: u64,
    size: usize,
}

impl User {
    pub(super) fn open(target: Target, options: StreamOptions, wire: Wire) -> Self {
        let (outlet, record) = recorder();
        let mode = options.mode;
        let stream = Stream::new(target, options, 0, outlet, Handle::current());
        open_over(&stream, wire, Some(DEADLINE)).expect("the request is a good one");
        assert!(matches!(stream.open(None), Err(OpenError::Already)));
        User {
            stream,
            record,
            heard: Heard::nothing(),
            sent: 0,
            finished: false,
            consumed: 0,
            was_open: false,
            closed: false,
            silent: false,
            buried: false,
            options,
            largest_send: 0,
            mode,
            reader: None,
            senders: Vec::new(),
            tickets: 0,
        }
    }

    pub(super) fn call(&mut self, call: &Call) {
        match call {
            Call::Send { size, shared, fin } => self.send(size.0, *shared, *fin),
            Call::Trailers => self.send_trailers(),
            Call::Recv(id) => {
                self.recv(*id);
            }
            Call::Consume(size) => {
                let outstanding = self.stream.consume(size.0);
                if outstanding.is_ok() && self.options.flow_control == FlowControl::Manual {
                    self.consumed += size.0;
                }
            }
            Call::Mode(mode) => {
                let change = mode.change();
                if self.stream.set_mode(change).is_ok() {
                    self.silent = false;
                    self.mode = match change {
                        ModeChange::Set(mode) => mode,
                        // How much of the count is left, the engine knows.
                        ModeChange::Add(_) => Mode::Count(0),
                    };
                }
            }
            Call::AwaitRoom(id, size) => self.await_room(*id, size.0),
            Call::Forget(id) => {
                // Whoever was woken meanwhile is not there any more.
                self.listen();
                let waited = self.reader.take_if(|reader| reader.id == id.0).is_some();
                let before = self.senders.len();
                self.senders.retain(|sender| sender.id != id.0);
                let waited = waited || self.senders.len() < before;
                assert_eq!(self.stream.forget_waiter(id.0), waited);
            }
            Call::Owner(owner) => self.stream.set_owner(*owner),
            Call::Info => {
                self.stream.info();
            }
            Call::Close => {
                self.listen();
                self.stream.close();
                self.closed = true;
                self.silent = true;
            }
            Call::Bury => {
                self.listen();
                self.stream.bury();
                self.closed = true;
                self.silent = true;
                self.buried = true;
            }
            Call::Abort => self.stream.abort(),
        }
    }

    fn send(&mut self, size: usize, shared: bool, fin: bool) {
        let bytes: Vec<u8> = (self.sent..self.sent + size).map(body_byte).collect();
        let queued = self.stream.info().send_queue_bytes;
        let result = if shared {
            let (first, second) = bytes.split_at(size / 2);
            let parts = [first, second].map(Bytes::copy_from_slice);
            self.stream.send(Payload::Shared(parts.into()), fin)
        } else {
            self.stream.send(Payload::Copied(&bytes), fin)
        };
        match result {
            Ok(()) => {
                assert!(!self.finished && !self.closed, "sent after the end");
                self.was_open = true;
                self.sent += size;
                self.finished = fin;
                self.largest_send = self.largest_send.max(size);
            }
            Err(SendError::Full(_)) => assert!(queued > 0 && queued + size > self.options.max_send_buffer),
            Err(SendError::StreamClosed) => assert!(self.finished),
            Err(SendError::NotConnected | SendError::Closed) => {}
            // Of servers.
            Err(error @ (SendError::NoResponse | SendError::Responded)) => panic!("{error:?}"),
        }
    }

    fn send_trailers(&mut self) {
        let mut trailers = HeaderMap::new();
        trailers.insert("t", HeaderValue::from_static("v"));
        match self.stream.send_trailers(trailers) {
            Ok(()) => {
                assert!(!self.finished && !self.closed, "trailers after the end");
                self.finished = true;
            }
            Err(error) => assert!(!matches!(error, SendError::Full(_))),
        }
    }

    /// False when there is nothing to read for now, or for ever.
    fn recv(&mut self, id: Id) -> bool {
        self.listen();
        let ticket = self.ticket();
        match self.stream.recv(id.0, usize::MAX, || Waiter { id: id.0, ticket }) {
            Ok(Received::Message(message)) => {
                self.heard.message(message);
                return true;
            }
            Ok(Received::Nothing) => {}
            Ok(Received::Many) => panic!("any number of fields was welcome"),
            Ok(Received::Wait) => {
                self.reader = Some(Waiting {
                    id: id.0,
                    ticket,
                    size: 0,
                });
            }
            Err(RecvError::Ended(reason)) => self.heard.read_end(reason),
            Err(RecvError::Busy(other)) => {
                assert_eq!(self.reader.as_ref().map(|reader| reader.id), Some(other));
                assert_ne!(other, id.0);
            }
            Err(RecvError::ActiveMode(mode)) => assert_ne!(mode, Mode::Passive),
            Err(RecvError::NotConnected) => {}
        }
        false
    }

    fn await_room(&mut self, id: Id, size: usize) {
        let ticket = self.ticket();
        if self.stream.await_room(size, || Waiter { id: id.0, ticket }) {
            self.senders.push(Waiting { id: id.0, ticket, size });
        }
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// Takes in what the outlet has been told.
    pub(super) fn listen(&mut self) {
        let (notices, woken) = {
            let mut told = self.record.told();
            (std::mem::take(&mut told.notices), std::mem::take(&mut told.woken))
        };
        for notice in notices {
            let told_more = !matches!(notice, Notice::Message(_) | Notice::Passive);
            let unwanted = self.silent || (self.closed && told_more);
            assert!(!unwanted, "{notice:?} after close");
            self.heard.notice(notice);
        }
        for ticket in woken {
            self.reader.take_if(|reader| reader.ticket == ticket);
            self.senders.retain(|sender| sender.ticket != ticket);
        }
    }

    /// Reads all there is, in whatever mode.
    pub(super) fn read_all(&mut self) {
        while self.recv(Id(0)) {}
    }

    pub(super) fn nobody_waits_in_vain(&self, info: &Info) {
        let over = info.state == StreamState::Closed;
        assert!(info.recv_queue_bytes <= self.options.max_recv_buffer);
        assert!(info.send_queue_bytes <= self.options.max_send_buffer.max(self.largest_send));
        if let Some(reader) = &self.reader {
            assert!(info.recv_waiting, "{} is forgotten", reader.id);
            assert!(info.recv_queue_messages == 0 && !over, "{} is not woken", reader.id);
            assert_ne!(self.mode, Mode::Active, "{} is not woken", reader.id);
        }
        for sender in &self.senders {
            let room = info.send_queue_bytes == 0
                || info.send_queue_bytes.saturating_add(sender.size) <= self.options.max_send_buffer;
            assert!(!room && !over, "{} is not woken", sender.id);
        }
        let opened = matches!(self.record.told().lives.first(), Some(Life::Opened));
        if self.mode == Mode::Active && opened && !self.closed {
            assert_eq!(info.recv_queue_messages, 0, "messages are not posted");
            assert!(!over || self.heard.end.is_some(), "the end is not posted");
        }
    }
}
