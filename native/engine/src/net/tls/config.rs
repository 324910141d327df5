//! A rustls configuration from options and file contents.

use std::sync::{Arc, LazyLock};

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, ClientConfig, SupportedProtocolVersion, version};

use super::error::TlsConfigError;
use super::files::Files;
use super::identity;
use super::keylog::KeyLogFile;
use super::options::{Roots, ServerNameOption, TlsOptions, TlsVersion, Verify};
use super::sessions::Configured;
use super::{pem, roots, verify};

/// Named, instead of rustls's process-wide default: another library in the same process may have set that.
pub(super) static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| preference(suite.suite()));
    Arc::new(provider)
});

/// AES-128-GCM before the others, as browsers and Go have it: 256 bits defend against nothing that 128 do not, and cost a quarter more on
/// each byte and, by SHA-384, on each handshake.
fn preference(suite: CipherSuite) -> bool {
    let aes_128 = [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ];
    !aes_128.contains(&suite)
}

/// Builds the configuration. Blocks, for milliseconds when the system's roots are wanted for the first time.
pub(super) fn build(options: &TlsOptions, files: &Files) -> Result<Configured, TlsConfigError> {
    let provider = &*PROVIDER;
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&versions(&options.versions))
        .map_err(|error| TlsConfigError::new("versions", error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier(options, files, provider)?);
    let mut config = match &options.identity {
        None => builder.with_no_client_auth(),
        Some(own) => builder.with_client_cert_resolver(identity::load(own, files, provider)?),
    };
    check_alpn(&options.alpn, "alpn_advertised_protocols")?;
    config.alpn_protocols.clone_from(&options.alpn);
    config.enable_sni = options.server_name != ServerNameOption::Disable;
    if let Some(path) = &options.keylog {
        config.key_log = Arc::new(KeyLogFile(path.clone()));
    }
    Ok(Configured::new(config, options.resumption))
}

/// RFC 7301 section 3.1: a name has one length byte and is not empty.
pub(super) fn check_alpn(protocols: &[Vec<u8>], option: &'static str) -> Result<(), TlsConfigError> {
    let possible = |name: &Vec<u8>| (1..=usize::from(u8::MAX)).contains(&name.len());
    if protocols.iter().all(possible) {
        return Ok(());
    }
    Err(TlsConfigError::new(option, "a protocol name has 1 to 255 bytes"))
}

pub(super) fn versions(wanted: &[TlsVersion]) -> Vec<&'static SupportedProtocolVersion> {
    let known = [
        (TlsVersion::Tls13, &version::TLS13),
        (TlsVersion::Tls12, &version::TLS12),
    ];
    known
        .into_iter()
        .filter_map(|(version, supported)| wanted.contains(&version).then_some(supported))
        .collect()
}

fn verifier(
    options: &TlsOptions,
    files: &Files,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsConfigError> {
    let own = |anchors: Vec<CertificateDer<'static>>, option| {
        let webpki = verify::against(roots::custom(&anchors, option)?, provider, option)?;
        Ok(Arc::new(verify::OwnAnchors { webpki, anchors }) as Arc<dyn ServerCertVerifier>)
    };
    match (options.verify, &options.roots) {
        (Verify::None, _) => Ok(Arc::new(verify::Anyone(Arc::clone(provider)))),
        (Verify::Peer, Roots::System) => Ok(verify::against(roots::system()?, provider, "cacerts")?),
        (Verify::Peer, Roots::Der(anchors)) => own(anchors.iter().cloned().map(Into::into).collect(), "cacerts"),
        (Verify::Peer, Roots::PemFile(_)) => {
            let content = files.roots.as_deref().unwrap_or_default();
            own(pem::certificates(content, "cacertfile")?, "cacertfile")
        }
    }
}
