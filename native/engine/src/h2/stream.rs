//! A stream as its users see it: send, recv, consume, modes, close. Each call takes one short lock and never waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use h2::Reason;

use super::connection::{Connection, Place};
use super::credit::Credit;
use super::errand::Errand;
use super::inbox::{Inbox, ModeChange};
use super::options::{StreamOptions, Target};
use super::outbox::{Fin, Outbox, Payload};
use super::ready::ReadyFlag;
use super::reason::panic_text;
use super::spin::Spin;
use crate::error::{ConsumeError, EndReason, ModeError, OpenError, RecvError, SendError};
use crate::message::{Message, Mode};
use crate::outlet::{Life, Outlet};

/// How far a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Made, not connected.
    Idle,
    /// A connect is under way.
    Opening,
    /// It was open once. Whether it still is, the inbox knows.
    Open,
}

/// One HTTP/2 stream. See the module's text.
pub struct Stream<O: Outlet> {
    pub(super) outlet: O,
    pub(super) options: StreamOptions,
    pub(super) runtime: Handle,
    pub(super) state: Mutex<State<O>>,
    pub(super) link: OnceLock<Link<O>>,
    /// Wakes an opening that is to be given up.
    pub(super) cancelled: Notify,
    /// The caller has waited for something since it last sent: its next send is driven inline, for the answer it waits for hangs on
    /// it. A sender that did not wait is likely to send again at once, and its sends are left to the task, which writes many at a time.
    turn: AtomicBool,
}

/// What [`Stream::recv`] came to.
#[derive(Debug, PartialEq)]
pub enum Received {
    /// The next message.
    Message(Message),
    /// The next message has more header fields than the caller takes. It stays the next.
    Many,
    /// Nothing yet, but it will not be long: give way to others and call again.
    Nothing,
    /// Nothing yet. The waiter is woken when it should call again.
    Wait,
}

/// Where an open stream lives.
pub(super) struct Link<O: Outlet> {
    pub(super) connection: Arc<Connection<O>>,
    pub(super) ready: Arc<ReadyFlag<O>>,
    pub(super) id: u32,
}

/// What the stream's lock guards. Never held while calling into another stream; h2's own lock may be taken inside it, not the
/// other way round.
pub(super) struct State<O: Outlet> {
    pub(super) phase: Phase,
    /// Taken by the opening.
    pub(super) target: Option<Target>,
    pub(super) owner: O::Owner,
    pub(super) inbox: Inbox,
    pub(super) outbox: Outbox,
    pub(super) credit: Credit,
    /// h2's handle to give window back by, while the stream runs.
    pub(super) flow: Option<h2::FlowControl>,
    /// Body bytes for which h2 has been given nothing back: this stream's part of its connection's `unread`.
    pub(super) in_flight: usize,
    /// The user has closed the stream or is gone.
    pub(super) closing: bool,
    /// See [`Stream::abandon`].
    pub(super) abandoned: bool,
    /// The peer has answered without our side's rest.
    pub(super) unwanted: bool,
    /// What the peer is told then (RFC 9113, 7).
    pub(super) reset: Reason,
    reader: Option<O::Waiter>,
    spin: Spin,
    /// Who waits for room, and for how much.
    senders: Vec<(usize, O::Waiter)>,
    /// The keeper waits to be told how a stream fared in line for a connection; else whoever put it there sees for itself.
    pub(super) awaited: bool,
    /// It has got its place in that line.
    pub(super) admitted: bool,
    /// Why there was no place, for the latter.
    pub(super) turned_away: Option<OpenError>,
    /// The stream has left its connection.
    left: bool,
    drained_told: bool,
}

impl<O: Outlet> std::fmt::Debug for Stream<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("id", &self.link.get().map(|l| l.id))
            .finish_non_exhaustive()
    }
}

impl<O: Outlet> Stream<O> {
    /// A stream that is not connected yet: see [`Stream::open`].
    pub fn new(target: Target, options: StreamOptions, owner: O::Owner, outlet: O, runtime: Handle) -> Arc<Self> {
        Stream::made(Some(target), options, owner, outlet, runtime)
    }

    /// A stream that the peer has opened.
    pub(super) fn accepted(options: StreamOptions, owner: O::Owner, outlet: O, runtime: Handle) -> Arc<Self> {
        Stream::made(None, options, owner, outlet, runtime)
    }

    fn made(target: Option<Target>, options: StreamOptions, owner: O::Owner, outlet: O, runtime: Handle) -> Arc<Self> {
        let ours = target.is_some();
        let state = State {
            phase: Phase::Idle,
            target,
            owner,
            inbox: if options.events {
                Inbox::of_events(options.mode, options.max_recv_buffer)
            } else {
                Inbox::new(options.mode, options.max_recv_buffer)
            },
            outbox: if ours {
                Outbox::new(options.max_send_buffer)
            } else {
                Outbox::with_head(options.max_send_buffer)
            },
            credit: Credit::new(options.flow_control, options.connection.initial_window_size),
            flow: None,
            in_flight: 0,
            closing: false,
            abandoned: false,
            unwanted: false,
            reset: Reason::CANCEL,
            reader: None,
            spin: Spin::default(),
            senders: Vec::new(),
            awaited: false,
            admitted: false,
            turned_away: None,
            left: false,
            drained_told: false,
        };
        Arc::new(Stream {
            outlet,
            options,
            runtime,
            state: Mutex::new(state),
            link: OnceLock::new(),
            cancelled: Notify::new(),
            turn: AtomicBool::new(true),
        })
    }

    /// Its identifier, once it is open (RFC 9113, 5.1.1).
    pub fn id(&self) -> Option<u32> {
        self.link.get().map(|link| link.id)
    }

    /// Whether the connection ends, or has ended, on which it was opened.
    pub fn ends_with_connection(&self) -> bool {
        self.link.get().is_some_and(|link| link.connection.is_ending())
    }

    /// It is over, and has told of it whom it had to.
    pub fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.left && (state.inbox.is_drained() || state.closing)
    }

    /// Where its events go.
    pub fn outlet(&self) -> &O {
        &self.outlet
    }

    /// What it was made with.
    pub fn options(&self) -> &StreamOptions {
        &self.options
    }

    /// Queues body bytes, with `fin` as the last. Takes all or nothing.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(&self, payload: Payload<'_>, fin: bool) -> Result<(), SendError> {
        let mut state = self.sendable()?;
        if !state.outbox.has_room(payload.len()) {
            return Err(SendError::Full(self.options.send_timeout));
        }
        if payload.len() == 0 && !fin {
            return Ok(());
        }
        state.outbox.push(payload);
        if fin {
            state.outbox.finish(Fin::Data);
        }
        drop(state);
        self.push_out();
        Ok(())
    }

    /// Queues trailing header fields behind all data; our side ends with them.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send_trailers(&self, trailers: HeaderMap) -> Result<(), SendError> {
        let mut state = self.sendable()?;
        state.outbox.finish(Fin::Trailers(trailers));
        drop(state);
        self.push_out();
        Ok(())
    }

    pub(super) fn sendable(&self) -> Result<parking_lot::MutexGuard<'_, State<O>>, SendError> {
        let state = self.state.lock();
        if !state.outbox.is_headed() {
            Err(SendError::NoResponse)
        } else if state.inbox.is_ended() {
            Err(SendError::Closed)
        } else if state.phase != Phase::Open {
            Err(SendError::NotConnected)
        } else if !state.outbox.is_open() {
            Err(SendError::StreamClosed)
        } else {
            Ok(state)
        }
    }

    /// Has `waiter` woken when `size` bytes may have room, or the stream ends. Room for any size (`usize::MAX`) there is when all that
    /// was queued has left, an end included. False when there is no need to wait.
    pub fn await_room(&self, size: usize, waiter: impl FnOnce() -> O::Waiter) -> bool {
        let mut state = self.state.lock();
        let wait = !state.sender_should_look(size);
        if wait {
            state.senders.push((size, waiter()));
        }
        wait
    }

    /// Gets what was queued onto the wire, by this thread if the caller will wait for an answer and nobody else is driving.
    pub(super) fn push_out(&self) {
        let Some(link) = self.link.get() else { return };
        link.ready.mark();
        if self.turn.swap(false, Relaxed) {
            let _ = link.connection.drive(Place::Sender);
        } else {
            link.connection.drive_soon();
        }
    }

    /// The next message, or what to do when there is none yet: see [`Received`]. `id` is the waiter's identity, `most_fields` the
    /// number of header fields up to which the caller takes the message.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub fn recv(
        self: &Arc<Self>,
        id: u64,
        most_fields: usize,
        waiter: impl FnOnce() -> O::Waiter,
    ) -> Result<Received, RecvError> {
        self.turn.store(true, Relaxed);
        let mut driven = false;
        loop {
            let mut state = self.state.lock();
            let mode = state.inbox.mode();
            // The owner of a stream that never opened hears of that by the opening, and gets nothing posted.
            if state.phase == Phase::Open && state.inbox.is_for_owner() {
                return Err(RecvError::ActiveMode(mode));
            }
            if state.inbox.next_fields() > most_fields {
                return Ok(Received::Many);
            }
            if let Some(message) = state.inbox.pop() {
                state.spin.found_something();
                state.took(message.body_len(), self.link.get());
                self.tell_if_drained(&state);
                return Ok(Received::Message(message));
            }
            if let Some(end) = state.inbox.told_end() {
                self.tell_if_drained(&state);
                return Err(RecvError::Ended(end));
            }
            if state.phase != Phase::Open {
                return Err(RecvError::NotConnected);
            }
            if let Some(other) = state.reader.as_ref().map(O::waiter_id).filter(|other| *other != id) {
                return Err(RecvError::Busy(other));
            }
            match self.link.get() {
                // While answers come quickly, it is worth while to ask the socket for the next.
                Some(link) if !driven && state.spin.is_quick() => {
                    drop(state);
                    let _ = link.connection.drive(Place::Reader);
                    driven = true;
                }
                _ if state.spin.found_nothing() => return Ok(Received::Nothing),
                _ => {
                    state.reader = Some(waiter());
                    return Ok(Received::Wait);
                }
            }
        }
    }

    /// Forgets the waiters with identity `id`: they have given up, or are dead. True when there was one.
    pub fn forget_waiter(&self, id: u64) -> bool {
        let mut state = self.state.lock();
        let reader = state.reader.take_if(|reader| O::waiter_id(reader) == id).is_some();
        let before = state.senders.len();
        state.senders.retain(|(_, sender)| O::waiter_id(sender) != id);
        reader || state.senders.len() < before
    }

    /// Gives `n` received bytes back to the windows of the stream and the connection.
    ///
    /// # Errors
    /// See [`ConsumeError`]. After the end there is no window left to manage, and nothing to complain about.
    pub fn consume(&self, n: usize) -> Result<(), ConsumeError> {
        let mut state = self.state.lock();
        if state.inbox.is_ended() {
            return Ok(());
        }
        if state.phase != Phase::Open {
            return Err(ConsumeError::NotConnected);
        }
        let due = state.credit.consume(n).map_err(ConsumeError::TooMuch)?;
        state.give_back(due, self.link.get());
        Ok(())
    }

    /// Changes the delivery mode. What is queued goes to the owner at once as far as the mode allows.
    ///
    /// # Errors
    /// See [`ModeError`].
    pub fn set_mode(self: &Arc<Self>, change: ModeChange) -> Result<(), ModeError> {
        let mut state = self.state.lock();
        if state.phase != Phase::Open && !state.inbox.is_ended() {
            return Err(ModeError::NotConnected);
        }
        state.inbox.set_mode(change)?;
        let deliver = state.wants_delivery();
        drop(state);
        if deliver {
            self.deliver_soon();
        }
        Ok(())
    }

    /// Posts to `owner` from now on.
    pub fn set_owner(&self, owner: O::Owner) {
        self.state.lock().owner = owner;
    }

    /// Ends the stream at its user's wish: RST_STREAM(CANCEL) if it still runs. Nothing is posted to the owner after this returns;
    /// what was queued in passive mode can still be read.
    pub fn close(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.inbox.close();
        // By its user before, or by the engine, which told the owner of it: then only that has to stop.
        if std::mem::replace(&mut state.closing, true) {
            self.tell_if_drained(&state);
            return;
        }
        let unread = state.inbox.close();
        let much = state.outbox.queued() > 0 || !unread.is_empty();
        let unsent = state.outbox.clear();
        let waited_for = state.is_waited_for();
        drop(state);
        self.cancelled.notify_one();
        // Freeing much can take long, and only the engine's threads wake waiters: neither is for the caller's thread.
        if much || waited_for {
            self.run_soon(move |stream| {
                drop((unsent, unread));
                stream.wake_everybody();
            });
        }
        if let Some(link) = self.link.get() {
            link.ready.mark();
            let _ = link.connection.drive(Place::Sender);
        }
    }

    /// Ends the stream because the engine stops: its users hear that it is closed. Engine threads only.
    pub fn abort(self: &Arc<Self>) {
        self.state.lock().closing = true;
        self.cancelled.notify_one();
        self.fail(EndReason::Closed);
        if let Some(link) = self.link.get() {
            link.ready.mark();
            link.connection.drive_soon();
        }
    }

    /// Closes the stream whose keeper is gone: nobody will read what is queued.
    pub fn bury(self: &Arc<Self>) {
        self.close();
        let mut state = self.state.lock();
        state.drained_told = true;
        let unread = state.inbox.clear();
        let target = state.target.take();
        drop(state);
        if !unread.is_empty() || target.is_some() {
            self.runtime.spawn(async move { drop((unread, target)) });
        }
    }

    /// The stream is open, and its keeper hears so ahead of all else: under the lock, for from now on others may end it. The peer
    /// may have ended it already, in the same breath as it opened it. Engine threads only.
    pub(super) fn opened(&self) {
        let mut state = self.state.lock();
        state.phase = Phase::Open;
        self.outlet.life(Life::Opened);
        if state.left {
            self.outlet.life(Life::Ended);
        }
        drop(state);
        self.deliver();
    }

    /// The stream has left its connection, whatever the reason. Engine threads only.
    pub(super) fn leave(&self) {
        self.fail(EndReason::Closed);
        let mut state = self.state.lock();
        let left_before = std::mem::replace(&mut state.left, true);
        // While it is being opened, the opening tells how that went.
        if !left_before && state.phase == Phase::Open {
            self.outlet.life(Life::Ended);
        }
    }

    /// Ends the stream for `reason`. Engine threads only.
    pub(super) fn fail(&self, reason: EndReason) {
        let mut state = self.state.lock();
        state.inbox.end(reason);
        drop(state.outbox.clear());
        state.flow = None;
        drop(state);
        self.wake_everybody();
        self.deliver();
    }

    fn wake_everybody(&self) {
        let mut state = self.state.lock();
        let waiters: Vec<_> = state.senders.drain(..).map(|(_, waiter)| waiter).collect();
        let reader = state.reader.take();
        drop(state);
        waiters
            .into_iter()
            .chain(reader)
            .for_each(|waiter| self.outlet.wake(waiter));
    }

    /// Posts what the mode allows and wakes a reader that has something to read. Engine threads only. The lock is held while
    /// posting, message by message: so the order is kept, and after `close` has had the lock nothing is posted.
    pub(super) fn deliver(&self) {
        loop {
            let mut state = self.state.lock();
            if self.hand_over(&mut state) {
                continue;
            }
            if let Some(waiter) = state.next_waiter() {
                // It calls us as soon as it is awake: not into a lock that is still held.
                drop(state);
                self.outlet.wake(waiter);
                continue;
            }
            // Whoever failed to open a stream is told so, and hears nothing else of it.
            if state.phase != Phase::Open {
                return;
            }
            let Some(notice) = state.inbox.next_notice() else {
                if state.inbox.is_drained() && !std::mem::replace(&mut state.drained_told, true) {
                    self.outlet.life(Life::Drained);
                }
                return;
            };
            let size = notice.body_len();
            let id = self.link.get().map_or(0, |link| link.id);
            self.outlet.notify(&state.owner, id, notice);
            state.took(size, self.link.get());
            self.turn.store(true, Relaxed);
        }
    }

    /// Hands a waiting reader the message it waits for, which spares it a call. True when there was such a reader. Under the lock, so that
    /// no other reader gets what comes behind it first, should this one turn out to be dead.
    fn hand_over(&self, state: &mut State<O>) -> bool {
        if state.inbox.mode() != Mode::Passive || state.inbox.short().is_none() {
            return false;
        }
        let Some(reader) = state.reader.take_if(|reader| O::takes_messages(reader)) else {
            return false;
        };
        if let Some(message) = state.inbox.short()
            && self.outlet.hand(reader, message).is_ok()
            && let Some(message) = state.inbox.pop()
        {
            state.spin.found_something();
            state.took(message.body_len(), self.link.get());
        }
        true
    }

    /// [`Stream::deliver`] for callers on other threads than the engine's.
    pub(super) fn deliver_soon(self: &Arc<Self>) {
        self.run_soon(|stream| stream.deliver());
    }

    /// Runs `work` on one of the engine's threads, also when these are being stopped. A panic in it ends the stream: never silently.
    pub(super) fn run_soon(self: &Arc<Self>, work: impl FnOnce(&Self) + Send + 'static) {
        let stream = self.clone();
        let errand = Errand::new(move || {
            let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(&stream))) else {
                return;
            };
            let mut state = stream.state.lock();
            state.inbox.end(EndReason::Panic(panic_text(&*panic)));
            // The connection's pump finds it so, cancels the stream and tells its users.
            state.closing = true;
            drop(state);
            if let Some(link) = stream.link.get() {
                link.ready.mark();
                link.connection.drive_soon();
            }
        });
        self.runtime.spawn(async move { errand.run() });
    }

    fn tell_if_drained(self: &Arc<Self>, state: &State<O>) {
        if state.inbox.is_drained() && !state.drained_told {
            self.deliver_soon();
        }
    }
}

impl<O: Outlet> State<O> {
    pub(super) fn has_reader(&self) -> bool {
        self.reader.is_some()
    }

    /// Some process waits for something to read or for room to send.
    pub(super) fn is_waited_for(&self) -> bool {
        self.reader.is_some() || !self.senders.is_empty()
    }

    /// A reader, a sender or an active owner should hear something.
    pub(super) fn wants_delivery(&self) -> bool {
        self.reader_should_look()
            || self.inbox.has_notice()
            || self.senders.iter().any(|(size, _)| self.sender_should_look(*size))
    }

    /// A waiter that should look again: the reader, or the first sender in line for whom there is room.
    fn next_waiter(&mut self) -> Option<O::Waiter> {
        if self.reader_should_look() {
            return self.reader.take();
        }
        let first = self
            .senders
            .iter()
            .position(|(size, _)| self.sender_should_look(*size))?;
        Some(self.senders.remove(first).1)
    }

    /// There is room, or there never will be: the peer has ended the stream, or our side is ended.
    fn sender_should_look(&self, size: usize) -> bool {
        if size == usize::MAX {
            return self.inbox.is_ended() || self.outbox.is_flushed();
        }
        self.inbox.is_ended() || !self.outbox.is_open() || self.outbox.has_room(size)
    }

    pub(super) fn end_reason(&self) -> Option<EndReason> {
        if self.inbox.is_closed() {
            Some(EndReason::Reset(self.reset.into()))
        } else {
            self.inbox.end_reason()
        }
    }

    fn reader_should_look(&self) -> bool {
        self.reader.is_some() && (self.inbox.is_readable() || self.inbox.mode() != Mode::Passive)
    }

    pub(super) fn received(&mut self, connection: &Connection<O>, n: usize) {
        if n > 0 {
            self.credit.received(n);
            self.in_flight += n;
            connection.unread.fetch_add(n, Relaxed);
        }
    }

    pub(super) fn took(&mut self, n: usize, link: Option<&Link<O>>) {
        if n > 0
            && let Some(due) = self.credit.taken(n)
        {
            self.give_back(due, link);
        }
    }

    pub(super) fn give_back(&mut self, n: usize, link: Option<&Link<O>>) {
        if n > 0
            && let Some(flow) = &mut self.flow
            && let Some(link) = link
        {
            // It fails when more is given back than was received, which `Credit` rules out.
            let released = flow.release_capacity(n);
            debug_assert!(released.is_ok(), "{released:?}");
            self.in_flight -= n;
            link.connection.unread.fetch_sub(n, Relaxed);
        }
    }
}
