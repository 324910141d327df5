//! `/sink`: swallows the request and tells its length.

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;

use crate::body;
use crate::server::routes::head;

pub(super) async fn answer(mut request: RecvStream, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let bytes = body::drain(&mut request).await?;
    let mut response = respond.send_response(head(200, "text/plain"), false)?;
    response.send_data(Bytes::from(bytes.to_string()), true)
}
