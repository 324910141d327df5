//! The TLS handshake, and what it agreed on.

use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, CommonState, Error, HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::cache;
use super::error::{LocalFailure, PeerAlert, TlsConfigError, TlsError};
use super::options::{ServerNameOption, TlsOptions};
use crate::net::error::ConnectError;

/// What a handshake agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    /// `"TLSv1.3"` or `"TLSv1.2"`.
    pub version: &'static str,
    /// The cipher suite, by its IANA name.
    pub cipher: String,
    /// The protocol that ALPN chose.
    pub alpn: Option<Vec<u8>>,
    /// The peer's own certificate, DER; of a client, only when it had to show one. On a resumed session, the one of the session's first handshake.
    pub peer_certificate: Option<Vec<u8>>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

/// A handshake that can begin as soon as there is a stream to run it on.
#[derive(Debug)]
pub struct Handshake {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    required_protocol: Option<Vec<u8>>,
}

impl Handshake {
    /// Gets the configuration for `options` with the sessions of `port`, and the name by which the peer at `host` has to be known.
    pub async fn prepare(host: &str, port: u16, options: &TlsOptions) -> Result<Self, TlsConfigError> {
        Ok(Self {
            name: server_name(host, &options.server_name)?,
            config: cache::client_config(options).await?.for_port(port),
            required_protocol: options.required_protocol.clone(),
        })
    }

    /// Runs the handshake. Dropping the future drops the stream.
    pub async fn run<S>(self, stream: S) -> Result<(TlsStream<S>, TlsFacts), ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = TlsConnector::from(self.config)
            .connect(self.name, stream)
            .await
            .map_err(failure)?;
        let facts = facts(stream.get_ref().1);
        if self.required_protocol.is_some() && facts.alpn != self.required_protocol {
            return Err(ConnectError::ProtocolNotNegotiated(facts.alpn));
        }
        Ok((stream, facts))
    }
}

fn server_name(host: &str, option: &ServerNameOption) -> Result<ServerName<'static>, TlsConfigError> {
    let name = match option {
        ServerNameOption::Named(name) => name,
        ServerNameOption::FromHost | ServerNameOption::Disable => without_zone(host),
    };
    ServerName::try_from(name.to_owned()).map_err(|_| {
        TlsConfigError::new(
            "server_name_indication",
            format!("\"{name}\" is neither a DNS name nor an IP address"),
        )
    })
}

/// The zone of a link-local address (`fe80::1%eth0`) means something on this machine only; certificates cannot hold it.
fn without_zone(host: &str) -> &str {
    match host.split_once('%') {
        Some((address, _)) if address.parse::<Ipv6Addr>().is_ok() => address,
        _ => host,
    }
}

/// What ended a handshake, on either side.
pub(super) fn failure(error: io::Error) -> ConnectError {
    match TlsError::from_io(&error) {
        Some(
            TlsError::Peer(PeerAlert {
                description: AlertDescription::NoApplicationProtocol,
                ..
            })
            | TlsError::Local(LocalFailure {
                error: Error::NoApplicationProtocol,
                ..
            }),
        ) => ConnectError::ProtocolNotNegotiated(None),
        Some(error) => ConnectError::Tls(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => ConnectError::HandshakeClosed,
        None => ConnectError::HandshakeIo(error),
    }
}

/// What a finished handshake agreed on, on either side.
pub(super) fn facts(connection: &CommonState) -> TlsFacts {
    TlsFacts {
        version: match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        },
        // rustls writes TLS 1.3 suites as TLS13_..., IANA as TLS_...
        cipher: connection
            .negotiated_cipher_suite()
            .map(|suite| format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1))
            .unwrap_or_default(),
        alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
        peer_certificate: connection
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|certificate| certificate.to_vec()),
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let named = |host| server_name(host, &ServerNameOption::FromHost);
        assert!(matches!(named("a.example"), Ok(ServerName::DnsName(_))));
        assert!(matches!(named("127.0.0.1"), Ok(ServerName::IpAddress(_))));
        assert!(matches!(named("::1"), Ok(ServerName::IpAddress(_))));
        assert!(matches!(named("fe80::1%eth0"), Ok(ServerName::IpAddress(_))));
        let error = named("not a name").expect_err("spaces");
        assert_eq!(error.option, "server_name_indication");
    }
}
