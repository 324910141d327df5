//! PINGs that keep a quiet connection alive, and tell when its peer is gone (RFC 9113, 6.7).

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep_until};

/// When PINGs are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// After so long without a byte from the peer. Servers hang up on clients that do it too often, many below 10 s.
    pub interval: Duration,
    /// The peer is gone when no answer has come after so long.
    pub timeout: Duration,
}

/// Sends them. See the module's text.
pub(super) struct Pinger {
    keepalive: Keepalive,
    ping_pong: PingPong,
    timer: Pin<Box<Sleep>>,
    /// A PING is under way.
    asking: bool,
    /// Bytes that had come by the time of the last look.
    bytes_in: u64,
    /// DATA frames that had left by then.
    data_out: u64,
}

/// No answer came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unanswered;

impl Pinger {
    pub(super) fn new(keepalive: Keepalive, ping_pong: PingPong) -> Self {
        Pinger {
            keepalive,
            ping_pong,
            timer: Box::pin(sleep_until(Instant::now() + keepalive.interval)),
            asking: false,
            bytes_in: 0,
            data_out: 0,
        }
    }

    /// To be called in each turn of the connection's task, and whenever the context's waker says so. `bytes_in` have come so far, and
    /// `data_out` DATA frames have left.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, bytes_in: u64, data_out: u64) -> Result<(), Unanswered> {
        if self.asking && self.ping_pong.poll_pong(cx).is_ready() {
            // An error is the connection's, which ends by it.
            self.asking = false;
            self.set_timer(self.keepalive.interval);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let heard = std::mem::replace(&mut self.bytes_in, bytes_in) != bytes_in;
            let takes = std::mem::replace(&mut self.data_out, data_out) != data_out;
            // Whoever takes data slowly has yet to come to the PING behind it.
            if self.asking && !heard && !takes {
                return Err(Unanswered);
            }
            if self.asking || heard {
                // It lives: what it sends says so as well as an answer does.
                self.set_timer(if self.asking {
                    self.keepalive.timeout
                } else {
                    self.keepalive.interval
                });
                continue;
            }
            self.asking = self.ping_pong.send_ping(Ping::opaque()).is_ok();
            self.set_timer(self.keepalive.timeout);
            if self.asking && self.ping_pong.poll_pong(cx).is_ready() {
                self.asking = false;
            }
        }
        Ok(())
    }

    fn set_timer(&mut self, after: Duration) {
        self.timer.as_mut().reset(Instant::now() + after);
    }
}
