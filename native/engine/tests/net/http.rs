//! HTTP/2 over what does not come from [`connect`](hackney_engine::net::connect): accepted, taken over, and carried by somebody else.

use bytes::Bytes;
use hackney_engine::net::{ListenOptions, Listener, pipe};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc::unbounded_channel;

use crate::accepted_tls::{greet, options};
use crate::certificates::Authority;
use crate::pipe::carry;
use crate::{DEADLINE, dial, to, trusting};

const BODY: usize = 1_000_000;

/// Serves one connection: every body is sent back as it comes.
async fn serve(listener: Listener) {
    let connected = greet(&listener).await.unwrap();
    let mut connection = h2::server::handshake(connected.transport).await.unwrap();
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request.unwrap();
        let mut body = request.into_body();
        tokio::spawn(async move {
            let mut sending = respond.send_response(Response::new(()), false).unwrap();
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                sending.send_data(data, false).unwrap();
            }
            sending.send_data(Bytes::new(), true).unwrap();
        });
    }
}

/// Two requests with large bodies at once, which have to come back as they are.
async fn visit(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let (mut requests, connection) = h2::client::handshake(stream).await.unwrap();
    let driving = tokio::spawn(connection);
    let mut visits = Vec::new();
    for seed in [1, 2] {
        let request = Request::post("http://localhost/").body(()).unwrap();
        let (response, mut sending) = requests.send_request(request, false).unwrap();
        let body: Vec<u8> = (0..BODY).map(|at| u8::try_from(at * seed % 251).unwrap()).collect();
        sending.send_data(body.clone().into(), true).unwrap();
        visits.push(tokio::spawn(async move {
            let mut incoming = response.await.unwrap().into_body();
            let mut got = Vec::new();
            while let Some(data) = incoming.data().await {
                let data = data.unwrap();
                incoming.flow_control().release_capacity(data.len()).unwrap();
                got.extend_from_slice(&data);
            }
            assert!(got == body);
        }));
    }
    for visit in visits {
        visit.await.unwrap();
    }
    drop(requests);
    driving.await.unwrap().unwrap();
}

async fn both(listener: Listener, visit: impl Future<Output = ()>) {
    let exchange = async { tokio::join!(serve(listener), visit) };
    tokio::time::timeout(DEADLINE, exchange)
        .await
        .expect("the exchange hangs");
}

async fn cleartext() -> (Listener, TcpStream) {
    let listener = Listener::bind(&ListenOptions::new("127.0.0.1:0".parse().unwrap()))
        .await
        .unwrap();
    let socket = TcpStream::connect(listener.local_addr()).await.unwrap();
    (listener, socket)
}

#[tokio::test]
async fn over_tls_that_was_accepted() {
    let authority = Authority::new("HTTP");
    let mut with_tls = ListenOptions::new("127.0.0.1:0".parse().unwrap());
    with_tls.tls = Some(options(&authority.issue(&["localhost"])));
    let listener = Listener::bind(&with_tls).await.unwrap();
    let target = to("localhost", listener.local_addr(), trusting(authority.der()));
    both(listener, async { visit(dial(&target).await.unwrap().transport).await }).await;
}

#[cfg(unix)]
#[tokio::test]
async fn over_a_descriptor_that_was_taken_over() {
    use std::os::fd::AsRawFd;
    let (listener, socket) = cleartext().await;
    let socket = socket.into_std().unwrap();
    let taken = hackney_engine::net::take_over(socket.as_raw_fd()).unwrap();
    drop(socket);
    both(listener, visit(taken.transport)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_pipe() {
    for capacity in [1_000, 256 * 1024] {
        let (listener, socket) = cleartext().await;
        let (sender, posted) = unbounded_channel();
        let outlet = move |out| {
            // Whoever carries is gone once it has seen the end.
            let _ = sender.send(out);
        };
        let (stream, end) = pipe(capacity, Box::new(outlet));
        let carrying = tokio::spawn(carry(socket, end, posted));
        both(listener, visit(stream)).await;
        carrying.await.unwrap();
    }
}
