//! Memory that open streams hold on which nothing happens.

use std::fs;

use crate::Failure;
use crate::client::Dialer;

/// KiB resident per open stream, each on a connection of its own.
pub(super) async fn run(dialer: &Dialer, streams: usize) -> Result<f64, Failure> {
    // The first one pays for what is needed once.
    drop(open(dialer).await?);
    let before = resident_kib()?;
    let mut held = Vec::with_capacity(streams);
    for _ in 0..streams {
        held.push(open(dialer).await?);
    }
    let after = resident_kib()?;
    drop(held);
    Ok((after - before) / streams as f64)
}

async fn open(dialer: &Dialer) -> Result<impl Sized, Failure> {
    let (response, request) = dialer.open("/hang").await?;
    Ok((response.await?, request))
}

/// This process's resident memory, as Linux tells it.
fn resident_kib() -> Result<f64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
