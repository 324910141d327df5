//! Connections that somebody else has opened.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use hackney_engine::net::{Transport, errno, take_over};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn connected(address: &str) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(address).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

#[tokio::test]
async fn a_connection_goes_on_when_its_owner_lets_go() {
    let (near, mut far) = connected("127.0.0.1:0");
    let mut taken = take_over(near.as_raw_fd()).unwrap();
    assert!(matches!(taken.transport, Transport::Tcp(_)));
    assert!(taken.tls.is_none());
    assert_eq!(taken.local, near.local_addr().unwrap());
    assert_eq!(taken.peer, near.peer_addr().unwrap());
    assert_ne!(taken.transport.tcp().as_raw_fd(), near.as_raw_fd());
    assert!(taken.transport.tcp().as_raw_fd() > 2);
    drop(near);
    far.write_all(b"ping").unwrap();
    assert_eq!(taken.transport.read_u32().await.unwrap().to_be_bytes(), *b"ping");
    taken.transport.write_all(b"pong").await.unwrap();
    drop(taken);
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"pong");
}

#[tokio::test]
async fn bytes_that_came_before_are_not_lost() {
    let (near, mut far) = connected("127.0.0.1:0");
    far.write_all(b"early").unwrap();
    let mut taken = take_over(near.as_raw_fd()).unwrap();
    let mut early = [0; 5];
    taken.transport.read_exact(&mut early).await.unwrap();
    assert_eq!(&early, b"early");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn ours_is_not_inherited_by_other_programs() {
    let (near, _far) = connected("127.0.0.1:0");
    let taken = take_over(near.as_raw_fd()).unwrap();
    let info = format!("/proc/self/fdinfo/{}", taken.transport.tcp().as_raw_fd());
    let info = std::fs::read_to_string(info).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    let (close_on_exec, non_blocking) = (0o2_000_000, 0o4_000);
    let flags = i64::from_str_radix(flags.trim(), 8).unwrap();
    assert_ne!(flags & close_on_exec, 0);
    assert_ne!(flags & non_blocking, 0);
}

#[tokio::test]
async fn ipv6() {
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let (near, _far) = connected("[::1]:0");
    let taken = take_over(near.as_raw_fd()).unwrap();
    assert_eq!(taken.peer, near.peer_addr().unwrap());
}

#[tokio::test]
async fn descriptors_that_are_no_connection_are_left_as_they_are() {
    let refusal = |descriptor| errno::name(&take_over(descriptor).unwrap_err());
    assert_eq!(refusal(-1), "ebadf");
    assert_eq!(refusal(1_000_000), "ebadf");
    let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    assert_eq!(refusal(file.as_raw_fd()), "enotsock");
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(refusal(datagrams.as_raw_fd()), "eprototype");
    let (local, _other) = UnixStream::pair().unwrap();
    assert_eq!(refusal(local.as_raw_fd()), "eafnosupport");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(refusal(listener.as_raw_fd()), "enotconn");
    assert!(!socket2::SockRef::from(&listener).nonblocking().unwrap());
}

#[test]
fn outside_of_a_runtime_it_is_an_error() {
    let (near, _far) = connected("127.0.0.1:0");
    take_over(near.as_raw_fd()).unwrap_err();
    assert!(!socket2::SockRef::from(&near).nonblocking().unwrap());
}
