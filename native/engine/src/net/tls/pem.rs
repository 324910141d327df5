//! PEM or DER content to certificates and keys.

use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::SecretDocument;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::TlsConfigError;
use super::key_cost;
use super::options::Secret;

const BEGIN_ENCRYPTED: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END_ENCRYPTED: &[u8] = b"-----END ENCRYPTED PRIVATE KEY-----";

/// The certificates in PEM text, or the one that DER content is.
pub(super) fn certificates(
    content: &[u8],
    option: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    if !is_pem(content) {
        return match content.first() {
            // DER begins with the tag of a SEQUENCE.
            Some(0x30) => Ok(vec![content.to_vec().into()]),
            _ => Err(TlsConfigError::new(option, "holds neither PEM nor a DER certificate")),
        };
    }
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(content)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsConfigError::new(option, format!("broken PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(TlsConfigError::new(option, "holds no certificate"));
    }
    Ok(certificates)
}

/// The first private key in PEM text, or the one that DER content is, decrypted when it needs to be.
pub(super) fn private_key(
    content: &[u8],
    password: Option<&Secret>,
    option: &'static str,
) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
    if !is_pem(content) {
        return der_key(content, password, option);
    }
    if let Some(block) = encrypted_block(content) {
        let text =
            std::str::from_utf8(block).map_err(|error| TlsConfigError::new(option, format!("broken PEM: {error}")))?;
        let (_, der) = SecretDocument::from_pem(text)
            .map_err(|error| TlsConfigError::new(option, format!("broken PEM: {error}")))?;
        return der_key(der.as_bytes(), password, option);
    }
    // The encryption that OpenSSL used before PKCS#8 derives the key from the password with one round of MD5.
    if find(content, b"Proc-Type: 4,ENCRYPTED").is_some() {
        return Err(TlsConfigError::new(
            option,
            "the key is encrypted in the old PEM way (Proc-Type: 4,ENCRYPTED), which is not supported; \
             convert it with: openssl pkcs8 -topk8 -in old.pem -out new.pem",
        ));
    }
    PrivateKeyDer::from_pem_slice(content)
        .map_err(|error| TlsConfigError::new(option, format!("holds no private key: {error}")))
}

fn der_key(
    der: &[u8],
    password: Option<&Secret>,
    option: &'static str,
) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
    let Ok(encrypted) = EncryptedPrivateKeyInfoRef::try_from(der) else {
        return PrivateKeyDer::try_from(der.to_vec())
            .map_err(|error| TlsConfigError::new(option, format!("holds no private key: {error}")));
    };
    let password =
        password.ok_or_else(|| TlsConfigError::new("password", "the key is encrypted and no password is given"))?;
    key_cost::check(&encrypted.encryption_algorithm)
        .map_err(|reason| TlsConfigError::new(option, format!("the key cannot be decrypted: {reason}")))?;
    let plain = encrypted
        .decrypt(&password.0)
        .map_err(|error| TlsConfigError::new("password", format!("the key cannot be decrypted with it: {error}")))?;
    PrivateKeyDer::try_from(plain.as_bytes().to_vec())
        .map_err(|error| TlsConfigError::new(option, format!("decrypted, but no private key: {error}")))
}

fn is_pem(content: &[u8]) -> bool {
    find(content, b"-----BEGIN ").is_some()
}

fn encrypted_block(content: &[u8]) -> Option<&[u8]> {
    let block = &content[find(content, BEGIN_ENCRYPTED)?..];
    let end = find(block, END_ENCRYPTED)? + END_ENCRYPTED.len();
    Some(&block[..end])
}

fn find(content: &[u8], wanted: &[u8]) -> Option<usize> {
    content.windows(wanted.len()).position(|window| window == wanted)
}
