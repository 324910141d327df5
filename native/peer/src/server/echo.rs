//! `/echo`: every DATA goes back as it comes.

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue};

use crate::body;
use crate::server::routes::head;

pub(super) async fn answer(mut request: RecvStream, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut response = respond.send_response(head(200, "application/octet-stream"), false)?;
    let mut echoed = 0_u64;
    while let Some(data) = request.data().await {
        let data = data?;
        let length = data.len();
        body::send(&mut response, data).await?;
        // Only now: a peer that sends and never reads fills its window and has to stop, not our memory.
        let _ = request.flow_control().release_capacity(length);
        echoed += length as u64;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-echoed-bytes", HeaderValue::from(echoed));
    response.send_trailers(trailers)
}
