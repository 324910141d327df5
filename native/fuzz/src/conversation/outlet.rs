//! An outlet that writes down what it is told.

use std::sync::{Arc, Mutex, MutexGuard};

use hackney_engine::{Life, Notice, Outlet};

#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) notices: Vec<Notice>,
    pub(super) lives: Vec<Life>,
    /// Tickets of the waiters woken.
    pub(super) woken: Vec<u64>,
}

#[derive(Debug)]
pub(super) struct Recorder(Arc<Mutex<Told>>);

/// What a [`Recorder`] has been told. It can tell whether the recorder is still there.
#[derive(Debug)]
pub(super) struct Record(Arc<Mutex<Told>>);

/// Who waits, and which of its waits it is.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: u64,
    pub(super) ticket: u64,
}

pub(super) fn recorder() -> (Recorder, Record) {
    let told = Arc::default();
    (Recorder(Arc::clone(&told)), Record(told))
}

impl Record {
    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().expect("nobody panics while holding it")
    }

    pub(super) fn recorder_is_gone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Recorder {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

impl Outlet for Recorder {
    type Owner = u8;
    type Waiter = Waiter;

    fn notify(&self, _: &u8, _: u32, notice: Notice) {
        self.told().notices.push(notice);
    }

    fn wake(&self, waiter: Waiter) {
        self.told().woken.push(waiter.ticket);
    }

    fn life(&self, life: Life) {
        self.told().lives.push(life);
    }

    fn waiter_id(waiter: &Waiter) -> u64 {
        waiter.id
    }
}
