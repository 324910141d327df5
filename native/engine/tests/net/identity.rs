//! Who we are: every form in which certificate and key may come.

use std::path::{Path, PathBuf};
use std::process::Command;

use hackney_engine::net::{
    CertificateSource, ConnectError, Identity, KeySource, Secret, TlsConfigError, TlsError, TlsOptions,
};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

use crate::certificates::{Authority, Leaf};
use crate::server::{Server, config};
use crate::{dial, echo, to, trusting};

/// A server that wants client certificates, a client that has one, and a folder for files.
struct Mutual {
    authority: Authority,
    client: Leaf,
    server: Server,
    folder: TempDir,
}

impl Mutual {
    async fn new() -> Self {
        Self::with_versions(rustls::ALL_VERSIONS).await
    }

    async fn with_versions(versions: &[&'static rustls::SupportedProtocolVersion]) -> Self {
        let authority = Authority::new("mutual");
        let leaf = authority.issue(&["localhost"]);
        let server = Server::with(config(&leaf, versions, Some(authority.der()))).await;
        Self {
            client: authority.issue(&["client.example"]),
            authority,
            server,
            folder: TempDir::new().unwrap(),
        }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn options(&self, identity: Option<Identity>) -> TlsOptions {
        TlsOptions {
            identity,
            ..trusting(self.authority.der())
        }
    }

    async fn accepted(&mut self, identity: Identity) {
        let target = to("localhost", self.server.address, self.options(Some(identity)));
        let mut connected = dial(&target).await.unwrap();
        echo(&mut connected.transport, b"ping").await;
        let seen = self.server.seen().await.unwrap();
        assert_eq!(seen.certificate, Some(self.client.certificate.der().to_vec()));
    }

    async fn refused(&self, identity: Identity) -> TlsConfigError {
        let target = to("localhost", self.server.address, self.options(Some(identity)));
        match dial(&target).await {
            Err(ConnectError::Config(error)) => error,
            other => panic!("accepted: {other:?}"),
        }
    }

    fn der(&self) -> CertificateSource {
        CertificateSource::Der(vec![self.client.certificate.der().to_vec()])
    }

    fn pem(&self) -> String {
        self.client.certificate.pem()
    }

    /// The client's key, in the form that these arguments make OpenSSL write.
    fn converted(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let plain = self.file("plain.pem", self.client.key.serialize_pem());
        let converted = self.folder.path().join(name);
        openssl(arguments, &plain, &converted);
        converted
    }
}

fn openssl(arguments: &[&str], input: &Path, output: &Path) {
    let done = Command::new("openssl")
        .args(arguments)
        .arg("-in")
        .arg(input)
        .arg("-out")
        .arg(output)
        .output()
        .expect("openssl is installed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn identity(certificate: CertificateSource, key: KeySource) -> Identity {
    Identity {
        certificate,
        key,
        password: None,
    }
}

fn secret(bytes: impl AsRef<[u8]>) -> Secret {
    Secret(bytes.as_ref().to_vec())
}

#[tokio::test]
async fn der() {
    let mut mutual = Mutual::new().await;
    let key = KeySource::Der(secret(mutual.client.key.serialize_der()));
    mutual.accepted(identity(mutual.der(), key)).await;
}

#[tokio::test]
async fn pem_text() {
    let mut mutual = Mutual::new().await;
    let certificate = CertificateSource::Pem(mutual.pem().into());
    let key = KeySource::Pem(secret(mutual.client.key.serialize_pem()));
    mutual.accepted(identity(certificate, key)).await;
}

#[tokio::test]
async fn pem_files() {
    let mut mutual = Mutual::new().await;
    let certificate = CertificateSource::File(mutual.file("cert.pem", mutual.pem()));
    let key = KeySource::File(mutual.file("key.pem", mutual.client.key.serialize_pem()));
    mutual.accepted(identity(certificate, key)).await;
}

#[tokio::test]
async fn der_files() {
    let mut mutual = Mutual::new().await;
    let certificate = CertificateSource::File(mutual.file("cert.der", mutual.client.certificate.der()));
    let key = KeySource::File(mutual.file("key.der", mutual.client.key.serialize_der()));
    mutual.accepted(identity(certificate, key)).await;
}

#[tokio::test]
async fn one_file_for_both() {
    let mut mutual = Mutual::new().await;
    let both = mutual.client.key.serialize_pem() + &mutual.pem();
    let path = mutual.file("both.pem", both);
    mutual
        .accepted(identity(CertificateSource::File(path.clone()), KeySource::File(path)))
        .await;
}

#[tokio::test]
async fn sec1_key_as_openssl_writes_it() {
    let mut mutual = Mutual::new().await;
    let pem = mutual.converted("sec1.pem", &["ec"]);
    mutual.accepted(identity(mutual.der(), KeySource::File(pem))).await;
    let der = std::fs::read(mutual.converted("sec1.der", &["ec", "-outform", "DER"])).unwrap();
    mutual
        .accepted(identity(mutual.der(), KeySource::Der(secret(der))))
        .await;
}

#[tokio::test]
async fn encrypted_keys() {
    let mut mutual = Mutual::new().await;
    let forms: [&[&str]; 5] = [
        &["pkcs8", "-topk8", "-passout", "pass:opensesame"],
        &["pkcs8", "-topk8", "-passout", "pass:opensesame", "-scrypt"],
        &["pkcs8", "-topk8", "-passout", "pass:opensesame", "-v2", "des3"],
        &[
            "pkcs8",
            "-topk8",
            "-passout",
            "pass:opensesame",
            "-v2",
            "aes-128-cbc",
            "-v2prf",
            "hmacWithSHA1",
        ],
        &["pkcs8", "-topk8", "-passout", "pass:opensesame", "-outform", "DER"],
    ];
    for form in forms {
        let key = KeySource::File(mutual.converted("encrypted", form));
        let own = Identity {
            certificate: mutual.der(),
            key,
            password: Some(secret("opensesame")),
        };
        mutual.accepted(own.clone()).await;
        let wrong = mutual
            .refused(Identity {
                password: Some(secret("wrong")),
                ..own.clone()
            })
            .await;
        assert_eq!(wrong.option, "password", "{wrong}");
        let missing = mutual.refused(Identity { password: None, ..own }).await;
        assert_eq!(missing.option, "password", "{missing}");
    }
}

#[tokio::test]
async fn old_pem_encryption_is_refused_with_a_way_out() {
    let mutual = Mutual::new().await;
    let key = mutual.converted("old.pem", &["ec", "-aes128", "-passout", "pass:opensesame"]);
    let error = mutual
        .refused(Identity {
            certificate: mutual.der(),
            key: KeySource::File(key),
            password: Some(secret("opensesame")),
        })
        .await;
    assert_eq!(error.option, "keyfile");
    assert!(error.text.contains("openssl pkcs8 -topk8"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_used_names_its_option() {
    let mutual = Mutual::new().await;
    let key = || KeySource::Der(secret(mutual.client.key.serialize_der()));
    let no_key = mutual.file("no-key.pem", mutual.pem());
    let other = mutual.authority.issue(&["other.example"]);
    let missing = || PathBuf::from("/nonexistent/file.pem");
    let cases = [
        (CertificateSource::File(missing()), key(), "certfile"),
        (CertificateSource::Pem(b"junk".to_vec()), key(), "cert"),
        (CertificateSource::Der(vec![]), key(), "cert"),
        (CertificateSource::Der(vec![b"junk".to_vec()]), key(), "cert"),
        (mutual.der(), KeySource::File(missing()), "keyfile"),
        (mutual.der(), KeySource::File(no_key), "keyfile"),
        (mutual.der(), KeySource::Der(secret("junk")), "key"),
        (mutual.der(), KeySource::Der(secret(other.key.serialize_der())), "key"),
    ];
    for (certificate, key, option) in cases {
        let error = mutual.refused(identity(certificate, key)).await;
        assert_eq!(error.option, option, "{error}");
    }
}

#[test]
fn secrets_are_not_printed() {
    let own = Identity {
        certificate: CertificateSource::Der(vec![]),
        key: KeySource::Pem(secret("the key")),
        password: Some(secret("the password")),
    };
    let printed = format!("{own:?}");
    assert!(printed.contains("Secret(..)"));
    assert!(!printed.contains(&format!("{:?}", b"the key")));
    assert!(!printed.contains("116, 104, 101"));
}

#[tokio::test]
async fn a_missing_client_certificate_is_told_on_the_first_read_in_tls_13() {
    let mutual = Mutual::new().await;
    let target = to("localhost", mutual.server.address, mutual.options(None));
    let mut connected = dial(&target).await.unwrap();
    let error = tokio::time::timeout(crate::DEADLINE, connected.transport.read_u8())
        .await
        .unwrap()
        .unwrap_err();
    let error = TlsError::from_io(&error).expect("a TLS alert");
    assert_eq!(error.alert(), "certificate_required");
    assert!(error.text().contains("the peer sent the alert certificate_required"));
    assert!(TlsError::from_io(&std::io::ErrorKind::ConnectionReset.into()).is_none());
}

#[tokio::test]
async fn a_missing_client_certificate_ends_the_handshake_in_tls_12() {
    let mutual = Mutual::with_versions(&[&rustls::version::TLS12]).await;
    let target = to("localhost", mutual.server.address, mutual.options(None));
    let (name, text) = crate::alert(&target).await;
    // rustls's server says certificate_required here too; other servers say handshake_failure.
    assert_eq!(name, "certificate_required");
    assert!(text.starts_with("TLS client: the peer sent the alert"), "{text}");
}

#[tokio::test]
async fn a_client_certificate_of_an_unknown_authority() {
    let mutual = Mutual::with_versions(&[&rustls::version::TLS12]).await;
    let stranger = Authority::new("stranger").issue(&["client.example"]);
    let own = identity(
        CertificateSource::Der(vec![stranger.certificate.der().to_vec()]),
        KeySource::Der(secret(stranger.key.serialize_der())),
    );
    let target = to("localhost", mutual.server.address, mutual.options(Some(own)));
    let (name, text) = crate::alert(&target).await;
    assert_eq!(name, "unknown_ca");
    assert!(text.contains("issuer of our certificate"), "{text}");
}
