//! A connection: h2's state machine over the socket, the streams on it, and who drives it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use atomic_waker::AtomicWaker;
use bytes::Bytes;
use h2::Reason;
use parking_lot::Mutex;
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite};

use super::baton::{Baton, LetGo};
use super::facts::{Ending, Facts};
use super::info::Endpoints;
use super::pump::{Pump, Pumped};
use super::ready::ReadyFlag;
use super::stream::Stream;
use super::tap::{Allowance, Tap};
use crate::error::{EndReason, Loss};
use crate::net;
use crate::outlet::Outlet;

/// What carries a connection's bytes.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(super) type H2Connection = h2::client::Connection<Tap<Box<dyn Io>>, Bytes>;

/// Which thread drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A sender's, inside a NIF call: works little and posts nothing.
    Sender,
    /// A reader's, inside a NIF call: the same, and asks the socket itself whether there is something to read.
    Reader,
    /// The connection's task, on the engine's threads.
    Task,
}

impl Place {
    pub(super) fn is_inline(self) -> bool {
        self != Place::Task
    }

    /// Rounds before others get their turn. The rest is the task's, which yields to the runtime between its turns.
    fn rounds(self) -> usize {
        match self {
            Place::Sender | Place::Reader => 4,
            Place::Task => 4,
        }
    }

    /// Bytes read and bytes written: inline in all rounds together, so that a turn stays far below 1 ms, else in each round.
    /// Reading 32 KiB of the shortest frames takes some 100 us, encrypting and writing 128 KiB some 200 us.
    fn allowance(self) -> (usize, usize) {
        match self {
            Place::Sender | Place::Reader => (32 * 1024, 128 * 1024),
            Place::Task => (256 * 1024, 256 * 1024),
        }
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
}

/// What is driven.
pub(super) struct Driver<O: Outlet> {
    h2: H2Connection,
    streams: Slab<Pump<O>>,
    /// h2 has finished: the task is to bury the connection.
    finished: bool,
    /// The waker that h2 is polled with: the connection itself.
    waker: Waker,
    /// The list that `ready` is swapped with, to keep its memory.
    spare: Vec<usize>,
}

impl<O: Outlet> Connection<O> {
    pub(super) fn new(facts: Arc<Facts>, allowance: Arc<Allowance>, endpoints: Endpoints) -> Arc<Self> {
        Arc::new(Connection {
            facts,
            endpoints,
            allowance,
            baton: Baton::new(),
            driver: Mutex::new(None),
            ready: Mutex::new(Vec::new()),
            task: AtomicWaker::new(),
        })
    }

    /// Puts the h2 connection in, with its first stream, which `pump` makes.
    pub(super) fn start(self: &Arc<Self>, h2: H2Connection, pump: impl FnOnce(Arc<ReadyFlag<O>>) -> Pump<O>) {
        let mut streams = Slab::with_capacity(1);
        let entry = streams.vacant_entry();
        let ready = ReadyFlag::new(self.clone(), entry.key());
        entry.insert(pump(ready.clone()));
        let driver = Driver {
            h2,
            streams,
            finished: false,
            waker: Waker::from(self.clone()),
            spare: Vec::new(),
        };
        *self.driver.lock() = Some(driver);
        ready.mark();
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

    /// Has the connection's task polled: called by the task, before it drives.
    pub(super) fn register_task(&self, waker: &Waker) {
        self.task.register(waker);
    }

    /// Drives the connection unless somebody does already, who then goes round once more. `Ready` when it is over, told to the
    /// task only.
    pub(super) fn drive(&self, place: Place) -> Poll<()> {
        if place.is_inline() {
            net::in_a_short_turn(|| self.take_turn(place))
        } else {
            self.take_turn(place)
        }
    }

    fn take_turn(&self, place: Place) -> Poll<()> {
        if !self.baton.take_or_note() {
            return Poll::Pending;
        }
        let mut tell_task = false;
        let mut rounds = place.rounds();
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
    fn guarded_round(&self, driver: &mut Driver<O>, place: Place) -> bool {
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

    /// Drops the connection as it stands: whoever is to hear of it has heard. It holds its streams, which hold it: without this
    /// they would keep each other for ever.
    fn sever(&self) {
        while !self.baton.take_or_note() {
            // An inline driver holds it, for microseconds.
            std::thread::yield_now();
        }
        let driver = self.driver.lock().take();
        self.baton.drop_it();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(driver)));
    }

    /// No stream is left: only the goodbye is under way.
    pub(super) fn is_idle(&self) -> bool {
        // Taken while an inline driver works: then it is not idle, and the task is woken again.
        self.driver
            .try_lock()
            .is_some_and(|slot| slot.as_ref().is_none_or(|driver| driver.streams.is_empty()))
    }

    /// One round: what callers queued goes to h2, h2 reads and writes, what came goes to the streams. True when a stream has left.
    fn round(&self, driver: &mut Driver<O>, place: Place) -> bool {
        let mut left = self.pump_ready(driver, place);
        self.baton.clear_note();
        let waker = driver.waker.clone();
        let mut poll = || {
            Pin::new(&mut driver.h2)
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
        };
        driver.finished = if place == Place::Reader {
            net::reading_eagerly(poll)
        } else {
            poll()
        };
        left |= self.pump_ready(driver, place);
        left
    }

    /// True when a stream has left.
    fn pump_ready(&self, driver: &mut Driver<O>, place: Place) -> bool {
        let mut left = false;
        std::mem::swap(&mut *self.ready.lock(), &mut driver.spare);
        let mut keys = std::mem::take(&mut driver.spare);
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
        let Driver { h2, streams, .. } = driver;
        for (_, mut pump) in streams {
            // h2 has told the streams why, behind what they have still to read; else the byte stream's end is the reason.
            if !pump.stream.state.lock().inbox.is_ended() && pump.pump(self, Place::Task) != Pumped::Over {
                pump.stream.state.lock().inbox.end(self.lost());
            }
            over(self, pump, Place::Task);
        }
        drop(h2);
    }

    /// Why the connection is over, as far as its byte stream tells.
    pub(super) fn lost(&self) -> EndReason {
        match self.facts.ending() {
            Some(Ending::Broken(loss)) => EndReason::Lost(loss),
            _ => EndReason::Closed,
        }
    }

    /// What h2's error means to a stream.
    pub(super) fn end_reason(&self, error: &h2::Error) -> EndReason {
        let code = error.reason().map(u32::from);
        match code {
            // RFC 9113, 6.9.1 has two errors of flow control: too much sent to us, or too much allowed us.
            Some(code)
                if error.is_library()
                    && code == u32::from(Reason::FLOW_CONTROL_ERROR)
                    && !self.facts.send_window_too_large() =>
            {
                EndReason::RecvBufferOverflow
            }
            Some(code) if error.is_reset() => EndReason::Reset(code),
            Some(code) if error.is_go_away() && error.is_remote() => EndReason::GoAway(code),
            Some(code) => EndReason::Lost(Loss::Protocol(code)),
            None => match self.facts.ending() {
                Some(Ending::Orderly) => EndReason::Closed,
                Some(Ending::Broken(loss)) => EndReason::Lost(loss),
                None => EndReason::Lost(Loss::Other(error.to_string())),
            },
        }
    }
}

/// Severs its connection when it goes: at the end of the connection's task, or wherever that is dropped.
pub(super) struct Tether<O: Outlet>(pub(super) Arc<Connection<O>>);

/// Tethers there are.
static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

/// Connections that stand, those included that have no stream left and say goodbye.
pub fn connections() -> usize {
    CONNECTIONS.load(Ordering::Relaxed)
}

impl<O: Outlet> Tether<O> {
    pub(super) fn new(connection: Arc<Connection<O>>) -> Self {
        CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        Tether(connection)
    }
}

impl<O: Outlet> Drop for Tether<O> {
    fn drop(&mut self) {
        self.0.sever();
        CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
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
    let stream = pump.stream.clone();
    // A panic inside h2 leaves its lock poisoned, and dropping a handle panics then too.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(pump)));
    // Closed by its user with nobody waiting: there is no one to tell, and nothing to wake a thread for.
    let unheard = {
        let mut state = stream.state.lock();
        // A handle of h2's too: the connection lives as long as there are any.
        state.flow = None;
        state.closing && !state.is_waited_for()
    };
    match place {
        Place::Task => stream.leave(),
        _ if unheard => {}
        _ => stream.run_soon(Stream::leave),
    }
}

/// A panic's message.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown panic".to_owned())
}
