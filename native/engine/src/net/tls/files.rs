//! The files that TLS options point to, read anew for connections that we make and for those that come in: a certificate that was renewed in
//! place takes effect with the next connection a second later, with a listener two, without a restart.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::TlsConfigError;
use super::keylog;
use super::options::{CertificateSource, Identity, KeySource, Roots, TlsOptions, Verify};
use super::server::ServerTlsOptions;

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
            paths.add(identity);
        }
        (paths != Self::default()).then_some(paths)
    }

    /// The paths that a listener has to read.
    pub(super) fn of_server(options: &ServerTlsOptions) -> Self {
        let mut paths = Self::default();
        if let (true, Some(Roots::PemFile(path))) = (options.verify_client, &options.client_roots) {
            paths.roots = Some(path.clone());
        }
        paths.add(&options.identity);
        paths
    }

    /// The same files whatever becomes of the working directory.
    pub(super) fn absolute(self) -> Self {
        let absolute = |path: Option<PathBuf>| path.map(|path| std::path::absolute(&path).unwrap_or(path));
        Self {
            roots: absolute(self.roots),
            certificate: absolute(self.certificate),
            key: absolute(self.key),
            keylog: absolute(self.keylog),
        }
    }

    /// Whether none was written to within so long: somebody may be at it, and half a chain of certificates is one too. Blocks.
    pub(super) fn are_settled(&self, time: Duration) -> bool {
        let written = |path: &PathBuf| std::fs::metadata(path).and_then(|facts| facts.modified()).ok();
        [&self.roots, &self.certificate, &self.key]
            .into_iter()
            .flatten()
            .filter_map(written)
            // The clock of a file server may be ahead of ours.
            .all(|written| written.elapsed().unwrap_or_else(|ahead| ahead.duration()) >= time)
    }

    fn add(&mut self, identity: &Identity) {
        if let CertificateSource::File(path) = &identity.certificate {
            self.certificate = Some(path.clone());
        }
        if let KeySource::File(path) = &identity.key {
            self.key = Some(path.clone());
        }
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
