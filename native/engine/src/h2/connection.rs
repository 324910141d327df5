//! A connection: h2's state machine over the socket, the streams on it, and who drives it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use atomic_waker::AtomicWaker;
use http::Request;
use parking_lot::Mutex;
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite};

use super::admission::Admissions;
use super::baton::{Baton, LetGo};
use super::crowd::Crowd;
use super::errand::Errand;
use super::facts::{Ending, Facts};
use super::info::Endpoints;
use super::load::Load;
use super::pump::{Pump, Pumped};
use super::ready::ReadyFlag;
use super::reason::panic_text;
use super::side::{Accepted, Side};
use super::stream::{Link, Phase, Stream};
use super::tap::Allowance;
use crate::error::{EndReason, Loss, OpenError};
use crate::net;
use crate::outlet::Outlet;

/// What carries a connection's bytes.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// No window may be larger (RFC 9113, 6.9.1).
const MAX_WINDOW: u32 = 0x7fff_ffff;

/// Streams taken in at one time, before those that are there have their turn.
const ACCEPTS: usize = 64;

/// Rounds before others get their turn. The rest is the task's, which yields to the runtime between its turns.
const ROUNDS: usize = 4;

/// Which thread drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A sender's, inside a NIF call: works little and posts nothing.
    Sender,
    /// That of one who opens a stream, inside a NIF call: as a sender's, but where the task does the writing the stream gets its identifier
    /// at once all the same.
    Opener,
    /// A reader's, inside a NIF call: the same, and asks the socket itself whether there is something to read.
    Reader,
    /// The connection's task, on the engine's threads.
    Task,
}

impl Place {
    pub(super) fn is_inline(self) -> bool {
        self != Place::Task
    }

    /// Bytes read and bytes written: inline in all rounds together, so that a turn stays far below 1 ms, else in each round.
    /// Reading 32 KiB of the shortest frames takes some 100 us, encrypting and writing 128 KiB some 200 us.
    fn allowance(self) -> (usize, usize) {
        if self.is_inline() {
            (32 * 1024, 128 * 1024)
        } else {
            (256 * 1024, 256 * 1024)
        }
    }

    /// Streams looked after, or opened, in each half of a round: each may take some microseconds.
    pub(super) fn streams(self) -> usize {
        if self.is_inline() { 16 } else { 256 }
    }
}

/// See the module's text.
pub(crate) struct Connection<O: Outlet> {
    pub(crate) facts: Arc<Facts>,
    pub(crate) endpoints: Endpoints,
    allowance: Arc<Allowance>,
    baton: Baton,
    /// Locked only by who holds the baton, so never waited for. `None` once the connection is over.
    driver: Mutex<Option<Driver<O>>>,
    /// Keys of the streams that have something to do.
    ready: Mutex<Vec<usize>>,
    task: AtomicWaker,
    /// Streams that wait to be opened: see [`super::admission`].
    pub(super) admissions: Admissions<O>,
    /// The receive window to keep open beside what lies unread, on a connection that streams share: see [`Connection::widen`].
    window: Option<u32>,
    /// Body bytes received on all streams and not given back.
    pub(super) unread: AtomicUsize,
    /// The user has closed the connection.
    closing: AtomicBool,
    /// It is lost, though its byte stream does not say so.
    given_up: AtomicBool,
    /// The peer opens the streams.
    pub(super) serves: bool,
    /// Its task alone reads and writes: a server's writes the answers to many requests at a time, see also [`super::Carrier`].
    by_task: bool,
    crowd: Crowd,
    /// No stream is to be opened on it any more.
    retiring: AtomicBool,
    pub(super) load: Load,
    /// It ends, and with it the streams that are left.
    ending: AtomicBool,
}

/// What is driven.
pub(super) struct Driver<O: Outlet> {
    pub(super) side: Side<O>,
    pub(super) streams: Slab<Pump<O>>,
    /// Every stream was told that its user has closed the connection.
    closed: bool,
    /// No stream is opened any more, as was ordered.
    retired: bool,
    /// h2 has finished: the task is to bury the connection.
    finished: bool,
    /// The GOAWAYs that were looked at.
    goaways: u32,
    /// The receive window that h2 was told to keep.
    target_window: u32,
    /// The waker that h2 is polled with: the connection itself.
    pub(super) waker: Waker,
    /// The list that `ready` is swapped with, to keep its memory.
    spare: Vec<usize>,
    /// Streams looked after in this round.
    looked_after: usize,
}

impl<O: Outlet> Connection<O> {
    /// `window`: the receive window of a connection that streams share.
    pub(super) fn new(
        facts: Arc<Facts>,
        allowance: Arc<Allowance>,
        endpoints: Endpoints,
        window: Option<u32>,
        (serves, carried): (bool, bool),
    ) -> Arc<Self> {
        Arc::new(Connection {
            facts,
            endpoints,
            allowance,
            baton: Baton::new(),
            driver: Mutex::new(None),
            ready: Mutex::new(Vec::new()),
            task: AtomicWaker::new(),
            admissions: Admissions::default(),
            window,
            unread: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            serves,
            by_task: serves || carried,
            crowd: Crowd::default(),
            retiring: AtomicBool::new(false),
            load: Load::default(),
            ending: AtomicBool::new(false),
        })
    }

    /// Puts h2's side of the connection in. With `only`, the one stream it is for; else streams come later.
    pub(super) fn start(
        self: &Arc<Self>,
        side: Side<O>,
        only: Option<(Arc<Stream<O>>, Request<()>)>,
    ) -> Result<(), OpenError> {
        let mut driver = Driver {
            side,
            streams: Slab::new(),
            closed: false,
            retired: false,
            finished: false,
            goaways: 0,
            target_window: self.window.unwrap_or_default(),
            waker: Waker::from(self.clone()),
            spare: Vec::new(),
            looked_after: 0,
        };
        if let Some((stream, request)) = only {
            driver.streams.reserve_exact(1);
            self.launch(&mut driver, &stream, request, false)?;
            driver.side.open_no_more();
        }
        *self.driver.lock() = Some(driver);
        Ok(())
    }

    /// Sends a stream's request, with `fin` all of it.
    pub(super) fn launch(
        self: &Arc<Self>,
        driver: &mut Driver<O>,
        stream: &Arc<Stream<O>>,
        request: Request<()>,
        fin: bool,
    ) -> Result<(), OpenError> {
        let (response, sending) = driver.side.send_request(request, fin)?;
        let id = sending.stream_id().as_u32();
        self.enter(&mut driver.streams, stream, id, |ready| {
            Pump::new(stream.clone(), response, (sending, fin), id, ready)
        });
        Ok(())
    }

    fn enter(
        self: &Arc<Self>,
        streams: &mut Slab<Pump<O>>,
        stream: &Stream<O>,
        id: u32,
        pump: impl FnOnce(Arc<ReadyFlag<O>>) -> Pump<O>,
    ) {
        let entry = streams.vacant_entry();
        let ready = ReadyFlag::new(self.clone(), entry.key());
        let link = Link {
            connection: self.clone(),
            ready: ready.clone(),
            id,
        };
        // Set once: only one opening gets here, see `Phase`.
        let _ = stream.link.set(link);
        self.load.count_opened();
        entry.insert(pump(ready.clone()));
        ready.mark();
    }

    /// Gives up a connection whose peer does not answer.
    pub(super) fn give_up(&self, loss: Loss) {
        self.facts.end(Ending::Broken(loss));
        self.given_up.store(true, Ordering::Release);
        self.drive_soon();
    }

    /// Closes the connection at its user's wish: its streams end, and it says goodbye.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.drive_soon();
    }

    /// For [`ReadyFlag`] only.
    pub(super) fn list_ready(&self, key: usize) {
        self.ready.lock().push(key);
    }

    /// Sees to it that the connection is driven soon: by the thread that is driving now, or by the task.
    pub(super) fn drive_soon(&self) {
        if !self.baton.note() {
            self.task.wake();
        }
    }

    /// Has no stream opened any more. With the last that there is, the connection ends.
    pub(super) fn retire(&self) {
        self.retiring.store(true, Ordering::Release);
        self.drive_soon();
    }

    /// Streams may be opened, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        !self.retiring.load(Ordering::Acquire)
            && !self.is_closing()
            && self.facts.goaway().is_none()
            && self.facts.ending().is_none()
    }

    /// Its user has closed it, whether or not the task has come to that.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(super) fn is_retiring(&self) -> bool {
        self.retiring.load(Ordering::Acquire)
    }

    /// A handle to send PINGs with; there is one only.
    pub(super) fn ping_pong(&self) -> Option<h2::PingPong> {
        self.driver.lock().as_mut().and_then(|driver| driver.side.ping_pong())
    }

    /// Has the connection's task polled: called by the task, before it drives.
    pub(super) fn register_task(&self, waker: &Waker) {
        self.task.register(waker);
    }

    /// Drives the connection unless somebody does already, who then goes round once more. `Ready` when it is over, told to the
    /// task only.
    pub(super) fn drive(self: &Arc<Self>, place: Place) -> Poll<()> {
        if place.is_inline() && place != Place::Opener && self.is_left_to_task() {
            self.drive_soon();
            return Poll::Pending;
        }
        if place.is_inline() {
            net::in_a_short_turn(|| self.take_turn(place))
        } else {
            self.take_turn(place)
        }
    }

    /// Others than the task do not read and write.
    fn is_left_to_task(&self) -> bool {
        self.by_task || self.crowd.is_there()
    }

    fn take_turn(self: &Arc<Self>, place: Place) -> Poll<()> {
        if !self.baton.take_or_note() {
            return Poll::Pending;
        }
        let mut tell_task = false;
        let mut rounds = ROUNDS;
        self.allowance.set(place.allowance());
        loop {
            let mut slot = self.driver.lock();
            let Some(driver) = slot.as_mut() else {
                self.baton.drop_it();
                return Poll::Ready(());
            };
            tell_task |= self.guarded_round(driver, place);
            let finished = driver.finished;
            if finished && place == Place::Task {
                let driver = slot.take();
                drop(slot);
                self.baton.drop_it();
                // A panic inside h2 leaves its lock poisoned, and its handles panic again.
                let _ = catch_unwind(AssertUnwindSafe(|| driver.map(|driver| self.bury(driver))));
                return Poll::Ready(());
            }
            drop(slot);
            rounds -= 1;
            if finished || rounds == 0 {
                self.baton.drop_it();
                self.task.wake();
                return Poll::Pending;
            }
            if self.baton.let_go() == LetGo::Free {
                if tell_task && place.is_inline() {
                    self.task.wake();
                }
                return Poll::Pending;
            }
            if place == Place::Task {
                self.allowance.set(place.allowance());
            }
        }
    }

    /// A round; a panic in it ends the connection. True when the task should learn of what has changed.
    fn guarded_round(self: &Arc<Self>, driver: &mut Driver<O>, place: Place) -> bool {
        driver.finished |= self.given_up.load(Ordering::Acquire);
        if driver.finished {
            return true;
        }
        match catch_unwind(AssertUnwindSafe(|| self.round(driver, place))) {
            Ok(tell_task) => tell_task,
            Err(panic) => {
                driver.streams.iter().for_each(|(_, pump)| {
                    pump.stream
                        .state
                        .lock()
                        .inbox
                        .end(EndReason::Panic(panic_text(&*panic)));
                });
                driver.finished = true;
                true
            }
        }
    }

    /// It ends, or has ended.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Drops the connection as it stands: whoever is to hear of it has heard. It holds its streams, which hold it: without this
    /// they would keep each other for ever.
    pub(super) fn sever(&self) {
        self.ending.store(true, Ordering::Release);
        while !self.baton.take_or_note() {
            // An inline driver holds it, for microseconds.
            std::thread::yield_now();
        }
        let driver = self.driver.lock().take();
        self.baton.drop_it();
        let Some(mut driver) = driver else { return };
        // Only where the runtime was stopped before the connection was over.
        let streams: Vec<_> = driver.streams.drain().map(|pump| pump.stream.clone()).collect();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(driver)));
        if self.is_shared() {
            drop(Errand::new(move || streams.iter().for_each(|stream| stream.leave())));
        }
    }

    /// No stream is left and none can come: only the goodbye is under way.
    pub(super) fn is_idle(&self) -> bool {
        // Taken while an inline driver works: then it is not idle, and the task is woken again.
        self.driver.try_lock().is_some_and(|slot| {
            slot.as_ref()
                .is_none_or(|driver| driver.streams.is_empty() && !driver.side.is_open())
        })
    }

    /// One round: what callers queued goes to h2, h2 reads and writes, what came goes to the streams. True when the task should learn
    /// of what has changed.
    fn round(self: &Arc<Self>, driver: &mut Driver<O>, place: Place) -> bool {
        let mut news = false;
        if self.is_retiring() && !driver.retired {
            driver.retired = true;
            driver.side.retire();
            // The task asks whether this was the end.
            news = true;
        }
        if self.is_closing() && !driver.closed {
            // However many streams there are to be ended: not on a caller's thread.
            news |= place.is_inline();
            if place == Place::Task {
                self.end_all(driver);
            }
        }
        news |= self.admit(driver, place);
        if place == Place::Opener && self.is_left_to_task() {
            // Nothing was read or written so far, and nothing must be ahead of this. The task is told to, which serves every note.
            self.baton.clear_note();
            return true;
        }
        news |= self.pump_ready(driver, place);
        self.baton.clear_note();
        // Ordered since the top of the round: the note that was left for it is gone.
        if self.is_ordered(driver) {
            if place.is_inline() {
                news = true;
            } else {
                self.drive_soon();
            }
        }
        driver.finished = if place == Place::Reader {
            net::reading_eagerly(|| self.poll_h2(driver))
        } else {
            self.poll_h2(driver)
        };
        if driver.finished {
            self.ending.store(true, Ordering::Release);
        }
        news |= self.heed_goaway(driver);
        news |= self.admit(driver, place);
        news |= self.pump_ready(driver, place);
        let looked_after = std::mem::take(&mut driver.looked_after);
        if place == Place::Task {
            self.crowd.count(looked_after);
        }
        self.widen(driver);
        if self.is_shared() {
            self.load.allow(driver.side.max_send_streams());
        }
        news
    }

    /// Its user, or its task, wants of the connection what was not done yet.
    fn is_ordered(&self, driver: &Driver<O>) -> bool {
        self.given_up.load(Ordering::Acquire)
            || self.is_closing() && !driver.closed
            || self.is_retiring() && !driver.retired
    }

    /// Lets h2 work, and takes in the streams that the peer has opened. True when h2 has finished.
    fn poll_h2(self: &Arc<Self>, driver: &mut Driver<O>) -> bool {
        let waker = driver.waker.clone();
        let mut cx = Context::from_waker(&waker);
        for _ in 0..ACCEPTS {
            match driver.side.poll(&mut cx) {
                Poll::Pending => return false,
                Poll::Ready(Ok(None)) => return true,
                Poll::Ready(Err(error)) => {
                    if error.is_library()
                        && let Some(code) = error.reason()
                    {
                        // Nothing of it is seen in the byte stream, which goes on.
                        self.facts.end(Ending::Broken(Loss::Protocol(code.into())));
                    }
                    return true;
                }
                Poll::Ready(Ok(Some(accepted))) => self.accept(driver, accepted),
            }
        }
        self.drive_soon();
        false
    }

    fn accept(self: &Arc<Self>, driver: &mut Driver<O>, accepted: Accepted) {
        let Some(acceptor) = driver.side.acceptor() else { return };
        let Accepted { head, body, respond } = accepted;
        let id = respond.stream_id().as_u32();
        let stream = acceptor.stream(id);
        self.load.take_place(true);
        let mut body = body;
        let mut state = stream.state.lock();
        state.phase = Phase::Open;
        state.flow = Some(body.flow_control().clone());
        drop(state);
        self.enter(&mut driver.streams, &stream, id, |ready| {
            Pump::accepted(stream.clone(), body, respond, ready)
        });
        acceptor.request(&stream, id, head);
    }

    /// After a GOAWAY no stream is opened any more (RFC 9113, 6.8). True when there was one.
    fn heed_goaway(&self, driver: &mut Driver<O>) -> bool {
        let goaways = self.facts.goaways();
        let new = goaways != driver.goaways;
        if new {
            driver.goaways = goaways;
            driver.side.open_no_more();
        }
        new
    }

    /// Has every stream cancelled and its users told.
    fn end_all(&self, driver: &mut Driver<O>) {
        driver.closed = true;
        self.ending.store(true, Ordering::Release);
        driver.side.close();
        for (_, pump) in &driver.streams {
            let mut state = pump.stream.state.lock();
            state.inbox.end(EndReason::Closed);
            state.closing = true;
            drop(state);
            pump.mark();
        }
    }

    /// h2 gives a stream's and the connection's window back together only. So that what lies unread on some streams does not stop the
    /// others, the connection's window is made larger by as much; each stream's own window bounds that.
    fn widen(&self, driver: &mut Driver<O>) {
        let Some(window) = self.window else { return };
        let unread = u32::try_from(self.unread.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let target = window.saturating_add(unread).min(MAX_WINDOW);
        if target.abs_diff(driver.target_window) >= window / 4 {
            driver.target_window = target;
            driver.side.set_target_window_size(target);
        }
    }

    /// True when a stream has left.
    fn pump_ready(&self, driver: &mut Driver<O>, place: Place) -> bool {
        let mut left = false;
        std::mem::swap(&mut *self.ready.lock(), &mut driver.spare);
        let mut keys = std::mem::take(&mut driver.spare);
        if keys.len() > place.streams() {
            // The others' turn comes in the next round, ahead of those that are marked from now on.
            self.ready.lock().splice(..0, keys.drain(place.streams()..));
            self.drive_soon();
        }
        driver.looked_after += keys.len();
        for key in keys.drain(..) {
            let Some(pump) = driver.streams.get_mut(key) else {
                continue;
            };
            pump.unmark();
            match pump.pump(self, place) {
                Pumped::Over => {
                    over(self, driver.streams.remove(key), place);
                    // h2 has work with handles that were dropped.
                    self.drive_soon();
                    left = true;
                    continue;
                }
                Pumped::More => pump.mark_more(),
                Pumped::Waiting => {}
            }
            let stream = &pump.stream;
            match place {
                Place::Task => stream.deliver(),
                _ if stream.state.lock().wants_delivery() => stream.deliver_soon(),
                _ => {}
            }
        }
        driver.spare = keys;
        left
    }

    /// The end of the connection: whatever streams are left end with it.
    fn bury(&self, driver: Driver<O>) {
        // Where it was given up, or in a panic, nobody has noted it yet.
        self.ending.store(true, Ordering::Release);
        let Driver { mut side, streams, .. } = driver;
        side.open_no_more();
        self.admit_nobody(Place::Task);
        for (_, mut pump) in streams {
            // h2 has told the streams why, behind what they have still to read; else the byte stream's end is the reason.
            if !pump.stream.state.lock().inbox.is_ended() && pump.pump(self, Place::Task) != Pumped::Over {
                pump.stream.state.lock().inbox.end(self.lost());
            }
            over(self, pump, Place::Task);
        }
        drop(side);
    }

    /// Streams are opened on it one after the other, and it outlives them.
    pub(super) fn is_shared(&self) -> bool {
        self.window.is_some()
    }
}

impl<O: Outlet> Wake for Connection<O> {
    fn wake(self: Arc<Self>) {
        self.drive_soon();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.drive_soon();
    }
}

/// A stream has left its connection: its handles go, its users hear of it.
fn over<O: Outlet>(connection: &Connection<O>, pump: Pump<O>, place: Place) {
    connection.facts.forget(pump.id);
    if connection.is_shared() {
        connection.load.give_place_back();
    }
    let stream = pump.stream.clone();
    // A panic inside h2 leaves its lock poisoned, and dropping a handle panics then too.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(pump)));
    // Closed by its user with nobody waiting: there is no one to tell, and nothing to wake a thread for.
    let unheard = {
        let mut state = stream.state.lock();
        // A handle of h2's too: the connection lives as long as there are any.
        state.flow = None;
        // With the handles h2 has given back to the connection what the stream had received.
        let in_flight = std::mem::take(&mut state.in_flight);
        connection.unread.fetch_sub(in_flight, Ordering::Relaxed);
        state.inbox.is_closed() && !state.is_waited_for()
    };
    match place {
        Place::Task => stream.leave(),
        _ if unheard => {}
        _ => stream.run_soon(Stream::leave),
    }
}
