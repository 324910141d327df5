//! What the tap has seen of a connection, readable from any thread.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;

use super::frame_scanner::{FLAG_ACK, Frame, kind};
use crate::error::Loss;

/// The windows' size before any SETTINGS or WINDOW_UPDATE (RFC 9113, 6.9.2).
const DEFAULT_WINDOW: i64 = 65_535;
/// No window may be larger (RFC 9113, 6.9.1).
const MAX_WINDOW: i64 = 0x7fff_ffff;
/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, 6.5.2).
const INITIAL_WINDOW_SIZE: u16 = 0x4;

/// How the inbound byte stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// End of file between two frames.
    Orderly,
    /// Anything else.
    Broken(Loss),
}

/// A GOAWAY that the peer sent (RFC 9113, 6.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoAway {
    /// The highest stream that the peer still serves.
    pub last_stream: u32,
    /// Its error code.
    pub code: u32,
}

/// How much we may still send: what the peer's WINDOW_UPDATEs and SETTINGS allow less what was sent (RFC 9113, 6.9).
#[derive(Debug)]
struct SendWindows {
    connection: i64,
    initial: i64,
    /// The peer has made one larger than it may be.
    too_large: bool,
    /// Each stream's window as difference to `initial`, so that a change of SETTINGS moves all at once (6.9.2).
    streams: HashMap<u32, i64>,
    /// The last stream that was opened. What still leaves on one that is forgotten does not bring it back.
    last: u32,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    /// DATA frames that the socket has taken.
    pub(crate) data_out: AtomicU64,
    settings_seen: AtomicBool,
    /// When our SETTINGS left: its ACK gives the round-trip time (6.5.3 asks for the ACK at once).
    settings_sent: Mutex<Option<Instant>>,
    /// Microseconds; 0 while unknown.
    rtt_us: AtomicU64,
    goaway: Mutex<Option<GoAway>>,
    /// How many GOAWAYs have come.
    goaways: AtomicU32,
    ending: Mutex<Option<Ending>>,
    windows: Mutex<SendWindows>,
    /// What the peer has set, by identifier.
    peer_settings: Mutex<Vec<(u16, u32)>>,
}

/// Settings kept: those that there are by now, and room for more. A peer may send thousands that nobody knows.
const MAX_SETTINGS: usize = 32;

/// Streams whose windows are kept: many more than there may be at a time. A peer may have far more refused.
const MAX_WINDOWS: usize = 65_536;

impl SendWindows {
    fn open(&mut self, stream: u32) {
        if stream > self.last && self.streams.len() < MAX_WINDOWS {
            self.last = stream;
            self.streams.insert(stream, 0);
        }
    }
}

impl Facts {
    pub(crate) fn new() -> Self {
        Facts {
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            data_out: AtomicU64::new(0),
            settings_seen: AtomicBool::new(false),
            settings_sent: Mutex::new(None),
            rtt_us: AtomicU64::new(0),
            goaway: Mutex::new(None),
            goaways: AtomicU32::new(0),
            ending: Mutex::new(None),
            windows: Mutex::new(SendWindows {
                connection: DEFAULT_WINDOW,
                initial: DEFAULT_WINDOW,
                streams: HashMap::new(),
                last: 0,
                too_large: false,
            }),
            peer_settings: Mutex::new(Vec::new()),
        }
    }

    /// The peer's first SETTINGS has arrived: the connection stands (RFC 9113, 3.4).
    pub(crate) fn settings_seen(&self) -> bool {
        self.settings_seen.load(Relaxed)
    }

    pub(crate) fn goaway(&self) -> Option<GoAway> {
        *self.goaway.lock()
    }

    /// How many GOAWAYs have come.
    pub(crate) fn goaways(&self) -> u32 {
        self.goaways.load(Relaxed)
    }

    /// The round-trip time in microseconds, once measured.
    pub(crate) fn rtt_us(&self) -> Option<u64> {
        Some(self.rtt_us.load(Relaxed)).filter(|us| *us > 0)
    }

    pub(crate) fn ending(&self) -> Option<Ending> {
        self.ending.lock().clone()
    }

    /// Keeps the first ending that is told: what follows is its consequence.
    pub(crate) fn end(&self, ending: Ending) {
        self.ending.lock().get_or_insert(ending);
    }

    /// What the peer lets us send now: on the connection, and on `stream`. Below zero after SETTINGS that shrank it.
    pub(crate) fn send_windows(&self, stream: u32) -> (i64, i64) {
        let windows = self.windows.lock();
        (
            windows.connection,
            windows.initial + windows.streams.get(&stream).unwrap_or(&0),
        )
    }

    /// The peer has opened a window of ours beyond what is allowed: an error of flow control that is none of receiving.
    pub(crate) fn send_window_too_large(&self) -> bool {
        self.windows.lock().too_large
    }

    fn set(&self, id: u16, value: u32) {
        let mut settings = self.peer_settings.lock();
        if let Some((_, known)) = settings.iter_mut().find(|(known, _)| *known == id) {
            *known = value;
        } else if settings.len() < MAX_SETTINGS {
            settings.push((id, value));
        }
    }

    /// What the peer has set one of them to.
    pub(crate) fn peer_setting(&self, id: u16) -> Option<u32> {
        let settings = self.peer_settings.lock();
        settings.iter().find(|(known, _)| *known == id).map(|(_, value)| *value)
    }

    /// What the peer has set, by identifier.
    pub(crate) fn peer_settings(&self) -> Vec<(u16, u32)> {
        self.peer_settings.lock().clone()
    }

    /// Forgets a stream that is over.
    pub(crate) fn forget(&self, stream: u32) {
        self.windows.lock().streams.remove(&stream);
    }

    pub(crate) fn received(&self, frame: &Frame<'_>) {
        match frame.kind {
            kind::SETTINGS if frame.flags & FLAG_ACK != 0 => {
                if let Some(sent) = self.settings_sent.lock().take() {
                    self.rtt_us.store((sent.elapsed().as_micros() as u64).max(1), Relaxed);
                }
            }
            kind::SETTINGS => {
                for setting in frame.payload.chunks_exact(6) {
                    let (id, value) = (u16::from_be_bytes([setting[0], setting[1]]), be_u32(&setting[2..]));
                    self.set(id, value);
                    if id == INITIAL_WINDOW_SIZE {
                        let mut windows = self.windows.lock();
                        windows.initial = i64::from(value);
                        let most = windows.initial + windows.streams.values().copied().max().unwrap_or(0).max(0);
                        windows.too_large |= most > MAX_WINDOW;
                    }
                }
                self.settings_seen.store(true, Relaxed);
            }
            kind::HEADERS => self.windows.lock().open(frame.stream),
            kind::WINDOW_UPDATE if frame.payload.len() >= 4 => {
                let increment = i64::from(be_u32(frame.payload) & 0x7fff_ffff);
                let mut windows = self.windows.lock();
                let initial = windows.initial;
                let window = match frame.stream {
                    0 => {
                        windows.connection += increment;
                        windows.connection
                    }
                    // Only streams that sent something are kept: else the peer could fill the table.
                    stream => windows.streams.get_mut(&stream).map_or(0, |difference| {
                        *difference += increment;
                        initial + *difference
                    }),
                };
                windows.too_large |= window > MAX_WINDOW;
            }
            kind::GOAWAY if frame.payload.len() >= 8 => {
                let last_stream = be_u32(frame.payload) & 0x7fff_ffff;
                *self.goaway.lock() = Some(GoAway {
                    last_stream,
                    code: be_u32(&frame.payload[4..]),
                });
                self.goaways.fetch_add(1, Relaxed);
            }
            _ => {}
        }
    }

    pub(crate) fn sent(&self, frame: &Frame<'_>) {
        match frame.kind {
            kind::DATA => {
                self.data_out.fetch_add(1, Relaxed);
                let mut windows = self.windows.lock();
                windows.connection -= frame.length as i64;
                if let Some(difference) = windows.streams.get_mut(&frame.stream) {
                    *difference -= frame.length as i64;
                }
            }
            kind::HEADERS => {
                self.windows.lock().open(frame.stream);
            }
            kind::SETTINGS if frame.flags & FLAG_ACK == 0 => {
                self.settings_sent.lock().get_or_insert_with(Instant::now);
            }
            _ => {}
        }
    }
}

fn be_u32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u32, length: usize) -> Frame<'static> {
        Frame {
            length,
            kind,
            flags: 0,
            stream,
            payload: &[],
        }
    }

    #[test]
    fn nothing_is_kept_of_streams_that_are_over() {
        let facts = Facts::new();
        for stream in (1..1_000).step_by(2) {
            facts.sent(&frame(kind::HEADERS, stream, 10));
            facts.sent(&frame(kind::DATA, stream, 10));
            assert_eq!(facts.send_windows(stream).1, DEFAULT_WINDOW - 10);
            facts.forget(stream);
            // The last of it leaves when the peer has had enough already.
            facts.sent(&frame(kind::DATA, stream, 10));
            facts.sent(&frame(kind::HEADERS, stream, 10));
        }
        assert_eq!(facts.windows.lock().streams.len(), 0);
        assert_eq!(facts.send_windows(0).0, DEFAULT_WINDOW - 500 * 20);
    }
}
