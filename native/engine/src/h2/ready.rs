//! How a connection learns which of its streams have something to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use super::connection::Connection;
use crate::outlet::Outlet;

/// One stream's mark on its connection's list, set at most once at a time. As a waker it is what h2 calls when it has something for
/// the stream.
pub(super) struct ReadyFlag<O: Outlet> {
    connection: Arc<Connection<O>>,
    key: usize,
    marked: AtomicBool,
}

impl<O: Outlet> ReadyFlag<O> {
    pub(super) fn new(connection: Arc<Connection<O>>, key: usize) -> Arc<Self> {
        Arc::new(ReadyFlag {
            connection,
            key,
            marked: AtomicBool::new(false),
        })
    }

    pub(super) fn connection(&self) -> &Arc<Connection<O>> {
        &self.connection
    }

    /// Puts the stream on the list. Somebody has to drive after it.
    pub(super) fn mark(&self) {
        if !self.marked.swap(true, Ordering::AcqRel) {
            self.connection.list_ready(self.key);
        }
    }

    pub(super) fn unmark(&self) {
        self.marked.store(false, Ordering::Release);
    }
}

impl<O: Outlet> Wake for ReadyFlag<O> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.mark();
        self.connection.drive_soon();
    }
}
