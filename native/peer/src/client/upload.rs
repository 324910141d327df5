//! One large request body.

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;

use crate::client::Dialer;
use crate::client::clock::Clock;
use crate::{Failure, body};

/// Megabytes per second, up to the answer that tells that all has arrived.
pub(super) async fn run(dialer: &Dialer, bytes: u64, piece: usize) -> Result<f64, Failure> {
    let (response, mut request) = dialer.open("/sink").await?;
    let data = Bytes::from(vec![b'u'; piece]);
    let clock = Clock::start();
    let mut left = bytes;
    while left > 0 {
        let next = usize::try_from(left).map_or(piece, |left| left.min(piece));
        body::send(&mut request, data.slice(..next)).await?;
        left -= next as u64;
    }
    finish(request, response, bytes).await?;
    Ok(clock.megabytes(bytes))
}

/// Ends a request to `/sink` and checks its answer.
pub(super) async fn finish(mut request: SendStream<Bytes>, response: ResponseFuture, sent: u64) -> Result<(), Failure> {
    request.send_data(Bytes::new(), true)?;
    let mut response = response.await?.into_body();
    let mut text = Vec::new();
    while let Some(data) = body::receive(&mut response).await? {
        text.extend_from_slice(&data);
    }
    let text = String::from_utf8(text)?;
    if text == sent.to_string() {
        Ok(())
    } else {
        Err(format!("{sent} bytes sent, {text} arrived").into())
    }
}
