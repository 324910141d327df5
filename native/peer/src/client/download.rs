//! One large response body.

use bytes::Bytes;

use crate::client::Dialer;
use crate::client::clock::Clock;
use crate::{Failure, body};

/// Megabytes per second.
pub(super) async fn run(dialer: &Dialer, bytes: u64) -> Result<f64, Failure> {
    let clock = Clock::start();
    let (response, mut request) = dialer.open(&format!("/source?bytes={bytes}")).await?;
    request.send_data(Bytes::new(), true)?;
    let received = body::drain(&mut response.await?.into_body()).await?;
    if received != bytes {
        return Err(format!("{received} bytes came instead of {bytes}").into());
    }
    Ok(clock.megabytes(bytes))
}
