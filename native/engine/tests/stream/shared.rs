//! Many streams on one connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hackney_engine::Life;
use hackney_engine::Message;
use hackney_engine::error::{EndReason, Loss, OpenError, RecvError};
use hackney_engine::h2::{
    Admitted, Carrier, Client as Connection, ClientLife, ClientListener, ClientOptions, ConnectionOptions, Keepalive,
    Payload, RequestHead, StreamOptions, Target,
};
use hackney_engine::net::{PipeOut, pipe};
use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::outlet::{Channels, Client};
use crate::{DEADLINE, options, server, target};

/// A connection, and what was heard of it.
struct Shared {
    connection: Arc<Connection<Channels>>,
    lives: mpsc::UnboundedReceiver<ClientLife>,
}

impl Shared {
    async fn connect(port: u16) -> Self {
        Shared::connect_with(port, options().connection, None).await
    }

    async fn connect_with(port: u16, connection: ConnectionOptions, keepalive: Option<Keepalive>) -> Self {
        let (listener, lives) = hearing();
        let runtime = tokio::runtime::Handle::current();
        let connection = Connection::new(
            target(port).dial.unwrap(),
            client_options(connection, keepalive),
            listener,
            runtime,
        );
        connection.connect(Some(DEADLINE)).unwrap();
        Shared { connection, lives }.standing().await
    }

    async fn standing(mut self) -> Self {
        let life = self.life().await;
        assert!(matches!(life, ClientLife::Connected), "{life:?}");
        self
    }

    /// On a carrier whose bytes we bring to the port and back. `strayed` is set when it is given any on the test's own thread.
    async fn carried(port: u16, strayed: Arc<AtomicBool>) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (peer, local) = (socket.peer_addr().unwrap(), socket.local_addr().unwrap());
        let (mut from_peer, mut to_peer) = socket.into_split();
        let (post, mut posted) = mpsc::unbounded_channel();
        let ours = std::thread::current().id();
        let outlet = move |out| {
            strayed.fetch_or(std::thread::current().id() == ours, Ordering::Relaxed);
            post.send(out).unwrap_or_default();
        };
        let (pipe, end) = pipe(1 << 20, Box::new(outlet));
        let feeder = end.clone();
        tokio::spawn(async move {
            let mut bytes = vec![0; 1 << 16];
            while let Ok(count @ 1..) = from_peer.read(&mut bytes).await {
                feeder.feed(bytes[..count].to_vec().into());
            }
            feeder.end(Ok(()));
        });
        tokio::spawn(async move {
            while let Some(out) = posted.recv().await {
                match out {
                    PipeOut::Bytes(bytes) => {
                        to_peer.write_all(&bytes).await.unwrap();
                        end.written(bytes.len());
                    }
                    PipeOut::Shutdown => to_peer.shutdown().await.unwrap(),
                    PipeOut::Drained => {}
                    PipeOut::Closed => break,
                }
            }
        });
        let (listener, lives) = hearing();
        let runtime = tokio::runtime::Handle::current();
        let carrier = async move { Ok(Carrier::of_pipe(pipe, peer, local, false)) };
        let options = client_options(options().connection, None);
        let connection = Connection::over(carrier, options, listener, (runtime, Some(DEADLINE)));
        Shared { connection, lives }.standing().await
    }

    async fn life(&mut self) -> ClientLife {
        timeout(DEADLINE, self.lives.recv()).await.expect("news").unwrap()
    }

    /// A stream that is open.
    async fn opened(&self) -> Client {
        let (mut client, admitted) = self.open();
        if admitted.unwrap() == Admitted::Later {
            client.lived(|life| matches!(life, Life::Opened)).await;
        }
        client
    }

    fn open(&self) -> (Client, Result<Admitted, OpenError>) {
        self.open_with(options(), Some(DEADLINE))
    }

    fn open_with(&self, options: StreamOptions, deadline: Option<Duration>) -> (Client, Result<Admitted, OpenError>) {
        let request = RequestHead {
            method: "POST".into(),
            authority: String::new(),
            path: "/echo".into(),
            headers: HeaderMap::new(),
            protocol: None,
        };
        let client = Client::made(Target { request, dial: None }, options);
        let admitted = client.stream.open_on(&self.connection, deadline, true);
        (client, admitted)
    }
}

fn client_options(connection: ConnectionOptions, keepalive: Option<Keepalive>) -> ClientOptions {
    ClientOptions {
        authority: "localhost".into(),
        connection,
        keepalive,
        idle_timeout: None,
    }
}

fn hearing() -> (ClientListener, mpsc::UnboundedReceiver<ClientLife>) {
    let (heard, lives) = mpsc::unbounded_channel();
    (Box::new(move |life| heard.send(life).unwrap_or_default()), lives)
}

/// One exchange, to its end.
async fn converse(client: &Client, text: &'static str) {
    client.stream.send(Payload::Copied(text.as_bytes()), true).unwrap();
    assert!(matches!(client.recv().await, Ok(Message::Response(200, _))));
    assert_eq!(client.recv().await, Ok(Message::Data(text.into())));
    assert!(matches!(client.recv().await, Ok(Message::Trailers(_))));
    assert_eq!(client.recv().await, Ok(Message::Done));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_share_a_connection_and_it_outlives_them() {
    let mut shared = Shared::connect(server::start().await).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(shared.opened().await);
    }
    for client in &clients {
        converse(client, "hello").await;
    }
    let late = shared.opened().await;
    converse(&late, "once more").await;
    assert_eq!(late.stream.info().connected.unwrap().stream_id, 101);
    shared.connection.close();
    assert!(matches!(shared.life().await, ClientLife::Over(EndReason::Closed)));
    let (_, refused) = shared.open();
    assert!(
        matches!(refused, Err(OpenError::Ended(EndReason::Closed))),
        "{refused:?}"
    );
}

/// Only the task reads and writes there: whoever opens a stream gets its identifier without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_on_a_carrier_are_open_at_once() {
    let strayed = Arc::new(AtomicBool::new(false));
    let shared = Shared::carried(server::start().await, strayed.clone()).await;
    let at_once = async {
        loop {
            let (mut client, admitted) = shared.open();
            let admitted = admitted.unwrap();
            if admitted == Admitted::Later {
                // The task was at work at that moment.
                client.lived(|life| matches!(life, Life::Opened)).await;
            }
            converse(&client, "hello").await;
            if admitted == Admitted::Now {
                break;
            }
        }
    };
    timeout(DEADLINE, at_once).await.expect("one that is open at once");
    assert!(
        !strayed.load(Ordering::Relaxed),
        "bytes were carried on a caller's thread"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_for_whom_there_is_no_place_wait_in_order() {
    let shared = Shared::connect(server::start_with(h2::server::Builder::new().max_concurrent_streams(2)).await).await;
    let mut clients: Vec<_> = (0..5).map(|_| shared.open()).collect();
    let admitted: Vec<_> = clients
        .iter()
        .map(|(_, admitted)| *admitted.as_ref().unwrap())
        .collect();
    use Admitted::{Later, Now};
    assert_eq!(admitted, [Now, Now, Later, Later, Later]);
    let mut last = 0;
    for (client, admitted) in &mut clients {
        if *admitted.as_ref().unwrap() == Later {
            client.lived(|life| matches!(life, Life::Opened)).await;
        }
        let id = client.stream.info().connected.unwrap().stream_id;
        assert!(id > last);
        last = id;
        converse(client, "in turn").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_in_line_ends_with_the_deadline_or_with_close() {
    let shared = Shared::connect(server::start_with(h2::server::Builder::new().max_concurrent_streams(1)).await).await;
    let first = shared.opened().await;
    let (mut impatient, _) = shared.open_with(options(), Some(Duration::from_millis(20)));
    let (mut closed, _) = shared.open();
    let (mut patient, _) = shared.open();
    closed.stream.close();
    let life = closed.next_life().await;
    assert!(
        matches!(life, Life::Failed(OpenError::Ended(EndReason::Closed))),
        "{life:?}"
    );
    let life = impatient.next_life().await;
    assert!(matches!(life, Life::Failed(OpenError::Timeout)), "{life:?}");
    converse(&first, "go").await;
    patient.lived(|life| matches!(life, Life::Opened)).await;
    converse(&patient, "at last").await;
    // The others have sent nothing.
    assert_eq!(patient.stream.info().connected.unwrap().stream_id, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_the_connection_ends_its_streams() {
    let mut shared = Shared::connect(server::start().await).await;
    let mut client = shared.opened().await;
    client.stream.send(Payload::Copied(b"one"), false).unwrap();
    assert!(matches!(client.recv().await, Ok(Message::Response(200, _))));
    assert_eq!(client.recv().await, Ok(Message::Data("one".into())));
    shared.connection.close();
    assert_eq!(client.recv().await, Err(RecvError::Ended(EndReason::Closed)));
    client.lived(|life| matches!(life, Life::Ended)).await;
    assert!(matches!(shared.life().await, ClientLife::Over(EndReason::Closed)));
}

const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// GOAWAY (RFC 9113, 6.8).
fn goaway(last_stream: u8, code: u8) -> Vec<u8> {
    vec![0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last_stream, 0, 0, 0, code]
}

/// `:status 200` with END_STREAM.
fn response(stream: u8) -> Vec<u8> {
    vec![0, 0, 1, 1, 5, 0, 0, 0, stream, 0x88]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_goaway_spares_what_is_served_and_tells_the_rest_that_it_was_not() {
    for code in [0, 2] {
        let port = server::answer(vec![
            (server::SETTINGS, SETTINGS.to_vec()),
            (server::HEADERS, vec![]),
            (server::HEADERS, goaway(1, code)),
            (server::DATA, response(1)),
        ])
        .await;
        let mut shared = Shared::connect(port).await;
        let served = shared.opened().await;
        let left_out = shared.opened().await;
        assert_eq!(
            left_out.recv().await,
            Err(RecvError::Ended(EndReason::Unprocessed)),
            "code {code}"
        );
        let life = shared.life().await;
        let ClientLife::GoAway(heard) = life else {
            panic!("{life:?}")
        };
        assert_eq!((heard.last_stream, heard.code), (1, u32::from(code)));
        let (_, refused) = shared.open();
        assert!(
            matches!(refused, Err(OpenError::Ended(EndReason::Unprocessed))),
            "{refused:?}"
        );
        served.stream.send(Payload::Copied(b"the rest"), true).unwrap();
        assert!(
            matches!(served.recv().await, Ok(Message::Response(200, _))),
            "code {code}"
        );
        assert_eq!(served.recv().await, Ok(Message::Done));
        // With its last stream the connection ends.
        assert!(matches!(shared.life().await, ClientLife::Over(_)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_in_line_hear_of_a_goaway() {
    // SETTINGS_MAX_CONCURRENT_STREAMS of 1.
    let settings = vec![0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1];
    let port = server::answer(vec![(server::SETTINGS, settings), (server::DATA, goaway(1, 0))]).await;
    let shared = Shared::connect(port).await;
    let served = shared.opened().await;
    let (mut waiting, admitted) = shared.open();
    assert_eq!(admitted.unwrap(), Admitted::Later);
    served.stream.send(Payload::Copied(b"go"), false).unwrap();
    let life = waiting.next_life().await;
    assert!(
        matches!(life, Life::Failed(OpenError::Ended(EndReason::Unprocessed))),
        "{life:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_answers_no_ping_is_gone() {
    let port = server::answer(vec![(server::SETTINGS, SETTINGS.to_vec())]).await;
    let keepalive = Keepalive {
        interval: Duration::from_millis(20),
        timeout: Duration::from_millis(50),
    };
    let mut shared = Shared::connect_with(port, options().connection, Some(keepalive)).await;
    let client = shared.opened().await;
    let end = EndReason::Lost(Loss::PingTimeout);
    assert_eq!(client.recv().await, Err(RecvError::Ended(end.clone())));
    let life = shared.life().await;
    assert!(matches!(&life, ClientLife::Over(reason) if *reason == end), "{life:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_answers_pings_is_kept() {
    let keepalive = Keepalive {
        interval: Duration::from_millis(5),
        timeout: DEADLINE,
    };
    let shared = Shared::connect_with(server::start().await, options().connection, Some(keepalive)).await;
    let bytes_in = || shared.connection.info().unwrap().bytes_in;
    let before = bytes_in();
    // Ten answers of 17 bytes.
    timeout(DEADLINE, async {
        while bytes_in() < before + 170 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("answers");
    let client = shared.opened().await;
    converse(&client, "still there").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_nobody_reads_do_not_stop_the_others() {
    // Four such streams would fill the connection's window, were it not widened.
    let connection = ConnectionOptions {
        initial_window_size: 1 << 16,
        connection_window_size: 1 << 18,
        ..options().connection
    };
    let shared = Shared::connect_with(server::start().await, connection, None).await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        stalled.push(shared.opened().await);
    }
    for client in &stalled {
        client
            .stream
            .send(Payload::Shared(vec![vec![7; 1 << 16].into()]), false)
            .unwrap();
    }
    timeout(DEADLINE, async {
        while stalled.iter().any(|client| client.stream.queued().0 < 1 << 16) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("each stream's own window");
    let client = shared.opened().await;
    converse(&client, "unhindered").await;
    assert_eq!(shared.connection.info().unwrap().unread, 20 << 16);
    for client in &stalled {
        while client.stream.queued().0 > 0 {
            client.recv().await.unwrap();
        }
        client.stream.close();
    }
    timeout(DEADLINE, async {
        while shared.connection.info().unwrap().unread > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("nothing unread");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_streams_at_once() {
    // Without the budget the server takes so many small frames in one piece for an attack.
    let server = server::start_with(h2::server::Builder::new().data_frame_budget(usize::MAX >> 1)).await;
    let shared = Shared::connect(server).await;
    let mut clients = Vec::new();
    for _ in 0..500 {
        clients.push(shared.opened().await);
    }
    let conversations: Vec<_> = clients
        .into_iter()
        .map(|client| {
            tokio::spawn(async move {
                for n in 0..20u32 {
                    client.stream.send(Payload::Copied(&n.to_be_bytes()), n == 19).unwrap();
                    if n == 0 {
                        assert!(matches!(client.recv().await, Ok(Message::Response(200, _))));
                    }
                    assert_eq!(client.recv().await, Ok(Message::Data(n.to_be_bytes().to_vec().into())));
                }
                assert!(matches!(client.recv().await, Ok(Message::Trailers(_))));
                assert_eq!(client.recv().await, Ok(Message::Done));
            })
        })
        .collect();
    for conversation in conversations {
        conversation.await.unwrap();
    }
}
