//! What the VM reads when it opens the library: `rustler::init!` with the upgrade callback that it leaves out.
//!
//! Without one, the first `code:load_file/1` of the module in a running node would be refused the library, and every call
//! fail until the old code is purged.

use std::ffi::{c_int, c_void};
use std::panic::catch_unwind;
use std::sync::OnceLock;

use rustler::codegen_runtime::{ErlNifEntry, ErlNifEnv, ErlNifTerm, internal_write_symbols, inventory};
use rustler::sys::ErlNifResourceFlags;
use rustler::{Env, Nif, Term};

use crate::lifecycle;

struct Entry(ErlNifEntry);

// SAFETY: it points to names and functions that last as long as the library, which is never unmapped, and nobody changes it.
unsafe impl Send for Entry {}
// SAFETY: as above.
unsafe impl Sync for Entry {}

/// Made once, however often the module is loaded: the VM's functions that it looks up are in use by then.
static ENTRY: OnceLock<Entry> = OnceLock::new();

/// The private data of every load: its address tells this mapping of the library from one of another file.
static MARK: u8 = 0;

fn mark() -> *mut c_void {
    (&raw const MARK).cast_mut().cast()
}

// SAFETY: the VM asks for this name, and for nothing else that is called so.
#[unsafe(no_mangle)]
extern "C" fn nif_init() -> *const ErlNifEntry {
    let entry = ENTRY.get_or_init(|| {
        // SAFETY: called by the VM, before any of its functions is called by us.
        unsafe { internal_write_symbols() };
        let functions: Vec<_> = inventory::iter::<Nif>().map(Nif::get_def).collect();
        let mut entry = ErlNifEntry::new(c"hackney_native_nif", functions.leak(), load);
        entry.upgrade = Some(upgrade);
        Entry(entry)
    });
    &raw const entry.0
}

/// No code of the module has the library.
unsafe extern "C" fn load(env: *mut ErlNifEnv, private: *mut *mut c_void, info: ErlNifTerm) -> c_int {
    // SAFETY: what the VM gave.
    unsafe { enter(env, private, info, ErlNifResourceFlags::ERL_NIF_RT_CREATE) }
}

/// The module's running code has a library. If it is this one, nothing changes: streams, threads and all stay. Another
/// file's streams would be out of the new code's reach.
unsafe extern "C" fn upgrade(
    env: *mut ErlNifEnv,
    private: *mut *mut c_void,
    running: *mut *mut c_void,
    info: ErlNifTerm,
) -> c_int {
    // SAFETY: where the VM keeps the private data of the running code's library.
    if unsafe { *running } != mark() {
        return 1;
    }
    // SAFETY: what the VM gave.
    unsafe { enter(env, private, info, ErlNifResourceFlags::ERL_NIF_RT_TAKEOVER) }
}

/// # Safety
/// The arguments are those of a load or upgrade callback.
unsafe fn enter(env: *mut ErlNifEnv, private: *mut *mut c_void, info: ErlNifTerm, how: ErlNifResourceFlags) -> c_int {
    // SAFETY: where the VM wants the private data.
    unsafe { *private = mark() };
    let entered = catch_unwind(|| {
        // SAFETY: an environment for this callback, and a term of it.
        let (env, info) = unsafe {
            let env = Env::new_init_env(&env, env);
            (env, Term::new(env, info))
        };
        lifecycle::enter(env, info, how)
    });
    c_int::from(!entered.unwrap_or(false))
}
