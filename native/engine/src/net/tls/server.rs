//! TLS for connections that come in: options, the configuration built from them, and the handshake.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::task::spawn_blocking;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::cache::interrupted;
use super::config::{self, PROVIDER};
use super::error::{AtServer, TlsConfigError};
use super::files::Files;
use super::handshake::{TlsFacts, facts, failure};
use super::options::{H2, Identity, Roots, TlsVersion};
use super::renewal::{Renewable, RenewalListener};
use super::{identity, pem, roots, verify};
use crate::net::error::ConnectError;

/// Everything a caller may choose about the TLS of a listener. [`ServerTlsOptions::new`] has the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerTlsOptions {
    /// Who we are.
    pub identity: Identity,
    /// Whom to trust when clients are verified. Not looked at otherwise.
    pub client_roots: Option<Roots>,
    /// Whether clients have to show a certificate of [`client_roots`](Self::client_roots). By default they are not even
    /// asked for one.
    pub verify_client: bool,
    /// Protocol versions spoken. By default 1.3 and 1.2.
    pub versions: Vec<TlsVersion>,
    /// ALPN protocols spoken, best first; `"h2"`, the default, has to be among them.
    pub alpn: Vec<Vec<u8>>,
}

impl ServerTlsOptions {
    /// The defaults, with this certificate.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            client_roots: None,
            verify_client: false,
            versions: vec![TlsVersion::Tls13, TlsVersion::Tls12],
            alpn: vec![H2.to_vec()],
        }
    }
}

/// What handshakes with clients begin from.
#[derive(Debug)]
pub(in crate::net) struct Acceptor(Arc<Renewable>);

impl Acceptor {
    /// Reads the files that `options` name, and builds the configuration, away from the runtime's workers.
    pub(in crate::net) async fn prepare(options: &ServerTlsOptions) -> Result<Self, TlsConfigError> {
        let options = options.clone();
        let renewable = spawn_blocking(move || Renewable::new(options))
            .await
            .map_err(interrupted)??;
        Ok(Self(Arc::new(renewable)))
    }

    /// Has `listener` told when the files have changed.
    pub(in crate::net) fn tell(&self, listener: RenewalListener) {
        self.0.tell(listener);
    }

    /// Begins a handshake.
    pub(in crate::net) fn handshake(&self) -> ServerHandshake {
        ServerHandshake(Arc::clone(&self.0))
    }
}

/// A handshake that can begin as soon as the client speaks.
#[derive(Debug)]
pub(in crate::net) struct ServerHandshake(Arc<Renewable>);

impl ServerHandshake {
    /// Runs the handshake. Dropping the future drops the stream.
    pub(in crate::net) async fn run<S>(self, stream: S) -> Result<(TlsStream<S>, TlsFacts), ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = TlsAcceptor::from(self.0.config().await)
            .accept(stream)
            .await
            .map_err(|error| failure(AtServer::mark(error)))?;
        let facts = facts(stream.get_ref().1);
        if facts.alpn.as_deref() != Some(H2) {
            // A client that offers nothing by ALPN is not refused by the handshake. It is told in an orderly way; whether it
            // hears that does not matter.
            let _ = stream.shutdown().await;
            return Err(ConnectError::ProtocolNotNegotiated(facts.alpn));
        }
        Ok((stream, facts))
    }
}

/// Builds the configuration. Blocks.
pub(super) fn build(options: &ServerTlsOptions, files: &Files) -> Result<ServerConfig, TlsConfigError> {
    config::check_alpn(&options.alpn, "alpn_preferred_protocols")?;
    if !options.alpn.iter().any(|name| name == H2) {
        return Err(TlsConfigError::new(
            "alpn_preferred_protocols",
            "h2 is not among them, so no client could connect",
        ));
    }
    let provider = &*PROVIDER;
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&config::versions(&options.versions))
        .map_err(|error| TlsConfigError::new("versions", error.to_string()))?;
    let builder = match client_verifier(options, files)? {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut config = builder.with_cert_resolver(identity::load(&options.identity, files, provider)?);
    config.alpn_protocols.clone_from(&options.alpn);
    // The order of `PROVIDER` is one of speed on both sides.
    config.ignore_client_order = true;
    // The client keeps its session in a ticket, sealed with a key that only this configuration has: no memory is held for
    // clients that may never come back, and no session passes from one listener's trust to another's, or to that of renewed
    // files. Keys change every six hours, and a ticket, with what was verified when it was made, is good for twelve at most.
    config.ticketer = Ticketer::new().map_err(|error| TlsConfigError::new("ssl_options", error.to_string()))?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn client_verifier(
    options: &ServerTlsOptions,
    files: &Files,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsConfigError> {
    if !options.verify_client {
        return Ok(None);
    }
    let own = |anchors: Vec<CertificateDer<'static>>, option| {
        let webpki = verify::clients_against(roots::custom(&anchors, option)?, &PROVIDER, option)?;
        Ok(Some(
            Arc::new(verify::OwnClients { webpki, anchors }) as Arc<dyn ClientCertVerifier>
        ))
    };
    match &options.client_roots {
        None => Err(TlsConfigError::new(
            "cacerts",
            "clients are to be verified, but there is nobody to trust: give cacerts or cacertfile",
        )),
        Some(Roots::System) => verify::clients_against(roots::system()?, &PROVIDER, "cacerts").map(Some),
        Some(Roots::Der(anchors)) => own(anchors.iter().cloned().map(Into::into).collect(), "cacerts"),
        Some(Roots::PemFile(_)) => {
            let content = files.roots.as_deref().unwrap_or_default();
            own(pem::certificates(content, "cacertfile")?, "cacertfile")
        }
    }
}
