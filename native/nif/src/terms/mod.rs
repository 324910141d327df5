//! Between Erlang terms and the engine's types.

pub(crate) mod errors;
pub(crate) mod headers;
pub(crate) mod info;
pub(crate) mod message;
pub(crate) mod mode;
pub(crate) mod options;
pub(crate) mod payload;
