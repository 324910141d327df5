//! How the calling thread reads from sockets while it drives a connection.

use std::cell::Cell;
use std::thread::LocalKey;
use std::time::{Duration, Instant};

/// A short turn reads no more after so long. Bytes read are no measure of its length: in TLS records of one byte each, or in
/// session tickets, of which a server may send as many as it likes, a few KiB cost milliseconds.
pub(super) const SHORT_TURN: Duration = Duration::from_micros(300);

/// How long reading may go on before others get their turn.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// Tokio sees to it.
    Long,
    /// [`SHORT_TURN`] from the first read, which has not been yet.
    Short,
    /// The same, begun then.
    Begun(Instant),
}

thread_local! {
    static EAGER: Cell<bool> = const { Cell::new(false) };
    static TURN: Cell<Turn> = const { Cell::new(Turn::Long) };
}

/// Runs `read` with sockets asked themselves whether there is something to read.
///
/// Tokio learns of it only when its own thread has been woken by the operating system, tens of microseconds after the fact: a reader
/// that is awake need not wait for that.
pub fn reading_eagerly<R>(read: impl FnOnce() -> R) -> R {
    with(&EAGER, true, read)
}

/// Runs `work`, in which reading ends soon however much there is to read: for threads that are not ours to keep.
pub fn in_a_short_turn<R>(work: impl FnOnce() -> R) -> R {
    with(&TURN, Turn::Short, work)
}

/// Runs `work` with `value` in the cell, which has its former value again afterwards, and after a panic too: the thread goes on
/// to work for others.
fn with<T: Copy, R>(cell: &'static LocalKey<Cell<T>>, value: T, work: impl FnOnce() -> R) -> R {
    struct Restore<T: Copy + 'static>(&'static LocalKey<Cell<T>>, T);
    impl<T: Copy> Drop for Restore<T> {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _restore = Restore(cell, cell.replace(value));
    work()
}

/// Whether sockets are to be asked themselves.
pub(super) fn is_eager() -> bool {
    EAGER.get()
}

/// Whether others are to get their turn. The first to ask begins a short one.
pub(super) fn is_over() -> bool {
    match TURN.get() {
        Turn::Long => false,
        Turn::Short => {
            TURN.set(Turn::Begun(Instant::now()));
            false
        }
        Turn::Begun(at) => at.elapsed() >= SHORT_TURN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_leaves_the_thread_as_it_was() {
        let panic = std::panic::catch_unwind(|| in_a_short_turn(|| reading_eagerly(|| panic!("on purpose"))));
        assert!(panic.is_err());
        assert!(!is_eager());
        assert!(matches!(TURN.get(), Turn::Long));
    }
}
