//! `[{Name :: binary(), Value :: binary()}]`.

use http::{HeaderMap, HeaderName, HeaderValue};
use rustler::{Binary, Encoder, Env, NifResult, Term};

use super::message::binary;

/// A header list in the order received. The values of a repeated name stand together, where it first appeared.
pub(crate) fn encode<'a>(env: Env<'a>, fields: &HeaderMap) -> Term<'a> {
    let pairs: Vec<Term<'a>> = fields
        .iter()
        .map(|(name, value)| (binary(env, name.as_str().as_bytes()), binary(env, value.as_bytes())).encode(env))
        .collect();
    pairs.encode(env)
}

/// A header list to send; the name at fault when HTTP does not allow it.
pub(crate) fn decode(pairs: &[(Binary<'_>, Binary<'_>)]) -> Result<HeaderMap, Vec<u8>> {
    let mut fields = HeaderMap::with_capacity(pairs.len());
    for (name, value) in pairs {
        let fault = |_| name.as_slice().to_vec();
        let key = HeaderName::from_bytes(name.as_slice()).map_err(|e| fault(e.into()))?;
        let value = HeaderValue::from_bytes(value.as_slice()).map_err(|e| fault(http::Error::from(e)))?;
        fields.try_append(key, value).map_err(|e| fault(http::Error::from(e)))?;
    }
    Ok(fields)
}

/// A list of binary pairs.
pub(crate) fn pairs(term: Term<'_>) -> NifResult<Vec<(Binary<'_>, Binary<'_>)>> {
    term.decode()
}
