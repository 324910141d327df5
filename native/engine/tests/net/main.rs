//! The network layer against real peers on loopback: rustls servers made here, `openssl s_server` and `s_client`, and itself.
#![allow(clippy::unwrap_used, reason = "in a test a failed expectation is a panic")]

mod accepted_tls;
mod alpn;
mod certificates;
#[cfg(unix)]
mod handover;
mod http;
mod identity;
mod listen;
mod openssl;
mod openssl_client;
mod pipe;
mod server;
mod session;
mod system_roots;
mod tcp;
mod verify;

use std::net::SocketAddr;
use std::time::Duration;

use hackney_engine::net::{ConnectError, Connected, Dial, Roots, TcpOptions, TlsOptions, Transport, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Far longer than anything here takes; a test that hangs fails instead.
const DEADLINE: Duration = Duration::from_secs(20);

/// A dial to a server on loopback by the given name.
fn to(host: &str, address: SocketAddr, tls: TlsOptions) -> Dial {
    Dial {
        host: host.into(),
        port: address.port(),
        tcp: TcpOptions::default(),
        tls: Some(tls),
    }
}

/// Options that trust one authority.
fn trusting(der: &[u8]) -> TlsOptions {
    TlsOptions {
        roots: Roots::Der(vec![der.to_vec()]),
        ..TlsOptions::default()
    }
}

/// Connects within the tests' deadline.
async fn dial(dial: &Dial) -> Result<Connected, ConnectError> {
    tokio::time::timeout(DEADLINE, connect(dial))
        .await
        .expect("connect takes too long")
}

/// The alert and text of a connection that has to fail in TLS.
async fn alert(to: &Dial) -> (&'static str, String) {
    match dial(to).await {
        Err(ConnectError::Tls(error)) => (error.alert(), error.text()),
        other => panic!("no TLS alert: {other:?}"),
    }
}

/// Sends bytes and waits for as many back. Reading also takes in the session tickets that TLS 1.3 sends late.
async fn echo(transport: &mut Transport, sent: &[u8]) {
    let exchange = async {
        transport.write_all(sent).await.unwrap();
        transport.flush().await.unwrap();
        let mut received = vec![0; sent.len()];
        transport.read_exact(&mut received).await.unwrap();
        assert_eq!(received, sent);
    };
    tokio::time::timeout(DEADLINE, exchange)
        .await
        .expect("echo takes too long");
}
