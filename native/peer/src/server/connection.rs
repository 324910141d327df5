//! One HTTP/2 connection: a task per stream.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::server::routes;
use crate::windows::{DATA_FRAME_BUDGET, Windows};

/// Streams one peer may have open at a time: the tests and the bench open some thousands.
const MAX_CONCURRENT_STREAMS: u32 = 100_000;
/// What may be queued per stream beyond what the socket took; large enough to fill many TLS records in one go.
const MAX_SEND_BUFFER: usize = 1 << 20;

/// Serves a connection to its end. An error ends this connection and concerns nobody else.
pub(super) async fn serve<T>(socket: T, windows: Windows)
where
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    let handshake = h2::server::Builder::new()
        .initial_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_send_buffer_size(MAX_SEND_BUFFER)
        .data_frame_budget(DATA_FRAME_BUDGET)
        .handshake(socket);
    let Ok(mut connection) = handshake.await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        // A failed stream was reset, by the peer or by us; the connection lives on.
        tokio::spawn(async move {
            let _ = routes::answer(request, respond).await;
        });
    }
}
