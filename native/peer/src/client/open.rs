//! Connection, request, complete response, end: over and over.

use std::time::Duration;

use crate::client::Dialer;
use crate::client::clock::Clock;
use crate::{Failure, body};

/// How many of these per second, one after the other.
pub(super) async fn run(dialer: &Dialer, seconds: Duration) -> Result<f64, Failure> {
    once(dialer).await?;
    let clock = Clock::start();
    let mut count = 0;
    while !clock.has_passed(seconds) {
        once(dialer).await?;
        count += 1;
    }
    Ok(clock.rate(count))
}

async fn once(dialer: &Dialer) -> Result<(), Failure> {
    let (response, request) = dialer.open("/hello").await?;
    let response = response.await?;
    if response.status() != http::StatusCode::OK {
        return Err(format!("/hello answered {}", response.status()).into());
    }
    body::drain(&mut response.into_body()).await?;
    // The request never ended: dropping it resets the stream, and with its last stream the connection ends.
    drop(request);
    Ok(())
}
