//! Whom we believe.

use std::io::Write;
use std::time::{Duration, Instant};

use hackney_engine::net::{ConnectError, Roots, ServerNameOption, TlsOptions, Verify};

use crate::certificates::{Authority, Leaf, as_authority, expired, not_yet_valid};
use crate::server::Server;
use crate::{DEADLINE, alert, dial, echo, to, trusting};

#[tokio::test]
async fn a_trusted_peer_and_what_is_known_of_it() {
    let authority = Authority::new("trusted");
    let leaf = authority.issue(&["localhost"]);
    let mut server = Server::start(&leaf).await;
    let mut connected = dial(&to("localhost", server.address, trusting(authority.der())))
        .await
        .unwrap();
    echo(&mut connected.transport, b"ping").await;
    let facts = connected.tls.unwrap();
    assert_eq!(facts.version, "TLSv1.3");
    assert!(facts.cipher.starts_with("TLS_"), "{}", facts.cipher);
    assert_eq!(facts.alpn.as_deref(), Some(&b"h2"[..]));
    assert_eq!(facts.peer_certificate.as_deref(), Some(&**leaf.certificate.der()));
    assert!(!facts.resumed);
    assert_eq!(connected.peer, server.address);
    assert_eq!(connected.local, connected.transport.tcp().local_addr().unwrap());
    assert!(connected.transport.tcp().nodelay().unwrap());
    assert_eq!(server.seen().await.unwrap().sni.as_deref(), Some("localhost"));
}

#[tokio::test]
async fn an_expired_certificate() {
    let authority = Authority::new("expired");
    let server = Server::start(&authority.issue_with(&["localhost"], expired)).await;
    let (name, text) = alert(&to("localhost", server.address, trusting(authority.der()))).await;
    assert_eq!(name, "certificate_expired");
    assert!(text.ends_with("expired at 2021-01-01 00:00:00 UTC"), "{text}");
}

#[tokio::test]
async fn a_certificate_of_the_future() {
    let authority = Authority::new("future");
    let server = Server::start(&authority.issue_with(&["localhost"], not_yet_valid)).await;
    let (name, text) = alert(&to("localhost", server.address, trusting(authority.der()))).await;
    assert_eq!(name, "certificate_expired");
    assert!(text.ends_with("not valid before 3000-01-01 00:00:00 UTC"), "{text}");
}

#[tokio::test]
async fn a_certificate_for_another_name() {
    let authority = Authority::new("another name");
    let mut server = Server::start(&authority.issue(&["a.example", "*.b.example"])).await;
    let (name, text) = alert(&to("localhost", server.address, trusting(authority.der()))).await;
    assert_eq!(name, "hostname_check_failed");
    assert_eq!(
        text,
        "TLS client: the peer's certificate is not valid for host 'localhost' (it names: a.example, *.b.example)"
    );
    // The server is told, too.
    let reason = server.seen().await.unwrap_err();
    assert!(reason.contains("BadCertificate"), "{reason}");
}

#[tokio::test]
async fn an_unknown_authority() {
    let trusted = Authority::new("one");
    let other = Authority::new("other");
    let mut server = Server::start(&other.issue(&["localhost"])).await;
    let (name, text) = alert(&to("localhost", server.address, trusting(trusted.der()))).await;
    assert_eq!(name, "unknown_ca");
    assert!(text.contains("trusted authority"), "{text}");
    let reason = server.seen().await.unwrap_err();
    assert!(reason.contains("UnknownCA"), "{reason}");
}

#[tokio::test]
async fn an_ip_address_is_verified_and_not_sent_as_sni() {
    let authority = Authority::new("IP");
    let mut server = Server::start(&authority.issue(&["127.0.0.1"])).await;
    dial(&to("127.0.0.1", server.address, trusting(authority.der())))
        .await
        .unwrap();
    assert_eq!(server.seen().await.unwrap().sni, None);

    let server = Server::start(&authority.issue(&["127.0.0.2", "localhost"])).await;
    let (name, text) = alert(&to("127.0.0.1", server.address, trusting(authority.der()))).await;
    assert_eq!(name, "hostname_check_failed");
    assert!(text.contains("'127.0.0.1' (it names: 127.0.0.2"), "{text}");
}

#[tokio::test]
async fn sni_disabled_still_verifies_the_host() {
    let authority = Authority::new("no SNI");
    let options = TlsOptions {
        server_name: ServerNameOption::Disable,
        ..trusting(authority.der())
    };
    let mut server = Server::start(&authority.issue(&["localhost"])).await;
    dial(&to("localhost", server.address, options.clone())).await.unwrap();
    assert_eq!(server.seen().await.unwrap().sni, None);

    let server = Server::start(&authority.issue(&["a.example"])).await;
    let (name, _) = alert(&to("localhost", server.address, options)).await;
    assert_eq!(name, "hostname_check_failed");
}

#[tokio::test]
async fn a_given_name_is_sent_and_verified() {
    let authority = Authority::new("named");
    let options = TlsOptions {
        server_name: ServerNameOption::Named("a.example".into()),
        ..trusting(authority.der())
    };
    let mut server = Server::start(&authority.issue(&["a.example"])).await;
    dial(&to("127.0.0.1", server.address, options.clone())).await.unwrap();
    assert_eq!(server.seen().await.unwrap().sni.as_deref(), Some("a.example"));

    let server = Server::start(&authority.issue(&["localhost", "127.0.0.1"])).await;
    let (name, _) = alert(&to("127.0.0.1", server.address, options)).await;
    assert_eq!(name, "hostname_check_failed");
}

#[tokio::test]
async fn a_self_signed_certificate_among_the_trusted_ones_is_accepted() {
    for change in [as_authority, |_: &mut rcgen::CertificateParams| {}] {
        let leaf = Leaf::self_signed(&["localhost"], change);
        let server = Server::start(&leaf).await;
        dial(&to("localhost", server.address, trusting(leaf.certificate.der())))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_certificate_that_is_itself_trusted_needs_no_authority() {
    let authority = Authority::new("not given");
    let leaf = authority.issue(&["localhost"]);
    let server = Server::start(&leaf).await;
    dial(&to("localhost", server.address, trusting(leaf.certificate.der())))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_trusted_self_signed_certificate_is_still_judged_by_time_and_name() {
    let leaf = Leaf::self_signed(&["localhost"], |params| {
        as_authority(params);
        expired(params);
    });
    let server = Server::start(&leaf).await;
    let (name, _) = alert(&to("localhost", server.address, trusting(leaf.certificate.der()))).await;
    assert_eq!(name, "certificate_expired");

    let authority = Authority::new("gone");
    let leaf = authority.issue_with(&["localhost"], expired);
    let server = Server::start(&leaf).await;
    let (name, _) = alert(&to("localhost", server.address, trusting(leaf.certificate.der()))).await;
    assert_eq!(name, "certificate_expired");

    let leaf = Leaf::self_signed(&["a.example"], as_authority);
    let server = Server::start(&leaf).await;
    let (name, _) = alert(&to("localhost", server.address, trusting(leaf.certificate.der()))).await;
    assert_eq!(name, "hostname_check_failed");
}

#[tokio::test]
async fn a_self_signed_certificate_that_nobody_trusts() {
    let other = Authority::new("someone else");
    for change in [as_authority, |_: &mut rcgen::CertificateParams| {}] {
        let server = Server::start(&Leaf::self_signed(&["localhost"], change)).await;
        let (name, _) = alert(&to("localhost", server.address, trusting(other.der()))).await;
        assert_eq!(name, "unknown_ca");
    }
}

#[tokio::test]
async fn without_verification_anyone_will_do() {
    let options = TlsOptions {
        verify: Verify::None,
        // Not looked at.
        roots: Roots::PemFile("/nonexistent/roots.pem".into()),
        ..TlsOptions::default()
    };
    let leaf = Leaf::self_signed(&["a.example"], expired);
    let server = Server::start(&leaf).await;
    let connected = dial(&to("localhost", server.address, options)).await.unwrap();
    let certificate = connected.tls.unwrap().peer_certificate.unwrap();
    assert_eq!(certificate, leaf.certificate.der().to_vec());
}

#[tokio::test]
async fn roots_from_a_file_that_changes() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let options = TlsOptions {
        roots: Roots::PemFile(file.path().into()),
        ..TlsOptions::default()
    };
    let server = Server::start(&second.issue(&["localhost"])).await;
    let target = to("localhost", server.address, options);
    file.write_all(first.certificate.pem().as_bytes()).unwrap();
    assert_eq!(alert(&target).await.0, "unknown_ca");
    file.write_all(second.certificate.pem().as_bytes()).unwrap();
    // Files are taken to be what they were for a second. Nothing tells when it is over, so it is tried.
    let changed = Instant::now();
    while dial(&target).await.is_err() {
        assert!(changed.elapsed() < DEADLINE, "the new file was never read");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn roots_from_a_file_in_der() {
    let authority = Authority::new("der");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), authority.der()).unwrap();
    let options = TlsOptions {
        roots: Roots::PemFile(file.path().into()),
        ..TlsOptions::default()
    };
    let server = Server::start(&authority.issue(&["localhost"])).await;
    dial(&to("localhost", server.address, options)).await.unwrap();
}

#[tokio::test]
async fn roots_that_cannot_be_used_name_their_option() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "no certificates here").unwrap();
    let cases = [
        (Roots::PemFile("/nonexistent/roots.pem".into()), "cacertfile"),
        (Roots::PemFile(file.path().into()), "cacertfile"),
        (Roots::Der(vec![]), "cacerts"),
        (Roots::Der(vec![b"junk".to_vec()]), "cacerts"),
    ];
    for (roots, option) in cases {
        let options = TlsOptions {
            roots,
            ..TlsOptions::default()
        };
        // Port 1 is never reached: options are judged first.
        let target = to("localhost", "127.0.0.1:1".parse().unwrap(), options);
        match dial(&target).await {
            Err(ConnectError::Config(error)) => assert_eq!(error.option, option, "{error}"),
            other => panic!("accepted: {other:?}"),
        }
    }
}
