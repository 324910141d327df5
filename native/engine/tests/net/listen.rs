//! Listening: addresses, socket options, clients that say nothing, and running out of descriptors.

use std::net::SocketAddr;
use std::time::Duration;

use hackney_engine::net::{AcceptedTcpOptions, ListenError, ListenOptions, Listener, TcpOptions, Transport, errno};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::accepted_tls::{greet, options};
use crate::certificates::Authority;
use crate::{DEADLINE, dial, to, trusting};

fn loopback() -> ListenOptions {
    ListenOptions::new("127.0.0.1:0".parse().unwrap())
}

#[tokio::test]
async fn cleartext_in_both_directions() {
    let listener = Listener::bind(&loopback()).await.unwrap();
    assert_ne!(listener.local_addr().port(), 0);
    let mut client = TcpStream::connect(listener.local_addr()).await.unwrap();
    let incoming = listener.accept().await;
    assert_eq!(incoming.peer(), client.local_addr().unwrap());
    let mut connected = incoming.greet().await.unwrap();
    assert!(matches!(connected.transport, Transport::Tcp(_)));
    assert!(connected.tls.is_none());
    assert_eq!(connected.peer, client.local_addr().unwrap());
    assert_eq!(connected.local, listener.local_addr());
    client.write_all(b"ping").await.unwrap();
    assert_eq!(connected.transport.read_u32().await.unwrap().to_be_bytes(), *b"ping");
    connected.transport.write_all(b"pong").await.unwrap();
    drop(connected);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"pong");
}

#[tokio::test]
async fn accepted_sockets_have_the_options() {
    let accepted = async |tcp: AcceptedTcpOptions| {
        let listener = Listener::bind(&ListenOptions { tcp, ..loopback() }).await.unwrap();
        let client = TcpStream::connect(listener.local_addr()).await.unwrap();
        (listener.accept().await.greet().await.unwrap(), client)
    };
    let (plain, _client) = accepted(AcceptedTcpOptions::default()).await;
    let socket = SockRef::from(plain.transport.tcp());
    assert!(socket.tcp_nodelay().unwrap());
    assert!(!socket.keepalive().unwrap());
    assert!(socket.nonblocking().unwrap());
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let info = format!("/proc/self/fdinfo/{}", plain.transport.tcp().as_raw_fd());
        let info = std::fs::read_to_string(info).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        let close_on_exec = 0o2_000_000;
        assert_ne!(i64::from_str_radix(flags.trim(), 8).unwrap() & close_on_exec, 0);
    }
    let (set, _client) = accepted(AcceptedTcpOptions {
        nodelay: false,
        keepalive: true,
        recv_buffer: Some(100_000),
        send_buffer: Some(50_000),
    })
    .await;
    let socket = SockRef::from(set.transport.tcp());
    assert!(!socket.tcp_nodelay().unwrap());
    assert!(socket.keepalive().unwrap());
    // Linux doubles the sizes.
    assert!(socket.recv_buffer_size().unwrap() >= 100_000);
    assert!(socket.send_buffer_size().unwrap() >= 50_000);
}

#[tokio::test]
async fn a_port_is_free_again_at_once_and_taken_meanwhile() {
    let listener = Listener::bind(&loopback()).await.unwrap();
    let address = listener.local_addr();
    match Listener::bind(&ListenOptions::new(address)).await {
        Err(ListenError::Tcp(error)) => assert_eq!(errno::name(&error), "eaddrinuse"),
        other => panic!("bound: {other:?}"),
    }
    // A connection that we close first leaves the port in TIME_WAIT.
    let mut client = TcpStream::connect(address).await.unwrap();
    drop(listener.accept().await);
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    drop(client);
    drop(listener);
    assert_eq!(
        Listener::bind(&ListenOptions::new(address)).await.unwrap().local_addr(),
        address
    );

    // 192.0.2.0/24 is for documentation (RFC 5737): never an address of this machine.
    match Listener::bind(&ListenOptions::new("192.0.2.1:0".parse().unwrap())).await {
        Err(ListenError::Tcp(error)) => assert_eq!(errno::name(&error), "eaddrnotavail"),
        other => panic!("bound: {other:?}"),
    }
}

#[tokio::test]
async fn ipv6_takes_ipv4_unless_told_otherwise() {
    for v6_only in [false, true] {
        let options = ListenOptions {
            v6_only,
            ..ListenOptions::new("[::]:0".parse().unwrap())
        };
        let listener = match Listener::bind(&options).await {
            Ok(listener) => listener,
            // A machine without IPv6 says so.
            Err(ListenError::Tcp(error)) => return assert_eq!(errno::name(&error), "eafnosupport"),
            Err(other) => panic!("{other}"),
        };
        let v4 = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().port()));
        let connected = TcpStream::connect(v4).await;
        assert_eq!(connected.is_err(), v6_only);
        if connected.is_ok() {
            let peer = listener.accept().await.peer();
            assert_eq!(peer.ip().to_canonical(), v4.ip());
        }
    }
}

#[tokio::test]
async fn clients_that_say_nothing_hold_up_nobody_and_end_with_the_callers_deadline() {
    let authority = Authority::new("silence");
    let mut with_tls = loopback();
    with_tls.tls = Some(options(&authority.issue(&["localhost"])));
    let listener = Listener::bind(&with_tls).await.unwrap();
    let mut silent = Vec::new();
    let mut greetings = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(listener.local_addr()).await.unwrap());
        let incoming = listener.accept().await;
        greetings.push(tokio::spawn(tokio::time::timeout(
            Duration::from_secs(1),
            incoming.greet(),
        )));
    }
    let target = to("localhost", listener.local_addr(), trusting(authority.der()));
    let (near, far) = tokio::join!(dial(&target), greet(&listener));
    near.unwrap();
    far.unwrap();
    for greeting in greetings {
        assert!(greeting.await.unwrap().is_err(), "only the deadline ends it");
    }
    for mut client in silent {
        let end = tokio::time::timeout(DEADLINE, client.read(&mut [0])).await;
        assert_eq!(end.expect("the socket is closed").unwrap(), 0);
    }
}

#[tokio::test]
async fn giving_up_accepting_loses_no_connection() {
    let listener = Listener::bind(&loopback()).await.unwrap();
    for _ in 0..20 {
        assert!(
            tokio::time::timeout(Duration::from_millis(1), listener.accept())
                .await
                .is_err()
        );
    }
    let client = TcpStream::connect(listener.local_addr()).await.unwrap();
    assert_eq!(listener.accept().await.peer(), client.local_addr().unwrap());
}

#[tokio::test]
async fn our_own_client_in_cleartext() {
    let listener = Listener::bind(&loopback()).await.unwrap();
    let target = hackney_engine::net::Dial {
        host: "localhost".into(),
        port: listener.local_addr().port(),
        tcp: TcpOptions::default(),
        tls: None,
    };
    let (near, far) = tokio::join!(dial(&target), greet(&listener));
    let (near, far) = (near.unwrap(), far.unwrap());
    assert_eq!((near.local, near.peer), (far.peer, far.local));
}

/// A process that has no descriptor left for connections waits for one, without keeping a processor busy.
#[cfg(target_os = "linux")]
mod out_of_descriptors {
    use super::*;
    use std::io::Write;
    use std::process::Stdio;
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::process::Command;

    const TEST: &str = "listen::out_of_descriptors::accepting_waits";
    /// Set in the process that this test starts: itself, with few descriptors.
    const CHILD: &str = "HACKNEY_TEST_FEW_DESCRIPTORS";
    const LIMIT: usize = 40;
    const CLIENTS: usize = 60;

    /// Accepts and holds connections, says how many each time, and lets go of all when told to.
    fn accept_until_told() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = Listener::bind(&loopback()).await.unwrap();
            println!("\nport {}", listener.local_addr().port());
            let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
            std::thread::spawn(move || std::io::stdin().lines().try_for_each(|_| tell.send(())));
            let (mut held, mut count) = (Vec::new(), 0);
            while count < CLIENTS {
                tokio::select! {
                    incoming = listener.accept() => {
                        held.push(incoming);
                        count += 1;
                        println!("accepted {count}");
                    }
                    word = told.recv() => match word {
                        Some(()) => held.clear(),
                        None => return,
                    }
                }
                std::io::stdout().flush().unwrap();
            }
        });
    }

    /// Processor time that a process has used, in clock ticks of 10 ms.
    fn ticks(process: u32) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        // The name, in parentheses, may hold anything. After it, user and system time are the 12th and 13th fields.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    #[tokio::test]
    async fn accepting_waits() {
        let myself = std::env::current_exe().unwrap();
        let mut child = Command::new("sh")
            .args([
                "-c",
                &format!("ulimit -n {LIMIT} && exec \"$0\" --exact {TEST}_in_a_child --nocapture"),
            ])
            .arg(myself)
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next = async |word: &str| loop {
            let line = tokio::time::timeout(DEADLINE, told.next_line())
                .await
                .expect("the child speaks");
            let line = line.unwrap().expect("the child runs");
            if let Some(number) = line.strip_prefix(word) {
                break number.trim().parse::<usize>().unwrap();
            }
        };
        let port = next("port").await;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let address = ("127.0.0.1", u16::try_from(port).unwrap());
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        // The kernel has them all; the child runs out on the way.
        let process = child.id().unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let before = ticks(process);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let spent = ticks(process) - before;
        assert!(spent < 20, "{spent} ticks in a second");
        let mut stdin = child.stdin.take().unwrap();
        let mut accepted = 0;
        while accepted < CLIENTS {
            // Fails when the child has them all and is gone, while we are still counting.
            let _ = stdin.write_all(b"let go\n").await;
            let before = accepted;
            while accepted < CLIENTS && accepted < before + LIMIT / 4 {
                accepted = next("accepted").await;
            }
        }
        assert!(child.wait().await.unwrap().success());
    }

    #[test]
    fn accepting_waits_in_a_child() {
        if std::env::var_os(CHILD).is_some() {
            accept_until_told();
        }
    }
}
