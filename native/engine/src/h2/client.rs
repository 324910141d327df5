//! A connection that streams share, and its life: it is connected first, then streams are opened on it, by us ([`super::admission`]) or
//! by the peer ([`super::server`]), and it lives until it is closed, or the peer closes it.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::task::Context;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::connect::{self, Carrier, Standing};
use super::connection::Connection;
use super::errand::Errand;
use super::facts::GoAway;
use super::idle::{Idle, Idleness, Use};
use super::info::Endpoints;
pub use super::keepalive::Keepalive;
use super::keepalive::{Pinger, Unanswered};
use super::options::ConnectionOptions;
use super::tether::Tether;
use crate::error::{EndReason, Loss, OpenError};
use crate::net::{self, ConnectError, Dial};
use crate::outlet::Outlet;

/// How long a peer may take to acknowledge our SETTINGS (RFC 9113, 6.5.3).
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(5);
/// Its code (RFC 9113, 7).
const SETTINGS_TIMEOUT_CODE: u32 = 0x4;

/// What is settled when a connection is made.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `:authority` of requests that name none of their own.
    pub authority: String,
    /// Limits that the peer is told. The connection's window is kept open beside what lies unread.
    pub connection: ConnectionOptions,
    /// PINGs, if any.
    pub keepalive: Option<Keepalive>,
    /// How long it may have no stream before it is closed.
    pub idle_timeout: Option<Duration>,
}

/// The life of a connection, told to whoever keeps it. In this order, `GoAway` as often as the peer says so.
#[derive(Debug)]
pub enum ClientLife {
    /// The peer's SETTINGS arrived: streams can be opened.
    Connected,
    /// It could not be connected. Nothing follows.
    Failed(OpenError),
    /// The peer opens no streams any more. Those up to the given one go on.
    GoAway(GoAway),
    /// It is over, and so are its streams. Nothing follows.
    Over(EndReason),
}

/// Who hears of a connection's life: on the engine's threads only.
pub type ClientListener = Box<dyn Fn(ClientLife) + Send + Sync>;

/// The way to a connection that stands. Boxed, so that the memory of connecting, TLS handshake and all, is free again then.
pub(super) type Rising<O> = Pin<Box<dyn Future<Output = Result<Tether<O>, OpenError>> + Send>>;

/// See the module's text.
pub struct Client<O: Outlet> {
    options: ClientOptions,
    pub(super) runtime: Handle,
    listener: ClientListener,
    dial: Mutex<Option<Dial>>,
    connection: OnceLock<Arc<Connection<O>>>,
    given_up: Notify,
}

impl<O: Outlet> std::fmt::Debug for Client<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A snapshot: see [`Client::info`].
#[derive(Debug, Clone)]
pub struct ClientInfo {
    /// Addresses and TLS.
    pub endpoints: Endpoints,
    /// How many streams it has, and may have.
    pub load: ClientLoad,
    /// What the peer lets us send on the connection now.
    pub send_window: i64,
    /// Body bytes received on all streams and not given back.
    pub unread: usize,
    /// All bytes of HTTP/2 received, frame headers included.
    pub bytes_in: u64,
    /// All bytes of HTTP/2 sent.
    pub bytes_out: u64,
    /// The round-trip time in microseconds, once measured.
    pub rtt_us: Option<u64>,
    /// The peer's GOAWAY, if it sent one.
    pub goaway: Option<GoAway>,
}

/// How busy a connection is: see [`Client::load`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLoad {
    /// Streams on it, those in line included.
    pub streams: usize,
    /// Those in line.
    pub waiting: usize,
    /// How many the peer lets there be. `usize::MAX` when it does not say.
    pub most: usize,
    /// Streams that were opened so far.
    pub opened: usize,
}

impl<O: Outlet> Client<O> {
    /// A connection that is not connected yet: see [`Client::connect`].
    pub fn new(dial: Dial, options: ClientOptions, listener: ClientListener, runtime: Handle) -> Arc<Self> {
        Client::made(Some(dial), options, listener, runtime)
    }

    pub(super) fn made(
        dial: Option<Dial>,
        options: ClientOptions,
        listener: ClientListener,
        runtime: Handle,
    ) -> Arc<Self> {
        Arc::new(Client {
            options,
            runtime,
            listener,
            dial: Mutex::new(dial),
            connection: OnceLock::new(),
            given_up: Notify::new(),
        })
    }

    /// A client's connection on what `carrier` brings, instead of one that it makes. The peer's SETTINGS must have come within `deadline`.
    pub fn over<F>(
        carrier: F,
        options: ClientOptions,
        listener: ClientListener,
        (runtime, deadline): (Handle, Option<Duration>),
    ) -> Arc<Self>
    where
        F: Future<Output = Result<Carrier, ConnectError>> + Send + 'static,
    {
        let limits = options.connection;
        let client = Client::made(None, options, listener, runtime);
        client.run(Box::pin(rise(carrier, limits)), deadline);
        client
    }

    /// Connects in the background. The listener hears how it went, of a failure not later than `deadline` from now.
    ///
    /// # Errors
    /// [`OpenError::Already`] when it was called before.
    pub fn connect(self: &Arc<Self>, deadline: Option<Duration>) -> Result<(), OpenError> {
        self.connect_over(
            |dial| async move { net::connect(&dial).await.map(Carrier::from) },
            deadline,
        )
    }

    /// [`Client::connect`] on whatever carrier `connect` brings.
    pub(crate) fn connect_over<F>(
        self: &Arc<Self>,
        connect: impl FnOnce(Dial) -> F + Send + 'static,
        deadline: Option<Duration>,
    ) -> Result<(), OpenError>
    where
        F: Future<Output = Result<Carrier, ConnectError>> + Send + 'static,
    {
        let dial = self.dial.lock().take().ok_or(OpenError::Already)?;
        let options = self.options.connection;
        let standing: Rising<O> = Box::pin(rise(connect(dial), options));
        self.run(standing, deadline);
        Ok(())
    }

    /// Gives the connection its task: `standing` brings it, within the deadline.
    pub(super) fn run(self: &Arc<Self>, standing: Rising<O>, deadline: Option<Duration>) {
        let client = self.clone();
        let epitaph = Errand::new(move || (client.listener)(ClientLife::Over(EndReason::Closed)));
        self.runtime.spawn(self.clone().live(standing, deadline, epitaph));
    }

    async fn live(
        self: Arc<Self>,
        mut standing: Rising<O>,
        deadline: Option<Duration>,
        epitaph: Errand<impl FnOnce() + Send + 'static>,
    ) {
        let stands = connect::within(standing.as_mut(), deadline, &self.given_up).await;
        drop(standing);
        let last = match stands {
            Ok(tether) => {
                let connection = tether.0.clone();
                let _ = self.connection.set(connection.clone());
                if !connection.serves {
                    (self.listener)(ClientLife::Connected);
                }
                connect::serve(tether, self.beside(&connection)).await;
                ClientLife::Over(connection.lost())
            }
            Err(error) => ClientLife::Failed(error),
        };
        epitaph.cancel();
        (self.listener)(last);
    }

    /// What the connection's task does in each turn beside driving.
    fn beside(self: &Arc<Self>, connection: &Arc<Connection<O>>) -> impl FnMut(&mut Context<'_>) + Send + use<O> {
        let (client, connection) = (self.clone(), connection.clone());
        let mut pinger = self
            .options
            .keepalive
            .and_then(|keepalive| Some(Pinger::new(keepalive, connection.ping_pong()?)));
        let mut idle = self.options.idle_timeout.map(Idle::new);
        let mut goaways = 0;
        // A client is connected when the peer's SETTINGS have come, which is now; a server when its own have been acknowledged.
        let mut awaited = connection.serves.then(|| Box::pin(sleep(SETTINGS_TIMEOUT)));
        move |cx| {
            if awaited.is_some() && connection.facts.rtt_us().is_some() {
                awaited = None;
                (client.listener)(ClientLife::Connected);
            }
            if awaited.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
                awaited = None;
                connection.give_up(Loss::Protocol(SETTINGS_TIMEOUT_CODE));
            }
            let seen = connection.facts.goaways();
            if seen != goaways
                && let Some(goaway) = connection.facts.goaway()
            {
                goaways = seen;
                (client.listener)(ClientLife::GoAway(goaway));
            }
            let (streams, _, opened) = connection.load.figures();
            let seen = Use {
                opened,
                data_out: connection.facts.data_out.load(Relaxed),
                bytes_in: connection.facts.bytes_in.load(Relaxed),
            };
            let answered = pinger
                .as_mut()
                .map(|pinger| pinger.poll(cx, seen.bytes_in, seen.data_out));
            if let Some(Err(Unanswered)) = answered {
                pinger = None;
                connection.give_up(Loss::PingTimeout);
            }
            match idle.as_mut().map(|idle| idle.poll(cx, streams, seen)) {
                Some(Idleness::Long) => connection.retire(),
                Some(Idleness::Over) => {
                    idle = None;
                    connection.close();
                }
                Some(Idleness::Short) | None => {}
            }
        }
    }

    /// What the peer has set by its SETTINGS so far, by identifier (RFC 9113, 6.5.2).
    pub fn peer_settings(&self) -> Vec<(u16, u32)> {
        self.connection
            .get()
            .map(|connection| connection.facts.peer_settings())
            .unwrap_or_default()
    }

    /// One of them.
    pub fn peer_setting(&self, id: u16) -> Option<u32> {
        self.connection
            .get()
            .and_then(|connection| connection.facts.peer_setting(id))
    }

    /// Closes the connection and ends its streams. They and the listener hear of it later.
    pub fn close(&self) {
        self.given_up.notify_one();
        if let Some(connection) = self.connection.get() {
            connection.close();
        }
    }

    /// The runtime it lives on.
    pub fn runtime(&self) -> Handle {
        self.runtime.clone()
    }

    /// The peer opens the streams.
    pub fn serves(&self) -> bool {
        self.connection.get().is_some_and(|connection| connection.serves)
    }

    /// Lets no more streams be opened, by us (who tries, or is in line, hears [`EndReason::Unprocessed`]) or by the peer (who is asked not
    /// to, RFC 9113, 6.8). Those that are open go on, and with the last the connection ends.
    pub fn retire(&self) {
        if let Some(connection) = self.connection.get() {
            connection.retire();
        }
    }

    /// How busy it is. `None` when no stream can be opened on it.
    pub fn load(&self) -> Option<ClientLoad> {
        let connection = self.connection.get()?;
        let admits = connection.is_open() && connection.admissions.len().is_some();
        admits.then(|| Self::load_of(connection))
    }

    fn load_of(connection: &Connection<O>) -> ClientLoad {
        let (streams, most, opened) = connection.load.figures();
        ClientLoad {
            streams,
            waiting: connection.admissions.len().unwrap_or_default(),
            most,
            opened,
        }
    }

    pub(super) fn authority(&self) -> &str {
        &self.options.authority
    }

    pub(super) fn initial_window_size(&self) -> u32 {
        self.options.connection.initial_window_size
    }

    /// The connection, once there is one.
    pub(super) fn connection(&self) -> Option<&Arc<Connection<O>>> {
        self.connection.get()
    }

    /// It ends, or has ended, and its streams with it.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.connection.get().is_some_and(|connection| connection.is_ending())
    }

    /// What is known of it, once it is connected.
    pub fn info(&self) -> Option<ClientInfo> {
        let connection = self.connection.get()?;
        let facts = &connection.facts;
        Some(ClientInfo {
            endpoints: connection.endpoints.clone(),
            load: Self::load_of(connection),
            send_window: facts.send_windows(0).0,
            unread: connection.unread.load(Relaxed),
            bytes_in: facts.bytes_in.load(Relaxed),
            bytes_out: facts.bytes_out.load(Relaxed),
            rtt_us: facts.rtt_us(),
            goaway: facts.goaway(),
        })
    }
}

/// From a byte stream to a connection on which streams can be opened.
async fn rise<O: Outlet>(
    carrier: impl Future<Output = Result<Carrier, ConnectError>>,
    options: ConnectionOptions,
) -> Result<Tether<O>, OpenError> {
    let carrier = carrier.await.map_err(OpenError::Connect)?;
    let Standing { tether, side } = connect::stand_up(carrier, &options, true).await?;
    tether.0.start(side, None)?;
    connect::settings(&tether).await?;
    Ok(tether)
}
