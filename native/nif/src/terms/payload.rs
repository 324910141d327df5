//! What `send` is given: a binary, or what `erlang:iolist_to_iovec/1` made of an iolist.

use hackney_engine::h2::Payload;
use rustler::{Binary, Error, ListIterator, NifResult, Term};

use crate::held_binary::hold;

/// Up to this size copying is as fast as holding the binary, and gathers small sends into few frames. Copying so much takes some
/// 10 us; ten megabytes would take 6 ms, six times what a NIF call may.
const COPY_LIMIT: usize = 128 * 1024;

/// Reads a payload and hands it on. A closure, because copied bytes are read where they lie in the caller's heap.
pub(crate) fn with_payload<R>(term: Term<'_>, take: impl FnOnce(Payload<'_>) -> R) -> NifResult<R> {
    if let Ok(binary) = Binary::from_term(term) {
        return Ok(if binary.len() <= COPY_LIMIT {
            take(Payload::Copied(binary.as_slice()))
        } else {
            take(Payload::Shared(vec![hold(term)?]))
        });
    }
    let parts = || term.decode::<ListIterator<'_>>();
    let mut total = 0;
    for part in parts()? {
        total += Binary::from_term(part)?.len();
    }
    if total <= COPY_LIMIT {
        let mut gathered = Vec::with_capacity(total);
        for part in parts()? {
            gathered.extend_from_slice(Binary::from_term(part)?.as_slice());
        }
        return Ok(take(Payload::Copied(&gathered)));
    }
    let held = parts()?.map(hold).collect::<Result<Vec<_>, Error>>()?;
    Ok(take(Payload::Shared(held)))
}
