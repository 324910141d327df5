//! The way out: how events leave the engine. The NIF posts them to Erlang processes, tests to channels.

use crate::message::{Message, Notice};

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

/// Who waited is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Where a stream's events go. **Called only on the engine's own threads**, never on the thread of a caller, so that an
/// implementation needs one way of sending only and messages of one stream keep their order.
pub trait Outlet: Send + Sync + 'static {
    /// Who gets notices in an active mode.
    type Owner: Send + 'static;
    /// Who waits for something to read or for room to send.
    type Waiter: Send + 'static;

    /// Posts `notice` to `owner`.
    fn notify(&self, owner: &Self::Owner, notice: Notice);
    /// Tells a waiter to look again.
    fn wake(&self, waiter: Self::Waiter);
    /// Whether the waiter can be handed a message, instead of being told to look for it.
    fn takes_messages(_waiter: &Self::Waiter) -> bool {
        false
    }
    /// Hands a waiter that takes messages the one it waits for.
    ///
    /// # Errors
    /// It is gone, and has got nothing.
    fn hand(&self, _waiter: Self::Waiter, _message: &Message) -> Result<(), Gone> {
        Err(Gone)
    }
    /// Tells the stream's keeper how the stream fares.
    fn life(&self, life: Life);
    /// An identity of the waiter: a process waits at most once, so its own identity serves.
    fn waiter_id(waiter: &Self::Waiter) -> u64;
}
