//! The baton: who may drive a connection right now.
//!
//! A connection is driven by its tokio task or, to save a thread switch, *inline* by whichever thread has just queued
//! something for it. Only one thread may drive at a time and none may wait for another, so the right to drive is a baton:
//! take it, or leave a note that its holder looks at before letting go. No wake-up is lost, no thread ever blocks.

#[cfg(hackney_loom)]
use loom::sync::atomic::{AtomicU8, Ordering};
#[cfg(not(hackney_loom))]
use std::sync::atomic::{AtomicU8, Ordering};

const FREE: u8 = 0;
const HELD: u8 = 1;
/// Held, and somebody wants another round before it is let go.
const NOTED: u8 = 2;

/// The right to drive one connection. See the module's text.
#[derive(Debug)]
pub(crate) struct Baton(AtomicU8);

/// What [`Baton::let_go`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LetGo {
    /// Nobody left a note: the baton is free.
    Free,
    /// A note was left: the caller still holds the baton and owes another round.
    Again,
}

impl Baton {
    /// A free baton.
    pub(crate) fn new() -> Self {
        Baton(AtomicU8::new(FREE))
    }

    /// Takes the baton, or leaves a note for its holder. True when the caller now holds it.
    pub(crate) fn take_or_note(&self) -> bool {
        loop {
            if self.exchange(FREE, HELD) {
                return true;
            }
            if self.note() {
                return false;
            }
        }
    }

    /// Leaves a note if the baton is held. False when it is free: then the caller has to see to it that somebody drives.
    pub(crate) fn note(&self) -> bool {
        let mut held = HELD;
        loop {
            match self
                .0
                .compare_exchange(held, NOTED, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return true,
                Err(FREE) => return false,
                // Over a note that is there as well: by its own the holder sees what the caller has done before.
                Err(other) => held = other,
            }
        }
    }

    fn exchange(&self, from: u8, to: u8) -> bool {
        self.0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// The holder is about to look at everything: notes left so far are served by that. What they were left for is seen from now on.
    pub(crate) fn clear_note(&self) {
        self.0.swap(HELD, Ordering::AcqRel);
    }

    /// Lets the baton go unless a note was left since the last look.
    pub(crate) fn let_go(&self) -> LetGo {
        if self.exchange(HELD, FREE) {
            return LetGo::Free;
        }
        self.clear_note();
        LetGo::Again
    }

    /// Lets the baton go whatever notes there are. The caller must pass the work on (wake the task).
    pub(crate) fn drop_it(&self) {
        self.0.store(FREE, Ordering::Release);
    }
}

#[cfg(all(test, not(hackney_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_note_makes_the_holder_go_round_again() {
        let baton = Baton::new();
        assert!(baton.take_or_note());
        assert!(!baton.take_or_note());
        assert!(baton.note());
        assert_eq!(baton.let_go(), LetGo::Again);
        assert_eq!(baton.let_go(), LetGo::Free);
        assert!(!baton.note());
    }
}

#[cfg(all(test, hackney_loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, AtomicUsize};

    /// What is ordered while the holder is in its round, behind where it looks for orders, is done all the same; also where another has
    /// left a note already.
    #[test]
    fn no_order_is_cleared_with_its_note() {
        let mut model = loom::model::Builder::new();
        // Of three threads, every interleaving would take for ever.
        model.preemption_bound = Some(2);
        model.check(|| {
            let baton = Arc::new(Baton::new());
            let orders = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
            assert!(baton.take_or_note());
            let order = |which: usize| {
                let (baton, orders) = (baton.clone(), orders.clone());
                loom::thread::spawn(move || {
                    orders[which].store(true, Ordering::Release);
                    // Else it wakes the task, which takes the baton and looks.
                    !baton.note()
                })
            };
            let others = [order(0), order(1)];
            let given = || [0, 1].map(|which| orders[which].load(Ordering::Acquire));
            let mut done;
            loop {
                done = given();
                baton.clear_note();
                if done != given() {
                    assert!(baton.note());
                }
                if baton.let_go() == LetGo::Free {
                    break;
                }
            }
            let woken = others.map(|other| other.join().unwrap());
            assert!((done[0] || woken[0]) && (done[1] || woken[1]));
        });
    }

    /// Work queued before `take_or_note` is always seen by somebody who drives.
    #[test]
    fn no_work_is_left_behind() {
        loom::model(|| {
            let baton = Arc::new(Baton::new());
            let work = Arc::new(AtomicUsize::new(0));
            let done = Arc::new(AtomicUsize::new(0));
            let drive = |baton: &Baton, work: &AtomicUsize, done: &AtomicUsize| {
                work.fetch_add(1, Ordering::AcqRel);
                if baton.take_or_note() {
                    loop {
                        done.fetch_add(work.swap(0, Ordering::AcqRel), Ordering::AcqRel);
                        if baton.let_go() == LetGo::Free {
                            break;
                        }
                    }
                }
            };
            let other = {
                let (baton, work, done) = (baton.clone(), work.clone(), done.clone());
                loom::thread::spawn(move || drive(&baton, &work, &done))
            };
            drive(&baton, &work, &done);
            other.join().unwrap();
            assert_eq!(done.load(Ordering::Acquire), 2);
            assert_eq!(work.load(Ordering::Acquire), 0);
        });
    }
}
