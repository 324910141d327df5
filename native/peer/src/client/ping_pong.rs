//! One message there and back, then the next.

use std::time::Duration;

use bytes::Bytes;
use h2::{RecvStream, SendStream};

use crate::client::Dialer;
use crate::client::clock::Clock;
use crate::{Failure, body};

/// Rounds before the clock starts: the first ones pay for cold caches and growing buffers.
pub(super) const WARM_UP: u64 = 200;

/// A stream to `/echo` whose response has begun.
pub(super) struct PingPong {
    request: SendStream<Bytes>,
    response: RecvStream,
    message: Bytes,
}

impl PingPong {
    pub(super) async fn open(dialer: &Dialer, size: usize) -> Result<Self, Failure> {
        let (response, request) = dialer.open("/echo").await?;
        let response = response.await?.into_body();
        let mut stream = Self {
            request,
            response,
            message: Bytes::from(vec![b'p'; size]),
        };
        stream.rounds(WARM_UP).await?;
        Ok(stream)
    }

    /// Sends the message and waits for all of it to come back.
    pub(super) async fn round(&mut self) -> Result<(), Failure> {
        body::send(&mut self.request, self.message.clone()).await?;
        let mut missing = self.message.len();
        while missing > 0 {
            let data = body::receive(&mut self.response).await?.ok_or("the echo ended early")?;
            missing = missing.checked_sub(data.len()).ok_or("more came back than was sent")?;
        }
        Ok(())
    }

    pub(super) async fn rounds(&mut self, count: u64) -> Result<(), Failure> {
        for _ in 0..count {
            self.round().await?;
        }
        Ok(())
    }
}

/// Rounds per second on one stream.
pub(super) async fn run(dialer: &Dialer, seconds: Duration, size: usize) -> Result<f64, Failure> {
    let mut stream = PingPong::open(dialer, size).await?;
    let clock = Clock::start();
    let mut rounds = 0;
    while !clock.has_passed(seconds) {
        stream.round().await?;
        rounds += 1;
    }
    Ok(clock.rate(rounds))
}
