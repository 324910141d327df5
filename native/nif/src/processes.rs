//! The engine's outlet: events become messages to Erlang processes.

use std::cell::RefCell;

use hackney_engine::h2::{ClientLife, ClientListener};
use hackney_engine::{Life, Notice, Outlet};
use rustler::env::SavedTerm;
use rustler::{Encoder, Env, LocalPid, OwnedEnv, Term};

use crate::terms::errors::{end_reason, error_code, open_error};
use crate::terms::message::message;
use crate::{atoms, lifecycle};

/// Where one stream's events go.
pub(crate) struct Processes {
    /// The stream's own process. Its pid stands in every message to the owner.
    pub(crate) keeper: LocalPid,
}

/// A process that waits in `receive` for `{hackney_native, Ref}`.
pub(crate) struct Waiter {
    pid: LocalPid,
    key: u64,
    env: OwnedEnv,
    reference: SavedTerm,
}

impl Waiter {
    /// The calling process, with a reference it has made.
    pub(crate) fn new(caller: LocalPid, key: u64, reference: Term<'_>) -> Self {
        let env = OwnedEnv::new();
        let reference = env.save(reference);
        Waiter {
            pid: caller,
            key,
            env,
            reference,
        }
    }
}

thread_local! {
    /// One environment to build messages in for each engine thread: `enif_send` empties it.
    static POSTBOX: RefCell<OwnedEnv> = RefCell::new(OwnedEnv::new());
}

fn post(to: &LocalPid, build: impl for<'a> FnOnce(Env<'a>) -> Term<'a>) {
    if lifecycle::is_halting() {
        return;
    }
    // A receiver that is gone is nobody's loss: the stream hears of its keeper's and its owner's end by other ways.
    let _ = POSTBOX.with_borrow_mut(|env| env.send_and_clear(to, build));
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

    fn notify(&self, owner: &LocalPid, _: u32, notice: Notice) {
        post(owner, |env| match notice {
            Notice::Message(inner) => (atoms::hackney_h2(), self.keeper, message(env, inner)).encode(env),
            Notice::Error(reason) => (atoms::hackney_h2_error(), self.keeper, end_reason(env, &reason)).encode(env),
            Notice::Closed => (atoms::hackney_h2(), self.keeper, (atoms::closed(), atoms::closed())).encode(env),
            // Of streams that tell events only.
            Notice::Last(_) => atoms::undefined().encode(env),
            Notice::Passive => (atoms::hackney_h2_passive(), self.keeper).encode(env),
        });
    }

    fn wake(&self, waiter: Waiter) {
        let Waiter {
            pid,
            mut env,
            reference,
            ..
        } = waiter;
        if lifecycle::is_halting() {
            return;
        }
        let _ = env.send_and_clear(&pid, |env| (atoms::hackney_native(), reference.load(env)));
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
