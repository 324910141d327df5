//! Loading, halting, stopping.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustler::sys::ErlNifResourceFlags;
use rustler::{Env, Term};

use crate::{clients, keeper, registry, serving};

/// What `hackney_native_nif` and this library must agree on: the functions, their arguments and results. Raised with every change;
/// a library left over from another version is then refused instead of misunderstood.
const ABI: u32 = 4;

/// Set when the VM has begun to halt: from then on its functions must not be called by threads of ours.
static HALTING: AtomicBool = AtomicBool::new(false);

/// The VM is halting.
pub(crate) fn is_halting() -> bool {
    HALTING.load(Ordering::Acquire)
}

/// Called within `erlang:load_nif/2`; `info` is the module's ABI number.
pub(crate) fn enter(env: Env<'_>, info: Term<'_>, how: ErlNifResourceFlags) -> bool {
    if info.decode::<u32>().ok() != Some(ABI) || !keeper::open_type(env, how) {
        return false;
    }
    pin();
    on_halt(env);
    true
}

/// `ERL_NIF_OPT_ON_HALT` of `erl_nif.h` in NIF version 2.17.
const ON_HALT: c_int = 2;

type SetOption = unsafe extern "C" fn(env: *mut c_void, option: c_int, ...) -> c_int;

/// Has the VM tell us when it halts. OTP 26 and later can; the function is looked up so that one library serves all.
fn on_halt(env: Env<'_>) {
    // SAFETY: the name is a C string, and the lookup has no other demands.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"enif_set_option".as_ptr()) };
    if symbol.is_null() {
        return;
    }
    // SAFETY: wherever the symbol exists it is `int enif_set_option(ErlNifEnv*, ErlNifOption, ...)`.
    let set_option = unsafe { std::mem::transmute::<*mut c_void, SetOption>(symbol) };
    // SAFETY: called within a load or upgrade as the VM asks, with the callback that goes with this option. A refusal leaves things as they were.
    unsafe { set_option(env.as_c_arg().cast(), ON_HALT, halting as extern "C" fn(*mut c_void)) };
}

extern "C" fn halting(_private: *mut c_void) {
    HALTING.store(true, Ordering::Release);
}

/// macOS has no `-z nodelete`: a second reference to the library keeps it mapped for ever.
#[cfg(target_os = "macos")]
fn pin() {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: the address is of a function of this library and `info` has room for the answer.
    if unsafe { libc::dladdr(pin as *const c_void, info.as_mut_ptr()) } != 0 {
        // SAFETY: `dladdr` succeeded and has filled `info`, whose name stays valid as long as the library is mapped.
        unsafe { libc::dlopen(info.assume_init().dli_fname, libc::RTLD_NOW | libc::RTLD_NODELETE) };
    }
}

#[cfg(not(target_os = "macos"))]
fn pin() {}

/// Ends every stream and stops the engine's threads, within so many milliseconds.
#[rustler::nif(schedule = "DirtyIo")]
fn shutdown(patience_ms: u64) -> rustler::Atom {
    let _timer = crate::times::SHUTDOWN.start();
    hackney_engine::runtime::shutdown(Duration::from_millis(patience_ms), || {
        serving::stop_all();
        registry::all().iter().for_each(|stream| stream.abort());
        clients::all().iter().for_each(|client| client.close());
    });
    crate::atoms::ok()
}
