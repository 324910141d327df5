//! From a host and a port to a standing HTTP/2 connection, and its life after that.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};

use super::connection::{Connection, Io, Place};
use super::facts::Facts;
use super::info::Endpoints;
use super::options::ConnectionOptions;
use super::reason::panic_text;
use super::side::{Bottom, Side};
use super::tap::{Allowance, Tap};
use super::tether::Tether;
use crate::error::{EndReason, OpenError};
use crate::net::{Connected, Pipe};
use crate::outlet::Outlet;

/// How long the goodbye (RST_STREAM, GOAWAY, TLS close_notify) may take to leave when the peer has stopped reading.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// A byte stream that is ready for HTTP/2.
pub struct Carrier {
    pub(crate) io: Box<dyn Io>,
    pub(crate) endpoints: Endpoints,
    /// Its bytes are posted to a process, which only the engine's threads may do: no caller's thread reads or writes.
    pub(crate) carried: bool,
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrier")
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

impl Carrier {
    /// One whose bytes somebody else carries, between these addresses.
    /// `secure`: it is TLS.
    pub fn of_pipe(pipe: Pipe, peer: SocketAddr, local: SocketAddr, secure: bool) -> Self {
        Carrier {
            io: Box::new(pipe),
            endpoints: Endpoints {
                peer,
                local,
                tls: None,
                secure,
            },
            carried: true,
        }
    }
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
            endpoints: Endpoints {
                secure: tls.is_some(),
                peer,
                local,
                tls,
            },
            carried: false,
        }
    }
}

/// A connection whose preface is on its way.
pub(super) struct Standing<O: Outlet> {
    pub(super) tether: Tether<O>,
    pub(super) side: Side<O>,
}

/// Makes an HTTP/2 connection of a byte stream: `shared` when more than one stream will be opened on it.
pub(super) async fn stand_up<O: Outlet>(
    carrier: Carrier,
    options: &ConnectionOptions,
    shared: bool,
) -> Result<Standing<O>, OpenError> {
    let (tether, tap) = tapped(carrier, shared.then_some(options.connection_window_size), false);
    let handshake = options.builder().handshake::<_, Bytes>(tap).await;
    let (opener, h2) = handshake.map_err(|error| OpenError::Ended(tether.0.end_reason(&error, None)))?;
    let side = Side::Client {
        h2: Box::new(h2),
        opener: Some(opener),
    };
    Ok(Standing { tether, side })
}

/// A connection over a byte stream, and the byte stream for h2. `serves`: the peer opens its streams.
pub(super) fn tapped<O: Outlet>(carrier: Carrier, window: Option<u32>, serves: bool) -> (Tether<O>, Bottom) {
    let Carrier { io, endpoints, carried } = carrier;
    let (facts, allowance) = (Arc::new(Facts::new()), Arc::new(Allowance::default()));
    let connection = Connection::new(facts.clone(), allowance.clone(), endpoints, window, (serves, carried));
    allowance.set((usize::MAX, usize::MAX));
    let tap = if serves {
        Tap::of_server(io, facts, allowance)
    } else {
        Tap::new(io, facts, allowance)
    };
    (Tether::new(connection), tap)
}

/// Drives the connection until the peer's SETTINGS have come, or gives the reason why they will not.
pub(super) async fn settings<O: Outlet>(tether: &Tether<O>) -> Result<(), EndReason> {
    let connection = &tether.0;
    poll_fn(|cx| {
        connection.register_task(cx.waker());
        let over = connection.drive(Place::Task).is_ready();
        if connection.facts.settings_seen() {
            Poll::Ready(Ok(()))
        } else if over {
            Poll::Ready(Err(connection.lost()))
        } else {
            Poll::Pending
        }
    })
    .await
}

/// The result of `opening`, unless the deadline passes, somebody gives it up, or it panics.
pub(super) async fn within<T>(
    mut opening: Pin<&mut (dyn Future<Output = Result<T, OpenError>> + Send)>,
    deadline: Option<Duration>,
    given_up: &Notify,
) -> Result<T, OpenError> {
    let guarded = poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| opening.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(panic) => Poll::Ready(Err(OpenError::Ended(EndReason::Panic(panic_text(&*panic))))),
        },
    );
    tokio::select! {
        opened = guarded => opened,
        () = expiry(deadline) => Err(OpenError::Timeout),
        () = given_up.notified() => Err(OpenError::Ended(EndReason::Closed)),
    }
}

/// Done after `deadline`, if there is one.
pub(super) async fn expiry(deadline: Option<Duration>) {
    match deadline {
        Some(deadline) => sleep(deadline).await,
        None => std::future::pending().await,
    }
}

/// Drives the connection until it is over; `beside` is called in each turn. When no stream is left and none can come, the goodbye gets
/// [`CLOSE_GRACE`] to leave.
pub(super) async fn serve<O: Outlet>(tether: Tether<O>, mut beside: impl FnMut(&mut Context<'_>) + Send) {
    let connection = &tether.0;
    let mut grace: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        connection.register_task(cx.waker());
        let over = connection.drive(Place::Task).is_ready();
        beside(cx);
        if over {
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
