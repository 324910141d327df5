//! The byte stream whose bytes somebody else carries.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use hackney_engine::net::{Pipe, PipeEnd, PipeOut, TlsError, errno, in_a_short_turn, pipe};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::DEADLINE;
use crate::certificates::Authority;
use crate::server::Server;

type Posted = Arc<Mutex<Vec<PipeOut>>>;

/// A pipe, and what has come out of it.
fn watched(capacity: usize) -> (Pipe, PipeEnd, Posted) {
    let posted = Posted::default();
    let outlet = posted.clone();
    let (pipe, end) = pipe(capacity, Box::new(move |out| outlet.lock().push(out)));
    (pipe, end, posted)
}

fn write(pipe: &mut Pipe, bytes: &[u8]) -> Poll<io::Result<usize>> {
    Pin::new(pipe).poll_write(&mut Context::from_waker(Waker::noop()), bytes)
}

fn flush(pipe: &mut Pipe) {
    let flushed = Pin::new(pipe).poll_flush(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(flushed, Poll::Ready(Ok(()))));
}

fn read(pipe: &mut Pipe, room: usize) -> Poll<io::Result<Vec<u8>>> {
    let mut room = vec![0; room];
    let mut buf = ReadBuf::new(&mut room);
    let read = Pin::new(pipe).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf);
    read.map_ok(|()| buf.filled().to_vec())
}

fn bytes(text: &'static str) -> PipeOut {
    PipeOut::Bytes(Bytes::from_static(text.as_bytes()))
}

fn ready<T>(poll: Poll<io::Result<T>>) -> T {
    match poll {
        Poll::Ready(result) => result.unwrap(),
        Poll::Pending => panic!("pending"),
    }
}

fn failure<T: std::fmt::Debug>(poll: Poll<io::Result<T>>) -> io::Error {
    match poll {
        Poll::Ready(result) => result.unwrap_err(),
        Poll::Pending => panic!("pending"),
    }
}

#[test]
fn small_writes_go_out_together_when_they_are_flushed() {
    let (mut pipe, _end, posted) = watched(100);
    assert_eq!(ready(write(&mut pipe, b"ab")), 2);
    let parts = [IoSlice::new(b"c"), IoSlice::new(b""), IoSlice::new(b"de")];
    let vectored = Pin::new(&mut pipe).poll_write_vectored(&mut Context::from_waker(Waker::noop()), &parts);
    assert_eq!(ready(vectored), 3);
    assert!(pipe.is_write_vectored());
    assert!(posted.lock().is_empty());
    flush(&mut pipe);
    flush(&mut pipe);
    assert_eq!(*posted.lock(), [bytes("abcde")]);
}

#[test]
fn large_writes_go_out_at_once_and_no_more_than_the_capacity() {
    let (mut pipe, end, posted) = watched(10);
    assert_eq!(ready(write(&mut pipe, b"abcde")), 5);
    assert_eq!(*posted.lock(), [bytes("abcde")]);
    // What fits of several parts.
    let parts = [IoSlice::new(b"fgh"), IoSlice::new(b"ijklm")];
    let vectored = Pin::new(&mut pipe).poll_write_vectored(&mut Context::from_waker(Waker::noop()), &parts);
    assert_eq!(ready(vectored), 5);
    assert!(write(&mut pipe, b"k").is_pending());
    end.written(1);
    assert_eq!(ready(write(&mut pipe, b"klm")), 1);
    // Nothing stays behind while there is no room.
    assert!(write(&mut pipe, b"lm").is_pending());
    assert_eq!(*posted.lock(), [bytes("abcde"), bytes("fghij"), bytes("k")]);
    end.written(1_000);
    assert_eq!(ready(write(&mut pipe, b"lm")), 2);
}

#[test]
fn the_end_of_writing_comes_last_and_once() {
    let (mut pipe, end, posted) = watched(10);
    assert_eq!(ready(write(&mut pipe, b"ab")), 2);
    for _ in 0..2 {
        let shutdown = Pin::new(&mut pipe).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        assert!(shutdown.is_ready());
    }
    assert_eq!(failure(write(&mut pipe, b"c")).kind(), ErrorKind::BrokenPipe);
    // The other direction goes on.
    assert_eq!(end.feed(Bytes::from_static(b"xy")), 2);
    assert_eq!(ready(read(&mut pipe, 8)), b"xy");
    drop(pipe);
    assert_eq!(*posted.lock(), [bytes("ab"), PipeOut::Shutdown, PipeOut::Closed]);
    assert_eq!(end.feed(Bytes::from_static(b"z")), 0);
    end.end(Ok(()));
    end.written(1);
}

#[test]
fn what_is_fed_is_read_in_order_whatever_its_pieces() {
    let (mut pipe, end, _) = watched(1 << 20);
    let mut fed = Vec::new();
    for round in 0..200_usize {
        let size = [1, 3, 511, 512, 513, 700, 20_000][round % 7];
        let piece: Vec<u8> = (0..size)
            .map(|at| u8::try_from((at * 7 + round) % 251).unwrap())
            .collect();
        fed.extend_from_slice(&piece);
        assert_eq!(end.feed(piece.into()), fed.len());
    }
    assert_eq!(end.feed(Bytes::new()), fed.len());
    let mut got = Vec::new();
    while got.len() < fed.len() {
        let part = ready(read(&mut pipe, 1_000 + got.len() % 999));
        assert!(!part.is_empty());
        got.extend(part);
    }
    assert!(got == fed);
    assert!(read(&mut pipe, 1).is_pending());
}

#[test]
fn who_fed_too_much_is_told_when_it_is_half_read() {
    let (mut pipe, end, posted) = watched(10);
    assert_eq!(end.capacity(), 10);
    assert_eq!(end.feed(Bytes::from_static(b"123456789")), 9);
    ready(read(&mut pipe, 9));
    assert!(posted.lock().is_empty(), "never was too much");
    for _ in 0..2 {
        assert_eq!(end.feed(Bytes::from_static(b"1234567890")), 10);
        ready(read(&mut pipe, 4));
        assert!(posted.lock().is_empty());
        ready(read(&mut pipe, 1));
        ready(read(&mut pipe, 5));
        assert_eq!(std::mem::take(&mut *posted.lock()), [PipeOut::Drained]);
    }
}

#[test]
fn an_orderly_end_comes_behind_the_bytes() {
    let (mut pipe, end, _) = watched(10);
    end.feed(Bytes::from_static(b"ab"));
    end.end(Ok(()));
    assert_eq!(end.feed(Bytes::from_static(b"late")), 2);
    end.end(Err(ErrorKind::ConnectionReset.into()));
    assert_eq!(ready(read(&mut pipe, 8)), b"ab");
    assert_eq!(ready(read(&mut pipe, 8)), b"");
    assert_eq!(ready(write(&mut pipe, b"half-closed")), 10);
    drop(end);
    assert_eq!(ready(read(&mut pipe, 8)), b"");
}

#[test]
fn a_failure_is_told_to_everyone_with_its_errno() {
    let (mut pipe, end, _) = watched(10);
    end.feed(Bytes::from_static(b"ab"));
    end.end(Err(io::Error::from_raw_os_error(libc::ECONNRESET)));
    assert_eq!(errno::name(&failure(write(&mut pipe, b"x"))), "econnreset");
    assert_eq!(ready(read(&mut pipe, 8)), b"ab");
    for _ in 0..2 {
        assert_eq!(errno::name(&failure(read(&mut pipe, 8))), "econnreset");
        assert_eq!(errno::name(&failure(write(&mut pipe, b"x"))), "econnreset");
    }

    // What is inside of one comes through, once.
    let (mut pipe, end, _) = watched(10);
    let inside = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateExpired);
    end.end(Err(io::Error::new(ErrorKind::InvalidData, inside)));
    let error = failure(read(&mut pipe, 8));
    assert_eq!(TlsError::from_io(&error).unwrap().alert(), "certificate_expired");
    let again = failure(read(&mut pipe, 8));
    assert_eq!((again.kind(), again.to_string()), (error.kind(), error.to_string()));
}

#[test]
fn the_last_end_that_is_dropped_ends_the_stream() {
    let (mut pipe, end, _) = watched(10);
    let other = end.clone();
    drop(end);
    assert!(read(&mut pipe, 8).is_pending());
    drop(other);
    assert_eq!(errno::name(&failure(read(&mut pipe, 8))), "econnaborted");
    assert_eq!(errno::name(&failure(write(&mut pipe, b"x"))), "econnaborted");
}

/// An outlet that acknowledges, and feeds, right where it is called.
#[test]
fn the_outlet_may_call_the_end() {
    let own: Arc<Mutex<Option<PipeEnd>>> = Arc::default();
    let called = own.clone();
    let (mut pipe, end) = pipe(
        4,
        Box::new(move |out| {
            if let (PipeOut::Bytes(bytes), Some(end)) = (out, &*called.lock()) {
                end.written(bytes.len());
                end.feed(bytes);
            }
        }),
    );
    *own.lock() = Some(end);
    for _ in 0..10 {
        assert_eq!(ready(write(&mut pipe, b"abcd")), 4);
    }
    assert_eq!(ready(read(&mut pipe, 100)).len(), 40);
    // The cycle is broken by whoever made it.
    own.lock().take();
    assert_eq!(failure(read(&mut pipe, 1)).kind(), ErrorKind::ConnectionAborted);
}

#[test]
fn a_short_turn_ends_here_too() {
    let (mut pipe, end, _) = watched(10);
    end.feed(Bytes::from_static(b"abcd"));
    in_a_short_turn(|| {
        assert_eq!(ready(read(&mut pipe, 1)), b"a");
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(read(&mut pipe, 1).is_pending());
    });
    assert_eq!(ready(read(&mut pipe, 8)), b"bcd");
}

#[test]
fn an_outlet_that_panics_at_the_very_end_is_borne() {
    let (pipe, _end) = pipe(10, Box::new(|_| panic!("on purpose")));
    drop(pipe);
}

/// Carries a pipe's bytes over a stream, as a process that owns a socket does.
pub(crate) async fn carry(stream: impl AsyncRead + AsyncWrite, end: PipeEnd, mut posted: UnboundedReceiver<PipeOut>) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (mut open, mut full) = (true, false);
    let mut chunk = BytesMut::new();
    loop {
        tokio::select! {
            out = posted.recv() => match out.expect("it is told of the end before") {
                PipeOut::Bytes(bytes) => {
                    writer.write_all(&bytes).await.unwrap();
                    writer.flush().await.unwrap();
                    end.written(bytes.len());
                }
                PipeOut::Shutdown => writer.shutdown().await.unwrap(),
                PipeOut::Drained => full = false,
                PipeOut::Closed => return,
            },
            n = reader.read_buf(&mut chunk), if open && !full => {
                if n.unwrap() == 0 {
                    open = false;
                    end.end(Ok(()));
                } else {
                    full = end.feed(chunk.split().freeze()) >= end.capacity();
                }
            }
        }
    }
}

/// TLS that is not ours, below a stream that is: a server sends back more than fits anywhere, in both directions at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_in_both_directions_over_somebody_elses_tls() {
    const CAPACITY: usize = 10_000;
    const TOTAL: usize = 8 << 20;
    let authority = Authority::new("elsewhere");
    let server = Server::start(&authority.issue(&["localhost"])).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der().to_vec().into()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let theirs = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("localhost").unwrap(), socket)
        .await
        .unwrap();
    let (sender, posted) = unbounded_channel();
    let under_way = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (stream, end) = pipe(CAPACITY, {
        let (under_way, most) = (under_way.clone(), most.clone());
        Box::new(move |out| {
            if let PipeOut::Bytes(bytes) = &out {
                let now = under_way.fetch_add(bytes.len(), Ordering::SeqCst) + bytes.len();
                most.fetch_max(now, Ordering::SeqCst);
            }
            // The receiver has gone when the stream is dropped as the last.
            let _ = sender.send(out);
        })
    });
    let (counted, relayed) = unbounded_channel();
    let mut posted = posted;
    // Between the two, to see what is on its way: what has been handed on counts as taken.
    tokio::spawn(async move {
        while let Some(out) = posted.recv().await {
            if let PipeOut::Bytes(bytes) = &out {
                under_way.fetch_sub(bytes.len(), Ordering::SeqCst);
            }
            if counted.send(out).is_err() {
                break;
            }
        }
    });
    let carrier = tokio::spawn(carry(theirs, end, relayed));
    let (mut reader, mut writer) = tokio::io::split(stream);
    let byte = |at: usize| u8::try_from(at % 241).unwrap();
    let sending = tokio::spawn(async move {
        let mut at = 0;
        let mut step = 1;
        while at < TOTAL {
            let size = step.min(TOTAL - at);
            let part: Vec<u8> = (at..at + size).map(byte).collect();
            writer.write_all(&part).await.unwrap();
            if step % 3 == 0 {
                writer.flush().await.unwrap();
            }
            at += size;
            step = step * 5 % 30_011 + 1;
        }
        writer.flush().await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let receiving = tokio::spawn(async move {
        let mut at = 0;
        let mut buf = vec![0; 7_001];
        loop {
            let n = reader.read(&mut buf).await.unwrap();
            if n == 0 {
                return at;
            }
            assert!(
                buf[..n]
                    .iter()
                    .enumerate()
                    .all(|(offset, &got)| got == byte(at + offset))
            );
            at += n;
        }
    });
    tokio::time::timeout(DEADLINE, async {
        sending.await.unwrap();
        assert_eq!(receiving.await.unwrap(), TOTAL);
        carrier.await.unwrap();
    })
    .await
    .expect("a wake-up was lost");
    assert!(most.load(Ordering::SeqCst) <= CAPACITY);
}

/// Feeding, acknowledging, reading and writing from four threads, in steps as small as can be.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_wake_up_is_lost() {
    const BYTES: usize = 50_000;
    let (sender, mut posted) = unbounded_channel();
    let (stream, end) = pipe(
        3,
        Box::new(move |out| {
            let _ = sender.send(out);
        }),
    );
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (drained, mut room) = unbounded_channel();
    let socket = {
        let end = end.clone();
        tokio::spawn(async move {
            let mut count = 0;
            while count < BYTES {
                match posted.recv().await.unwrap() {
                    PipeOut::Bytes(bytes) => {
                        count += bytes.len();
                        end.written(bytes.len());
                    }
                    PipeOut::Drained => drained.send(()).unwrap(),
                    other => panic!("{other:?}"),
                }
            }
            // The feeder may have more to hear.
            while let Some(out) = posted.recv().await {
                if out == PipeOut::Drained && drained.send(()).is_err() {
                    break;
                }
            }
        })
    };
    let feeder = tokio::spawn(async move {
        for _ in 0..BYTES {
            if end.feed(Bytes::from_static(b"x")) >= end.capacity() {
                room.recv().await.unwrap();
            }
        }
        end.end(Ok(()));
        // Until the stream is gone, so that nothing else ends it.
        (end, room)
    });
    let writing = tokio::spawn(async move {
        for _ in 0..BYTES {
            writer.write_all(b"y").await.unwrap();
        }
        writer.flush().await.unwrap();
        writer
    });
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        (reader, all.len())
    });
    tokio::time::timeout(DEADLINE, async {
        let writer = writing.await.unwrap();
        let (reader, read) = reading.await.unwrap();
        assert_eq!(read, BYTES);
        drop((reader, writer, feeder.await.unwrap()));
        socket.await.unwrap();
    })
    .await
    .expect("a wake-up was lost");
}
