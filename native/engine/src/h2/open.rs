//! From a stream that is only made to one that runs: look-up, TCP, TLS, HTTP/2's preface, the request, the peer's SETTINGS, all under
//! one deadline. The task that opens a connection goes on to drive it.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Sleep, sleep};

use super::connection::{Connection, Io, Place, Tether, panic_text};
use super::errand::Errand;
use super::facts::Facts;
use super::info::Endpoints;
use super::options::Target;
use super::pump::Pump;
use super::ready::ReadyFlag;
use super::stream::{Link, Phase, Stream};
use super::tap::{Allowance, Tap};
use crate::error::{EndReason, OpenError};
use crate::net::{self, ConnectError, Connected, Dial};
use crate::outlet::{Life, Outlet};

/// How long the goodbye (RST_STREAM, GOAWAY, TLS close_notify) may take to leave when the peer has stopped reading.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// The way to an open stream.
type Opening<O> = Pin<Box<dyn Future<Output = Result<Tether<O>, OpenError>> + Send>>;

/// A byte stream that is ready for HTTP/2.
pub(crate) struct Carrier {
    pub(crate) io: Box<dyn Io>,
    pub(crate) endpoints: Endpoints,
}

impl From<Connected> for Carrier {
    fn from(connected: Connected) -> Self {
        let Connected {
            transport,
            peer,
            local,
            tls,
        } = connected;
        Carrier {
            io: Box::new(transport),
            endpoints: Endpoints { peer, local, tls },
        }
    }
}

impl<O: Outlet> Stream<O> {
    /// Opens the stream in the background: [`Life::Opened`] or [`Life::Failed`] tells how it went, the latter not later than
    /// `deadline` from now.
    ///
    /// # Errors
    /// [`OpenError::Already`] when it was called before.
    pub fn open(self: &Arc<Self>, deadline: Option<Duration>) -> Result<(), OpenError> {
        self.open_over(
            |dial| async move { net::connect(&dial).await.map(Carrier::from) },
            deadline,
        )
    }

    /// [`Stream::open`] on whatever carrier `connect` brings.
    pub(crate) fn open_over<F>(
        self: &Arc<Self>,
        connect: impl FnOnce(Dial) -> F + Send + 'static,
        deadline: Option<Duration>,
    ) -> Result<(), OpenError>
    where
        F: Future<Output = Result<Carrier, ConnectError>> + Send + 'static,
    {
        let mut state = self.state.lock();
        let Some(target) = state.target.take() else {
            return Err(OpenError::Already);
        };
        state.phase = Phase::Opening;
        drop(state);
        // Boxed, so that the memory of opening, TLS handshake and all, is free again once the stream is open.
        let opening = Box::pin(establish(self.clone(), target, connect));
        let stream = self.clone();
        let epitaph = Errand::new(move || stream.run_soon(Self::cut_short));
        self.runtime.spawn(self.clone().live(opening, deadline, epitaph));
        Ok(())
    }

    /// The runtime was stopped before the stream was over, or had begun.
    fn cut_short(&self) {
        self.leave();
        if self.state.lock().phase != Phase::Open {
            self.outlet.life(Life::Failed(OpenError::Ended(EndReason::Closed)));
        }
    }

    /// The stream's whole life. `epitaph` is for the case that this is dropped before its end.
    async fn live(
        self: Arc<Self>,
        mut opening: Opening<O>,
        deadline: Option<Duration>,
        epitaph: Errand<impl FnOnce() + Send + 'static>,
    ) {
        let guarded = poll_fn(
            |cx| match catch_unwind(AssertUnwindSafe(|| opening.as_mut().poll(cx))) {
                Ok(poll) => poll,
                Err(panic) => Poll::Ready(Err(OpenError::Ended(EndReason::Panic(panic_text(&*panic))))),
            },
        );
        let opened = tokio::select! {
            opened = guarded => opened,
            () = expiry(deadline) => Err(OpenError::Timeout),
            () = self.cancelled.notified() => Err(OpenError::Ended(EndReason::Closed)),
        };
        drop(opening);
        match opened {
            Ok(tether) => {
                self.opened();
                connection_task(tether).await;
                epitaph.cancel();
            }
            Err(error) => {
                epitaph.cancel();
                self.fail(EndReason::Closed);
                self.outlet.life(Life::Failed(error));
            }
        }
    }
}

async fn expiry(deadline: Option<Duration>) {
    match deadline {
        Some(deadline) => sleep(deadline).await,
        None => std::future::pending().await,
    }
}

/// Connects and sends the request; done when the peer's SETTINGS have come (RFC 9113, 3.4), which prove that it speaks HTTP/2.
async fn establish<O: Outlet, F>(
    stream: Arc<Stream<O>>,
    target: Target,
    connect: impl FnOnce(Dial) -> F,
) -> Result<Tether<O>, OpenError>
where
    F: Future<Output = Result<Carrier, ConnectError>>,
{
    let Target { request, dial } = target;
    // Before connecting: nothing is sent for a request that HTTP/2 cannot carry.
    let request = request.into_request(if dial.tls.is_some() { "https" } else { "http" })?;
    let Carrier { io, endpoints } = connect(dial).await.map_err(OpenError::Connect)?;
    let (facts, allowance) = (Arc::new(Facts::new()), Arc::new(Allowance::default()));
    let connection = Connection::new(facts.clone(), allowance.clone(), endpoints);
    let tether = Tether::new(connection.clone());
    allowance.set((usize::MAX, usize::MAX));
    let tap = Tap::new(io, facts, allowance);
    let failed = |error: h2::Error| OpenError::Ended(connection.end_reason(&error));
    // The request goes out with the preface, without waiting for SETTINGS: one round trip less (RFC 9113, 3.4 allows it).
    let (mut opener, h2) = stream
        .options
        .connection
        .builder()
        .handshake::<_, Bytes>(tap)
        .await
        .map_err(failed)?;
    let (response, sending) = opener
        .send_request(request, false)
        .map_err(|error| OpenError::Request(error.to_string()))?;
    drop(opener);
    let id = sending.stream_id().as_u32();
    connection.start(h2, |ready: Arc<ReadyFlag<O>>| {
        let link = Link {
            connection: connection.clone(),
            ready: ready.clone(),
            id,
        };
        // Set once: only one opening gets here, see `Phase`.
        let _ = stream.link.set(link);
        Pump::new(stream.clone(), response, sending, ready)
    });
    poll_fn(|cx| {
        connection.register_task(cx.waker());
        let over = connection.drive(Place::Task).is_ready();
        if connection.facts.settings_seen() {
            Poll::Ready(Ok(()))
        } else if over {
            let reason = stream.state.lock().inbox.told_end().unwrap_or(EndReason::Closed);
            Poll::Ready(Err(OpenError::Ended(reason)))
        } else {
            Poll::Pending
        }
    })
    .await?;
    Ok(tether)
}

/// Drives the connection until it is over. When no stream is left, the goodbye gets [`CLOSE_GRACE`] to leave.
async fn connection_task<O: Outlet>(tether: Tether<O>) {
    let connection = &tether.0;
    let mut grace: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        connection.register_task(cx.waker());
        if connection.drive(Place::Task).is_ready() {
            return Poll::Ready(());
        }
        if connection.is_idle() {
            let grace = grace.get_or_insert_with(|| Box::pin(sleep(CLOSE_GRACE)));
            return grace.as_mut().poll(cx);
        }
        Poll::Pending
    })
    .await;
}
