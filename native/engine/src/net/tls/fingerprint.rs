//! The key under which a TLS configuration is shared: a digest over everything that goes into it.
//!
//! A digest instead of the content, so that no private key or password outlives its use in the cache.

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

use super::files::Files;
use super::options::{CertificateSource, KeySource, Roots, ServerNameOption, TlsOptions, TlsVersion, Verify};

/// SHA-256 over options and file contents.
pub(super) type Fingerprint = [u8; SHA256_OUTPUT_LEN];

/// Two sets of options have the same fingerprint exactly when the configurations built from them are the same.
///
/// The host is not part of it: rustls keeps sessions apart by the name that was verified.
pub(super) fn of(options: &TlsOptions, files: &Files) -> Fingerprint {
    let mut digest = Digest(Context::new(&SHA256));
    match (options.verify, &options.roots) {
        (Verify::None, _) => digest.tag(0),
        (Verify::Peer, Roots::System) => digest.tag(1),
        (Verify::Peer, Roots::Der(certificates)) => {
            digest.tag(2);
            digest.list(certificates);
        }
        (Verify::Peer, Roots::PemFile(_)) => {
            digest.tag(3);
            digest.optional(files.roots.as_deref());
        }
    }
    digest.tag(u8::from(options.identity.is_some()));
    if let Some(identity) = &options.identity {
        match &identity.certificate {
            CertificateSource::Der(chain) => {
                digest.tag(0);
                digest.list(chain);
            }
            CertificateSource::Pem(text) => {
                digest.tag(1);
                digest.bytes(text);
            }
            CertificateSource::File(_) => {
                digest.tag(2);
                digest.optional(files.certificate.as_deref());
            }
        }
        match &identity.key {
            KeySource::Der(key) => {
                digest.tag(0);
                digest.bytes(&key.0);
            }
            KeySource::Pem(text) => {
                digest.tag(1);
                digest.bytes(&text.0);
            }
            KeySource::File(_) => {
                digest.tag(2);
                digest.optional(files.key.as_deref());
            }
        }
        digest.optional(identity.password.as_ref().map(|secret| &*secret.0));
    }
    // The name itself is chosen per connection; only whether it is sent belongs to the configuration.
    digest.tag(u8::from(options.server_name == ServerNameOption::Disable));
    digest.tag(u8::from(options.versions.contains(&TlsVersion::Tls12)));
    digest.tag(u8::from(options.versions.contains(&TlsVersion::Tls13)));
    digest.list(&options.alpn);
    let keylog = options.keylog.as_ref();
    digest.optional(keylog.map(|path| path.as_os_str().as_encoded_bytes()));
    digest.tag(u8::from(options.resumption));
    digest.finish()
}

/// Of what is in files alone: other options that are at work with it stay what they are.
pub(super) fn of_files(files: &Files) -> Fingerprint {
    let mut digest = Digest(Context::new(&SHA256));
    for content in [&files.roots, &files.certificate, &files.key] {
        digest.optional(content.as_deref());
    }
    digest.finish()
}

/// Every part goes in with its length, so that no two different sequences of parts give the same input.
struct Digest(Context);

impl Digest {
    fn finish(self) -> Fingerprint {
        let mut fingerprint = Fingerprint::default();
        fingerprint.copy_from_slice(self.0.finish().as_ref());
        fingerprint
    }

    fn tag(&mut self, tag: u8) {
        self.0.update(&[tag]);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn optional(&mut self, bytes: Option<&[u8]>) {
        self.tag(u8::from(bytes.is_some()));
        self.bytes(bytes.unwrap_or_default());
    }

    fn list(&mut self, list: &[Vec<u8>]) {
        self.0.update(&(list.len() as u64).to_be_bytes());
        for bytes in list {
            self.bytes(bytes);
        }
    }
}
