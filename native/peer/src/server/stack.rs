//! What the server programs differ in.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::Failure;
use crate::arguments::Arguments;

/// An implementation of HTTP/2 as a server, behind the sockets, the TLS and the command line that all of them share.
pub trait Stack: Clone + Send + Sync + 'static {
    /// What the program is called.
    const PROGRAM: &str;
    /// The options that only this one has, for people, each after a space.
    const OPTIONS: &str;

    /// Reads those options.
    ///
    /// # Errors
    /// Something in them makes no sense.
    fn from_arguments(arguments: &mut Arguments) -> Result<Self, Failure>;

    /// Serves a connection to its end. An error ends this connection and concerns nobody else.
    fn serve<T>(self, socket: T) -> impl Future<Output = ()> + Send
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static;
}
