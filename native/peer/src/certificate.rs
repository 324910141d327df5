//! A fresh certificate authority and a server certificate under it, made anew at every start.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::Failure;

/// The names the certificate is good for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A server's identity, and where a client finds the authority to trust.
#[derive(Debug)]
pub struct Identity {
    /// The server's certificate.
    pub certificate: CertificateDer<'static>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
    /// PEM file with the authority's certificate.
    pub authority_file: PathBuf,
}

impl Identity {
    /// Makes an authority and a certificate for the loopback names, and writes `ca.pem`, `cert.pem` and
    /// `key.pem` into `directory`, which is created when it is missing.
    ///
    /// # Errors
    /// No randomness, or the files cannot be written.
    pub fn fresh(directory: &Path) -> Result<Self, Failure> {
        let authority = CertifiedIssuer::self_signed(authority_params()?, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let certificate = server_params()?.signed_by(&key, &authority)?;

        fs::create_dir_all(directory)?;
        // Absolute: who reads the path may work in another folder.
        let authority_file = directory.canonicalize()?.join("ca.pem");
        fs::write(&authority_file, authority.pem())?;
        fs::write(directory.join("cert.pem"), certificate.pem())?;
        write_private(&directory.join("key.pem"), &key.serialize_pem())?;
        Ok(Self {
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der())?,
            authority_file,
        })
    }
}

fn authority_params() -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, "h2-server development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for_days(&mut params, 30);
    Ok(params)
}

fn server_params() -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    valid_for_days(&mut params, 30);
    Ok(params)
}

/// Valid since yesterday: the clocks of two containers need not agree to the second.
fn valid_for_days(params: &mut CertificateParams, days: u32) {
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * days).into();
}

/// Only the owner may read a private key, from the moment that the file exists.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    // An older file would keep its own mode.
    if let Err(error) = fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?
        .write_all(text.as_bytes())
}
