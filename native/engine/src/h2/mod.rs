//! HTTP/2 (RFC 9113) streams over the h2 crate.
//!
//! A [`Stream`] is what users hold: queues, modes and windows behind one short lock. A connection owns the socket and h2's state
//! machine and is driven by whoever holds its baton: its task, or a caller inline. A pump moves messages between the two.

mod admission;
mod baton;
mod budget;
mod client;
mod connect;
mod connection;
mod credit;
mod crowd;
mod errand;
mod exchange;
mod facts;
mod frame_scanner;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod idle;
mod inbox;
mod info;
mod keepalive;
mod load;
mod open;
mod options;
mod outbox;
mod pump;
mod ready;
mod reason;
mod server;
mod side;
mod spin;
mod stream;
mod tap;
mod tether;

pub use ::h2::ext::Protocol;
pub use admission::Admitted;
pub use client::{Client, ClientInfo, ClientLife, ClientListener, ClientLoad, ClientOptions, Keepalive};
pub use connect::Carrier;
pub use credit::FlowControl;
pub use exchange::Sent;
pub use facts::GoAway;
pub use inbox::ModeChange;
pub use info::{ConnectedInfo, Endpoints, Info, StreamState};
pub use options::{ConnectionOptions, RequestHead, StreamOptions, Target};
pub use outbox::Payload;
pub use server::ServerOptions;
pub use side::Acceptor;
pub use stream::{Received, Stream};
pub use tether::connections;
