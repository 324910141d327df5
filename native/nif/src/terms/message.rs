//! `{response, Status, Headers}`, `{data, Binary}`, `{trailers, Headers}`, `done`.

use hackney_engine::Message;
use rustler::{Encoder, Env, NewBinary, Term};

use super::headers;
use crate::atoms;

/// A binary with a copy of `bytes`.
pub(crate) fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    NewBinary::from_slice(env, bytes).into()
}

/// The term of an inbound message.
pub(crate) fn message(env: Env<'_>, message: Message) -> Term<'_> {
    match message {
        Message::Informational(status, fields) => {
            (atoms::informational(), status, headers::encode(env, &fields)).encode(env)
        }
        Message::Response(status, fields) => (atoms::response(), status, headers::encode(env, &fields)).encode(env),
        Message::Data(bytes) => (atoms::data(), binary(env, &bytes)).encode(env),
        Message::Trailers(fields) => (atoms::trailers(), headers::encode(env, &fields)).encode(env),
        Message::Done => atoms::done().encode(env),
    }
}
