//! Small messages in one direction, one after the other.

use std::time::Duration;

use bytes::Bytes;

use crate::client::Dialer;
use crate::client::clock::Clock;
use crate::client::upload::finish;
use crate::{Failure, body};

/// Messages between two looks at the clock.
const BATCH: u32 = 64;

/// Megabytes per second, up to the answer that tells that all has arrived.
pub(super) async fn run(dialer: &Dialer, seconds: Duration, size: usize) -> Result<f64, Failure> {
    let (response, mut request) = dialer.open("/sink").await?;
    let message = Bytes::from(vec![b'm'; size]);
    let clock = Clock::start();
    let mut sent = 0;
    while !clock.has_passed(seconds) {
        for _ in 0..BATCH {
            body::send(&mut request, message.clone()).await?;
        }
        sent += u64::from(BATCH) * size as u64;
    }
    finish(request, response, sent).await?;
    Ok(clock.megabytes(sent))
}
