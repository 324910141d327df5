//! What the command line of a server program says.

use std::path::PathBuf;

use crate::Failure;
use crate::arguments::Arguments;
use crate::server::Stack;

/// The options of the server on the stack `S`.
#[derive(Debug)]
pub struct Options<S> {
    /// Port on the loopback addresses, 0 for any.
    pub port: u16,
    /// Cleartext HTTP/2 with prior knowledge instead of TLS.
    pub h2c: bool,
    /// Where the certificates go; a temporary folder when not given.
    pub cert_dir: Option<PathBuf>,
    /// Worker threads; 1 means a current-thread runtime.
    pub threads: usize,
    /// The stack, with options of its own.
    pub stack: S,
}

impl<S: Stack> Options<S> {
    /// The command line, for people.
    #[must_use]
    pub fn usage() -> String {
        format!(
            "usage: {} [--port N] [--h2c] [--cert-dir DIR] [--threads N]{}\n\
             Prints `READY port=N cacert=PATH` once it listens (`cacert=-` with --h2c), and ends when its standard input does.",
            S::PROGRAM,
            S::OPTIONS
        )
    }

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
            threads: arguments.value("threads", 1)?,
            stack: S::from_arguments(&mut arguments)?,
        };
        arguments.finish()?;
        if options.threads == 0 {
            return Err("--threads must be at least 1".into());
        }
        Ok(options)
    }
}
