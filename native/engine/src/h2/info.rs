//! What a stream can tell about itself.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use super::facts::GoAway;
use super::stream::{Phase, Stream};
use crate::net::TlsFacts;
use crate::outlet::Outlet;

/// Both ends of a connection.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// The peer's address.
    pub peer: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
    /// What TLS settled on; `None` in cleartext, and where somebody else does TLS.
    pub tls: Option<TlsFacts>,
    /// Nobody on the way can read it.
    pub secure: bool,
}

/// How far a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamState {
    /// Not connected yet.
    Idle,
    /// Open.
    Connected,
    /// Over.
    Closed,
}

/// See [`Stream::info`]. Sizes in bytes.
#[derive(Debug, Clone)]
pub struct Info {
    /// How far it has come.
    pub state: StreamState,
    /// Received and unread body bytes.
    pub recv_queue_bytes: usize,
    /// Received and unread messages.
    pub recv_queue_messages: usize,
    /// A reader waits for a message.
    pub recv_waiting: bool,
    /// Bytes that wait for the peer's window.
    pub send_queue_bytes: usize,
    /// What is known once connected.
    pub connected: Option<ConnectedInfo>,
}

/// See [`Info::connected`].
#[derive(Debug, Clone)]
pub struct ConnectedInfo {
    /// The stream's identifier (RFC 9113, 5.1.1).
    pub stream_id: u32,
    /// Addresses and TLS.
    pub endpoints: Endpoints,
    /// What the peer lets us send on the stream now; below zero after SETTINGS that shrank it.
    pub send_window: i64,
    /// What the peer lets us send on the connection now.
    pub connection_send_window: i64,
    /// What the peer may send on the stream now. `None` before the response and after the end.
    pub recv_window: Option<i64>,
    /// All bytes of HTTP/2 received on the connection, frame headers included.
    pub bytes_in: u64,
    /// All bytes of HTTP/2 sent.
    pub bytes_out: u64,
    /// The round-trip time in microseconds, once measured.
    pub rtt_us: Option<u64>,
    /// The peer's GOAWAY, if it sent one.
    pub goaway: Option<GoAway>,
}

impl<O: Outlet> Stream<O> {
    /// Body bytes received and unread, and bytes that wait for the peer's window.
    pub fn queued(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.inbox.queued().0, state.outbox.queued())
    }

    /// A snapshot.
    pub fn info(&self) -> Info {
        let state = self.state.lock();
        let (recv_queue_bytes, recv_queue_messages) = state.inbox.queued();
        let connected = self.link.get().map(|link| {
            let facts = &link.connection.facts;
            let (connection_send_window, send_window) = facts.send_windows(link.id);
            ConnectedInfo {
                stream_id: link.id,
                endpoints: link.connection.endpoints.clone(),
                send_window,
                connection_send_window,
                recv_window: state.flow.as_ref().map(|flow| flow.available_capacity() as i64),
                bytes_in: facts.bytes_in.load(Relaxed),
                bytes_out: facts.bytes_out.load(Relaxed),
                rtt_us: facts.rtt_us(),
                goaway: facts.goaway(),
            }
        });
        Info {
            state: match state.phase {
                _ if state.inbox.is_ended() => StreamState::Closed,
                Phase::Idle | Phase::Opening => StreamState::Idle,
                Phase::Open => StreamState::Connected,
            },
            recv_queue_bytes,
            recv_queue_messages,
            recv_waiting: state.has_reader(),
            send_queue_bytes: state.outbox.queued(),
            connected,
        }
    }
}
