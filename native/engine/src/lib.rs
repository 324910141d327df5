//! The engine behind `hackney_native`: sockets, TLS and HTTP/2 streams, with no Erlang term in it.
//!
//! Callers are threads that must not wait (an Erlang VM's schedulers). Every call returns at once; what happens later leaves through
//! an [`Outlet`].

pub mod error;
pub mod h2;
mod message;
pub mod net;
mod outlet;
pub mod runtime;

pub use message::{MAX_DATA, Message, Mode, Notice};
pub use outlet::{Gone, Life, Outlet};
