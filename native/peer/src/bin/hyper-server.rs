//! A bare hyper server on the loopback addresses, for the bench.

use std::process::ExitCode;

use hackney_peer::server::{Hyper, run};

/// As in `h2-server`: the bench compares the two.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    run::<Hyper>()
}
