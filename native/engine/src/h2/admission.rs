//! How streams get onto a connection that is shared: in the order in which they came, as many at a time as the peer lets there be
//! (SETTINGS_MAX_CONCURRENT_STREAMS; RFC 9113, 5.1.2). Those for whom there is no place wait for one up to a deadline.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use parking_lot::Mutex;

use super::client::Client;
use super::connect;
use super::connection::{Connection, Driver, Place};
use super::credit::Credit;
use super::errand::Errand;
use super::options::Target;
use super::outbox::Fin;
use super::stream::{Phase, Stream};
use crate::error::{EndReason, OpenError};
use crate::outlet::{Life, Outlet};

/// A stream that waits, and what it will send.
struct Waiting<O: Outlet> {
    stream: Arc<Stream<O>>,
    request: Request<()>,
    /// It is all that will be sent.
    fin: bool,
}

/// The line. `None` once nobody is admitted any more.
pub(super) struct Admissions<O: Outlet>(Mutex<Option<VecDeque<Waiting<O>>>>);

impl<O: Outlet> Default for Admissions<O> {
    fn default() -> Self {
        Admissions(Mutex::new(Some(VecDeque::new())))
    }
}

impl<O: Outlet> Admissions<O> {
    fn is_empty(&self) -> bool {
        self.0.lock().as_ref().is_none_or(VecDeque::is_empty)
    }

    /// How many wait. `None` when nobody is admitted any more.
    pub(super) fn len(&self) -> Option<usize> {
        self.0.lock().as_ref().map(VecDeque::len)
    }

    /// False when nobody is admitted any more.
    fn join(&self, waiting: Waiting<O>) -> bool {
        let mut line = self.0.lock();
        if let Some(line) = line.as_mut() {
            line.push_back(waiting);
        }
        line.is_some()
    }

    fn first(&self) -> Option<Waiting<O>> {
        self.0.lock().as_mut().and_then(VecDeque::pop_front)
    }

    /// Takes a stream out of the line that does not want to wait any longer. False when it was not in it any more.
    fn leave(&self, stream: &Arc<Stream<O>>) -> bool {
        let mut line = self.0.lock();
        let Some(line) = line.as_mut() else { return false };
        let before = line.len();
        line.retain(|waiting| !Arc::ptr_eq(&waiting.stream, stream));
        line.len() < before
    }

    /// From now on nobody is admitted. Returns those who wait.
    fn shut(&self) -> VecDeque<Waiting<O>> {
        self.0.lock().take().unwrap_or_default()
    }
}

/// What [`Stream::open_on`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// The stream is open.
    Now,
    /// It waits. [`Life::Opened`] or [`Life::Failed`] will tell.
    Later,
}

impl<O: Outlet> Stream<O> {
    /// Opens the stream on a connection that stands. When there is no place for it yet it waits for one if it is to, not longer than
    /// `deadline`.
    ///
    /// # Errors
    /// [`OpenError::Full`] when there is no place and it is not to wait. [`OpenError::Already`] when it was called before. [`OpenError::Ended`]: the connection is none yet, or no more
    /// ([`EndReason::Closed`]), or the peer has said GOAWAY ([`EndReason::Unprocessed`]).
    pub fn open_on(
        self: &Arc<Self>,
        client: &Client<O>,
        deadline: Option<Duration>,
        waits: bool,
    ) -> Result<Admitted, OpenError> {
        self.request_on(client, deadline, waits, false)
    }

    /// [`Stream::open_on`]; with `fin` the request is all that will be sent.
    ///
    /// # Errors
    /// As there.
    pub fn request_on(
        self: &Arc<Self>,
        client: &Client<O>,
        deadline: Option<Duration>,
        waits: bool,
        fin: bool,
    ) -> Result<Admitted, OpenError> {
        let connection = client.connection().ok_or(OpenError::Ended(EndReason::Closed))?;
        let mut state = self.state.lock();
        let Some(Target { mut request, .. }) = state.target.take() else {
            return Err(OpenError::Already);
        };
        state.phase = Phase::Opening;
        if fin {
            state.outbox.finish(Fin::Sent);
        }
        state.credit = Credit::new(self.options.flow_control, client.initial_window_size());
        state.inbox.allow(client.initial_window_size() as usize);
        drop(state);
        if request.authority.is_empty() {
            client.authority().clone_into(&mut request.authority);
        }
        let scheme = if connection.endpoints.secure { "https" } else { "http" };
        let waiting = Waiting {
            stream: self.clone(),
            request: request.into_request(scheme)?,
            fin,
        };
        if !connection.load.take_place(waits) {
            return Err(OpenError::Full);
        }
        if !connection.admissions.join(waiting) {
            connection.load.give_place_back();
            return Err(OpenError::Ended(connection.refusal()));
        }
        let _ = connection.drive(Place::Opener);
        let mut state = self.state.lock();
        if state.phase == Phase::Open {
            return Ok(Admitted::Now);
        }
        if let Some(reason) = state.turned_away.take() {
            return Err(reason);
        }
        state.awaited = true;
        drop(state);
        self.wait_in_line(connection.clone(), deadline);
        Ok(Admitted::Later)
    }

    fn wait_in_line(self: &Arc<Self>, connection: Arc<Connection<O>>, deadline: Option<Duration>) {
        let stream = self.clone();
        let epitaph = Errand::new(move || stream.run_soon(|stream| stream.turned_away(EndReason::Closed.into())));
        let stream = self.clone();
        self.runtime.spawn(async move {
            let reason = tokio::select! {
                () = connect::expiry(deadline) => OpenError::Timeout,
                // Closed, or admitted; the phase tells.
                () = stream.cancelled.notified() => OpenError::Ended(EndReason::Closed),
            };
            epitaph.cancel();
            stream.turned_away(reason);
            if connection.admissions.leave(&stream) {
                connection.load.give_place_back();
            }
        });
    }

    /// There is a place. False when it does not want it any more: from now on it cannot say so.
    fn claim(&self) -> bool {
        let mut state = self.state.lock();
        state.admitted = state.phase == Phase::Opening;
        state.admitted
    }

    /// The request is sent. Its keeper hears of it by who opens it, or else here.
    fn admitted(self: &Arc<Self>, place: Place) {
        let mut state = self.state.lock();
        if state.awaited {
            // Its keeper is told on an engine thread only. Until then it is open to nobody.
            drop(state);
            if place.is_inline() {
                self.run_soon(Stream::opened);
            } else {
                self.opened();
            }
        } else {
            state.phase = Phase::Open;
        }
        self.cancelled.notify_one();
    }

    /// There will be no place for a stream that waited, if it still does. Engine threads only.
    fn turned_away(&self, reason: OpenError) {
        let mut state = self.state.lock();
        if state.phase != Phase::Opening || state.admitted {
            return;
        }
        state.phase = Phase::Idle;
        state.inbox.end(EndReason::Closed);
        if state.awaited {
            drop(state);
            self.cancelled.notify_one();
            self.outlet.life(Life::Failed(reason));
        } else {
            state.turned_away = Some(reason);
        }
    }
}

impl<O: Outlet> Connection<O> {
    /// Sends the requests of those in line, as far as there are places. True when the rest is for the task to do.
    pub(super) fn admit(self: &Arc<Self>, driver: &mut Driver<O>, place: Place) -> bool {
        if !self.is_shared() {
            return false;
        }
        if !driver.side.is_open() || self.is_closing() {
            return self.admit_nobody(place);
        }
        let waker = driver.waker.clone();
        let mut cx = Context::from_waker(&waker);
        let mut left = place.streams();
        while !self.admissions.is_empty() && driver.streams.len() < driver.side.max_send_streams() {
            if left == 0 {
                self.drive_soon();
                return place.is_inline();
            }
            left -= 1;
            // Not ready: h2 still counts a stream that is over here, and wakes us when it does not.
            match driver.side.poll_opener(&mut cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Pending => return false,
                Poll::Ready(Err(_)) => {
                    driver.side.open_no_more();
                    return self.admit_nobody(place);
                }
            }
            let Some(Waiting { stream, request, fin }) = self.admissions.first() else {
                return false;
            };
            if !stream.claim() {
                self.load.give_place_back();
                continue;
            }
            match self.launch(driver, &stream, request, fin) {
                Ok(()) => stream.admitted(place),
                Err(error) => {
                    self.load.give_place_back();
                    stream.state.lock().admitted = false;
                    stream.turn_away_soon(error, place);
                }
            }
        }
        false
    }

    /// Turns those in line away, on the task: they may be many. True when there are any and this is not the task.
    pub(super) fn admit_nobody(&self, place: Place) -> bool {
        if place.is_inline() {
            return !self.admissions.is_empty();
        }
        for Waiting { stream, .. } in self.admissions.shut() {
            stream.turned_away(OpenError::Ended(self.refusal()));
        }
        false
    }
}

impl<O: Outlet> Stream<O> {
    fn turn_away_soon(self: &Arc<Self>, reason: OpenError, place: Place) {
        if place.is_inline() {
            self.run_soon(|stream| stream.turned_away(reason));
        } else {
            self.turned_away(reason);
        }
    }
}

impl From<EndReason> for OpenError {
    fn from(reason: EndReason) -> Self {
        OpenError::Ended(reason)
    }
}
