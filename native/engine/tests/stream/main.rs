//! Streams from the outside, without a BEAM: an outlet that is a channel, and a server made of the h2 crate in cleartext.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod outlet;
mod server;

use std::time::Duration;

use hackney_engine::error::{EndReason, RecvError, SendError};
use hackney_engine::h2::{
    ConnectionOptions, FlowControl, ModeChange, Payload, Received, RequestHead, StreamOptions, Target,
};
use hackney_engine::net::{Dial, TcpOptions};
use hackney_engine::{Life, Message, Mode, Notice};
use http::HeaderMap;

use outlet::{Client, GONE, TAKER};

/// Far above what anything takes: only a hang meets it.
const DEADLINE: Duration = Duration::from_secs(10);

fn target(port: u16) -> Target {
    Target {
        request: RequestHead {
            method: "POST".into(),
            authority: "localhost".into(),
            path: "/echo".into(),
            headers: HeaderMap::new(),
        },
        dial: Dial {
            host: "127.0.0.1".into(),
            port,
            tcp: TcpOptions::default(),
            tls: None,
        },
    }
}

fn options() -> StreamOptions {
    StreamOptions {
        mode: Mode::Passive,
        flow_control: FlowControl::Auto,
        informational: false,
        max_recv_buffer: 1 << 26,
        max_send_buffer: 1 << 20,
        send_timeout: Some(0),
        recv_timeout: None,
        connection: ConnectionOptions {
            initial_window_size: 1 << 20,
            connection_window_size: 1 << 22,
            max_frame_size: 1 << 14,
            max_header_list_size: 1 << 16,
        },
    }
}

/// One that is gone leaves its message to the next, and long ones are told of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_reader_is_handed_short_data() {
    let mut client = Client::open(target(server::start().await), options()).await;
    let send = |client: &Client, data: &[u8]| client.stream.send(Payload::Copied(data), false).unwrap();
    assert!(matches!(client.recv().await, Ok(Message::Response(200, _))));
    drop(client.wait_as(TAKER));
    send(&client, b"one");
    assert_eq!(client.handed().await, Some(Message::Data("one".into())));
    drop(client.wait_as(GONE));
    send(&client, b"two");
    assert_eq!(client.handed().await, None);
    assert_eq!(client.recv().await, Ok(Message::Data("two".into())));
    let woken = client.wait_as(TAKER);
    send(&client, &[7; 2000]);
    woken.await;
    assert_eq!(client.recv().await, Ok(Message::Data([7; 2000].to_vec().into())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation() {
    let mut client = Client::open(target(server::start().await), options()).await;
    client.stream.send(Payload::Copied(b"one"), false).unwrap();
    assert!(matches!(client.recv().await, Ok(Message::Response(200, _))));
    assert_eq!(client.recv().await, Ok(Message::Data("one".into())));
    client.stream.send(Payload::Shared(vec!["two".into()]), true).unwrap();
    // The echo's end may be here already.
    let late = client.stream.send(Payload::Copied(b"three"), false);
    assert!(matches!(late, Err(SendError::StreamClosed | SendError::Closed)));
    assert_eq!(client.recv().await, Ok(Message::Data("two".into())));
    assert!(matches!(client.recv().await, Ok(Message::Trailers(_))));
    assert_eq!(client.recv().await, Ok(Message::Done));
    assert_eq!(client.recv().await, Err(RecvError::Ended(EndReason::Closed)));
    assert_eq!(
        client.stream.send(Payload::Copied(b"four"), false),
        Err(SendError::Closed)
    );
    client.lived(|life| matches!(life, Life::Drained)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_active_owner_is_posted_everything_in_order() {
    let options = StreamOptions {
        mode: Mode::Active,
        ..options()
    };
    let mut client = Client::open(target(server::start().await), options).await;
    for n in 0..1000u32 {
        client.stream.send(Payload::Copied(&n.to_be_bytes()), n == 999).unwrap();
    }
    let mut bytes = Vec::new();
    loop {
        match client.notice().await {
            Notice::Message(Message::Data(data)) => bytes.extend_from_slice(&data),
            Notice::Message(Message::Done) => break,
            Notice::Message(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let sent: Vec<u8> = (0..1000u32).flat_map(u32::to_be_bytes).collect();
    assert_eq!(bytes, sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_mode_posts_what_is_queued() {
    let mut client = Client::open(target(server::start().await), options()).await;
    client.stream.send(Payload::Copied(b"one"), true).unwrap();
    client.lived(|life| matches!(life, Life::Ended)).await;
    client.stream.set_mode(ModeChange::Add(2)).unwrap();
    assert!(matches!(
        client.notice().await,
        Notice::Message(Message::Response(200, _))
    ));
    assert_eq!(client.notice().await, Notice::Message(Message::Data("one".into())));
    assert_eq!(client.notice().await, Notice::Passive);
    assert!(matches!(
        client.stream.recv(1, usize::MAX, || 1),
        Ok(Received::Message(Message::Trailers(_)))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_ends_the_stream_and_says_so() {
    let client = Client::open(target(server::start().await), options()).await;
    client.stream.send(Payload::Copied(b"one"), false).unwrap();
    assert!(matches!(client.recv().await, Ok(Message::Response(200, _))));
    // Nothing else is on its way: the next wake is the one for the answer below.
    assert_eq!(client.recv().await, Ok(Message::Data("one".into())));
    client.panic_at_next_wake();
    // The echo of this wakes the reader, which panics on the engine's own thread, in the middle of driving.
    let waiting = client.wait_once();
    client.stream.send(Payload::Copied(b"two"), false).unwrap();
    waiting.await;
    let end = loop {
        match client.recv().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(end, RecvError::Ended(EndReason::Panic("as ordered".into())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_is_heard_by_nobody_and_frees_the_connection() {
    let port = server::start().await;
    let options = StreamOptions {
        mode: Mode::Active,
        ..options()
    };
    let mut client = Client::open(target(port), options).await;
    client.stream.send(Payload::Copied(b"one"), false).unwrap();
    assert!(matches!(
        client.notice().await,
        Notice::Message(Message::Response(200, _))
    ));
    client.stream.close();
    let after_close = client.notices_so_far();
    server::closed(port).await;
    assert_eq!(client.notices_so_far(), after_close);
}

const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const RST_STREAM_CANCEL: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8];

/// `:status 200` with END_STREAM.
const WHOLE_RESPONSE: &[u8] = &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_reset_as_it_opens_opens_first_and_ends_then() {
    let port = server::answer(vec![(server::HEADERS, [SETTINGS, RST_STREAM_CANCEL].concat())]).await;
    let mut client = Client::open(target(port), options()).await;
    client.lived(|life| matches!(life, Life::Ended)).await;
    assert_eq!(client.recv().await, Err(RecvError::Ended(EndReason::Reset(8))));
    client.lived(|life| matches!(life, Life::Drained)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_reset_before_it_opens_fails_and_says_no_more() {
    let port = server::answer(vec![(server::HEADERS, RST_STREAM_CANCEL.to_vec())]).await;
    let mut client = Client::opening(target(port), options());
    let life = client.next_life().await;
    assert!(matches!(life, Life::Failed(_)), "{life:?}");
    drop(client.stream);
    assert!(
        client.lives.recv().await.is_none(),
        "the outlet is gone and said no more"
    );
}

/// On one thread, so that what the change of mode would post is still to be posted when the stream is closed.
#[tokio::test]
async fn nothing_is_posted_after_close_though_the_engine_stopped_first() {
    let mut client = Client::open(target(server::start().await), options()).await;
    client.stream.abort();
    client.stream.set_mode(ModeChange::Set(Mode::Active)).unwrap();
    client.stream.close();
    client.lived(|life| matches!(life, Life::Drained)).await;
    assert_eq!(client.notices_so_far(), 0);
}

/// On one thread, so that the sender waits before the response comes. The server opens no window for the rest.
#[tokio::test]
async fn a_sender_that_waits_for_room_hears_that_the_response_has_ended() {
    let script = vec![
        (server::HEADERS, SETTINGS.to_vec()),
        (server::DATA, WHOLE_RESPONSE.to_vec()),
    ];
    let client = Client::open(target(server::answer(script).await), options()).await;
    client.stream.send(Payload::Copied(&[0; 1 << 20]), false).unwrap();
    client.room(1 << 20).await;
    let after = client.stream.send(Payload::Copied(b"more"), false);
    assert_eq!(after, Err(SendError::Closed));
}
