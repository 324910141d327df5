//! The error terms of the contract.

use hackney_engine::error::{ConsumeError, EndReason, Loss, ModeError, OpenError, RecvError, SendError};
use hackney_engine::net::{ConnectError, ListenError, TlsConfigError, TlsError, errno};
use rustler::{Atom, Encoder, Env, Term};

use super::message::binary;
use super::mode;
use crate::atoms;

/// An atom of a closed table: the names of POSIX errors, resolver failures, TLS alerts and TLS options.
fn closed_table_atom<'a>(env: Env<'a>, name: &'static str) -> Term<'a> {
    Atom::from_str(env, name).map_or_else(|_| binary(env, name.as_bytes()), |atom| atom.encode(env))
}

/// Text as a string, the way OTP's ssl gives it.
fn string<'a>(env: Env<'a>, text: &str) -> Term<'a> {
    text.chars().map(u32::from).collect::<Vec<u32>>().encode(env)
}

/// An HTTP/2 error code: an atom (RFC 9113, section 7), or the number where the RFC names none.
pub(crate) fn error_code(env: Env<'_>, code: u32) -> Term<'_> {
    match code {
        0x0 => atoms::no_error(),
        0x1 => atoms::protocol_error(),
        0x2 => atoms::internal_error(),
        0x3 => atoms::flow_control_error(),
        0x4 => atoms::settings_timeout(),
        0x5 => atoms::stream_closed(),
        0x6 => atoms::frame_size_error(),
        0x7 => atoms::refused_stream(),
        0x8 => atoms::cancel(),
        0x9 => atoms::compression_error(),
        0xa => atoms::connect_error(),
        0xb => atoms::enhance_your_calm(),
        0xc => atoms::inadequate_security(),
        0xd => atoms::http_1_1_required(),
        other => return other.encode(env),
    }
    .encode(env)
}

fn tls_alert<'a>(env: Env<'a>, alert: &'static str, text: &str) -> Term<'a> {
    (atoms::tls_alert(), (closed_table_atom(env, alert), string(env, text))).encode(env)
}

/// Why a stream is over.
pub(crate) fn end_reason<'a>(env: Env<'a>, reason: &EndReason) -> Term<'a> {
    match reason {
        EndReason::Reset(code) => (atoms::stream_error(), error_code(env, *code)).encode(env),
        EndReason::GoAway(code) => (atoms::goaway(), error_code(env, *code)).encode(env),
        EndReason::Unprocessed => atoms::unprocessed().encode(env),
        EndReason::Closed => atoms::closed().encode(env),
        EndReason::RecvBufferOverflow => atoms::recv_buffer_overflow().encode(env),
        EndReason::Panic(text) => (atoms::panic(), binary(env, text.as_bytes())).encode(env),
        EndReason::Lost(loss) => match loss {
            Loss::TlsAlert(alert, text) => tls_alert(env, alert, text),
            Loss::Os(code) => {
                let name = errno::name(&std::io::Error::from_raw_os_error(*code));
                (atoms::closed(), closed_table_atom(env, name)).encode(env)
            }
            Loss::InvalidPreface => (atoms::closed(), atoms::invalid_preface()).encode(env),
            Loss::PingTimeout => (atoms::closed(), atoms::keepalive_timeout()).encode(env),
            Loss::TruncatedFrame => (atoms::closed(), atoms::truncated_frame()).encode(env),
            Loss::Protocol(code) => (atoms::closed(), (atoms::connection_error(), error_code(env, *code))).encode(env),
            Loss::Other(text) => (atoms::closed(), binary(env, text.as_bytes())).encode(env),
        },
    }
}

/// Why a stream could not be opened.
pub(crate) fn open_error<'a>(env: Env<'a>, error: &OpenError) -> Term<'a> {
    match error {
        OpenError::Connect(error) => connect_error(env, error),
        OpenError::Timeout => atoms::connect_timeout().encode(env),
        OpenError::Ended(reason) => end_reason(env, reason),
        OpenError::Full => atoms::full().encode(env),
        OpenError::Already => atoms::already_connected().encode(env),
        OpenError::Request(text) => (atoms::badarg(), (atoms::request(), binary(env, text.as_bytes()))).encode(env),
    }
}

fn connect_error<'a>(env: Env<'a>, error: &ConnectError) -> Term<'a> {
    match error {
        ConnectError::Resolve(error) => closed_table_atom(env, error.code.name()),
        ConnectError::Tcp(error) => closed_table_atom(env, errno::name(error)),
        ConnectError::Config(error) => config_error(env, error),
        ConnectError::Tls(error) => tls_error(env, error),
        ConnectError::HandshakeClosed => atoms::closed().encode(env),
        ConnectError::HandshakeIo(error) => (atoms::closed(), closed_table_atom(env, errno::name(error))).encode(env),
        ConnectError::ProtocolNotNegotiated(None) => (atoms::protocol_not_negotiated(), atoms::http1()).encode(env),
        ConnectError::ProtocolNotNegotiated(Some(name)) if name.starts_with(b"http/1") => {
            (atoms::protocol_not_negotiated(), atoms::http1()).encode(env)
        }
        ConnectError::ProtocolNotNegotiated(Some(name)) => {
            (atoms::protocol_not_negotiated(), binary(env, name)).encode(env)
        }
    }
}

/// An operating system's error.
pub(crate) fn posix<'a>(env: Env<'a>, error: &std::io::Error) -> Term<'a> {
    closed_table_atom(env, errno::name(error))
}

/// Why nobody listens.
pub(crate) fn listen_error<'a>(env: Env<'a>, error: &ListenError) -> Term<'a> {
    match error {
        ListenError::Config(error) => config_error(env, error),
        ListenError::Tcp(error) => closed_table_atom(env, errno::name(error)),
    }
}

/// `{options, {Name, Text}}`.
pub(crate) fn config_error<'a>(env: Env<'a>, error: &TlsConfigError) -> Term<'a> {
    let option = closed_table_atom(env, error.option);
    (atoms::options(), (option, string(env, &error.text))).encode(env)
}

fn tls_error<'a>(env: Env<'a>, error: &TlsError) -> Term<'a> {
    tls_alert(env, error.alert(), &error.text())
}

/// Why nothing was sent.
pub(crate) fn send_error(error: &SendError) -> Atom {
    match error {
        SendError::NotConnected => atoms::not_connected(),
        SendError::Full(_) => atoms::send_buffer_full(),
        SendError::NoResponse => atoms::no_response(),
        SendError::Responded => atoms::responded(),
        SendError::StreamClosed => atoms::stream_closed(),
        SendError::Closed => atoms::closed(),
    }
}

/// Why nothing was read.
pub(crate) fn recv_error<'a>(env: Env<'a>, error: &RecvError) -> Term<'a> {
    match error {
        RecvError::NotConnected => atoms::not_connected().encode(env),
        RecvError::ActiveMode(active) => (atoms::active_mode(), mode::encode(env, *active)).encode(env),
        RecvError::Busy(_) => atoms::recv_busy().encode(env),
        RecvError::Ended(reason) => end_reason(env, reason),
    }
}

/// Why nothing was given back.
pub(crate) fn consume_error<'a>(env: Env<'a>, error: &ConsumeError) -> Term<'a> {
    match error {
        ConsumeError::NotConnected => atoms::not_connected().encode(env),
        ConsumeError::TooMuch(outstanding) => (atoms::badarg(), (atoms::consume(), *outstanding)).encode(env),
    }
}

/// Why the mode was not changed.
pub(crate) fn mode_error(error: &ModeError) -> Atom {
    match error {
        ModeError::NotConnected => atoms::not_connected(),
        ModeError::OutOfRange => atoms::badarg(),
        ModeError::Closed => atoms::closed(),
    }
}
