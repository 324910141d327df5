//! From a request's path to what answers it.

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response};

use crate::server::{chat, echo, fixed, sink, source};

pub(super) async fn answer(request: Request<RecvStream>, respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let (head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default();
    match head.uri.path() {
        "/echo" => echo::answer(body, respond).await,
        "/chat" => chat::answer(body, respond).await,
        "/sink" => sink::answer(body, respond).await,
        "/source" => source::answer(query, body, respond).await,
        "/hello" => fixed::hello(body, respond).await,
        "/hang" => fixed::hang(body, respond).await,
        _ => fixed::not_found(body, respond).await,
    }
}

/// The head of a response with a body of `content_type`.
pub(super) fn head(status: u16, content_type: &'static str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}
