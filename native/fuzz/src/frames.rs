//! HTTP/2 frames (RFC 9113, 4.1) the simple way, from a slice that holds them whole: what the engine's own reading is compared with.

pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0x0;
    pub(crate) const HEADERS: u8 = 0x1;
    pub(crate) const RST_STREAM: u8 = 0x3;
    pub(crate) const SETTINGS: u8 = 0x4;
    pub(crate) const PING: u8 = 0x6;
    pub(crate) const GOAWAY: u8 = 0x7;
    pub(crate) const WINDOW_UPDATE: u8 = 0x8;
}

pub(crate) mod flag {
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
}

/// Identifiers in SETTINGS (RFC 9113, 6.5.2).
pub(crate) mod setting {
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 0x5;
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: &'a [u8],
}

/// The whole frames at the beginning of `bytes`, and what is left behind them.
pub(crate) fn parse(mut bytes: &[u8]) -> (Vec<Frame<'_>>, &[u8]) {
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<9>() {
        let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            break;
        };
        frames.push(Frame {
            kind: header[3],
            flags: header[4],
            stream: number(&header[5..]) & 0x7fff_ffff,
            payload,
        });
        bytes = rest;
    }
    (frames, bytes)
}

/// Appends a frame.
pub(crate) fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len())
        .expect("no input is that long")
        .to_be_bytes();
    out.extend([length[1], length[2], length[3], kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// The number in the first four bytes.
pub(crate) fn number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .take(4)
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

impl<'a> Frame<'a> {
    pub(crate) fn is(&self, kind: u8, stream: u32) -> bool {
        self.kind == kind && self.stream == stream
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// A DATA frame's body, without padding; `None` when the padding is longer than the frame.
    pub(crate) fn body(&self) -> Option<&'a [u8]> {
        if !self.has(flag::PADDED) {
            return Some(self.payload);
        }
        let (padding, body) = self.payload.split_first()?;
        body.split_at_checked(body.len().checked_sub(usize::from(*padding))?)
            .map(|(body, _)| body)
    }

    /// WINDOW_UPDATE's increment.
    pub(crate) fn increment(&self) -> u64 {
        u64::from(number(self.payload) & 0x7fff_ffff)
    }

    /// SETTINGS' pairs.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (u16, u32)> + use<'a> {
        self.payload
            .chunks_exact(6)
            .map(|pair| (u16::from(pair[0]) << 8 | u16::from(pair[1]), number(&pair[2..])))
    }
}
