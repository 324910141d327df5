//! Connections that have had no stream for long (RFC 9113, 9.1): each holds memory, a descriptor and a process, and a peer that has
//! vanished never closes its own.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// How long a peer that was asked to open no more streams may take to hear of it. Until then it may open some, and is served.
const FAREWELL: Duration = Duration::from_secs(2);

/// Looks after that. See the module's text.
pub(super) struct Idle {
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
    /// Since when there is no stream. `None` while there is one.
    since: Option<Instant>,
    /// Streams that there had been by the last look.
    opened: usize,
    /// The peer was asked to open no more.
    asked: bool,
}

/// What is to be done about a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Idleness {
    /// It is in use, or has been of late.
    Short,
    /// The peer is to be asked to open no more streams.
    Long,
    /// It was, and does not go.
    Over,
}

impl Idle {
    pub(super) fn new(timeout: Duration) -> Self {
        Idle {
            timeout,
            timer: Box::pin(sleep_until(Instant::now() + timeout)),
            since: None,
            opened: 0,
            asked: false,
        }
    }

    /// To be called in each turn of the connection's task, and whenever the context's waker says so; not again once it is over.
    /// `streams` is how many there are, `opened` how many there have been.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, streams: usize, opened: usize) -> Idleness {
        let used = std::mem::replace(&mut self.opened, opened) != opened;
        if streams > 0 {
            self.since = None;
        } else if used || self.since.is_none() {
            self.since = Some(Instant::now());
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let patience = if self.asked { FAREWELL } else { self.timeout };
            let due = self.since.unwrap_or(now) + patience;
            if due > now {
                self.timer.as_mut().reset(due);
            } else if self.asked {
                return Idleness::Over;
            } else {
                self.asked = true;
                self.since = Some(now);
                self.timer.as_mut().reset(now + FAREWELL);
                return Idleness::Long;
            }
        }
        Idleness::Short
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;

    /// What it says next, with so many streams there and so many opened.
    async fn next(idle: &mut Idle, streams: usize, opened: usize) -> Idleness {
        poll_fn(|cx| match idle.poll(cx, streams, opened) {
            Idleness::Short => Poll::Pending,
            other => Poll::Ready(other),
        })
        .await
    }

    const TIMEOUT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn asks_the_peer_to_go_and_then_lets_go() {
        let begun = Instant::now();
        let mut idle = Idle::new(TIMEOUT);
        assert_eq!(next(&mut idle, 0, 0).await, Idleness::Long);
        assert_eq!(begun.elapsed().as_secs(), 60);
        assert_eq!(next(&mut idle, 0, 0).await, Idleness::Over);
        assert_eq!(begun.elapsed().as_secs(), 62);
    }

    #[tokio::test(start_paused = true)]
    async fn counts_from_the_last_stream() {
        let mut idle = Idle::new(TIMEOUT);
        let busy = tokio::time::timeout(10 * TIMEOUT, next(&mut idle, 1, 1)).await;
        assert!(busy.is_err(), "{busy:?}");
        let begun = Instant::now();
        let rest = tokio::time::timeout(TIMEOUT / 2, next(&mut idle, 0, 1)).await;
        assert!(rest.is_err(), "{rest:?}");
        // One that came and went between two looks.
        assert_eq!(next(&mut idle, 0, 2).await, Idleness::Long);
        assert_eq!(begun.elapsed().as_secs(), 90);
    }

    #[tokio::test(start_paused = true)]
    async fn serves_who_did_not_hear_in_time() {
        let mut idle = Idle::new(TIMEOUT);
        assert_eq!(next(&mut idle, 0, 0).await, Idleness::Long);
        let served = tokio::time::timeout(10 * FAREWELL, next(&mut idle, 1, 1)).await;
        assert!(served.is_err(), "{served:?}");
        assert_eq!(next(&mut idle, 0, 1).await, Idleness::Over);
    }
}
