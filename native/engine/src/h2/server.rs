//! The server's side of a connection: the peer opens the streams.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;

use super::client::{Client, ClientListener, ClientOptions};
use super::connect::{self, Carrier};
use super::options::{ConnectionOptions, StreamOptions};
use super::side::{Acceptor, Side};
use super::stream::Stream;
use crate::error::{EndReason, OpenError};
use crate::net::ConnectError;
use crate::outlet::Outlet;

/// What a server tells its peers beside [`ConnectionOptions`].
#[derive(Debug, Clone, Copy)]
pub struct ServerOptions {
    /// Streams that a peer may have open at a time (SETTINGS_MAX_CONCURRENT_STREAMS). `None` is no limit.
    pub max_concurrent_streams: Option<u32>,
    /// The dynamic table of header fields (SETTINGS_HEADER_TABLE_SIZE).
    pub header_table_size: u32,
    /// Take extended CONNECT (RFC 8441).
    pub connect_protocol: bool,
}

/// Resets of the peer's that a connection remembers, and of its own: the floods of CVE-2023-44487 and CVE-2025-8671. h2's defaults, said
/// because safety hangs on them.
const MAX_PENDING_RESETS: usize = 20;
const MAX_OWN_RESETS: usize = 1024;

impl<O: Outlet> Stream<O> {
    /// A stream for a peer's request, for [`Acceptor::stream`] to make.
    pub fn for_request(options: StreamOptions, owner: O::Owner, outlet: O, runtime: Handle) -> Arc<Self> {
        Stream::accepted(options, owner, outlet, runtime)
    }
}

impl<O: Outlet> Client<O> {
    /// Serves a peer on what `carrier` brings. The listener hears of the connection's life, `acceptor` gets the requests. The peer's
    /// preface must have come within `deadline`.
    pub fn serve<F>(
        carrier: F,
        (options, server): (ClientOptions, ServerOptions),
        acceptor: Arc<dyn Acceptor<O>>,
        listener: ClientListener,
        (runtime, deadline): (Handle, Option<Duration>),
    ) -> Arc<Self>
    where
        F: Future<Output = Result<Carrier, ConnectError>> + Send + 'static,
    {
        let builder = builder(&options.connection, &server);
        let window = options.connection.connection_window_size;
        let serving = Client::made(None, options, listener, runtime);
        serving.run(
            Box::pin(async move {
                let carrier = carrier.await.map_err(OpenError::Connect)?;
                let (tether, tap) = connect::tapped(carrier, Some(window), true);
                let handshake = builder.handshake::<_, Bytes>(tap).await;
                let h2 = handshake.map_err(|error| match error.reason() {
                    // Not even the preface was right.
                    None => OpenError::Ended(tether.0.end_reason(&error, None)),
                    Some(_) => OpenError::Ended(EndReason::Lost(crate::error::Loss::InvalidPreface)),
                })?;
                tether.0.start(
                    Side::Server {
                        h2: Box::new(h2),
                        acceptor,
                        open: true,
                    },
                    None,
                )?;
                Ok(tether)
            }),
            deadline,
        );
        serving
    }
}

fn builder(connection: &ConnectionOptions, server: &ServerOptions) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(connection.initial_window_size)
        .initial_connection_window_size(connection.connection_window_size)
        .max_frame_size(connection.max_frame_size)
        .max_header_list_size(connection.max_header_list_size)
        .header_table_size(server.header_table_size)
        .max_send_buffer_size(super::options::H2_SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(Some(MAX_OWN_RESETS))
        // As for the client's side.
        .data_frame_budget(usize::MAX >> 1);
    if let Some(max) = server.max_concurrent_streams {
        builder.max_concurrent_streams(max);
    }
    if server.connect_protocol {
        builder.enable_connect_protocol();
    }
    builder
}
