//! Moves one stream's messages between h2's handles and the stream's own queues. Runs under the connection's baton.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
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
    /// The peer's side has ended, or nobody wants it.
    Finished,
}

/// What our side is about to send.
enum Sending {
    /// A server's response, and what comes ahead of it.
    Head(SendResponse<Bytes>),
    Body(SendStream<Bytes>),
}

impl Sending {
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reason, h2::Error>> {
        match self {
            Sending::Head(respond) => respond.poll_reset(cx),
            Sending::Body(body) => body.poll_reset(cx),
        }
    }

    fn send_reset(&mut self, reason: Reason) {
        match self {
            Sending::Head(respond) => respond.send_reset(reason),
            Sending::Body(body) => body.send_reset(reason),
        }
    }
}

/// The driver's half of a stream.
pub(super) struct Pump<O: Outlet> {
    pub(super) stream: Arc<Stream<O>>,
    pub(super) id: u32,
    reading: Reading,
    /// `None` once our side has ended.
    sending: Option<Sending>,
    /// Our side, when it has ended: the peer may have to be told of a reset yet.
    sent: Option<Sending>,
    /// The peer has opened it.
    of_peer: bool,
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
        (sending, fin): (SendStream<Bytes>, bool),
        id: u32,
        ready: Arc<ReadyFlag<O>>,
    ) -> Self {
        let sending = Some(Sending::Body(sending));
        let (sending, sent) = if fin { (None, sending) } else { (sending, None) };
        Pump {
            stream,
            id,
            reading: Reading::Head(response),
            sending,
            sent,
            of_peer: false,
            waker: Waker::from(ready.clone()),
            ready,
        }
    }

    /// A stream that the peer has opened.
    pub(super) fn accepted(
        stream: Arc<Stream<O>>,
        request: RecvStream,
        respond: SendResponse<Bytes>,
        ready: Arc<ReadyFlag<O>>,
    ) -> Self {
        Pump {
            stream,
            id: respond.stream_id().as_u32(),
            reading: Reading::Body(request),
            sending: Some(Sending::Head(respond)),
            sent: None,
            of_peer: true,
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
        let unread = || self.of_peer && self.stream.state.lock().abandoned;
        if self.sending.is_none() && (matches!(self.reading, Reading::Finished) || unread()) {
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
                            if !body.is_end_stream() {
                                push(connection, stream, Message::Data(data))?;
                                continue;
                            }
                            // At once, so that they are told at once where the end is told with the data.
                            self.reading = Reading::Finished;
                            return finish(connection, stream, Message::Data(data));
                        }
                        Poll::Ready(Some(Err(e))) => return Err(connection.end_reason(&e, Some(self.id))),
                        Poll::Ready(None) => {}
                    }
                    let Poll::Ready(trailers) = body.poll_trailers(cx) else {
                        return Ok(());
                    };
                    let trailers = trailers.map_err(|e| connection.end_reason(&e, Some(self.id)))?;
                    self.reading = Reading::Finished;
                    return match trailers {
                        Some(trailers) => finish(connection, stream, Message::Trailers(trailers)),
                        None => finish(connection, stream, Message::Data(Bytes::new())),
                    };
                }
                Reading::Finished => return Ok(()),
            }
        }
    }

    /// Hands to h2 what the peer's window has room for. True when the batch ended before the queue or the window did.
    fn write(&mut self, cx: &mut Context<'_>, connection: &Connection<O>, place: Place) -> Result<bool, EndReason> {
        let mut batch = if place.is_inline() { INLINE_BATCH } else { TASK_BATCH };
        loop {
            let Some(sending) = &mut self.sending else {
                return Ok(false);
            };
            let Some(wanted) = self.stream.state.lock().outbox.wants() else {
                break;
            };
            let mut window = 0;
            if wanted > 0
                && let Sending::Body(body) = sending
            {
                body.reserve_capacity(wanted.min(RESERVE));
                window = body.capacity();
                while window == 0 {
                    match body.poll_capacity(cx) {
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
            let Some(next) = next else { break };
            if let Next::Data(data, _) = &next {
                batch -= data.len();
            }
            match send(sending, next) {
                Ok(false) => {}
                Ok(true) => {
                    self.sent = self.sending.take();
                    return Ok(false);
                }
                Err(e) => return self.stopped(connection, &e),
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

    /// Our side cannot go on. After the response's regular end that is no error: the peer did not want the rest (RFC 9113, 8.1). But for
    /// a server it is one: the client does not wait for the response any more. Before the end of the peer's side, the receive side
    /// brings the same error or what was received ahead of it, so it is left to tell.
    fn stopped_for(&mut self, reason: EndReason) -> Result<bool, EndReason> {
        self.sending = None;
        let mut state = self.stream.state.lock();
        drop(state.outbox.clear());
        match self.reading {
            Reading::Finished if !self.of_peer => {
                state.unwanted = state.outbox.has_lost();
                Ok(false)
            }
            _ => Err(reason),
        }
    }

    fn end(&mut self, reason: EndReason) -> Pumped {
        if reason == EndReason::RecvBufferOverflow {
            self.send_reset(Reason::FLOW_CONTROL_ERROR);
        }
        self.stream.state.lock().inbox.end(reason);
        Pumped::Over
    }

    fn cancel(&mut self) -> Pumped {
        let reason = self.stream.state.lock().reset;
        self.send_reset(reason);
        Pumped::Over
    }

    fn send_reset(&mut self, reason: Reason) {
        if let Some(side) = self.sending.as_mut().or(self.sent.as_mut()) {
            side.send_reset(reason);
        }
    }
}

/// Hands a piece to h2. True when it was the last.
fn send(sending: &mut Sending, next: Next) -> Result<bool, h2::Error> {
    match (next, sending) {
        (Next::Informational(head), Sending::Head(respond)) => respond.send_informational(head).map(|()| false),
        (Next::Response(head, last), sending @ Sending::Head(_)) => {
            if let Sending::Head(respond) = sending {
                *sending = Sending::Body(respond.send_response(head, last)?);
            }
            Ok(last)
        }
        (Next::Data(data, last), Sending::Body(body)) => body.send_data(data, last).map(|()| last),
        (Next::Trailers(trailers), Sending::Body(body)) => body.send_trailers(trailers).map(|()| true),
        // The outbox gives header fields first, and once only.
        (Next::Informational(_) | Next::Response(..), Sending::Body(_)) => Ok(false),
        (Next::Data(..) | Next::Trailers(_), Sending::Head(_)) => Ok(false),
    }
}

/// Queues the last message of the peer's side, and that it is the last.
fn finish<O: Outlet>(connection: &Connection<O>, stream: &Stream<O>, last: Message) -> Result<(), EndReason> {
    let size = last.body_len();
    let mut state = stream.state.lock();
    state.received(connection, size);
    state.flow = None;
    state.inbox.push(last).map_err(|_| EndReason::RecvBufferOverflow)?;
    state
        .inbox
        .push(Message::Done)
        .map_err(|_| EndReason::RecvBufferOverflow)
}

fn push<O: Outlet>(connection: &Connection<O>, stream: &Stream<O>, message: Message) -> Result<(), EndReason> {
    let mut state = stream.state.lock();
    state.received(connection, message.body_len());
    state.inbox.push(message).map_err(|_| EndReason::RecvBufferOverflow)
}
