//! What keeps a connection: its task does, and with that it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::connection::Connection;
use crate::outlet::Outlet;

/// Severs its connection when it goes: at the end of the connection's task, or wherever that is dropped.
pub(super) struct Tether<O: Outlet>(pub(super) Arc<Connection<O>>);

/// Tethers there are.
static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

/// Connections that stand, those included that have no stream left and say goodbye.
pub fn connections() -> usize {
    CONNECTIONS.load(Relaxed)
}

impl<O: Outlet> Tether<O> {
    pub(super) fn new(connection: Arc<Connection<O>>) -> Self {
        CONNECTIONS.fetch_add(1, Relaxed);
        Tether(connection)
    }
}

impl<O: Outlet> Drop for Tether<O> {
    fn drop(&mut self) {
        self.0.sever();
        CONNECTIONS.fetch_sub(1, Relaxed);
    }
}
