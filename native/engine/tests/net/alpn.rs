//! What ALPN agrees on, TLS versions, and peers that end or garble the handshake.

use hackney_engine::net::{ConnectError, TlsOptions, TlsVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::certificates::Authority;
use crate::server::{Server, config};
use crate::{alert, dial, to, trusting};

async fn server(protocols: &[&[u8]]) -> (Authority, Server) {
    let authority = Authority::new("ALPN");
    let mut config = config(&authority.issue(&["localhost"]), rustls::ALL_VERSIONS, None);
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    (authority, Server::with(config).await)
}

async fn not_negotiated(options: TlsOptions, server: &Server) -> Option<Vec<u8>> {
    match dial(&to("localhost", server.address, options)).await {
        Err(ConnectError::ProtocolNotNegotiated(chosen)) => chosen,
        other => panic!("negotiated: {other:?}"),
    }
}

#[tokio::test]
async fn a_peer_without_alpn() {
    let (authority, server) = server(&[]).await;
    assert_eq!(not_negotiated(trusting(authority.der()), &server).await, None);
}

#[tokio::test]
async fn a_peer_that_refuses_every_offer() {
    let (authority, server) = server(&[b"http/1.1"]).await;
    assert_eq!(not_negotiated(trusting(authority.der()), &server).await, None);
}

#[tokio::test]
async fn a_peer_that_chooses_another_offer() {
    let (authority, server) = server(&[b"http/1.1"]).await;
    let options = TlsOptions {
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        ..trusting(authority.der())
    };
    let chosen = not_negotiated(options.clone(), &server).await;
    assert_eq!(chosen.as_deref(), Some(&b"http/1.1"[..]));

    let anything = TlsOptions {
        required_protocol: None,
        ..options
    };
    let connected = dial(&to("localhost", server.address, anything)).await.unwrap();
    assert_eq!(connected.tls.unwrap().alpn.as_deref(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn an_impossible_protocol_name_names_its_option() {
    let options = TlsOptions {
        alpn: vec![vec![b'x'; 256]],
        ..TlsOptions::default()
    };
    let target = to("localhost", "127.0.0.1:1".parse().unwrap(), options);
    match dial(&target).await {
        Err(ConnectError::Config(error)) => assert_eq!(error.option, "alpn_advertised_protocols"),
        other => panic!("accepted: {other:?}"),
    }
}

#[tokio::test]
async fn versions() {
    let authority = Authority::new("versions");
    let leaf = authority.issue(&["localhost"]);
    let only = |versions: Vec<TlsVersion>| TlsOptions {
        versions,
        ..trusting(authority.der())
    };
    let old = Server::with(config(&leaf, &[&rustls::version::TLS12], None)).await;
    let new = Server::with(config(&leaf, &[&rustls::version::TLS13], None)).await;

    let connected = dial(&to("localhost", old.address, trusting(authority.der())))
        .await
        .unwrap();
    let facts = connected.tls.unwrap();
    assert_eq!(facts.version, "TLSv1.2");
    assert!(facts.cipher.starts_with("TLS_ECDHE_"), "{}", facts.cipher);

    let connected = dial(&to("localhost", new.address, only(vec![TlsVersion::Tls13])))
        .await
        .unwrap();
    assert_eq!(connected.tls.unwrap().version, "TLSv1.3");

    let (name, _) = alert(&to("localhost", old.address, only(vec![TlsVersion::Tls13]))).await;
    assert_eq!(name, "protocol_version");
    let (name, _) = alert(&to("localhost", new.address, only(vec![TlsVersion::Tls12]))).await;
    assert_eq!(name, "protocol_version");

    match dial(&to("localhost", new.address, only(vec![]))).await {
        Err(ConnectError::Config(error)) => assert_eq!(error.option, "versions"),
        other => panic!("accepted: {other:?}"),
    }
}

#[tokio::test]
async fn a_peer_that_does_not_speak_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let peer = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        // Until the client hangs up.
        let _ = socket.read_to_end(&mut Vec::new()).await;
    });
    let authority = Authority::new("not TLS");
    let (name, text) = alert(&to("localhost", address, trusting(authority.der()))).await;
    assert_eq!(name, "unexpected_message");
    assert_eq!(text, "TLS client: the peer's answer is not TLS");
    peer.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_closes_or_resets_during_the_handshake() {
    for reset in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let peer = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            // All of the ClientHello has to be read for an orderly close: unread bytes turn it into a reset.
            let mut header = [0; 5];
            socket.read_exact(&mut header).await.unwrap();
            let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
            socket.read_exact(&mut vec![0; length]).await.unwrap();
            if reset {
                socket.set_zero_linger().unwrap();
            }
        });
        let authority = Authority::new("closing");
        let outcome = dial(&to("localhost", address, trusting(authority.der()))).await;
        match outcome {
            Err(ConnectError::HandshakeClosed) => assert!(!reset),
            Err(ConnectError::HandshakeIo(error)) => {
                assert!(reset, "{error}");
                assert_eq!(hackney_engine::net::errno::name(&error), "econnreset");
            }
            other => panic!("connected: {other:?}"),
        }
        peer.await.unwrap();
    }
}
