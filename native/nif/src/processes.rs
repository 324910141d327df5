//! The engine's outlet: events become messages to Erlang processes.

use std::cell::RefCell;

use hackney_engine::{Gone, Life, Message, Notice, Outlet};
use rustler::env::SavedTerm;
use rustler::{Encoder, Env, LocalPid, OwnedEnv, Term};

use crate::terms::errors::{end_reason, open_error};
use crate::terms::message::message;
use crate::{atoms, lifecycle};

/// Where one stream's events go.
pub(crate) struct Processes {
    /// The stream's own process. Its pid stands in every message to the owner.
    pub(crate) keeper: LocalPid,
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
}

thread_local! {
    /// One environment to build messages in for each engine thread: `enif_send` empties it.
    static POSTBOX: RefCell<OwnedEnv> = RefCell::new(OwnedEnv::new());
}

/// False when the receiver is gone.
fn post(to: &LocalPid, build: impl for<'a> FnOnce(Env<'a>) -> Term<'a>) -> bool {
    !lifecycle::is_halting() && POSTBOX.with_borrow_mut(|env| env.send_and_clear(to, build)).is_ok()
}

impl Outlet for Processes {
    type Owner = LocalPid;
    type Waiter = Waiter;

    fn notify(&self, owner: &LocalPid, notice: Notice) {
        // A receiver that is gone is nobody's loss: the stream hears of its keeper's and its owner's end by other ways.
        post(owner, |env| match notice {
            Notice::Message(inner) => (atoms::hackney_h2(), self.keeper, message(env, inner)).encode(env),
            Notice::Error(reason) => (atoms::hackney_h2_error(), self.keeper, end_reason(env, &reason)).encode(env),
            Notice::Closed => (atoms::hackney_h2(), self.keeper, (atoms::closed(), atoms::closed())).encode(env),
            Notice::Passive => (atoms::hackney_h2_passive(), self.keeper).encode(env),
        });
    }

    fn wake(&self, waiter: Waiter) {
        match waiter.name {
            Name::Number(number) => {
                post(&waiter.pid, |env| (atoms::hackney_native(), number).encode(env));
            }
            Name::Reference(mut env, reference) => {
                if !lifecycle::is_halting() {
                    let _ = env.send_and_clear(&waiter.pid, |env| {
                        (atoms::hackney_native(), reference.load(env)).encode(env)
                    });
                }
            }
        }
    }

    fn takes_messages(waiter: &Waiter) -> bool {
        matches!(waiter.name, Name::Number(_))
    }

    fn hand(&self, waiter: Waiter, next: &Message) -> Result<(), Gone> {
        let Name::Number(number) = waiter.name else {
            return Err(Gone);
        };
        let handed = post(&waiter.pid, |env| {
            (atoms::hackney_native(), number, message(env, next.clone())).encode(env)
        });
        if handed { Ok(()) } else { Err(Gone) }
    }

    fn life(&self, life: Life) {
        post(&self.keeper, |env| {
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
