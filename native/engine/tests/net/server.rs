//! A rustls server on loopback that echoes, and tells what it saw of each handshake.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::certificates::Leaf;

/// What the server saw of a client.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) sni: Option<String>,
    pub(crate) resumed: bool,
    pub(crate) certificate: Option<Vec<u8>>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    handshakes: mpsc::UnboundedReceiver<Result<Seen, String>>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Speaks h2 by ALPN with this certificate.
    pub(crate) async fn start(leaf: &Leaf) -> Self {
        Self::with(config(leaf, rustls::ALL_VERSIONS, None)).await
    }

    pub(crate) async fn with(config: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (seen, handshakes) = mpsc::unbounded_channel();
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), seen.clone());
                tokio::spawn(async move {
                    let mut stream = match acceptor.accept(socket).await {
                        Ok(stream) => stream,
                        Err(error) => return seen.send(Err(error.to_string())),
                    };
                    let session = stream.get_ref().1;
                    let sent = seen.send(Ok(Seen {
                        sni: session.server_name().map(str::to_owned),
                        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
                        certificate: session.peer_certificates().map(|chain| chain[0].as_ref().to_vec()),
                    }));
                    let (mut reader, mut writer) = tokio::io::split(&mut stream);
                    // Ends when the client does, in whatever way.
                    let _ = tokio::io::copy(&mut reader, &mut writer).await;
                    let _ = stream.shutdown().await;
                    sent
                });
            }
        });
        Self {
            address,
            handshakes,
            accepting,
        }
    }

    /// The next handshake, or why it failed.
    pub(crate) async fn seen(&mut self) -> Result<Seen, String> {
        tokio::time::timeout(crate::DEADLINE, self.handshakes.recv())
            .await
            .expect("no handshake arrives")
            .expect("the server runs")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A server configuration that speaks h2, and asks for a client certificate of `clients`, if that is given.
pub(crate) fn config(
    leaf: &Leaf,
    versions: &[&'static SupportedProtocolVersion],
    clients: Option<&[u8]>,
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.to_vec().into()).unwrap();
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .unwrap(),
            )
        }
    };
    let mut config = builder.with_single_cert(leaf.chain(), leaf.private_key()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}
