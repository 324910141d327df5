//! What has gone over the wire, against what the user sent and heard.

use hackney_engine::h2::{FlowControl, StreamOptions};

use super::heard::End;
use super::peer::{Peer, STREAM, body_byte};
use super::user::User;
use crate::frames::{self, Frame, flag, kind, setting};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Windows and frames before any SETTINGS (RFC 9113, 6.5.2).
const DEFAULT_WINDOW: u64 = 65_535;
const DEFAULT_FRAME: u64 = 16_384;

pub(super) fn check(options: &StreamOptions, peer: &Peer, user: &User) {
    let wire = peer.end.look();
    let (received, _) = frames::parse(&wire.sent[..wire.taken]);
    what_was_heard_was_said(user, &received);
    let Some(written) = wire.written.strip_prefix(PREFACE) else {
        assert!(PREFACE.starts_with(&wire.written), "no preface");
        return;
    };
    let (sent, _) = frames::parse(written);
    what_was_sent_was_given(user, &sent);
    the_peers_windows_were_kept(&sent, &received);
    no_more_was_given_back_than_came(options, user, &sent, &received);
}

/// Whether the engine has written the request.
pub(super) fn has_request(written: &[u8]) -> bool {
    let frames = written.strip_prefix(PREFACE).map(|written| frames::parse(written).0);
    frames.is_some_and(|frames| frames.iter().any(|frame| frame.is(kind::HEADERS, STREAM)))
}

fn what_was_heard_was_said(user: &User, received: &[Frame<'_>]) {
    let mut body = Vec::new();
    for frame in received.iter().filter(|frame| frame.stream == STREAM) {
        if frame.kind == kind::DATA {
            body.extend_from_slice(frame.body().unwrap_or_default());
        }
        let ends = matches!(frame.kind, kind::DATA | kind::HEADERS) && frame.has(flag::END_STREAM);
        if ends && user.heard.end == Some(End::Done) {
            assert_eq!(user.heard.body.len(), body.len(), "bytes are missing at the end");
            break;
        }
    }
    assert!(body.starts_with(&user.heard.body), "other bytes than the peer's");
}

fn what_was_sent_was_given(user: &User, sent: &[Frame<'_>]) {
    let mut place = 0;
    let (mut ended, mut reset) = (false, false);
    for frame in sent.iter().filter(|frame| frame.stream == STREAM) {
        match frame.kind {
            kind::DATA | kind::HEADERS => {
                assert!(!ended && !reset, "{:?} after the end of our side", frame.kind);
                ended = frame.has(flag::END_STREAM);
            }
            kind::RST_STREAM => {
                assert!(!reset, "two resets");
                reset = true;
            }
            kind::WINDOW_UPDATE => assert!(!reset, "window for a stream that is reset"),
            _ => {}
        }
        if frame.kind == kind::DATA {
            let body = frame.body().expect("no padding longer than the frame");
            assert!(
                body.iter().enumerate().all(|(n, byte)| *byte == body_byte(place + n)),
                "other bytes than the user's"
            );
            place += body.len();
        }
    }
    assert!(place <= user.sent);
    if ended {
        assert!(user.finished, "our side has ended by itself");
        assert_eq!(place, user.sent, "bytes are missing before the end");
    }
}

/// The largest value that the peer's SETTINGS gave, or the default.
fn most(received: &[Frame<'_>], id: u16, default: u64) -> u64 {
    let settings = received.iter().filter(|frame| frame.is(kind::SETTINGS, 0));
    let values = settings.flat_map(Frame::settings).filter(|(key, _)| *key == id);
    values.map(|(_, value)| u64::from(value)).fold(default, u64::max)
}

/// The sum of all increments for a stream.
fn increments(frames: &[Frame<'_>], stream: u32) -> u64 {
    let updates = frames.iter().filter(|frame| frame.is(kind::WINDOW_UPDATE, stream));
    updates.map(Frame::increment).sum()
}

/// Bytes that count for flow control: all of DATA's payload (RFC 9113, 6.9.1).
fn counted<'a>(frames: impl Iterator<Item = &'a Frame<'a>>) -> u64 {
    frames.map(|frame| frame.payload.len() as u64).sum()
}

fn the_peers_windows_were_kept(sent: &[Frame<'_>], received: &[Frame<'_>]) {
    let frame = most(received, setting::MAX_FRAME_SIZE, DEFAULT_FRAME);
    assert!(sent.iter().all(|sent| sent.payload.len() as u64 <= frame));
    let bytes = counted(sent.iter().filter(|frame| frame.kind == kind::DATA));
    assert!(
        bytes <= DEFAULT_WINDOW + increments(received, 0),
        "beyond the connection's window"
    );
    let window = most(received, setting::INITIAL_WINDOW_SIZE, DEFAULT_WINDOW);
    assert!(
        bytes <= window + increments(received, STREAM),
        "beyond the stream's window"
    );
}

fn no_more_was_given_back_than_came(options: &StreamOptions, user: &User, sent: &[Frame<'_>], received: &[Frame<'_>]) {
    let data = || received.iter().filter(|frame| frame.kind == kind::DATA);
    let opened = u64::from(options.connection.connection_window_size) - DEFAULT_WINDOW;
    assert!(
        increments(sent, 0) <= opened + counted(data()),
        "more for the connection"
    );
    let of_stream = || data().filter(|frame| frame.stream == STREAM);
    let padding = of_stream().map(|frame| frame.payload.len() - frame.body().map_or(0, <[u8]>::len));
    // Padding is nobody's to read: h2 gives it back by itself.
    let padding = padding.sum::<usize>() as u64;
    let read = match options.flow_control {
        FlowControl::Auto => user.heard.body.len(),
        FlowControl::Manual => user.consumed,
    };
    assert!(
        increments(sent, STREAM) <= read as u64 + padding,
        "more for the stream than was read"
    );
}
