//! What a stream offers to those who name it by its identifier: responses to a peer's request, sides that end each for itself, and what
//! has become of what was sent.

use std::sync::Arc;

use bytes::Bytes;
use h2::Reason;
use http::Response;

use super::credit::FlowControl;
use super::outbox::{Fin, Head, Payload};
use super::stream::{State, Stream};
use crate::error::{EndReason, SendError};
use crate::outlet::Outlet;

/// What has become of what a sender queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// All of it has been handed to the connection.
    All,
    /// Some of it waits for the peer's window.
    Waiting,
    /// Some of it never left: the stream has ended like this.
    Lost(EndReason),
    /// Some of it never left: the peer has answered without it.
    Unwanted,
}

impl<O: Outlet> Stream<O> {
    /// [`Stream::send`] whatever the buffer's bound says: for a sender that will wait until all has left (see [`Stream::await_room`]).
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn append(&self, payload: Payload<'_>, fin: bool) -> Result<(), SendError> {
        let mut state = self.sendable()?;
        state.outbox.push(payload);
        if fin {
            state.outbox.finish(Fin::Data);
        }
        drop(state);
        self.push_out();
        Ok(())
    }

    /// A response has been given.
    pub fn has_responded(&self) -> bool {
        self.state.lock().outbox.is_headed()
    }

    /// Our side has ended, or is about to: nothing more is taken.
    pub fn has_ended(&self) -> bool {
        !self.state.lock().outbox.is_open()
    }

    /// What has become of what was queued.
    pub fn sent(&self) -> Sent {
        let state = self.state.lock();
        if state.unwanted {
            Sent::Unwanted
        } else if state.outbox.has_lost() {
            state.end_reason().map_or(Sent::Unwanted, Sent::Lost)
        } else if state.outbox.is_flushed() {
            Sent::All
        } else {
            Sent::Waiting
        }
    }

    /// How it has ended: as a reset also when its user closed it.
    pub fn end_reason(&self) -> Option<EndReason> {
        self.state.lock().end_reason()
    }

    /// Nobody will read what the peer still sends: once our side has ended the stream is over (RFC 9113, 8.1).
    pub fn abandon(&self) {
        self.state.lock().abandoned = true;
        if let Some(link) = self.link.get() {
            link.ready.mark();
            link.connection.drive_soon();
        }
    }

    /// Gives the response to a stream that the peer has opened: header fields, and with `fin` no body.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn respond(&self, response: Response<()>, fin: bool) -> Result<(), SendError> {
        self.respond_with(response, None, fin)
    }

    /// [`Stream::respond`] with body bytes, in one go.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn respond_with(&self, response: Response<()>, body: Option<Payload<'_>>, fin: bool) -> Result<(), SendError> {
        let mut state = self.respondable()?;
        state.outbox.push_head(Head::Final(response));
        if let Some(body) = body {
            state.outbox.push(body);
        }
        if fin {
            state.outbox.finish(Fin::Data);
        }
        drop(state);
        self.push_out();
        Ok(())
    }

    /// Gives a 1xx response, ahead of the final one.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn inform(&self, response: Response<()>) -> Result<(), SendError> {
        let mut state = self.respondable()?;
        state.outbox.push_head(Head::Informational(response));
        drop(state);
        self.push_out();
        Ok(())
    }

    fn respondable(&self) -> Result<parking_lot::MutexGuard<'_, State<O>>, SendError> {
        let state = self.state.lock();
        if state.inbox.is_ended() {
            Err(SendError::Closed)
        } else if state.outbox.is_headed() {
            Err(SendError::Responded)
        } else {
            Ok(state)
        }
    }

    /// Takes the body bytes that are queued, and posts the rest and what comes later to `owner`.
    pub fn take_data_for(self: &Arc<Self>, owner: O::Owner) -> Vec<(Bytes, bool)> {
        let mut state = self.state.lock();
        state.owner = owner;
        let taken = state.inbox.take_data();
        state.took(taken.iter().map(|(data, _)| data.len()).sum(), self.link.get());
        drop(state);
        taken
    }

    /// [`Stream::close`] with another code for the peer (RFC 9113, 7). False when it is over already.
    pub fn reset(self: &Arc<Self>, code: u32) -> bool {
        let mut state = self.state.lock();
        if state.closing || state.inbox.is_ended() {
            return false;
        }
        state.reset = Reason::from(code);
        drop(state);
        self.close();
        true
    }

    /// Changes who gives received bytes back.
    pub fn set_flow_control(&self, flow_control: FlowControl) {
        let mut state = self.state.lock();
        let unread = state.inbox.queued().0;
        let due = state.credit.set(flow_control, unread);
        state.give_back(due, self.link.get());
    }

    /// [`Stream::consume`] for those who need not know how much there is to give back.
    pub fn consume_at_most(&self, n: usize) {
        let mut state = self.state.lock();
        let n = n.min(state.credit.outstanding());
        if let Ok(due) = state.credit.consume(n) {
            state.give_back(due, self.link.get());
        }
    }
}
