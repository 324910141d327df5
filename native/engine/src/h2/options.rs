//! What a stream is opened with.

use std::time::Duration;

use http::{HeaderMap, Request, Uri, uri::PathAndQuery};

use super::credit::FlowControl;
use crate::error::OpenError;
use crate::message::Mode;
use crate::net::Dial;

/// The request that opens a stream. Checked by the caller as far as HTTP asks; what h2 still refuses is an [`OpenError::Request`].
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method token.
    pub method: String,
    /// `:authority`: host, with the port unless it is the scheme's own. Left empty, it is that of the connection that the stream is
    /// opened on.
    pub authority: String,
    /// `:path`: path and query.
    pub path: String,
    /// Header fields, names in lower case.
    pub headers: HeaderMap,
    /// `:protocol` of an extended CONNECT (RFC 8441).
    pub protocol: Option<String>,
}

/// What is needed until a stream is open. Kept no longer: header fields and certificates can be large.
#[derive(Debug, Clone)]
pub struct Target {
    /// The request.
    pub request: RequestHead,
    /// Whom to connect to, and how. `None` when the stream will be opened on a connection that others share.
    pub dial: Option<Dial>,
}

/// Everything else about a stream that is settled when it is made. Sizes in bytes.
#[derive(Debug, Clone, Copy)]
pub struct StreamOptions {
    /// How messages reach the owner at first.
    pub mode: Mode,
    /// Who gives received bytes back.
    pub flow_control: FlowControl,
    /// Deliver 1xx responses.
    pub informational: bool,
    /// The two sides end each for itself, and that the peer's has ended is told with the last thing that it sent
    /// ([`crate::Notice::Last`]). Else the peer's end is the stream's, and a message of its own.
    pub events: bool,
    /// Bound on received and unread body bytes.
    pub max_recv_buffer: usize,
    /// Bound on bytes queued beyond the peer's window.
    pub max_send_buffer: usize,
    /// How long a sender waits for room, in milliseconds: 0 not at all, `None` for ever. The engine only hands it back.
    pub send_timeout: Option<u64>,
    /// How long a reader waits, in milliseconds, `None` for ever. The engine only hands it back.
    pub recv_timeout: Option<u64>,
    /// Limits of the connection, if it is the stream's own.
    pub connection: ConnectionOptions,
}

/// Limits of a connection that we tell the peer. Sizes in bytes.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionOptions {
    /// The receive window of each stream: at a round-trip time T it bounds the throughput to window / T.
    pub initial_window_size: u32,
    /// The receive window of the connection. Larger than a stream's, so that one unread stream does not stop the others.
    pub connection_window_size: u32,
    /// The longest frame we take: 16,384 to 16,777,215 (RFC 9113, 6.5.2).
    pub max_frame_size: u32,
    /// The largest header list we take, against header bombs (RFC 9113, 10.5.1).
    pub max_header_list_size: u32,
}

/// What a connection has before any SETTINGS (RFC 9113, 6.5.2 and 6.9.2), with no bound on header lists.
impl Default for ConnectionOptions {
    fn default() -> Self {
        ConnectionOptions {
            initial_window_size: 65_535,
            connection_window_size: 65_535,
            max_frame_size: 16_384,
            max_header_list_size: u32::MAX,
        }
    }
}

/// Streams that were cancelled are remembered, so that what was on its way to them is passed over, and their peer need not be told
/// that it came too late: so many, for so long.
const CANCELLED_STREAMS: usize = 16 * 1024;
const CANCELLED_FOR: Duration = Duration::from_secs(5);

/// Bytes that h2 takes from our own queue ahead of the socket, per stream.
pub(super) const H2_SEND_BUFFER: usize = 512 * 1024;

impl ConnectionOptions {
    pub(crate) fn builder(&self) -> h2::client::Builder {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(self.initial_window_size)
            .initial_connection_window_size(self.connection_window_size)
            .max_frame_size(self.max_frame_size)
            .max_header_list_size(self.max_header_list_size)
            .max_send_buffer_size(H2_SEND_BUFFER)
            // Nobody reads pushed streams here (RFC 9113, 8.4): a peer that pushes all the same breaks the protocol.
            .enable_push(false)
            .max_concurrent_reset_streams(CANCELLED_STREAMS)
            .reset_stream_duration(CANCELLED_FOR)
            // h2 counts what breaks a stream's rules over the connection's whole life and ends it at 1,024: what came too late to
            // be remembered too. A connection may live for months; here the tap's budget bounds how often a second.
            .max_local_error_reset_streams(None)
            // h2 counts small DATA frames that nobody has read and hangs up on too many. Ours are read at once into the
            // stream's queue, which the flow-control window and `max_recv_buffer` bound; but one read of the socket can
            // bring more of them than the budget that h2 derives from the window.
            .data_frame_budget(usize::MAX >> 1);
        builder
    }
}

impl RequestHead {
    pub(crate) fn into_request(self, scheme: &'static str) -> Result<Request<()>, OpenError> {
        let bad = |what: &dyn std::fmt::Display| OpenError::Request(what.to_string());
        let uri = Uri::builder().authority(self.authority.as_str());
        // A tunnel has no scheme and no path (RFC 9113, 8.5), unless it is an extended one (RFC 8441, 4).
        let uri = if self.method == "CONNECT" && self.protocol.is_none() {
            uri
        } else {
            let path = PathAndQuery::try_from(self.path.as_str()).map_err(|e| bad(&e))?;
            uri.scheme(scheme).path_and_query(path)
        };
        let uri = uri.build().map_err(|e| bad(&e))?;
        let mut request = Request::builder()
            .method(self.method.as_str())
            .uri(uri)
            .body(())
            .map_err(|e| bad(&e))?;
        *request.version_mut() = http::Version::HTTP_2;
        *request.headers_mut() = self.headers;
        if let Some(protocol) = &self.protocol {
            request
                .extensions_mut()
                .insert(h2::ext::Protocol::from(protocol.as_str()));
        }
        Ok(request)
    }
}
