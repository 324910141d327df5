//! Moves one stream's messages between h2's handles and the stream's own queues. Runs under the connection's baton.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};

use super::connection::{Connection, Place};
use super::outbox::Next;
use super::ready::ReadyFlag;
use super::stream::Stream;
use crate::error::EndReason;
use crate::message::Message;
use crate::outlet::Outlet;

/// Window asked of h2 at one time: what is asked for and unused is kept from other streams of the connection.
const RESERVE: usize = 256 * 1024;
/// Bytes handed to h2 in one round of a NIF call: they are encrypted and written in that call.
const INLINE_BATCH: usize = 64 * 1024;
/// Bytes handed to h2 in one round of the task.
const TASK_BATCH: usize = 512 * 1024;

/// Where the response is read.
enum Reading {
    Head(ResponseFuture),
    Body(RecvStream),
    /// The response has ended, or nobody wants it.
    Finished,
}

/// The driver's half of a stream.
pub(super) struct Pump<O: Outlet> {
    pub(super) stream: Arc<Stream<O>>,
    pub(super) id: u32,
    reading: Reading,
    sending: Option<SendStream<Bytes>>,
    waker: Waker,
    ready: Arc<ReadyFlag<O>>,
}

/// What a round of pumping came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// The stream goes on; h2 wakes it when there is more to do.
    Waiting,
    /// There is more to do at once.
    More,
    /// Both sides have ended, or the stream was closed: it can be dropped.
    Over,
}

impl<O: Outlet> Pump<O> {
    pub(super) fn new(
        stream: Arc<Stream<O>>,
        response: ResponseFuture,
        sending: SendStream<Bytes>,
        ready: Arc<ReadyFlag<O>>,
    ) -> Self {
        Pump {
            stream,
            id: sending.stream_id().as_u32(),
            reading: Reading::Head(response),
            sending: Some(sending),
            waker: Waker::from(ready.clone()),
            ready,
        }
    }

    /// Off the list of streams with something to do: a wake-up from now on puts it back.
    pub(super) fn unmark(&self) {
        self.ready.unmark();
    }

    /// Onto the list: somebody is driving, or will.
    pub(super) fn mark(&self) {
        self.ready.mark();
    }

    /// Back on the list at once, for another round.
    pub(super) fn mark_more(&self) {
        self.ready.mark();
        self.ready.connection().drive_soon();
    }

    pub(super) fn pump(&mut self, connection: &Connection<O>, place: Place) -> Pumped {
        if self.stream.state.lock().closing {
            return self.cancel();
        }
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        if let Err(reason) = self.read(&mut cx, connection) {
            return self.end(reason);
        }
        let more = match self.write(&mut cx, connection, place) {
            Ok(more) => more,
            Err(reason) => return self.end(reason),
        };
        if matches!(self.reading, Reading::Finished) && self.sending.is_none() {
            return Pumped::Over;
        }
        if more { Pumped::More } else { Pumped::Waiting }
    }

    /// Queues everything h2 has for us at once. Back-pressure is the window that is not given back, not frames left inside h2.
    fn read(&mut self, cx: &mut Context<'_>, connection: &Connection<O>) -> Result<(), EndReason> {
        let stream = &self.stream;
        loop {
            match &mut self.reading {
                Reading::Head(response) => {
                    if stream.options.informational {
                        while let Poll::Ready(Some(head)) = response.poll_informational(cx) {
                            let head = head.map_err(|e| connection.end_reason(&e, Some(self.id)))?;
                            let (parts, ()) = head.into_parts();
                            push(
                                connection,
                                stream,
                                Message::Informational(parts.status.as_u16(), parts.headers),
                            )?;
                        }
                    }
                    let Poll::Ready(head) = std::pin::Pin::new(response).poll(cx) else {
                        return Ok(());
                    };
                    let (parts, mut body) = head.map_err(|e| connection.end_reason(&e, Some(self.id)))?.into_parts();
                    let flow = body.flow_control().clone();
                    self.reading = Reading::Body(body);
                    stream.state.lock().flow = Some(flow);
                    push(
                        connection,
                        stream,
                        Message::Response(parts.status.as_u16(), parts.headers),
                    )?;
                }
                Reading::Body(body) => {
                    match body.poll_data(cx) {
                        Poll::Pending => return Ok(()),
                        Poll::Ready(Some(Ok(data))) => {
                            push(connection, stream, Message::Data(data))?;
                            continue;
                        }
                        Poll::Ready(Some(Err(e))) => return Err(connection.end_reason(&e, Some(self.id))),
                        Poll::Ready(None) => {}
                    }
                    let Poll::Ready(trailers) = body.poll_trailers(cx) else {
                        return Ok(());
                    };
                    if let Some(trailers) = trailers.map_err(|e| connection.end_reason(&e, Some(self.id)))? {
                        push(connection, stream, Message::Trailers(trailers))?;
                    }
                    self.reading = Reading::Finished;
                    stream.state.lock().flow = None;
                    push(connection, stream, Message::Done)?;
                }
                Reading::Finished => return Ok(()),
            }
        }
    }

    /// Hands to h2 what the peer's window has room for. True when the batch ended before the queue or the window did.
    fn write(&mut self, cx: &mut Context<'_>, connection: &Connection<O>, place: Place) -> Result<bool, EndReason> {
        let Some(sending) = &mut self.sending else {
            return Ok(false);
        };
        let mut batch = if place.is_inline() { INLINE_BATCH } else { TASK_BATCH };
        loop {
            let Some(wanted) = self.stream.state.lock().outbox.wants() else {
                break;
            };
            let mut window = 0;
            if wanted > 0 {
                sending.reserve_capacity(wanted.min(RESERVE));
                window = sending.capacity();
                while window == 0 {
                    match sending.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(granted))) => window = granted,
                        Poll::Ready(Some(Err(e))) => return self.stopped(connection, &e),
                        Poll::Ready(None) => return self.stopped_by_peer(cx, connection),
                        Poll::Pending => return self.watch_for_reset(cx, connection),
                    }
                }
            }
            if wanted > 0 && batch == 0 {
                return Ok(true);
            }
            let next = self.stream.state.lock().outbox.next(window.min(batch));
            let (result, last) = match next {
                None => break,
                Some(Next::Data(data, last)) => {
                    batch -= data.len();
                    (sending.send_data(data, last), last)
                }
                Some(Next::Trailers(trailers)) => (sending.send_trailers(trailers), true),
            };
            if let Err(e) = result {
                return self.stopped(connection, &e);
            }
            if last {
                self.sending = None;
                return Ok(false);
            }
        }
        self.watch_for_reset(cx, connection)
    }

    /// Once the response has ended, only the send side hears of RST_STREAM.
    fn watch_for_reset(&mut self, cx: &mut Context<'_>, connection: &Connection<O>) -> Result<bool, EndReason> {
        if !matches!(self.reading, Reading::Finished) {
            return Ok(false);
        }
        self.stopped_by_peer(cx, connection)
    }

    fn stopped_by_peer(&mut self, cx: &mut Context<'_>, connection: &Connection<O>) -> Result<bool, EndReason> {
        let Some(sending) = &mut self.sending else {
            return Ok(false);
        };
        match sending.poll_reset(cx) {
            Poll::Ready(Ok(reason)) => self.stopped_for(EndReason::Reset(reason.into())),
            Poll::Ready(Err(e)) => self.stopped(connection, &e),
            Poll::Pending => Ok(false),
        }
    }

    fn stopped(&mut self, connection: &Connection<O>, error: &h2::Error) -> Result<bool, EndReason> {
        let reason = connection.end_reason(error, Some(self.id));
        self.stopped_for(reason)
    }

    /// Our side cannot go on. After the response's regular end that is no error: the peer did not want the rest (RFC 9113, 8.1).
    /// Before it, the receive side brings the same error or what was received ahead of it, so it is left to tell.
    fn stopped_for(&mut self, reason: EndReason) -> Result<bool, EndReason> {
        self.sending = None;
        let mut state = self.stream.state.lock();
        drop(state.outbox.clear());
        drop(state);
        match self.reading {
            Reading::Finished => Ok(false),
            _ => Err(reason),
        }
    }

    fn end(&mut self, reason: EndReason) -> Pumped {
        if reason == EndReason::RecvBufferOverflow
            && let Some(sending) = &mut self.sending
        {
            sending.send_reset(Reason::FLOW_CONTROL_ERROR);
        }
        self.stream.state.lock().inbox.end(reason);
        Pumped::Over
    }

    fn cancel(&mut self) -> Pumped {
        if let Some(sending) = &mut self.sending {
            sending.send_reset(Reason::CANCEL);
        }
        // With our side ended already, dropping the handles of a response that still runs sends the same.
        Pumped::Over
    }
}

fn push<O: Outlet>(connection: &Connection<O>, stream: &Stream<O>, message: Message) -> Result<(), EndReason> {
    let size = message.body_len();
    let mut state = stream.state.lock();
    state.credit.received(size);
    if size > 0 {
        state.in_flight += size;
        connection.unread.fetch_add(size, Relaxed);
    }
    state.inbox.push(message).map_err(|_| EndReason::RecvBufferOverflow)
}
