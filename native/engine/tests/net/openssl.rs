//! The same against `openssl s_server`, a peer that nobody here wrote.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use hackney_engine::net::{
    CertificateSource, ConnectError, Identity, KeySource, Roots, Secret, ServerNameOption, TlsError, TlsOptions, Verify,
};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::certificates::Authority;
use crate::{alert, dial, to, trusting};

/// `openssl s_server` on loopback, sending every line back reversed.
struct Peer {
    address: SocketAddr,
    /// Kept open: `s_server` ends when it cannot write.
    _output: Lines<BufReader<ChildStdout>>,
    /// Killed when dropped.
    _process: Child,
}

/// An authority and a certificate of its for localhost, in files.
struct Fixture {
    authority: Authority,
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let authority = Authority::new("for openssl");
        let leaf = authority.issue(&["localhost"]);
        let folder = TempDir::new().unwrap();
        let write = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        write("cert.pem", leaf.certificate.pem());
        write("key.pem", leaf.key.serialize_pem());
        write("ca.pem", authority.certificate.pem());
        Self { authority, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs an `openssl` command in the folder.
    async fn openssl(&self, arguments: &[&str]) {
        let done = Command::new("openssl")
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .await
            .expect("openssl is installed");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    async fn serve(&self, arguments: &[&str]) -> Peer {
        let mut process = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-rev"])
            .args(["-cert", "cert.pem", "-key", "key.pem"])
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("openssl is installed");
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = loop {
            let line = output.next_line().await.unwrap().expect("s_server starts");
            if let Some(address) = line.strip_prefix("ACCEPT ") {
                break address.parse().unwrap();
            }
        };
        Peer {
            address,
            _output: output,
            _process: process,
        }
    }
}

/// Connects and sees a line come back reversed.
async fn talk(peer: &Peer, options: TlsOptions) -> hackney_engine::net::Connected {
    let mut connected = dial(&to("localhost", peer.address, options)).await.unwrap();
    let exchange = async {
        connected.transport.write_all(b"stressed\n").await.unwrap();
        connected.transport.flush().await.unwrap();
        let mut answer = [0; 9];
        connected.transport.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"desserts\n");
    };
    tokio::time::timeout(crate::DEADLINE, exchange).await.unwrap();
    connected
}

#[tokio::test]
async fn both_versions_and_resumption() {
    let fixture = Fixture::new();
    for (flag, version) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
        let peer = fixture.serve(&["-alpn", "h2", flag]).await;
        let options = trusting(fixture.authority.der());
        let first = talk(&peer, options.clone()).await.tls.unwrap();
        assert_eq!(first.version, version);
        assert_eq!(first.alpn.as_deref(), Some(&b"h2"[..]));
        assert!(!first.resumed);
        assert!(talk(&peer, options).await.tls.unwrap().resumed, "{version}");
    }
}

#[tokio::test]
async fn sni_chooses_the_certificate() {
    let fixture = Fixture::new();
    let by_name = fixture.authority.issue(&["localhost"]);
    std::fs::write(fixture.path("cert2.pem"), by_name.certificate.pem()).unwrap();
    std::fs::write(fixture.path("key2.pem"), by_name.key.serialize_pem()).unwrap();
    let peer = fixture
        .serve(&[
            "-alpn",
            "h2",
            "-servername",
            "localhost",
            "-cert2",
            "cert2.pem",
            "-key2",
            "key2.pem",
        ])
        .await;
    // s_server speaks no ALPN under its second certificate.
    let named = TlsOptions {
        required_protocol: None,
        ..trusting(fixture.authority.der())
    };
    let unnamed = TlsOptions {
        server_name: ServerNameOption::Disable,
        ..named.clone()
    };
    for (options, chosen) in [(named, true), (unnamed, false)] {
        let shown = talk(&peer, options).await.tls.unwrap().peer_certificate;
        assert_eq!(shown.as_deref() == Some(&**by_name.certificate.der()), chosen);
    }
}

#[tokio::test]
async fn alpn_mismatch_and_absence() {
    let fixture = Fixture::new();
    // s_server ignores a mismatch unless told otherwise; either way the outcome is the same.
    for arguments in [&["-alpn", "http/1.1"][..], &[]] {
        let peer = fixture.serve(arguments).await;
        let target = to("localhost", peer.address, trusting(fixture.authority.der()));
        match dial(&target).await {
            Err(ConnectError::ProtocolNotNegotiated(None)) => {}
            other => panic!("negotiated: {other:?}"),
        }
    }
}

#[tokio::test]
async fn client_certificates() {
    let fixture = Fixture::new();
    let client = fixture.authority.issue(&["client.example"]);
    let own = TlsOptions {
        identity: Some(Identity {
            certificate: CertificateSource::Pem(client.certificate.pem().into()),
            key: KeySource::Pem(Secret(client.key.serialize_pem().into())),
            password: None,
        }),
        ..trusting(fixture.authority.der())
    };
    let demanding = [
        "-alpn",
        "h2",
        "-Verify",
        "1",
        "-verify_return_error",
        "-CAfile",
        "ca.pem",
    ];
    let modern = fixture.serve(&demanding).await;
    let old = fixture.serve(&[&demanding[..], &["-tls1_2"]].concat()).await;
    talk(&modern, own.clone()).await;
    talk(&old, own).await;

    let mut connected = dial(&to("localhost", modern.address, trusting(fixture.authority.der())))
        .await
        .unwrap();
    let error = connected.transport.read_u8().await.unwrap_err();
    assert_eq!(TlsError::from_io(&error).unwrap().alert(), "certificate_required");

    let target = to("localhost", old.address, trusting(fixture.authority.der()));
    let (name, text) = alert(&target).await;
    assert_eq!(name, "handshake_failure");
    assert!(text.contains("client certificate"), "{text}");
}

#[tokio::test]
async fn the_certificate_that_openssl_makes_by_default_when_it_is_trusted() {
    let fixture = Fixture::new();
    fixture
        .openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ])
        .await;
    let peer = fixture.serve(&["-alpn", "h2"]).await;
    let trusted = TlsOptions {
        roots: Roots::PemFile(fixture.path("cert.pem")),
        ..TlsOptions::default()
    };
    talk(&peer, trusted).await;
    let target = to("localhost", peer.address, trusting(fixture.authority.der()));
    assert_eq!(alert(&target).await.0, "unknown_ca");
}

#[tokio::test]
async fn version_1_certificates() {
    let fixture = Fixture::new();
    // Made the way most instructions on the web make them.
    fixture
        .openssl(&[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-keyout",
            "key.pem",
            "-out",
            "request.pem",
        ])
        .await;
    fixture
        .openssl(&[
            "x509",
            "-req",
            "-in",
            "request.pem",
            "-signkey",
            "key.pem",
            "-days",
            "1",
            "-out",
            "cert.pem",
        ])
        .await;
    let insecure = TlsOptions {
        verify: Verify::None,
        ..TlsOptions::default()
    };
    let own = TlsOptions {
        identity: Some(Identity {
            certificate: CertificateSource::File(fixture.path("cert.pem")),
            key: KeySource::File(fixture.path("key.pem")),
            password: None,
        }),
        ..insecure.clone()
    };
    for flag in ["-tls1_3", "-tls1_2"] {
        let peer = fixture.serve(&["-alpn", "h2", "-Verify", "1", flag]).await;
        talk(&peer, own.clone()).await;
        let peer = fixture.serve(&["-alpn", "h2", flag]).await;
        talk(&peer, insecure.clone()).await;
        let target = to("localhost", peer.address, trusting(fixture.authority.der()));
        let (name, text) = alert(&target).await;
        assert_eq!(name, "unsupported_certificate");
        assert!(text.contains("version 3"), "{text}");
    }
}
