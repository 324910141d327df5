//! Doors for the fuzz targets of `native/fuzz` to what HTTP/2 keeps to itself here. No part of the engine's interface.

use std::any::Any;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::connect::Carrier;
use super::facts::{Ending, Facts, GoAway};
use super::frame_scanner::FrameScanner;
use super::info::Endpoints;
use super::options::RequestHead;
use super::stream::Stream;
use super::tap::{Allowance, Tap};
use crate::error::OpenError;
use crate::outlet::Outlet;

/// [`Stream::open`] over a byte stream that is there already.
///
/// # Errors
/// As [`Stream::open`].
pub fn open_over<O: Outlet>(
    stream: &Arc<Stream<O>>,
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    deadline: Option<Duration>,
) -> Result<(), OpenError> {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let carrier = Carrier {
        io: Box::new(io),
        endpoints: Endpoints {
            peer: nowhere,
            local: nowhere,
            tls: None,
        },
    };
    stream.open_over(|_| async { Ok(carrier) }, deadline)
}

/// The stream's connection, to see whether it is freed.
pub fn connection<O: Outlet>(stream: &Stream<O>) -> Option<Weak<dyn Any>> {
    let connection: Arc<dyn Any> = stream.link.get()?.connection.clone();
    Some(Arc::downgrade(&connection))
}

/// The request as [`Stream::open`] builds it.
///
/// # Errors
/// As [`Stream::open`].
pub fn request(head: RequestHead, scheme: &'static str) -> Result<http::Request<()>, OpenError> {
    head.into_request(scheme)
}

/// A frame as the scanner saw it.
#[derive(Debug, PartialEq, Eq)]
pub struct SeenFrame {
    /// The payload's length.
    pub length: usize,
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// As much of the payload as is kept.
    pub payload: Vec<u8>,
}

/// The frames in `chunks` behind `preface` bytes, and whether the end of the last chunk is the end of a frame.
pub fn scan<'a>(preface: usize, chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<SeenFrame>, bool) {
    let mut scanner = FrameScanner::new(preface);
    let mut frames = Vec::new();
    for chunk in chunks {
        scanner.scan(chunk, |frame| {
            frames.push(SeenFrame {
                length: frame.length,
                kind: frame.kind,
                flags: frame.flags,
                stream: frame.stream,
                payload: frame.payload.to_vec(),
            });
        });
    }
    (frames, scanner.at_boundary())
}

/// `io` with the engine's tap on it, and what the tap learns.
pub fn tapped<S: AsyncRead + AsyncWrite + Unpin>(io: S) -> (impl AsyncRead + AsyncWrite + Unpin, Witness) {
    let (facts, allowance) = (Arc::new(Facts::new()), Arc::new(Allowance::default()));
    allowance.set((usize::MAX, usize::MAX));
    (Tap::new(io, facts.clone(), allowance), Witness(facts))
}

/// See [`Witness::learned`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// The peer's SETTINGS have come.
    pub settings_seen: bool,
    /// Ours have been acknowledged.
    pub rtt_known: bool,
    /// The peer's last GOAWAY.
    pub goaway: Option<GoAway>,
    /// A window went beyond what RFC 9113, 6.9.1 allows.
    pub window_too_large: bool,
    /// What may be sent on the connection and on each stream asked about.
    pub windows: Vec<(i64, i64)>,
    /// Bytes read and written.
    pub bytes: (u64, u64),
    /// True for an end between two frames.
    pub orderly_end: Option<bool>,
}

/// A tap's facts.
#[derive(Debug)]
pub struct Witness(Arc<Facts>);

impl Witness {
    /// What the tap has learned so far.
    pub fn learned(&self, streams: impl Iterator<Item = u32>) -> Learned {
        let facts = &self.0;
        Learned {
            settings_seen: facts.settings_seen(),
            rtt_known: facts.rtt_us().is_some(),
            goaway: facts.goaway(),
            window_too_large: facts.send_window_too_large(),
            windows: streams.map(|stream| facts.send_windows(stream)).collect(),
            bytes: (facts.bytes_in.load(Relaxed), facts.bytes_out.load(Relaxed)),
            orderly_end: facts.ending().map(|ending| ending == Ending::Orderly),
        }
    }
}
