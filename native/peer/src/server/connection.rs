//! The h2 crate's connection: a task per stream.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::Failure;
use crate::arguments::Arguments;
use crate::server::{Stack, routes};
use crate::windows::{DATA_FRAME_BUDGET, Windows};

/// Streams one peer may have open at a time: the tests and the bench open some thousands.
const MAX_CONCURRENT_STREAMS: u32 = 100_000;
/// What may be queued per stream beyond what the socket took; large enough to fill many TLS records in one go.
const MAX_SEND_BUFFER: usize = 1 << 20;

/// The server on the h2 crate, with all the paths.
#[derive(Debug, Clone, Copy)]
pub struct H2 {
    /// Receive windows.
    pub windows: Windows,
}

impl Stack for H2 {
    const PROGRAM: &str = "h2-server";
    const OPTIONS: &str = " [--window BYTES] [--connection-window BYTES]";

    fn from_arguments(arguments: &mut Arguments) -> Result<Self, Failure> {
        let windows = Windows::from_arguments(arguments)?;
        Ok(Self { windows })
    }

    async fn serve<T>(self, socket: T)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = h2::server::Builder::new()
            .initial_window_size(self.windows.stream)
            .initial_connection_window_size(self.windows.connection)
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
}
