//! A server as a program: from its command line to the end of its standard input.

use std::fs::DirBuilder;
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::Failure;
use crate::certificate::Identity;
use crate::server::{Listener, Options, Stack};

/// Does what the command line says, until standard input ends.
#[must_use]
pub fn run<S: Stack>() -> ExitCode {
    let options = match Options::<S>::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(failure) => {
            eprintln!("{}: {failure}\n{}", S::PROGRAM, Options::<S>::usage());
            return ExitCode::from(2);
        }
    };
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}: {failure}", S::PROGRAM);
            ExitCode::FAILURE
        }
    }
}

fn serve<S: Stack>(options: Options<S>) -> Result<(), Failure> {
    let mut scratch = None;
    let identity = if options.h2c {
        None
    } else {
        let directory = match &options.cert_dir {
            Some(directory) => directory.clone(),
            None => scratch.insert(Scratch::new(S::PROGRAM)?).0.clone(),
        };
        Some(Identity::fresh(&directory)?)
    };
    let cacert = identity.as_ref().map_or_else(
        || "-".to_owned(),
        |identity| identity.authority_file.display().to_string(),
    );

    let runtime = runtime(options.threads)?;
    runtime.block_on(async {
        let listener = Listener::bind(options.port, identity).await?;
        println!("READY port={} cacert={cacert}", listener.port()?);
        std::io::stdout().flush()?;
        tokio::select! {
            () = listener.serve(options.stack) => {}
            _ = end_of_input() => {}
        }
        Ok::<(), Failure>(())
    })?;
    runtime.shutdown_background();
    Ok(())
}

fn runtime(threads: usize) -> std::io::Result<Runtime> {
    let mut builder = if threads == 1 {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()
}

/// Resolves when standard input ends. Whoever started this server holds the other end: an Erlang port, a
/// shell. When that one dies, by whatever cause, the server does not stay behind.
fn end_of_input() -> oneshot::Receiver<()> {
    let (ended, wait) = oneshot::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        let mut input = std::io::stdin().lock();
        while matches!(input.read(&mut buffer), Ok(1..)) {}
        let _ = ended.send(());
    });
    wait
}

/// A temporary folder for the certificates, gone with the server.
struct Scratch(PathBuf);

impl Scratch {
    /// The folder must be new: one that is already there may be somebody else's.
    fn new(program: &str) -> std::io::Result<Self> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("{program}-{}-{}", std::process::id(), since.as_nanos());
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
