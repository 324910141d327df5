//! The tap and its frame scanner: however the bytes are cut, the facts are those of a simple parse of the whole.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use arbitrary::{Arbitrary, Unstructured};
use hackney_engine::h2::GoAway;
use hackney_engine::h2::fuzzing::{Learned, SeenFrame, scan, tapped};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::frames::{self, Frame, flag, kind, number, setting};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// As much of a payload as the scanner keeps.
const KEPT_PAYLOAD: usize = 128;
const KEPT_SETTINGS: usize = 16 * 1024;
const MAX_WINDOW: i64 = 0x7fff_ffff;
/// Streams whose windows are compared: those that inputs name.
const STREAMS: std::ops::Range<u32> = 0..8;

#[derive(Debug, Arbitrary)]
enum Piece {
    Frame {
        kind: u8,
        flags: u8,
        stream: u8,
        payload: Vec<u8>,
    },
    Setting(u8, u32),
    Update(u8, u32),
    Long {
        kind: u8,
        length: u8,
    },
    Raw(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
struct Case {
    outbound: Vec<Piece>,
    inbound: Vec<Piece>,
    /// Sizes of the parts that the bytes come and go in, over and over.
    cuts: Vec<u8>,
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let Ok(case) = Case::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let outbound = [PREFACE, &bytes(&case.outbound)].concat();
    let inbound = bytes(&case.inbound);
    let cuts = Cuts(&case.cuts);

    for (bytes, preface) in [(&inbound, 0), (&outbound, PREFACE.len())] {
        let expected = simple_scan(&bytes[preface..]);
        assert_eq!(scan(preface, std::iter::once(&bytes[..])), expected, "in one piece");
        assert_eq!(scan(preface, cuts.of(bytes)), expected, "in parts");
    }
    assert_eq!(
        learned(&outbound, &inbound, cuts),
        simple_facts(&outbound, &inbound),
        "facts"
    );
}

fn bytes(pieces: &[Piece]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Frame {
                kind,
                flags,
                stream,
                payload,
            } => frames::write(&mut out, kind % 12, *flags, u32::from(*stream), payload),
            Piece::Setting(id, value) => {
                let payload = [&[0, *id][..], &value.to_be_bytes()].concat();
                frames::write(&mut out, kind::SETTINGS, 0, 0, &payload);
            }
            Piece::Update(stream, by) => {
                frames::write(&mut out, kind::WINDOW_UPDATE, 0, u32::from(*stream), &by.to_be_bytes());
            }
            Piece::Long { kind, length } => {
                frames::write(&mut out, kind % 12, 0, 1, &vec![*kind; usize::from(*length) * 16])
            }
            Piece::Raw(bytes) => out.extend(bytes),
        }
    }
    out
}

/// Where bytes are cut.
#[derive(Clone, Copy)]
struct Cuts<'a>(&'a [u8]);

impl<'a> Cuts<'a> {
    fn sizes(self) -> impl Iterator<Item = usize> + use<'a> {
        let sizes = if self.0.is_empty() { &[255] } else { self.0 };
        sizes.iter().map(|size| usize::from(*size).max(1)).cycle()
    }

    fn of<'b>(self, mut bytes: &'b [u8]) -> impl Iterator<Item = &'b [u8]> + use<'a, 'b> {
        self.sizes().map_while(move |size| {
            let (part, rest) = bytes.split_at(size.min(bytes.len()));
            bytes = rest;
            (!part.is_empty()).then_some(part)
        })
    }
}

fn kept(frame: &Frame<'_>) -> usize {
    match frame.kind {
        kind::SETTINGS => frame.payload.len().min(KEPT_SETTINGS),
        kind::PING | kind::GOAWAY | kind::WINDOW_UPDATE | kind::RST_STREAM => frame.payload.len().min(KEPT_PAYLOAD),
        _ => 0,
    }
}

fn simple_scan(bytes: &[u8]) -> (Vec<SeenFrame>, bool) {
    let (frames, rest) = frames::parse(bytes);
    let seen = frames.iter().map(|frame| SeenFrame {
        length: frame.payload.len(),
        kind: frame.kind,
        flags: frame.flags,
        stream: frame.stream,
        payload: frame.payload[..kept(frame)].to_vec(),
    });
    (seen.collect(), rest.is_empty())
}

/// What the tap learns when all of `outbound` is written, then all of `inbound` read up to the end of file.
fn learned(outbound: &[u8], inbound: &[u8], cuts: Cuts<'_>) -> Learned {
    let mut sizes = cuts.sizes();
    let io = Scripted {
        inbound,
        next: || sizes.next().unwrap_or(1),
    };
    let (mut tap, witness) = tapped(io);
    let mut cx = Context::from_waker(Waker::noop());
    let mut rest = outbound;
    while !rest.is_empty() {
        // The second slice is there to be written in part.
        let (first, second) = rest.split_at(rest.len().min(7));
        let bufs = [IoSlice::new(first), IoSlice::new(second)];
        match Pin::new(&mut tap).poll_write_vectored(&mut cx, &bufs) {
            Poll::Ready(Ok(n)) => rest = &rest[n..],
            other => panic!("a write came to {other:?}"),
        }
    }
    let mut memory = [0; 300];
    loop {
        let mut buf = ReadBuf::new(&mut memory);
        let read = Pin::new(&mut tap).poll_read(&mut cx, &mut buf);
        assert!(matches!(read, Poll::Ready(Ok(()))), "a read came to {read:?}");
        if buf.filled().is_empty() {
            return witness.learned(STREAMS);
        }
    }
}

fn simple_facts(outbound: &[u8], inbound: &[u8]) -> Learned {
    let (mut connection, mut initial) = (65_535i64, 65_535i64);
    let mut streams = HashMap::new();
    let mut learned = Learned {
        settings_seen: false,
        rtt_known: false,
        goaway: None,
        window_too_large: false,
        windows: Vec::new(),
        bytes: (inbound.len() as u64, outbound.len() as u64),
        orderly_end: Some(simple_scan(inbound).1),
    };
    let mut settings_sent = false;
    for frame in frames::parse(&outbound[PREFACE.len()..]).0 {
        match frame.kind {
            kind::DATA => {
                connection -= frame.payload.len() as i64;
                *streams.entry(frame.stream).or_insert(initial) -= frame.payload.len() as i64;
            }
            kind::HEADERS => {
                streams.entry(frame.stream).or_insert(initial);
            }
            kind::SETTINGS => settings_sent |= !frame.has(flag::ACK),
            _ => {}
        }
    }
    for frame in frames::parse(inbound).0 {
        let frame = Frame {
            payload: &frame.payload[..kept(&frame)],
            ..frame
        };
        match frame.kind {
            kind::SETTINGS if frame.has(flag::ACK) => learned.rtt_known = settings_sent,
            kind::SETTINGS => {
                learned.settings_seen = true;
                for (id, value) in frame.settings() {
                    if id == setting::INITIAL_WINDOW_SIZE {
                        let change = i64::from(value) - initial;
                        initial += change;
                        streams.values_mut().for_each(|window| *window += change);
                        let most = streams.values().copied().fold(initial, i64::max);
                        learned.window_too_large |= most > MAX_WINDOW;
                    }
                }
            }
            kind::WINDOW_UPDATE if frame.payload.len() >= 4 => {
                let window = match frame.stream {
                    0 => Some(&mut connection),
                    stream => streams.get_mut(&stream),
                };
                if let Some(window) = window {
                    *window += frame.increment() as i64;
                    learned.window_too_large |= *window > MAX_WINDOW;
                }
            }
            kind::GOAWAY if frame.payload.len() >= 8 => {
                learned.goaway = Some(GoAway {
                    last_stream: number(frame.payload) & 0x7fff_ffff,
                    code: number(&frame.payload[4..]),
                });
            }
            _ => {}
        }
    }
    learned.windows = STREAMS
        .map(|stream| (connection, streams.get(&stream).copied().unwrap_or(initial)))
        .collect();
    learned
}

/// Gives and takes a few bytes at a time.
struct Scripted<'a, N> {
    inbound: &'a [u8],
    next: N,
}

impl<N: FnMut() -> usize + Unpin> AsyncRead for Scripted<'_, N> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let size = (self.next)().min(self.inbound.len()).min(buf.remaining());
        let (part, rest) = self.inbound.split_at(size);
        buf.put_slice(part);
        self.inbound = rest;
        Poll::Ready(Ok(()))
    }
}

impl<N: FnMut() -> usize + Unpin> AsyncWrite for Scripted<'_, N> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok((self.next)().min(buf.len())))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok((self.next)().min(bufs.iter().map(|buf| buf.len()).sum())))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
