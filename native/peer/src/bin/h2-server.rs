//! An HTTP/2 server on the loopback addresses, for the demo, the tests and the bench.

use std::process::ExitCode;

use hackney_peer::server::{H2, run};

/// As a production server would: the system's allocator takes a twentieth of the time of each connection.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    run::<H2>()
}
