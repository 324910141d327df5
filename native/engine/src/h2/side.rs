//! Which side of a connection h2 plays here: a client, which opens streams, or a server, whose peer does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::Request;

use super::connection::Io;
use super::stream::Stream;
use super::tap::Tap;
use crate::error::{EndReason, OpenError};
use crate::outlet::Outlet;

pub(super) type Bottom = Tap<Box<dyn Io>>;

/// See the module's text.
pub(super) enum Side<O: Outlet> {
    Client {
        h2: Box<h2::client::Connection<Bottom, Bytes>>,
        /// Makes requests, as long as more may come. The connection ends when it and all streams are gone.
        opener: Option<SendRequest<Bytes>>,
    },
    Server {
        h2: Box<h2::server::Connection<Bottom, Bytes>>,
        acceptor: Arc<dyn Acceptor<O>>,
        /// The peer may open more, as far as it does not heed that it was asked not to.
        open: bool,
    },
}

/// Who takes the streams that a peer opens. Called on the engine's threads only.
pub trait Acceptor<O: Outlet>: Send + Sync + 'static {
    /// A stream for the request with this identifier: [`super::Server::stream`] makes it.
    fn stream(&self, id: u32) -> Arc<Stream<O>>;
    /// The request has come: its method, URI and header fields. Its body comes by the stream.
    fn request(&self, stream: &Arc<Stream<O>>, id: u32, request: Request<()>);
}

/// A stream that the peer has opened.
pub(super) struct Accepted {
    pub(super) head: Request<()>,
    pub(super) body: RecvStream,
    pub(super) respond: SendResponse<Bytes>,
}

impl<O: Outlet> Side<O> {
    /// Lets h2 read and write. A stream that the peer has opened, or `None` when all is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Accepted>, h2::Error>> {
        match self {
            Side::Client { h2, .. } => Pin::new(h2.as_mut()).poll(cx).map_ok(|()| None),
            Side::Server { h2, .. } => match ready!(h2.poll_accept(cx)) {
                None => Poll::Ready(Ok(None)),
                Some(Err(error)) => Poll::Ready(Err(error)),
                Some(Ok((request, respond))) => {
                    let (parts, body) = request.into_parts();
                    let head = Request::from_parts(parts, ());
                    Poll::Ready(Ok(Some(Accepted { head, body, respond })))
                }
            },
        }
    }

    pub(super) fn acceptor(&self) -> Option<Arc<dyn Acceptor<O>>> {
        match self {
            Side::Client { .. } => None,
            Side::Server { acceptor, .. } => Some(acceptor.clone()),
        }
    }

    /// Whether a request can be sent now. An error when none can be sent any more.
    pub(super) fn poll_opener(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        match self {
            Side::Client {
                opener: Some(opener), ..
            } => opener.poll_ready(cx),
            _ => Poll::Ready(Err(Reason::REFUSED_STREAM.into())),
        }
    }

    pub(super) fn send_request(
        &mut self,
        request: Request<()>,
        fin: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), OpenError> {
        match self {
            Side::Client {
                opener: Some(opener), ..
            } => opener
                .send_request(request, fin)
                .map_err(|error| OpenError::Request(error.to_string())),
            _ => Err(OpenError::Ended(EndReason::Unprocessed)),
        }
    }

    /// Whether streams may still be opened, by us or by the peer.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Side::Client { opener, .. } => opener.is_some(),
            Side::Server { open, .. } => *open,
        }
    }

    /// No stream is opened by us any more.
    pub(super) fn open_no_more(&mut self) {
        if let Side::Client { opener, .. } = self {
            *opener = None;
        }
    }

    /// The connection is to end as soon as its streams have.
    pub(super) fn close(&mut self) {
        match self {
            Side::Client { opener, .. } => *opener = None,
            Side::Server { h2, open, .. } => {
                if std::mem::take(open) {
                    h2.abrupt_shutdown(Reason::NO_ERROR);
                }
            }
        }
    }

    /// Opens no stream any more, or asks the peer not to (RFC 9113, 6.8), and lets those that are there end.
    pub(super) fn retire(&mut self) {
        match self {
            Side::Client { opener, .. } => *opener = None,
            Side::Server { h2, .. } => h2.graceful_shutdown(),
        }
    }

    pub(super) fn set_target_window_size(&mut self, size: u32) {
        match self {
            Side::Client { h2, .. } => h2.set_target_window_size(size),
            Side::Server { h2, .. } => h2.set_target_window_size(size),
        }
    }

    pub(super) fn max_send_streams(&self) -> usize {
        match self {
            Side::Client { h2, .. } => h2.max_concurrent_send_streams(),
            Side::Server { h2, .. } => h2.max_concurrent_recv_streams(),
        }
    }

    pub(super) fn ping_pong(&mut self) -> Option<h2::PingPong> {
        match self {
            Side::Client { h2, .. } => h2.ping_pong(),
            Side::Server { h2, .. } => h2.ping_pong(),
        }
    }
}
