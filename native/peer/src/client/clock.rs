//! Rates.

use std::time::{Duration, Instant};

/// Runs from the moment of its making.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn has_passed(&self, duration: Duration) -> bool {
        self.0.elapsed() >= duration
    }

    /// `count` things per second since the start.
    pub(super) fn rate(&self, count: u64) -> f64 {
        count as f64 / self.0.elapsed().as_secs_f64()
    }

    /// Megabytes (10^6) per second since the start.
    pub(super) fn megabytes(&self, bytes: u64) -> f64 {
        self.rate(bytes) / 1e6
    }
}
