//! Servers: listeners, and connections that others have made, be it a peer of ours or a socket of Erlang's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use hackney_engine::h2::{Carrier, Client};
use hackney_engine::net::{self, ConnectError, Incoming, Listener, PipeEnd, PipeOut, TlsConfigError};
use hackney_engine::runtime::{self, Handle};
use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;
use rustler::{Atom, Binary, Encoder, Env, LocalPid, NifResult, Term};
use tokio::sync::{Notify, Semaphore};

use crate::calls::{error, gone, not_running};
use crate::clients;
use crate::events::{Reception, Room};
use crate::keeper::{self, Keeper};
use crate::processes::{listener, post};
use crate::registry::pid_key;
use crate::terms::message::binary;
use crate::terms::{errors, options};
use crate::{atoms, times};

/// Connections that have been accepted and that no process has taken yet. More wait in the operating system's queue.
const MAX_WAITING: usize = 1024;
/// How long a peer may take for TLS's handshake and HTTP/2's preface.
const GREETING: Duration = Duration::from_secs(30);
/// How long it may take for HTTP/2's preface alone.
const PREFACE: Duration = Duration::from_secs(5);
/// Bytes on their way in each direction between the engine and a process that carries them.
const PIPE_CAPACITY: usize = 256 * 1024;

/// A listener, as its process and the engine's task see it.
struct Listening {
    waiting: Mutex<HashMap<u64, (Incoming, tokio::sync::OwnedSemaphorePermit)>>,
    stop: Notify,
}

struct Entry {
    listening: Arc<Listening>,
    /// Watches the process; alive as long as the entry.
    _keeper: Keeper,
}

static LISTENERS: LazyLock<DashMap<u64, Entry, FxBuildHasher>> = LazyLock::new(|| DashMap::with_hasher(FxBuildHasher));

/// Where the bytes of a process's connection come from, if another process carries them. There until the connection has said goodbye,
/// which its process does not live to see.
static PIPES: LazyLock<DashMap<u64, PipeEnd, FxBuildHasher>> = LazyLock::new(|| DashMap::with_hasher(FxBuildHasher));

fn pipe(key: u64) -> Option<PipeEnd> {
    PIPES.get(&key).map(|end| end.clone())
}

/// Stops the listener of a process, if it has one.
pub(crate) fn stop(key: u64) {
    if let Some((_, entry)) = LISTENERS.remove(&key) {
        entry.listening.stop.notify_one();
    }
}

/// Stops every listener.
pub(crate) fn stop_all() {
    for entry in LISTENERS.iter() {
        entry.listening.stop.notify_one();
    }
    LISTENERS.clear();
}

/// Listens for the calling process: `{ok, {Address, Port}}`. `{hackney_native_nif, {accepted, Id}}` follows for each connection,
/// `{hackney_native_nif, {certificates, ok | {error, Reason}}}` when files of the TLS options have changed.
/// On a dirty scheduler, which waits until files are read and the socket is open.
#[rustler::nif(schedule = "DirtyIo")]
fn listen<'a>(env: Env<'a>, options: Term<'a>, workers: usize) -> NifResult<Term<'a>> {
    let _timer = times::LISTEN.start();
    let handle = match runtime::handle(workers) {
        Ok(handle) => handle,
        Err(reason) => return Ok(not_running(env, &reason)),
    };
    let options = options::decode_listen(options)?;
    let bound = match handle.block_on(Listener::bind(&options)) {
        Ok(bound) => bound,
        Err(failure) => return Ok(error(env, errors::listen_error(env, &failure))),
    };
    let Some(keeper) = keeper::watch(env) else {
        return Ok(gone(env));
    };
    let address = bound.local_addr();
    let (process, runtime) = (env.pid(), handle.clone());
    bound.tell_of_renewal(Box::new(move |renewal| {
        // Where posting is at home, and in whose order.
        runtime.spawn(async move { post_renewal(&process, &renewal) });
    }));
    let listening = Arc::new(Listening {
        waiting: Mutex::default(),
        stop: Notify::new(),
    });
    match LISTENERS.entry(pid_key(env, &env.pid())) {
        dashmap::Entry::Occupied(_) => return Err(rustler::Error::BadArg),
        dashmap::Entry::Vacant(vacant) => {
            vacant.insert(Entry {
                listening: listening.clone(),
                _keeper: keeper,
            });
        }
    }
    handle.spawn(accept(bound, listening, env.pid()));
    Ok((atoms::ok(), crate::terms::info::address(env, &address)).encode(env))
}

fn post_renewal(process: &LocalPid, renewal: &Result<(), TlsConfigError>) {
    post(process, |env| {
        let news = match renewal {
            Ok(()) => atoms::ok().encode(env),
            Err(failure) => error(env, errors::config_error(env, failure)),
        };
        (atoms::hackney_native_nif(), (atoms::certificates(), news)).encode(env)
    });
}

/// Stops the caller's listening.
#[rustler::nif]
fn unlisten(env: Env<'_>) -> Atom {
    let _timer = times::UNLISTEN.start();
    if let Some(entry) = LISTENERS.get(&pid_key(env, &env.pid())) {
        entry.listening.stop.notify_one();
    }
    atoms::ok()
}

/// Hands each connection to the listener's process, until told to stop.
async fn accept(listener: Listener, listening: Arc<Listening>, process: LocalPid) {
    let places = Arc::new(Semaphore::new(MAX_WAITING));
    let mut next = 0;
    loop {
        let one = async {
            let place = places.clone().acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        let (incoming, place) = tokio::select! {
            one = one => match one {
                Some(one) => one,
                None => return,
            },
            () = listening.stop.notified() => return,
        };
        next += 1;
        listening.waiting.lock().insert(next, (incoming, place));
        post(&process, |env| {
            (atoms::hackney_native_nif(), (atoms::accepted(), next)).encode(env)
        });
    }
}

/// Makes a connection that a listener has accepted the calling process's own, and serves it.
#[rustler::nif]
fn serve_accepted<'a>(
    env: Env<'a>,
    listener_pid: LocalPid,
    id: u64,
    owner: LocalPid,
    options: Term<'a>,
) -> NifResult<Term<'a>> {
    let _timer = times::SERVE_ACCEPTED.start();
    let Some(handle) = runtime::running() else {
        return Ok(gone(env));
    };
    let incoming = LISTENERS
        .get(&pid_key(env, &listener_pid))
        .and_then(|entry| entry.listening.waiting.lock().remove(&id));
    let Some((incoming, _place)) = incoming else {
        return Ok(gone(env));
    };
    let carrier = async move { incoming.greet().await.map(Carrier::from) };
    serve(env, carrier, owner, options, handle, GREETING)
}

fn serve<'a>(
    env: Env<'a>,
    carrier: impl Future<Output = Result<Carrier, ConnectError>> + Send + 'static,
    owner: LocalPid,
    options: Term<'a>,
    handle: Handle,
    patience: Duration,
) -> NifResult<Term<'a>> {
    let pid = env.pid();
    let room = Room::new(pid, owner, true);
    let reception = Arc::new(Reception {
        room: room.clone(),
        runtime: handle.clone(),
    });
    let options = options::decode_server(options)?;
    let client = Client::serve(carrier, options, reception, listener(pid), (handle, Some(patience)));
    clients::enter(env, client, room)
}

/// Makes a byte stream of Erlang's the calling process's connection: the descriptor of a `gen_tcp' socket, or `{Carrier, Peer, Local}',
/// a process that is sent `{hackney_native_nif, {bytes, Binary} | shutdown | drained | closed}` and answers by [`feed`] and
/// [`feed_written`]. On a dirty scheduler, as it may start the engine's threads.
#[rustler::nif(schedule = "DirtyCpu")]
fn adopt<'a>(
    env: Env<'a>,
    role: Atom,
    stream: Term<'a>,
    owner: LocalPid,
    options: Term<'a>,
    workers: usize,
) -> NifResult<Term<'a>> {
    let _timer = times::ADOPT.start();
    let handle = match runtime::handle(workers) {
        Ok(handle) => handle,
        Err(reason) => return Ok(not_running(env, &reason)),
    };
    let carrier = if let Ok(descriptor) = stream.decode::<i32>() {
        let _entered = handle.enter();
        match net::take_over(descriptor) {
            Ok(connected) => Carrier::from(connected),
            Err(failure) => return Ok(error(env, errors::posix(env, &failure))),
        }
    } else {
        let (process, peer, local): (LocalPid, Term<'_>, Term<'_>) = stream.decode()?;
        let key = pid_key(env, &env.pid());
        let outlet = {
            let handle = handle.clone();
            move |out| {
                if matches!(out, PipeOut::Closed) {
                    PIPES.remove(&key);
                }
                carry(&handle, process, out);
            }
        };
        let (pipe, end) = net::pipe(PIPE_CAPACITY, Box::new(outlet));
        PIPES.insert(key, end);
        // Erlang's `ssl' it is that needs a carrier.
        Carrier::of_pipe(pipe, socket_address(peer), socket_address(local), true)
    };
    let carrier = async move { Ok(carrier) };
    if role == atoms::server() {
        return serve(env, carrier, owner, options, handle, PREFACE);
    }
    let pid = env.pid();
    let options = options::decode_over(options)?;
    let client = Client::over(carrier, options, listener(pid), (handle, Some(PREFACE)));
    clients::enter(env, client, Room::new(pid, owner, false))
}

/// Posts what comes out of a pipe. Such connections read and write on the engine's threads only; but the last of one may be dropped on
/// another.
fn carry(handle: &Handle, process: LocalPid, out: PipeOut) {
    // SAFETY: has no demands.
    if unsafe { rustler::sys::enif_thread_type() } != rustler::sys::ERL_NIF_THR_UNDEFINED {
        handle.spawn(async move { deliver(&process, out) });
    } else {
        deliver(&process, out);
    }
}

fn deliver(process: &LocalPid, out: PipeOut) {
    post(process, |env| {
        let news = match out {
            PipeOut::Bytes(data) => (atoms::bytes(), binary(env, &data)).encode(env),
            PipeOut::Shutdown => atoms::shutdown().encode(env),
            PipeOut::Drained => atoms::drained().encode(env),
            PipeOut::Closed => atoms::closed().encode(env),
        };
        (atoms::hackney_native_nif(), news).encode(env)
    });
}

/// `{Address, Port}` as text and number, or nowhere.
fn socket_address(term: Term<'_>) -> SocketAddr {
    let address = term
        .decode::<(String, u16)>()
        .ok()
        .and_then(|(text, port)| Some(SocketAddr::new(text.parse().ok()?, port)));
    address.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0))
}

/// Bytes have come for a connection. `true` when no more should be fed until `drained` says so.
#[rustler::nif]
fn feed<'a>(env: Env<'a>, connection: LocalPid, data: Binary<'a>) -> Term<'a> {
    let _timer = times::FEED.start();
    match pipe(pid_key(env, &connection)) {
        Some(pipe) => (pipe.feed(Bytes::copy_from_slice(data.as_slice())) >= pipe.capacity()).encode(env),
        None => gone(env),
    }
}

/// So many of the bytes that a connection wrote have been taken.
#[rustler::nif]
fn feed_written(env: Env<'_>, connection: LocalPid, count: usize) -> Atom {
    let _timer = times::FEED_WRITTEN.start();
    if let Some(pipe) = pipe(pid_key(env, &connection)) {
        pipe.written(count);
    }
    atoms::ok()
}

/// No more bytes will come: in an orderly way, or not.
#[rustler::nif]
fn feed_end(env: Env<'_>, connection: LocalPid, orderly: bool) -> Atom {
    let _timer = times::FEED_END.start();
    if let Some(pipe) = pipe(pid_key(env, &connection)) {
        pipe.end(if orderly {
            Ok(())
        } else {
            Err(std::io::ErrorKind::ConnectionReset.into())
        });
    }
    atoms::ok()
}
