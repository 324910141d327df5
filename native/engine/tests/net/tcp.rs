//! Names, addresses, the race between them, and TCP options.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hackney_engine::net::resolve::resolve;
use hackney_engine::net::{
    ConnectError, Dial, Family, ResolveCode, TcpOptions, TlsOptions, Transport, connect, errno, happy_eyeballs,
};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::{DEADLINE, dial, echo};

fn cleartext(host: &str, port: u16, tcp: TcpOptions) -> Dial {
    Dial {
        host: host.into(),
        port,
        tcp,
        tls: None,
    }
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port that is taken, but where nobody listens.
fn deaf() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// A listener whose queue is full: further attempts get no answer at all.
fn stalled() -> (Vec<Socket>, SocketAddr) {
    let (listener, address) = deaf();
    listener.listen(0).unwrap();
    let mut sockets = vec![listener];
    for _ in 0..8 {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        // In progress, for most of them for ever.
        let _ = filler.connect(&address.into());
        sockets.push(filler);
    }
    (sockets, address)
}

#[tokio::test]
async fn cleartext_by_name_and_by_address() {
    for host in ["localhost", "127.0.0.1"] {
        let (listener, port) = listener().await;
        let mut connected = dial(&cleartext(host, port, TcpOptions::default())).await.unwrap();
        assert!(matches!(connected.transport, Transport::Tcp(_)));
        assert!(connected.tls.is_none());
        assert_eq!(connected.peer, listener.local_addr().unwrap());
        let (mut peer, from) = listener.accept().await.unwrap();
        assert_eq!(from, connected.local);
        let echoing = tokio::spawn(async move {
            let (mut reader, mut writer) = peer.split();
            tokio::io::copy(&mut reader, &mut writer).await
        });
        echo(&mut connected.transport, b"ping").await;
        drop(connected);
        echoing.await.unwrap().unwrap();
    }
}

/// The operating system tells of a reset once: here to the writer, and the reader must not take what is left for an orderly end.
#[tokio::test]
async fn a_reset_that_writing_met_is_none_the_less_one_to_reading() {
    let (listener, port) = listener().await;
    let target = cleartext("127.0.0.1", port, TcpOptions::default());
    let mut transport = dial(&target).await.unwrap().transport;
    let (peer, _) = listener.accept().await.unwrap();
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    let failure = loop {
        if let Err(failure) = transport.write_all(b"x").await {
            break failure;
        }
    };
    assert_eq!(errno::name(&failure), "econnreset");
    for _ in 0..2 {
        assert_eq!(errno::name(&transport.read_u8().await.unwrap_err()), "econnreset");
    }
}

#[tokio::test]
async fn ipv6_loopback() {
    let target = |port| cleartext("::1", port, TcpOptions::default());
    match TcpListener::bind("[::1]:0").await {
        Ok(listener) => {
            let address = listener.local_addr().unwrap();
            assert_eq!(dial(&target(address.port())).await.unwrap().peer, address);
        }
        // A machine without IPv6 says so.
        Err(_) => match dial(&target(1)).await {
            Err(ConnectError::Tcp(error)) => assert!(error.raw_os_error().is_some()),
            other => panic!("connected: {other:?}"),
        },
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist() {
    // A label has at most 63 bytes (RFC 1035 section 2.3.4): the resolver knows without asking anyone.
    let host = format!("{}.example", "x".repeat(70));
    match dial(&cleartext(&host, 80, TcpOptions::default())).await {
        Err(ConnectError::Resolve(error)) => {
            assert_eq!(error.code, ResolveCode::NxDomain);
            assert_eq!(error.code.name(), "nxdomain");
            assert_eq!(error.host, host);
        }
        other => panic!("connected: {other:?}"),
    }
    let error = resolve("a\0b", 80, Family::Any).await.unwrap_err();
    assert_eq!(error.code.name(), "einval");
}

#[tokio::test]
async fn the_resolver_is_asked_for_the_wanted_family() {
    let found = resolve("localhost", 80, Family::V4).await.unwrap();
    assert_eq!(found, [SocketAddr::from(([127, 0, 0, 1], 80))]);
}

#[tokio::test]
async fn nobody_listens() {
    let (_socket, address) = deaf();
    match dial(&cleartext("127.0.0.1", address.port(), TcpOptions::default())).await {
        Err(ConnectError::Tcp(error)) => {
            assert!(error.raw_os_error().is_some());
            assert_eq!(errno::name(&error), "econnrefused");
        }
        other => panic!("connected: {other:?}"),
    }
}

#[tokio::test]
async fn addresses_that_the_options_rule_out() {
    let cases = [
        TcpOptions {
            family: Family::V6,
            ..TcpOptions::default()
        },
        TcpOptions {
            local_address: Some("::1".parse().unwrap()),
            ..TcpOptions::default()
        },
    ];
    for tcp in cases {
        match dial(&cleartext("127.0.0.1", 1, tcp)).await {
            Err(ConnectError::Tcp(error)) => assert_eq!(errno::name(&error), "eafnosupport"),
            other => panic!("connected: {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_address_that_does_not_answer_costs_one_delay() {
    let (_sockets, silent) = stalled();
    let (listener, _) = listener().await;
    let answering = listener.local_addr().unwrap();
    let begin = Instant::now();
    let options = TcpOptions::default();
    let stream = happy_eyeballs::connect(&[silent, answering], &options).await.unwrap();
    let took = begin.elapsed();
    assert_eq!(stream.peer_addr().unwrap(), answering);
    assert!(took >= happy_eyeballs::ATTEMPT_DELAY, "{took:?}");
    // One second is when a lost SYN is sent again; it must not take that.
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn an_address_that_refuses_costs_nothing() {
    let (_socket, refusing) = deaf();
    let (listener, _) = listener().await;
    let answering = listener.local_addr().unwrap();
    let options = TcpOptions {
        attempt_delay: 10 * DEADLINE,
        ..TcpOptions::default()
    };
    let connecting = async { happy_eyeballs::connect(&[refusing, answering], &options).await };
    let stream = tokio::time::timeout(DEADLINE, connecting).await.unwrap();
    assert_eq!(stream.unwrap().peer_addr().unwrap(), answering);
}

#[tokio::test]
async fn local_address_and_port() {
    let (listener, port) = listener().await;
    let local_address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (socket, free) = deaf();
    drop(socket);
    let tcp = TcpOptions {
        local_address: Some(local_address),
        local_port: Some(free.port()),
        ..TcpOptions::default()
    };
    let connected = dial(&cleartext("localhost", port, tcp)).await.unwrap();
    assert_eq!(connected.local, free);
    assert_eq!(listener.accept().await.unwrap().1, free);

    // 192.0.2.0/24 is for documentation (RFC 5737): never an address of this machine.
    let tcp = TcpOptions {
        local_address: Some("192.0.2.1".parse().unwrap()),
        ..TcpOptions::default()
    };
    match dial(&cleartext("localhost", port, tcp)).await {
        Err(ConnectError::Tcp(error)) => assert_eq!(errno::name(&error), "eaddrnotavail"),
        other => panic!("connected: {other:?}"),
    }
}

#[tokio::test]
async fn socket_options() {
    let (_listener, port) = listener().await;
    let tcp = TcpOptions {
        nodelay: false,
        keepalive: true,
        recv_buffer: Some(100_000),
        send_buffer: Some(50_000),
        linger: Some(Duration::from_secs(3)),
        ..TcpOptions::default()
    };
    let set = dial(&cleartext("localhost", port, tcp)).await.unwrap();
    let socket = SockRef::from(set.transport.tcp());
    assert!(!socket.tcp_nodelay().unwrap());
    assert!(socket.keepalive().unwrap());
    // Linux doubles the sizes.
    assert!(socket.recv_buffer_size().unwrap() >= 100_000);
    assert!(socket.send_buffer_size().unwrap() >= 50_000);
    assert_eq!(socket.linger().unwrap(), Some(Duration::from_secs(3)));

    let unset = dial(&cleartext("localhost", port, TcpOptions::default()))
        .await
        .unwrap();
    let socket = SockRef::from(unset.transport.tcp());
    assert!(socket.tcp_nodelay().unwrap());
    assert!(!socket.keepalive().unwrap());
    assert_eq!(socket.linger().unwrap(), None);
}

#[tokio::test]
async fn a_linger_time_of_zero_resets() {
    let (listener, port) = listener().await;
    let tcp = TcpOptions {
        linger: Some(Duration::ZERO),
        ..TcpOptions::default()
    };
    let connected = dial(&cleartext("localhost", port, tcp)).await.unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    drop(connected);
    let error = peer.read_u8().await.unwrap_err();
    assert_eq!(errno::name(&error), "econnreset");
}

#[tokio::test]
async fn a_long_linger_time_does_not_hold_up_the_thread_that_drops() {
    let (listener, port) = listener().await;
    let tcp = TcpOptions {
        linger: Some(DEADLINE),
        send_buffer: Some(64 * 1024),
        ..TcpOptions::default()
    };
    let mut connected = dial(&cleartext("localhost", port, tcp)).await.unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    // More than the peer's buffer takes, so that closing has something to wait for.
    let chunk = [7; 16 * 1024];
    let mut written = 0;
    loop {
        let write = connected.transport.write(&chunk);
        match tokio::time::timeout(Duration::from_millis(50), write).await {
            Ok(count) => written += count.unwrap(),
            Err(_full) => break,
        }
    }
    let begin = Instant::now();
    drop(connected);
    assert!(begin.elapsed() < DEADLINE / 4);
    let mut received = Vec::new();
    peer.read_to_end(&mut received).await.unwrap();
    assert_eq!(received.len(), written);
}

#[tokio::test]
async fn dropping_the_future_closes_the_connection() {
    let (listener, port) = listener().await;
    let target = Dial {
        tls: Some(TlsOptions {
            verify: hackney_engine::net::Verify::None,
            ..TlsOptions::default()
        }),
        ..cleartext("localhost", port, TcpOptions::default())
    };
    let connecting = tokio::spawn(async move { connect(&target).await });
    // The peer accepts and never speaks.
    let (mut peer, _) = listener.accept().await.unwrap();
    let mut hello = [0; 1];
    peer.read_exact(&mut hello).await.unwrap();
    connecting.abort();
    assert!(connecting.await.unwrap_err().is_cancelled());
    let end = tokio::time::timeout(DEADLINE, peer.read_to_end(&mut Vec::new())).await;
    end.expect("the socket is closed").unwrap();
}
