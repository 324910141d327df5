//! Connections that streams share, by their processes.

use std::sync::{Arc, LazyLock};

use dashmap::DashMap;
use hackney_engine::h2::Client;
use hackney_engine::runtime;
use rustc_hash::FxBuildHasher;
use rustler::{Atom, Encoder, Env, LocalPid, NifResult, Term};

use crate::calls::{decode_timeout, error, gone, not_running};
use crate::events::Room;
use crate::keeper::Keeper;
use crate::processes::{Processes, listener};
use crate::registry::pid_key;
use crate::terms::{errors, options};
use crate::{atoms, keeper, times};

/// A connection as the NIF knows it.
pub(crate) type NifClient = Client<Processes>;

struct Entry {
    client: Arc<NifClient>,
    /// Its streams that have no processes of their own.
    room: Arc<Room>,
    /// Watches the process; alive as long as the entry.
    _keeper: Keeper,
}

static CLIENTS: LazyLock<DashMap<u64, Entry, FxBuildHasher>> = LazyLock::new(|| DashMap::with_hasher(FxBuildHasher));

/// The connection of a process.
pub(crate) fn find(key: u64) -> Option<Arc<NifClient>> {
    CLIENTS.get(&key).map(|entry| entry.client.clone())
}

/// The same, with the streams that have no processes of their own.
pub(crate) fn room(key: u64) -> Option<(Arc<NifClient>, Arc<Room>)> {
    let entry = CLIENTS.get(&key)?;
    Some((entry.client.clone(), entry.room.clone()))
}

/// Takes the connection of a process that is gone.
pub(crate) fn remove(key: u64) -> Option<Arc<NifClient>> {
    let (_, entry) = CLIENTS.remove(&key)?;
    entry.room.shut();
    Some(entry.client)
}

/// Every connection.
pub(crate) fn all() -> Vec<Arc<NifClient>> {
    CLIENTS.iter().map(|entry| entry.client.clone()).collect()
}

/// The streams of every connection that have no processes of their own.
pub(crate) fn rooms() -> Vec<Arc<Room>> {
    CLIENTS.iter().map(|entry| entry.room.clone()).collect()
}

/// On a dirty scheduler: it may start the engine's threads, and read many certificates.
#[rustler::nif(schedule = "DirtyCpu")]
fn client_new<'a>(env: Env<'a>, owner: LocalPid, options: Term<'a>, workers: usize) -> NifResult<Term<'a>> {
    let _timer = times::CLIENT_NEW.start();
    let handle = match runtime::handle(workers) {
        Ok(handle) => handle,
        Err(reason) => return Ok(not_running(env, &reason)),
    };
    let (dial, options) = options::decode_client(options)?;
    let pid = env.pid();
    let client = Client::new(dial, options, listener(pid), handle);
    enter(env, client, Room::new(pid, owner, false))
}

/// Enters the caller's connection.
pub(crate) fn enter<'a>(env: Env<'a>, client: Arc<NifClient>, room: Arc<Room>) -> NifResult<Term<'a>> {
    let Some(keeper) = keeper::watch(env) else {
        client.close();
        return Ok(gone(env));
    };
    match CLIENTS.entry(pid_key(env, &env.pid())) {
        dashmap::Entry::Occupied(_) => {
            client.close();
            Err(rustler::Error::BadArg)
        }
        dashmap::Entry::Vacant(vacant) => {
            vacant.insert(Entry {
                client,
                room,
                _keeper: keeper,
            });
            Ok(atoms::ok().encode(env))
        }
    }
}

#[rustler::nif]
fn client_connect<'a>(env: Env<'a>, deadline: Term<'a>) -> NifResult<Term<'a>> {
    let _timer = times::CLIENT_CONNECT.start();
    let Some(client) = find(pid_key(env, &env.pid())) else {
        return Ok(gone(env));
    };
    Ok(match client.connect(decode_timeout(deadline)?) {
        Ok(()) => atoms::ok().encode(env),
        Err(failure) => error(env, errors::open_error(env, &failure)),
    })
}

#[rustler::nif]
fn client_info(env: Env<'_>, pid: LocalPid) -> Term<'_> {
    let _timer = times::CLIENT_INFO.start();
    self::info(env, &pid)
}

/// What is known of a process's connection.
pub(crate) fn info<'a>(env: Env<'a>, pid: &LocalPid) -> Term<'a> {
    match find(pid_key(env, pid)) {
        None => gone(env),
        Some(client) => match client.info() {
            None => error(env, atoms::not_connected()),
            Some(snapshot) => (atoms::ok(), crate::terms::info::encode_client(env, &snapshot)).encode(env),
        },
    }
}

#[rustler::nif]
fn client_close(env: Env<'_>, pid: LocalPid) -> Atom {
    let _timer = times::CLIENT_CLOSE.start();
    if let Some((client, room)) = room(pid_key(env, &pid)) {
        room.mute();
        client.close();
    }
    atoms::ok()
}

/// `{Streams, Most, Opened}`, or that none can be opened.
#[rustler::nif]
fn client_load(env: Env<'_>, pid: LocalPid) -> Term<'_> {
    let _timer = times::CLIENT_LOAD.start();
    match find(pid_key(env, &pid)).and_then(|client| client.load()) {
        Some(load) => crate::terms::info::encode_load(env, load),
        None => gone(env),
    }
}

#[rustler::nif]
fn client_retire(env: Env<'_>, pid: LocalPid) -> Atom {
    let _timer = times::CLIENT_RETIRE.start();
    if let Some(client) = find(pid_key(env, &pid)) {
        client.retire();
    }
    atoms::ok()
}
