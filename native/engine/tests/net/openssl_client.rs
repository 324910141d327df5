//! Our listener against `openssl s_client`, a client that nobody here wrote.

use std::path::PathBuf;
use std::process::Stdio;

use hackney_engine::net::{ConnectError, Connected, Listener};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::DEADLINE;
use crate::accepted_tls::{demanding, greet, listener, options};
use crate::certificates::{Authority, expired};

struct Fixture {
    authority: Authority,
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let authority = Authority::new("for openssl");
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.certificate.pem()).unwrap();
        Self { authority, folder }
    }

    fn write(&self, name: &str, content: String) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Lets `s_client` say a line to a connection that says one back and closes. What it printed, and what we made of it.
    async fn visit(&self, listener: &Listener, arguments: &[&str]) -> (String, Result<Connected, ConnectError>) {
        let mut client = Command::new("openssl")
            .args(["s_client", "-connect", &listener.local_addr().to_string()])
            .args([
                "-servername",
                "localhost",
                "-CAfile",
                "ca.pem",
                "-verify_return_error",
                "-ign_eof",
            ])
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("openssl is installed");
        let mut stdin = client.stdin.take().unwrap();
        let serve = async {
            let mut greeted = greet(listener).await;
            if let Ok(connected) = &mut greeted {
                stdin.write_all(b"stressed\n").await.unwrap();
                let mut line = [0; 9];
                connected.transport.read_exact(&mut line).await.unwrap();
                assert_eq!(&line, b"stressed\n");
                connected.transport.write_all(b"desserts\n").await.unwrap();
                connected.transport.flush().await.unwrap();
                connected.transport.shutdown().await.unwrap();
            }
            greeted
        };
        let visit = async { tokio::join!(serve, client.wait_with_output()) };
        let (greeted, output) = tokio::time::timeout(DEADLINE, visit).await.expect("takes too long");
        let output = output.unwrap();
        let printed = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&printed).into_owned(), greeted)
    }
}

#[tokio::test]
async fn both_versions_and_resumption() {
    let fixture = Fixture::new();
    let listener = listener(options(&fixture.authority.issue(&["localhost"]))).await;
    for (flag, version) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
        let hello = ["-alpn", "h2", flag];
        let (printed, greeted) = fixture
            .visit(&listener, &[&hello[..], &["-sess_out", "session.pem"]].concat())
            .await;
        let facts = greeted.unwrap().tls.unwrap();
        assert_eq!(facts.version, version);
        assert!(!facts.resumed);
        assert!(printed.contains("desserts"), "{printed}");
        assert!(printed.contains("ALPN protocol: h2"), "{printed}");
        assert!(printed.contains("Verify return code: 0 (ok)"), "{printed}");

        let (printed, greeted) = fixture
            .visit(&listener, &[&hello[..], &["-sess_in", "session.pem"]].concat())
            .await;
        assert!(greeted.unwrap().tls.unwrap().resumed, "{printed}");
        assert!(printed.contains("Reused, "), "{printed}");
    }
}

#[tokio::test]
async fn our_order_of_cipher_suites_counts() {
    let fixture = Fixture::new();
    let listener = listener(options(&fixture.authority.issue(&["localhost"]))).await;
    let suites = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256";
    let (_, greeted) = fixture
        .visit(&listener, &["-alpn", "h2", "-tls1_3", "-ciphersuites", suites])
        .await;
    assert_eq!(greeted.unwrap().tls.unwrap().cipher, "TLS_AES_128_GCM_SHA256");
}

#[tokio::test]
async fn clients_without_our_protocol() {
    let fixture = Fixture::new();
    let listener = listener(options(&fixture.authority.issue(&["localhost"]))).await;
    let (printed, greeted) = fixture.visit(&listener, &[]).await;
    assert!(
        matches!(greeted, Err(ConnectError::ProtocolNotNegotiated(None))),
        "{greeted:?}"
    );
    assert!(printed.contains("No ALPN negotiated"), "{printed}");
    let (printed, greeted) = fixture.visit(&listener, &["-alpn", "http/1.1"]).await;
    assert!(
        matches!(greeted, Err(ConnectError::ProtocolNotNegotiated(None))),
        "{greeted:?}"
    );
    assert!(printed.contains("alert number 120"), "{printed}");
}

#[tokio::test]
async fn client_certificates() {
    let fixture = Fixture::new();
    let authority = &fixture.authority;
    let listener = listener(demanding(&authority.issue(&["localhost"]), authority.der())).await;
    let leaves = [
        ("good", authority.issue(&["client.example"]), None),
        (
            "stale",
            authority.issue_with(&["client.example"], expired),
            Some("certificate_expired"),
        ),
        (
            "strange",
            Authority::new("stranger").issue(&["client.example"]),
            Some("unknown_ca"),
        ),
    ];
    for flag in ["-tls1_3", "-tls1_2"] {
        for (name, leaf, alert) in &leaves {
            fixture.write("cert.pem", leaf.certificate.pem());
            fixture.write("key.pem", leaf.key.serialize_pem());
            let own = ["-alpn", "h2", flag, "-cert", "cert.pem", "-key", "key.pem"];
            let (printed, greeted) = fixture.visit(&listener, &own).await;
            match (greeted, alert) {
                (Ok(connected), None) => {
                    let shown = connected.tls.unwrap().peer_certificate;
                    assert_eq!(shown.as_deref(), Some(&**leaf.certificate.der()));
                }
                (Err(ConnectError::Tls(error)), Some(alert)) => {
                    assert_eq!(error.alert(), *alert, "{printed}");
                    assert!(printed.contains("alert"), "{printed}");
                }
                (other, _) => panic!("{name} {flag}: {other:?}"),
            }
        }
        let (_, greeted) = fixture.visit(&listener, &["-alpn", "h2", flag]).await;
        match greeted {
            Err(ConnectError::Tls(error)) => assert_eq!(error.alert(), "certificate_required"),
            other => panic!("{flag}: {other:?}"),
        }
    }
}
