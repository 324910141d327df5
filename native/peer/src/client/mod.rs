//! The bench's scenarios on the h2 crate itself, without Erlang: what there is to reach.

mod clock;
mod dialer;
mod download;
mod idle;
mod many;
mod one_way;
mod open;
mod ping_pong;
mod scenario;
mod upload;

pub use dialer::Dialer;
pub use scenario::{Figure, Scenario};
