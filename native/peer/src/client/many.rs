//! Many connections, each with one stream that plays ping-pong.

use std::sync::Arc;

use tokio::sync::{Barrier, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::Failure;
use crate::client::Dialer;
use crate::client::clock::Clock;
use crate::client::ping_pong::PingPong;

/// Handshakes at a time: all at once they would overflow the server's queue of waiting connections.
const DIALING: usize = 16;

/// Rounds per second of all streams together.
pub(super) async fn run(dialer: Arc<Dialer>, streams: usize, rounds: u64, size: usize) -> Result<f64, Failure> {
    let ready = Arc::new(Barrier::new(streams + 1));
    let dialing = Arc::new(Semaphore::new(DIALING));
    let mut tasks = JoinSet::new();
    for _ in 0..streams {
        let (dialer, ready) = (Arc::clone(&dialer), Arc::clone(&ready));
        let permit: OwnedSemaphorePermit = Arc::clone(&dialing).acquire_owned().await?;
        tasks.spawn(async move {
            let opened = PingPong::open(&dialer, size).await;
            drop(permit);
            // Also those that failed: the others wait for them here.
            ready.wait().await;
            opened?.rounds(rounds).await
        });
    }
    ready.wait().await;
    let clock = Clock::start();
    while let Some(outcome) = tasks.join_next().await {
        outcome??;
    }
    Ok(clock.rate(streams as u64 * rounds))
}
