//! Session secrets for debugging tools, in the NSS key log format (RFC 9850).

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustls::KeyLog;

/// Opens the file for appending; a new one is readable by its owner alone.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Appends to a file that is opened for every line, so that it may be moved or deleted at any time.
#[derive(Debug)]
pub(super) struct KeyLogFile(pub(super) PathBuf);

impl KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut line = format!("{label} ");
        hexadecimal(&mut line, client_random);
        line.push(' ');
        hexadecimal(&mut line, secret);
        line.push('\n');
        // One write per line: lines of several connections do not mix in a file opened for appending. A full disk must
        // not end a connection, and there is nobody to tell; whether the file can be opened was seen beforehand.
        let _ = open(&self.0).and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

fn hexadecimal(line: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(line, "{byte:02x}");
    }
}
