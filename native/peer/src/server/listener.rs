//! Sockets: listens on the loopback addresses, makes TLS, starts a task per connection.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::Failure;
use crate::certificate::Identity;
use crate::server::Stack;

/// A peer that connects and does not speak TLS is let go after so long.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// A server that listens.
#[derive(Debug)]
pub struct Listener {
    v4: TcpListener,
    v6: Option<TcpListener>,
    tls: Option<Arc<ServerConfig>>,
}

impl Listener {
    /// Listens on 127.0.0.1, and on the same port of ::1 where there is one. Without an identity it
    /// speaks HTTP/2 in clear text.
    ///
    /// # Errors
    /// The port is taken, or TLS does not accept the identity.
    pub async fn bind(port: u16, identity: Option<Identity>) -> Result<Self, Failure> {
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, v4.local_addr()?.port()))
            .await
            .ok();
        let tls = identity.map(tls_config).transpose()?.map(Arc::new);
        Ok(Self { v4, v6, tls })
    }

    /// The port it listens on.
    ///
    /// # Errors
    /// The operating system's.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.v4.local_addr()?.port())
    }

    /// Serves until it is dropped.
    pub async fn serve<S: Stack>(self, stack: S) {
        let others = async {
            match &self.v6 {
                Some(listener) => self.accept_from(listener, &stack).await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(self.accept_from(&self.v4, &stack), others);
    }

    async fn accept_from<S: Stack>(&self, listener: &TcpListener, stack: &S) {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => {
                    tokio::spawn(greet(socket, self.tls.clone(), stack.clone()));
                }
                // Out of file descriptors, mostly: it passes when connections end.
                Err(error) => {
                    eprintln!("{}: accept: {error}", S::PROGRAM);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

fn tls_config(identity: Identity) -> Result<ServerConfig, Failure> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate], identity.key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Failures here are the peer's affair (a test that refuses our certificate, say) and end its connection only.
async fn greet<S: Stack>(socket: TcpStream, tls: Option<Arc<ServerConfig>>, stack: S) {
    // Without it, small answers wait for the peer's delayed ACK.
    let _ = socket.set_nodelay(true);
    match tls {
        None => stack.serve(socket).await,
        Some(config) => {
            let handshake = TlsAcceptor::from(config).accept(socket);
            if let Ok(Ok(secured)) = timeout(HANDSHAKE_DEADLINE, handshake).await {
                stack.serve(secured).await;
            }
        }
    }
}
