//! The files that TLS options point to, read anew for connections that we make and for those that come in: a certificate that was renewed in
//! place takes effect with the next connection a second later, without a restart.

use std::path::{Path, PathBuf};

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
