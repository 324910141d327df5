//! Doors for the fuzz targets of `native/fuzz`. No part of the engine's interface.

use super::config;
use super::error::TlsConfigError;
use super::files::Files;
use super::options::TlsOptions;

/// What `certfile` and its like hold.
#[derive(Debug, Default)]
pub struct Contents {
    /// Of `cacertfile`.
    pub roots: Vec<u8>,
    /// Of `certfile`.
    pub certificate: Vec<u8>,
    /// Of `keyfile`.
    pub key: Vec<u8>,
}

/// Builds a configuration as a connection does that finds none in the cache, from `contents` where `options` name files.
///
/// # Errors
/// What is wrong with the options or the contents.
pub fn build(options: &TlsOptions, contents: Contents) -> Result<(), TlsConfigError> {
    let files = Files {
        roots: Some(contents.roots),
        certificate: Some(contents.certificate),
        key: Some(contents.key),
    };
    config::build(options, &files).map(drop)
}
