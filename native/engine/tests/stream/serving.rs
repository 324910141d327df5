//! The server's side, before clients of the h2 crate.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::client::SendRequest;
use hackney_engine::error::{EndReason, Loss, OpenError, SendError};
use hackney_engine::h2::{
    Acceptor, Carrier, Client, ClientLife, ClientOptions, ModeChange, Payload, ServerOptions, Stream, StreamOptions,
};
use hackney_engine::net::{Connected, Socket, Transport};
use hackney_engine::{Life, Mode, Notice};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::outlet::{Channels, channels};
use crate::{DEADLINE, options};

/// A request, and the stream it came on.
struct Asked {
    stream: Arc<Stream<Channels>>,
    request: Request<()>,
    notices: mpsc::UnboundedReceiver<Notice>,
    lives: mpsc::UnboundedReceiver<Life>,
}

impl Asked {
    async fn notice(&mut self) -> Notice {
        timeout(DEADLINE, self.notices.recv()).await.expect("a notice").unwrap()
    }

    async fn ended(&mut self) {
        while !matches!(
            timeout(DEADLINE, self.lives.recv()).await.expect("news"),
            Some(Life::Ended)
        ) {}
    }
}

type Ends = (mpsc::UnboundedReceiver<Notice>, mpsc::UnboundedReceiver<Life>);

struct Receptionist {
    /// From the making of a stream to its request.
    ends: Mutex<Option<Ends>>,
    asked: mpsc::UnboundedSender<Asked>,
}

impl Acceptor<Channels> for Receptionist {
    fn stream(&self, _: u32) -> Arc<Stream<Channels>> {
        let (outlet, notices, lives) = channels();
        *self.ends.lock().unwrap() = Some((notices, lives));
        let options = StreamOptions {
            events: true,
            mode: Mode::Passive,
            ..options()
        };
        Stream::for_request(options, (), outlet, tokio::runtime::Handle::current())
    }

    fn request(&self, stream: &Arc<Stream<Channels>>, _: u32, request: Request<()>) {
        let (notices, lives) = self.ends.lock().unwrap().take().unwrap();
        let stream = stream.clone();
        let _ = self.asked.send(Asked {
            stream,
            request,
            notices,
            lives,
        });
    }
}

/// A connection from both ends.
struct Both {
    server: Arc<Client<Channels>>,
    lives: mpsc::UnboundedReceiver<ClientLife>,
    asked: mpsc::UnboundedReceiver<Asked>,
    client: SendRequest<Bytes>,
}

/// A server, and the client's end of the connection that it serves.
struct Served {
    server: Arc<Client<Channels>>,
    lives: mpsc::UnboundedReceiver<ClientLife>,
    asked: mpsc::UnboundedReceiver<Asked>,
    near: TcpStream,
}

impl Served {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let connected = async move {
            let (peer, local) = (far.peer_addr().unwrap(), far.local_addr().unwrap());
            let transport = Transport::Tcp(Socket::new(far, None).unwrap());
            Ok(Carrier::from(Connected {
                transport,
                peer,
                local,
                tls: None,
            }))
        };
        let (heard, lives) = mpsc::unbounded_channel();
        let (ask, asked) = mpsc::unbounded_channel();
        let server = Client::serve(
            connected,
            (
                ClientOptions {
                    authority: String::new(),
                    connection: options().connection,
                    keepalive: None,
                    idle_timeout: None,
                },
                ServerOptions {
                    max_concurrent_streams: Some(100),
                    header_table_size: 4096,
                    connect_protocol: false,
                },
            ),
            Arc::new(Receptionist {
                ends: Mutex::new(None),
                asked: ask,
            }),
            Box::new(move |life| heard.send(life).unwrap_or_default()),
            (tokio::runtime::Handle::current(), Some(DEADLINE)),
        );
        Served {
            server,
            lives,
            asked,
            near,
        }
    }
}

impl Both {
    async fn new() -> Self {
        let Served {
            server,
            lives,
            asked,
            near,
        } = Served::new().await;
        let (client, connection) = h2::client::handshake(near).await.unwrap();
        tokio::spawn(connection);
        let mut both = Both {
            server,
            lives,
            asked,
            client: client.ready().await.unwrap(),
        };
        let life = both.life().await;
        assert!(matches!(life, ClientLife::Connected), "{life:?}");
        both
    }

    async fn life(&mut self) -> ClientLife {
        timeout(DEADLINE, self.lives.recv()).await.expect("news").unwrap()
    }

    async fn asked(&mut self) -> Asked {
        timeout(DEADLINE, self.asked.recv()).await.expect("a request").unwrap()
    }
}

fn post() -> Request<()> {
    Request::post("http://localhost/there?a=b")
        .header("x-one", "1")
        .body(())
        .unwrap()
}

fn ok() -> Response<()> {
    Response::builder().status(200).header("x-two", "2").body(()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_answered() {
    let mut both = Both::new().await;
    let (response, mut sending) = both.client.send_request(post(), false).unwrap();
    sending.send_data("question".into(), true).unwrap();
    let mut asked = both.asked().await;
    assert_eq!(
        (asked.request.method().as_str(), asked.request.uri().path()),
        ("POST", "/there")
    );
    assert_eq!(asked.request.headers()["x-one"], "1");
    assert_eq!(
        asked.stream.send(Payload::Copied(b"too early"), false),
        Err(SendError::NoResponse)
    );
    asked.stream.set_mode(ModeChange::Set(Mode::Active)).unwrap();
    assert_eq!(asked.notice().await, Notice::Last("question".into()));
    let early = Response::builder().status(103).body(()).unwrap();
    asked.stream.inform(early).unwrap();
    asked.stream.respond(ok(), false).unwrap();
    assert_eq!(asked.stream.respond(ok(), false), Err(SendError::Responded));
    asked.stream.send(Payload::Copied(b"answer"), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-three", "3".parse().unwrap());
    asked.stream.send_trailers(trailers).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.headers()["x-two"], "2");
    let mut body = response.into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "answer");
    assert_eq!(body.trailers().await.unwrap().unwrap()["x-three"], "3");
    asked.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_response_in_one_go_and_one_without_a_body() {
    let mut both = Both::new().await;
    for body in [Some("Hello, World!"), None] {
        let (response, _) = both.client.send_request(post(), true).unwrap();
        let asked = both.asked().await;
        asked
            .stream
            .respond_with(ok(), body.map(|body| Payload::Copied(body.as_bytes())), true)
            .unwrap();
        let mut received = response.await.unwrap().into_body();
        assert_eq!(received.is_end_stream(), body.is_none());
        if let Some(body) = body {
            assert_eq!(received.data().await.unwrap().unwrap(), body);
        }
        assert!(received.data().await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_may_speak_on_after_the_clients_end_and_hears_of_its_reset() {
    let mut both = Both::new().await;
    let (response, mut sending) = both.client.send_request(post(), false).unwrap();
    sending.send_data(Bytes::new(), true).unwrap();
    let mut asked = both.asked().await;
    asked.stream.set_mode(ModeChange::Set(Mode::Active)).unwrap();
    assert_eq!(asked.notice().await, Notice::Last(Bytes::new()));
    asked.stream.respond(ok(), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    asked.stream.send(Payload::Copied(b"on and on"), false).unwrap();
    assert_eq!(body.data().await.unwrap().unwrap(), "on and on");
    sending.send_reset(h2::Reason::CANCEL);
    assert_eq!(asked.notice().await, Notice::Error(EndReason::Reset(8)));
    assert_eq!(
        asked.stream.send(Payload::Copied(b"more"), false),
        Err(SendError::Closed)
    );
    asked.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_nobody_reads_is_bounded_by_the_window() {
    let mut both = Both::new().await;
    let (_response, mut sending) = both.client.send_request(post(), false).unwrap();
    let window = options().connection.initial_window_size as usize;
    sending.send_data(vec![1; 2 * window].into(), true).unwrap();
    let asked = both.asked().await;
    timeout(DEADLINE, async {
        while asked.stream.queued().0 < window {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("a window's worth");
    assert_eq!(asked.stream.queued().0, window);
    // Taken, it is given back, and the rest comes.
    let mut received = 0;
    timeout(DEADLINE, async {
        while received < 2 * window {
            received += asked
                .stream
                .take_data_for(())
                .iter()
                .map(|(data, _)| data.len())
                .sum::<usize>();
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("all of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_stream_says_why() {
    let mut both = Both::new().await;
    let (response, _sending) = both.client.send_request(post(), false).unwrap();
    let asked = both.asked().await;
    assert!(asked.stream.reset(0xd));
    assert!(!asked.stream.reset(0xd));
    assert_eq!(
        response.await.unwrap_err().reason(),
        Some(h2::Reason::HTTP_1_1_REQUIRED)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_finishes_what_is_there() {
    let mut both = Both::new().await;
    let (response, _sending) = both.client.send_request(post(), true).unwrap();
    let asked = both.asked().await;
    both.server.retire();
    // The client's handle to open streams fails once it has heard of it.
    timeout(DEADLINE, async {
        loop {
            match both.client.clone().ready().await {
                Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
                Err(error) => break error,
            }
        }
    })
    .await
    .expect("GOAWAY");
    asked
        .stream
        .respond_with(ok(), Some(Payload::Copied(b"in time")), true)
        .unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "in time");
    assert!(matches!(both.life().await, ClientLife::Over(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_ends_what_is_there() {
    let mut both = Both::new().await;
    let (response, _sending) = both.client.send_request(post(), false).unwrap();
    let mut asked = both.asked().await;
    both.server.close();
    assert!(response.await.is_err());
    asked.ended().await;
    assert!(matches!(both.life().await, ClientLife::Over(EndReason::Closed)));
}

/// Hung up on, not reset: what the server says of it ahead must not be lost, and a reset looks like a failure of the network.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_speak_http2_is_hung_up_on_in_order() {
    for babble in [
        &b"GET / HTTP/1.1\r\nhost: localhost\r\nuser-agent: none\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\nand more of it",
    ] {
        let Served {
            server,
            mut lives,
            mut near,
            ..
        } = Served::new().await;
        near.write_all(babble).await.unwrap();
        timeout(DEADLINE, near.read_to_end(&mut Vec::new()))
            .await
            .expect("an end")
            .expect("an end in order");
        let life = timeout(DEADLINE, lives.recv()).await.expect("news").unwrap();
        assert!(
            matches!(
                life,
                ClientLife::Failed(OpenError::Ended(EndReason::Lost(Loss::InvalidPreface)))
            ),
            "{life:?}"
        );
        drop(server);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_leave_nothing_behind() {
    let mut both = Both::new().await;
    for _ in 0..1000 {
        let (response, _) = both
            .client
            .clone()
            .ready()
            .await
            .unwrap()
            .send_request(post(), true)
            .unwrap();
        let asked = both.asked().await;
        asked
            .stream
            .respond_with(ok(), Some(Payload::Copied(b"hi")), true)
            .unwrap();
        assert_eq!(response.await.unwrap().into_body().data().await.unwrap().unwrap(), "hi");
    }
    timeout(DEADLINE, async {
        while both.server.info().unwrap().load.streams > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("no stream left");
    let Both { client, mut lives, .. } = both;
    drop(client);
    let life = timeout(DEADLINE, lives.recv()).await.expect("news").unwrap();
    assert!(matches!(life, ClientLife::GoAway(_) | ClientLife::Over(_)), "{life:?}");
}
