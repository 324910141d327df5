//! The embedded HTTP/2 server, on the h2 crate; and beside it one on hyper, which has `/hello` only.
//!
//! | path | what it does |
//! |---|---|
//! | `/hello` | a small complete response at once, whether or not the request has ended |
//! | `/echo` | every DATA back as it comes; at the end of the request trailers `x-echoed-bytes` |
//! | `/chat` | a conversation in lines of text, for people; trailers `grpc-status: 0` |
//! | `/sink` | swallows the request and answers with the number of bytes it had |
//! | `/source?bytes=N&chunk=M` | N bytes at once, in DATA frames of at most M |
//! | `/hang` | status 200 and then nothing |

mod bare;
mod chat;
mod connection;
mod echo;
mod fixed;
mod listener;
mod options;
mod program;
mod routes;
mod sink;
mod source;
mod stack;

pub use bare::Hyper;
pub use connection::H2;
pub use listener::Listener;
pub use options::Options;
pub use program::run;
pub use stack::Stack;
