//! The functions of `hackney_native_nif`. Each looks the stream up by its process's pid, makes one call of the engine, which never
//! waits, and turns the result into a term. See that module for what they mean.

use std::sync::Arc;
use std::time::Duration;

use hackney_engine::error::{RecvError, SendError};
use hackney_engine::h2::{Admitted, Received, Stream};
use hackney_engine::runtime::{self, Handle, NotRunning};
use rustler::{Atom, Encoder, Env, LocalPid, NifResult, Term};

use crate::processes::{Processes, Waiter};
use crate::registry::{NifStream, is_alive, pid_key};
use crate::terms::{errors, headers, info, message, mode, options, payload};
use crate::{atoms, clients, keeper, registry, times};

/// Making terms of so many header fields takes some 50 us.
const MANY_FIELDS: usize = 1000;

pub(crate) fn error<'a>(env: Env<'a>, reason: impl Encoder) -> Term<'a> {
    (atoms::error(), reason).encode(env)
}

fn find(env: Env<'_>, pid: &LocalPid) -> Option<Arc<NifStream>> {
    registry::find(pid_key(env, pid))
}

/// The process has no stream, or none any more.
pub(crate) fn gone(env: Env<'_>) -> Term<'_> {
    error(env, atoms::closed())
}

/// Milliseconds, or `infinity`.
pub(crate) fn decode_timeout(timeout: Term<'_>) -> NifResult<Option<Duration>> {
    match timeout.decode::<Atom>() {
        Ok(atom) if atom == atoms::infinity() => Ok(None),
        _ => Ok(Some(Duration::from_millis(timeout.decode()?))),
    }
}

/// Milliseconds, or `infinity`.
fn timeout(env: Env<'_>, milliseconds: Option<u64>) -> Term<'_> {
    milliseconds.map_or_else(|| atoms::infinity().encode(env), |ms| ms.encode(env))
}

/// `again` when the engine's threads do not run: [`new_many`] starts them.
#[rustler::nif]
fn new<'a>(env: Env<'a>, owner: LocalPid, options: Term<'a>) -> NifResult<Term<'a>> {
    let _timer = times::NEW.start();
    match runtime::running() {
        Some(handle) => enter(env, owner, options, handle),
        None => Ok(atoms::again().encode(env)),
    }
}

/// [`new`] for options of so many header fields or certificates that reading each takes long, and to start the engine's threads.
#[rustler::nif(schedule = "DirtyCpu")]
fn new_many<'a>(env: Env<'a>, owner: LocalPid, options: Term<'a>, workers: usize) -> NifResult<Term<'a>> {
    let _timer = times::NEW_MANY.start();
    match runtime::handle(workers) {
        Ok(handle) => enter(env, owner, options, handle),
        Err(reason) => Ok(not_running(env, &reason)),
    }
}

/// Why the engine has no threads.
pub(crate) fn not_running<'a>(env: Env<'a>, reason: &NotRunning) -> Term<'a> {
    match reason {
        NotRunning::Stopping => gone(env),
        NotRunning::Threads(failure) => {
            let text = message::binary(env, failure.to_string().as_bytes());
            error(env, (atoms::threads(), text))
        }
    }
}

fn enter<'a>(env: Env<'a>, owner: LocalPid, options: Term<'a>, handle: Handle) -> NifResult<Term<'a>> {
    let (target, options) = options::decode(options)?;
    let pid = env.pid();
    let stream = Stream::new(target, options, owner, Processes::OfProcess(pid), handle);
    let Some(keeper) = keeper::watch(env) else {
        return Ok(gone(env));
    };
    if !registry::enter(pid_key(env, &pid), stream, keeper) {
        return Err(rustler::Error::BadArg);
    }
    Ok(atoms::ok().encode(env))
}

#[rustler::nif]
fn connect<'a>(env: Env<'a>, deadline: Term<'a>) -> NifResult<Term<'a>> {
    let _timer = times::CONNECT.start();
    let Some(stream) = find(env, &env.pid()) else {
        return Ok(gone(env));
    };
    Ok(match stream.open(decode_timeout(deadline)?) {
        Ok(()) => atoms::ok().encode(env),
        Err(failure) => error(env, errors::open_error(env, &failure)),
    })
}

/// Opens the caller's stream on the connection of another process. Without `waits`, only if there is a place for it.
#[rustler::nif]
fn connect_on<'a>(env: Env<'a>, connection: LocalPid, deadline: Term<'a>, waits: bool) -> NifResult<Term<'a>> {
    let _timer = times::CONNECT_ON.start();
    let (Some(stream), Some(client)) = (find(env, &env.pid()), clients::find(pid_key(env, &connection))) else {
        return Ok(gone(env));
    };
    Ok(match stream.open_on(&client, decode_timeout(deadline)?, waits) {
        Ok(Admitted::Now) => atoms::opened().encode(env),
        Ok(Admitted::Later) => atoms::wait().encode(env),
        Err(failure) => error(env, errors::open_error(env, &failure)),
    })
}

fn send_payload<'a>(env: Env<'a>, pid: LocalPid, data: Term<'a>, fin: Atom) -> NifResult<Term<'a>> {
    let Some(stream) = find(env, &pid) else {
        return Ok(gone(env));
    };
    let fin = fin == atoms::fin();
    let sent = payload::with_payload(data, |payload| stream.send(payload, fin))?;
    Ok(match sent {
        Ok(()) => atoms::ok().encode(env),
        Err(SendError::Full(patience)) => (atoms::wait(), timeout(env, patience)).encode(env),
        Err(failure) => error(env, errors::send_error(&failure)),
    })
}

#[rustler::nif]
fn send<'a>(env: Env<'a>, pid: LocalPid, data: Term<'a>, fin: Atom) -> NifResult<Term<'a>> {
    let _timer = times::SEND.start();
    send_payload(env, pid, data, fin)
}

/// [`send`] for payloads of so many parts that looking at each takes long.
#[rustler::nif(schedule = "DirtyCpu")]
fn send_many<'a>(env: Env<'a>, pid: LocalPid, data: Term<'a>, fin: Atom) -> NifResult<Term<'a>> {
    let _timer = times::SEND_MANY.start();
    send_payload(env, pid, data, fin)
}

#[rustler::nif]
fn await_room<'a>(env: Env<'a>, pid: LocalPid, size: usize, reference: Term<'a>) -> Atom {
    let _timer = times::AWAIT_ROOM.start();
    let caller = env.pid();
    match find(env, &pid) {
        Some(stream) if stream.await_room(size, || Waiter::new(caller, pid_key(env, &caller), reference)) => {
            atoms::wait()
        }
        _ => atoms::ready(),
    }
}

fn end_with<'a>(env: Env<'a>, pid: LocalPid, trailers: Term<'a>) -> NifResult<Term<'a>> {
    let Some(stream) = find(env, &pid) else {
        return Ok(gone(env));
    };
    let trailers = headers::decode(trailers)?;
    Ok(match stream.send_trailers(trailers) {
        Ok(()) => atoms::ok().encode(env),
        Err(failure) => error(env, errors::send_error(&failure)),
    })
}

#[rustler::nif]
fn send_trailers<'a>(env: Env<'a>, pid: LocalPid, trailers: Term<'a>) -> NifResult<Term<'a>> {
    let _timer = times::SEND_TRAILERS.start();
    end_with(env, pid, trailers)
}

/// [`send_trailers`] for so many fields that reading and compressing them takes long.
#[rustler::nif(schedule = "DirtyCpu")]
fn send_many_trailers<'a>(env: Env<'a>, pid: LocalPid, trailers: Term<'a>) -> NifResult<Term<'a>> {
    let _timer = times::SEND_MANY_TRAILERS.start();
    end_with(env, pid, trailers)
}

/// `many` when the next message has more header fields than may be made terms of here: [`recv_many`] takes it.
#[rustler::nif]
fn recv<'a>(env: Env<'a>, pid: LocalPid, reference: Term<'a>) -> Term<'a> {
    let _timer = times::RECV.start();
    receive(env, pid, reference, MANY_FIELDS)
}

/// [`recv`] for messages of any number of header fields.
#[rustler::nif(schedule = "DirtyCpu")]
fn recv_many<'a>(env: Env<'a>, pid: LocalPid, reference: Term<'a>) -> Term<'a> {
    let _timer = times::RECV_MANY.start();
    receive(env, pid, reference, usize::MAX)
}

fn receive<'a>(env: Env<'a>, pid: LocalPid, reference: Term<'a>, most_fields: usize) -> Term<'a> {
    let Some(stream) = find(env, &pid) else {
        return gone(env);
    };
    let caller = env.pid();
    let id = pid_key(env, &caller);
    let mut result = stream.recv(id, most_fields, || Waiter::new(caller, id, reference));
    if let Err(RecvError::Busy(other)) = result
        && !is_alive(env, other)
    {
        // It died waiting: its place is free.
        stream.forget_waiter(other);
        result = stream.recv(id, most_fields, || Waiter::new(caller, id, reference));
    }
    match result {
        Ok(Received::Message(inner)) => (atoms::ok(), message::message(env, inner)).encode(env),
        Ok(Received::Many) => atoms::many().encode(env),
        Ok(Received::Nothing) => atoms::again().encode(env),
        Ok(Received::Wait) => (atoms::wait(), timeout(env, stream.options().recv_timeout)).encode(env),
        Err(failure) => error(env, errors::recv_error(env, &failure)),
    }
}

/// True when the caller was waiting and is no more; false when it was woken already and a message is on its way.
#[rustler::nif]
fn stop_waiting(env: Env<'_>, pid: LocalPid) -> bool {
    let _timer = times::STOP_WAITING.start();
    find(env, &pid).is_some_and(|stream| stream.forget_waiter(pid_key(env, &env.pid())))
}

#[rustler::nif]
fn consume(env: Env<'_>, pid: LocalPid, n: usize) -> Term<'_> {
    let _timer = times::CONSUME.start();
    // A stream that is gone has no window left to manage.
    let Some(stream) = find(env, &pid) else {
        return atoms::ok().encode(env);
    };
    match stream.consume(n) {
        Ok(()) => atoms::ok().encode(env),
        Err(failure) => error(env, errors::consume_error(env, &failure)),
    }
}

#[rustler::nif]
fn set_active<'a>(env: Env<'a>, pid: LocalPid, active: Term<'a>) -> NifResult<Term<'a>> {
    let _timer = times::SET_ACTIVE.start();
    let Some(stream) = find(env, &pid) else {
        return Ok(gone(env));
    };
    Ok(match stream.set_mode(mode::decode(active)?) {
        Ok(()) => atoms::ok().encode(env),
        Err(failure) => error(env, errors::mode_error(&failure)),
    })
}

#[rustler::nif]
fn set_owner(env: Env<'_>, pid: LocalPid, owner: LocalPid) -> Atom {
    let _timer = times::SET_OWNER.start();
    if let Some(stream) = find(env, &pid) {
        stream.set_owner(owner);
    }
    atoms::ok()
}

#[rustler::nif]
fn close(env: Env<'_>, pid: LocalPid) -> Atom {
    let _timer = times::CLOSE.start();
    if let Some(stream) = find(env, &pid) {
        stream.close();
    }
    atoms::ok()
}

#[rustler::nif(name = "info")]
fn info_<'a>(env: Env<'a>, pid: LocalPid) -> Term<'a> {
    let _timer = times::INFO.start();
    match find(env, &pid) {
        Some(stream) => (atoms::ok(), info::encode(env, &stream.info())).encode(env),
        None => clients::info(env, &pid),
    }
}

/// That the library is there.
#[rustler::nif]
fn status() -> Atom {
    atoms::ok()
}
