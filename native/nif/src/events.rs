//! The streams of a connection that have no process of their own: what happens on them is told as `{h2, Conn, Event}` to who handles
//! them, and calls name them by their identifier.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use dashmap::DashMap;
use hackney_engine::error::EndReason;
use hackney_engine::h2::{Acceptor, FlowControl, Sent, StreamOptions};
use hackney_engine::runtime::Handle;
use hackney_engine::{Life, Message, Mode, Notice};
use http::Request;
use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;
use rustler::{Encoder, Env, LocalPid, Term};

use crate::atoms;
use crate::processes::{Processes, Waiter, post};
use crate::registry::NifStream;
use crate::terms::errors::error_code;
use crate::terms::headers;
use crate::terms::message::binary;

/// Bytes that a stream takes beyond the peer's window from senders that do not wait.
const MAX_SEND_BUFFER: usize = 1024 * 1024;

/// What a connection's streams have in common.
pub(crate) struct Room {
    /// The connection's process, which stands in every event.
    connection: LocalPid,
    /// Who gets what has no other handler.
    owner: Mutex<LocalPid>,
    /// The peer opens the streams.
    serves: bool,
    streams: DashMap<u32, Arc<NifStream>, FxBuildHasher>,
    /// The highest identifier so far: those up to it there were once.
    highest: AtomicU32,
    /// Nobody is told anything any more.
    shut: AtomicBool,
    /// We open no streams any more, at our own wish.
    draining: AtomicBool,
    /// Those who handled streams that have ended with the connection.
    bereft: Mutex<Vec<LocalPid>>,
}

/// No such stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoStream {
    /// There never was.
    Unknown,
    /// It is over.
    Over,
}

impl Room {
    pub(crate) fn new(connection: LocalPid, owner: LocalPid, serves: bool) -> Arc<Self> {
        Arc::new(Room {
            connection,
            owner: Mutex::new(owner),
            serves,
            streams: DashMap::with_hasher(FxBuildHasher),
            highest: AtomicU32::new(0),
            shut: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            bereft: Mutex::default(),
        })
    }

    pub(crate) fn find(&self, id: u32) -> Result<Arc<NifStream>, NoStream> {
        if let Some(stream) = self.streams.get(&id) {
            return Ok(stream.clone());
        }
        // Clients' identifiers are odd (RFC 9113, 5.1.1), and servers open none here.
        if id % 2 == 1 && id <= self.highest.load(Relaxed) {
            Err(NoStream::Over)
        } else {
            Err(NoStream::Unknown)
        }
    }

    pub(crate) fn owner(&self) -> LocalPid {
        *self.owner.lock()
    }

    /// From now on `owner` gets what has no other handler.
    pub(crate) fn set_owner(&self, owner: LocalPid) {
        *self.owner.lock() = owner;
        if self.serves {
            return;
        }
        for stream in self.all() {
            if let Processes::OfConnection(events) = stream.outlet()
                && events.handler().is_none()
            {
                stream.set_owner(owner);
            }
        }
    }

    /// The streams. Their locks are not for taking while the table's are held: a stream leaves it under its own.
    pub(crate) fn all(&self) -> Vec<Arc<NifStream>> {
        self.streams.iter().map(|entry| entry.value().clone()).collect()
    }

    /// Who handles streams, or did until these ended with the connection, and is not its owner. Each once.
    pub(crate) fn handlers(&self) -> Vec<LocalPid> {
        let owner = self.owner();
        // In this order: a stream is noted as bereft ahead of its leaving.
        let handler = |stream: &Arc<NifStream>| match stream.outlet() {
            Processes::OfConnection(events) => events.handler(),
            Processes::OfProcess(_) => None,
        };
        let mut handlers: Vec<LocalPid> = self.all().iter().filter_map(handler).collect();
        handlers.extend(self.bereft.lock().iter());
        handlers.retain(|handler| *handler != owner);
        handlers.sort_unstable();
        handlers.dedup();
        handlers
    }

    /// Tells nobody anything any more.
    pub(crate) fn mute(&self) {
        self.shut.store(true, Relaxed);
    }

    /// Tells nobody anything any more, and lets the streams go.
    pub(crate) fn shut(&self) {
        self.shut.store(true, Relaxed);
        self.streams.clear();
    }

    /// The peer opens the streams.
    pub(crate) fn is_serving(&self) -> bool {
        self.serves
    }

    /// From now on we open no streams any more.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }
}

/// What a request's method makes of its stream.
const ORDINARY: u8 = 0;
/// The response has no body.
const HEAD: u8 = 1;
/// With status 2xx it becomes a tunnel (RFC 9110, 9.3.6).
const CONNECT: u8 = 2;
/// And so it has.
const TUNNEL: u8 = 3;

/// Where the events of one stream go.
pub(crate) struct Events {
    room: Arc<Room>,
    me: OnceLock<Weak<NifStream>>,
    id: OnceLock<u32>,
    /// Who waits for the stream's identifier.
    opener: Mutex<Option<Waiter>>,
    /// The process named to handle it.
    handler: Mutex<Option<LocalPid>>,
    /// See [`ORDINARY`].
    kind: AtomicU8,
}

impl Events {
    pub(crate) fn new(room: Arc<Room>, handler: Option<LocalPid>) -> Self {
        Events {
            room,
            me: OnceLock::new(),
            id: OnceLock::new(),
            opener: Mutex::new(None),
            handler: Mutex::new(handler),
            kind: AtomicU8::new(ORDINARY),
        }
    }

    /// The request has this method.
    pub(crate) fn asked_by(&self, method: &str) {
        let kind = match method {
            "HEAD" => HEAD,
            "CONNECT" => CONNECT,
            _ => return,
        };
        self.kind.store(kind, Relaxed);
    }

    /// The response has this status.
    pub(crate) fn answered_by(&self, status: u16) {
        if (200..300).contains(&status) {
            let _ = self.kind.compare_exchange(CONNECT, TUNNEL, Relaxed, Relaxed);
        }
    }

    /// The response has no body, whatever it says.
    pub(crate) fn is_head(&self) -> bool {
        self.kind.load(Relaxed) == HEAD
    }

    /// With status 2xx there will be a tunnel.
    pub(crate) fn may_be_tunnel(&self) -> bool {
        self.kind.load(Relaxed) >= CONNECT
    }

    /// It carries another protocol's bytes.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.kind.load(Relaxed) == TUNNEL
    }

    /// Lets `waiter` be told of the stream's opening.
    pub(crate) fn await_opening(&self, waiter: Waiter) {
        *self.opener.lock() = Some(waiter);
    }

    pub(crate) fn forget_opening(&self) {
        *self.opener.lock() = None;
    }

    /// Who handles the stream from now on; `None` for nobody in particular.
    pub(crate) fn set_handler(&self, handler: Option<LocalPid>) {
        *self.handler.lock() = handler;
    }

    /// The process named to handle it.
    pub(crate) fn handler(&self) -> Option<LocalPid> {
        *self.handler.lock()
    }

    /// The stream can be found by its identifier from now on, as long as it lives.
    pub(crate) fn enter(&self, stream: &Arc<NifStream>, id: u32) {
        self.list(stream, id);
        // It may have ended before it could be found, and nobody would take it out.
        if stream.is_over() {
            self.leave();
        }
    }

    fn list(&self, stream: &Arc<NifStream>, id: u32) {
        let _ = self.id.set(id);
        self.room.highest.fetch_max(id, Relaxed);
        self.room.streams.insert(id, stream.clone());
        if self.room.shut.load(Relaxed) {
            self.leave();
        }
    }

    fn leave(&self) {
        let stream = self.me.get().and_then(Weak::upgrade);
        if stream.is_some_and(|stream| stream.ends_with_connection()) {
            self.room.bereft.lock().extend(self.handler());
        }
        if let Some(id) = self.id.get() {
            self.room.streams.remove(id);
        }
    }

    pub(crate) fn notify(&self, to: &LocalPid, id: u32, notice: Notice) {
        if self.room.shut.load(Relaxed) {
            return;
        }
        let reset = match &notice {
            Notice::Passive => return,
            // The connection's end is told by its process, once to each.
            Notice::Closed => return,
            Notice::Error(reason) => match reset_code(reason) {
                Some(code) => code,
                None => return,
            },
            Notice::Message(Message::Response(status, _)) => {
                self.answered_by(*status);
                0
            }
            Notice::Message(_) | Notice::Last(_) => 0,
        };
        post(to, |env| {
            let event = match notice {
                Notice::Message(Message::Informational(status, fields)) => {
                    (atoms::informational(), id, status, headers::encode(env, &fields)).encode(env)
                }
                Notice::Message(Message::Response(status, fields)) => {
                    (atoms::response(), id, status, headers::encode(env, &fields)).encode(env)
                }
                Notice::Message(Message::Trailers(fields)) => {
                    (atoms::trailers(), id, headers::encode(env, &fields)).encode(env)
                }
                Notice::Message(Message::Data(data)) => (atoms::data(), id, binary(env, &data), false).encode(env),
                Notice::Last(data) => (atoms::data(), id, binary(env, &data), true).encode(env),
                Notice::Message(Message::Done) => (atoms::data(), id, binary(env, b""), true).encode(env),
                Notice::Error(_) | Notice::Closed | Notice::Passive => {
                    (atoms::stream_reset(), id, error_code(env, reset)).encode(env)
                }
            };
            (atoms::h2(), self.room.connection, event).encode(env)
        });
    }

    /// A sender that waits until all that it sent has left hears what has become of it.
    pub(crate) fn wake(&self, waiter: Waiter) {
        let sent = self.me.get().and_then(Weak::upgrade).map(|stream| stream.sent());
        waiter.tell(sent.unwrap_or(Sent::Lost(EndReason::Closed)));
    }

    pub(crate) fn life(&self, life: Life) {
        match life {
            Life::Opened => {
                let Some(stream) = self.me.get().and_then(Weak::upgrade) else {
                    return;
                };
                let id = stream.id().unwrap_or_default();
                // Told under the stream's lock, ahead of its end.
                self.list(&stream, id);
                if let Some(opener) = self.opener.lock().take() {
                    opener.answer(Ok(id));
                }
            }
            Life::Failed(error) => {
                if let Some(opener) = self.opener.lock().take() {
                    opener.answer(Err(error));
                }
            }
            // Nobody can ask a server any more for what it has of a request that is over.
            Life::Ended if self.room.is_serving() => self.leave(),
            Life::Ended => {}
            Life::Drained => self.leave(),
        }
    }
}

/// The code by which a stream's end is told; `None` when the connection ended, which is told by its process.
fn reset_code(reason: &EndReason) -> Option<u32> {
    match reason {
        EndReason::Reset(code) => Some(*code),
        // RFC 9113, 8.7: what GOAWAY leaves out is as safe to send again as what was refused.
        EndReason::Unprocessed => Some(0x7),
        EndReason::RecvBufferOverflow => Some(0x3),
        EndReason::Panic(_) => Some(0x2),
        EndReason::GoAway(_) | EndReason::Closed | EndReason::Lost(_) => None,
    }
}

/// How the streams of a connection are made.
pub(crate) fn stream_options(flow_control: FlowControl, mode: Mode) -> StreamOptions {
    StreamOptions {
        mode,
        flow_control,
        informational: true,
        events: true,
        // The window bounds it.
        max_recv_buffer: usize::MAX,
        max_send_buffer: MAX_SEND_BUFFER,
        send_timeout: Some(0),
        recv_timeout: None,
        connection: hackney_engine::h2::ConnectionOptions::default(),
    }
}

/// Ties a stream to its outlet, which has to find it.
pub(crate) fn tie(stream: Arc<NifStream>) -> Arc<NifStream> {
    if let Processes::OfConnection(events) = stream.outlet() {
        let _ = events.me.set(Arc::downgrade(&stream));
    }
    stream
}

/// Takes the requests of a server's peer: `{h2, Conn, {request, Id, Method, Path, Headers}}` to the connection's owner.
pub(crate) struct Reception {
    pub(crate) room: Arc<Room>,
    pub(crate) runtime: Handle,
}

impl Acceptor<Processes> for Reception {
    fn stream(&self, _: u32) -> Arc<NifStream> {
        let outlet = Processes::OfConnection(Events::new(self.room.clone(), None));
        // What comes of the body waits until somebody handles it.
        let options = stream_options(FlowControl::Auto, Mode::Passive);
        tie(NifStream::for_request(
            options,
            self.room.owner(),
            outlet,
            self.runtime.clone(),
        ))
    }

    fn request(&self, stream: &Arc<NifStream>, id: u32, request: Request<()>) {
        let Processes::OfConnection(events) = stream.outlet() else {
            return;
        };
        events.asked_by(request.method().as_str());
        events.enter(stream, id);
        if self.room.shut.load(Relaxed) {
            return;
        }
        post(&self.room.owner(), |env| {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            let event = (
                atoms::request(),
                id,
                binary(env, request.method().as_str().as_bytes()),
                binary(env, path.as_bytes()),
                fields(env, &request),
            );
            (atoms::h2(), self.room.connection, event).encode(env)
        });
    }
}

/// A request's header fields, ahead of them the pseudo-header fields that are told nowhere else.
fn fields<'a>(env: Env<'a>, request: &Request<()>) -> Term<'a> {
    let uri = request.uri();
    let protocol = request.extensions().get::<hackney_engine::h2::Protocol>();
    let pseudo = [
        (":scheme", uri.scheme_str()),
        (":authority", uri.authority().map(|authority| authority.as_str())),
        (":protocol", protocol.map(|protocol| protocol.as_str())),
    ];
    let mut list = headers::encode(env, request.headers());
    for (name, value) in pseudo.into_iter().rev() {
        if let Some(value) = value {
            let field = (binary(env, name.as_bytes()), binary(env, value.as_bytes())).encode(env);
            list = list.list_prepend(field);
        }
    }
    list
}
