//! Counterparts for the development of `hackney_native`, on the same HTTP/2 and TLS crates as the
//! engine but sharing none of its code: what they agree on, they agree on over the wire.
//!
//! - `h2-server` answers the demo, the tests and the bench ([`server`]).
//! - `hyper-server` is hyper with nothing around it, for the bench to compare servers with ([`server::Hyper`]).
//! - `h2-client` runs the bench's scenarios without any Erlang: the limit to compare with ([`client`]).

pub mod arguments;
pub mod body;
pub mod certificate;
pub mod client;
pub mod server;
pub mod windows;

/// Any failure of these programs: they report it and stop, nobody tells kinds of it apart.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
