//! TLS options as plain data. What files hold is read when a connection is made, not here.

use std::fmt;
use std::path::PathBuf;

/// HTTP/2's ALPN name (RFC 9113 section 3.2).
pub const H2: &[u8] = b"h2";

/// Everything a caller may choose about TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TlsOptions {
    /// Whether the peer has to prove who it is.
    pub verify: Verify,
    /// Whom to trust. Not looked at under [`Verify::None`].
    pub roots: Roots,
    /// Who we are, for a peer that asks for a client certificate.
    pub identity: Option<Identity>,
    /// The name sent to the peer (SNI) and the name its certificate has to hold.
    pub server_name: ServerNameOption,
    /// Protocol versions offered.
    pub versions: Vec<TlsVersion>,
    /// ALPN protocols offered, best first.
    pub alpn: Vec<Vec<u8>>,
    /// The protocol that ALPN must agree on, else [`ProtocolNotNegotiated`](crate::net::ConnectError). `None` takes
    /// whatever comes.
    pub required_protocol: Option<Vec<u8>>,
    /// File to which session secrets are appended, in the NSS key log format. Whoever reads it can read the traffic.
    pub keylog: Option<PathBuf>,
    /// Whether sessions are resumed. They are kept per configuration, so that a session made under one trust is never
    /// resumed under another.
    pub resumption: bool,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            verify: Verify::Peer,
            roots: Roots::System,
            identity: None,
            server_name: ServerNameOption::FromHost,
            versions: vec![TlsVersion::Tls13, TlsVersion::Tls12],
            alpn: vec![H2.to_vec()],
            required_protocol: Some(H2.to_vec()),
            keylog: None,
            resumption: true,
        }
    }
}

/// Whether the peer's certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verify {
    /// Chain, validity and name are checked.
    Peer,
    /// Nothing about the certificate is checked: anyone in between can read and change the traffic.
    None,
}

/// Whom to trust.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Roots {
    /// The operating system's roots; `SSL_CERT_FILE` and `SSL_CERT_DIR` override them. Loaded once per process.
    System,
    /// DER certificates.
    Der(Vec<Vec<u8>>),
    /// File of certificates, PEM or one in DER.
    PemFile(PathBuf),
}

/// A certificate chain and its private key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The chain, our own certificate first.
    pub certificate: CertificateSource,
    /// The key of the first certificate.
    pub key: KeySource,
    /// Password of an encrypted PKCS#8 key.
    pub password: Option<Secret>,
}

/// Where a certificate chain comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CertificateSource {
    /// DER, one per certificate.
    Der(Vec<Vec<u8>>),
    /// PEM text; other sections in it are passed over.
    Pem(Vec<u8>),
    /// File with either.
    File(PathBuf),
}

/// Where a private key comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// DER: PKCS#8 (plain or encrypted), PKCS#1 or SEC1.
    Der(Secret),
    /// PEM text; other sections in it are passed over.
    Pem(Secret),
    /// File with either. For a file that holds certificate and key together, the path of the certificate.
    File(PathBuf),
}

/// The name sent to the peer (SNI) and the name its certificate has to hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerNameOption {
    /// The host that is dialled. An IP literal sends no SNI (RFC 6066 section 3) and is verified as an IP address.
    FromHost,
    /// This name, for both.
    Named(String),
    /// No SNI; the certificate has to hold the host that is dialled.
    Disable,
}

/// A TLS protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246); only ephemeral key exchange and authenticated encryption.
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// Bytes that must not show up in logs.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
