//! The watch on a stream's process: when it dies, however it dies, the stream dies with it.

use rustler::{Env, LocalPid, Monitor, Resource, ResourceArc};

use crate::registry;

/// A resource for the sake of its monitor only.
pub(crate) struct Keeper;

#[rustler::resource_impl]
impl Resource for Keeper {
    const IMPLEMENTS_DOWN: bool = true;

    fn down<'a>(&'a self, env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        if let Some(stream) = registry::remove(registry::pid_key(env, &pid)) {
            stream.bury();
        }
    }
}

/// Starts watching the calling process. `None` when it is dead already.
pub(crate) fn watch(env: Env<'_>) -> Option<ResourceArc<Keeper>> {
    let keeper = ResourceArc::new(Keeper);
    keeper.monitor(Some(env), &env.pid())?;
    Some(keeper)
}
