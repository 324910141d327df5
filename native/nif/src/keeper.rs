//! The watch on the process of a stream or connection: when it dies, however it dies, that dies with it.
//!
//! A resource for the sake of its monitor only. Made with the VM's own functions: rustler's resource types are opened by the
//! first load only, and an upgrade must take them over.

use std::ffi::c_void;
use std::panic::catch_unwind;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

use rustler::sys::{
    ErlNifEnv, ErlNifMonitor, ErlNifPid, ErlNifResourceDown, ErlNifResourceFlags, ErlNifResourceType,
    ErlNifResourceTypeInit, enif_alloc_resource, enif_init_resource_type, enif_monitor_process, enif_release_resource,
};
use rustler::{Env, LocalPid};

use crate::{clients, registry, serving, times};

/// The resource type, as the last load or upgrade got it from the VM.
static TYPE: AtomicPtr<ErlNifResourceType> = AtomicPtr::new(ptr::null_mut());

/// Opens the resource type. Within a load or upgrade only.
pub(crate) fn open_type(env: Env<'_>, how: ErlNifResourceFlags) -> bool {
    let init = ErlNifResourceTypeInit {
        dtor: ptr::null(),
        stop: ptr::null(),
        down: down as *const ErlNifResourceDown,
        members: 3,
        dyncall: ptr::null(),
    };
    // SAFETY: the name is a C string, `init` says how many of its members count, and the VM copies both.
    let opened =
        unsafe { enif_init_resource_type(env.as_c_arg(), c"stream_process".as_ptr(), &init, how, ptr::null_mut()) };
    if opened.is_null() {
        return false;
    }
    TYPE.store(opened.cast_mut(), Ordering::Release);
    true
}

unsafe extern "C" fn down(env: *mut ErlNifEnv, _: *mut c_void, pid: *const ErlNifPid, _: *const ErlNifMonitor) {
    let _timer = times::DOWN.start();
    // SAFETY: the VM gives the environment of this callback and the pid.
    let (env, pid) = unsafe { (Env::new(&env, env), LocalPid::from_c_arg(*pid)) };
    let key = registry::pid_key(env, &pid);
    let _ = catch_unwind(|| {
        if let Some(stream) = registry::remove(key) {
            stream.bury();
        } else if let Some(client) = clients::remove(key) {
            client.close();
        } else {
            serving::stop(key);
        }
    });
}

/// Watches one process as long as it exists.
pub(crate) struct Keeper(NonNull<c_void>);

// SAFETY: a reference to a resource may be kept and given up by any thread.
unsafe impl Send for Keeper {}
// SAFETY: there is nothing to be had through a shared reference.
unsafe impl Sync for Keeper {}

impl Drop for Keeper {
    fn drop(&mut self) {
        // SAFETY: `watch` got it with one reference, which is this.
        unsafe { enif_release_resource(self.0.as_ptr()) };
    }
}

/// Starts watching the calling process. `None` when it is dead already.
pub(crate) fn watch(env: Env<'_>) -> Option<Keeper> {
    // SAFETY: the type was opened when the library was loaded, else there would be no call.
    let resource = unsafe { enif_alloc_resource(TYPE.load(Ordering::Acquire), 1) };
    let keeper = Keeper(NonNull::new(resource)?);
    // SAFETY: a resource whose type has a `down` callback; nobody wants the monitor's name.
    let refused = unsafe { enif_monitor_process(env.as_c_arg(), resource, env.pid().as_c_arg(), ptr::null_mut()) };
    (refused == 0).then_some(keeper)
}
