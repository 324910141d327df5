//! `/hello` on a bare hyper server: what people who serve HTTP/2 in Rust run, with nothing of ours in the way.

use std::convert::Infallible;
use std::future::ready;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use hyper::body::{Body, Frame};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Failure;
use crate::arguments::Arguments;
use crate::server::routes::head;
use crate::server::{Stack, fixed};

/// The server on hyper, with its own settings, so without options.
#[derive(Debug, Clone, Copy)]
pub struct Hyper;

impl Stack for Hyper {
    const PROGRAM: &str = "hyper-server";
    const OPTIONS: &str = "";

    fn from_arguments(_: &mut Arguments) -> Result<Self, Failure> {
        Ok(Self)
    }

    async fn serve<T>(self, socket: T)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request: http::Request<_>| ready(Ok::<_, Infallible>(answer(request.uri().path()))));
        let _ = http2::Builder::new(TokioExecutor::new())
            // The one setting that is not hyper's: no other server of the bench sends this field.
            .auto_date_header(false)
            .serve_connection(TokioIo::new(socket), service)
            .await;
    }
}

fn answer(path: &str) -> Response<Whole> {
    let (status, text) = match path {
        "/hello" => fixed::HELLO,
        _ => fixed::NOT_FOUND,
    };
    head(status, "text/plain").map(|()| Whole(Some(Bytes::from_static(text.as_bytes()))))
}

/// A body in one piece that does not tell its length. Of one that does, such as http-body-util's `Full`, hyper makes a
/// `content-length`, and the other servers would be compared with one that answers something else.
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text))))
    }

    /// With it, the text and the end of the stream go in one frame, as with the h2 crate.
    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
