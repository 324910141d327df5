//! Connects: TCP, TLS, HTTP/2, and one request per connection, as `h2_open` does.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::{Request, Uri};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Failure;
use crate::windows::{DATA_FRAME_BUDGET, Windows};

/// What may be queued on a stream beyond what the socket took: as much as hackney's API allows.
const MAX_SEND_BUFFER: usize = 1 << 20;

/// Knows a server and opens streams to it.
#[derive(Debug)]
pub struct Dialer {
    base: String,
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    windows: Windows,
}

impl Dialer {
    /// A dialer for `https://host:port`, which trusts the authority in the PEM file `cacert`, or for
    /// `http://host:port` in clear text.
    ///
    /// # Errors
    /// Not such a URL, no such file.
    pub fn new(url: &str, cacert: Option<&Path>, windows: Windows) -> Result<Self, Failure> {
        let uri: Uri = url.parse()?;
        let host = uri.host().ok_or("the URL names no host")?;
        let (tls, default_port) = match (uri.scheme_str(), cacert) {
            (Some("https"), Some(file)) => (Some(Arc::new(tls_config(file)?)), 443),
            (Some("https"), None) => return Err("https needs --cacert".into()),
            (Some("http"), _) => (None, 80),
            _ => return Err("the URL is neither http nor https".into()),
        };
        Ok(Self {
            base: url.trim_end_matches('/').to_owned(),
            // A literal IPv6 address stands in brackets in a URL, and nowhere else.
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(default_port),
            tls,
            windows,
        })
    }

    /// Opens a connection and on it a POST request for `path`, its body still to come.
    ///
    /// # Errors
    /// Whatever may go wrong on that way.
    pub async fn open(&self, path: &str) -> Result<(ResponseFuture, SendStream<Bytes>), Failure> {
        let socket = TcpStream::connect((self.host.as_str(), self.port)).await?;
        socket.set_nodelay(true)?;
        let mut requests = match &self.tls {
            None => self.handshake(socket).await?,
            Some(config) => {
                let name = ServerName::try_from(self.host.clone())?;
                let socket = TlsConnector::from(Arc::clone(config)).connect(name, socket).await?;
                if socket.get_ref().1.alpn_protocol() != Some(b"h2") {
                    return Err("the server did not agree on h2".into());
                }
                self.handshake(socket).await?
            }
        };
        let request = Request::post(format!("{}{path}", self.base)).body(())?;
        Ok(requests.send_request(request, false)?)
    }

    async fn handshake<T>(&self, socket: T) -> Result<SendRequest<Bytes>, Failure>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (requests, connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(self.windows.stream)
            .initial_connection_window_size(self.windows.connection)
            .max_send_buffer_size(MAX_SEND_BUFFER)
            .data_frame_budget(DATA_FRAME_BUDGET)
            .handshake(socket)
            .await?;
        // Its errors reach the streams as well, and are reported there.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(requests.ready().await?)
    }
}

fn tls_config(cacert: &Path) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(cacert)? {
        roots.add(certificate?)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
