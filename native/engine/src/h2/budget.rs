//! How much a peer may send that brings nothing.
//!
//! PING, SETTINGS, WINDOW_UPDATE, PRIORITY, RST_STREAM, 1xx responses and frames of unknown types cost next to nothing to send and
//! keep the receiver at work for ever: the floods of CVE-2019-9512 to 9518. RFC 9113, 10.5 asks for a limit, and names the error:
//! ENHANCE_YOUR_CALM. A peer has a budget for them that time gives back, and the DATA that the frames may be about.

use std::time::Instant;

use super::frame_scanner::{Frame, kind};

/// RFC 9113, 7: what our RST_STREAM says when the stream's user has had enough.
const CANCEL: u32 = 0x8;

/// What a new connection may spend at once, and what time alone fills the budget up to: far more than any greeting.
const BURST: u32 = 10_000;
/// What time gives back in a second. Whoever stays below never meets the limit, and is no burden.
const PER_SECOND: u32 = 1_000;
/// What can be saved up: a window of megabytes may come back in small pieces, all at once.
const MOST: u32 = 1_000_000;
/// A frame costs one, and one more for each so many bytes of payload, which must be read and thrown away.
const BYTES_PER_UNIT: usize = 256;
/// What a HEADERS or DATA frame of ours allows whatever its length: what a request or response is answered by, a WINDOW_UPDATE for
/// connection and stream, a PING to measure the path.
const PER_FRAME_SENT: u32 = 16;
/// And it allows one for each so many bytes. There are servers that send WINDOW_UPDATE for connection and stream whenever
/// somebody has read from the body, be it the five bytes ahead of a gRPC message.
const BYTES_SENT_PER_UNIT: usize = 8;

/// What a request of ours allows: header fields and trailers of some 30 KiB, a few WINDOW_UPDATEs, RST_STREAM.
const PER_REQUEST: u32 = 128;
/// What it costs the peer to be told by RST_STREAM that it broke a stream's rules. More than the DATA frame that did so earned it.
const PER_MISTAKE: u32 = 2;

/// The budget of one connection. See the module's text.
#[derive(Debug)]
pub(crate) struct Budget {
    left: u32,
    /// The last stream that we opened.
    last_request: u32,
    /// The peer opens the streams.
    serves: bool,
    /// When time last gave something back: asked for only when nothing is left.
    filled: Instant,
}

/// The budget is spent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Spent;

impl Budget {
    pub(crate) fn new(now: Instant) -> Self {
        Budget {
            left: BURST,
            last_request: 0,
            serves: false,
            filled: now,
        }
    }

    /// For a server's side.
    pub(crate) fn of_server(now: Instant) -> Self {
        Budget {
            serves: true,
            ..Budget::new(now)
        }
    }

    /// Counts a frame that came from the peer.
    pub(crate) fn received(&mut self, frame: &Frame<'_>, now: impl FnOnce() -> Instant) -> Result<(), Spent> {
        if frame.kind == kind::DATA {
            // The window bounds it, and h2 the empty ones.
            self.earn(1);
            return Ok(());
        }
        self.spend(cost(frame.length), now)
    }

    /// Counts a frame of ours.
    pub(crate) fn sent(&mut self, frame: &Frame<'_>, now: impl FnOnce() -> Instant) -> Result<(), Spent> {
        match frame.kind {
            kind::DATA => self.earn(PER_FRAME_SENT + (frame.length / BYTES_SENT_PER_UNIT) as u32),
            // Trailers are no request.
            // An answer, or what goes ahead of one.
            kind::HEADERS if self.serves => self.earn(PER_REQUEST),
            // h2 counts those of a server that are due to its peer.
            kind::RST_STREAM if self.serves => {}
            kind::HEADERS if frame.stream > self.last_request => {
                self.last_request = frame.stream;
                self.earn(PER_REQUEST);
            }
            kind::RST_STREAM if frame.payload != CANCEL.to_be_bytes() => return self.spend(PER_MISTAKE, now),
            _ => {}
        }
        Ok(())
    }

    fn spend(&mut self, cost: u32, now: impl FnOnce() -> Instant) -> Result<(), Spent> {
        if self.left < cost {
            self.fill(now());
        }
        self.left = self.left.checked_sub(cost).ok_or(Spent)?;
        Ok(())
    }

    fn earn(&mut self, units: u32) {
        self.left = (self.left + units).min(MOST);
    }

    fn fill(&mut self, now: Instant) {
        let due = now.saturating_duration_since(self.filled).as_millis() * u128::from(PER_SECOND) / 1_000;
        if due > 0 {
            let due = u32::try_from(due).unwrap_or(BURST).min(BURST);
            self.left = (self.left + due).min(BURST.max(self.left));
            self.filled = now;
        }
    }
}

/// At most 65,537: a frame's length has 24 bits.
fn cost(length: usize) -> u32 {
    1 + (length / BYTES_PER_UNIT) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn frame(kind: u8, length: usize) -> Frame<'static> {
        Frame {
            length,
            kind,
            flags: 0,
            stream: 0,
            payload: &[],
        }
    }

    /// How many frames of the kind pass at one time.
    fn passes(budget: &mut Budget, kind: u8, length: usize, now: Instant) -> usize {
        (0..2 * MOST)
            .take_while(|_| budget.received(&frame(kind, length), || now).is_ok())
            .count()
    }

    #[test]
    fn a_flood_ends() {
        let now = Instant::now();
        assert_eq!(passes(&mut Budget::new(now), kind::PING, 8, now), 10_000);
        // Large ones the sooner.
        assert_eq!(passes(&mut Budget::new(now), 0xfa, 16_384, now), 153);
    }

    #[test]
    fn a_frame_every_millisecond_goes_on_for_days() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        for ms in 0..1_000_000 {
            let now = start + Duration::from_millis(ms);
            assert_eq!(budget.received(&frame(kind::PING, 8), || now), Ok(()), "{ms}");
        }
    }

    #[test]
    fn time_gives_back_no_more_than_the_burst() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        assert_eq!(passes(&mut budget, kind::PING, 8, start), 10_000);
        let next_day = start + Duration::from_secs(86_400);
        assert_eq!(passes(&mut budget, kind::PING, 8, next_day), 10_000);
    }

    #[test]
    fn data_sent_may_be_given_back_in_small_pieces() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        // At one instant, and the reader takes 32 bytes at a time: a WINDOW_UPDATE for the stream and for the connection each.
        for _ in 0..10_000 {
            assert_eq!(budget.sent(&frame(kind::DATA, 16_384), || now), Ok(()));
            for _ in 0..16_384 / 32 * 2 {
                assert_eq!(budget.received(&frame(kind::WINDOW_UPDATE, 4), || now), Ok(()));
            }
        }
    }

    #[test]
    fn data_does_not_pay_for_a_flood_for_ever() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        for _ in 0..1_000_000 {
            assert_eq!(budget.sent(&frame(kind::DATA, 16_384), || now), Ok(()));
        }
        assert_eq!(passes(&mut budget, kind::PING, 8, now), MOST as usize);
    }

    fn request(stream: u32) -> Frame<'static> {
        Frame {
            stream,
            ..frame(kind::HEADERS, 100)
        }
    }

    #[test]
    fn answers_to_many_requests_are_no_flood() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        for n in 0..100_000 {
            assert_eq!(budget.sent(&request(2 * n + 1), || now), Ok(()));
            // Header fields, trailers, and that the peer wants no more of the request.
            for (kind, length) in [(kind::HEADERS, 16_000), (kind::HEADERS, 4_000), (kind::RST_STREAM, 4)] {
                assert_eq!(budget.received(&frame(kind, length), || now), Ok(()), "{n}");
            }
        }
    }

    #[test]
    fn trailers_of_ours_are_no_request() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        for _ in 0..1_000 {
            assert_eq!(budget.sent(&request(1), || now), Ok(()));
        }
        let passes = passes(&mut budget, kind::PING, 8, now);
        assert_eq!(passes, 10_000 + PER_REQUEST as usize);
    }

    #[test]
    fn a_peer_that_must_be_told_again_and_again_is_a_flood() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        let reset = |code: &'static [u8]| Frame {
            payload: code,
            ..frame(kind::RST_STREAM, 4)
        };
        // Its users may end as many streams as they like.
        for _ in 0..100_000 {
            assert_eq!(budget.sent(&reset(&[0, 0, 0, 8]), || now), Ok(()));
        }
        // DATA on a stream that is closed, and STREAM_CLOSED.
        let mut told = 0;
        while budget.received(&frame(kind::DATA, 1), || now).is_ok()
            && budget.sent(&reset(&[0, 0, 0, 5]), || now).is_ok()
        {
            told += 1;
        }
        assert_eq!(told, 10_000);
    }
}
