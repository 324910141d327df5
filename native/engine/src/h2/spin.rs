//! Whether a reader should look again at once or go to sleep.
//!
//! Waking a sleeping thread takes tens of microseconds, several times what a peer on the same machine or rack needs to answer. So a
//! reader whose last answer came quickly looks again for a moment, giving way to others in between, before it sleeps. One slow answer,
//! and it goes to sleep at once again, until answers are quick once more: a stream that is idle, or one of very many, spins never.

use std::time::{Duration, Instant};

/// The most that a reader spins, and what counts as a quick answer.
const SPIN: Duration = Duration::from_micros(100);

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Spin {
    waiting_since: Option<Instant>,
    quick: bool,
}

impl Spin {
    /// The last answer came quickly.
    pub(crate) fn is_quick(&self) -> bool {
        self.quick
    }

    /// The reader found nothing. True when it should look again at once.
    pub(crate) fn found_nothing(&mut self) -> bool {
        let now = Instant::now();
        let since = *self.waiting_since.get_or_insert(now);
        self.quick = self.quick && now - since < SPIN;
        self.quick
    }

    /// The reader found something.
    pub(crate) fn found_something(&mut self) {
        if let Some(since) = self.waiting_since.take() {
            self.quick = since.elapsed() < SPIN;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spins_after_a_quick_answer_and_stops_after_a_slow_one() {
        let mut spin = Spin::default();
        assert!(!spin.found_nothing());
        spin.found_something();
        // Whether that was quick depends on the machine; what follows from it does not.
        spin.quick = true;
        spin.waiting_since = Some(Instant::now());
        assert!(spin.found_nothing() || spin.waiting_since.is_some_and(|since| since.elapsed() >= SPIN));
        spin.quick = true;
        spin.waiting_since = Some(Instant::now() - 2 * SPIN);
        assert!(!spin.found_nothing());
        spin.found_something();
        assert!(!spin.quick);
    }
}
