//! The map of `info/1`.

use std::net::SocketAddr;

use hackney_engine::h2::{ClientInfo, ClientLoad, ConnectedInfo, Endpoints, GoAway, Info, StreamState};
use rustler::{Encoder, Env, Term};

use super::errors::error_code;
use super::message::binary;
use crate::atoms;

/// `{Address :: inet:ip_address(), Port}`.
pub(crate) fn address<'a>(env: Env<'a>, address: &SocketAddr) -> Term<'a> {
    let ip = match address {
        SocketAddr::V4(v4) => {
            let [a, b, c, d] = v4.ip().octets();
            (a, b, c, d).encode(env)
        }
        SocketAddr::V6(v6) => {
            let parts = v6.ip().segments().map(|segment| segment.encode(env));
            rustler::types::tuple::make_tuple(env, &parts)
        }
    };
    (ip, address.port()).encode(env)
}

fn or_undefined<'a>(env: Env<'a>, value: Option<impl Encoder>) -> Term<'a> {
    value.map_or_else(|| atoms::undefined().encode(env), |value| value.encode(env))
}

/// The term of a snapshot. What is known only once connected is left out before.
pub(crate) fn encode<'a>(env: Env<'a>, info: &Info) -> Term<'a> {
    let state = match info.state {
        StreamState::Idle => atoms::idle(),
        StreamState::Connected => atoms::connected(),
        StreamState::Closed => atoms::closed(),
    };
    let mut pairs = vec![
        (atoms::state(), state.encode(env)),
        (atoms::recv_queue_bytes(), info.recv_queue_bytes.encode(env)),
        (atoms::recv_queue_messages(), info.recv_queue_messages.encode(env)),
        (atoms::recv_waiting(), info.recv_waiting.encode(env)),
        (atoms::send_queue_bytes(), info.send_queue_bytes.encode(env)),
    ];
    if let Some(connected) = &info.connected {
        connection(env, connected, &mut pairs);
    }
    Term::map_from_pairs(env, &pairs).unwrap_or_else(|_| env_map_new(env))
}

fn env_map_new(env: Env<'_>) -> Term<'_> {
    rustler::types::map::map_new(env)
}

fn connection<'a>(env: Env<'a>, info: &ConnectedInfo, pairs: &mut Vec<(rustler::Atom, Term<'a>)>) {
    endpoints(env, &info.endpoints, pairs);
    pairs.extend([
        (atoms::stream_id(), info.stream_id.encode(env)),
        (atoms::send_window(), info.send_window.encode(env)),
        (atoms::connection_send_window(), info.connection_send_window.encode(env)),
        (atoms::recv_window(), or_undefined(env, info.recv_window)),
        (atoms::bytes_in(), info.bytes_in.encode(env)),
        (atoms::bytes_out(), info.bytes_out.encode(env)),
        (atoms::rtt_us(), or_undefined(env, info.rtt_us)),
        (atoms::goaway(), goaway(env, info.goaway)),
    ]);
}

fn most(env: Env<'_>, most: usize) -> Term<'_> {
    match most {
        usize::MAX => atoms::infinity().encode(env),
        most => most.encode(env),
    }
}

/// `{Streams, Most, Opened}`.
pub(crate) fn encode_load(env: Env<'_>, load: ClientLoad) -> Term<'_> {
    (load.streams, most(env, load.most), load.opened).encode(env)
}

/// The term of a snapshot of a connection that streams share.
pub(crate) fn encode_client<'a>(env: Env<'a>, info: &ClientInfo) -> Term<'a> {
    let mut pairs = vec![
        (
            atoms::streams(),
            info.load.streams.saturating_sub(info.load.waiting).encode(env),
        ),
        (atoms::waiting(), info.load.waiting.encode(env)),
        (atoms::max_streams(), most(env, info.load.most)),
        (atoms::recv_queue_bytes(), info.unread.encode(env)),
        (atoms::send_window(), info.send_window.encode(env)),
        (atoms::bytes_in(), info.bytes_in.encode(env)),
        (atoms::bytes_out(), info.bytes_out.encode(env)),
        (atoms::rtt_us(), or_undefined(env, info.rtt_us)),
        (atoms::goaway(), goaway(env, info.goaway)),
    ];
    endpoints(env, &info.endpoints, &mut pairs);
    Term::map_from_pairs(env, &pairs).unwrap_or_else(|_| env_map_new(env))
}

fn goaway(env: Env<'_>, goaway: Option<GoAway>) -> Term<'_> {
    or_undefined(
        env,
        goaway.map(|goaway| (goaway.last_stream, error_code(env, goaway.code))),
    )
}

fn endpoints<'a>(env: Env<'a>, endpoints: &Endpoints, pairs: &mut Vec<(rustler::Atom, Term<'a>)>) {
    let tls = endpoints.tls.as_ref();
    let text = |text: Option<&str>| or_undefined(env, text.map(|text| binary(env, text.as_bytes())));
    let bytes = |bytes: Option<&Vec<u8>>| or_undefined(env, bytes.map(|bytes| binary(env, bytes)));
    let version =
        tls.map(|tls| rustler::Atom::from_str(env, if tls.version == "TLSv1.2" { "tlsv1.2" } else { "tlsv1.3" }));
    pairs.extend([
        (atoms::peer(), address(env, &endpoints.peer)),
        (atoms::local(), address(env, &endpoints.local)),
        (atoms::alpn(), bytes(tls.and_then(|tls| tls.alpn.as_ref()))),
        (atoms::tls_version(), or_undefined(env, version.and_then(Result::ok))),
        (atoms::tls_cipher(), text(tls.map(|tls| tls.cipher.as_str()))),
        (atoms::tls_resumed(), tls.is_some_and(|tls| tls.resumed).encode(env)),
        (
            atoms::peer_certificate(),
            bytes(tls.and_then(|tls| tls.peer_certificate.as_ref())),
        ),
    ]);
}
