//! `[{Name :: binary(), Value :: binary()}]`.

use http::{HeaderMap, HeaderName, HeaderValue};
use rustler::{Binary, Encoder, Env, Error, NifResult, Term};

use super::message::binary;

/// A header list in the order received. The values of a repeated name stand together, where it first appeared.
pub(crate) fn encode<'a>(env: Env<'a>, fields: &HeaderMap) -> Term<'a> {
    let pairs: Vec<Term<'a>> = fields
        .iter()
        .map(|(name, value)| (binary(env, name.as_str().as_bytes()), binary(env, value.as_bytes())).encode(env))
        .collect();
    pairs.encode(env)
}

/// A header list to send: a list of binary pairs, as HTTP allows them.
pub(crate) fn decode(term: Term<'_>) -> NifResult<HeaderMap> {
    let pairs: Vec<(Binary<'_>, Binary<'_>)> = term.decode()?;
    let mut fields = HeaderMap::with_capacity(pairs.len());
    for (name, value) in &pairs {
        let name = HeaderName::from_bytes(name.as_slice()).map_err(|_| Error::BadArg)?;
        let value = HeaderValue::from_bytes(value.as_slice()).map_err(|_| Error::BadArg)?;
        fields.try_append(name, value).map_err(|_| Error::BadArg)?;
    }
    Ok(fields)
}
