//! How the peer's certificate is judged.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::error::TlsConfigError;

/// Verification against trust anchors.
pub(super) fn against(
    roots: Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
    option: &'static str,
) -> Result<Arc<WebPkiServerVerifier>, TlsConfigError> {
    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|error| TlsConfigError::new(option, error.to_string()))
}

/// Verification against the caller's own trust anchors, which may also be the server's own certificate.
///
/// webpki insists that the server's certificate is not that of an authority and has one above it. Self-signed
/// certificates, of which `openssl req -x509` says that they are a CA, are neither; who puts one among the trusted
/// certificates means exactly it, and OTP's `ssl` takes it so.
#[derive(Debug)]
pub(super) struct OwnAnchors {
    pub(super) webpki: Arc<WebPkiServerVerifier>,
    pub(super) anchors: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for OwnAnchors {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let refused = match self
            .webpki
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        {
            Err(Error::InvalidCertificate(reason)) => reason,
            verdict => return verdict,
        };
        if is_trusted_itself(end_entity, &self.anchors, &refused) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        Err(refused.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Whether all that webpki missed in a certificate is an authority above it, and it is a trusted one itself.
fn is_trusted_itself(
    certificate: &CertificateDer<'_>,
    anchors: &[CertificateDer<'static>],
    refused: &CertificateError,
) -> bool {
    // webpki judges validity times before either of these two verdicts, so a certificate that gets one is valid now.
    // Tests with expired certificates hold on to this order.
    let only_trust_is_missing = match refused {
        CertificateError::UnknownIssuer => true,
        CertificateError::Other(other) => matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)),
        _ => false,
    };
    only_trust_is_missing && anchors.iter().any(|anchor| anchor == certificate)
}

/// Verification of clients against trust anchors.
pub(super) fn clients_against(
    roots: Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
    option: &'static str,
) -> Result<Arc<dyn ClientCertVerifier>, TlsConfigError> {
    WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|error| TlsConfigError::new(option, error.to_string()))
}

/// Verification of clients against the caller's own trust anchors, which may also be a client's own certificate: see
/// [`OwnAnchors`].
#[derive(Debug)]
pub(super) struct OwnClients {
    pub(super) webpki: Arc<dyn ClientCertVerifier>,
    pub(super) anchors: Vec<CertificateDer<'static>>,
}

impl ClientCertVerifier for OwnClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.webpki.verify_client_cert(end_entity, intermediates, now) {
            Err(Error::InvalidCertificate(reason)) if is_trusted_itself(end_entity, &self.anchors, &reason) => {
                Ok(ClientCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// No verification: any certificate will do.
///
/// That the peer holds the key of the certificate it shows is still checked, so that the certificate that is reported
/// is the peer's own.
#[derive(Debug)]
pub(super) struct Anyone(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        unless_version_1(verify_tls12_signature(message, cert, dss, algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        unless_version_1(verify_tls13_signature(message, cert, dss, algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// webpki cannot read certificates of X.509 version 1, which home-made servers still have. Someone who asked for no
/// verification wants to reach those, too; their signature goes unchecked.
fn unless_version_1(verdict: Result<HandshakeSignatureValid, Error>) -> Result<HandshakeSignatureValid, Error> {
    match verdict {
        Err(Error::InvalidCertificate(CertificateError::Other(other)))
            if matches!(other.0.downcast_ref(), Some(webpki::Error::UnsupportedCertVersion)) =>
        {
            Ok(HandshakeSignatureValid::assertion())
        }
        verdict => verdict,
    }
}
