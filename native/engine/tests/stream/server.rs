//! Echoes each stream of each connection, with trailers at the end.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::DEADLINE;

/// Connections that have ended, by port.
static CLOSED: LazyLock<Mutex<HashMap<u16, watch::Receiver<usize>>>> = LazyLock::new(Mutex::default);

/// The port of a new server.
pub(crate) async fn start() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (count, counted) = watch::channel(0);
    CLOSED.lock().unwrap().insert(port, counted);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(socket).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(echo(request, respond));
            }
            count.send_modify(|n| *n += 1);
        }
    });
    port
}

/// Waits until a connection to this server has ended.
pub(crate) async fn closed(port: u16) {
    let mut counted = CLOSED.lock().unwrap()[&port].clone();
    timeout(DEADLINE, counted.wait_for(|n| *n > 0))
        .await
        .expect("the end of a connection")
        .unwrap();
}

async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut body = request.into_body();
    let mut sending = respond.send_response(Response::new(()), false).unwrap();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        if sending.send_data(data, false).is_err() {
            return;
        }
    }
    let _ = sending.send_trailers(HeaderMap::new());
}
