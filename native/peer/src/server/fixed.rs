//! Answers that do not depend on the request's body.

use std::future::poll_fn;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;

use crate::body;
use crate::server::routes::head;

/// What `/hello` and a path that there is not answer: status and text.
pub(super) const HELLO: (u16, &str) = (200, "hello\n");
pub(super) const NOT_FOUND: (u16, &str) = (404, "no such path\n");

/// `/hello`: complete at once, the request need not have ended.
pub(super) async fn hello(request: RecvStream, respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    complete(HELLO, request, respond).await
}

pub(super) async fn not_found(request: RecvStream, respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    complete(NOT_FOUND, request, respond).await
}

pub(super) async fn bad_request(
    request: RecvStream,
    respond: SendResponse<Bytes>,
    why: &'static str,
) -> Result<(), h2::Error> {
    complete((400, why), request, respond).await
}

/// `/hang`: the head of a response and then nothing, until the peer gives up.
pub(super) async fn hang(mut request: RecvStream, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut response = respond.send_response(head(200, "text/plain"), false)?;
    body::drain(&mut request).await?;
    poll_fn(|cx| response.poll_reset(cx)).await.map(drop)
}

async fn complete(
    (status, text): (u16, &'static str),
    mut request: RecvStream,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let mut response = respond.send_response(head(status, "text/plain"), false)?;
    response.send_data(Bytes::from_static(text.as_bytes()), true)?;
    // Dropped now, the unread request would be reset under a peer that is still writing.
    body::drain(&mut request).await.map(drop)
}
