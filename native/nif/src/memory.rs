//! What the engine holds that `erlang:memory/0` cannot see.

use hackney_engine::{h2, runtime};
use rustler::{Encoder, Env, NifResult, Term};

use crate::{atoms, clients, registry, times};

/// Bytes that the library's allocator has from the operating system: what is allocated, and what it keeps for the next allocations.
fn native_bytes() -> usize {
    let mut committed = 0;
    let unwanted = std::ptr::null_mut();
    // SAFETY: every pointer is null, which means that the figure is not wanted, or that of a word to write to.
    unsafe {
        libmimalloc_sys::mi_process_info(
            unwanted,
            unwanted,
            unwanted,
            unwanted,
            unwanted,
            &raw mut committed,
            unwanted,
            unwanted,
        );
    }
    committed
}

/// On a dirty scheduler, because it takes the lock of each stream: counters that every message would have to touch are dearer.
#[rustler::nif(schedule = "DirtyCpu")]
fn memory(env: Env<'_>) -> NifResult<Term<'_>> {
    let _timer = times::MEMORY.start();
    let mut streams = registry::all();
    streams.extend(clients::rooms().iter().flat_map(|room| room.all()));
    let (received, sending) = streams.iter().fold((0, 0), |(received, sending), stream| {
        let (more_received, more_sending) = stream.queued();
        (received + more_received, sending + more_sending)
    });
    let figures = Term::map_from_pairs(
        env,
        &[
            (atoms::streams(), streams.len()),
            (atoms::connections(), h2::connections()),
            (atoms::recv_queue_bytes(), received),
            (atoms::send_queue_bytes(), sending),
            (atoms::tasks(), runtime::tasks()),
            (atoms::threads(), runtime::threads()),
            (atoms::native_bytes(), native_bytes()),
        ],
    )?;
    Ok((atoms::ok(), figures).encode(env))
}
