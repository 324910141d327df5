//! Whether senders write themselves, or leave it to the connection's task.
//!
//! One that sends and waits for the answer is served best by its own thread: no other has to be woken. Where many streams are at it at a
//! time, the task writes in one piece what all of them have sent meanwhile, where each would make a TLS record and a system call of its
//! own.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Streams looked after in a round of the task, from which on it is a crowd.
const CROWD: usize = 8;
/// The average is kept in parts of a stream.
const PARTS: usize = 16;
/// A round's weight in it is one in so many: a single large round makes no crowd, and some small ones end it.
const ROUNDS: usize = 4;

/// How many streams have something to do at a time, of late. Written under the connection's baton only.
#[derive(Debug, Default)]
pub(super) struct Crowd(AtomicUsize);

impl Crowd {
    /// Senders should leave the writing to the task.
    pub(super) fn is_there(&self) -> bool {
        self.0.load(Relaxed) >= CROWD * PARTS
    }

    /// A round of the task has looked after so many streams.
    pub(super) fn count(&self, looked_after: usize) {
        let average = self.0.load(Relaxed);
        self.0
            .store(average - average / ROUNDS + looked_after * PARTS / ROUNDS, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_there_while_rounds_are_large_and_gone_soon_after() {
        let crowd = Crowd::default();
        (0..100).for_each(|_| crowd.count(CROWD - 1));
        assert!(!crowd.is_there());
        (0..100).for_each(|_| crowd.count(CROWD + 1));
        assert!(crowd.is_there());
        crowd.count(0);
        crowd.count(0);
        assert!(!crowd.is_there());
    }

    #[test]
    fn is_not_made_by_a_single_round() {
        let crowd = Crowd::default();
        crowd.count(2 * CROWD);
        assert!(!crowd.is_there());
    }
}
