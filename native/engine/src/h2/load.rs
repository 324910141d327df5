//! How many streams a connection has and may have, for who must not wait for its driver.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Streams on it or in line.
    taken: AtomicUsize,
    /// As of the last round.
    most: AtomicUsize,
    opened: AtomicUsize,
}

impl Load {
    /// How many streams there are or are in line, how many there may be, and how many were opened so far.
    pub(super) fn figures(&self) -> (usize, usize, usize) {
        (
            self.taken.load(Relaxed),
            self.most.load(Relaxed),
            self.opened.load(Relaxed),
        )
    }

    /// Counts one more stream, if there is a place for it, or in any case when it `waits` otherwise. False when it is not counted.
    pub(super) fn take_place(&self, waits: bool) -> bool {
        let most = self.most.load(Relaxed);
        let take = |taken| (waits || taken < most).then_some(taken + 1);
        self.taken.fetch_update(Relaxed, Relaxed, take).is_ok()
    }

    /// A stream that was counted is no more, or never came to be.
    pub(super) fn give_place_back(&self) {
        self.taken.fetch_sub(1, Relaxed);
    }

    /// There may be so many from now on.
    pub(super) fn allow(&self, most: usize) {
        self.most.store(most, Relaxed);
    }

    /// One was opened.
    pub(super) fn count_opened(&self) {
        self.opened.fetch_add(1, Relaxed);
    }
}
