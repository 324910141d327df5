//! Requests and responses on the streams of a connection, which calls name by their identifier.

use std::sync::Arc;
use std::time::Duration;

use hackney_engine::Mode;
use hackney_engine::error::{EndReason, OpenError, SendError};
use hackney_engine::h2::{Admitted, FlowControl, ModeChange, Payload, RequestHead, Sent, Stream, Target};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response, StatusCode};
use rustler::{Atom, Encoder, Env, LocalPid, NifMap, NifResult, Term};

use crate::calls::{error, gone};
use crate::clients::{self, NifClient};
use crate::events::{Events, NoStream, Room, stream_options, tie};
use crate::processes::{Processes, Waiter};
use crate::registry::{NifStream, pid_key};
use crate::terms::message::binary;
use crate::terms::{errors, headers, payload};
use crate::{atoms, times};

/// RFC 9113, 7.
const INTERNAL_ERROR: u32 = 0x2;
/// RFC 9113, 6.5.2.
const MAX_HEADER_LIST_SIZE: u16 = 0x6;
/// What one field adds to that beside its name and value.
const FIELD: usize = 32;
/// How long a request may wait that met a place and lost it to another in the same moment.
const LOST_PLACE: Duration = Duration::from_secs(1);

#[derive(NifMap)]
#[rustler(decode)]
struct RequestTerm<'a> {
    method: String,
    authority: String,
    path: String,
    protocol: Term<'a>,
    headers: Term<'a>,
    fin: bool,
    handler: Term<'a>,
    defer: bool,
    manual: bool,
}

fn connection(env: Env<'_>, pid: &LocalPid) -> Option<(Arc<NifClient>, Arc<Room>)> {
    clients::room(pid_key(env, pid))
}

fn no_stream(env: Env<'_>, why: NoStream) -> Term<'_> {
    match why {
        NoStream::Unknown => error(env, atoms::unknown_stream()),
        NoStream::Over => error(env, atoms::stream_closed()),
    }
}

/// Runs `work` on a stream, or gives the error that there is none.
fn on_stream<'a>(
    env: Env<'a>,
    pid: &LocalPid,
    id: u32,
    work: impl FnOnce(Arc<NifStream>, &NifClient) -> NifResult<Term<'a>>,
) -> NifResult<Term<'a>> {
    let Some((client, room)) = connection(env, pid) else {
        return Ok(gone(env));
    };
    match room.find(id) {
        Ok(stream) => work(stream, &client),
        // It is over because the connection is, whose process has yet to hear of it.
        Err(NoStream::Over) if client.is_ending() => Ok(gone(env)),
        Err(why) => Ok(no_stream(env, why)),
    }
}

/// The same on a stream that the peer has opened.
fn on_request<'a>(
    env: Env<'a>,
    pid: &LocalPid,
    id: u32,
    work: impl FnOnce(Arc<NifStream>, &NifClient) -> NifResult<Term<'a>>,
) -> NifResult<Term<'a>> {
    match connection(env, pid) {
        Some((_, room)) if !room.is_serving() => Ok(error(env, atoms::not_server())),
        _ => on_stream(env, pid, id, work),
    }
}

fn sent<'a>(env: Env<'a>, stream: &NifStream, result: &Result<(), SendError>) -> Term<'a> {
    match result {
        Ok(()) => atoms::ok().encode(env),
        // `closed' is the connection, whose end is the end of its streams.
        Err(SendError::Closed) if stream.end_reason().is_some_and(|end| is_its_own(&end)) => {
            error(env, atoms::stream_closed())
        }
        Err(failure) => error(env, errors::send_error(failure)),
    }
}

/// The end is the stream's, and not its connection's.
fn is_its_own(end: &EndReason) -> bool {
    match end {
        EndReason::Reset(_) | EndReason::Unprocessed | EndReason::RecvBufferOverflow | EndReason::Panic(_) => true,
        EndReason::GoAway(_) | EndReason::Closed | EndReason::Lost(_) => false,
    }
}

/// Whether the peer takes so many header fields, with so many bytes beside them.
fn fits(client: &NifClient, fields: &HeaderMap, beside: usize) -> bool {
    client.peer_setting(MAX_HEADER_LIST_SIZE).is_none_or(|max| {
        let size: usize = fields
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + FIELD)
            .sum();
        size + beside <= max as usize
    })
}

fn events(stream: &NifStream) -> Option<&Events> {
    match stream.outlet() {
        Processes::OfConnection(events) => Some(events),
        Processes::OfProcess(_) => None,
    }
}

/// `{ok, Id}`, or `wait`: then `{hackney_native, Ref, {ok, Id} | {error, Reason}}` follows, soon.
#[rustler::nif]
fn h2_request<'a>(env: Env<'a>, pid: LocalPid, request: Term<'a>, reference: Term<'a>) -> NifResult<Term<'a>> {
    let _timer = times::H2_REQUEST.start();
    ask(env, pid, request, reference)
}

/// [`h2_request`] with so many header fields that reading and compressing them takes long.
#[rustler::nif(schedule = "DirtyCpu")]
fn h2_request_many<'a>(env: Env<'a>, pid: LocalPid, request: Term<'a>, reference: Term<'a>) -> NifResult<Term<'a>> {
    let _timer = times::H2_REQUEST_MANY.start();
    ask(env, pid, request, reference)
}

fn ask<'a>(env: Env<'a>, pid: LocalPid, request: Term<'a>, reference: Term<'a>) -> NifResult<Term<'a>> {
    let Some((client, room)) = connection(env, &pid) else {
        return Ok(gone(env));
    };
    if room.is_serving() {
        return Ok(error(env, atoms::not_client()));
    }
    if client.info().is_none() {
        return Ok(error(env, atoms::not_connected()));
    }
    if room.is_draining() {
        return Ok(error(env, atoms::goaway_sent()));
    }
    let term: RequestTerm<'_> = request.decode()?;
    let fields = headers::decode(term.headers)?;
    let handler: Option<LocalPid> = term.handler.decode().ok();
    let caller = env.pid();
    let events = Events::new(room.clone(), handler);
    events.asked_by(&term.method);
    events.await_opening(Waiter::new(caller, pid_key(env, &caller), reference));
    let mode = if term.defer && handler.is_none() {
        Mode::Passive
    } else {
        Mode::Active
    };
    let flow_control = if term.manual {
        FlowControl::Manual
    } else {
        FlowControl::Auto
    };
    let target = Target {
        request: RequestHead {
            method: term.method,
            authority: term.authority,
            path: term.path,
            headers: fields,
            protocol: term.protocol.decode().ok(),
        },
        dial: None,
    };
    let owner = handler.unwrap_or_else(|| room.owner());
    let outlet = Processes::OfConnection(events);
    let stream = tie(Stream::new(
        target,
        stream_options(flow_control, mode),
        owner,
        outlet,
        client.runtime(),
    ));
    Ok(match stream.request_on(&client, Some(LOST_PLACE), false, term.fin) {
        Ok(Admitted::Later) => atoms::wait().encode(env),
        Ok(Admitted::Now) => {
            let id = stream.id().unwrap_or_default();
            if let Processes::OfConnection(events) = stream.outlet() {
                events.forget_opening();
                events.enter(&stream, id);
            }
            (atoms::ok(), id).encode(env)
        }
        Err(OpenError::Full) => error(env, atoms::max_streams_exceeded()),
        Err(OpenError::Request(_)) => error(env, atoms::protocol_error()),
        Err(failure) => error(env, errors::open_error(env, &failure)),
    })
}

fn response(status: u16, fields: Term<'_>) -> NifResult<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| rustler::Error::BadArg)?;
    *response.headers_mut() = headers::decode(fields)?;
    Ok(response)
}

/// The response's header fields; a body is still to come unless `fin`. A 1xx status goes ahead of the response.
#[rustler::nif]
fn h2_respond<'a>(
    env: Env<'a>,
    pid: LocalPid,
    id: u32,
    status: u16,
    fields: Term<'a>,
    fin: bool,
) -> NifResult<Term<'a>> {
    let _timer = times::H2_RESPOND.start();
    begin(env, pid, id, (status, fields, fin))
}

/// [`h2_respond`] with so many header fields that reading them takes long.
#[rustler::nif(schedule = "DirtyCpu")]
fn h2_respond_many<'a>(
    env: Env<'a>,
    pid: LocalPid,
    id: u32,
    status: u16,
    fields: Term<'a>,
    fin: bool,
) -> NifResult<Term<'a>> {
    let _timer = times::H2_RESPOND_MANY.start();
    begin(env, pid, id, (status, fields, fin))
}

fn begin<'a>(
    env: Env<'a>,
    pid: LocalPid,
    id: u32,
    (status, fields, fin): (u16, Term<'a>, bool),
) -> NifResult<Term<'a>> {
    on_request(env, &pid, id, |stream, client| {
        let response = response(status, fields)?;
        if let Some(refused) = refused(&stream, client, &response) {
            return Ok(error(env, refused));
        }
        let result = if status < 200 {
            stream.inform(response)
        } else {
            let bodiless = events(&stream).is_some_and(Events::is_head);
            stream.respond(response, fin || bodiless)
        };
        Ok(answered(env, &stream, status, &result))
    })
}

/// What is wrong with a response.
fn refused(stream: &NifStream, client: &NifClient, response: &Response<()>) -> Option<Atom> {
    let tunnel = response.status().is_success() && events(stream).is_some_and(Events::may_be_tunnel);
    if tunnel && response.headers().contains_key(CONTENT_LENGTH) {
        Some(atoms::banned_header_in_tunnel_response())
    } else if !fits(client, response.headers(), ":status".len() + "200".len() + FIELD) {
        Some(atoms::header_list_too_large())
    } else {
        None
    }
}

fn answered<'a>(env: Env<'a>, stream: &NifStream, status: u16, result: &Result<(), SendError>) -> Term<'a> {
    if result.is_ok()
        && let Some(events) = events(stream)
    {
        events.answered_by(status);
    }
    sent(env, stream, result)
}

/// The whole response in one go.
#[rustler::nif]
fn h2_respond_with<'a>(
    env: Env<'a>,
    pid: LocalPid,
    id: u32,
    status: u16,
    fields: Term<'a>,
    body: Term<'a>,
) -> NifResult<Term<'a>> {
    let _timer = times::H2_RESPOND_WITH.start();
    on_request(env, &pid, id, |stream, client| {
        let response = response(status, fields)?;
        if let Some(refused) = refused(&stream, client, &response) {
            return Ok(error(env, refused));
        }
        let result = if events(&stream).is_some_and(Events::is_head) {
            stream.respond(response, true)
        } else {
            payload::with_payload(body, |body| stream.respond_with(response, Some(body), true))?
        };
        Ok(answered(env, &stream, status, &result))
    })
}

/// Queues body bytes, all or nothing.
fn send_payload<'a>(env: Env<'a>, pid: &LocalPid, id: u32, data: Term<'a>, fin: bool) -> NifResult<Term<'a>> {
    on_stream(env, pid, id, |stream, _| {
        let result = payload::with_payload(data, |payload| stream.send(payload, fin))?;
        Ok(sent(env, &stream, &result))
    })
}

#[rustler::nif]
fn h2_send_data<'a>(env: Env<'a>, pid: LocalPid, id: u32, data: Term<'a>, fin: bool) -> NifResult<Term<'a>> {
    let _timer = times::H2_SEND_DATA.start();
    send_payload(env, &pid, id, data, fin)
}

/// [`h2_send_data`] for payloads of so many parts that looking at each takes long.
#[rustler::nif(schedule = "DirtyCpu")]
fn h2_send_many<'a>(env: Env<'a>, pid: LocalPid, id: u32, data: Term<'a>, fin: bool) -> NifResult<Term<'a>> {
    let _timer = times::H2_SEND_MANY.start();
    send_payload(env, &pid, id, data, fin)
}

/// Queues body bytes whatever is queued already. `ok` when all has left; `wait`: `{hackney_native, Ref, ok | {error, Reason}}` follows
/// when it has, or never will.
#[rustler::nif]
fn h2_send_and_wait<'a>(
    env: Env<'a>,
    pid: LocalPid,
    id: u32,
    data: Term<'a>,
    fin: bool,
    reference: Term<'a>,
) -> NifResult<Term<'a>> {
    let _timer = times::H2_SEND_AND_WAIT.start();
    let caller = env.pid();
    on_stream(env, &pid, id, |stream, _| {
        let result = payload::with_payload(data, |payload| stream.append(payload, fin))?;
        if result.is_err() {
            return Ok(sent(env, &stream, &result));
        }
        // Room for any size there is only when nothing is queued.
        let waits = stream.await_room(usize::MAX, || Waiter::new(caller, pid_key(env, &caller), reference));
        if waits {
            return Ok(atoms::wait().encode(env));
        }
        Ok(outcome(env, &stream.sent()))
    })
}

/// How a wait for what was sent ends.
pub(crate) fn outcome<'a>(env: Env<'a>, sent: &Sent) -> Term<'a> {
    match sent {
        Sent::All | Sent::Waiting => atoms::ok().encode(env),
        Sent::Unwanted => error(env, atoms::stream_closed()),
        Sent::Lost(end) if is_its_own(end) => error(env, atoms::stream_reset()),
        Sent::Lost(_) => gone(env),
    }
}

/// True when the caller was waiting for [`h2_send_and_wait`], and does no more. What it sent stays queued.
#[rustler::nif]
fn h2_stop_waiting(env: Env<'_>, pid: LocalPid, id: u32) -> bool {
    let _timer = times::H2_STOP_WAITING.start();
    connection(env, &pid)
        .and_then(|(_, room)| room.find(id).ok())
        .is_some_and(|stream| stream.forget_waiter(pid_key(env, &env.pid())))
}

#[rustler::nif]
fn h2_send_trailers<'a>(env: Env<'a>, pid: LocalPid, id: u32, trailers: Term<'a>) -> NifResult<Term<'a>> {
    let _timer = times::H2_SEND_TRAILERS.start();
    end(env, pid, id, trailers)
}

/// [`h2_send_trailers`] with so many that reading them takes long.
#[rustler::nif(schedule = "DirtyCpu")]
fn h2_send_many_trailers<'a>(env: Env<'a>, pid: LocalPid, id: u32, trailers: Term<'a>) -> NifResult<Term<'a>> {
    let _timer = times::H2_SEND_MANY_TRAILERS.start();
    end(env, pid, id, trailers)
}

fn end<'a>(env: Env<'a>, pid: LocalPid, id: u32, trailers: Term<'a>) -> NifResult<Term<'a>> {
    on_stream(env, &pid, id, |stream, client| {
        let trailers = headers::decode(trailers)?;
        if events(&stream).is_some_and(Events::is_tunnel) {
            return Ok(error(env, atoms::tunnel_no_trailers()));
        }
        if !fits(client, &trailers, 0) {
            return Ok(error(env, atoms::header_list_too_large()));
        }
        Ok(sent(env, &stream, &stream.send_trailers(trailers)))
    })
}

#[rustler::nif]
fn h2_consume<'a>(env: Env<'a>, pid: LocalPid, id: u32, n: usize) -> NifResult<Term<'a>> {
    let _timer = times::H2_CONSUME.start();
    on_stream(env, &pid, id, |stream, _| {
        stream.consume_at_most(n);
        Ok(atoms::ok().encode(env))
    })
}

#[rustler::nif]
fn h2_cancel<'a>(env: Env<'a>, pid: LocalPid, id: u32, code: u32) -> NifResult<Term<'a>> {
    let _timer = times::H2_CANCEL.start();
    on_stream(env, &pid, id, |stream, _| {
        Ok(if stream.reset(code) {
            atoms::ok().encode(env)
        } else {
            error(env, atoms::stream_closed())
        })
    })
}

/// A process that handled a request has ended: the client must not wait for an answer that nobody will give.
#[rustler::nif]
fn h2_orphan<'a>(env: Env<'a>, pid: LocalPid, id: u32, failed: bool) -> NifResult<Term<'a>> {
    let _timer = times::H2_ORPHAN.start();
    on_stream(env, &pid, id, |stream, _| {
        let handled = match stream.outlet() {
            Processes::OfConnection(events) => events.handler().is_some_and(|handler| handler.is_alive(env)),
            Processes::OfProcess(_) => true,
        };
        if failed && !stream.has_responded() {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            let bodiless = events(&stream).is_some_and(Events::is_head);
            let text = Payload::Copied(if bodiless { b"" } else { b"Internal Server Error" });
            let _ = stream.respond_with(response, Some(text), true);
            stream.abandon();
        } else if failed && !stream.has_ended() || !handled && !stream.has_responded() {
            stream.reset(INTERNAL_ERROR);
        } else if !handled {
            stream.abandon();
        }
        Ok(atoms::ok().encode(env))
    })
}

/// Has a process handle a stream. With `drain` the body bytes that are queued are returned, `{ok, [{Data, Fin}]}`, else what is queued
/// is sent to it.
#[rustler::nif]
fn h2_set_handler<'a>(
    env: Env<'a>,
    pid: LocalPid,
    id: u32,
    handler: LocalPid,
    drain: bool,
    flow_control: Term<'a>,
) -> NifResult<Term<'a>> {
    let _timer = times::H2_SET_HANDLER.start();
    on_stream(env, &pid, id, |stream, _| {
        if let Ok(name) = flow_control.decode::<Atom>() {
            if name == atoms::manual() {
                stream.set_flow_control(FlowControl::Manual);
            } else if name == atoms::auto() {
                stream.set_flow_control(FlowControl::Auto);
            }
        }
        if let Processes::OfConnection(events) = stream.outlet() {
            events.set_handler(Some(handler));
        }
        let taken = if drain {
            stream.take_data_for(handler)
        } else {
            stream.set_owner(handler);
            Vec::new()
        };
        let _ = stream.set_mode(ModeChange::Set(Mode::Active));
        if taken.is_empty() {
            return Ok(atoms::ok().encode(env));
        }
        let taken: Vec<_> = taken.iter().map(|(data, last)| (binary(env, data), *last)).collect();
        Ok((atoms::ok(), taken).encode(env))
    })
}

/// Events go to the connection's owner again, or with a server wait for the next handler.
#[rustler::nif]
fn h2_unset_handler<'a>(env: Env<'a>, pid: LocalPid, id: u32) -> NifResult<Term<'a>> {
    let _timer = times::H2_UNSET_HANDLER.start();
    let Some((client, room)) = connection(env, &pid) else {
        return Ok(gone(env));
    };
    if let Ok(stream) = room.find(id) {
        if let Processes::OfConnection(events) = stream.outlet() {
            events.set_handler(None);
        }
        if client.serves() {
            let _ = stream.set_mode(ModeChange::Set(Mode::Passive));
        } else {
            stream.set_owner(room.owner());
        }
    }
    Ok(atoms::ok().encode(env))
}

/// `{ok, [{Id, Value}]}`: what the peer has set by SETTINGS.
#[rustler::nif]
fn h2_peer_settings(env: Env<'_>, pid: LocalPid) -> Term<'_> {
    let _timer = times::H2_PEER_SETTINGS.start();
    match connection(env, &pid) {
        Some((client, _)) => (atoms::ok(), client.peer_settings()).encode(env),
        None => gone(env),
    }
}

/// Who handles streams of the caller's connection, but for its owner. On a dirty scheduler: they may be many.
#[rustler::nif(schedule = "DirtyCpu")]
fn h2_handlers(env: Env<'_>) -> Vec<LocalPid> {
    let _timer = times::H2_HANDLERS.start();
    connection(env, &env.pid()).map_or_else(Vec::new, |(_, room)| room.handlers())
}

/// Makes another process the owner of the caller's connection.
#[rustler::nif]
fn h2_set_owner(env: Env<'_>, owner: LocalPid) -> Atom {
    let _timer = times::H2_SET_OWNER.start();
    if let Some((_, room)) = connection(env, &env.pid()) {
        room.set_owner(owner);
    }
    atoms::ok()
}

/// Lets no stream be opened any more on the caller's connection; it ends with those that are there.
#[rustler::nif]
fn h2_drain(env: Env<'_>) -> Atom {
    let _timer = times::H2_DRAIN.start();
    if let Some((client, room)) = connection(env, &env.pid()) {
        room.drain();
        client.retire();
    }
    atoms::ok()
}
