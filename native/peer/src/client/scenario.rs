//! The scenarios by name, with their sizes.

use std::sync::Arc;
use std::time::Duration;

use crate::Failure;
use crate::arguments::Arguments;
use crate::client::{Dialer, download, idle, many, one_way, open, ping_pong, upload};

/// A scenario and all that determines how much it does.
#[derive(Debug, Clone)]
pub struct Scenario {
    name: String,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    PingPong { seconds: Duration, size: usize },
    Many { streams: usize, rounds: u64, size: usize },
    OneWay { seconds: Duration, size: usize },
    Download { bytes: u64 },
    Upload { bytes: u64, piece: usize },
    Open { seconds: Duration },
    Idle { streams: usize },
}

/// What a scenario measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The scenario's name.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

impl Scenario {
    /// Names and options, for people.
    pub const USAGE: &str = "scenarios: pingpong [--seconds S] [--size BYTES], many [--streams N] [--rounds N] [--size BYTES],\n\
        oneway [--seconds S] [--size BYTES], download_passive | download_active | download_manual [--bytes N] (one and the same here),\n\
        upload_16k | upload_10m [--bytes N], open [--seconds S], idle_memory [--streams N]";

    /// Reads the scenario's name and its own options; the names are those of the Erlang program.
    ///
    /// # Errors
    /// An unknown name, an impossible size.
    pub fn from_arguments(arguments: &mut Arguments) -> Result<Self, Failure> {
        let name = arguments.name().ok_or("which scenario?")?;
        let kind = match name.as_str() {
            "pingpong" => Kind::PingPong {
                seconds: seconds(arguments)?,
                size: size(arguments)?,
            },
            "many" => Kind::Many {
                streams: arguments.value("streams", 100)?,
                rounds: arguments.value("rounds", 500)?,
                size: size(arguments)?,
            },
            "oneway" => Kind::OneWay {
                seconds: seconds(arguments)?,
                size: size(arguments)?,
            },
            "download_passive" | "download_active" | "download_manual" => Kind::Download {
                bytes: bytes(arguments)?,
            },
            "upload_16k" => Kind::Upload {
                bytes: bytes(arguments)?,
                piece: 16 << 10,
            },
            "upload_10m" => Kind::Upload {
                bytes: bytes(arguments)?,
                piece: 10_000_000,
            },
            "open" => Kind::Open {
                seconds: seconds(arguments)?,
            },
            "idle_memory" => Kind::Idle {
                streams: arguments.value("streams", 1000)?,
            },
            _ => return Err(format!("no such scenario: {name}").into()),
        };
        Ok(Self { name, kind })
    }

    /// Runs it once.
    ///
    /// # Errors
    /// Anything that kept it from its end: half a measurement is none.
    pub async fn run(self, dialer: Arc<Dialer>) -> Result<Figure, Failure> {
        let (value, unit) = match self.kind {
            Kind::PingPong { seconds, size } => (ping_pong::run(&dialer, seconds, size).await?, "msg/s"),
            Kind::Many { streams, rounds, size } => (many::run(dialer, streams, rounds, size).await?, "msg/s"),
            Kind::OneWay { seconds, size } => (one_way::run(&dialer, seconds, size).await?, "MB/s"),
            Kind::Download { bytes } => (download::run(&dialer, bytes).await?, "MB/s"),
            Kind::Upload { bytes, piece } => (upload::run(&dialer, bytes, piece).await?, "MB/s"),
            Kind::Open { seconds } => (open::run(&dialer, seconds).await?, "open/s"),
            Kind::Idle { streams } => (idle::run(&dialer, streams).await?, "KiB/stream"),
        };
        Ok(Figure {
            name: self.name,
            value,
            unit,
        })
    }
}

fn seconds(arguments: &mut Arguments) -> Result<Duration, Failure> {
    Ok(Duration::try_from_secs_f64(arguments.value("seconds", 1.5)?)?)
}

fn size(arguments: &mut Arguments) -> Result<usize, Failure> {
    arguments.value("size", 64)
}

fn bytes(arguments: &mut Arguments) -> Result<u64, Failure> {
    arguments.value("bytes", 500_000_000)
}
