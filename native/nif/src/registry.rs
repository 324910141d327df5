//! From the pid of a stream's process to the stream, so that calls on the same node need no process hop.

use std::sync::{Arc, LazyLock};

use dashmap::DashMap;
use hackney_engine::h2::Stream;
use rustc_hash::FxBuildHasher;
use rustler::sys::ErlNifTerm;
use rustler::{Encoder, Env, LocalPid, Term};

use crate::keeper::Keeper;
use crate::processes::Processes;

/// A stream as the NIF knows it.
pub(crate) type NifStream = Stream<Processes>;

struct Entry {
    stream: Arc<NifStream>,
    /// Watches the process; alive as long as the entry.
    _keeper: Keeper,
}

static STREAMS: LazyLock<DashMap<u64, Entry, FxBuildHasher>> = LazyLock::new(|| DashMap::with_hasher(FxBuildHasher));

/// A number that is the process's own, as long as it lives: the word that a local pid is to the VM.
pub(crate) fn pid_key(env: Env<'_>, pid: &LocalPid) -> u64 {
    let term = pid.encode(env).as_c_arg();
    // SAFETY: `ErlNifTerm` is a transparent wrapper of a word.
    let word = unsafe { std::mem::transmute::<ErlNifTerm, usize>(term) };
    word as u64
}

/// Whether the process with this number lives.
pub(crate) fn is_alive(env: Env<'_>, key: u64) -> bool {
    // SAFETY: as in `pid_key`, whence `key` is. A local pid is an immediate term, the same in every environment.
    let term = unsafe { Term::new(env, std::mem::transmute::<usize, ErlNifTerm>(key as usize)) };
    term.decode::<LocalPid>().is_ok_and(|pid| pid.is_alive(env))
}

/// Enters `stream` under the pid of its process. False when that has one already.
pub(crate) fn enter(key: u64, stream: Arc<NifStream>, keeper: Keeper) -> bool {
    match STREAMS.entry(key) {
        dashmap::Entry::Occupied(_) => false,
        dashmap::Entry::Vacant(vacant) => {
            vacant.insert(Entry {
                stream,
                _keeper: keeper,
            });
            true
        }
    }
}

/// The stream of a process.
pub(crate) fn find(key: u64) -> Option<Arc<NifStream>> {
    STREAMS.get(&key).map(|entry| entry.stream.clone())
}

/// Takes the stream of a process that is gone.
pub(crate) fn remove(key: u64) -> Option<Arc<NifStream>> {
    STREAMS.remove(&key).map(|(_, entry)| entry.stream)
}

/// Every stream.
pub(crate) fn all() -> Vec<Arc<NifStream>> {
    STREAMS.iter().map(|entry| entry.stream.clone()).collect()
}
