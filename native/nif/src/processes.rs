//! The engine's outlet: events become messages to Erlang processes.

use std::cell::RefCell;

use hackney_engine::error::OpenError;
use hackney_engine::h2::{ClientLife, ClientListener, Sent};
use hackney_engine::{Gone, Life, Message, Notice, Outlet};
use rustler::env::SavedTerm;
use rustler::{Encoder, Env, LocalPid, OwnedEnv, Term};

use crate::events::Events;
use crate::exchange::outcome;
use crate::terms::errors::{end_reason, error_code, open_error};
use crate::terms::message::message;
use crate::{atoms, lifecycle};

/// Where one stream's events go.
pub(crate) enum Processes {
    /// A stream with a process of its own, whose pid stands in every message to the owner.
    OfProcess(LocalPid),
    /// A stream of a connection, which is named by its identifier.
    OfConnection(Events),
}

/// A process that waits in `receive` for `{hackney_native, Name}`, or for `{hackney_native, Name, Message}`.
pub(crate) struct Waiter {
    pid: LocalPid,
    key: u64,
    name: Name,
}

/// By what the process knows what it waits for.
enum Name {
    /// It wants to be told to look.
    Reference(OwnedEnv, SavedTerm),
    /// It may be handed the message itself. A number needs no environment, too.
    Number(i64),
}

impl Waiter {
    /// The calling process, with a reference or a number it has made.
    pub(crate) fn new(caller: LocalPid, key: u64, name: Term<'_>) -> Self {
        let name = name.decode().map_or_else(
            |_| {
                let env = OwnedEnv::new();
                let reference = env.save(name);
                Name::Reference(env, reference)
            },
            Name::Number,
        );
        Waiter { pid: caller, key, name }
    }

    /// Sends `{hackney_native, Name}`.
    fn wake(self) {
        self.post(|env, name| (atoms::hackney_native(), name).encode(env));
    }

    /// Sends `{hackney_native, Name, {ok, Id} | {error, Reason}}`: how the opening of a stream went.
    pub(crate) fn answer(self, opened: Result<u32, OpenError>) {
        self.post(|env, name| {
            let answer = match &opened {
                Ok(id) => (atoms::ok(), *id).encode(env),
                Err(error) => (atoms::error(), open_error(env, error)).encode(env),
            };
            (atoms::hackney_native(), name, answer).encode(env)
        });
    }

    /// Sends `{hackney_native, Name, ok | {error, Reason}}`: what has become of what was sent.
    pub(crate) fn tell(self, sent: Sent) {
        self.post(|env, name| (atoms::hackney_native(), name, outcome(env, &sent)).encode(env));
    }

    /// False when the receiver is gone.
    fn post(self, build: impl for<'a> FnOnce(Env<'a>, Term<'a>) -> Term<'a>) -> bool {
        match self.name {
            Name::Number(number) => post(&self.pid, |env| build(env, number.encode(env))),
            Name::Reference(mut env, reference) => {
                !lifecycle::is_halting()
                    && env
                        .send_and_clear(&self.pid, |env| build(env, reference.load(env)))
                        .is_ok()
            }
        }
    }
}

thread_local! {
    /// One environment to build messages in for each engine thread: `enif_send` empties it.
    static POSTBOX: RefCell<OwnedEnv> = RefCell::new(OwnedEnv::new());
}

/// False when the receiver is gone.
pub(crate) fn post(to: &LocalPid, build: impl for<'a> FnOnce(Env<'a>) -> Term<'a>) -> bool {
    !lifecycle::is_halting() && POSTBOX.with_borrow_mut(|env| env.send_and_clear(to, build)).is_ok()
}

/// Tells a connection's process of its life.
pub(crate) fn listener(keeper: LocalPid) -> ClientListener {
    Box::new(move |life| {
        post(&keeper, |env| {
            let news = match life {
                ClientLife::Connected => atoms::connected().encode(env),
                ClientLife::Failed(error) => (atoms::failed(), open_error(env, &error)).encode(env),
                ClientLife::GoAway(goaway) => {
                    (atoms::goaway(), goaway.last_stream, error_code(env, goaway.code)).encode(env)
                }
                ClientLife::Over(reason) => (atoms::over(), end_reason(env, &reason)).encode(env),
            };
            (atoms::hackney_native_nif(), news).encode(env)
        });
    })
}

impl Outlet for Processes {
    type Owner = LocalPid;
    type Waiter = Waiter;

    fn notify(&self, owner: &LocalPid, stream: u32, notice: Notice) {
        let keeper = match self {
            Processes::OfProcess(keeper) => keeper,
            Processes::OfConnection(events) => return events.notify(owner, stream, notice),
        };
        // A receiver that is gone is nobody's loss: the stream hears of its keeper's and its owner's end by other ways.
        post(owner, |env| match notice {
            Notice::Message(inner) => (atoms::hackney_h2(), *keeper, message(env, inner)).encode(env),
            // Of streams that tell the end apart.
            Notice::Last(data) => (atoms::hackney_h2(), *keeper, message(env, Message::Data(data))).encode(env),
            Notice::Error(reason) => (atoms::hackney_h2_error(), *keeper, end_reason(env, &reason)).encode(env),
            Notice::Closed => (atoms::hackney_h2(), *keeper, (atoms::closed(), atoms::closed())).encode(env),
            Notice::Passive => (atoms::hackney_h2_passive(), *keeper).encode(env),
        });
    }

    fn wake(&self, waiter: Waiter) {
        match self {
            Processes::OfProcess(_) => waiter.wake(),
            Processes::OfConnection(events) => events.wake(waiter),
        }
    }

    fn takes_messages(waiter: &Waiter) -> bool {
        matches!(waiter.name, Name::Number(_))
    }

    fn hand(&self, waiter: Waiter, next: &Message) -> Result<(), Gone> {
        let handed = waiter.post(|env, name| (atoms::hackney_native(), name, message(env, next.clone())).encode(env));
        if handed { Ok(()) } else { Err(Gone) }
    }

    fn life(&self, life: Life) {
        let keeper = match self {
            Processes::OfProcess(keeper) => keeper,
            Processes::OfConnection(events) => return events.life(life),
        };
        post(keeper, |env| {
            let news = match life {
                Life::Opened => atoms::opened().encode(env),
                Life::Failed(error) => (atoms::failed(), open_error(env, &error)).encode(env),
                Life::Ended => atoms::ended().encode(env),
                Life::Drained => atoms::drained().encode(env),
            };
            (atoms::hackney_native_nif(), news).encode(env)
        });
    }

    fn waiter_id(waiter: &Waiter) -> u64 {
        waiter.key
    }
}
