//! Reads frame headers out of a byte stream as it passes (RFC 9113, 4.1), without HPACK and without copying bodies.

/// Bytes of a frame header.
const HEADER_LEN: usize = 9;
/// Payload bytes kept of a SETTINGS frame: all of one of the usual length. The last of a setting that is repeated counts (RFC 9113, 6.5).
const KEPT_SETTINGS: usize = 16 * 1024;
/// Payload bytes kept of the others that the tap reads: more than it reads of them.
const KEPT_PAYLOAD: usize = 128;

/// Frame types (RFC 9113, 6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0x0;
    pub(crate) const HEADERS: u8 = 0x1;
    pub(crate) const RST_STREAM: u8 = 0x3;
    pub(crate) const SETTINGS: u8 = 0x4;
    pub(crate) const PING: u8 = 0x6;
    pub(crate) const GOAWAY: u8 = 0x7;
    pub(crate) const WINDOW_UPDATE: u8 = 0x8;
}

/// The ACK flag of SETTINGS and PING.
pub(crate) const FLAG_ACK: u8 = 0x1;

/// A GOAWAY of a client that was pushed nothing: no stream of the peer's was processed (RFC 9113, 6.8).
pub(crate) fn goaway(code: u32) -> [u8; HEADER_LEN + 8] {
    let mut frame = [0, 0, 8, kind::GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    frame[HEADER_LEN + 4..].copy_from_slice(&code.to_be_bytes());
    frame
}

/// A frame that has passed whole.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    /// The payload's beginning, for the kinds the tap reads; else empty.
    pub(crate) payload: &'a [u8],
}

/// The scanner's place in one direction of a connection.
#[derive(Debug)]
pub(crate) struct FrameScanner {
    /// Bytes to pass over before the first frame: the client's preface on the way out.
    preface: usize,
    header: [u8; HEADER_LEN],
    header_len: usize,
    payload_left: usize,
    kept: Vec<u8>,
}

impl FrameScanner {
    pub(crate) fn new(preface: usize) -> Self {
        FrameScanner {
            preface,
            header: [0; HEADER_LEN],
            header_len: 0,
            payload_left: 0,
            kept: Vec::new(),
        }
    }

    /// True between two frames: the only place where an orderly end may come.
    pub(crate) fn at_boundary(&self) -> bool {
        self.header_len == 0 && self.preface == 0
    }

    /// Passes `bytes` on, telling `seen` of every frame that ends in them.
    pub(crate) fn scan(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Frame<'_>)) {
        let skipped = self.preface.min(bytes.len());
        self.preface -= skipped;
        bytes = &bytes[skipped..];
        while !bytes.is_empty() {
            if self.header_len < HEADER_LEN {
                let n = (HEADER_LEN - self.header_len).min(bytes.len());
                self.header[self.header_len..self.header_len + n].copy_from_slice(&bytes[..n]);
                self.header_len += n;
                bytes = &bytes[n..];
                if self.header_len < HEADER_LEN {
                    return;
                }
                self.payload_left = self.length();
            } else {
                let n = self.payload_left.min(bytes.len());
                let room = kept(self.header[3]).saturating_sub(self.kept.len());
                self.kept.extend_from_slice(&bytes[..n.min(room)]);
                self.payload_left -= n;
                bytes = &bytes[n..];
            }
            if self.payload_left == 0 {
                let [_, _, _, kind, flags, s0, s1, s2, s3] = self.header;
                let stream = u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff;
                seen(Frame {
                    length: self.length(),
                    kind,
                    flags,
                    stream,
                    payload: &self.kept,
                });
                self.header_len = 0;
                self.kept.clear();
                self.kept.shrink_to(KEPT_PAYLOAD);
            }
        }
    }

    fn length(&self) -> usize {
        u32::from_be_bytes([0, self.header[0], self.header[1], self.header[2]]) as usize
    }
}

/// How many payload bytes of a frame are kept.
fn kept(kind: u8) -> usize {
    match kind {
        kind::SETTINGS => KEPT_SETTINGS,
        kind::RST_STREAM | kind::PING | kind::GOAWAY | kind::WINDOW_UPDATE => KEPT_PAYLOAD,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        out.extend([kind, flags]);
        out.extend(stream.to_be_bytes());
        out.extend(payload);
        out
    }

    #[test]
    fn finds_the_same_frames_however_the_bytes_are_cut() {
        let mut bytes = frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]);
        bytes.extend(frame(kind::DATA, 1, 1, &[7; 300]));
        bytes.extend(frame(kind::SETTINGS, FLAG_ACK, 0, &[]));
        bytes.extend(frame(kind::GOAWAY, 0, 0, &[9; 1000]));
        bytes.extend(frame(kind::SETTINGS, 0, 0, &[0; 6 * 100]));
        for step in [1, 2, 8, 9, 10, 311, bytes.len()] {
            let mut scanner = FrameScanner::new(0);
            let mut seen = Vec::new();
            for part in bytes.chunks(step) {
                scanner.scan(part, |f| {
                    seen.push((f.kind, f.flags, f.stream, f.length, f.payload.len()))
                });
            }
            assert!(scanner.at_boundary());
            assert_eq!(
                seen,
                [
                    (4, 0, 0, 6, 6),
                    (0, 1, 1, 300, 0),
                    (4, 1, 0, 0, 0),
                    (7, 0, 0, 1000, 128),
                    (4, 0, 0, 600, 600)
                ],
                "step {step}"
            );
        }
    }

    #[test]
    fn the_middle_of_a_frame_is_no_boundary() {
        let mut scanner = FrameScanner::new(3);
        assert!(!scanner.at_boundary());
        scanner.scan(b"PRI", |_| unreachable!());
        assert!(scanner.at_boundary());
        scanner.scan(&frame(kind::DATA, 0, 1, &[0; 5])[..12], |_| unreachable!());
        assert!(!scanner.at_boundary());
    }
}
