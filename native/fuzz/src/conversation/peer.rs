//! Turns what the peer does into bytes.

use super::steps::{Act, Status};
use super::wire::PeerEnd;
use crate::frames::{flag, kind, write};

/// The stream that the client opens (RFC 9113, 5.1.1).
pub(super) const STREAM: u32 = 1;

pub(super) struct Peer {
    pub(super) end: PeerEnd,
    /// Body bytes so far: each tells its place, so that none is lost, doubled or out of order unnoticed.
    body: usize,
}

/// The body's byte at `place`.
pub(super) fn body_byte(place: usize) -> u8 {
    (place % 251) as u8
}

impl Peer {
    pub(super) fn new(end: PeerEnd) -> Self {
        Peer { end, body: 0 }
    }

    pub(super) fn act(&mut self, act: &Act) {
        let mut bytes = Vec::new();
        match act {
            Act::Settings(pairs) => {
                let pair = |(id, value): &(u8, super::steps::Value)| {
                    let mut pair = [0, id % 10, 0, 0, 0, 0];
                    pair[2..].copy_from_slice(&value.0.to_be_bytes());
                    pair
                };
                let payload: Vec<u8> = pairs.iter().flat_map(pair).collect();
                write(&mut bytes, kind::SETTINGS, 0, 0, &payload);
            }
            Act::SettingsAck => write(&mut bytes, kind::SETTINGS, flag::ACK, 0, &[]),
            Act::Head { status, end } => write(
                &mut bytes,
                kind::HEADERS,
                flag::END_HEADERS | if *end { flag::END_STREAM } else { 0 },
                STREAM,
                &status.fields(),
            ),
            Act::Data { size, padding, end } => {
                let mut flags = if *end { flag::END_STREAM } else { 0 };
                let mut payload = Vec::new();
                if let Some(padding) = padding {
                    flags |= flag::PADDED;
                    payload.push(*padding);
                }
                payload.extend((self.body..self.body + size.0).map(body_byte));
                self.body += size.0;
                payload.resize(payload.len() + usize::from(padding.unwrap_or(0)), 0);
                write(&mut bytes, kind::DATA, flags, STREAM, &payload);
            }
            Act::Trailers => write(
                &mut bytes,
                kind::HEADERS,
                flag::END_HEADERS | flag::END_STREAM,
                STREAM,
                &literal(b"x", b"y"),
            ),
            Act::Update { stream, by } => {
                let id = if *stream { STREAM } else { 0 };
                write(&mut bytes, kind::WINDOW_UPDATE, 0, id, &by.0.to_be_bytes());
            }
            Act::Reset(code) => write(&mut bytes, kind::RST_STREAM, 0, STREAM, &u32::from(*code).to_be_bytes()),
            Act::GoAway { last, code } => {
                let payload = [u32::from(*last), u32::from(*code)].map(u32::to_be_bytes).concat();
                write(&mut bytes, kind::GOAWAY, 0, 0, &payload);
            }
            Act::Ping { ack } => write(&mut bytes, kind::PING, u8::from(*ack), 0, &[7; 8]),
            Act::Frame {
                kind,
                flags,
                stream,
                payload,
            } => write(&mut bytes, kind % 12, *flags, u32::from(stream % 4), payload),
            Act::Bytes(raw) => bytes.extend(raw),
            Act::End(_) | Act::Room(_) | Act::AllRoom | Act::Deaf => {}
        }
        self.end.change(|state| match act {
            Act::End(end) => {
                state.end.get_or_insert(*end);
            }
            Act::Room(size) => state.room = Some(size.0),
            Act::AllRoom => state.room = None,
            Act::Deaf => state.deaf = true,
            // Nothing comes behind an end.
            _ if state.end.is_some() => {}
            _ => state.sent.extend(bytes),
        });
    }
}

/// A field without indexing, with a new name (RFC 7541, 6.2.2).
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut field = vec![0, name.len() as u8];
    field.extend(name);
    field.push(value.len() as u8);
    field.extend(value);
    field
}

impl Status {
    fn fields(self) -> Vec<u8> {
        // Static table (RFC 7541, appendix A); 8 is the name :status, 28 the name content-length.
        match self {
            Status::Ok => vec![0x88],
            Status::NoContent => vec![0x89],
            Status::NotModified => vec![0x8b],
            Status::Continue => vec![0x08, 3, b'1', b'0', b'0'],
            Status::Early => vec![0x08, 3, b'1', b'0', b'3'],
            Status::Length(n) => {
                let digits = n.to_string();
                let mut fields = vec![0x88, 0x0f, 0x0d, digits.len() as u8];
                fields.extend(digits.as_bytes());
                fields
            }
        }
    }
}
