//! The way out: how events leave the engine. The NIF posts them to Erlang processes, tests to channels.

use crate::message::Notice;

/// The life of a stream, told to whoever keeps it (in the NIF: the stream's own process).
#[derive(Debug)]
pub enum Life {
    /// The peer's SETTINGS arrived: the stream is open.
    Opened,
    /// It could not be opened.
    Failed(crate::error::OpenError),
    /// The stream is over: nothing more arrives. What is queued can still be read.
    Ended,
    /// The stream is over and its reader has been told so: nothing is left to read.
    Drained,
}

/// Where a stream's events go. **Called only on the engine's own threads**, never on the thread of a caller, so that an
/// implementation needs one way of sending only and messages of one stream keep their order.
pub trait Outlet: Send + Sync + 'static {
    /// Who gets notices in an active mode.
    type Owner: Send + 'static;
    /// Who waits for something to read or for room to send.
    type Waiter: Send + 'static;

    /// Posts `notice` of the stream with this identifier to `owner`.
    fn notify(&self, owner: &Self::Owner, stream: u32, notice: Notice);
    /// Tells a waiter to look again.
    fn wake(&self, waiter: Self::Waiter);
    /// Tells the stream's keeper how the stream fares.
    fn life(&self, life: Life);
    /// An identity of the waiter: a process waits at most once, so its own identity serves.
    fn waiter_id(waiter: &Self::Waiter) -> u64;
}
