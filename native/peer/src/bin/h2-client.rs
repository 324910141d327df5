//! Runs one scenario of the bench on the h2 crate itself and prints one line: `NAME VALUE UNIT`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use hackney_peer::Failure;
use hackney_peer::arguments::Arguments;
use hackney_peer::client::{Dialer, Figure, Scenario};
use hackney_peer::windows::Windows;
use tokio::runtime::{Builder, Runtime};

const USAGE: &str = "usage: h2-client SCENARIO --url https://HOST:PORT --cacert PEM [--runtime mt2|mt2s|ct] \
    [--window BYTES] [--connection-window BYTES] [SCENARIO'S OPTIONS]";

fn main() -> ExitCode {
    match run() {
        Ok(Figure { name, value, unit }) => {
            println!("{name} {value:.3} {unit}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("h2-client: {failure}\n{USAGE}\n{}", Scenario::USAGE);
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Figure, Failure> {
    let mut arguments = Arguments::parse(std::env::args().skip(1), &[])?;
    let scenario = Scenario::from_arguments(&mut arguments)?;
    let url: String = arguments.optional("url")?.ok_or("--url is missing")?;
    let cacert: Option<PathBuf> = arguments.optional("cacert")?;
    let windows = Windows::from_arguments(&mut arguments)?;
    let threads: Threads = arguments.value("runtime", Threads::Two)?;
    arguments.finish()?;

    let dialer = Arc::new(Dialer::new(&url, cacert.as_deref(), windows)?);
    let runtime = threads.runtime()?;
    let figure = match threads {
        Threads::Two | Threads::Current => runtime.block_on(scenario.run(dialer)),
        Threads::TwoSpawned => runtime.block_on(runtime.spawn(scenario.run(dialer)))?,
    };
    runtime.shutdown_background();
    figure
}

/// Where the scenario and the connections run.
#[derive(Debug, Clone, Copy)]
enum Threads {
    /// Two workers for the connections, the scenario on the main thread: a program under `#[tokio::main]`.
    Two,
    /// Two workers, the scenario in a task of its own, so that a worker may run it right after its connection.
    TwoSpawned,
    /// Everything on one thread.
    Current,
}

impl FromStr for Threads {
    type Err = Failure;

    fn from_str(name: &str) -> Result<Self, Failure> {
        match name {
            "mt2" => Ok(Self::Two),
            "mt2s" => Ok(Self::TwoSpawned),
            "ct" => Ok(Self::Current),
            _ => Err("--runtime is mt2, mt2s or ct".into()),
        }
    }
}

impl Threads {
    fn runtime(self) -> std::io::Result<Runtime> {
        match self {
            Self::Two | Self::TwoSpawned => Builder::new_multi_thread().worker_threads(2).enable_all().build(),
            Self::Current => Builder::new_current_thread().enable_all().build(),
        }
    }
}
