//! TLS of connections that come in, with our own client at the other end: what is agreed on, and who is refused how.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hackney_engine::net::{
    CertificateSource, ConnectError, Connected, Dial, Identity, KeySource, ListenError, ListenOptions, Listener, Roots,
    Secret, ServerTlsOptions, TlsConfigError, TlsError, TlsOptions, TlsVersion,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::certificates::{Authority, Leaf, as_authority, expired};
use crate::{DEADLINE, dial, to, trusting};

/// Options for loopback with this certificate.
pub(crate) fn options(leaf: &Leaf) -> ServerTlsOptions {
    ServerTlsOptions::new(identity(leaf))
}

/// Options that let in only clients of this authority.
pub(crate) fn demanding(leaf: &Leaf, clients: &[u8]) -> ServerTlsOptions {
    ServerTlsOptions {
        verify_client: true,
        client_roots: Some(Roots::Der(vec![clients.to_vec()])),
        ..options(leaf)
    }
}

fn identity(leaf: &Leaf) -> Identity {
    Identity {
        certificate: CertificateSource::Der(vec![leaf.certificate.der().to_vec()]),
        key: KeySource::Der(Secret(leaf.key.serialize_der())),
        password: None,
    }
}

async fn bind(tls: ServerTlsOptions) -> Result<Listener, ListenError> {
    let mut options = ListenOptions::new("127.0.0.1:0".parse().unwrap());
    options.tls = Some(tls);
    Listener::bind(&options).await
}

pub(crate) async fn listener(tls: ServerTlsOptions) -> Listener {
    bind(tls).await.unwrap()
}

async fn refused(tls: ServerTlsOptions) -> TlsConfigError {
    match bind(tls).await {
        Err(ListenError::Config(error)) => error,
        other => panic!("accepted: {other:?}"),
    }
}

/// The next connection, greeted within the tests' deadline.
pub(crate) async fn greet(listener: &Listener) -> Result<Connected, ConnectError> {
    tokio::time::timeout(DEADLINE, async { listener.accept().await.greet().await })
        .await
        .expect("greeting takes too long")
}

type Outcome = Result<Connected, ConnectError>;

/// What client and server make of each other.
async fn meet(listener: &Listener, client: TlsOptions) -> (Outcome, Outcome) {
    let target: Dial = to("localhost", listener.local_addr(), client);
    tokio::join!(dial(&target), greet(listener))
}

/// The same, when both have to be content: client and server, after a word in each direction.
async fn content(listener: &Listener, client: TlsOptions) -> (Connected, Connected) {
    let (near, far) = meet(listener, client).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    let talk = async {
        near.transport.write_all(b"ping").await.unwrap();
        near.transport.flush().await.unwrap();
        assert_eq!(far.transport.read_u32().await.unwrap().to_be_bytes(), *b"ping");
        far.transport.write_all(b"pong").await.unwrap();
        far.transport.flush().await.unwrap();
        assert_eq!(near.transport.read_u32().await.unwrap().to_be_bytes(), *b"pong");
    };
    tokio::time::timeout(DEADLINE, talk).await.unwrap();
    (near, far)
}

/// Why the server refuses: alert and text.
fn alert(outcome: Outcome) -> (&'static str, String) {
    match outcome {
        Err(ConnectError::Tls(error)) => (error.alert(), error.text()),
        other => panic!("no TLS alert: {other:?}"),
    }
}

#[tokio::test]
async fn what_both_sides_know_afterwards() {
    let authority = Authority::new("server");
    let listener = listener(options(&authority.issue(&["localhost"]))).await;
    let (near, far) = content(&listener, trusting(authority.der())).await;
    assert_eq!((near.local, near.peer), (far.peer, far.local));
    assert_eq!(far.local, listener.local_addr());
    let (near, far) = (near.tls.unwrap(), far.tls.unwrap());
    assert_eq!(far.version, "TLSv1.3");
    assert_eq!(far.cipher, "TLS_AES_128_GCM_SHA256");
    assert_eq!(far.alpn.as_deref(), Some(&b"h2"[..]));
    assert_eq!(far.peer_certificate, None);
    assert!(!far.resumed);
    assert_eq!(
        (near.version, near.cipher, near.alpn),
        (far.version, far.cipher, far.alpn)
    );
}

#[tokio::test]
async fn sessions_are_resumed_by_ticket_on_the_listener_that_gave_it_only() {
    for version in [TlsVersion::Tls13, TlsVersion::Tls12] {
        let authority = Authority::new("tickets");
        let server = ServerTlsOptions {
            versions: vec![version],
            ..options(&authority.issue(&["localhost"]))
        };
        let (one, other) = (listener(server.clone()).await, listener(server).await);
        let client = trusting(authority.der());
        let resumed = async |listener: &Listener| {
            let (near, far) = content(listener, client.clone()).await;
            let resumed = far.tls.unwrap().resumed;
            assert_eq!(near.tls.unwrap().resumed, resumed);
            resumed
        };
        assert!(!resumed(&one).await);
        assert!(resumed(&one).await, "{version:?}");
        assert!(!resumed(&other).await, "{version:?}");
        // What the other gave is not offered to this one, though their names are the same.
        assert!(resumed(&one).await, "{version:?}");
    }
}

#[tokio::test]
async fn a_client_with_the_right_certificate() {
    for version in [TlsVersion::Tls13, TlsVersion::Tls12] {
        let authority = Authority::new("mutual");
        let server = ServerTlsOptions {
            versions: vec![version],
            ..demanding(&authority.issue(&["localhost"]), authority.der())
        };
        let listener = listener(server).await;
        let leaf = authority.issue(&["client.example"]);
        let client = TlsOptions {
            identity: Some(identity(&leaf)),
            ..trusting(authority.der())
        };
        for resumed in [false, true] {
            let (_, far) = content(&listener, client.clone()).await;
            let facts = far.tls.unwrap();
            assert_eq!(facts.peer_certificate.as_deref(), Some(&**leaf.certificate.der()));
            assert_eq!(facts.resumed, resumed, "{version:?}");
        }
    }
}

#[tokio::test]
async fn a_client_whose_own_certificate_is_trusted() {
    let authority = Authority::new("pinned");
    let leaf = authority.issue(&["localhost"]);
    let with = |client: &Leaf| TlsOptions {
        identity: Some(identity(client)),
        ..trusting(authority.der())
    };
    // As `openssl req -x509` makes them, and as others do.
    for change in [as_authority, |_: &mut rcgen::CertificateParams| {}] {
        let pinned = Leaf::self_signed(&["client.example"], change);
        let listener = listener(demanding(&leaf, pinned.certificate.der())).await;
        content(&listener, with(&pinned)).await;
        let other = Leaf::self_signed(&["client.example"], |params| {
            change(params);
            params.distinguished_name.push(rcgen::DnType::CommonName, "other");
        });
        let (_, far) = meet(&listener, with(&other)).await;
        assert_eq!(alert(far).0, "unknown_ca");
    }
    let stale = Leaf::self_signed(&["client.example"], |params| {
        as_authority(params);
        expired(params);
    });
    let listener = listener(demanding(&leaf, stale.certificate.der())).await;
    let (_, far) = meet(&listener, with(&stale)).await;
    assert_eq!(alert(far).0, "certificate_expired");
}

#[tokio::test]
async fn clients_that_are_not_let_in() {
    let authority = Authority::new("demanding");
    let listener = listener(demanding(&authority.issue(&["localhost"]), authority.der())).await;
    let stranger = Authority::new("stranger").issue(&["client.example"]);
    let stale = authority.issue_with(&["client.example"], expired);
    let cases = [
        (
            None,
            "certificate_required",
            "the peer has no certificate, and one is required",
        ),
        (
            Some(&stranger),
            "unknown_ca",
            "the peer's certificate is not signed by a trusted authority",
        ),
        (
            Some(&stale),
            "certificate_expired",
            "the peer's certificate expired at 2021-01-01 00:00:00 UTC",
        ),
    ];
    for (client, name, text) in cases {
        let client = TlsOptions {
            identity: client.map(identity),
            ..trusting(authority.der())
        };
        let (near, far) = meet(&listener, client).await;
        assert_eq!(alert(far), (name, format!("TLS server: {text}")));
        // In TLS 1.3 the client is done before the server has looked: it hears of it when it reads.
        let error = near.unwrap().transport.read_u8().await.unwrap_err();
        assert_eq!(TlsError::from_io(&error).unwrap().alert(), name);
    }
}

#[tokio::test]
async fn a_client_that_refuses_us() {
    let authority = Authority::new("refused");
    let listener = listener(options(&authority.issue(&["localhost"]))).await;
    let (near, far) = meet(&listener, trusting(Authority::new("other").der())).await;
    assert_eq!(alert(near).0, "unknown_ca");
    let (name, text) = alert(far);
    assert_eq!(name, "unknown_ca");
    assert_eq!(
        text,
        "TLS server: the peer sent the alert unknown_ca: it does not trust the issuer of our certificate"
    );
}

#[tokio::test]
async fn errors_after_the_handshake_are_those_of_a_server_too() {
    let authority = Authority::new("later");
    let listener = listener(options(&authority.issue(&["localhost"]))).await;
    let (near, mut far) = content(&listener, trusting(authority.der())).await;
    // Below TLS, a record that no key fits: application data of 32 bytes.
    near.transport.tcp().writable().await.unwrap();
    let mut record = vec![23, 3, 3, 0, 32];
    record.extend([7; 32]);
    assert_eq!(near.transport.tcp().try_write(&record).unwrap(), record.len());
    let error = far.transport.read_u8().await.unwrap_err();
    let error = TlsError::from_io(&error).expect("a TLS error");
    assert_eq!(error.alert(), "bad_record_mac");
    assert!(error.text().starts_with("TLS server: "), "{}", error.text());
}

#[tokio::test]
async fn versions_that_one_side_rules_out() {
    let authority = Authority::new("versions");
    let leaf = authority.issue(&["localhost"]);
    let only = |version| TlsOptions {
        versions: vec![version],
        ..trusting(authority.der())
    };
    for (ours, theirs) in [
        (TlsVersion::Tls12, TlsVersion::Tls13),
        (TlsVersion::Tls13, TlsVersion::Tls12),
    ] {
        let listener = listener(ServerTlsOptions {
            versions: vec![ours],
            ..options(&leaf)
        })
        .await;
        let (near, far) = meet(&listener, only(theirs)).await;
        assert_eq!(alert(near).0, "protocol_version");
        let (name, text) = alert(far);
        assert_eq!(name, "protocol_version");
        assert!(text.contains("the option versions"), "{text}");
        content(&listener, only(ours)).await;
    }
}

#[tokio::test]
async fn what_alpn_agrees_on() {
    let authority = Authority::new("ALPN");
    let leaf = authority.issue(&["localhost"]);
    let only_h2 = listener(options(&leaf)).await;
    let both = listener(ServerTlsOptions {
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        ..options(&leaf)
    })
    .await;
    let offering = |protocols: &[&[u8]]| TlsOptions {
        alpn: protocols.iter().map(|name| name.to_vec()).collect(),
        required_protocol: None,
        ..trusting(authority.der())
    };
    // The server's order counts.
    let (_, far) = content(&both, offering(&[b"http/1.1", b"h2"])).await;
    assert_eq!(far.tls.unwrap().alpn.as_deref(), Some(&b"h2"[..]));

    let agreed = |outcome: Outcome| match outcome {
        Err(ConnectError::ProtocolNotNegotiated(agreed)) => agreed,
        other => panic!("negotiated: {other:?}"),
    };
    let (near, far) = meet(&only_h2, offering(&[b"http/1.1"])).await;
    assert_eq!(agreed(far), None);
    assert_eq!(agreed(near), None);
    let (near, far) = meet(&both, offering(&[b"http/1.1"])).await;
    assert_eq!(agreed(far).as_deref(), Some(&b"http/1.1"[..]));
    // An orderly end, as far as the client can see.
    assert_eq!(near.unwrap().transport.read(&mut [0]).await.unwrap(), 0);
    let (near, far) = meet(&only_h2, offering(&[])).await;
    assert_eq!(agreed(far), None);
    assert_eq!(near.unwrap().transport.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn clients_that_speak_no_tls_or_hang_up() {
    let authority = Authority::new("no TLS");
    let listener = listener(options(&authority.issue(&["localhost"]))).await;
    let connect = || async { TcpStream::connect(listener.local_addr()).await.unwrap() };

    let mut client = connect().await;
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let (name, text) = alert(greet(&listener).await);
    assert_eq!(name, "unexpected_message");
    assert_eq!(text, "TLS server: what the peer sent is not TLS");

    drop(connect().await);
    assert!(matches!(greet(&listener).await, Err(ConnectError::HandshakeClosed)));

    let client = connect().await;
    client.set_zero_linger().unwrap();
    drop(client);
    match greet(&listener).await {
        // Linux gives a connection that was reset in the queue to whoever accepts, and tells then.
        Err(ConnectError::HandshakeIo(error)) => {
            assert_eq!(hackney_engine::net::errno::name(&error), "econnreset");
        }
        other => panic!("greeted: {other:?}"),
    }
}

#[tokio::test]
async fn certificates_and_keys_from_files() {
    let authority = Authority::new("files");
    let leaf = authority.issue(&["localhost"]);
    let folder = TempDir::new().unwrap();
    let file = |name: &str, content: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let certificate = file("cert.pem", leaf.certificate.pem().as_bytes());
    let key = file("key.pem", leaf.key.serialize_pem().as_bytes());
    let roots = file("ca.pem", authority.certificate.pem().as_bytes());
    let encrypted = folder.path().join("encrypted.pem");
    let done = std::process::Command::new("openssl")
        .args(["pkcs8", "-topk8", "-passout", "pass:opensesame", "-in"])
        .arg(&key)
        .arg("-out")
        .arg(&encrypted)
        .output()
        .expect("openssl is installed");
    assert!(done.status.success());
    let from = |certificate: &PathBuf, key: &PathBuf, password: Option<&str>| ServerTlsOptions {
        client_roots: Some(Roots::PemFile(roots.clone())),
        verify_client: true,
        ..ServerTlsOptions::new(Identity {
            certificate: CertificateSource::File(certificate.clone()),
            key: KeySource::File(key.clone()),
            password: password.map(|text| Secret(text.into())),
        })
    };
    let client = TlsOptions {
        identity: Some(identity(&authority.issue(&["client.example"]))),
        ..trusting(authority.der())
    };
    content(&listener(from(&certificate, &key, None)).await, client.clone()).await;
    content(
        &listener(from(&certificate, &encrypted, Some("opensesame"))).await,
        client,
    )
    .await;

    let garbage = file("garbage", b"\x00\x01\x02 no PEM");
    let missing = folder.path().join("missing.pem");
    let cases = [
        (from(&missing, &key, None), "certfile"),
        (from(&garbage, &key, None), "certfile"),
        (from(&key, &key, None), "certfile"),
        (from(&certificate, &missing, None), "keyfile"),
        (from(&certificate, &garbage, None), "keyfile"),
        (from(&certificate, &certificate, None), "keyfile"),
        (from(&certificate, &encrypted, None), "password"),
        (from(&certificate, &encrypted, Some("wrong")), "password"),
    ];
    for (tls, option) in cases {
        let error = refused(tls).await;
        assert_eq!(error.option, option, "{error}");
    }
    for path in [missing, garbage] {
        let error = refused(ServerTlsOptions {
            client_roots: Some(Roots::PemFile(path)),
            ..from(&certificate, &key, None)
        })
        .await;
        assert_eq!(error.option, "cacertfile", "{error}");
    }
}

#[tokio::test]
async fn options_that_cannot_be_meant() {
    let authority = Authority::new("options");
    let leaf = authority.issue(&["localhost"]);
    let alpn = |names: &[&[u8]]| ServerTlsOptions {
        alpn: names.iter().map(|name| name.to_vec()).collect(),
        ..options(&leaf)
    };
    let other = authority.issue(&["localhost"]);
    let cases = [
        (
            ServerTlsOptions {
                verify_client: true,
                ..options(&leaf)
            },
            "cacerts",
        ),
        (demanding(&leaf, b"junk"), "cacerts"),
        (
            ServerTlsOptions {
                versions: vec![],
                ..options(&leaf)
            },
            "versions",
        ),
        (alpn(&[]), "alpn_preferred_protocols"),
        (alpn(&[b"http/1.1"]), "alpn_preferred_protocols"),
        (alpn(&[b"h2", b""]), "alpn_preferred_protocols"),
        (
            ServerTlsOptions::new(Identity {
                key: identity(&other).key,
                ..identity(&leaf)
            }),
            "key",
        ),
    ];
    for (tls, option) in cases {
        let error = refused(tls).await;
        assert_eq!(error.option, option, "{error}");
    }
}

/// A listener whose certificate is in files, and what it tells of them.
struct Filed {
    folder: TempDir,
    listener: Listener,
    news: std::sync::mpsc::Receiver<Result<(), TlsConfigError>>,
}

impl Filed {
    async fn with(leaf: &Leaf) -> Self {
        let folder = TempDir::new().unwrap();
        store(&folder, leaf);
        let tls = stored_in(folder.path());
        Filed::listening(folder, tls).await
    }

    async fn listening(folder: TempDir, tls: ServerTlsOptions) -> Self {
        let listener = listener(tls).await;
        let (tell, news) = std::sync::mpsc::channel();
        listener.tell_of_renewal(Box::new(move |renewal| tell.send(renewal).unwrap()));
        Filed { folder, listener, news }
    }

    /// The next news; somebody connects again and again meanwhile, and is welcome.
    async fn hears(&self, client: &TlsOptions) -> Result<(), TlsConfigError> {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            // Which certificate it is shown is decided before anything is told.
            let _ = meet(&self.listener, client.clone()).await;
            if let Ok(news) = self.news.try_recv() {
                return news;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(tokio::time::Instant::now() < deadline, "nothing is told");
        }
    }
}

fn store(folder: &TempDir, leaf: &Leaf) {
    std::fs::write(folder.path().join("certificate.pem"), leaf.certificate.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), leaf.key.serialize_pem()).unwrap();
}

fn stored_in(folder: &Path) -> ServerTlsOptions {
    ServerTlsOptions::new(Identity {
        certificate: CertificateSource::File(folder.join("certificate.pem")),
        key: KeySource::File(folder.join("key.pem")),
        password: None,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_renewed_is_used() {
    let (before, after) = (Authority::new("before"), Authority::new("after"));
    let filed = Filed::with(&before.issue(&["localhost"])).await;
    content(&filed.listener, trusting(before.der())).await;
    store(&filed.folder, &after.issue(&["localhost"]));
    assert_eq!(filed.hears(&trusting(after.der())).await, Ok(()));
    content(&filed.listener, trusting(after.der())).await;
    // Whoever had a session from before has to look at the new certificate.
    let (near, _) = meet(&filed.listener, trusting(before.der())).await;
    assert_eq!(alert(near).0, "unknown_ca");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_cannot_be_used_replaces_none() {
    let authority = Authority::new("steady");
    let filed = Filed::with(&authority.issue(&["localhost"])).await;
    let key = filed.folder.path().join("key.pem");
    let client = trusting(authority.der());
    // Of a renewal, one file was written so far.
    let renewed = authority.issue(&["localhost"]);
    std::fs::write(&key, renewed.key.serialize_pem()).unwrap();
    let failure = filed.hears(&client).await.unwrap_err();
    assert_eq!(
        (failure.option, &*failure.text),
        ("keyfile", "the key does not belong to the certificate")
    );
    content(&filed.listener, client.clone()).await;
    std::fs::remove_file(&key).unwrap();
    let failure = filed.hears(&client).await.unwrap_err();
    assert_eq!(failure.option, "keyfile");
    assert!(failure.text.contains("No such file"), "{}", failure.text);
    content(&filed.listener, client.clone()).await;
    store(&filed.folder, &renewed);
    assert_eq!(filed.hears(&client).await, Ok(()));
    content(&filed.listener, client).await;
}

/// As certbot and Kubernetes do it: the folder that is named is a link, and another takes its place at once.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_behind_a_link_is_renewed() {
    let (before, after) = (Authority::new("linked before"), Authority::new("linked since"));
    let folder = TempDir::new().unwrap();
    let versions = [TempDir::new_in(&folder).unwrap(), TempDir::new_in(&folder).unwrap()];
    store(&versions[0], &before.issue(&["localhost"]));
    store(&versions[1], &after.issue(&["localhost"]));
    let (link, next) = (folder.path().join("live"), folder.path().join("next"));
    let point_to = |version: &TempDir| {
        std::os::unix::fs::symlink(version.path(), &next).unwrap();
        std::fs::rename(&next, &link).unwrap();
    };
    point_to(&versions[0]);
    let filed = Filed::listening(folder, stored_in(&link)).await;
    content(&filed.listener, trusting(before.der())).await;
    point_to(&versions[1]);
    assert_eq!(filed.hears(&trusting(after.der())).await, Ok(()));
    content(&filed.listener, trusting(after.der())).await;
}

/// Nobody has come while it was renewed: the first ones, however many they are, wait until that is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_shown_a_certificate_that_was_replaced_long_ago() {
    let (before, after) = (Authority::new("long ago"), Authority::new("since"));
    let filed = Filed::with(&before.issue(&["localhost"])).await;
    store(&filed.folder, &after.issue(&["localhost"]));
    for name in ["certificate.pem", "key.pem"] {
        let file = std::fs::File::options()
            .write(true)
            .open(filed.folder.path().join(name));
        file.unwrap()
            .set_modified(SystemTime::now() - Duration::from_secs(3600))
            .unwrap();
    }
    // What it has read is not fresh any more then.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let clients = (0..10).map(|_| {
        let target = to("localhost", filed.listener.local_addr(), trusting(after.der()));
        tokio::spawn(async move { dial(&target).await })
    });
    let clients: Vec<_> = clients.collect();
    for _ in &clients {
        let incoming = filed.listener.accept().await;
        tokio::spawn(incoming.greet());
    }
    for client in clients {
        client.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_to_trust_is_renewed_too() {
    let (before, after) = (Authority::new("trusted before"), Authority::new("trusted since"));
    let folder = TempDir::new().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, before.certificate.pem()).unwrap();
    let leaf = before.issue(&["localhost"]);
    let tls = ServerTlsOptions {
        verify_client: true,
        client_roots: Some(Roots::PemFile(roots.clone())),
        ..options(&leaf)
    };
    let filed = Filed::listening(folder, tls).await;
    let client = |authority: &Authority| TlsOptions {
        identity: Some(identity(&authority.issue(&["client.example"]))),
        ..trusting(before.der())
    };
    let (old, new) = (client(&before), client(&after));
    content(&filed.listener, old.clone()).await;
    std::fs::write(&roots, after.certificate.pem()).unwrap();
    assert_eq!(filed.hears(&old).await, Ok(()));
    content(&filed.listener, new).await;
    let (_, far) = meet(&filed.listener, old).await;
    assert_eq!(alert(far).0, "unknown_ca");
}
