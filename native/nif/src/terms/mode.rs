//! `active`: `true`, `false`, `once` or a number.

use hackney_engine::Mode;
use hackney_engine::h2::ModeChange;
use rustler::{Atom, Encoder, Env, NifResult, Term};

use crate::atoms;

/// What a caller asks for.
pub(crate) fn decode(term: Term<'_>) -> NifResult<ModeChange> {
    if let Ok(active) = term.decode::<bool>() {
        return Ok(ModeChange::Set(if active { Mode::Active } else { Mode::Passive }));
    }
    if term.decode::<Atom>().ok() == Some(atoms::once()) {
        return Ok(ModeChange::Set(Mode::Once));
    }
    term.decode::<i16>().map(ModeChange::Add)
}

/// The mode a stream starts in.
pub(crate) fn initial(term: Term<'_>) -> NifResult<Mode> {
    match decode(term)? {
        ModeChange::Set(mode) => Ok(mode),
        ModeChange::Add(n) => u16::try_from(n)
            .ok()
            .filter(|n| *n > 0)
            .map(Mode::Count)
            .ok_or(rustler::Error::BadArg),
    }
}

/// The term of a mode.
pub(crate) fn encode(env: Env<'_>, mode: Mode) -> Term<'_> {
    match mode {
        Mode::Passive => false.encode(env),
        Mode::Active => true.encode(env),
        Mode::Once => atoms::once().encode(env),
        Mode::Count(n) => n.encode(env),
    }
}
