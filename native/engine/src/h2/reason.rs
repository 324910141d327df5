//! Why a connection or a stream is over: what h2, the byte stream and panics have to say, in the engine's terms.

use h2::Reason;

use super::connection::Connection;
use super::facts::Ending;
use crate::error::{EndReason, Loss};
use crate::outlet::Outlet;

impl<O: Outlet> Connection<O> {
    /// Why the connection is over, as far as its byte stream tells.
    pub(super) fn lost(&self) -> EndReason {
        match self.facts.ending() {
            Some(Ending::Broken(loss)) => EndReason::Lost(loss),
            _ => EndReason::Closed,
        }
    }

    /// Why nobody is admitted any more.
    pub(super) fn refusal(&self) -> EndReason {
        if self.facts.goaway().is_some() || self.is_retiring() {
            EndReason::Unprocessed
        } else {
            self.lost()
        }
    }

    /// What h2's error means to a stream.
    pub(super) fn end_reason(&self, error: &h2::Error, stream: Option<u32>) -> EndReason {
        let code = error.reason().map(u32::from);
        match code {
            // RFC 9113, 6.9.1 has two errors of flow control: too much sent to us, or too much allowed us.
            Some(code)
                if error.is_library()
                    && code == u32::from(Reason::FLOW_CONTROL_ERROR)
                    && !self.facts.send_window_too_large() =>
            {
                EndReason::RecvBufferOverflow
            }
            Some(code) if error.is_reset() => EndReason::Reset(code),
            Some(code) if error.is_go_away() && error.is_remote() => {
                let served = self.facts.goaway().map_or(u32::MAX, |goaway| goaway.last_stream);
                match stream {
                    Some(id) if self.is_shared() && id > served => EndReason::Unprocessed,
                    _ => EndReason::GoAway(code),
                }
            }
            Some(code) => EndReason::Lost(Loss::Protocol(code)),
            None => match self.facts.ending() {
                Some(Ending::Orderly) => EndReason::Closed,
                Some(Ending::Broken(loss)) => EndReason::Lost(loss),
                None => EndReason::Lost(Loss::Other(error.to_string())),
            },
        }
    }
}

/// A panic's message.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown panic".to_owned())
}
