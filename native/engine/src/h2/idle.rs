//! Connections that have had no stream for long (RFC 9113, 9.1): each holds memory, a descriptor and a process, and a peer that has
//! vanished never closes its own.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// How long a peer that was asked to open no more streams may take to hear of it, if the timeout is not longer. Until then it may open
/// some, and is served; and it may be reading yet what the system holds for it.
const FAREWELL: Duration = Duration::from_secs(2);

/// Looks after that. See the module's text.
pub(super) struct Idle {
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
    /// Since when it is not used. `None` while there is a stream.
    since: Option<Instant>,
    /// By the last look.
    seen: Use,
    /// The peer was asked to open no more.
    asked: bool,
}

/// Of what a connection's use shows, beside the streams that it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Use {
    /// Streams that there have been.
    pub(super) opened: usize,
    /// DATA frames that have left: the last of a stream leave after it.
    pub(super) data_out: u64,
    /// Bytes that have come, if only to say that more data may.
    pub(super) bytes_in: u64,
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
            seen: Use::default(),
            asked: false,
        }
    }

    /// To be called in each turn of the connection's task, and whenever the context's waker says so; not again once it is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, streams: usize, now: Use) -> Idleness {
        let before = std::mem::replace(&mut self.seen, now);
        if streams > 0 {
            // With the last of them there is another turn.
            self.since = None;
            return Idleness::Short;
        }
        let used = before.opened != now.opened || before.data_out != now.data_out;
        // PINGs and their answers are no use; but whoever is to go may take the time that it shows to need.
        let reads = self.asked && before.bytes_in != now.bytes_in;
        if used || reads || self.since.is_none() {
            self.since = Some(Instant::now());
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let patience = if self.asked { self.farewell() } else { self.timeout };
            let due = self.since.unwrap_or(now) + patience;
            if due > now {
                self.timer.as_mut().reset(due);
            } else if self.asked {
                return Idleness::Over;
            } else {
                self.asked = true;
                self.since = Some(now);
                let farewell = now + self.farewell();
                self.timer.as_mut().reset(farewell);
                return Idleness::Long;
            }
        }
        Idleness::Short
    }

    fn farewell(&self) -> Duration {
        self.timeout.max(FAREWELL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;

    /// What it says next, with so many streams there and so much of use.
    async fn next(idle: &mut Idle, streams: usize, now: Use) -> Idleness {
        poll_fn(|cx| match idle.poll(cx, streams, now) {
            Idleness::Short => Poll::Pending,
            other => Poll::Ready(other),
        })
        .await
    }

    /// It says nothing for so long.
    async fn is_silent(idle: &mut Idle, streams: usize, now: Use, time: Duration) {
        let said = tokio::time::timeout(time, next(idle, streams, now)).await;
        assert!(said.is_err(), "{said:?}");
    }

    fn opened(opened: usize) -> Use {
        Use {
            opened,
            ..Use::default()
        }
    }

    const TIMEOUT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn asks_the_peer_to_go_and_then_lets_go() {
        for (timeout, farewell) in [(60, 60), (1, 2)] {
            let begun = Instant::now();
            let mut idle = Idle::new(Duration::from_secs(timeout));
            assert_eq!(next(&mut idle, 0, opened(0)).await, Idleness::Long);
            assert_eq!(begun.elapsed().as_secs(), timeout);
            assert_eq!(next(&mut idle, 0, opened(0)).await, Idleness::Over);
            assert_eq!(begun.elapsed().as_secs(), timeout + farewell);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn counts_from_the_last_stream_and_what_it_sent() {
        let mut idle = Idle::new(TIMEOUT);
        is_silent(&mut idle, 1, opened(1), 10 * TIMEOUT).await;
        is_silent(&mut idle, 0, opened(1), TIMEOUT / 2).await;
        // One that came and went between two looks.
        is_silent(&mut idle, 0, opened(2), TIMEOUT / 2).await;
        let begun = Instant::now();
        let sends = Use {
            data_out: 1,
            ..opened(2)
        };
        assert_eq!(next(&mut idle, 0, sends).await, Idleness::Long);
        assert_eq!(begun.elapsed(), TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn serves_who_did_not_hear_in_time() {
        let mut idle = Idle::new(TIMEOUT);
        assert_eq!(next(&mut idle, 0, opened(0)).await, Idleness::Long);
        is_silent(&mut idle, 1, opened(1), 10 * TIMEOUT).await;
        assert_eq!(next(&mut idle, 0, opened(1)).await, Idleness::Over);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_who_is_still_reading() {
        let mut idle = Idle::new(TIMEOUT);
        assert_eq!(next(&mut idle, 0, opened(1)).await, Idleness::Long);
        for bytes_in in 1..10 {
            is_silent(&mut idle, 0, Use { bytes_in, ..opened(1) }, TIMEOUT / 2).await;
        }
        let last = Use {
            bytes_in: 9,
            ..opened(1)
        };
        assert_eq!(next(&mut idle, 0, last).await, Idleness::Over);
    }
}
