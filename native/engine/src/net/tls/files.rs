//! The files that TLS options point to, read anew for every connection: a certificate that was renewed in place takes
//! effect with the next connection, without a restart.

use std::path::{Path, PathBuf};

use super::error::TlsConfigError;
use super::keylog;
use super::options::{CertificateSource, KeySource, Roots, TlsOptions, Verify};

/// The paths in a set of options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Paths {
    roots: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    keylog: Option<PathBuf>,
}

/// What the files hold.
#[derive(Default)]
pub(super) struct Files {
    /// Content of `cacertfile`.
    pub(super) roots: Option<Vec<u8>>,
    /// Content of `certfile`.
    pub(super) certificate: Option<Vec<u8>>,
    /// Content of `keyfile`.
    pub(super) key: Option<Vec<u8>>,
}

impl Paths {
    /// The paths that have to be read; `None` when there are none and no file has to be touched.
    pub(super) fn of(options: &TlsOptions) -> Option<Self> {
        let mut paths = Self {
            keylog: options.keylog.clone(),
            ..Self::default()
        };
        if let (Verify::Peer, Roots::PemFile(path)) = (options.verify, &options.roots) {
            paths.roots = Some(path.clone());
        }
        if let Some(identity) = &options.identity {
            if let CertificateSource::File(path) = &identity.certificate {
                paths.certificate = Some(path.clone());
            }
            if let KeySource::File(path) = &identity.key {
                paths.key = Some(path.clone());
            }
        }
        (paths != Self::default()).then_some(paths)
    }

    /// Reads them, and sees whether the key log can be written. Blocks.
    pub(super) fn read(&self) -> Result<Files, TlsConfigError> {
        if let Some(path) = &self.keylog {
            keylog::open(path).map_err(|error| fault("keylog", path, &error))?;
        }
        Ok(Files {
            roots: read("cacertfile", self.roots.as_deref())?,
            certificate: read("certfile", self.certificate.as_deref())?,
            key: read("keyfile", self.key.as_deref())?,
        })
    }
}

fn read(option: &'static str, path: Option<&Path>) -> Result<Option<Vec<u8>>, TlsConfigError> {
    path.map(|path| std::fs::read(path).map_err(|error| fault(option, path, &error)))
        .transpose()
}

fn fault(option: &'static str, path: &Path, error: &std::io::Error) -> TlsConfigError {
    TlsConfigError::new(option, format!("{}: {error}", path.display()))
}
