//! A server that echoes each stream of each connection, with trailers at the end, and one that says what it is told to.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::DEADLINE;

/// Bytes of the client's preface (RFC 9113, 3.4).
const PREFACE_LEN: usize = 24;
/// Frame types (RFC 9113, 6.1, 6.2 and 6.5).
pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const SETTINGS: u8 = 0x4;

/// Connections that have ended, by port.
static CLOSED: LazyLock<Mutex<HashMap<u16, watch::Receiver<usize>>>> = LazyLock::new(Mutex::default);

/// The port of a new server.
pub(crate) async fn start() -> u16 {
    start_with(&h2::server::Builder::new()).await
}

/// The port of a new server whose connections are made like this.
pub(crate) async fn start_with(builder: &h2::server::Builder) -> u16 {
    let builder = builder.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (count, counted) = watch::channel(0);
    CLOSED.lock().unwrap().insert(port, counted);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let mut connection = builder.handshake(socket).await.unwrap();
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

/// The port of a server that takes one connection, waits for a frame of each of these types and answers it with these bytes, in one
/// piece, whatever they are.
pub(crate) async fn answer(script: Vec<(u8, Vec<u8>)>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.read_exact(&mut [0; PREFACE_LEN]).await.unwrap();
        for (kind, bytes) in script {
            loop {
                let mut header = [0; 9];
                socket.read_exact(&mut header).await.unwrap();
                let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
                socket.read_exact(&mut vec![0; length as usize]).await.unwrap();
                if header[3] == kind {
                    break;
                }
            }
            socket.write_all(&bytes).await.unwrap();
        }
        // Until the client hangs up.
        let _ = socket.read_to_end(&mut Vec::new()).await;
    });
    port
}
