//! Sending and receiving DATA with HTTP/2 flow control obeyed on both sides.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};

/// Queues all of `data` on the stream, waiting whenever the peer's window or h2's send buffer is full.
///
/// # Errors
/// The stream was reset or its connection is gone.
pub async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        let room = room_for(stream, data.len()).await?;
        stream.send_data(data.split_to(room.min(data.len())), false)?;
    }
    Ok(())
}

/// Waits for room for at least one byte of the `wanted`, and says for how many there is.
///
/// # Errors
/// The stream was reset or its connection is gone.
pub async fn room_for(stream: &mut SendStream<Bytes>, wanted: usize) -> Result<usize, h2::Error> {
    stream.reserve_capacity(wanted);
    loop {
        // poll_capacity tells only of changes: what is there already has to be asked for first.
        let room = stream.capacity();
        if room > 0 {
            return Ok(room);
        }
        match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Err(why_closed(stream).await),
        }
    }
}

/// What ended a stream that takes no more data.
async fn why_closed(stream: &mut SendStream<Bytes>) -> h2::Error {
    poll_fn(|cx| {
        Poll::Ready(match stream.poll_reset(cx) {
            Poll::Ready(Ok(reason)) => reason.into(),
            Poll::Ready(Err(error)) => error,
            Poll::Pending => Reason::STREAM_CLOSED.into(),
        })
    })
    .await
}

/// The next piece of the body, its window given back at once; `None` at the body's end.
///
/// # Errors
/// The stream was reset or its connection is gone.
pub async fn receive(body: &mut RecvStream) -> Result<Option<Bytes>, h2::Error> {
    match body.data().await {
        None => Ok(None),
        Some(Err(error)) => Err(error),
        Some(Ok(data)) => {
            // Refused only when the stream has ended meanwhile: then there is no window left to widen.
            let _ = body.flow_control().release_capacity(data.len());
            Ok(Some(data))
        }
    }
}

/// Reads the rest of the body and throws it away.
///
/// # Errors
/// The stream was reset or its connection is gone.
pub async fn drain(body: &mut RecvStream) -> Result<u64, h2::Error> {
    let mut bytes = 0;
    while let Some(data) = receive(body).await? {
        bytes += data.len() as u64;
    }
    Ok(bytes)
}
