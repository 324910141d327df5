//! Trust anchors: the operating system's, or the caller's own.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::error::TlsConfigError;

/// The system's roots, shared by every configuration that trusts them. A failure is not kept: the next connection tries
/// again.
static SYSTEM: Mutex<Option<Arc<RootCertStore>>> = Mutex::new(None);

/// The operating system's roots; `SSL_CERT_FILE` and `SSL_CERT_DIR` override them. Blocks on the first call.
pub(super) fn system() -> Result<Arc<RootCertStore>, TlsConfigError> {
    // Held while loading, so that callers who come meanwhile wait instead of loading, too. They are on blocking threads.
    let mut loaded = SYSTEM.lock();
    if let Some(roots) = &*loaded {
        return Ok(Arc::clone(roots));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some systems carry roots that no longer parse; those are passed over as long as others remain.
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TlsConfigError::new(
            "cacerts",
            format!(
                "the operating system has no root certificates ({}); install them (Debian: ca-certificates) or give \
                 cacerts or cacertfile",
                if reasons.is_empty() {
                    "none found".to_owned()
                } else {
                    reasons.join("; ")
                }
            ),
        ));
    }
    let roots = Arc::new(roots);
    *loaded = Some(Arc::clone(&roots));
    Ok(roots)
}

/// The caller's own roots. Those that do not parse are passed over as long as others remain: bundles of a whole system
/// come this way, too.
pub(super) fn custom(
    certificates: &[CertificateDer<'static>],
    option: &'static str,
) -> Result<Arc<RootCertStore>, TlsConfigError> {
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(certificates.iter().cloned());
    if usable == 0 {
        return Err(TlsConfigError::new(option, "holds no usable certificate"));
    }
    Ok(Arc::new(roots))
}
