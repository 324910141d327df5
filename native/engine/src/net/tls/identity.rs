//! Our own certificate and key, for peers that ask for them.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, Error, InconsistentKeys};

use super::error::TlsConfigError;
use super::files::Files;
use super::options::{CertificateSource, Identity, KeySource};
use super::pem;

/// Parses chain and key, and sees that they belong together.
pub(super) fn load(
    identity: &Identity,
    files: &Files,
    provider: &CryptoProvider,
) -> Result<Arc<SingleCertAndKey>, TlsConfigError> {
    let chain = chain(identity, files)?;
    let (key, option) = key(identity, files)?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| TlsConfigError::new(option, format!("the key cannot be used: {error}")))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        // `openssl x509 -req` without extensions makes version 1. Whether it is good enough is for the peer to say; a key
        // that does not fit then shows as the peer's `decrypt_error`.
        Err(Error::InvalidCertificate(CertificateError::Other(other)))
            if matches!(other.0.downcast_ref(), Some(webpki::Error::UnsupportedCertVersion)) => {}
        Err(Error::InvalidCertificate(error)) => {
            return Err(TlsConfigError::new(
                certificate_option(identity),
                format!("the certificate cannot be used: {error}"),
            ));
        }
        Err(_) => {
            return Err(TlsConfigError::new(
                option,
                "the key does not belong to the certificate",
            ));
        }
    }
    Ok(Arc::new(SingleCertAndKey::from(certified)))
}

fn certificate_option(identity: &Identity) -> &'static str {
    match identity.certificate {
        CertificateSource::File(_) => "certfile",
        _ => "cert",
    }
}

fn chain(identity: &Identity, files: &Files) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let option = certificate_option(identity);
    match &identity.certificate {
        CertificateSource::Der(chain) if chain.is_empty() => Err(TlsConfigError::new(option, "holds no certificate")),
        CertificateSource::Der(chain) => Ok(chain.iter().cloned().map(Into::into).collect()),
        CertificateSource::Pem(text) => pem::certificates(text, option),
        CertificateSource::File(_) => pem::certificates(files.certificate.as_deref().unwrap_or_default(), option),
    }
}

fn key(identity: &Identity, files: &Files) -> Result<(PrivateKeyDer<'static>, &'static str), TlsConfigError> {
    let (content, option) = match &identity.key {
        KeySource::Der(secret) | KeySource::Pem(secret) => (&*secret.0, "key"),
        KeySource::File(_) => (files.key.as_deref().unwrap_or_default(), "keyfile"),
    };
    let key = pem::private_key(content, identity.password.as_ref(), option)?;
    Ok((key, option))
}
