//! Session resumption and the key log.

use std::path::PathBuf;

use hackney_engine::net::{
    CertificateSource, Identity, KeySource, Roots, Secret, ServerNameOption, TlsOptions, TlsVersion, Verify,
};

use crate::certificates::Authority;
use crate::server::{Server, config};
use crate::{dial, echo, to, trusting};

/// Connects, exchanges something, and tells whether both sides agree that a session was resumed.
async fn resumed(server: &mut Server, options: &TlsOptions) -> bool {
    let mut connected = dial(&to("localhost", server.address, options.clone())).await.unwrap();
    echo(&mut connected.transport, b"ping").await;
    let seen = server.seen().await.unwrap();
    let facts = connected.tls.unwrap();
    assert_eq!(facts.resumed, seen.resumed);
    assert!(facts.peer_certificate.is_some());
    facts.resumed
}

#[tokio::test]
async fn the_second_connection_resumes() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let authority = Authority::new("resumption");
        let leaf = authority.issue(&["localhost"]);
        let mut server = Server::with(config(&leaf, &[version], None)).await;
        let options = trusting(authority.der());
        assert!(!resumed(&mut server, &options).await);
        assert!(resumed(&mut server, &options).await);
    }
}

#[tokio::test]
async fn a_session_is_never_resumed_under_other_trust() {
    let authority = Authority::new("trust");
    let other = Authority::new("other trust");
    let mut server = Server::start(&authority.issue(&["localhost", "trust.example"])).await;
    let client = authority.issue(&["client.example"]);
    // Sessions are kept by name, and who verifies nobody shares a configuration with the tests beside this one.
    let base = TlsOptions {
        server_name: ServerNameOption::Named("trust.example".into()),
        ..trusting(authority.der())
    };
    let different = [
        TlsOptions {
            verify: Verify::None,
            ..base.clone()
        },
        TlsOptions {
            roots: Roots::Der(vec![authority.der().to_vec(), other.der().to_vec()]),
            ..base.clone()
        },
        TlsOptions {
            identity: Some(Identity {
                certificate: CertificateSource::Der(vec![client.certificate.der().to_vec()]),
                key: KeySource::Der(Secret(client.key.serialize_der())),
                password: None,
            }),
            ..base.clone()
        },
        TlsOptions {
            versions: vec![TlsVersion::Tls13],
            ..base.clone()
        },
        TlsOptions {
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            ..base.clone()
        },
        TlsOptions {
            server_name: ServerNameOption::Disable,
            ..base.clone()
        },
    ];
    assert!(!resumed(&mut server, &base).await);
    // One after the other, each between uses of the first: the tests beside this one fill the same bounded cache, and what is unused
    // for longest leaves it.
    for options in &different {
        assert!(!resumed(&mut server, options).await, "{options:?}");
        assert!(resumed(&mut server, &base).await, "under its own");
        assert!(resumed(&mut server, options).await, "{options:?}");
    }
}

#[tokio::test]
async fn a_session_made_without_verification_does_not_open_the_door() {
    let authority = Authority::new("unverified");
    let stranger = Authority::new("stranger");
    let mut server = Server::start(&authority.issue(&["localhost"])).await;
    let insecure = TlsOptions {
        verify: Verify::None,
        ..trusting(stranger.der())
    };
    assert!(!resumed(&mut server, &insecure).await);
    let target = to("localhost", server.address, trusting(stranger.der()));
    assert_eq!(crate::alert(&target).await.0, "unknown_ca");
}

#[tokio::test]
async fn a_session_belongs_to_the_name_that_was_verified() {
    let authority = Authority::new("names");
    let mut server = Server::start(&authority.issue(&["localhost", "a.example"])).await;
    let by_host = trusting(authority.der());
    let by_name = TlsOptions {
        server_name: ServerNameOption::Named("a.example".into()),
        ..by_host.clone()
    };
    assert!(!resumed(&mut server, &by_host).await);
    assert!(!resumed(&mut server, &by_name).await);
    assert!(resumed(&mut server, &by_name).await);
}

#[tokio::test]
async fn resumption_can_be_switched_off() {
    let authority = Authority::new("no resumption");
    let mut server = Server::start(&authority.issue(&["localhost"])).await;
    let options = TlsOptions {
        resumption: false,
        ..trusting(authority.der())
    };
    assert!(!resumed(&mut server, &options).await);
    assert!(!resumed(&mut server, &options).await);
}

#[tokio::test]
async fn the_key_log_holds_the_secrets_of_each_connection() {
    let authority = Authority::new("key log");
    let mut server = Server::start(&authority.issue(&["localhost"])).await;
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("keys.log");
    let options = TlsOptions {
        keylog: Some(path.clone()),
        ..trusting(authority.der())
    };
    let randoms = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| {
                let parts: Vec<&str> = line.split(' ').collect();
                assert_eq!(parts.len(), 3, "{line}");
                assert_eq!(parts[1].len(), 64, "{line}");
                assert!(parts[2].len() >= 64, "{line}");
                parts[1].to_owned()
            })
            .collect()
    };
    assert!(!resumed(&mut server, &options).await);
    let first = std::fs::read_to_string(&path).unwrap();
    assert!(first.contains("CLIENT_TRAFFIC_SECRET_0 "), "{first}");
    assert!(first.contains("SERVER_HANDSHAKE_TRAFFIC_SECRET "), "{first}");
    let before = randoms(&first);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    resumed(&mut server, &options).await;
    let both = std::fs::read_to_string(&path).unwrap();
    assert!(both.starts_with(&first), "the log is appended to");
    let after = randoms(&both);
    assert!(after.iter().any(|random| !before.contains(random)));

    // A log that was moved away is begun anew.
    std::fs::remove_file(&path).unwrap();
    resumed(&mut server, &options).await;
    assert!(!std::fs::read_to_string(&path).unwrap().is_empty());
}

#[tokio::test]
async fn a_key_log_that_cannot_be_written_names_its_option() {
    let options = TlsOptions {
        keylog: Some("/nonexistent/keys.log".into()),
        ..TlsOptions::default()
    };
    let target = to("localhost", "127.0.0.1:1".parse().unwrap(), options);
    match dial(&target).await {
        Err(hackney_engine::net::ConnectError::Config(error)) => assert_eq!(error.option, "keylog"),
        other => panic!("accepted: {other:?}"),
    }
}
