//! What the command line of `h2-server` says.

use std::path::PathBuf;

use crate::Failure;
use crate::arguments::Arguments;
use crate::windows::Windows;

/// The server's options.
#[derive(Debug)]
pub struct Options {
    /// Port on the loopback addresses, 0 for any.
    pub port: u16,
    /// Cleartext HTTP/2 with prior knowledge instead of TLS.
    pub h2c: bool,
    /// Where the certificates go; a temporary folder when not given.
    pub cert_dir: Option<PathBuf>,
    /// Receive windows.
    pub windows: Windows,
    /// Worker threads; 1 means a current-thread runtime.
    pub threads: usize,
}

impl Options {
    /// The command line, for people.
    pub const USAGE: &str = "usage: h2-server [--port N] [--h2c] [--cert-dir DIR] [--window BYTES] \
        [--connection-window BYTES] [--threads N]\n\
        Prints `READY port=N cacert=PATH` once it listens (`cacert=-` with --h2c), and ends when its standard input does.";

    /// Reads the words of a command line.
    ///
    /// # Errors
    /// Something in it makes no sense.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, Failure> {
        let mut arguments = Arguments::parse(words, &["h2c"])?;
        let options = Self {
            port: arguments.value("port", 0)?,
            h2c: arguments.flag("h2c"),
            cert_dir: arguments.optional("cert-dir")?,
            windows: Windows::from_arguments(&mut arguments)?,
            threads: arguments.value("threads", 1)?,
        };
        arguments.finish()?;
        if options.threads == 0 {
            return Err("--threads must be at least 1".into());
        }
        Ok(options)
    }
}
