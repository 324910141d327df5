//! The NIF of `hackney_native`: a thin layer that turns Erlang terms into calls of `hackney_engine` and its events into messages.

mod atoms;
mod calls;
mod clients;
mod entry;
mod events;
mod exchange;
mod held_binary;
mod keeper;
mod lifecycle;
mod memory;
mod processes;
mod registry;
mod serving;
mod terms;
mod times;

/// Beside the VM's own allocator, not through it: measured 10 to 25 % faster on downloads than the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
